"""How scores are laid out, and what is said beside them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cytovae import schema
from cytovae.profiling import report
from cytovae.profiling.report import Score, Table1


def line(name, accuracy, rule="NSC", summary="mean", whiten="none", key="bundle"):
    return {
        key: name,
        "summary": summary,
        "whiten": whiten,
        "rule": rule,
        "accuracy": accuracy,
        "n_scored": 9,
        "n_treatments": 9,
    }


def test_table_1_has_the_papers_layout():
    scores = [
        line(b, a + 0.1 * k, rule, summary, whiten)
        for b, a in (("ae", 0.5), ("vae", 0.6))
        for rule in ("NSC", "NSCB")
        for k, (summary, whiten) in enumerate([("mean", "none"), ("mean+sd", "none"), ("mean", "plate")])
    ]
    found = Table1.of([Score.of(x) for x in scores]).numbers()
    assert found.columns.tolist() == ["Mean", "Mean+Whitened (plate)", "Mean+S.D."]
    assert found.index.tolist() == [("NSC", "ae"), ("NSC", "vae"), ("NSCB", "ae"), ("NSCB", "vae")]
    np.testing.assert_allclose(found.loc[("NSC", "vae")], [60, 80, 70])


def calls_of(lines, key):
    """Calls on twenty compounds, as many right as each line's accuracy says; the same ones first."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    **{name: x[name] for name in (key, "summary", "whiten", "rule")},
                    "dimension": 1,
                    schema.TREATMENT: [f"d{c}@1" for c in range(20)],
                    schema.COMPOUND: [f"d{c}" for c in range(20)],
                    "scored": True,
                    "correct": np.arange(20) < round(20 * x["accuracy"]),
                }
            )
            for x in lines
        ]
        or [pd.DataFrame(columns=[key, "dimension", "summary", "whiten", "rule"])],
        ignore_index=True,
    )


def compare(scores, baselines):
    baselines = [b | {"dimension": 1} for b in baselines]
    return report.compare(scores, baselines, calls_of(scores, "bundle"), calls_of(baselines, "baseline"))


def test_a_model_beats_a_baseline_only_by_a_paired_interval():
    scores = [line("m", 0.5), line("m", 0.2, "NSCB"), line("m", 0.9, whiten="plate")]
    baselines = [
        line("pixel PCA", 0.45, key="baseline"),
        line("pixel PCA", 0.3, whiten="plate", key="baseline"),
        line("pixel PCA", 0.8, "NSCB", key="baseline"),
        line("cell count", 0.55, key="baseline"),
    ]
    out, said = compare(scores, baselines)
    assert [[(c["baseline"], c["verdict"]) for c in x["comparisons"]] for x in out] == [
        [("pixel PCA", "no difference shown"), ("cell count", "no difference shown")],
        [("pixel PCA", "below")],
        [("pixel PCA", "above"), ("cell count", "above")],
    ]
    assert out[2]["comparisons"][0]["difference"] == pytest.approx(0.6)
    assert said == [
        "m under NSC, 9 treatments scored: beats pixel PCA in 1 of 2 columns; no difference from pixel PCA shown in 1 "
        "of 2 columns; beats cell count in 1 of 2 columns; no difference from cell count shown in 1 of 2 columns",
        "m under NSCB, 9 treatments scored: falls below pixel PCA in every column; it was compared with nothing else",
    ]


def test_a_verdict_names_what_was_compared_and_claims_no_more():
    def verdict(*names: str) -> str:
        (said,) = compare([line("m", 0.9)], [line(name, 0.1, key="baseline") for name in names])[1]
        return said

    assert verdict("cell count", "chance") == (
        "m under NSC, 9 treatments scored: beats cell count in every column; beats chance in every column"
    )
    assert verdict("chance").endswith("beats chance in every column; it was compared with nothing else")
    assert verdict() == "m under NSC was compared with no baseline"


def test_seeds_become_mean_and_sd():
    scores = [line(f"s{k}", a) for k, a in enumerate((0.9, 0.88, 0.92))] + [line("s0", 0.5, whiten="plate")]
    (found,) = report.over_seeds(scores, "vae+")
    assert found["accuracy_mean"] == pytest.approx(0.9) and found["accuracy_sd"] == pytest.approx(0.02)
    assert found["n_seeds"] == 3 and found["bundle"] == "vae+"


@pytest.mark.parametrize(
    ("accuracy", "ci95", "said"),
    [(0.5, [0.25, 0.751], "50.0 [25, 75]"), (0.5, None, "50.0"), (None, None, "-")],
)
def test_a_score_reads_the_same_everywhere(accuracy, ci95, said):
    score = Score.of({**line("m", accuracy), "ci95": ci95})
    assert score.words == said
    assert Table1.of([score]).frame().loc[0, "Mean"] == said


def test_models_stand_above_baselines_under_each_rule_with_the_number_scored():
    lines = [line("chance", 0.1, rule, key="baseline") for rule in ("NSC", "NSCB")]
    lines += [line("m", 0.5, rule, whiten=by) for rule in ("NSCB", "NSC") for by in ("tvn", "none")]
    table = Table1.of(Score.of(x) for x in lines).frame()
    assert table["rule"].tolist() == ["NSC", "NSC", "NSCB", "NSCB"]
    assert table["model"].tolist() == ["m", "chance (baseline)"] * 2
    assert table.columns.tolist() == ["rule", "model", "Mean", "Mean+TVN", "scored"]
    assert table["Mean+TVN"].tolist() == ["50.0", "-"] * 2 and set(table["scored"]) == {"9 of 9"}


def found_line(**verdicts):
    compared = [{"baseline": name.replace("_", " "), "verdict": v} for name, v in verdicts.items()]
    line = {"accuracy": 0.3564, "n_correct": 36, "n_scored": 101, "ci95": [0.244, 0.487], "chance": 0.059}
    return {**line, "comparisons": compared}


@pytest.mark.parametrize(
    ("verdicts", "level", "said"),
    [
        ({"cell_count": "above", "chance": "above"}, "yes", "That beats cell count and chance."),
        (
            {"cell_count": "no difference shown", "pixel_PCA": "below", "chance": "above"},
            "partly",
            "That beats chance, falls below pixel PCA and is not shown to differ from cell count.",
        ),
        ({"chance": "no difference shown"}, "no", "That is not shown to differ from chance."),
        ({}, "unknown", "It was compared with nothing."),
    ],
)
def test_one_verdict_names_every_baseline_once(verdicts, level, said):
    found, words = report.found(found_line(**verdicts))
    assert found == level
    assert words.startswith("The nearest neighbour has the right mechanism for 36 of 101 scored treatments (36 %, ")
    assert words.endswith(said)


def test_verdict_of_nothing_scored_is_unknown():
    assert report.found({"n_scored": 0})[0] == "unknown"
