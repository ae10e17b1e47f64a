"""Pictures with their captions as one message for the browser, and the sources of a component."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent


def read(*names: str, beside: str | None = None) -> str:
    """The named source files of a component, one after the other; those not in this folder lie beside a file."""
    own = Path(beside).parent if beside else HERE
    places = [HERE / name if (HERE / name).is_file() else own / name for name in names]
    return "\n".join(place.read_text(encoding="utf-8") for place in places)


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
