"""`cytovae profile` and `cytovae benchmark`, as they are used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cytovae import schema
from cytovae.cli import profiles as _verbs  # noqa: F401  (registers them)
from cytovae.cli.console import app
from cytovae.config import ScreenRecord
from cytovae.errors import CytovaeError, ProfileError
from cytovae.patches import PatchStore, write_part
from cytovae.profiling import study, whiten
from cytovae.screen import Screen, provenance, read_provenance, write_table


def run(*words: object) -> str:
    """Stdout of a verb that ends with status 0."""
    done = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def make_screen(folder: Path, cells: pd.DataFrame, rng: np.random.Generator, models: int = 2) -> Screen:
    screen = Screen.create(folder, ScreenRecord(name="tiny", channels=("DNA", "Tubulin", "Actin"), patch_size_px=12))
    write_table(screen.cells_path, cells, provenance("ingest"))
    images = rng.integers(50, 150, size=(len(cells), 12, 12, 3)).astype(np.uint16)
    write_part(screen.patches_path, 0, images)
    moa = pd.factorize(cells[schema.MOA])[0]
    for k in range(models):
        z = np.eye(moa.max() + 1)[moa] + (0.2 + k) * rng.normal(size=(len(cells), moa.max() + 1))
        record = provenance("embed", inputs={"cells": screen.cells_digest()})
        screen.write_embeddings(f"m{k}", cells[schema.CELL_ID].tolist(), z.astype(np.float32), record)
    return screen


@pytest.fixture
def screen(tmp_path: Path, make_cells, rng) -> Screen:
    cells = make_cells(n_plates=4, compounds=8, controls=3, batches=4)
    # One compound of each mechanism in weeks 0 and 1, the other in weeks 2 and 3: both rules have something to score.
    odd = cells[schema.COMPOUND].str[-1].isin(list("1357"))
    late = cells[schema.BATCH].isin(["Week2", "Week3"])
    cells = cells[(cells[schema.COMPOUND] == "DMSO") | (odd == late)].reset_index(drop=True)
    cells.loc[[0, 7], schema.BLANK] = True
    return make_screen(tmp_path / "tiny.screen", cells, rng)


def test_profile_writes_tables_with_provenance_and_maps(screen):
    done = json.loads(run("profile", screen.path, "models/m0", "--json"))
    (line,) = done["profiles"]
    assert (line["bundle"], line["n_wells"], line["n_treatments"], line["n_blank"]) == ("m0", 28, 9, 2)
    treatments = screen.profiles("m0", "treatments")
    assert len(treatments) == 9 and schema.feature_columns(treatments)[0] == "z000"
    record = read_provenance(screen.profiles_path("m0", "wells"))
    assert record["inputs"]["cells"] == screen.cells_digest() and record["n_blank"] == 2
    assert {m["level"]: m["n"] for m in done["maps"]} == {"treatments": 9, "wells": 28, "cells": 138}
    cells = pd.read_parquet(screen.map_path("m0", "cells", "pca"))
    assert list(cells.columns) == ["cell_id", "x", "y"]
    assert not (screen.path / "profiles" / "m1").exists()


def test_a_finished_profile_says_so_and_does_nothing(screen):
    run("profile", screen.path, "m0")
    path = screen.profiles_path("m0", "treatments")
    before = path.stat().st_mtime_ns
    done = CliRunner().invoke(app, ["profile", str(screen.path), "m0"])
    assert "already there" in done.stderr
    assert path.stat().st_mtime_ns == before
    run("profile", screen.path, "m0", "--overwrite")
    assert path.stat().st_mtime_ns > before


def test_profiles_of_other_embeddings_are_made_again(screen, rng):
    run("profile", screen.path, "m0", "--no-maps")
    cells, z = screen.embeddings("m0")
    record = provenance("embed", inputs={"cells": screen.cells_digest()})
    screen.write_embeddings("m0", cells["cell_id"].tolist(), np.asarray(z) + 1, record)
    before = screen.profiles("m0", "wells")["z000"].to_numpy()
    run("profile", screen.path, "m0", "--no-maps")
    np.testing.assert_allclose(screen.profiles("m0", "wells")["z000"], before + 1, atol=1e-5)


def test_whitening_says_what_it_used_and_refuses_without_the_controls(screen):
    done = json.loads(run("profile", screen.path, "m0", "--whiten", "plate", "--json"))
    used = done["profiles"][0]["whitening"]
    assert [row["scope"] for row in used] == ["plate"] * 4
    assert all(row["n_controls"] in (13, 15) and row["dimension"] == 5 for row in used)
    assert all(0 < row["regularisation"] <= 1 for row in used)
    cells = screen.cells()
    gone = (cells[schema.COMPOUND] == "DMSO") & (cells[schema.PLATE] == "Week1_1")
    other = make_screen(screen.path.parent / "o.screen", cells[~gone].reset_index(drop=True), np.random.default_rng(0))
    with pytest.raises(CytovaeError, match=r"1 of 4 plates .*Week1_1 has 0, at least 6 are needed; use --few-controls"):
        run("profile", other.path, "m0", "--whiten", "plate")
    done = json.loads(run("profile", other.path, "m0", "--whiten", "plate", "--few-controls", "pool", "--json"))
    assert {row["group"]: row["scope"] for row in done["profiles"][0]["whitening"]}["Week1_1"] == "screen"


def test_benchmark_json_is_the_contracts(screen):
    done = json.loads(run("benchmark", screen.path, "m0", "m1", "--json", "--no-figures"))
    assert list(done) == ["model"]
    scores = done["model"]["scores"]
    for line in scores:
        assert {"bundle", "summary", "whiten", "rule", "accuracy", "ci95", "n_scored", "n_treatments"} <= set(line)
        assert line["n_scored"] == line["n_treatments"] == 8
        assert line["ci95"][0] <= line["accuracy"] <= line["ci95"][1]
    assert len(scores) == 2 * 2 * 4 * 2  # bundles, summaries, whitenings, rules
    by = {(x["bundle"], x["summary"], x["whiten"], x["rule"]): x["accuracy"] for x in scores}
    assert by["m0", "mean", "none", "NSC"] == by["m0", "mean", "none", "NSCB"] == 1
    assert {x["baseline"] for x in done["model"]["baselines"]} == {
        "chance",
        "cell count",
        "simple measurements",
        "pixel PCA",
    }
    for model in ("m0", "m1"):
        kept = json.loads((screen.results_path(model) / "scores.json").read_text())
        assert kept["model"] == model
        assert kept["scores"] == [x for x in scores if x["bundle"] == model]
        calls = pd.read_parquet(screen.results_path(model) / "calls.parquet")
        assert len(calls) == 2 * 4 * 2 * 8
        for line in kept["scores"]:
            own = calls[(calls["summary"] == line["summary"]) & (calls["whiten"] == line["whiten"])]
            assert own.loc[own["rule"] == line["rule"], "correct"].sum() == line["n_correct"]


def test_a_benchmark_from_python_is_that_of_the_verb_and_reads_what_it_kept(screen):
    heard: list[str] = []
    columns = [("mean", whiten.Options("none")), ("mean", whiten.Options("plate"))]
    document, calls = study.Benchmark(columns, say=heard.append).of_screen(screen, ["m0", "m1"], PatchStore)
    assert heard == [] and len(calls) == 2 * 2 * 2 * 8
    words = ("--summary", "mean", "--whiten", "none", "--whiten", "plate", "--json")
    done = CliRunner().invoke(app, ["benchmark", str(screen.path), *words], catch_exceptions=False)
    assert json.loads(done.stdout)["model"] == json.loads(json.dumps(document))
    assert "the table of scores of m0 is already there" in done.stderr
    assert json.loads(run("benchmark", screen.path, *words, "--overwrite")) == json.loads(done.stdout)


def test_screens_whose_controls_are_called_differently_are_not_scored_together(screen, tmp_path):
    record = ScreenRecord(name="w", channels=("DNA", "Tubulin", "Actin"), patch_size_px=12, control="water")
    other = Screen.create(tmp_path / "water.screen", record)
    with pytest.raises(ProfileError, match="call their controls DMSO, water; they must agree"):
        study.Benchmark([("mean", whiten.Options("none"))]).of_screens([screen, other], ["m0"])


def test_benchmark_prints_table_1_with_the_number_scored_and_draws_it(screen):
    shown = run("benchmark", screen.path, "m0", "m1", "--as-seeds", "--summary", "mean", "--whiten", "none")
    assert "8 of 8" in shown and "mean ± s.d. of 2" in shown
    assert "8 treatments, 4 mechanisms, 138 cells" in shown
    assert "simple measurements" in shown and "batch or biology" in shown
    for path in ("results/m0/table1.svg", "results/m0/confusion.png", "results/table1.png", "results/confusion-m1.svg"):
        assert (screen.path / path).stat().st_size > 1_000


def test_a_finished_benchmark_says_so_and_gives_the_same(screen):
    words = ["benchmark", str(screen.path), "m0", "--json", "--no-figures"]
    first = CliRunner().invoke(app, words)
    again = CliRunner().invoke(app, words)
    assert "already there" in again.stderr and "already there" not in first.stderr
    assert json.loads(again.stdout) == json.loads(first.stdout)


def test_columns_without_the_controls_are_said_unless_they_were_asked_for(screen):
    cells = screen.cells()
    cells = cells[(cells[schema.COMPOUND] != "DMSO") | cells[schema.WELL].eq("B00")].reset_index(drop=True)
    few = make_screen(screen.path.parent / "few.screen", cells, np.random.default_rng(0))
    done = json.loads(run("benchmark", few.path, "m0", "--json", "--no-figures"))["model"]
    assert {(x["summary"], x["whiten"]) for x in done["skipped"]} == {
        (s, w) for s in ("mean", "mean+sd") for w in ("plate", "batch")
    }
    assert {x["whiten"] for x in done["scores"]} == {"none", "tvn"}  # which keeps fewer dimensions
    with pytest.raises(CytovaeError, match="too few control cells"):
        run("benchmark", few.path, "m0", "--whiten", "plate", "--no-figures")
    every = [word for by in ("none", "plate", "batch", "tvn") for word in ("--whiten", by)]
    with pytest.raises(CytovaeError, match="too few control cells"):  # what is kept has left them out
        run("benchmark", few.path, "m0", "--no-figures", *every)


def test_a_screen_without_controls_is_scored_without_the_measurements_and_says_so(screen):
    cells = screen.cells()
    treated = cells[cells[schema.COMPOUND] != "DMSO"].reset_index(drop=True)
    other = make_screen(screen.path.parent / "treated.screen", treated, np.random.default_rng(0))
    done = json.loads(run("benchmark", other.path, "--json", "--no-figures"))["model"]
    assert {x["baseline"] for x in done["baselines"]} == {"chance", "cell count", "pixel PCA"}
    (skipped,) = (x for x in done["skipped"] if x["bundle"] == "simple measurements")
    assert skipped["reason"] == "z-scores need at least two control wells (DMSO); the screen has 0 with usable cells"
    assert not any("measurements" in sentence for sentence in done["verdicts"])
    shown = run("benchmark", other.path)  # from what is kept
    assert f"not computed: simple measurements, Mean: {skipped['reason']}" in shown
    kept = json.loads((other.results_path("m0") / "scores.json").read_text())
    assert skipped in kept["skipped"]


def test_figures_are_drawn_when_asked_for_later_and_never_of_other_scores(screen, tmp_path):
    other = tmp_path / "other.screen"
    shutil.copytree(screen.path, other)
    words = ("m0", "--no-baselines", "--whiten", "none")
    shutil.rmtree(other / "results", ignore_errors=True)
    run("benchmark", other, *words, "--no-figures")
    figure = other / "results" / "m0" / "table1.png"
    assert not figure.exists()
    run("benchmark", other, *words)
    assert figure.exists()
    run("benchmark", other, *words, "--no-figures", "--summary", "mean")
    assert not figure.exists()


def test_without_baselines_the_verdict_claims_chance_only(screen):
    words = ("--no-baselines", "--no-figures", "--whiten", "none", "--summary", "mean")
    done = json.loads(run("benchmark", screen.path, "m0", *words, "--json"))["model"]
    assert {x["baseline"] for x in done["baselines"]} == {"chance"}
    assert done["verdicts"] == [
        f"m0 under {rule}, 8 treatments scored: beats chance in every column; it was compared with nothing else"
        for rule in ("NSC", "NSCB")
    ]


@pytest.mark.parametrize("moa", [None, "unknown"])
def test_a_screen_without_mechanisms_scores_nothing_and_says_so(screen, moa):
    blind = make_screen(
        screen.path.parent / "blind.screen", screen.cells().assign(**{schema.MOA: "y"}), np.random.default_rng(0)
    )
    cells = screen.cells().assign(**{schema.MOA: moa})
    write_table(blind.cells_path, cells, provenance("ingest"))
    z = np.random.default_rng(0).normal(size=(len(cells), 4)).astype(np.float32)
    record = provenance("embed", inputs={"cells": blind.cells_digest()})
    blind.write_embeddings("m0", cells[schema.CELL_ID].tolist(), z, record)
    done = CliRunner().invoke(app, ["benchmark", str(blind.path), "m0", "--json"], catch_exceptions=False)
    assert "no figure was drawn" in done.stderr
    document = json.loads(done.stdout)["model"]
    assert all(x["accuracy"] is None and x["n_scored"] == 0 for x in document["scores"])
    assert document["verdicts"][0] == "m0 under NSC: no treatment can be scored"
    assert "0 of 8" in run("benchmark", blind.path, "m0")


def test_several_screens_are_scored_as_one(screen, tmp_path):
    cells = screen.cells()
    first, second = (
        make_screen(tmp_path / f"{k}.screen", cells[part].reset_index(drop=True), np.random.default_rng(1))
        for k, part in enumerate(
            (cells[schema.BATCH].isin(["Week0", "Week2"]), cells[schema.BATCH].isin(["Week1", "Week3"]))
        )
    )
    words = ("--whiten", "none", "--json", "--no-figures")
    out = tmp_path / "out"
    done = json.loads(run("benchmark", first.path, "m0", "--with", second.path, "--out", out, *words))["model"]
    assert done["screen"]["n_wells"] == 28 and done["screen"]["n_treatments"] == 8
    assert json.loads((out / "scores.json").read_text()) == done
    with pytest.raises(CytovaeError, match="14 wells are in more than one of the screens"):
        run("benchmark", first.path, "m0", "--with", first.path, *words)


def test_seeds_are_written_where_out_says(screen, tmp_path):
    words = ("m0", "m1", "--whiten", "none", "--json", "--no-figures", "--as-seeds")
    for out in (tmp_path / "first", tmp_path / "again"):  # the second from what is kept
        done = json.loads(run("benchmark", screen.path, *words, "--no-baselines", "--out", out))["model"]
        assert json.loads((out / "scores.json").read_text()) == done
        assert {(x["summary"], x["rule"], x["n_seeds"]) for x in done["seeds"]} == {
            (summary, rule, 2) for summary in ("mean", "mean+sd") for rule in ("NSC", "NSCB")
        }
        assert set(pd.read_parquet(out / "calls.parquet")["bundle"]) == {"m0", "m1"}
    cells = screen.cells().assign(**{schema.PLATE: lambda c: c[schema.PLATE] + "b"})
    other = make_screen(tmp_path / "other.screen", cells, np.random.default_rng(1))
    done = json.loads(run("benchmark", screen.path, *words, "--with", other.path, "--out", tmp_path / "both"))["model"]
    assert done["seeds"] and json.loads((tmp_path / "both" / "scores.json").read_text()) == done


def test_published_profiles_score_as_the_protocol_says(bbbc021, tmp_path):
    tables = bbbc021 / "tables"
    words = (
        *("--profiles", tables / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz"),
        *("--image-table", tables / "BBBC021_v1_image.csv", "--moa-table", tables / "BBBC021_v1_moa.csv"),
    )
    done = json.loads(run("benchmark", *words, "--out", tmp_path / "out", "--json", "--no-figures"))["model"]
    assert {x["rule"]: (x["n_correct"], x["n_scored"]) for x in done["scores"]} == {"NSC": (79, 103), "NSCB": (63, 92)}
    assert len(done["features_dropped"]) == 3 and done["n_features_used"] == 513
    assert len(pd.read_parquet(tmp_path / "out" / "calls.parquet")) == 206
    with pytest.raises(CytovaeError, match=r"10 of 10 batches have too few control wells"):
        run("benchmark", *words, "--whiten", "batch")
    shrunk = json.loads(run("benchmark", *words, "--whiten", "batch", "--few-controls", "shrink", "--json"))["model"]
    assert {x["n_scored"] for x in shrunk["scores"]} == {103, 92}
    assert len(shrunk["whitening"]) == 10


def test_wrong_usage_is_status_2(screen):
    for words in (
        ["benchmark"],
        ["benchmark", str(screen.path), "--profiles", "x.csv"],
        ["benchmark", str(screen.path), "--out", "x"],
        ["profile", str(screen.path), "--whiten", "well"],
        ["profile", str(screen.path), "--few-controls", "pool"],
    ):
        assert CliRunner().invoke(app, words).exit_code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--profiles", "x.csv", "--summary", "mean+sd"), "--summary mean+sd is not for --profiles"),
        (("--profiles", "x.csv", "--with", "y.screen"), "--with is not for --profiles"),
        (("--profiles", "x.csv", "--with", "y", "--as-seeds"), "--with and --as-seeds are not for --profiles"),
        (("--profiles", "x.csv", "--image-table", "y"), "--image-table and --moa-table go together"),
        (("--profiles", "x.csv", "--overwrite"), "--overwrite is not for --profiles and --with"),
        (("x.screen", "--with", "y", "--no-baselines"), "--no-baselines is not for --profiles and --with"),
        (("--profiles", "x.csv", "--few-controls", "pool"), "--few-controls is not for profiles that are not whitened"),
        (
            ("x.screen", "--whiten", "none", "--regularisation", "0"),
            "--regularisation is not for profiles that are not",
        ),
        (("x.screen", "--control", "DMSO"), "--control is not for a screen"),
        (("x.screen", "--image-table", "x", "--moa-table", "y"), "--image-table and --moa-table are not for a screen"),
    ],
)
def test_options_that_would_be_ignored_are_refused(words, said, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    done = CliRunner().invoke(app, ["benchmark", *words])
    assert done.exit_code == 2
    assert said in done.stderr


def test_profiles_that_cannot_be_read_are_one_sentence(tmp_path):
    with pytest.raises(CytovaeError, match="there is no table at"):
        run("benchmark", "--profiles", tmp_path / "no.csv")
    (tmp_path / "bad.csv").write_text("")
    with pytest.raises(CytovaeError, match="cannot be read as CSV"):
        run("benchmark", "--profiles", tmp_path / "bad.csv")
    pd.DataFrame({"Metadata_Plate": ["a"], "z": [1]}).to_csv(tmp_path / "thin.csv", index=False)
    with pytest.raises(CytovaeError, match="lacks the columns Metadata_Well, Metadata_Compound"):
        run("benchmark", "--profiles", tmp_path / "thin.csv")


def test_bundles_are_joined_each_with_the_same_weight(screen):
    words = ("--join", "--no-baselines", "--no-figures", "--summary", "mean", "--whiten", "none", "--json")
    done = json.loads(run("benchmark", screen.path, "m0", "m1", *words))["model"]
    assert {x["bundle"] for x in done["scores"]} == {"m0", "m1", "m0+m1"}
    cells, joined = screen.embeddings("m0+m1")
    own = [np.asarray(screen.embeddings(model)[1]) for model in ("m0", "m1")]
    good = ~cells[schema.BLANK].to_numpy(dtype=bool)
    for part, values in zip(np.split(np.asarray(joined), 2, axis=1), own, strict=True):
        np.testing.assert_allclose((part[good] ** 2).sum(axis=1).mean(), 1, rtol=1e-5)
        np.testing.assert_allclose(part / part[0, 0], values / values[0, 0], rtol=1e-3, atol=1e-4)
    with pytest.raises(ProfileError, match="at least two models, not 1"):
        study.join(screen, ["m0"])


def test_activity_of_what_is_not_embedded_is_refused_in_one_sentence(screen: Screen) -> None:
    done = CliRunner().invoke(app, ["activity", str(screen.path), "nobody"])
    assert isinstance(done.exception, CytovaeError)
    assert "has no embeddings of 'nobody'" in str(done.exception)


def test_a_treatment_that_is_not_active_is_said_to_be_so(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    assert study.inactive(screen, "m0", "A@1") == ""  # nobody has measured
    table = pd.DataFrame(
        {
            schema.TREATMENT: ["A@1", "B@0.1", "C@1"],
            "active": [True, False, False],
            "p_corrected": [0.01, 0.714, np.nan],
            "n_units": [8, 9, 1],
            "unit": "cells",
            "reason": ["", "", "it has one cell"],
        }
    )
    monkeypatch.setattr(study, "stored_activity", lambda *_: table)
    said = [study.inactive(screen, "m0", name) for name in ("A@1", "B@0.1", "C@1", "D@1")]
    assert said == [
        "",
        "B 0.1 µM is not shown to do anything in this screen (corrected p = 0.71, 9 cells), whatever its path shows",
        "whether C 1 µM does anything could not be tested: it has one cell",
        "",
    ]


@pytest.mark.parametrize("verb", ["activity", "benchmark", "profile"])
def test_a_seed_below_nought_is_a_mistake_of_use(screen: Screen, verb: str) -> None:
    assert CliRunner().invoke(app, [verb, str(screen.path), "m0", "--seed", "-1"]).exit_code == 2
