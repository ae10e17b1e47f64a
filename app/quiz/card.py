"""The blinded card: one picture of fixed size over the websocket, drawn on a canvas, answered with R or S.

The pixels travel XORed with a stream of random bytes that a fresh seed in the message sets off, so every message of
a deck has one size and looks like noise to whatever weighs, hashes or compresses it: only the drawn picture speaks.
"""

from __future__ import annotations

import dataclasses
import secrets
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import streamlit as st

HERE = Path(__file__).parent
KEY = "card"


@dataclasses.dataclass(frozen=True)
class Call:
    """What the browser answers: the card's position from 0, whether it was called real, and seconds looked at it."""

    position: int
    real: bool
    seconds: float | None


def pack(picture: npt.NDArray[np.uint8], position: int, n_cards: int, channels: Sequence[str]) -> bytes:
    """A card as one message.

    Parameters
    ----------
    picture : (H, W, C) uint8
    position, n_cards : int
        From 0; of how many.
    channels : sequence of str
        Names for the channel keys.

    Returns
    -------
    bytes
        Six little-endian u16 (H, W, C, position, n_cards, length of the names), two u32 of seed, the names as UTF-8
        lines, then the H * W * C pixels XORed with the `stream` of the seed.
    """
    names = "\n".join(channels).encode()
    seed = secrets.randbits(32), secrets.randbits(32)
    head = struct.pack("<6H2I", *picture.shape, position, n_cards, len(names), *seed)
    return head + names + (picture.ravel() ^ stream(seed, picture.size)).tobytes()


def stream(seed: tuple[int, int], size: int) -> npt.NDArray[np.uint8]:
    """Bytes (size,) uint8 without a pattern: MurmurHash3's finaliser of a counter, twice, as in ``card.js``."""
    words = _mix(np.arange(-(-size // 4), dtype=np.uint32) ^ np.uint32(seed[0]))
    return _mix(words ^ np.uint32(seed[1])).astype("<u4").view(np.uint8)[:size]


def _mix(h: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


_mount = st.components.v2.component(
    "cytovae.card",
    html=(HERE / "card.html").read_text(encoding="utf-8"),
    css=(HERE / "card.css").read_text(encoding="utf-8"),
    js=(HERE / "card.js").read_text(encoding="utf-8"),
)


def card(
    picture: npt.NDArray[np.uint8],
    position: int,
    n_cards: int,
    channels: Sequence[str],
    on_call: Callable[[Call], None],
) -> None:
    """Show a card; `on_call` runs with the answer before the page is drawn again.

    Parameters
    ----------
    picture : (H, W, C) uint8
    position, n_cards : int
    channels : sequence of str
    on_call : callable
    """

    def answered() -> None:
        call = read(st.session_state[KEY].get("call"))
        if call is not None:
            on_call(call)

    _mount(key=KEY, data=pack(picture, position, n_cards, channels), on_call_change=answered)


def read(value: object) -> Call | None:
    """An answer as the browser sent it; None where it is none."""
    if not isinstance(value, dict) or not isinstance(value.get("real"), bool):
        return None
    position, seconds = value.get("position"), value.get("seconds")
    if not isinstance(position, int) or isinstance(position, bool):
        return None
    looked = float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < 1e6 else None
    return Call(position, value["real"], looked)
