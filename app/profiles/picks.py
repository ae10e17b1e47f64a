"""Selections on the Profiles page, and what can be done with them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import streamlit as st

from app.common import galleries, loaders, maps, pixels, selection
from app.common.components.cells import Row, cells
from app.profiles.scatter import Event
from cytovae import schema
from cytovae.explore import maps as placing
from cytovae.screen import Screen, csv_text


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
    past = st.session_state.setdefault(selection.SELECTIONS, [])
    past.append(selection.Selection(level, frozenset(keys[chosen])))
    del past[: -selection.MAX_UNDO]
    st.session_state["selected-page"] = st.session_state["beside-page"] = 0


def one(screen: Screen, model: str, state: str, title: str, *, buttons: bool) -> None:
    """A cell large: the one opened, or the one under the pointer (of a well or treatment, its typical cell)."""
    found = st.session_state.get(state)
    if not found:
        return
    level, key = found
    cell_id = maps.exemplar(screen, model, level, key)
    row = loaders.rows(screen, [cell_id])
    cell = loaders.cells(screen).iloc[row[0]]
    st.caption(title if level == "cells" else f"{title}: typical cell of {key}")
    item = galleries.caption(cell, 0)
    cells(
        screen.record,
        pixels.of_cells(screen, row),
        [Row([item])],
        f"one-{state}",
        size_px=140,
        most_px=168,
        controls=False,
    )
    st.caption(f"{cell[schema.MOA]} · `{cell_id}`")
    if buttons:
        for role in ("target", "control"):
            st.button(
                f"Use as {role}",
                key=f"use-{role}",
                on_click=selection.use,
                args=(screen, role, cell_id),
                width="stretch",
            )


def gallery(screen: Screen, model: str) -> None:
    """The selected cells with count and paging, same-plate controls beside them."""
    picked = selection.current()
    if picked is None:
        st.caption(
            "Draw a lasso round points to see their cells here, beside control cells of the same plates. "
            "A selection stays when the map, the level or the model changes."
        )
        if st.session_state.get(selection.SELECTIONS):
            st.button("Undo", icon=":material/undo:", on_click=selection.undo)
        return
    table = loaders.embeddings(screen, model)[0]
    chosen = table[picked.of_cells(table)]
    peers = table[(table[schema.COMPOUND] == screen.record.control) & table[schema.PLATE].isin(chosen[schema.PLATE])]
    peers = peers[~peers[schema.CELL_ID].isin(chosen[schema.CELL_ID])]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        noun = picked.level if picked.level != "cells" else ""
        lead = f"{len(picked.keys):,} {noun}, " if noun else ""
        st.markdown(f"**{lead}{len(chosen):,} cells selected**")
        st.button("Undo", icon=":material/undo:", on_click=selection.undo)
        if len(chosen):
            for role in ("target", "control"):
                st.button(
                    f"Medoid as {role}",
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
    left, right = st.columns([1.5, 1], gap="large")
    with left:
        st.caption("Selected. Click a cell to open it.")
        clicked = galleries.gallery(screen, chosen, "selected", size=30)
    with right:
        st.caption(f"{screen.record.control} cells of the same plates")
        beside = galleries.gallery(screen, peers, "beside", controls=False, size=20) if len(peers) else None
        if not len(peers):
            st.caption(f"There are no other {screen.record.control} cells on these plates.")
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


def trail(screen: Screen, model: str, shown: maps.Points) -> list[list[list[float]]]:
    """Where the last explored path falls on a map, as lines; none where it is of another screen or model."""
    last = st.session_state.get(selection.PATH)
    if last is None or last[:2] != (str(screen.path), model):
        return []
    return [placing.place(last[2], shown.features, shown.table[["x", "y"]].to_numpy()).tolist()]
