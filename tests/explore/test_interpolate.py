"""``cytovae interpolate`` as a user types it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from cytovae import schema
from cytovae.cli import console, paths  # noqa: F401  (registers the verb)
from cytovae.config import ScreenRecord
from cytovae.errors import BundleError, ConfigError, CytovaeError, ScreenError, SelectionError
from cytovae.explore import study, targets
from cytovae.learn import bundle
from cytovae.patches import write_part
from cytovae.screen import Screen, provenance, write_table


@pytest.fixture(scope="module")
def made(small, tmp_path_factory) -> tuple[str, str]:
    """A screen of painted cells and a linear bundle it is embedded with."""
    root = tmp_path_factory.mktemp("interpolate")
    screen = Screen.create(root / "small.screen", ScreenRecord("small", small.generator.channels))
    # the patches' order is not the embeddings' order: cells are joined by their ids
    order = np.random.default_rng(9).permutation(len(small.cells))
    write_table(screen.cells_path, small.cells.iloc[order].reset_index(drop=True), provenance("ingest"))
    write_part(screen.patches_path, 0, small.images[order])
    arrays = {"mean": small.generator.mean, "components": small.generator.components}
    arrays = {k: v.astype(np.float32) for k, v in arrays.items()}
    folder = root / "linear"
    bundle.save(folder, arrays, bundle.new_config("linear", "pca", small.generator.channels, 24, 68), {})
    record = provenance("embed", inputs={"cells": screen.cells_digest()})
    screen.write_embeddings("linear", list(small.cells[schema.CELL_ID]), small.z, record)
    return str(screen.path), str(folder)


def run(made, *arguments):
    return CliRunner().invoke(console.app, ["interpolate", *made, *map(str, arguments)])


def document(made, *arguments):
    result = run(made, "--json", *arguments)
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


@pytest.fixture(scope="module", autouse=True)
def _one_verb_more():
    """An app of one command needs no name for it; the real one has many."""
    if len(console.app.registered_commands) == 1:

        @console.app.command("another", hidden=True)
        def another() -> None:
            """Keep the name of the other."""

    yield


def test_the_document_is_the_contracts(made, small):
    got = document(made, "--treatment", "grow@3", "--steps", 6)
    end = targets.treated(small.cells, small.z, "grow@3")
    assert got["target"] == end.cell_id
    assert got["control"] == targets.typical_control(small.cells, small.z, "DMSO", like=end.row).cell_id
    assert len(got["steps"]) == 6
    contract = {"n_features", "cosine", "cosine_reencoded", "nearest_cell", "nearest_distance", "support_percentile"}
    assert all(contract <= set(step) for step in got["steps"])
    assert [step["n_features"] for step in got["steps"]][::5] == [0, 24]
    assert got["steps"][-1]["cosine"] == pytest.approx(1.0)
    assert got["provenance"]["config"]["bundle"] == "linear"
    assert set(got["provenance"]["inputs"]) == {"cells", "weights"}


@pytest.mark.parametrize("suffix", ["png", "svg", "gif", "csv", "json", "html"])
def test_every_ending_writes_its_kind_of_file(made, tmp_path, suffix):
    out = tmp_path / "new" / f"path.{suffix}"
    result = run(made, "--treatment", "grow@3", "--steps", 4, "--out", out)
    assert result.exit_code == 0, result.exception
    content = out.read_bytes()
    if suffix in ("png", "gif"):
        assert Image.open(io.BytesIO(content)).format == suffix.upper()
    elif suffix == "svg":
        assert content.startswith(b"<svg")
    elif suffix == "html":
        text = content.decode()
        steps = json.loads(text.partition('id="steps">')[2].partition("</script>")[0])
        assert len(steps) == 4 and all(step["image"].startswith("data:image/png;base64,") for step in steps)
        assert "http" not in text and "real cell" in steps[0]["nearText"].lower()
    elif suffix == "csv":
        assert len(pd.read_csv(out)) == 4
    else:
        assert len(json.loads(content)["steps"]) == 4
    assert [p.name for p in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("suffix", ["png", "html"])
def test_the_same_again_says_so_and_writes_nothing(made, tmp_path, suffix):
    out = tmp_path / f"path.{suffix}"
    run(made, "--treatment", "grow@3", "--out", out)
    before = out.stat().st_mtime_ns
    again = run(made, "--treatment", "grow@3", "--out", out)
    assert again.exit_code == 0 and "is already there" in again.stderr
    assert out.stat().st_mtime_ns == before
    run(made, "--treatment", "grow@3", "--out", out, "--overwrite")
    assert out.stat().st_mtime_ns > before


def test_a_file_made_otherwise_is_kept_until_told(made, tmp_path):
    out = tmp_path / "path.png"
    run(made, "--treatment", "grow@3", "--out", out)
    before = out.read_bytes()
    other = run(made, "--treatment", "grow@3", "--steps", 5, "--out", out)
    assert isinstance(other.exception, ScreenError) and "use --overwrite" in str(other.exception)
    assert out.read_bytes() == before
    assert run(made, "--treatment", "grow@3", "--steps", 5, "--out", out, "--overwrite").exit_code == 0
    assert out.read_bytes() != before


def test_the_same_seed_makes_the_same_path(made):
    a, b = (document(made, "--treatment", "grow@3", "--target", "random", "--seed", 4) for _ in range(2))
    assert a == b


def test_a_cell_by_hand_is_the_end(made, small):
    rows = targets.rows_of(small.cells, "dim@1")
    chosen = small.cells[schema.CELL_ID][rows[3]]
    got = document(made, "--treatment", "dim@1", "--target", chosen, "--control", "cell-0002", "--mode", "linear")
    assert (got["control"], got["target"], got["mode"]) == ("cell-0002", chosen, "linear")


def test_subpopulations_other_starts_doses_and_the_way_back(made):
    first = document(made, "--treatment", "grow@3", "--target", "subpopulation:1")
    back = document(made, "--treatment", "grow@3", "--target", "subpopulation:1", "--reverse", "--spacing", "gain")
    assert (back["control"], back["target"]) == (first["target"], first["control"])
    assert document(made, "--treatment", "grow@3", "--from", "dim@1")["control"] != first["control"]
    series = document(made, "--dose-series", "grow")
    assert [step["label"] for step in series["steps"]] == ["DMSO", "0.3 µM", "3 µM"]


def test_morphology_and_population_join_the_document(made, tmp_path):
    out = tmp_path / "all.png"
    got = document(
        made, "--treatment", "grow@3", "--steps", 3, "--morphology", "--population", 4, "--out", out, "--look", "mgc"
    )
    assert got["changed_most"][0]["change_sd"] > 0
    assert got["steps"][2]["nucleus_area_px2"] > got["steps"][0]["nucleus_area_px2"]
    assert len(got["population"]["steps"]) == 3 and got["population"]["n"] == 4
    assert out.stat().st_size > 0


def test_a_file_shows_the_channels_that_were_named(made, tmp_path):
    out = tmp_path / "two.svg"
    got = run(made, "--treatment", "grow@3", "--steps", 3, "--out", out, "--channels", "Actin, DNA")
    assert got.exit_code == 0, got.exception
    assert "not shown: Tubulin" in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--treatment", "grow@3", "--channels", "DNa"], ConfigError, "did you mean 'DNA'"),
        (["--treatment", "grow@3", "--channels", "DNA,DNA"], ConfigError, "named twice"),
        (["--treatment", "grwo@3"], SelectionError, "did you mean 'grow@3'"),
        (["--treatment", "grow@3", "--target", "subpopulation:x"], SelectionError, "no subpopulation 'x'"),
        (["--treatment", "grow@3", "--control", "nobody"], SelectionError, "there is no cell 'nobody'"),
        (["--treatment", "grow@3", "--population", "1"], SelectionError, "at least 2 control cells, not 1"),
    ],
)
def test_what_is_not_there_is_one_clear_sentence(made, arguments, error, words):
    result = run(made, "--json", *arguments)
    assert isinstance(result.exception, error) and isinstance(result.exception, CytovaeError)
    assert words in str(result.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--treatment", "grow@3"],
        ["--treatment", "grow@3", "--out", "x.bmp"],
        ["--json"],
        ["--json", "--treatment", "grow@3", "--steps", "1"],
        ["--json", "--treatment", "grow@3", "--steps", "65"],
        ["--json", "--treatment", "grow@3", "--mode", "curly"],
        ["--json", "--dose-series", "grow", "--reverse"],
        ["--json", "--treatment", "grow@3", "--from", "dim@1", "--control", "cell-0001"],
    ],
)
def test_wrong_usage_is_status_2(made, arguments):
    assert run(made, *arguments).exit_code == 2


def test_a_bundle_of_other_channels_is_refused(made, small, tmp_path):
    arrays = {"mean": small.generator.mean, "components": small.generator.components}
    arrays = {k: v.astype(np.float32) for k, v in arrays.items()}
    folder = tmp_path / "linear"
    bundle.save(folder, arrays, bundle.new_config("linear", "pca", ("DNA", "ER", "RNA"), 24, 68), {})
    result = run((made[0], str(folder)), "--json", "--treatment", "grow@3")
    assert isinstance(result.exception, BundleError)
    assert "made for the channels DNA, ER, RNA, the screen has DNA, Tubulin, Actin" in str(result.exception)


def test_a_screen_not_embedded_says_what_to_run(made, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    for file in Path(made[1]).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    result = run((made[0], str(folder)), "--json", "--treatment", "grow@3")
    assert isinstance(result.exception, ScreenError) and "run 'cytovae embed' first" in str(result.exception)


REQUESTS = [
    {"treatment": "grow@3"},
    {"treatment": "grow@3", "steps": 5, "mode": "linear", "spacing": "count"},
    {"treatment": "grow@3", "target": "random", "control": "random", "seed": 7, "mode": "spherical"},
    {"treatment": "dim@1", "target": "subpopulation:1", "reverse": True},
    {"treatment": "dim@1", "start_treatment": "grow@3"},
    {"treatment": "dim@1", "target": "cell-0029", "control": "cell-0002"},
    {"dose_series": "grow"},
]


@pytest.mark.parametrize("options", REQUESTS, ids=lambda options: "-".join(map(str, options.values())))
def test_the_page_and_the_command_line_give_the_same_numbers_and_provenance(made, monkeypatch, options):
    from app.common import loaders
    from app.explore import view

    monkeypatch.setenv(loaders.MODELS, str(Path(made[1]).parent))
    arguments: list[str] = []
    for name, value in options.items():
        flag = {"start_treatment": "--from", "reverse": "--reverse"}.get(name, f"--{name.replace('_', '-')}")
        arguments += [flag] if value is True else [flag, str(value)]
    typed = document(made, *arguments)
    screen = Screen.open(made[0])
    request = study.Request(**options)
    shown = view.view(screen, "linear", request).study
    record = study.record(
        view.material(screen, "linear"), request, morphology=False, population=0, look="rgb", gamma=1.0
    )
    assert typed == json.loads(json.dumps(study.document(shown, made=record)))
    assert set(typed["provenance"]["inputs"]) == {"cells", "weights"}
    assert shown.record["config"].items() <= typed["provenance"]["config"].items()
    assert (
        shown.record["inputs"] == typed["provenance"]["inputs"] and shown.record["seed"] == typed["provenance"]["seed"]
    )


def test_what_stands_beside_a_path_is_the_same_on_the_page_and_on_the_command_line(made, monkeypatch):
    from app.common import loaders
    from app.explore import view

    monkeypatch.setenv(loaders.MODELS, str(Path(made[1]).parent))
    typed = document(made, "--treatment", "grow@3", "--steps", 3, "--morphology", "--population", 4)
    screen, request = Screen.open(made[0]), study.Request(treatment="grow@3", steps=3)
    shown = view.view(screen, "linear", request).study
    along, many = (view.along(screen, "linear", request), view.population(screen, "linear", request, 4))
    ours = json.loads(json.dumps(study.document(shown, along, many)))
    assert ours["changed_most"] == typed["changed_most"]
    assert ours["population"] == typed["population"]
