"""Galleries and grids of cells: raw pixels go to the browser once; a click tells which cell was meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import streamlit as st

from app.common.components.message import pack, read
from app.common.pixels import Pictures
from cytovae.config import ScreenRecord

_mount = st.components.v2.component(
    "cytovae.cells",
    html=read("cells.html"),
    css=read("shared.css", "cells.css"),
    js=read("element.js", "pixels.js", "cells.js"),
)


@dataclass(frozen=True)
class Item:
    """One picture.

    Parameters
    ----------
    image : int
        Which of the images.
    title, text, tag, hover : str
        Captions under it, a word in the accent colour, and what shows on hover.
    id : str
        Cell id that a click reports; empty for a picture that cannot be chosen.
    chosen : bool
        Drawn with a frame.
    only : int or None
        One channel alone, in grey.
    """

    image: int
    title: str = ""
    text: str = ""
    tag: str = ""
    hover: str = ""
    id: str = ""
    chosen: bool = False
    only: int | None = None


@dataclass(frozen=True)
class Row:
    """A row of pictures with a label before it, or above it where the row has no fixed number of columns."""

    items: Sequence[Item]
    label: str = ""
    text: str = ""


def cells(
    record: ScreenRecord,
    images: Pictures,
    rows: Sequence[Row],
    key: str,
    *,
    columns: int | None = None,
    size_px: int = 92,
    most_px: int | None = None,
    controls: bool = True,
    pickable: bool = False,
) -> str | None:
    """Show cells; returns the id of one that was just clicked, else None.

    Parameters
    ----------
    record : ScreenRecord
        For channel names and the scale bar.
    images : Pictures
    rows : sequence of Row
        One row without `columns` flows over as many lines as it takes.
    columns : int, optional
        Fixed number of pictures a row: a labelled grid.
    size_px, most_px : int
        Least and largest edge of a picture on the page.
    controls : bool
        Show the bar of channels and contrast; one gallery a page has it, all follow.
    """
    header = {
        "channels": list(record.channels),
        "pixel_size_um": record.pixel_size_um,
        "columns": columns,
        "size_px": size_px,
        "most_px": most_px,
        "controls": controls,
        "pickable": pickable,
        "rows": [{"label": row.label, "text": row.text, "items": [asdict(i) for i in row.items]} for row in rows],
    }
    picked = _mount(key=key, data=pack(header, images.images), on_picked_change=lambda: None).picked
    return str(picked) if picked else None
