"""Mechanisms: does the nearest neighbour of a treatment share its mechanism of action?"""

from __future__ import annotations

import streamlit as st

from app.common import context, loaders, selection
from app.common.components.cells import Row, cells
from app.common.components.grid import grid
from app.common.selection import Selection
from app.common.words import plain
from app.mechanisms import figures, scores, sections
from app.mechanisms.panel import PANEL
from cytovae import schema
from cytovae.profiling import report
from cytovae.profiling.ranking import RULES

screen, model = context.header("Does the embedding know the mechanism?", panel=PANEL)
documents = scores.results(screen)
if not documents:
    sections.active(screen, model)
    if scores.under_way(screen):
        st.info(
            f"{plain(screen.name)} is being scored at the moment, which takes some minutes; reload this page then.",
            icon=":material/hourglass:",
        )
        st.stop()
    st.info(
        f"Nothing has been scored on {plain(screen.name)} yet. Run `cytovae benchmark {screen.path} "
        f"{loaders.models_dir() / model}`, then reload this page.",
        icon=":material/info:",
    )
    st.stop()
if model not in documents:
    sections.active(screen, model)
    st.info(
        plain(f"{model} has not been scored on this screen; choose {' or '.join(documents)}."), icon=":material/info:"
    )
    sections.tables(documents, None)
    st.stop()

document = documents[model]
titles = {report.column_title(x["summary"], x["whiten"]): (x["summary"], x["whiten"]) for x in document["scores"]}
one, two = st.container(key="menus").columns(2)
with one:
    column = titles[context.choose("Profiles", "profiles", list(titles))]
with two:
    words = {rule.name: f"{rule.name}: {rule.words}" for rule in reversed(RULES)}
    rule = context.choose("A neighbour counts if it is", "rule", list(words), words=words)
sections.verdict(scores.pick(document["scores"], column, rule))
sections.active(screen, model)

line = scores.pick(document.get("confusion", []), column, rule)
table = scores.calls(screen, model, column, rule)
left, right = st.columns([1.25, 1], gap="large")
now = selection.current()
held = set() if now is None else scores.treatments_of(screen, now)
with left:
    st.subheader(
        f"Where {plain(model)} errs",
        anchor=False,
        help="Each treatment stands in the row of its own mechanism and in the column of its nearest neighbour's. "
        "Bordered squares are right calls; everything else is a mistake.",
    )
    if line and line["true"]:
        mine = table[table["scored"] & table[schema.TREATMENT].isin(held)]
        chosen = set(zip(mine[schema.MOA], mine["predicted"], strict=True)) if len(mine) < len(table) else set()
        picked = grid(figures.confusion(line, rule, chosen, dark=st.context.theme.type == "dark"), "confusion")
        if picked:
            true, called = picked[0].split(figures.SEPARATOR)
            pair = table[(table[schema.MOA] == true) & (table["predicted"] == called) & table["scored"]]
            selection.push(Selection("treatments", frozenset(pair[schema.TREATMENT])))
            st.rerun()
        st.caption("Click a square to select its treatments, here and on every page.")
    else:
        st.caption("No treatment could be scored here.")
with right:
    shown = table[table[schema.TREATMENT].isin(held)] if held else table
    st.subheader("Selected treatments" if held else "Every treatment", anchor=False)
    scored = int(shown["scored"].sum())
    st.caption(
        f"{scored} of {len(shown)} are scored: a treatment counts where another one of its mechanism may be its "
        f"neighbour ({dict(words)[rule].partition(': ')[2]})."
    )
    kept = [schema.TREATMENT, schema.MOA, "neighbour", "predicted", "cosine", "correct", "reason"]
    tall = min(38 + 35 * max(len(shown), 1), 430)
    said = shown[kept].assign(
        **{c: shown[c].map(loaders.named, na_action="ignore") for c in (schema.TREATMENT, "neighbour")}
    )
    st.dataframe(said, hide_index=True, height=tall, column_config=scores.CALLS)

if held and len(shown):
    sections.pairs(screen, model, shown)

st.subheader(
    "Nearest neighbours",
    anchor=False,
    help="Treatments whose profiles point in the most similar direction (cosine 1: the same direction). A profile is "
    "the mean of a treatment's cells in the embedding.",
)
treatment = context.choose_treatment(screen)
near = scores.nearest(screen, model, column, rule, treatment)
names = [treatment, *near[schema.TREATMENT]]
images, items = scores.typical(screen, model, names, ["this treatment", *(f"cosine {c:.2f}" for c in near["cosine"])])
if near.empty:
    st.caption(f"Under {rule} no other treatment may be its neighbour: all share its compound or one of its batches.")
opened = cells(screen.record, images, [Row(items)], "neighbours", size_px=130, most_px=170, pickable=True)
if opened:
    selection.use(screen, "target", opened)
    st.rerun()
st.caption("The typical cell of each treatment. Click one to explore the path to it.")
sections.tables(documents, (document, column, rule))
