"""What is selected and opened, by id and the same on every page; and the way from a cell to its path."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st

from app.common import address, loaders, maps
from app.common.words import plain
from cytovae import schema
from cytovae.explore import targets
from cytovae.screen import Screen

SELECTIONS = "selections"
OPENED, HOVERED = "opened", "hovered"
MAX_UNDO = 10
PAGE = "page"
"""Session state: the address of the page that is shown; empty for the first."""
PATH = "last-path"
"""Session state: the last path of the Explore page: screen's folder, model, (k, d) points, ids of its two ends."""


KINDS = {"treatment": "treatments", "well": "wells", "mechanism": "mechanisms", "cells": "cells"}
"""How a link names what is selected -> the level it is of."""
LINK = "sel"
LONGEST_LINK = 1500
"""Characters; a lasso round more is not in the address, and the bar says so."""


@dataclass(frozen=True)
class Selection:
    """What was selected on any page, by id, so that it survives a change of page, map or model.

    Parameters
    ----------
    level : str
        A level of `maps.KEYS`.
    keys : frozenset of str
        See `maps.key_of`.
    """

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

    @property
    def link(self) -> str:
        """As an address carries it, such as ``well:P1/B02`` or ``cells:a,b``; commas in ids are written ``%2C``.

        Examples
        --------
        >>> Selection("wells", frozenset({"P1/B02"})).link
        'well:P1/B02'
        """
        kind = next(kind for kind, level in KINDS.items() if level == self.level)
        keys = (key.replace("%", "%25").replace(",", "%2C") for key in sorted(self.keys))
        return f"{kind}:{','.join(keys)}"

    @classmethod
    def of_link(cls, text: str) -> Selection | None:
        """What a link selects; None where it cannot be understood."""
        kind, _, keys = text.partition(":")
        found = frozenset(unquote(key) for key in keys.split(",") if key)
        return cls(KINDS[kind], found) if kind in KINDS and found else None

    @property
    def words(self) -> str:
        """What is selected, for people."""
        if len(self.keys) > 1:
            return f"{len(self.keys):,} {self.level}"
        (key,) = self.keys
        if self.level == "wells":
            return "well " + " ".join(key.rsplit("/", 1))
        return loaders.named(key) if self.level == "treatments" else f"cell {key}" if self.level == "cells" else key


def current() -> Selection | None:
    """The selection as it stands."""
    past = st.session_state.get(SELECTIONS, [])
    return past[-1] if past and past[-1].keys else None


def push(selection: Selection) -> None:
    """Select something else, on every page; one without keys clears."""
    past = st.session_state.setdefault(SELECTIONS, [])
    past.append(selection)
    del past[:-MAX_UNDO]


def toggle(level: str, key: str, *, more: bool) -> None:
    """Select one thing alone, or with `more` beside what is selected; what is selected already is taken out."""
    now = current()
    had = now.keys if now is not None and now.level == level else frozenset()
    push(Selection(level, had ^ {key} if more else frozenset() if had == {key} else frozenset({key})))


def undo() -> None:
    """Take the last selection back."""
    if st.session_state.get(SELECTIONS):
        st.session_state[SELECTIONS].pop()


def clear() -> None:
    """Select nothing; it can be undone."""
    now = current()
    if now is not None:
        push(Selection(now.level, frozenset()))


def sync(screen: Screen) -> str:
    """Take the selection of a link, or of the address that Back led to, and put the present one into the address.

    Returns
    -------
    str
        A sentence where the link selects what is not there; else empty.
    """
    named, said = address.news(LINK), ""
    if named is not None:
        found = Selection.of_link(named)
        if found is None or not found.of_cells(loaders.cells(screen)).any():
            said = f"The link selects {named[:80]!r}, which is not in {screen.name}; nothing is selected."
        elif found != current():
            push(found)
    elif address.lost(LINK):
        clear()
    now = current()
    if now is not None and len(now.link) <= LONGEST_LINK:
        address.put(LINK, now.link)
    return said


def bar(screen: Screen, model: str) -> None:
    """What is selected, with what can be done with it; nothing where nothing was ever selected.

    Parameters
    ----------
    model : str
        Whose path is to be drawn; the first that the screen is embedded with where empty.
    """
    now = current()
    if now is None and not st.session_state.get(SELECTIONS):
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="selection-bar"):
        if now is None:
            st.markdown("Nothing is selected.", width="content")
        else:
            table = loaders.cells(screen)
            chosen = table[now.of_cells(table) & schema.not_blank(table)]
            wells = len(chosen[[schema.PLATE, schema.WELL]].drop_duplicates())
            said = f"**Selected: {plain(now.words)}** · {_count(len(chosen), 'cell')} in {_count(wells, 'well')}"
            if len(now.link) > LONGEST_LINK:
                said += " · too many for a link"
            st.markdown(
                said if len(chosen) else f"**Selected: {plain(now.words)}**, of another screen", width="content"
            )
            models = [model] if model in screen.models() else screen.models()[:1]
            if len(chosen) and models:
                st.button(
                    "Explore",
                    icon=":material/conversion_path:",
                    key="bar-explore",
                    help="the path to the selected cell nearest to all the others",
                    on_click=use_medoid,
                    args=(screen, models[0], "target", now),
                )
            st.button("Clear", icon=":material/close:", key="bar-clear", on_click=clear)
        st.button("Undo", icon=":material/undo:", key="bar-undo", on_click=undo)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def use(screen: Screen, role: str, cell_id: str) -> None:
    """Make a cell an end of the path and go to Explore."""
    table = loaders.cells(screen)
    cell = table.iloc[loaders.rows(screen, [cell_id])[0]]
    if role == "target" and cell[schema.COMPOUND] == screen.record.control:
        role = "control"
        st.toast(f"This is a {plain(screen.record.control)} cell, so the path starts from it.", icon=":material/info:")
    st.session_state[f"next-{role}"] = cell_id
    if role == "target":
        st.session_state["next-treatment"] = cell[schema.TREATMENT]
    st.session_state["go"] = "explore"


def use_medoid(screen: Screen, model: str, role: str, selection: Selection) -> None:
    """Make the medoid of a selection an end of the path and go to Explore."""
    table, z, _ = loaders.embeddings(screen, model)
    use(screen, role, targets.of_selection(table, z, np.flatnonzero(selection.of_cells(table))).cell_id)


def leave() -> None:
    """Go to Explore where a button asked for it; `context.header` calls it first."""
    if st.session_state.pop("go", None) and st.session_state.get(PAGE) not in ("", "explore"):
        st.switch_page("explore/page.py")
