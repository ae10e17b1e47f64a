"""What stands under the facts on the Screen page, one function a tab."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import streamlit as st

from app.common import context, loaders, pixels
from app.common.components.cells import Item, Row, cells
from app.screen import figures, overview
from cytovae import schema
from cytovae.explore import render
from cytovae.profiling.plates import LEAST_CONTROL_CELLS, LEAST_CONTROL_WELLS, Doubt
from cytovae.screen import Screen, csv_text

SHOWN = {
    "cells": "cells",
    "distance": "distance from the plate's controls",
    "pc1": "first principal component of the wells",
    "pc2": "second principal component of the wells",
}
DOUBTS = {
    Doubt.one_plate: "lie on one plate alone: their effect cannot be told from the plate's",
    Doubt.one_batch: "lie on several plates, all of one batch: their effect cannot be told from the batch's",
    Doubt.edge: "have all their wells at the edge of the plate, where cells dry out first",
    Doubt.few_controls: f"lie on a plate with fewer than {LEAST_CONTROL_WELLS} control wells and fewer than "
    f"{LEAST_CONTROL_CELLS} control cells to compare them with",
}


def plates(screen: Screen) -> None:
    """One plate as a grid of wells."""
    sizes = loaders.cells(screen)[schema.PLATE].value_counts().sort_index()
    names = sizes.index.tolist()
    one, two, three = st.columns(3)
    plate = one.selectbox("Plate", names, int(sizes.argmax()), key="plate", persist_state="session")
    show = two.selectbox(
        "Colour", list(SHOWN), format_func=SHOWN.__getitem__, key="plate-value", persist_state="session"
    )
    models = [m for m in loaders.models(screen) if m in screen.models()]
    model = three.selectbox("Model", models, key="plate-model", disabled=show == "cells" or not models)
    if show != "cells" and not models:
        st.info("A score of wells needs embeddings: run 'cytovae embed' first.", icon=":material/info:")
        return
    table = overview.plate_values(screen, plate, show, model)
    rows, columns = overview.grid_of(table[schema.WELL])
    st.plotly_chart(figures.plate(table, rows, columns, SHOWN[show].split(" ")[0]), key="plate-map")
    st.caption(f"Wells marked C hold {screen.record.control}. A faint place is a well without cells in this screen.")


def plate_effects(screen: Screen) -> None:
    """What could make the plate look like the drug: where treatments lie, and whether controls differ by place."""
    layout, warnings = overview.layout(screen), loaders.plate_warnings(screen)
    st.markdown("**Where the treatments lie**")
    counts = Counter(warning.doubt for warning in warnings)
    asked = {
        Doubt.one_plate: layout.n_plates > 1,
        Doubt.one_batch: layout.n_batches > 1,
        Doubt.edge: layout.n_placed > 0,
        Doubt.few_controls: True,
    }
    lines = [
        f"- **{counts[doubt]:,} of {layout.n_treatments:,}** treatments {words}"
        for doubt, words in DOUBTS.items()
        if asked[doubt]
    ]
    if layout.n_plates == 1:
        lines.append("- The whole screen is one plate, so no effect in it can be told from the plate's.")
    elif layout.n_batches == 1:
        lines.append("- The whole screen is one batch, so no effect in it can be told from the batch's.")
    if layout.n_placed < layout.n_wells:
        lines.append(
            f"- {layout.n_wells - layout.n_placed:,} of {layout.n_wells:,} wells have names that do not say where on "
            "the plate they lie."
        )
    st.markdown("\n".join(lines))
    if warnings:
        table = pd.DataFrame(
            {"treatment": w.treatment, "doubt": w.doubt.value, "what to bear in mind": w.words} for w in warnings
        )
        st.dataframe(table, hide_index=True)
        st.download_button("CSV", csv_text(table), "plate_warnings.csv", "text/csv", icon=":material/download:")
    st.markdown("**Do the controls differ by row or column?**")
    if not screen.models():
        st.info("Rows and columns are compared by embeddings: run 'cytovae embed' first.", icon=":material/info:")
        return
    model = st.selectbox("Model", screen.models(), key="plate-effects-model")
    effects = overview.position_effects(screen, model)
    if not effects:
        st.info(
            f"There are too few {screen.record.control} wells to say: at least four are needed that have a place and a "
            "companion on their plate, in more than one row or column.",
            icon=":material/info:",
        )
        return
    st.markdown("\n".join(f"- {overview.position_words(line)}" for line in effects))
    st.caption(
        f"Profiles of {screen.record.control} wells under {model}; chance is wells dealt out anew within their plates "
        "(PERMANOVA). A difference here is a difference between places on the plate: it has no drug in it."
    )


def refused(screen: Screen) -> None:
    """Fields that were not read, and why."""
    table = overview.fields(screen)
    if table is None:
        st.info("This screen has no table of fields: it was made of cut cells.", icon=":material/info:")
        return
    bad = table[table[schema.STATUS] != "ok"]
    if bad.empty:
        st.success(f"All {len(table):,} fields were read.", icon=":material/check_circle:")
        return
    counts = bad[schema.CODE].value_counts()
    st.markdown(
        f"**{len(bad):,} of {len(table):,}** fields were refused: "
        + ", ".join(f"{n:,} {code}" for code, n in counts.items())
    )
    kept = [schema.FIELD, schema.PLATE, schema.WELL, schema.TREATMENT, schema.CODE, schema.REASON]
    words = {c: c.removeprefix("Metadata_").lower() for c in kept}
    st.dataframe(bad[kept], hide_index=True, column_config=words)
    st.download_button("CSV", csv_text(bad), "refused_fields.csv", "text/csv", icon=":material/download:")


def field(screen: Screen) -> None:
    """A field with its nuclei."""
    table = overview.fields(screen)
    if table is None:
        st.info("This screen has no table of fields: it was made of cut cells.", icon=":material/info:")
        return
    if missing := overview.no_fields(screen, table):
        st.info(missing, icon=":material/info:")
        return
    good = table[table[schema.STATUS] == "ok"]
    names = dict(zip(good[schema.FIELD], good[schema.TREATMENT], strict=True))
    one, two, three = st.columns([2, 1, 1])
    name = one.selectbox("Field", list(names), format_func=lambda f: f"{f} · {names[f]} µM", key="field")
    look = two.selectbox("Look", list(render.LOOKS), key="field-look")
    first = screen.record.channels[: render.OVERLAID]
    chosen = three.pills("Channels", screen.record.channels, selection_mode="multi", default=first)
    if name is None:
        st.info("No field of this screen was read; the tab beside says why.", icon=":material/info:")
        return
    found = overview.field(screen, name)
    step = max(1, max(found.pixels.shape[:2]) // 700)
    small = pixels.of_field(screen, found.pixels, found.cells)[::step, ::step]
    shown = [i for i, c in enumerate(screen.record.channels) if c in chosen]
    rgb = render.composite(small, render.shared_limits(small, 1, 99.7), look, 0.8, shown)
    st.plotly_chart(figures.field(rgb, found.cells, step), key="field-figure")
    n = len(found.cells)
    st.caption(
        f"{n:,} cells of this field are in the screen. Nuclei too near to the edge for a whole patch are left out."
        + (f" Shown at 1 / {step} of its size." if step > 1 else "")
    )
    if n:
        ids = found.cells[schema.CELL_ID].tolist()[:48]
        images = pixels.of_cells(screen, loaders.rows(screen, ids))
        cells(screen.record, images, [Row([Item(i, hover=c) for i, c in enumerate(ids)])], "field-cells", size_px=72)


def models(screen: Screen) -> None:
    """Model cards."""
    names = loaders.models(screen)
    if not names:
        st.markdown(context.NO_MODEL.format(screen=screen.path, folder=loaders.models_dir()))
        return
    name = st.selectbox("Model", names, key="card", persist_state="session")
    with st.container(border=True):
        st.markdown(overview.card(name) or f"{name} has no model card.")


def training(screen: Screen) -> None:
    """Training curves, live while a training runs elsewhere."""
    logs = overview.logs()
    if not logs:
        st.info(
            f"No training log lies in {loaders.models_dir()}; 'cytovae train' writes one, and it can be watched here.",
            icon=":material/info:",
        )
        return
    running = [name for name, path in logs.items() if overview.runs(path)]
    names = sorted(logs, key=lambda n: (n not in running, not loaders.trained_on(screen, n), n))
    here = {
        n: " (running)" if n in running else "" if loaders.trained_on(screen, n) else " (another screen)" for n in names
    }
    words = {n: n + here[n] for n in names}
    name = st.selectbox("Training", names, format_func=words.__getitem__, key="log", persist_state="session")

    @st.fragment(run_every=3 if name in running else None)
    def curves() -> None:
        with context.page_errors():
            log = overview.log(logs[name])
            if log.empty:
                st.info("The log has no line yet.", icon=":material/info:")
                return
            last = log.iloc[-1]
            note = f"iteration {int(last['iteration']):,}"
            if name in running and "eta_s" in log:
                note += f", {last['it_per_s']:.1f} per second, about {last['eta_s'] / 60:.0f} min left"
            st.caption(note)
            st.plotly_chart(figures.training(log), key="training-curves")

    @st.fragment(run_every=30 if name in running else None)
    def on_its_way() -> None:
        with context.page_errors():
            snapshots(logs[name].parent)
            samples(logs[name].parent)

    curves()
    on_its_way()


def snapshots(folder: Path) -> None:
    """What a training measured on its way; nothing where it measured nothing."""
    table = overview.snapshots(folder)
    shown = [name for name in overview.MEASURES if name in table]
    if not shown:
        return
    st.markdown("**Reconstructions on the way**")
    st.plotly_chart(figures.snapshots(table, overview.MEASURES), key="training-snapshots")
    sizes = " Coherence has a line for each size of detail, the coarsest in blue." if "coherence" in shown else ""
    st.caption(
        f"{len(table):,} snapshots of {overview.n_cells_words(table)}; the cells were kept out of training. "
        f"A dotted line: 1, as good as the original or as the inside.{sizes}"
    )


def samples(folder: Path) -> None:
    """Cells kept out of training above what the model made of them, by iteration; nothing where there are none."""
    found = overview.samples(folder)
    if not found:
        return
    iterations, key = list(found), f"samples-{folder.name}"
    if st.session_state.get(key, iterations[-1]) not in found:
        del st.session_state[key]  # a new training in the same folder
    at = iterations[-1]
    if len(found) > 1:
        at = st.select_slider("Pictures at iteration", iterations, value=at, key=key)
    sheet = pixels.of_sheet(found[at])
    if sheet is None:
        st.info(
            "The pictures of this training are not shown while a quiz is unfinished, or its database cannot be asked: "
            "they do not say which cells they show, so those of the quiz could not be left out.",
            icon=":material/visibility_off:",
        )
        return
    st.image(sheet, output_format="PNG")
    st.caption(f"Above, cells kept out of training; below, what the model made of them at iteration {at:,}.")


def audit(screen: Screen) -> None:
    """Whether the evidence holds on this very screen: what was tried, how often it should and did come out."""
    found = {model: checks for model in screen.models() if (checks := overview.audit(screen, model))}
    if not found:
        st.info(
            f"The evidence has not been tried on this screen yet: `cytovae audit {screen.path} MODEL`.",
            icon=":material/info:",
        )
        return
    for model, checks in found.items():
        good = sum(check.ok for check in checks)
        with st.container(border=True):
            st.markdown(f"**{model}**: {good} of {len(checks)} checks came out as they should.")
            rows = [
                {
                    "what was tried": check.name.replace("_", " "),
                    "should be": check.nominal,
                    "was": check.observed,
                    "95 % interval": f"{check.ci95[0]:.3f} to {check.ci95[1]:.3f}",
                    "trials": check.n,
                    "as it should be": check.ok,
                }
                for check in checks
            ]
            st.dataframe(rows, hide_index=True)


TABS = {
    "Plates": plates,
    "Is it the plate?": plate_effects,
    "Refused fields": refused,
    "A field": field,
    "Evidence tried": audit,
    "Model cards": models,
    "Training": training,
}
