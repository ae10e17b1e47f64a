"""Mechanisms: does the nearest neighbour of a treatment share its mechanism of action?"""

from __future__ import annotations

import streamlit as st

from app.common import context, loaders, selection
from app.common.components.cells import Row, cells
from app.mechanisms import figures, scores
from cytovae import schema
from cytovae.profiling.report import column_title

selection.leave()
screen, model = context.header("Does the embedding know the mechanism?")
known = loaders.activity(screen, model)
if known is None:
    st.caption(
        f"Which treatments are active at all has not been measured: run `cytovae activity {screen.path} "
        f"{loaders.models_dir() / model}`."
    )
else:
    n_known = int((known["reason"] == "").sum())
    st.markdown(
        f"**{int(known['active'].sum())} of the {n_known} treatments that could be tested are active** "
        f"under {model}: their wells or cells are more like each other than like the controls of their plates "
        "(corrected p ≤ 0.05). A treatment that is not active has no mechanism to find. "
        f"{len(known) - n_known} could not be tested, most often "
        "because their plates hold too few controls."
    )
documents = scores.results(screen)
if not documents:
    st.info(
        f"Nothing has been scored on {screen.name} yet. Run `cytovae benchmark {screen.path} "
        f"{loaders.models_dir() / model}`, then reload this page.",
        icon=":material/info:",
    )
    st.stop()

table = scores.table1(documents)
st.dataframe(table, hide_index=True, height="content")
st.caption(
    "Accuracy in %, 95 % interval over compounds in brackets, as in the paper's Table 1. NSC: neighbours of the same "
    "compound are held out. NSCB: neighbours of the same compound or batch. A treatment without an admissible "
    "neighbour of its mechanism is not scored. On a sample of a collection these are statements about the sample, "
    "not the paper's figures."
)
for sentence in dict.fromkeys(s for d in documents.values() for s in d.get("verdicts", [])):
    st.markdown(f":material/balance: {sentence}")
lines = [(name, line) for name, d in documents.items() for line in d["scores"]]
seen = {
    (x["baseline"], x["rule"], x["summary"], x["whiten"]): x for d in documents.values() for x in d.get("baselines", [])
}
lines += [(line["baseline"], line) for line in seen.values()]
st.plotly_chart(figures.scores(lines, column_title), key="scores")
if model not in documents:
    st.info(f"{model} has not been scored on this screen; choose {' or '.join(documents)}.", icon=":material/info:")
    st.stop()

document = documents[model]
titles = {column_title(x["summary"], x["whiten"]): (x["summary"], x["whiten"]) for x in document["scores"]}
one, two = st.columns(2)
with one:
    column = titles[context.choose("Profiles", "profiles", list(titles))]
with two:
    rule = context.choose("Rule", "rule", ["NSCB", "NSC"])
line = scores.pick(document.get("confusion", []), column, rule)
left, right = st.columns([1.25, 1], gap="large")
with left:
    st.subheader(f"Where {model} errs", anchor=False)
    points = []
    if line and line["true"]:
        event = st.plotly_chart(figures.confusion(line), key="confusion", on_select="rerun", selection_mode="points")
        points = list(event.selection.points)
    else:
        st.caption("No treatment could be scored here.")
with right:
    table = scores.calls(screen, model, column, rule)
    if points:
        true, predicted = points[0]["customdata"]
        table = table[(table[schema.MOA] == true) & (table["predicted"] == predicted) & table["scored"]]
        st.subheader(f"{true}, called {predicted}", anchor=False)
    else:
        st.subheader("Every treatment", anchor=False)
        st.caption("Click a square to see its treatments.")
    kept = [schema.TREATMENT, schema.MOA, "neighbour", "predicted", "cosine", "correct", "reason"]
    tall = min(38 + 35 * len(table), 430)
    st.dataframe(table[kept], hide_index=True, height=tall, column_config=scores.CALLS)

st.subheader("Nearest neighbours", anchor=False)
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
left, right = st.columns(2, gap="large")
with left:
    st.subheader("Batch or biology?", anchor=False)
    st.dataframe(scores.batch(document), hide_index=True)
with right:
    st.subheader("Mean average precision", anchor=False)
    st.dataframe(scores.precision(document, column, rule), hide_index=True, height=300)
