"""What stands under the path on the Explore page, one function a tab."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app import explorer, galleries
from cytovae.explore import render, targets
from cytovae.screen import Screen, provenance


def record_of(screen: Screen, model: str, shown: explorer.View) -> dict[str, object]:
    """The provenance that every download of the page carries."""
    config = {
        "screen": screen.name,
        "model": model,
        "control": shown.control.cell_id,
        "control_chosen": shown.control.how,
        "target": shown.target.cell_id,
        "target_chosen": shown.target.how,
        "steps": shown.path.steps,
        "mode": shown.path.mode,
        "spacing": shown.path.spacing,
    }
    return provenance("interpolate", config=config, inputs={"cells": screen.cells_digest()}, seed=explorer.SEED)


def downloads(screen: Screen, model: str, treatment: str, shown: explorer.View) -> None:
    """Buttons that make a file when they are pressed."""
    record, px = record_of(screen, model, shown), screen.record.pixel_size_um
    channels, limits = screen.record.channels, np.array([[0.0, 1.0]] * len(screen.record.channels))
    rows = render.path_rows(shown.path, shown.evidence, shown.near)
    title = f"{screen.record.control} to {treatment} µM, {model}"
    stem = f"{treatment}.{model}".replace(" ", "_").replace("/", "_")
    look = st.session_state.get("file-look", "rgb")

    def strip(form: str) -> bytes:
        return render.strip(rows, channels, limits, look, 1.0, px, title, 2, form, record)

    makers = {
        ("GIF", "gif", "image/gif"): lambda: render.gif(shown.path, channels, limits, look, 1.0, px, record=record),
        ("PNG", "png", "image/png"): lambda: strip("png"),
        ("SVG", "svg", "image/svg+xml"): lambda: strip("svg"),
        ("CSV", "csv", "text/csv"): lambda: render.csv(render.table(shown.path, shown.evidence), record),
    }
    for (label, suffix, mime), make in makers.items():
        st.download_button(
            label, make, f"{stem}.{suffix}", mime, key=f"file-{suffix}", icon=":material/download:", on_click="ignore"
        )


def figure(screen: Screen, model: str, treatment: str, shown: explorer.View) -> None:
    """The paper's strip, as it will be exported."""
    look = st.segmented_control(
        "Look of the files", list(render.LOOKS), default="rgb", key="file-look", required=True, persist_state="session"
    )
    limits = np.array([[0.0, 1.0]] * len(screen.record.channels))
    rows = render.path_rows(shown.path, shown.evidence, shown.near)
    title = f"{screen.record.control} to {treatment} µM, {model}"
    st.image(
        render.strip(
            rows, screen.record.channels, limits, look or "rgb", pixel_size_um=screen.record.pixel_size_um, title=title
        )
    )
    st.caption(
        "Under each image: cosine of its embedding and the target's (of the decoded image embedded again), then how many "
        "features stand at the target's values. Every image of the figure has the same contrast limits."
    )


def cells(screen: Screen, model: str, treatment: str, shown: explorer.View) -> None:
    """The treatment's cells beside controls of the same plate: a click takes one as an end of the path."""
    table = shown.cells
    near, where = targets.controls_near(table, screen.record.control, shown.target.row)
    chosen = (shown.control.cell_id, shown.target.cell_id)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader(f"{treatment} µM", anchor=False)
        st.caption("Click a cell to make it the **target**.")
        target = galleries.gallery(
            screen, table.iloc[targets.rows_of(table, treatment)], "treated", chosen=chosen, controls=False
        )
    with right:
        st.subheader(f"{screen.record.control} {where}", anchor=False)
        st.caption("Click a cell to make it the **control**.")
        control = galleries.gallery(screen, table.iloc[near], "controls", chosen=chosen, controls=False)
    for key, picked in (("target", target), ("control", control)):
        if picked and st.session_state.get(key) != picked:
            st.session_state[f"next-{key}"] = picked
            st.rerun()
