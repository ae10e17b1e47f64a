"""The blinded card: one picture of fixed size over the websocket, drawn on a canvas, answered with R or S.

The pixels travel as two halves, random bytes and the pixels XORed with them, so every message of a deck has one
size and looks like noise to whatever weighs, hashes or compresses it: only the drawn picture says anything.
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
        Six little-endian u16 (H, W, C, position, n_cards, length of the names), the names as UTF-8 lines, H * W * C
        random bytes, then the pixels XORed with them.
    """
    names = "\n".join(channels).encode()
    head = struct.pack("<6H", *picture.shape, position, n_cards, len(names))
    pad = np.frombuffer(secrets.token_bytes(picture.size), dtype=np.uint8)
    return head + names + pad.tobytes() + (picture.ravel() ^ pad).tobytes()


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
