"""The path player: every frame goes to the browser once; scrubbing, channels and contrast happen there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import streamlit as st

HERE = Path(__file__).parent


def read(*names: str) -> str:
    """The named source files of a component, one after the other."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)


def pack(header: dict[str, Any], images: npt.NDArray) -> bytes:
    """Images with their captions as one message for the browser.

    Parameters
    ----------
    header : dict
        JSON types. ``shape``, ``top`` and ``id`` are added.
    images : (n, H, W, C) float
        Range [0, 1] for real cells; what a decoder draws outside [0, 1.5] is clipped.

    Returns
    -------
    bytes
        Length of the header (u32), the header as JSON, then uint16 pixels, little-endian; 65535 stands for ``top``.
    """
    top = float(min(1.5, max(1.0, np.max(images, initial=0.0))))
    pixels: bytes = np.rint(np.clip(images, 0.0, top) * (65535.0 / top)).astype("<u2").tobytes()
    text = {**header, "shape": list(images.shape), "top": top}
    text["id"] = hashlib.sha256(json.dumps(text, sort_keys=True).encode() + pixels).hexdigest()[:16]
    head = json.dumps(text).encode()
    return len(head).to_bytes(4, "little") + head + pixels


_mount = st.components.v2.component(
    "cytovae.player",
    html=read("player.html"),
    css=read("shared.css", "player.css"),
    js=read("element.js", "pixels.js", "player.js"),
)


def player(header: dict[str, Any], images: npt.NDArray, key: str) -> None:
    """Show a path.

    Parameters
    ----------
    header : dict
        ``channels``, ``pixel_size_um``, ``n_features``, ``control`` and ``target`` (``title``, ``text``) and
        ``frames``: per step ``n_features``, ``cosine``, ``cosine_reencoded``, ``off``, ``why`` and ``nearest``
        (``image``, ``cell_id``, ``treatment``, ``moa``, ``distance``).
    images : (n, H, W, C) float
        The real control, the frames, the real target, then the nearest real cells.
    key : str
        Of the widget.
    """
    _mount(key=key, data=pack({"can_split": True, **header}, images))
