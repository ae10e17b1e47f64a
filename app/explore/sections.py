"""What stands under the path on the Explore page, one function a tab."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.common import galleries, loaders
from app.common.figures import CONTROL, OKABE_ITO, PATH, TREATED
from app.explore import dose_response, figures, view
from app.explore.player import player
from cytovae.errors import SelectionError
from cytovae.explore import morphology, render, study, targets
from cytovae.explore.study import Form, Level, Request
from cytovae.screen import Screen

N_PAIRS = (8, 16, 32)
PAIR_STEPS = 5
"""Steps of the paths of many pairs: every decoded cell is measured, which takes time."""


def content(screen: Screen, model: str, shown: view.View, form: Form, look: str) -> bytes:
    """The path as a file; cells of unfinished quizzes are black in it."""
    limits = tuple((0.0, 1.0) for _ in screen.record.channels)
    return study.content(view.veiled(screen, shown), form, study.Figure(render.Look(look), limits=limits))


COLOURS = {
    Level.SHOWN: ("green", ":material/check_circle:"),
    Level.DOUBTFUL: ("orange", ":material/help:"),
    Level.NOTHING: ("red", ":material/block:"),
    Level.UNKNOWN: ("gray", ":material/help:"),
}
"""How a verdict looks."""


def verdict(screen: Screen, model: str, shown: view.View) -> None:
    """What the path shows, in a sentence; where its two cells are from; whether the treatment is active at all."""
    said = shown.study.verdict
    colour, icon = COLOURS[said.level]
    badges = f":gray-badge[{shown.study.relation.value}]"
    known, treatment = loaders.activity(screen, model), shown.request.treatment
    if known is not None and treatment in known.index:
        row = known.loc[treatment]
        if row["reason"]:
            badges += " :gray-badge[activity not known]"
        else:
            word, tint = ("active", "green") if row["active"] else ("not active", "orange")
            badges += f" :{tint}-badge[{word}, p {row['p_corrected']:.2g}, {row['n_units']} {row['unit']}]"
    st.markdown(f"{badges} :{colour}[{icon} **{said.sentence}**]")


MIME = {
    Form.GIF: "image/gif",
    Form.PNG: "image/png",
    Form.SVG: "image/svg+xml",
    Form.CSV: "text/csv",
    Form.JSON: "application/json",
    Form.HTML: "text/html",
}


def downloads(screen: Screen, model: str, shown: view.View) -> None:
    """Buttons that make a file when they are pressed."""
    stem = f"{shown.study.title}.{model}".replace(" ", "_").replace("/", "_")
    look = st.session_state.get("file-look") or render.Look.RGB
    for form, mime in MIME.items():
        st.download_button(
            form.upper(),
            functools.partial(content, screen, model, shown, form, look),
            f"{stem}.{form}",
            mime,
            key=f"file-{form}",
            icon=":material/download:",
            on_click="ignore",
        )


def cells(screen: Screen, model: str, shown: view.View) -> None:
    """The treatment's cells beside controls of the same plate: a click takes one as an end of the path."""
    table, drawn = shown.cells, shown.study
    # beside the treated cell, whichever end of the path it is
    treated = drawn.start if shown.request.reverse else drawn.end
    near, where = targets.controls_near(table, screen.record.control, treated.row)
    chosen = (drawn.start.cell_id, drawn.end.cell_id)
    treatment = shown.request.treatment or ""
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"**{loaders.named(treatment)}**. Click a cell to make it the target.")
        mine = table.iloc[targets.rows_of(table, treatment)]
        target = galleries.gallery(screen, mine, "treated", chosen=chosen, controls=False)
    with right:
        st.markdown(f"**{screen.record.control} {where}**. Click a cell to start from it.")
        control = galleries.gallery(screen, table.iloc[near], "controls", chosen=chosen, controls=False)
    for key, picked in (("target", target), ("control", control)):
        if picked and st.session_state.get(key) != picked:
            st.session_state[f"next-{key}"] = picked
            if key == "control":
                st.session_state["next-from"] = "control"
            st.rerun()


def changed(screen: Screen, model: str, shown: view.View) -> None:
    """Morphology along the path."""
    along = view.along(screen, model, shown.request)
    st.plotly_chart(figures.curves(along.steps, along.spread, along.ranked), key="curves")
    st.caption(
        f"Measured by CellProfiler's definitions on decoded cells. The bands are up to {study.N_MEASURED} decoded "
        f"control "
        "cells and as many treated ones. Where no nucleus is found at a step, the curve has a gap."
    )
    if along.raw is not None:
        with st.expander("Brightness of the real cells, as acquired"):
            st.dataframe(along.raw.round(2), hide_index=True)
            st.caption(
                "Mean grey levels of the two cells at the ends, nothing scaled or taken away; relative and population: "
                "divided by the mean of control cells of the same plate (empty where a plate has fewer than "
                f"{targets.MIN_NEAR}), with 95 % intervals over wells."
            )
    with st.expander("All measurements"):
        st.plotly_chart(figures.changes(along.ranked), key="changes")
        st.dataframe(along.ranked.round(3), hide_index=True)


def population(screen: Screen, model: str, shown: view.View) -> None:
    """Subpopulations, and the same path for many pairs of cells."""
    if shown.request.treatment is None:
        return
    try:
        st.markdown(study.responding(view.material(screen, model), shown.request).sentence + ".")
    except SelectionError as few:
        st.caption(f"{few}.")
    groups = view.subpopulations(screen, model, shown.request)
    if len(groups.groups) == 1:
        st.markdown(
            "The treatment's cells form **one group**: no valley between groups is shown "
            f"(p = {groups.p:.2f}, {groups.n_clustered} cells)."
        )
    else:
        st.markdown(
            f"The treatment's cells fall into **{len(groups.groups)} groups**; choose which one the path leads to."
        )
        with st.container(horizontal=True):
            for group in groups.groups:
                how = f"subpopulation:{group.number}"
                if st.button(f"Group {group.number}: {group.share:.0%} of cells", disabled=shown.request.target == how):
                    st.session_state["next-target"] = how
                    st.rerun()
    n = st.segmented_control("Pairs of cells", N_PAIRS, default=N_PAIRS[0], key="pairs", required=True)
    request = dataclasses.replace(shown.request, steps=min(PAIR_STEPS, shown.request.steps))
    found = view.population(screen, model, request, int(n or N_PAIRS[0]))
    table, steps = found.cosine, found.cosine["step"].tolist()
    left, right = st.columns([1, 1.1], gap="large")
    with left:
        lines = [
            ("cosine to own target", table["mean"], table["low"], table["high"], PATH),
            ("gap closed", table["gap_closed"], None, None, TREATED),
            ("gap closed, re-encoded", table["gap_closed_reencoded"], None, None, OKABE_ITO[4]),
        ]
        st.plotly_chart(figures.lines(steps, lines, "step", "", 330), key="population-cosine")
    with right:
        names = screen.record.channels
        images = [
            figures.diverging(
                found.path.difference[..., c], found.path.difference_low[..., c], found.path.difference_high[..., c]
            )
            for c in range(len(names))
        ]
        for column, name, image in zip(st.columns(len(names)), names, images, strict=True):
            column.image(_enlarged(image), caption=name, width="stretch", output_format="PNG")
        st.caption(
            "Mean change from start to end: red brighter, blue darker, grey where no change is shown. All pixels are "
            "judged together: of images without any change, 5 % show some."
        )
    labels = {m.name: m.label for m in morphology.measures(names, screen.record.pixel_size_um)}
    st.plotly_chart(figures.population_curves(found.curves, labels), key="population-curves")
    st.caption(
        f"Mean change over {n} pairs (a control and a treated cell of the same plate, else batch) with 95 % intervals, "
        f"which rest on {found.units}."
    )


def _enlarged(image: Any) -> Any:
    return np.kron(image, np.ones((4, 4, 1), dtype=np.uint8))


def doses(screen: Screen, model: str, shown: view.View) -> None:
    """One typical cell per concentration."""
    request = Request(dose_series=view.doses(shown), control=shown.request.control)
    series = view.view(screen, model, request)
    player(*view.player_data(screen, series), key="dose-player")
    path = series.study.path
    lines = [
        ("latent", path.cosine, None, None, PATH),
        ("re-encoded", path.cosine_reencoded, None, None, CONTROL),
    ]
    st.plotly_chart(
        figures.lines(list(path.labels), lines, "dose", "cosine to the highest dose", 260), key="dose-curve"
    )
    st.caption("Each frame is the decoded typical cell of a dose; nothing between doses is invented.")
    dose_response.panel(screen, model, str(request.dose_series))


def null_path(screen: Screen, model: str, shown: view.View) -> None:
    """A path that means nothing, for comparison."""
    null, path = shown.study.null, view.null_path(screen, model, shown.request)
    if null is None or path is None:
        st.markdown("; ".join(note for note in shown.study.notes if note.startswith("no null paths")))
        return
    path, mine = view.veiled_path(screen, path), view.veiled(screen, shown).path
    left, right = st.columns([1, 1.4], gap="large")
    with left:
        st.plotly_chart(figures.lengths(null.lengths, mine.length, "this path"), key="null-lengths")
    with right:
        limits = np.array([[0.0, 1.0]] * len(screen.record.channels))
        rows = [
            render.StripRow("this path", mine.frames[:: max(1, mine.steps // 6)]),
            render.StripRow("control to control", path.frames[:: max(1, mine.steps // 6)]),
        ]
        st.image(render.strip(rows, screen.record.channels, limits, pixel_size_um=screen.record.pixel_size_um, zoom=1))
        table = pd.DataFrame({"this path": [mine.length], "null, median": [np.median(null.lengths)]}).round(2)
        st.dataframe(table, hide_index=True)
    st.caption(
        f"{len(null.draws)} paths, {null.n_distinct} of them distinct, each {null.how}: what a path changes where no "
        "treatment is at work. A path no longer than these shows two individuals, not a drug."
    )


def figure(screen: Screen, model: str, shown: view.View) -> None:
    """The paper's strip, as it will be exported."""
    look = st.segmented_control(
        "Look of the files",
        list(render.Look),
        default=render.Look.RGB,
        key="file-look",
        required=True,
        persist_state="session",
    )
    st.image(content(screen, model, shown, Form.PNG, look or render.Look.RGB))
    st.caption(
        "Under each image: cosine of its embedding and the target's (of the decoded image embedded again), then how "
        "far the step has come. Every image of the figure has the same contrast limits."
    )


TABS = {
    "Cells": cells,
    "What changed": changed,
    "Population": population,
    "Dose series": doses,
    "Null path": null_path,
    "Figure": figure,
}
