"""What stands on the Mechanisms page beside the confusion: the verdict, pairs of cells, and tables."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app.common import context, loaders
from app.common.components.cells import Item, Row, cells
from app.common.words import plain
from app.mechanisms import scores
from cytovae import schema
from cytovae.profiling import activity, report
from cytovae.screen import Screen

PAIRS = 6
"""Confused pairs that are shown at once."""


def verdict(line: dict[str, Any] | None) -> None:
    """One verdict on the chosen profiles and rule."""
    level, said = ("unknown", "These profiles have not been scored.") if line is None else report.found(line)
    show = {"yes": st.success, "partly": st.info, "no": st.warning}.get(level, st.info)
    show(said, icon=":material/balance:")


def active(screen: Screen, model: str) -> None:
    """How many treatments are active at all."""
    known = loaders.activity(screen, model)
    if known is None:
        st.caption(
            f"Which treatments are active at all has not been measured: run `cytovae activity {screen.path} "
            f"{loaders.models_dir() / model}`."
        )
        return
    tested = known[known["reason"] == ""]
    n_known, by_cells = len(tested), int((tested["unit"] == activity.Unit.cells).sum())
    how = f" {by_cells} were tested by their cells, their wells being too few: {activity.CAUTION}." if by_cells else ""
    st.markdown(
        f"**{int(known['active'].sum())} of the {n_known} treatments that could be tested are active** "
        f"under {plain(model)}: their wells or cells are more like each other than like the controls of their plates "
        "(corrected p ≤ 0.05). A treatment that is not active has no mechanism to find. "
        f"{len(known) - n_known} could not be tested, most often because their plates hold too few controls.{how}"
    )


def pairs(screen: Screen, model: str, shown: pd.DataFrame) -> None:
    """Treatments above their nearest neighbours, as their typical cells."""
    known = shown[shown["neighbour"].astype(str).isin(loaders.treatments(screen)[schema.TREATMENT])]
    part = known.head(PAIRS)
    if part.empty:
        return
    st.subheader("Side by side", anchor=False, help="What the model took for alike: look whether you would, too.")
    names = [*part[schema.TREATMENT], *part["neighbour"].astype(str)]
    images, items = scores.typical(screen, model, names, [""] * len(names))
    n = len(part)
    notes = [f"cosine {value:.2f}" for value in part["cosine"]]
    below = [Item(i.image, i.title, note, i.tag, i.hover) for i, note in zip(items[n:], notes, strict=True)]
    rows = [Row(items[:n], "Treatment"), Row(below, "Nearest neighbour")]
    cells(screen.record, images, rows, "pairs", columns=n, size_px=96, most_px=150, controls=False)
    if len(known) > n:
        st.caption(f"The first {n} of {len(known)} pairs.")


def table1(documents: dict[str, dict[str, Any]], _: Any) -> None:
    """Accuracies of every model and baseline."""
    st.dataframe(scores.table1(documents), hide_index=True, height="content")
    st.caption(
        "Accuracy in %: for how many treatments the nearest neighbour has the right mechanism; 95 % interval over "
        "compounds in brackets, as in the paper's Table 1. NSC: not the same compound, so neighbours of the same "
        "compound are held out. NSCB: nor the same batch. A treatment without an admissible neighbour of its "
        "mechanism is not scored. On a sample of a collection these are statements about the sample, not the paper's "
        "figures."
    )
    if any(line["n_scored"] for document in documents.values() for line in document["scores"]):
        says = "Accuracy of each model and baseline with its 95 % interval: the table above as dots and bars"
        drawn = scores.dots(documents, dark=st.context.theme.type == "dark")
        st.pyplot(drawn, width="content", alt=says)


def precision(_: Any, chosen: tuple[dict[str, Any], tuple[str, str], str] | None) -> None:
    """Mean average precision by mechanism."""
    if chosen is None:
        return
    found = scores.precision(*chosen)
    st.dataframe(found, hide_index=True, height="content")
    st.caption(
        "Mean average precision (mAP): every treatment ranks all others by likeness. Where all treatments of its own "
        "mechanism come first its average precision is 1; where they are scattered at random it is about their share "
        "of all treatments. The mean over a mechanism's treatments is its mAP. p: how often mechanisms dealt out at "
        f"random among compounds do as well, corrected for {len(found)} mechanisms (Benjamini-Hochberg)."
    )


def batch(_: Any, chosen: tuple[dict[str, Any], tuple[str, str], str] | None) -> None:
    """Whether control wells find each other by plate or batch."""
    if chosen is None:
        return
    st.dataframe(scores.batch(chosen[0]), hide_index=True)
    st.caption(
        "Control wells were all treated alike. If the nearest control well is of the same plate or batch much more "
        "often than by chance, the embedding holds the batch beside the biology."
    )


TABLES = {"Table 1": table1, "Mean average precision": precision, "Batch or biology?": batch}


def tables(documents: dict[str, dict[str, Any]], chosen: tuple[dict[str, Any], tuple[str, str], str] | None) -> None:
    """All scores; a tab is worked out when it is opened.

    Parameters
    ----------
    chosen : tuple of (dict, (str, str), str), optional
        The model's document, the column and the rule; without it only what is of all models is shown.
    """
    named = TABLES if chosen else {"Table 1": table1}
    for tab, show in zip(context.tabs("scores-tab", list(named)), named.values(), strict=True):
        if tab.open:
            with tab:
                show(documents, chosen)
