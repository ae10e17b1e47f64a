"""A table of squares that can be clicked, by mouse or keyboard: a plate of wells, a matrix of mechanisms."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import streamlit as st

from app.common.components.message import read

_mount = st.components.v2.component(
    "cytovae.grid", html=read("grid.html"), css=read("shared.css", "grid.css"), js=read("element.js", "grid.js")
)


@dataclass(frozen=True)
class Square:
    """One square.

    Parameters
    ----------
    row, column : int
    id : str
        What a click reports.
    colour : str
        ``#rrggbb``.
    text, hover : str
        Inside it; and on hover, which is also what is read aloud.
    chosen : bool
        Drawn with a frame.
    """

    row: int
    column: int
    id: str
    colour: str
    text: str = ""
    hover: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class Ramp:
    """What the colours of numbers mean: the quantity, its ends, and the colours between them."""

    name: str
    low: str
    high: str
    colours: Sequence[str]


@dataclass(frozen=True)
class Grid:
    """What is shown.

    Parameters
    ----------
    name : str
        What it is, for those who hear it.
    rows, columns : sequence of str
    squares : sequence of Square
        A place without one is left empty.
    corner : str
        What rows and columns are.
    keys : sequence of (str, str)
        Name and colour of what the colours mean.
    ramp : Ramp, optional
    marked : sequence of (int, int)
        Row and column of places with a border, such as a diagonal.
    tall_heads : bool
        Heads of columns stand upright, for long names.
    tall_px, most_px : int
        Height of a square; greatest width of the table, any where 0.
    label_width : str
        Of the heads of rows, as CSS.
    """

    name: str
    rows: Sequence[str]
    columns: Sequence[str]
    squares: Sequence[Square]
    corner: str = ""
    keys: Sequence[tuple[str, str]] = ()
    ramp: Ramp | None = None
    marked: Sequence[tuple[int, int]] = field(default=())
    tall_heads: bool = False
    tall_px: int = 40
    most_px: int = 0
    label_width: str = "1.6rem"


def grid(shown: Grid, key: str) -> tuple[str, bool] | None:
    """Show a grid; returns the id of a square that was just clicked and whether Shift was held, else None."""
    data = {**asdict(shown), "keys": [{"name": name, "colour": colour} for name, colour in shown.keys]}
    data["id"] = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
    picked = _mount(key=key, data=data, on_picked_change=lambda: None).picked or {}
    found = picked.get("id")
    return (str(found), bool(picked.get("more"))) if found in {square.id for square in shown.squares} else None
