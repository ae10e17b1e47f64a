"""Rows of a screen -> captions and pages of a gallery."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.common import loaders, pixels
from app.common.components.cells import Item, Row, cells
from cytovae import schema
from cytovae.screen import Screen

PAGE = 24
"""Cells a gallery shows at once."""


def pager(key: str, total: int, size: int = PAGE, noun: str = "cells") -> slice:
    """Which of `total` things to show, with buttons to turn the page."""
    last = max((total - 1) // size, 0)
    at = min(int(st.session_state.get(key, 0)), last)

    def turn(by: int) -> None:
        st.session_state[key] = min(max(at + by, 0), last)

    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{at * size + 1 if total else 0:,}–{min((at + 1) * size, total):,}** of {total:,} {noun}")
        if last:
            before, after = f"{key}-before", f"{key}-after"
            st.button("Back", key=before, icon=":material/chevron_left:", on_click=turn, args=(-1,), disabled=at == 0)
            st.button("More", key=after, icon=":material/chevron_right:", on_click=turn, args=(1,), disabled=at == last)
    return slice(at * size, min((at + 1) * size, total))


def short(cell: pd.Series) -> str:
    """A cell by its plate, well and number."""
    number = cell.get(schema.OBJECT)
    return f"{cell[schema.PLATE]} {cell[schema.WELL]}" + ("" if pd.isna(number) else f" #{int(number)}")


def caption(cell: pd.Series, image: int, chosen: Sequence[str] = (), tag: str = "") -> Item:
    """A cell's captions: treatment, plate and well; on hover everything."""
    return Item(
        image,
        title=loaders.named(str(cell[schema.TREATMENT])),
        text=short(cell),
        tag=tag,
        hover=f"{cell[schema.CELL_ID]}\n{loaders.named(str(cell[schema.TREATMENT]))} · {cell[schema.MOA]}\n"
        f"plate {cell[schema.PLATE]}, well {cell[schema.WELL]}, site {cell[schema.SITE]}",
        id=str(cell[schema.CELL_ID]),
        chosen=str(cell[schema.CELL_ID]) in chosen,
    )


def gallery(
    screen: Screen,
    table: pd.DataFrame,
    key: str,
    *,
    chosen: Sequence[str] = (),
    controls: bool = True,
    pickable: bool = True,
    size: int = PAGE,
    size_px: int = 92,
) -> str | None:
    """A paged gallery of the cells of `table`; returns the id of one that was just clicked.

    Cells that lie in unfinished quizzes are left out, and their number is said.

    Parameters
    ----------
    table : DataFrame
        Rows of the screen's cells.
    """
    hidden = table[schema.CELL_ID].isin(loaders.in_play(screen))
    if hidden.any():
        table = table[~hidden]
        st.caption(f"{hidden.sum():,} of these cells lie in quizzes that are not finished and are not shown here.")
    part = table.iloc[pager(f"{key}-page", len(table), size)]
    if not len(part):
        return None
    where = loaders.rows(screen, part[schema.CELL_ID].tolist())
    images = pixels.of_cells(screen, where)
    items = [caption(cell, i, chosen) for i, (_, cell) in enumerate(part.iterrows())]
    return cells(screen.record, images, [Row(items)], key, controls=controls, pickable=pickable, size_px=size_px)
