"""The verbs train, embed and reconstruct, as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cytovae import schema
from cytovae.cli import console, data, models  # noqa: F401  (registers the verbs)
from cytovae.errors import BundleError, ConfigError, SelectionError
from cytovae.screen import Screen, provenance, write_table


@pytest.fixture(scope="module")
def screen(blobs: Screen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verbs") / "blobs.screen"
    shutil.copytree(blobs.path, path)
    return path


def run(*arguments: object) -> tuple[str, str]:
    ran = CliRunner().invoke(console.app, [str(a) for a in arguments])
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    assert ran.exit_code == 0, ran.stderr
    return ran.stdout, ran.stderr


@pytest.fixture(scope="module")
def trained(screen: Path) -> list[Path]:
    folders = [screen.parent / name for name in ("tiny-pca", "tiny-ae")]
    run("train", screen, folders[0], "--model", "pca")
    options = ["--iterations", 3, "--batch-size", 4, "--device", "cpu", "--pictures-every", 0]
    run("train", screen, folders[1], "--model", "ae", *options)
    return folders


def test_training_prints_one_document_and_a_finished_one_does_nothing(screen: Path, trained: list[Path]) -> None:
    before = (trained[1] / "weights.safetensors").stat().st_mtime_ns
    out, err = run("train", screen, trained[1], "--model", "ae", "--json")
    document = json.loads(out)
    assert document["name"] == "tiny-ae"
    assert document["recipe"]["iterations"] == 3
    assert document["metrics"]["n_cells"] > 0
    assert "is finished already; --overwrite trains it again" in err
    assert (trained[1] / "weights.safetensors").stat().st_mtime_ns == before


def test_embedding_takes_several_bundles_and_says_what_is_done_already(screen: Path, trained: list[Path]) -> None:
    document = json.loads(run("embed", screen, *trained, "--device", "cpu", "--json")[0])
    assert [(e["bundle"], e["embedded"]) for e in document["embeddings"]] == [("tiny-pca", True), ("tiny-ae", True)]
    assert Screen.open(screen).models() == ["tiny-ae", "tiny-pca"]
    out, err = run("embed", screen, trained[0], "--json")
    assert json.loads(out)["embeddings"][0]["embedded"] is False
    assert "embedded with tiny-pca already" in err


def test_reconstructing_measures_each_bundle_and_draws_a_picture(screen: Path, trained: list[Path]) -> None:
    picture = screen.parent / "cells.png"
    document = json.loads(run("reconstruct", screen, *trained, "--cells", 3, "--out", picture, "--json")[0])
    assert [b["bundle"] for b in document["bundles"]] == ["tiny-pca", "tiny-ae"]
    keys = {"bundle", "n_cells", "mse", "ssim", "sharpness_ratio", "frechet", "spectrum_bands", "grid_ratio"}
    keys |= {"coherence", "coherence_floor", "readable_px", "frame_ratio"}
    assert all(keys <= b.keys() and len(b["spectrum_bands"]) == len(b["coherence"]) == 4 for b in document["bundles"])
    assert document["bundles"][0]["mse"] < document["bundles"][1]["mse"]
    assert len(document["cells"]) == 3
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_info_finds_a_bundle_by_name_where_models_are_looked_for(
    trained: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYTOVAE_MODELS", str(trained[1].parent))
    assert json.loads(run("info", "tiny-ae", "--json")[0])["name"] == "tiny-ae"


def test_unknown_bundles_and_models_are_named(screen: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no model bundle 'nothing-here'"):
        run("embed", screen, "nothing-here")
    with pytest.raises(ConfigError, match="there is no model 'gan'; it is one of ae, vae, vae"):
        run("train", screen, tmp_path / "x", "--model", "gan")


def test_a_split_of_one_cell_is_not_measured(screen: Path, trained: list[Path], tmp_path: Path) -> None:
    alone = tmp_path / "alone.screen"
    shutil.copytree(screen, alone)
    opened = Screen.open(alone)
    cells = opened.cells()
    cells[schema.BLANK] = True
    cells.loc[3, schema.BLANK] = False
    write_table(opened.cells_path, cells, provenance("test"))
    with pytest.raises(SelectionError, match=r"measures need at least 2 cells and .* has 1 in split 'all'"):
        run("reconstruct", alone, trained[0], "--split", "all")
