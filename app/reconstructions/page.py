"""Reconstructions: real cells above what each model makes of them."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app.common import context, drawer, loaders, selection
from app.common.components.cells import cells
from app.common.figures import explained
from app.common.words import plain
from app.reconstructions import compare, figures, sections
from app.reconstructions.panel import PANEL
from cytovae import schema

screen, _ = context.header("What does each model see?", model=False, panel=PANEL)
known = compare.kinds(context.fitting_models(screen))
words = {name: f"{name} ({compare.TITLES.get(kind, kind)})" for name, kind in known.items()}
one, two, three, four = st.columns([1.2, 2, 0.7, 0.7], vertical_alignment="bottom")
with one:
    ways = {
        "each": "held-out, mechanisms in turn",
        "held-out": "held-out, at random",
        "treatment": "of one treatment",
        "selected": "what is selected",
        "picked": "picked by hand",
    }
    how = context.choose("Cells", "cells", list(ways), words=ways)
treatment = ids = ""
with two:
    if how == "treatment":
        treatment = context.choose_treatment(screen)
    elif how == "picked":
        ids = st.text_input(
            "Cell ids, with spaces between", key="ids", placeholder="such as those that a gallery tells on hover"
        )
    else:
        st.caption(
            "Held-out cells are cells that the first model below was not trained on; of other wells where it could be."
        )
with three:
    n = int(context.choose("How many", "n", ["8", "6", "10", "12", "16"]))
with four:
    number = context.counter("New draw", "draw", icon=":material/casino:")
with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
    first = compare.at_home(screen, list(known))
    chosen = st.pills(
        "Models", list(known), selection_mode="multi", default=first, format_func=words.__getitem__, key="shown"
    )
    difference = st.toggle("Difference images", key="difference", persist_state="session")
shown = {name: words[name] for name in known if name in (chosen or [])}
if not shown:
    st.info("Choose at least one model to see what it makes of these cells.", icon=":material/info:")
    st.stop()

now = selection.current()
if how == "picked":
    rows, said = compare.named(screen, ids.split())
    for sentence in said:
        st.warning(plain(sentence), icon=":material/warning:")
    ask = "Type cell ids above: every gallery tells them on hover."
elif how == "selected":
    rows = np.array([], np.int64) if now is None else compare.picked(screen, now, n, number)
    ask = "Nothing is selected: select a well on Screen, or treatments and cells on Profiles."
else:
    rows = compare.draw(screen, next(iter(shown)), how, treatment, n, number)
    ask = "All cells of this choice lie in quizzes that are not finished."
if len(rows):
    images, lines, refused = compare.grid(screen, shown, rows, difference=difference)
    for sentence in refused:
        st.warning(plain(sentence), icon=":material/warning:")
    there = loaders.cells(screen)[schema.CELL_ID].iloc[rows].tolist()
    large = st.session_state.get("large")
    place, aside = drawer.beside(3.6) if large in there else (st.container(), None)
    with place:
        clicked = cells(screen.record, images, lines, "grid", columns=len(rows), size_px=84, most_px=150, pickable=True)
        st.caption(
            "Click a cell to open it beside the others. Number keys switch the channels of every picture on the page. "
            "Cells of unfinished quizzes are not drawn."
        )
    if clicked:
        st.session_state["large"] = clicked
        st.rerun()
    if aside is not None:
        with aside:
            sections.opened(screen, shown, str(large))
else:
    st.info(ask, icon=":material/info:")

st.subheader(
    "Over many cells",
    anchor=False,
    help="The same measures as above, taken on as many cells as the table says. The curves show how much detail of "
    "each size a model draws: 1 is as much as the real cells have, left is coarse, right is fine.",
)
left, right = st.columns([1.3, 1], gap="large")
with left:
    st.dataframe(compare.table(screen, {m: known[m] for m in shown}), hide_index=True, column_config=compare.MEASURES)
    splits = {compare.sample(screen, m).split for m in shown}
    st.caption(
        "On cells that each model was not trained on."
        if splits == {"test"}
        else "A model above does not say which wells it left out, or none is here: then cells of any well count."
    )
with right:
    curves = {words[m]: (compare.sample(screen, m).frequency, compare.sample(screen, m).ratio) for m in shown}
    means = "How much detail of each size a model draws: 1 is as much as real cells have; left is coarse, right fine."
    explained(figures.spectrum(curves), "spectrum", means, title="Detail drawn, coarse to fine")
