"""Choosing by picture: the most central cell of each treatment, by mechanism, and cells for either end of the path."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.common import galleries, loaders, pixels
from app.common.components.cells import Item, Row, cells
from app.common.words import plain
from app.explore import view
from cytovae import schema
from cytovae.explore import targets
from cytovae.screen import Screen

WHAT = ("treatment", "target cell", "control cell")


@st.dialog("Choose by picture", width="large")
def dialog(screen: Screen, model: str, shown: view.View) -> None:
    """Pictures to click; the choice closes it and leads the path there."""
    what = st.segmented_control("What", WHAT, default=WHAT[0], key="pick", required=True, label_visibility="collapsed")
    if what == WHAT[0]:
        _treatments(screen, model, shown)
    else:
        _cells(screen, model, shown, control=what == WHAT[2])


def _treatments(screen: Screen, model: str, shown: view.View) -> None:
    central = view.exemplars(screen, model)
    table = loaders.treatments(screen)
    table = table[(table[schema.COMPOUND] != screen.record.control) & table[schema.TREATMENT].isin(central)]
    names = table[schema.TREATMENT].astype(str).tolist()
    images = pixels.of_cells(screen, loaders.rows(screen, [central[name] for name in names]))
    items = {
        name: Item(
            i,
            title=loaders.named(name),
            text=f"{n:,} cell{'s' * (n != 1)}",
            hover=f"{loaders.named(name)} · {moa}\n{central[name]}",
            id=name,
            chosen=name == shown.request.treatment,
        )
        for i, (name, moa, n) in enumerate(zip(names, table[schema.MOA], table[schema.N_CELLS], strict=True))
    }
    rows = [Row([items[str(n)] for n in part[schema.TREATMENT]], str(moa)) for moa, part in table.groupby(schema.MOA)]
    st.caption("The most central cell of each treatment, by mechanism; all at one contrast. Click one for its path.")
    if picked := cells(screen.record, images, rows, "pick-treatment", controls=False, pickable=True, size_px=82):
        st.session_state.update({"next-treatment": picked, "next-target": view.usual_target(screen, model, picked)})
        st.rerun()


def _cells(screen: Screen, model: str, shown: view.View, *, control: bool) -> None:
    drawn, treatment = shown.study, shown.request.treatment or ""
    treated = drawn.start if shown.request.reverse else drawn.end
    if control:
        rows, where = targets.controls_near(shown.cells, screen.record.control, treated.row)
        said = f"{screen.record.control} {where}"
    else:
        rows, said = targets.rows_of(shown.cells, treatment), loaders.named(treatment)
    chosen = (drawn.start.cell_id, drawn.end.cell_id)
    table: pd.DataFrame = view.by_typicality(view.material(screen, model), rows, chosen)
    st.caption(f"{plain(said)}: the chosen cell, then the most typical first. Click one for its path.")
    if picked := galleries.gallery(
        screen, table, f"pick-{'control' if control else 'target'}", chosen=chosen, controls=False
    ):
        st.session_state.update(
            {"next-control": picked, "next-from": "control"} if control else {"next-target": picked}
        )
        st.rerun()
