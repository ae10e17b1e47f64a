"""Selections on the Profiles page, and what can be done with them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import streamlit as st

from app.common import galleries, loaders, maps, pixels, selection
from app.common.components.cells import Row, cells
from app.common.words import plain
from app.profiles.scatter import Event
from cytovae import schema
from cytovae.errors import CytovaeError
from cytovae.explore import maps as placing
from cytovae.profiling import enrichment
from cytovae.screen import Screen, csv_text

MOST_NAMED = 30
"""A lasso round more is not written out in the list of names."""


def take(event: Event, points: maps.Points, codes: np.ndarray, level: str) -> None:
    """Remember what was done on the map."""
    keys = points.table["key"]
    for name, point in ((selection.HOVERED, event.hovered), (selection.OPENED, event.opened)):
        if point is not None:
            st.session_state[name] = (level, str(keys.iloc[point]))
    if event.polygon is None:
        return
    chosen = np.zeros(len(keys), dtype=bool)
    if len(event.polygon) > 2:
        chosen = placing.inside(points.table[["x", "y"]].to_numpy(), event.polygon) & ~np.isin(codes, event.hidden)
    selection.push(selection.Selection(level, frozenset(keys[chosen])))
    st.session_state["selected-page"] = st.session_state["beside-page"] = 0


def by_name(screen: Screen, level: str) -> None:
    """The keyboard's lasso: a searchable list that selects what it names, on every page."""
    of = level if level != "cells" else "treatments"
    cells, now = loaders.cells(screen), selection.current()
    there = maps.key_of(cells, of).unique()
    here = sorted(now.keys & set(there)) if now is not None and now.level == of else []
    key = f"by-name-{of}"
    st.session_state[key] = here if len(here) <= MOST_NAMED else []

    def chosen() -> None:
        selection.push(selection.Selection(of, frozenset(st.session_state[key])))

    words = loaders.named if of == "treatments" else lambda well: well
    st.multiselect(
        f"Select {of}", sorted(there), key=key, format_func=words, on_change=chosen, placeholder="Type a name"
    )


def one(screen: Screen, model: str, state: str, title: str, *, buttons: bool) -> None:
    """A cell large: the one opened, or the one under the pointer (of a well or treatment, its typical cell)."""
    found = st.session_state.get(state)
    if not found:
        return
    level, key = found
    try:
        cell_id = maps.exemplar(screen, model, level, key)
        row = loaders.rows(screen, [cell_id])
    except CytovaeError:  # it was opened on another screen
        del st.session_state[state]
        return
    cell = loaders.cells(screen).iloc[row[0]]
    named = loaders.named(key) if level == "treatments" else key
    st.caption(title if level == "cells" else f"{title}: typical cell of {plain(named)}")
    item = galleries.caption(cell, 0)
    pictures = pixels.of_cells(screen, row)
    cells(screen.record, pictures, [Row([item])], f"one-{state}", size_px=140, most_px=190, controls=False)
    st.caption(f"{plain(cell[schema.MOA])} · {plain(cell_id)}")
    if buttons:
        for role in ("target", "control"):
            st.button(
                f"Use as {role}",
                key=f"use-{role}",
                on_click=selection.use,
                args=(screen, role, cell_id),
                width="stretch",
            )


def enriched(screen: Screen, model: str, picked: selection.Selection) -> None:
    """Counts of what is selected by mechanism, and which of them are more than chance."""
    table = loaders.embeddings(screen, model)[0]
    found = enrichment.of_selection(table, picked.of_cells(table), screen.record.control)
    if found.empty:
        return
    of = found["k_compounds"].astype(str) + " of " + found["n_compounds"].astype(str)
    shown = pd.DataFrame(
        {
            "mechanism": found["moa"],
            "selected cells": found["n_selected"],
            "of": found["n_cells"],
            "times chance": found["fold"],
            "compounds": of.where(found["n_compounds"] > 0, "-"),
            "p": found["p"],
            "p corrected": found["p_corrected"],
        }
    )
    st.dataframe(
        shown,
        hide_index=True,
        placeholder="–",
        height=min(38 + 35 * len(shown), 318),
        column_config={
            "of": st.column_config.NumberColumn("of all", help="cells of this mechanism in the screen"),
            "times chance": st.column_config.NumberColumn(
                format="%.1f", help="share of the selection over share of all"
            ),
            "compounds": st.column_config.TextColumn(
                help="compounds with a larger share of their cells selected than of all treated cells"
            ),
            "p": st.column_config.NumberColumn(format="%.2g"),
            "p corrected": st.column_config.NumberColumn(format="%.2g"),
        },
    )
    st.caption(
        "p counts compounds, not cells, which are no witnesses of their own: how often as many of a mechanism's "
        "compounds would be in the selection if mechanisms had nothing to do with it (hypergeometric; corrected for "
        "all mechanisms, Benjamini-Hochberg). A region that was drawn because its points lie together is a group by "
        "choice: p is about its mechanism alone."
    )


def gallery(screen: Screen, model: str) -> None:
    """The selected cells with count and paging, same-plate controls beside them."""
    picked = selection.current()
    if picked is None:
        st.caption(
            "Draw a lasso round points to see their cells here, beside control cells of the same plates. "
            "A selection stays when the map, the level, the model or the page changes, and travels in the link."
        )
        return
    table = loaders.embeddings(screen, model)[0]
    table = table[schema.not_blank(table)]
    chosen = table[picked.of_cells(table)]
    peers = table[(table[schema.COMPOUND] == screen.record.control) & table[schema.PLATE].isin(chosen[schema.PLATE])]
    peers = peers[~peers[schema.CELL_ID].isin(chosen[schema.CELL_ID])]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        lead = f"{plain(picked.words)}, " if picked.level != "cells" else ""
        st.markdown(f"**{lead}{len(chosen):,} cells selected**")
        if len(chosen):
            for role in ("target", "control"):
                st.button(
                    f"Most central as {role}",
                    key=f"medoid-{role}",
                    on_click=selection.use_medoid,
                    args=(screen, model, role, picked),
                    help="the selected cell nearest to all the others",
                )
        kept = chosen.drop(columns=[c for c in ("x", "y") if c in chosen])
        st.download_button(
            "CSV",
            lambda: csv_text(kept),
            "selected_cells.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
    enriched(screen, model, picked)
    left, right = st.columns([1.5, 1], gap="large")
    with left:
        st.caption("Selected. Click a cell to open it.")
        clicked = galleries.gallery(screen, chosen, "selected", size=30)
    with right:
        st.caption(f"{plain(screen.record.control)} cells of the same plates")
        beside = galleries.gallery(screen, peers, "beside", controls=False, size=20) if len(peers) else None
        if not len(peers):
            st.caption(f"There are no other {plain(screen.record.control)} cells on these plates.")
    if clicked or beside:
        st.session_state[selection.OPENED] = ("cells", clicked or beside)
        st.rerun(scope="fragment")


def offer_umap(screen: Screen, model: str, level: str) -> None:
    """Say that a UMAP is not there, and make it in a process of its own if asked to."""
    jobs = st.session_state.setdefault("umap-jobs", {})
    job = jobs.get((str(screen.path), model))
    if job is not None and job.poll() is None:
        st.info(f"UMAP of {model} is being made in the background. A first run compiles for about a minute.")
        st.button("Look again", icon=":material/refresh:")
        return
    said = f"No UMAP of the {level} under {model} is stored yet."
    if job is not None and job.returncode:
        said = (
            f"The UMAP could not be made: {(job.stderr.read() or '').strip().splitlines()[-1:] or ['no reason given']}"
        )
    st.info(
        f"{said} It takes seconds for thousands of cells, minutes for hundreds of thousands: "
        f"`cytovae profile {screen.path} {model} --umap`. Principal components show at once."
    )

    def start() -> None:
        command = [
            sys.executable,
            "-m",
            "cytovae",
            "profile",
            str(screen.path),
            str(loaders.models_dir() / model),
            "--umap",
        ]
        jobs[(str(screen.path), model)] = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    st.button("Make it now", icon=":material/play_arrow:", on_click=start)


def trail(screen: Screen, model: str, shown: maps.Points, level: str) -> tuple[list[list[list[float]]], str]:
    """Where the last explored path falls on a map, as lines, and what they are; none of another screen or model.

    A path begins and ends at the points of its own ends, where the map shows them; the steps between are placed among
    their nearest points and moved along.
    """
    last = st.session_state.get(selection.PATH)
    if last is None or last[:2] != (str(screen.path), model):
        return [], ""
    z, ends = last[2], list(last[3:])
    cells = loaders.cells(screen).set_index(schema.CELL_ID, drop=False)
    if not set(ends) <= set(cells.index):  # the screen was made anew
        return [], ""
    xy = shown.table[["x", "y"]].to_numpy()
    placed = placing.place(z, shown.features, xy)
    cells = cells.loc[ends]
    keys = maps.key_of(cells, level).tolist()
    far = np.linspace(0, 1, len(z))[:, None]
    for key, at, weight in ((keys[0], 0, 1 - far), (keys[1], -1, far)):
        own = np.flatnonzero((shown.table["key"] == key).to_numpy())
        if len(own):
            placed = placed + weight * (xy[own[0]] - placed[at])
    names = [loaders.named(str(name)) for name in cells[schema.TREATMENT]]
    said = f"last path on Explore, {names[0]} to {names[1]}; steps lie among their nearest {level}"
    return [placed.tolist()], said
