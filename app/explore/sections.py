"""What stands under the path on the Explore page, one function a tab."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.common import address, context, drawer, galleries, loaders, pixels, selection
from app.common.components.cells import Item, Row
from app.common.components.cells import cells as cell_pictures
from app.common.components.files import files
from app.common.figures import CONTROL, OKABE_ITO, PATH, TREATED, explained
from app.common.words import plain
from app.explore import dose_response, figures, view
from app.explore.player import player
from cytovae import schema
from cytovae.config import choice
from cytovae.errors import ConfigError, SelectionError
from cytovae.explore import morphology, render, study, targets
from cytovae.explore.study import Form, Level, Request
from cytovae.screen import Screen

N_PAIRS = (8, 16, 32)
PAIR_STEPS = 5
"""Steps of the paths of many pairs: every decoded cell is measured, which takes time."""


def content(screen: Screen, model: str, shown: view.View, form: Form, seen: Mapping[str, Any]) -> bytes:
    """The path as a file, as the browser shows it; cells of unfinished quizzes are black in it.

    Parameters
    ----------
    seen : mapping
        ``look``, ``gamma``, ``channels`` (numbers), ``limits`` (black and white of each) and ``step``, as the browser
        says.

    Raises
    ------
    ConfigError
        No channel is shown, or it cannot be shown so.
    """
    channels = tuple(int(c) for c in seen.get("channels", ()))
    if not channels:
        raise ConfigError("no channel is switched on, so the file would be black; switch one on")
    limits = tuple((float(low), float(high)) for low, high in seen.get("limits", ()))
    look = choice(render.Look, seen.get("look", render.Look.RGB), "look")
    chosen = study.Figure(look, float(seen.get("gamma", 1.0)), channels, limits, int(seen.get("step", 0)))
    return study.content(view.veiled(screen, shown), form, chosen)


ICONS = {
    morphology.Beside.SO_TOO: "check",
    morphology.Beside.LESS: "warning",
    morphology.Beside.NOT: "warning",
    morphology.Beside.UNTOLD: "help",
    morphology.Beside.UNMEASURED: "help",
}
"""What the real cells do beside a change along the path, as a sign."""
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
    doubts = loaders.plate_doubts(screen, shown.request.treatment or "")
    colour, icon = COLOURS[said.level]
    badges = f":gray-badge[{shown.study.relation.value}]"
    known, treatment = loaders.activity(screen, model), shown.request.treatment
    if known is not None and treatment in known.index:
        row = known.loc[treatment]
        if row["reason"]:
            badges += " :gray-badge[activity not known]"
        else:
            word, tint = ("active", "green") if row["active"] else ("not active", "orange")
            of = f" of {row['n_wells']} well{'' if row['n_wells'] == 1 else 's'}" if row["unit"] == "cells" else ""
            badges += f" :{tint}-badge[{word}, p {row['p_corrected']:.2g}, {row['n_units']} {row['unit']}{of}]"
    if doubts:
        badges += " :orange-badge[is it the plate? see below]"
    st.markdown(f":{colour}[{icon} **{plain(shown.study.verdict.sentence)}**] {badges}")


FORMS = {
    Form.PNG: ("image/png", "the strip of pictures"),
    Form.SVG: ("image/svg+xml", "the strip, its words as text"),
    Form.GIF: ("image/gif", "the path moving, from the real cell to the real cell and back"),
    Form.HTML: ("text/html", "one page to mail: pictures, evidence and choices, no server needed"),
    Form.CSV: ("text/csv", "the numbers, a row per step"),
    Form.JSON: ("application/json", "the numbers with all that stands beside them"),
}
"""Media type of each form, and what it is."""


def downloads(screen: Screen, model: str, shown: view.View) -> None:
    """Buttons that make a file of what is on the screen when they are pressed."""
    stem = f"{shown.study.title}.{model}".replace(" ", "_").replace("/", "_")

    def make(form: str, seen: Mapping[str, Any]) -> tuple[str, str, bytes]:
        wanted = Form(form)
        return f"{stem}.{wanted}", FORMS[wanted][0], content(screen, model, shown, wanted, seen)

    files({form.value: words for form, (_, words) in FORMS.items()}, make, key="files")


BESIDE = "beside"
"""Session state: the cell that is open beside the galleries."""


def cells(screen: Screen, model: str, shown: view.View) -> None:
    """The treatment's cells beside controls of the same plate, the most typical first; a click opens one beside."""
    table, drawn = shown.cells, shown.study
    # beside the treated cell, whichever end of the path it is
    treated = drawn.start if shown.request.reverse else drawn.end
    near, where = targets.controls_near(table, screen.record.control, treated.row)
    chosen = (drawn.start.cell_id, drawn.end.cell_id)
    treatment = shown.request.treatment or ""
    opened = st.session_state.get(BESIDE)
    if opened not in set(table[schema.CELL_ID]) or opened in loaders.in_play(screen):
        opened = None
    place, aside = drawer.beside(3.6) if opened else (st.container(), None)
    left, right = place.columns(2, gap="medium")
    with left:
        st.markdown(f"**{plain(loaders.named(treatment))}**, the most typical first")
        mine = view.by_typicality(view.material(screen, model), targets.rows_of(table, treatment), chosen)
        at_random(screen, mine, "target", "Lead the path to one at random")
        target = galleries.gallery(screen, mine, "treated", chosen=chosen, controls=False)
    with right:
        st.markdown(f"**{plain(screen.record.control)} {where}**, the most typical first")
        theirs = view.by_typicality(view.material(screen, model), near, chosen)
        at_random(screen, theirs, "control", "Start from one at random")
        control = galleries.gallery(screen, theirs, "controls", chosen=chosen, controls=False)
    place.caption(
        "Chosen cells stand first. All pictures have the same contrast: the numbers under Contrast, per channel."
    )
    if (picked := target or control) and picked != opened:
        st.session_state[BESIDE] = picked
        st.rerun(scope="fragment")
    if aside is not None and opened:
        with aside:
            cell_beside(screen, table.iloc[targets.row_of(table, opened)], treatment)


def at_random(screen: Screen, table: pd.DataFrame, end: str, label: str) -> None:
    """A button that draws an end of the path from these cells; the cell drawn stands in the address."""
    ids = table.loc[~table[schema.CELL_ID].isin(loaders.in_play(screen)), schema.CELL_ID].tolist()
    if ids and st.button(label, key=f"random-{end}", icon=":material/casino:"):
        more = {"next-from": "control"} if end == "control" else {}
        st.session_state.update({f"next-{end}": str(np.random.default_rng().choice(ids)), **more})
        st.rerun()


def cell_beside(screen: Screen, cell: pd.Series, treatment: str) -> None:
    """One cell, large, and what can be done with it."""
    cell_id, control = str(cell[schema.CELL_ID]), screen.record.control
    st.markdown(f"**{plain(loaders.named(str(cell[schema.TREATMENT])))}** · {plain(galleries.short(cell))}")
    images = pixels.of_cells(screen, loaders.rows(screen, [cell_id]))
    alone = [Item(0, title=name, only=k) for k, name in enumerate(screen.record.channels)]
    component([Item(0, id="", title="all channels"), *alone], screen, images, "beside-cell")
    st.caption(f"{plain(cell[schema.MOA])} · site {plain(cell[schema.SITE])} · id {plain(cell_id)}")
    if cell[schema.COMPOUND] == control:
        if st.button("Start from this cell", key="beside-start", width="stretch"):
            st.session_state.update({"next-control": cell_id, "next-from": "control"})
            st.rerun()
    elif st.button("Lead the path here", key="beside-target", width="stretch"):
        st.session_state["next-target"] = cell_id
        st.rerun()
    if st.button("Close", key="beside-close", icon=":material/close:", width="stretch"):
        del st.session_state[BESIDE]
        st.rerun(scope="fragment")


def component(items: Sequence[Item], screen: Screen, images: pixels.Pictures, key: str) -> str | None:
    """A row of pictures without a bar of its own."""
    return cell_pictures(screen.record, images, [Row(items)], key, controls=False, pickable=True, size_px=92)


def changed(screen: Screen, model: str, shown: view.View) -> None:
    """Morphology along the path, in words and curves, beside the real cells."""
    along = view.along(screen, model, shown.request)
    found = view.real_difference(screen, model, shown.request)
    ranked = along.ranked
    if found is not None:
        real, first, second = found
        said = morphology.told(ranked, real)
        for sentence, says in said:
            st.markdown(f":material/{ICONS[says]}: {plain(sentence)}")
        if not said:
            st.markdown(f"Nothing measured changes by {morphology.NOTABLE_SD:g} s.d. of control cells along this path.")
        st.caption(
            f"Rests on one path and on {first} real cells at its start and {second} at its end in which a nucleus was "
            "found; in brackets a 95 % interval over wells (over cells where there is one well). *Do so too*: the "
            "interval lies on the path's side of 0. *Do not*, *do so less*: it stays below half of the path's change."
        )
        ranked = ranked.assign(real_sd=real["sd"].reindex(ranked["measure"]).to_numpy())
        limits = real.reindex(ranked["measure"])[["low", "high"]].to_numpy()
        ranked["real"] = [
            morphology.beside(change, *each) for change, each in zip(ranked["change_sd"], limits, strict=True)
        ]
    means = (
        "What changes most from the first step to the last, each measurement over the range in which nine of ten "
        "control and treated cells lie."
    )
    explained(figures.curves(along.steps, along.spread, ranked), "curves", means, title="What changes along the path")
    st.caption(
        f"Measured by CellProfiler's definitions on decoded cells. The bands are up to {study.N_MEASURED} decoded "
        f"control "
        "cells and as many treated ones. Where no nucleus is found at a step, the curve has a gap."
    )
    if (raw := view.raw_intensity(screen, model, shown.request)) is not None:
        st.markdown(
            "**Brightness as acquired**, which the pictures do not show: in them each channel has its own maximum"
        )
        share = "{:.2f} ({:.2f} to {:.2f})".format
        lines: dict[str, Any] = {
            "channel": raw["channel"] + " in the " + raw["where"],
            "cell at the start, grey levels": raw["start_grey"].round(),
            "cell at the end, grey levels": raw["end_grey"].round(),
        }
        for side, words in (
            ("start", "cells at the start / their controls"),
            ("end", "cells at the end / their controls"),
        ):
            columns = [raw[f"{side}_population{which}"] for which in ("", "_low", "_high")]
            lines[words] = [share(*each) for each in zip(*columns, strict=True)]
            lines[f"n, {side}"] = raw[f"n_{side}"]
        st.dataframe(pd.DataFrame(lines), hide_index=True)
        st.caption(
            "Mean of the cells' brightness divided by that of the control cells of their plates, with its 95 % "
            f"interval over wells; {raw['n_controls'].min():,} control cells. nan: a plate has too few controls."
        )
    with st.expander("All measurements"):
        means = (
            "How far each measurement moves from the first step to the last, in standard deviations of control cells; "
            "a diamond is what the populations of cells do."
        )
        explained(figures.changes(ranked), "changes", means, title="From start to end")
        names = {
            "change_sd": "path (s.d.)",
            "expected_sd": "decoded cells (s.d.)",
            "real_sd": "real cells (s.d.)",
            "real": "real cells",
        }
        st.dataframe(ranked.round(3).rename(columns=names), hide_index=True)


def population(screen: Screen, model: str, shown: view.View) -> None:
    """Subpopulations, and the same path for many pairs of cells."""
    if shown.request.treatment is None:
        return
    try:
        st.markdown(plain(study.responding(view.material(screen, model), shown.request).sentence) + ".")
    except SelectionError as few:
        st.caption(f"{plain(few)}.")
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
            ("gap closed, planned", table["gap_closed"], None, None, TREATED),
            ("gap closed, seen in the image", table["gap_closed_reencoded"], None, None, OKABE_ITO[4]),
        ]
        means = (
            "How like its own target the cell is at each step, and how much of the difference is closed, over pairs."
        )
        explained(
            figures.lines(steps, lines, "step", "", 330), "population-cosine", means, title="The same path, many cells"
        )
    with right:
        names = screen.record.channels
        images = [
            figures.diverging(
                found.path.difference[..., c], found.path.difference_low[..., c], found.path.difference_high[..., c]
            )
            for c in range(len(names))
        ]
        for column, name, image in zip(st.columns(len(names)), names, images, strict=True):
            column.image(
                _enlarged(image), caption=plain(name), width="stretch", output_format="PNG", alt=f"Where {name} changes"
            )
        st.caption(
            "Mean change from start to end: red brighter, blue darker, grey where no change is shown. All pixels are "
            "judged together: of images without any change, 5 % show some."
        )
    labels = {m.name: m.label for m in morphology.measures(names, screen.record.pixel_size_um)}
    means = "The measurements that change most surely over the pairs: mean change since the first step, in a 95 % band."
    explained(
        figures.population_curves(found.curves, labels), "population-curves", means, title="What changes in many cells"
    )
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
        ("planned", path.cosine, None, None, PATH),
        ("seen in the image", path.cosine_reencoded, None, None, CONTROL),
    ]
    drawn = figures.lines(list(path.labels), lines, "dose", "cosine to the highest dose", 320)
    means = "How like the cell of the highest dose each dose's typical cell is: 1 is the same, 0 unrelated."
    left, right = st.columns(2, gap="large")
    with left:
        explained(drawn, "dose-curve", means, title="Likeness to the highest dose")
        st.caption("Each frame is the decoded typical cell of a dose; nothing between doses is invented.")
    with right:
        dose_response.panel(screen, model, str(request.dose_series))


def null_path(screen: Screen, model: str, shown: view.View) -> None:
    """A path that means nothing, for comparison."""
    null, path = shown.study.null, view.null_path(screen, model, shown.request)
    if null is None or path is None:
        st.markdown("; ".join(plain(note) for note in shown.study.notes if note.startswith("no null paths")))
        return
    path, mine = view.veiled_path(screen, path), view.veiled(screen, shown).path
    left, right = st.columns([1, 1.4], gap="large")
    with left:
        means = "How much two control cells differ, over many pairs; the line is the difference on this path."
        explained(
            figures.lengths(null.lengths, mine.length, "this path"),
            "null-lengths",
            means,
            title="Is it more than chance?",
        )
    with right:
        limits = np.array([[0.0, 1.0]] * len(screen.record.channels))
        rows = [
            render.StripRow("this path", mine.frames[:: max(1, mine.steps // 6)]),
            render.StripRow("control to control", path.frames[:: max(1, mine.steps // 6)]),
        ]
        sheet = render.strip(rows, screen.record.channels, limits, pixel_size_um=screen.record.pixel_size_um, zoom=1)
        st.image(sheet, alt="Steps of this path above steps of a path from one control cell to another")
        table = pd.DataFrame({"this path": [mine.length], "null, median": [np.median(null.lengths)]}).round(2)
        st.dataframe(table, hide_index=True)
    st.caption(
        f"{len(null.draws)} paths, {null.n_distinct} of them distinct, each {null.how}: what a path changes where no "
        "treatment is at work. A path no longer than these shows two individuals, not a drug."
    )


def compare(screen: Screen, model: str, shown: view.View) -> None:
    """The path of another drug beside this one, from the same cell, in step with each other."""
    treatment = shown.request.treatment or ""
    labels = context.treatment_labels(screen)
    labels.pop(treatment, None)
    if not labels:
        st.markdown("There is no other treatment to compare with.")
        return
    other = context.choose("Compare with", "versus", list(labels), words=labels)
    address.settle_part()
    drawn = view.beside(screen, model, shown, other)
    both = (shown, drawn)
    for column, each, key in zip(st.columns(2, gap="large"), both, ("one", "two"), strict=True):
        with column:
            st.markdown(
                f"**{plain(loaders.named(each.request.treatment or ''))}**: {plain(each.study.verdict.sentence)}"
            )
            header, pictures = view.player_data(screen, each)
            player({**header, "compact": True, "guide": None}, pictures, key=f"compare-{key}", kept=True)
    cosine = view.same_direction(screen, model, treatment, other)
    st.markdown(
        f"The mean ways of the two treatments from the controls of their plates have a cosine of **{cosine:.2f}** "
        f"(1 the same direction, 0 unrelated)."
    )
    one, two = (view.veiled(screen, each).path.frames[-1] for each in both)
    names, difference = screen.record.channels, two - one
    for column, c in zip(st.columns([1] * len(names) + [max(1, 6 - len(names))]), range(len(names)), strict=False):
        change = difference[..., c]
        column.image(
            _enlarged(figures.diverging(change, change, change)),
            caption=plain(names[c]),
            width="stretch",
            output_format="PNG",
            alt=f"Where {names[c]} differs between the decoded ends",
        )
    first, second = plain(loaders.named(treatment)), plain(loaders.named(other))
    st.caption(
        f"The decoded ends: red where {second} is brighter than {first}, blue where "
        "it is darker, each channel to its own largest difference. They are two single cells."
    )


def lookalikes(screen: Screen, model: str, shown: view.View) -> None:
    """Which drug looks like this cell or this group of cells?"""
    table, treatment = shown.cells, shown.request.treatment or ""
    treated = shown.study.start if shown.request.reverse else shown.study.end
    groups = {
        f"the chosen cell ({plain(galleries.short(table.iloc[treated.row]))})": np.array([treated.row]),
        f"all cells of {plain(loaders.named(treatment))}": targets.rows_of(table, treatment),
    }
    if picked := selection.current():
        groups["the selected cells"] = np.flatnonzero(picked.of_cells(table))
    groups = {name: rows for name, rows in groups.items() if len(rows)}
    first = next(iter(groups))
    asked = st.segmented_control("Which drug looks like", list(groups), default=first, key="asked", required=True)
    found = view.alike(screen, model, tuple(groups.get(asked or first, groups[first]).tolist()))
    st.markdown(plain(found.sentence) + ".")
    best = found.table.head(12)
    ids = table[schema.CELL_ID].iloc[best["row"]].tolist()
    images = pixels.of_cells(screen, loaders.rows(screen, ids))
    items = [
        Item(
            i,
            title=loaders.named(name),
            text=moa,
            tag=f"cosine {cosine:.2f}, {n} cells",
            hover=f"{loaders.named(name)} · {moa}\nits most alike cell: {galleries.short(table.iloc[row])}",
            id=ids[i],
        )
        for i, (name, moa, cosine, n, row) in enumerate(best.itertuples(index=False))
    ]
    chosen = component(items, screen, images, "lookalikes")
    st.caption(
        f"The {len(best)} treatments of {len(found.table)} most alike, each shown by its cell most like those in "
        "question. Cosine of the mean ways from the control cells of the same plate (else batch, else screen); the "
        "cells in question are left out of the treatments. Click one for its path."
    )
    if chosen and chosen in ids:
        name = str(best["treatment"].iloc[ids.index(chosen)])
        st.session_state.update({"next-treatment": name, "next-target": chosen})
        st.rerun()


TABS = {
    "Cells": cells,
    "What changed": changed,
    "Compare": compare,
    "Looks like": lookalikes,
    "Population": population,
    "Dose series": doses,
    "Control to control": null_path,
}
