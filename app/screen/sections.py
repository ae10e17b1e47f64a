"""What stands under the facts on the Screen page, one function a tab."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import streamlit as st

from app.common import context, loaders, pixels
from app.common.figures import explained
from app.screen import fields, figures, overview, slides, wells
from cytovae import schema
from cytovae.profiling.plates import LEAST_CONTROL_CELLS, LEAST_CONTROL_WELLS, Doubt
from cytovae.screen import Screen, csv_text

DOUBTS = {
    Doubt.one_plate: "lie on one plate alone: their effect cannot be told from the plate's",
    Doubt.one_batch: "lie on several plates, all of one batch: their effect cannot be told from the batch's",
    Doubt.edge: "have all their wells at the edge of the plate, where cells dry out first",
    Doubt.few_controls: f"lie on a plate with fewer than {LEAST_CONTROL_WELLS} control wells or fewer than "
    f"{LEAST_CONTROL_CELLS} control cells to compare them with",
}


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
            {
                "treatment": loaders.named(w.treatment),
                "doubt": w.doubt.value,
                "what to bear in mind": loaders.doubt_words(w),
            }
            for w in warnings
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
    known = screen.models()
    names = sorted(logs, key=lambda n: (n not in running, not loaders.trained_on(screen, n), n not in known, n))
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
            st.caption(
                note,
                help="The terms of the loss, which the training makes smaller; equal steps upward are equal factors.",
            )
            means = "What the training makes smaller, term by term, as it goes on: lower is better."
            explained(figures.training(log), "training-curves", means, title="Terms of the loss")

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
    means = (
        "What the model made of cells that it was not trained on, measured as the training went: errors should fall, "
        "structural similarity should rise, ratios should come near 1."
    )
    drawn = figures.snapshots(table, overview.MEASURES)
    explained(drawn, "training-snapshots", means, title="Reconstructions on the way")
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
    st.image(sheet, output_format="PNG", alt=f"Cells above what the model made of them at iteration {at:,}")
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
                    "what was tried": check.name.replace("_", " ") + (f" ({check.tried})" if check.tried else ""),
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
    "Plates": wells.plates,
    "Montage": slides.slide,
    "Is it the plate?": plate_effects,
    "Refused fields": refused,
    "A field": fields.field,
    "Evidence tried": audit,
    "Model cards": models,
    "Training": training,
}
