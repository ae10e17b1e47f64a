"""Raw fields with the cells that were found in them."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.common import address, context, loaders, pixels
from app.common.components.cells import Item, Row, cells
from app.common.figures import explained
from app.common.words import plain
from app.screen import figures, overview
from cytovae import schema
from cytovae.errors import CytovaeError
from cytovae.explore import render
from cytovae.screen import Screen


def field(screen: Screen) -> None:
    """A field of the screen, to be chosen, with its nuclei."""
    good = _good(screen)
    if good is None:
        return
    names = dict(zip(good[schema.FIELD], good[schema.TREATMENT], strict=True))
    one, two, three = st.columns([2, 1, 1])
    with one:
        words = {field: f"{field} · {loaders.named(of)}" for field, of in names.items()}
        name = context.choose("Field", "field", list(names), words=words)
    with two:
        look = context.choose("Look", "field-look", [str(look) for look in render.LOOKS])
    address.settle_part()
    first = screen.record.channels[: render.OVERLAID]
    chosen = three.pills("Channels", screen.record.channels, selection_mode="multi", default=first)
    shown = [i for i, c in enumerate(screen.record.channels) if c in chosen]
    found = picture(screen, name, look, shown, "field-figure")
    if found is not None and len(found):
        ids = found[schema.CELL_ID].tolist()[:48]
        images = pixels.of_cells(screen, loaders.rows(screen, ids))
        cells(screen.record, images, [Row([Item(i, hover=c) for i, c in enumerate(ids)])], "field-cells", size_px=72)


def of_wells(screen: Screen, mine: pd.DataFrame) -> None:
    """A field of the wells of some cells."""
    good = _good(screen)
    if good is None:
        return
    there = [name for name in good[schema.FIELD] if name in set(mine[schema.FIELD])]
    if not there:
        st.info("No field of this well was read; 'Refused fields' says why.", icon=":material/info:")
        return
    name = there[0]
    if len(there) > 1:
        name = st.selectbox("Field", there, key="well-field")
    picture(screen, name, render.Look.RGB, None, "well-field-figure", height=400)


def _good(screen: Screen) -> pd.DataFrame | None:
    """The fields that were read; None, with a sentence, where there are none to look at."""
    table = overview.fields(screen)
    cut = f"{screen.name} was made of cut cells, so there are no fields to look at."
    said = cut if table is None else overview.no_fields(screen, table)
    if table is None or said:
        st.info(plain(said), icon=":material/info:")
        return None
    good = table[table[schema.STATUS] == "ok"]
    if good.empty:
        st.info("No field of this screen was read; 'Refused fields' says why.", icon=":material/info:")
        return None
    return good


def picture(
    screen: Screen, name: str, look: str, shown: list[int] | None, key: str, height: int = 620
) -> pd.DataFrame | None:
    """A field with its nuclei, and the cells of the screen in it; None, with a sentence, where it cannot be shown."""
    try:
        found = overview.field(screen, name)
    except CytovaeError as unfit:  # raw files that are gone, or files of several planes
        st.info(f"This field cannot be shown: {plain(unfit)}", icon=":material/info:")
        return None
    step = max(1, max(found.pixels.shape[:2]) // 700)
    small = pixels.of_field(screen, found.pixels, found.cells)[::step, ::step]
    rgb = render.composite(small, render.shared_limits(small, 1, 99.7), look, 0.8, shown)
    means = f"The whole field {name} with a mark on each of its {len(found.cells):,} cells."
    explained(figures.field(rgb, found.cells, step, height), key, means)
    part = f" Shown at 1 / {step} of its size." if step > 1 else ""
    st.caption(
        f"{len(found.cells):,} cells of this field are in the screen. Nuclei too near to the edge for a whole patch "
        f"are left out.{part}"
    )
    return found.cells
