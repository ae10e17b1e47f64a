"""The verbs train, embed and reconstruct, as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cytovae import schema
from cytovae.cli import console, verbs
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
    assert "is already there; --overwrite makes it again" in err
    assert (trained[1] / "weights.safetensors").stat().st_mtime_ns == before


def test_embedding_takes_several_bundles_and_says_what_is_done_already(screen: Path, trained: list[Path]) -> None:
    document = json.loads(run("embed", screen, *trained, "--device", "cpu", "--json")[0])
    assert [(e["bundle"], e["embedded"]) for e in document["embeddings"]] == [("tiny-pca", True), ("tiny-ae", True)]
    assert Screen.open(screen).models() == ["tiny-ae", "tiny-pca"]
    out, err = run("embed", screen, trained[0], "--json")
    assert json.loads(out)["embeddings"][0]["embedded"] is False
    assert "with tiny-pca is already there" in err


def test_embedding_in_eight_orientations_and_with_intensity_has_a_name_of_its_own(
    screen: Path, trained: list[Path]
) -> None:
    out = run("embed", screen, trained[0], "--orientations", 8, "--with-intensity", "--json")[0]
    assert json.loads(out)["embeddings"][0]["bundle"] == "tiny-pca.turned.intensity"
    assert Screen.open(screen).feature_names("tiny-pca.turned.intensity")[-1] == "log_area_nucleus"
    run("profile", screen, "tiny-pca.turned.intensity", "--no-maps")


def test_embeddings_from_elsewhere_go_through_profile(screen: Path, tmp_path: Path) -> None:
    cells = Screen.open(screen).cells()
    table = cells[[schema.CELL_ID]].assign(a=range(len(cells)), b=1.5 * cells[schema.CONCENTRATION])
    table.to_csv(tmp_path / "dino.csv", index=False)
    document = json.loads(run("import", "embeddings", screen, tmp_path / "dino.csv", "--name", "dino", "--json")[0])
    assert document["cells"] == len(cells)
    assert (document["features"], document["cells_without"], document["already"]) == (2, 0, False)
    _, err = run("import", "embeddings", screen, tmp_path / "dino.csv", "--name", "dino")
    assert "is already there" in err
    run("profile", screen, "dino", "--no-maps")


def test_a_wrong_option_is_wrong_usage(
    screen: Path, trained: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, status, message in (
        (["train", screen, screen / "x", "--model", "gan"], 2, "there is no model 'gan'"),
        (["train", screen, screen / "x", "--model", "pca", "--iterations", 3], 2, "has no option 'iterations'"),
        (["train", screen, screen / "x", "--model", "ae", "--iterations", 0], 2, "iterations is at least 1"),
        (["embed", screen, trained[0], "--orientations", 3], 2, "1 or 8, not 3"),
        (["train", screen, trained[0], "--model", "pca", "--seed", 9], 1, "made otherwise: seed 0, not 9"),
        (["embed", screen, "nothing-here"], 1, "there is no model bundle 'nothing-here'"),
    ):
        monkeypatch.setattr("sys.argv", ["cytovae", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            verbs.run()
        assert ended.value.code == status, words
        assert message in capsys.readouterr().err.replace("\n", " "), words


def test_training_ends_without_praise(screen: Path, trained: list[Path]) -> None:
    options = ["--iterations", 2, "--batch-size", 4, "--device", "cpu", "--pictures-every", 0, "--overwrite"]
    out = run("train", screen, screen.parent / "tiny-vae", "--model", "vae", *options)[0]
    assert "measured on" in out
    assert "look at its pictures with 'cytovae reconstruct' before relying on them" in out


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
