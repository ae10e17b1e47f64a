"""What stands in the report beside the paper's figures is the paper's, and what is said of the difference holds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cytovae.errors import ProfileError
from cytovae.explore import audit as explore
from cytovae.profiling import audit as profiling
from cytovae.reproduce import paper, report, steps
from cytovae.reproduce.steps import Options, Training

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"


def test_the_papers_figures_are_those_of_its_text() -> None:
    text = SHARED / "paper.txt"
    if not text.exists():
        pytest.skip("../shared/paper.txt is not there")
    lines = text.read_text().splitlines()
    rows = [
        re.sub(r"[^\d]", "", line) for line in lines if re.search(r"^(N?S?CB?\s?)?(VAE\+?|NSC AE|NSCB AE|AE) \d", line)
    ]
    found = [(rule, model) for rule in ("NSC", "NSCB") for model in ("vae+", "vae", "ae")]
    assert len(rows) == len(found) == len(paper.TABLE_1)
    for key, row in zip(found, rows, strict=True):
        at = 0
        for figures in paper.TABLE_1[key]:
            for value in figures or ():
                digits = f"{value:.1f}".replace(".", "")
                assert row.find(digits, at) >= at, (key, value)  # a scanning error may put digits between
                at = row.find(digits, at) + len(digits)


def test_the_page_of_departures_says_what_the_report_says() -> None:
    table = Path(paper.__file__).with_name("departures.md").read_text()
    assert table in (ROOT / "docs/departures.md").read_text()
    assert paper.departures().shape == (table.count("\n") - 2, 4)


def test_the_difference_is_welchs_interval() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 3, 5):
        ours, theirs = rng.normal(80, 2, n), rng.normal(78, 1, paper.SEEDS)
        mine = paper.difference((ours.mean(), ours.std(ddof=1), n), (theirs.mean(), theirs.std(ddof=1)))
        expected = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
        assert mine == pytest.approx(tuple(expected))
    assert paper.difference((80.0, None, 1), (78.0, 1.0)) is None
    assert paper.difference((80.0, 0.0, 3), (78.0, 0.0)) is None


@pytest.mark.parametrize("sd", [0.5, 2.0, 6.0])
def test_the_difference_of_equal_trainings_is_covered_as_often_as_it_says(sd: float) -> None:
    rng = np.random.default_rng(7)
    n, covered = 2000, 0
    for _ in range(n):
        ours, theirs = rng.normal(80, sd, 3), rng.normal(80, 2.0, 3)
        low, high = paper.difference((ours.mean(), ours.std(ddof=1), 3), (theirs.mean(), theirs.std(ddof=1))) or (0, 0)
        covered += low <= 0 <= high
    assert 0.94 <= covered / n <= 0.99


def document(accuracy: float, n_scored: int = 103) -> dict:
    lines = [
        {"summary": s, "whiten": w, "rule": rule, "accuracy": accuracy + 0.01 * k, "ci95": [0.1, 0.9],
         "n_scored": n_scored, "n_treatments": 103}
        for k, (s, w) in enumerate(paper.COLUMNS)
        for rule in ("NSC", "NSCB")
    ]  # fmt: skip
    return {"scores": [{**line, "bundle": f"b{accuracy}"} for line in lines]}


def test_the_table_holds_means_over_seeds_beside_the_papers() -> None:
    documents = {Training("ae", steps.Preset.PAPER, k): document(x) for k, x in enumerate((0.80, 0.84, 0.88))}
    table = report.table_1(documents)
    assert table["column"].tolist() == ["Mean", "Mean+Whitened (plate)", "Mean+S.D.", "Mean+S.D.+Whitened (plate)"] * 2
    row = table[(table["rule"] == "NSC") & (table["column"] == "Mean+Whitened (plate)")].iloc[0]
    assert (row["mean"], row["sd"], row["n_seeds"]) == (pytest.approx(85.0), pytest.approx(4.0), 3)
    assert (row["paper_mean"], row["paper_sd"], row["difference"]) == (92.2, 1.0, pytest.approx(85.0 - 92.2))
    assert row["low"] < row["difference"] < row["high"]


def about(**differs: object) -> dict:
    return {"simulated": False, "crops": False, "n_plates": 55, "n_treatments": 103, "n_cells": 9, "median_cells": 2.0,
            "fewest": 1, "most": 5, "n_refused": 0} | differs  # fmt: skip


def test_nothing_is_held_against_a_run_of_the_papers_size() -> None:
    table = pd.DataFrame({"rule": ["NSC", "NSCB"], "n_scored": [103, 92]})
    assert report.caveats_of(Options(), about(), table) == []


@pytest.mark.parametrize(
    ("options", "differs", "words"),
    [
        (Options(iterations=800), {}, "800 iterations of 104 cells with T = 50; the paper, for 40,000"),
        (Options(seeds=1), {}, "from 1 seed, not 3"),
        (Options(), {"crops": True}, "9 of them, 1 to 5 a treatment, median 2, .* statements about this sample"),
        (Options(), {"n_plates": 4}, "4 of the collection's 55 plates"),
        (Options(), {"n_treatments": 101}, "101 treatments of known mechanism are there; the paper has 103"),
        (Options(), {"simulated": True}, "simulated"),
        (Options(), {"n_refused": 3}, "3 fields or crops were refused"),
    ],
)
def test_whatever_makes_a_run_smaller_is_said(options: Options, differs: dict, words: str) -> None:
    table = pd.DataFrame({"rule": ["NSC", "NSCB"], "n_scored": [103, 92]})
    (said,) = report.caveats_of(options, about(**differs), table)
    assert re.search(words, said)


def test_every_check_of_the_audit_has_words() -> None:
    assert set(report._TRIED) == {check.__name__ for check in explore.CHECKS} | set(profiling.NAMES)


def test_published_profiles_are_scored_not_quoted(tmp_path: Path) -> None:
    if not (SHARED / "bbbc021/tables").exists():
        pytest.skip("../shared/bbbc021 is not there")
    found = report._published(steps.Project(tmp_path, source=steps.Source(published=SHARED / "bbbc021/tables")))
    assert found is not None and found["n_wells"] == 632
    of = {line["rule"]: (line["n_correct"], line["n_scored"], line["n_treatments"]) for line in found["scores"]}
    assert of == {"NSC": (79, 103, 103), "NSCB": (63, 92, 103)}
    assert json.dumps(found)
    with pytest.raises(ProfileError, match="should hold one table of per-well profiles"):
        report._published(steps.Project(tmp_path, source=steps.Source(published=tmp_path)))
