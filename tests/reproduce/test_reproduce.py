"""The paper in one command: whatever breaks, is refused or killed on the way, the report is the same."""

from __future__ import annotations

import contextlib
import io
import json
import re
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cytovae import locks
from cytovae.cli import verbs
from cytovae.errors import BusyError, ConfigError, IngestError
from cytovae.ingest import fetch
from cytovae.profiling.report import column_title
from cytovae.reproduce import steps
from cytovae.screen import Screen, read_table
from tests.reproduce import site as sites

OPTIONS = steps.Options(seeds=1, iterations=4, batch_size=4, models=("vae+",))
WORDS = ["--seeds=1", "--iterations=4", "--batch-size=4", "--models=vae+", "--workers=1", "--threads=1"]


@contextmanager
def unwatched(label: str) -> Iterator:
    yield lambda done, total: None


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "raw"
    sites.small_phantom(folder)
    return folder


@pytest.fixture
def site(raw: Path) -> Iterator[sites.Site]:
    served = sites.Site(raw)
    yield served
    served.close()


def project(folder: Path, **source: object) -> steps.Project:
    return steps.Project(folder, OPTIONS, steps.Source(**source), "cpu", 1, 1)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two runs and what is done twice, on a machine that may have other work
def test_a_run_that_is_killed_ends_in_the_same_report(site: sites.Site, tmp_path: Path) -> None:
    words = [*WORDS, f"--base-url={site.url}"]
    assert sites.finish(tmp_path / "calm", words) == []
    rng = np.random.default_rng(1)
    for mark in sites.marks(rng, 3):
        assert sites.kill_at(tmp_path / "storm", words, mark, float(rng.uniform(0, 0.2))) == ""
    assert sites.finish(tmp_path / "storm", words) == []
    calm = tmp_path / "calm/out"
    assert sites.content(tmp_path / "storm/out/report") == sites.content(calm / "report")
    assert not [path for path in calm.rglob("*") if path.suffix in (".tif", ".zip", ".part")]
    assert sorted(path.name for path in calm.iterdir()) == ["bbbc021.screen", "hours.jsonl", "models", "raw", "report"]

    before = (calm / "report/report.html").read_bytes()
    site.asked.clear()
    assert sites.finish(tmp_path / "calm", words) == []
    lines = (tmp_path / "calm/said").read_text().strip().splitlines()
    said = [line for line in lines if "elapsed" not in line]  # without the lines of progress
    assert len([line for line in said if line.endswith("done before")]) == len(said) - 1 == 10
    assert not site.asked
    assert (calm / "report/report.html").read_bytes() == before
    _the_report_is_whole(project(calm))

    refused = sites.kill_at(tmp_path / "calm", [word.replace("=4", "=5") for word in words[:2]] + words[2:], "never")
    assert re.search(r"made otherwise: .*iterations.*; out goes on only with the options and data that it was", refused)
    assert "--overwrite" not in refused


def _the_report_is_whole(done: steps.Project) -> None:
    page = (done.report / "report.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "").split("<style>")[1].replace("https://", "http://")
    results = json.loads((done.report / "results.json").read_text())
    table = pd.read_csv(done.report / "table1.csv")
    assert set(table["rule"]) == {"NSC", "NSCB"} and (table["n_seeds"] == 1).all() and table["low"].isna().all()
    scores = json.loads((Screen.open(done.screen_path).results_path("vaeplus-paper-0") / "scores.json").read_text())
    for line in scores["scores"]:
        column = column_title(line["summary"], line["whiten"])
        own = next(x for x in results["table1"] if (x["rule"], x["column"]) == (line["rule"], column))
        assert own["mean"] == pytest.approx(100 * line["accuracy"])
        assert f"<b>{own['mean']:.1f}</b>" in page
    assert "24 treatments of known mechanism are there; the paper has 103" in " ".join(results["caveats"])
    assert {path["treatment"] for path in results["paths"]} < set(
        read_table(done.screen_path / "cells.parquet")["Metadata_Treatment"]
    )
    assert all(
        text in page for text in ("The blinded test", "Hours spent", "Training curves", "Figure 4", "flips and quarter")
    )


def test_only_what_counts_is_fetched_and_ingested(site: sites.Site, tmp_path: Path) -> None:
    lines = site.files[fetch.MOA_TABLE].decode().splitlines()
    unknown = lines.pop(1).split(",")[0]
    site.files[fetch.MOA_TABLE] = "\n".join(line for line in lines if not line.startswith(unknown)).encode()
    one = next(name for name in site.files if name.endswith(".zip"))
    plate = one.removeprefix("BBBC021_v1_images_").removesuffix(".zip")
    done = project(tmp_path, base_url=site.url, plates=(plate,))
    steps._tables(done)
    every = steps.steps(done)
    assert [(x.verb, x.words) for x in every[:3]] == [("fetch", plate), ("ingest", plate), ("append", "all plates")]
    assert every[0].run(lambda done, total: None)
    images = {path.name for path in done.raw.rglob("*.tif")}
    assert len(images) == 3 * len(steps.layout(done, [plate]).fields)
    for step in every[1:3]:
        assert step.run(lambda done, total: None)
    assert not list(done.raw.rglob("*.tif")) and not (tmp_path / "plates").exists()
    cells = Screen.open(done.screen_path).cells()
    assert set(cells["Metadata_Plate"]) == {plate}
    assert unknown not in set(cells["Metadata_Compound"]) and "DMSO" in set(cells["Metadata_Compound"])
    with pytest.raises(IngestError, match=r"holds 1 plates \(Week.*\) and 2 were asked for; name the same ones"):
        steps.steps(project(tmp_path, base_url=site.url))


def test_what_the_site_does_wrong_is_one_sentence_or_nothing(site: sites.Site, tmp_path: Path) -> None:
    archives = [name for name in site.files if name.endswith(".zip")]
    site.faults = {
        fetch.IMAGE_TABLE: ["slow", "reset"],
        fetch.MOA_TABLE: [503],
        archives[0]: ["reset", 404, "truncated", "slow"],
        archives[1]: ["wrong"],
    }
    done = project(tmp_path, base_url=site.url)
    steps._tables(done)
    for expected in (
        r"404 Not Found \(or go on without Week\w+: name the other plates",
        "is damaged .* run the same command again",
        "is damaged",
        None,
    ):
        with contextlib.ExitStack() as refused:
            if expected:
                refused.enter_context(pytest.raises(IngestError, match=expected))
            for step in (step for step in steps.steps(done) if step.verb == "fetch"):
                step.run(lambda done, total: None)
    assert not any(site.faults.values())
    assert not list(done.raw.glob("*.zip*"))
    for name in archives:
        with zipfile.ZipFile(io.BytesIO(site.files[name])) as held:
            for image in held.namelist():
                assert next(done.raw.glob(f"*/{image}")).read_bytes() == held.read(image)


def test_a_site_that_cannot_be_reached_is_said_at_once(tmp_path: Path) -> None:
    shown = CliRunner().invoke(verbs.app, ["reproduce", "bbbc021", str(tmp_path), "--base-url", "http://127.0.0.1:9/x"])
    assert isinstance(shown.exception, IngestError)
    assert "http://127.0.0.1:9/x cannot be reached: asked once for BBBC021_v1_image.csv" in str(shown.exception)


def test_plates_without_images_are_named(raw: Path, tmp_path: Path) -> None:
    for name in (fetch.IMAGE_TABLE, fetch.MOA_TABLE):
        (tmp_path / name).write_bytes((raw / name).read_bytes())
    with pytest.raises(IngestError, match=r"lacks every image of 2 of 2 plates \(Week1_.*; put them there, or name"):
        steps.run(project(tmp_path / "out", raw=tmp_path), unwatched)
    with pytest.raises(IngestError, match="have no plate 'Week9_1'"):
        steps.run(project(tmp_path / "out", raw=tmp_path, plates=("Week9_1",)), unwatched)


def test_a_full_disk_is_one_sentence_and_nothing_is_lost(site: sites.Site, tmp_path: Path) -> None:
    size = max(map(len, site.files.values()))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
    try:
        with pytest.raises(IngestError, match=r"has no more room for .*File too large.*is kept: free some space"):
            steps.run(project(tmp_path, base_url=site.url), unwatched)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (part,) = tmp_path.glob("raw/*.part")
    assert part.stat().st_size == size // 2
    assert (tmp_path / "raw" / fetch.IMAGE_TABLE).read_bytes() == site.files[fetch.IMAGE_TABLE]


def test_two_runs_do_not_work_in_one_folder(tmp_path: Path, raw: Path) -> None:
    done = project(tmp_path, raw=raw)
    with (
        locks.held(done.report, "reproduce"),
        pytest.raises(BusyError, match=r"another reproduce is at work on .*report"),
    ):
        steps.run(done, unwatched)


def test_what_cannot_be_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the paper's models are ae, vae, vae"):
        steps.Options(models=("gan",))
    shown = CliRunner().invoke(verbs.app, ["reproduce", "bbbc021", str(tmp_path), "--workers=2", "--cluster=local:1"])
    assert shown.exit_code == 2
    with pytest.raises(ConfigError, match="leave out the raw folder"):
        steps.Source(raw=tmp_path, crops=(tmp_path, tmp_path))


def test_hours_count_killed_runs_and_a_torn_line_not(tmp_path: Path) -> None:
    lines = [("train", "a", 1800), ("train", "a", 1800), ("train", "b", 900), ("embed", "a", 36)]
    text = "".join(json.dumps({"verb": v, "step": m, "seconds": s}) + "\n" for v, m, s in lines)
    (tmp_path / steps.HOURS).write_text(text + '{"verb": "tra')
    found = steps.hours(tmp_path).set_index("verb")
    assert found["hours"].to_dict() == {"train": 1.25, "embed": 0.01}
    assert found["steps"].to_dict() == {"train": 2, "embed": 1}
    assert steps.hours(tmp_path / "nowhere").empty


def test_time_is_written_as_it_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 4.0, 12.0, 12.0, 15.0])  # start, two beats, their line, the end
    monkeypatch.setattr(steps.time, "monotonic", lambda: next(clock))
    path = tmp_path / steps.HOURS
    with steps._timed(path, steps.Step("train", "m", lambda progress: True), lambda done, total: None) as beat:
        beat(1, 3)
        beat(2, 3)
        assert [json.loads(line)["seconds"] for line in path.read_text().splitlines()] == [12.0]
    assert steps.hours(tmp_path)["hours"].tolist() == [15 / 3600]


def test_the_dry_run_writes_nothing_and_counts_what_it_says(raw: Path, tmp_path: Path) -> None:
    words = ["reproduce", "bbbc021", str(tmp_path / "out"), "--raw", str(raw), "--dry-run", "--json", "--models", "ae"]
    shown = CliRunner().invoke(verbs.app, [*words, "--batch-size", "2", "--iterations", "1000", "--seeds", "2"])
    assert shown.exit_code == 0, shown.output
    said = {line["verb"]: line for line in json.loads(shown.stdout)["steps"]}
    assert list(said) == ["ingest", "train", "embed", "benchmark", "audit", "report"]
    assert "28 fields" in said["ingest"]["what"]
    # a step of the auto-encoder: forward once, backward twice, two operations a multiply-add, two patches; the
    # convolutions that follow an up-sampling are done in four phases of 3 x 3
    layers = [(64, 3, 32, 5), (28, 32, 32, 5), (10, 32, 32, 5), (1, 32, 512, 5), (5, 256, 32, 5), (10, 32, 32, 3)]
    layers += [(28, 32, 32, 3), (68, 32, 32, 3), (68, 32, 3, 1)]
    by_hand = 3 * 2 * 2 * sum(edge**2 * a * b * k**2 for edge, a, b, k in layers)
    assert said["train"]["hours_gpu"] * 3600 * 10e12 / 2000 == pytest.approx(by_hand, rel=0.1)
    assert said["train"]["hours"] > said["train"]["hours_gpu"] > 0
    assert not (tmp_path / "out").exists()
