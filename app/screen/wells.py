"""A plate as a grid of wells: coloured by anything that is known of them; a click selects a well and opens it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app.common import address, colours, context, filters, galleries, loaders, maps, selection
from app.common.components.grid import Grid, Ramp, Square, grid
from app.common.selection import Selection
from app.common.words import plain
from app.screen import fields, overview
from cytovae import schema
from cytovae.screen import Screen

SCORES = {
    "distance": "distance from the plate's controls",
    "pc1": "first principal component of the wells",
    "pc2": "second principal component of the wells",
}
"""Colours that need embeddings, beside those of `maps.COLOURS`."""
FOLLOWED = "plate-followed"
"""Session state: the selection whose plate was last opened of itself."""
NO_WELL_COLOUR = ("plate", "batch", "cluster")


def choices(screen: Screen) -> dict[str, str]:
    """What wells can be coloured by, and in words."""
    plain = [by for by in maps.COLOURS if by not in NO_WELL_COLOUR]
    return {by: by for by in [*plain, *maps.own_columns(screen)]} | SCORES


def plates(screen: Screen) -> None:
    """One plate as a grid of wells, and the well that was clicked."""
    cells = loaders.cells(screen)
    sizes = cells[schema.PLATE].value_counts().sort_index()
    names, picked = sizes.index.tolist(), selection.current()
    here = sorted(cells.loc[picked.of_cells(cells), schema.PLATE].unique()) if picked else []
    link = picked.link if picked else ""
    linked = address.news("plate") in names  # a link's own plate comes before that of what it selects
    if here and not linked and st.session_state.get(FOLLOWED) != link and st.session_state.get("plate") not in here:
        st.session_state["next-plate"] = here[0]  # what was selected on another page is seen here
    st.session_state[FOLLOWED] = link
    words = choices(screen)
    one, two, three = st.container(key="menus").columns(3)
    with one:
        plate = context.choose("Plate", "plate", names, default=str(sizes.idxmax()))
    with two:
        meaning = "A mechanism has one colour on every page. Activity is that of the well's treatment, not of the well."
        show = context.choose("Colour", "plate-colour", list(words), words=words, help=meaning)
    address.settle_part()
    models = [m for m in loaders.models(screen) if m in screen.models()]
    needs = show in SCORES or show == "activity"
    model = three.selectbox("Model", models, key="plate-model", persist_state="session") if needs and models else ""
    if needs and not models:
        st.info("This colour needs embeddings: run 'cytovae embed' first.", icon=":material/info:")
        return
    if show == "activity" and loaders.activity(screen, model) is None:
        st.info(
            f"Activity has not been measured: run `cytovae activity {screen.path} {model}`.", icon=":material/info:"
        )
    wanted = filters.only(screen, "plate-only")
    table = overview.plate_values(screen, plate, show, model)
    table = table[filters.kept(screen, table, "wells", wanted)]
    if table.empty:
        st.info(f"No well of {plain(plate)} is {plain(' or '.join(wanted))}.", icon=":material/info:")
        return
    clicked = grid(layout(screen, plate, table, show, words[show], picked), "plate-map")
    if clicked:
        selection.toggle("wells", clicked[0], more=clicked[1])
        st.rerun()
    unplaced = int((overview.places(table[schema.WELL])["row"] < 0).sum())
    said = (
        f"Click a well to open it; with Shift, to add it. C marks wells of {plain(screen.record.control)}; faint "
        "places are wells without cells in this screen."
    )
    if others := len(set(here) - {plate}):
        said += f" The selection also holds wells of {others} other plate{'s' * (others != 1)}."
    if unplaced:
        said += f" {unplaced} wells have names that do not say where they lie, and are not drawn."
    st.caption(said)
    if picked is not None:
        opened(screen, plate, picked)


def layout(screen: Screen, plate: str, table: pd.DataFrame, by: str, words: str, picked: Selection | None) -> Grid:
    """A plate's table of `overview.plate_values` as a grid of squares."""
    rows, columns = overview.grid_of(table[schema.WELL])
    at, values = overview.places(table[schema.WELL]), table["value"]
    control = (table[schema.COMPOUND] == screen.record.control).to_numpy()
    numbers = pd.api.types.is_numeric_dtype(values)
    keys: list[tuple[str, str]] = []
    ramp = None
    if numbers:
        shown = np.log10(values.where(values > 0)) if by == "dose" else values.astype(float)
        low, high = (float(shown.min()), float(shown.max())) if shown.notna().any() else (0.0, 1.0)
        tints = colours.ramp(shown, low, high)
        ends = [f"{v:.3g}" for v in ((10**low, 10**high) if by == "dose" else (low, high))]
        unit = " µM" if by == "dose" else ""
        ramp = Ramp(words, ends[0] + unit, ends[1] + unit, colours.RAMP)
    else:
        style = maps.styles(screen, by)
        values = values.astype(str)
        tints = [style.get(name, (colours.OTHER, 0))[0] for name in values]
        named = {name: loaders.named(name) if by == "treatment" else name for name in values}
        keys = [(named[name], style.get(name, (colours.OTHER, 0))[0]) for name in sorted(set(values))]
    chosen = picked.mask(loaders.cells(screen), table, "wells") if picked else np.zeros(len(table), bool)
    squares = []
    for k, (_, well) in enumerate(table.iterrows()):
        if at["row"].iloc[k] < 0:
            continue
        name = loaders.named(str(well[schema.TREATMENT]))
        value = f"{values.iloc[k]:.3g}" if numbers and pd.notna(values.iloc[k]) else str(values.iloc[k])
        hover = f"{well[schema.WELL]}\n{name}\n{well[schema.MOA]}\n{well['cells']:,} cells"
        hover += "" if by in ("mechanism", "treatment", "cell count") else f"\n{words}: {value}"
        text = "C" if control[k] else ""
        if by == "treatment" and len(columns) <= 12:
            text = "C" if control[k] else name.replace(" µM", "")
        elif numbers and len(columns) <= 12 and pd.notna(values.iloc[k]):
            text = ("C\n" if control[k] else "") + ("" if by == "dose" and control[k] else value)
        row, column, key = int(at["row"].iloc[k]), int(at["column"].iloc[k]), f"{plate}/{well[schema.WELL]}"
        squares.append(Square(row, column, key, tints[k], text.strip(), hover, bool(chosen[k])))
    tall = 44 if len(rows) <= 8 else 24 if len(rows) <= 16 else 16
    heads = [str(c) for c in columns]
    name = f"Plate {plate}, wells coloured by {words}"
    return Grid(name, rows, heads, squares, keys=keys, ramp=ramp, tall_px=tall, most_px=1240)


def opened(screen: Screen, plate: str, picked: Selection) -> None:
    """The cells of what is selected on this plate, and its fields."""
    table = loaders.cells(screen)
    mine = table[picked.of_cells(table) & (table[schema.PLATE] == plate).to_numpy() & schema.not_blank(table)]
    if mine.empty:
        st.caption("Nothing of what is selected lies on this plate.")
        return
    wells = sorted(mine[schema.WELL].unique())
    treatments = ", ".join(loaders.named(name) for name in mine[schema.TREATMENT].unique()[:4])
    head = f"{plate} {wells[0]}" if len(wells) == 1 else f"{len(wells)} wells of {plate}"
    st.markdown(
        f"**{plain(head)}** · {plain(treatments)} · {len(mine):,} cells. **Explore**, at the head of the page, shows "
        "the path to the most central of what is selected."
    )
    left, right = st.columns([1.35, 1], gap="large")
    with left:
        galleries.gallery(screen, mine, "well-cells", size=20, pickable=False)
    with right:
        fields.of_wells(screen, mine)
