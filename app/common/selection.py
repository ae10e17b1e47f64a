"""What is selected and opened, by id and the same on every page; and the way from a cell to its path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st

from app.common import loaders, maps
from cytovae import schema
from cytovae.explore import targets
from cytovae.screen import Screen

SELECTIONS = "selections"
OPENED, HOVERED = "opened", "hovered"
MAX_UNDO = 10
PATH = "last-path"
"""Session state: the last path of the Explore page: screen's folder, model, (k, d) points."""


@dataclass(frozen=True)
class Selection:
    """What was lassoed, by id, so that it survives a change of map or model."""

    level: str
    keys: frozenset[str]

    def mask(self, cells: pd.DataFrame, table: pd.DataFrame, level: str) -> npt.NDArray[np.bool_]:
        """Which rows of a table of `level` are selected; at another level, those that hold or are in selected cells."""
        if level == self.level:
            return maps.key_of(table, level).isin(self.keys).to_numpy()
        kept = cells[self.of_cells(cells)]
        return maps.key_of(table, level).isin(set(maps.key_of(kept, level))).to_numpy()

    def of_cells(self, cells: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """(n,) bool: which cells are selected."""
        return maps.key_of(cells, self.level).isin(self.keys).to_numpy()


def current() -> Selection | None:
    """The selection as it stands."""
    past = st.session_state.get(SELECTIONS, [])
    return past[-1] if past and past[-1].keys else None


def undo() -> None:
    """Take the last selection back."""
    if st.session_state.get(SELECTIONS):
        st.session_state[SELECTIONS].pop()


def use(screen: Screen, role: str, cell_id: str) -> None:
    """Make a cell an end of the path and go to Explore."""
    table = loaders.cells(screen)
    cell = table.iloc[loaders.rows(screen, [cell_id])[0]]
    if role == "target" and cell[schema.COMPOUND] == screen.record.control:
        role = "control"
        st.toast(f"This is a {screen.record.control} cell, so the path starts from it.", icon=":material/info:")
    st.session_state[f"next-{role}"] = cell_id
    if role == "target":
        st.session_state["next-treatment"] = cell[schema.TREATMENT]
    st.session_state["go"] = "explore"


def use_medoid(screen: Screen, model: str, role: str, selection: Selection) -> None:
    """Make the medoid of a selection an end of the path and go to Explore."""
    table, z, _ = loaders.embeddings(screen, model)
    use(screen, role, targets.of_selection(table, z, np.flatnonzero(selection.of_cells(table))).cell_id)


def leave() -> None:
    """Go to Explore where a button asked for it; pages call it first."""
    if st.session_state.pop("go", None):
        st.switch_page("explore/page.py")
