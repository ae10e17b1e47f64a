"""The registry of kinds: ours, and one of another package through every verb."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cytovae.cli import console, verbs  # noqa: F401  (registers the verbs)
from cytovae.errors import BundleError, ConfigError, TrainingError
from cytovae.learn import bundle as bundles
from cytovae.learn import kinds
from cytovae.learn import models as trainings
from cytovae.patches import PatchStore, write_part
from cytovae.screen import Screen, provenance, write_table

HERE = Path(__file__).parent


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example kind as an installed package: its module, and a dist-info with its entry point."""
    site = tmp_path / "site"
    info = site / "squares-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: squares\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cytovae.models]\nsquares = example_kind:KIND\npca = example_kind:KIND\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.syspath_prepend(str(HERE))
    yield
    sys.modules.pop("example_kind", None)


@pytest.fixture
def small(blobs: Screen, tmp_path: Path) -> Screen:
    """The blobs as patches of 40 px."""
    screen = Screen.create(tmp_path / "small.screen", dataclasses.replace(blobs.record, patch_size_px=40))
    patches = PatchStore(blobs.patches_path).read(np.arange(len(blobs.cells())))
    write_part(screen.patches_path, 0, patches[:, 14:54, 14:54])
    write_table(screen.cells_path, blobs.cells(), provenance("test"))
    return screen


def run(*arguments: object) -> str:
    ran = CliRunner().invoke(console.app, [str(a) for a in arguments])
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    assert ran.exit_code == 0, ran.stderr
    return ran.stdout


def test_our_kinds_are_known_without_importing_any() -> None:
    code = (
        "import sys; from cytovae.learn import kinds; assert kinds.names()[:4] == ['ae', 'vae', 'vae+', 'pca']; "
        "assert 'torch' not in sys.modules and 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", list(kinds.OWN))
def test_each_of_our_kinds_completes_a_recipe_and_refuses_what_it_does_not_know(name: str) -> None:
    kind = kinds.get(name)
    whole = kind.recipe({"seed": 7})
    assert whole["seed"] == 7
    assert whole["model"] == name
    assert kind.recipe({k: v for k, v in whole.items() if k != "model"}) == whole
    assert json.loads(json.dumps(whole)) == whole
    with pytest.raises(ConfigError, match="has no option 'colour'"):
        kind.recipe({"colour": "red"})


def test_the_linear_baseline_refuses_what_only_networks_have() -> None:
    with pytest.raises(ConfigError, match="has no option 'iterations'"):
        kinds.get("pca").recipe({"iterations": 3})


@pytest.mark.usefixtures("installed")
def test_a_kind_of_another_package_goes_through_every_verb(small: Screen, tmp_path: Path) -> None:
    assert kinds.names() == [*kinds.OWN, "squares"]
    model = tmp_path / "m"
    document = json.loads(run("train", small.path, model, "--model", "squares", "--json"))
    assert (document["model"], document["patch_size_px"], document["latent_size"]) == ("squares", 40, 300)
    assert document["recipe"] == {"square_px": 4, "held_out": 0.15}
    assert "Squares of 4 px; for tests." in (model / "README.md").read_text()
    run("embed", small.path, model, "--json")
    patches = PatchStore(small.patches_path).read(np.arange(len(small.cells())))
    bundle = bundles.load(model)
    _, z = small.embeddings("m")
    np.testing.assert_allclose(z, bundle.encode(patches), atol=1e-6)
    measured = json.loads(run("reconstruct", small.path, model, "--json"))["bundles"][0]
    assert 0 < measured["mse"] < 0.1
    out = tmp_path / "path.json"
    run("interpolate", small.path, model, "--treatment", "drug2@0.2", "--out", out)
    assert json.loads(out.read_text())["steps"]


@pytest.mark.usefixtures("installed")
def test_a_name_of_ours_cannot_be_taken() -> None:
    assert kinds.entries()["pca"].value == kinds.OWN["pca"]


def test_a_bundle_of_a_kind_that_is_not_installed_says_so(small: Screen, tmp_path: Path) -> None:
    config = bundles.new_config("m", "squares", ("a",), 4, 40)
    with pytest.raises(BundleError, match=r"m cannot be used: there is no model 'squares'; it is one of ae, vae"):
        bundles.ready(tmp_path / "m", {}, config, {})


def test_what_is_no_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds.OWN, "odd", "json:dumps")
    monkeypatch.setitem(kinds.OWN, "gone", "cytovae.nowhere:KIND")
    with pytest.raises(ConfigError, match=r"'odd' \(json:dumps\) is a function, not a cytovae Kind"):
        kinds.get("odd")
    with pytest.raises(ConfigError, match=r"'gone' \(cytovae.nowhere:KIND\) cannot be loaded"):
        kinds.get("gone")


def test_a_finished_bundle_that_was_made_otherwise_is_not_taken_for_what_was_asked(
    blobs: Screen, small: Screen, tmp_path: Path
) -> None:
    path = tmp_path / "m"
    assert trainings.train(blobs, path, "pca", {"seed": 1}) is True
    assert trainings.train(blobs, path, "pca", {"seed": 1}) is None
    with pytest.raises(TrainingError, match=r"finished already and was made otherwise: seed 1, not 2; name another"):
        trainings.train(blobs, path, "pca", {"seed": 2})
    assert trainings.train(blobs, path, "pca") is None  # a seed that is not given is not asked for
    with pytest.raises(TrainingError, match=r"its model is pca, not vae\+"):
        trainings.train(blobs, path, "vae+")
    other = Screen.create(tmp_path / "other.screen", blobs.record)
    write_table(other.cells_path, blobs.cells().iloc[::-1], provenance("test"))
    with pytest.raises(TrainingError, match=r"its cells are those of 'blobs', not of .*other\.screen"):
        trainings.train(other, path, "pca", {"seed": 1})
    assert trainings.train(blobs, path, "pca", {"seed": 2}, kinds.Run(overwrite=True)) is True
    assert bundles.describe(path)["recipe"]["seed"] == 2


def test_a_finished_bundle_of_another_recipe_is_named_by_what_the_recipe_sets(blobs: Screen) -> None:
    kind = kinds.get("vae+")
    config = {"model": "vae+", "recipe": kind.recipe({"seed": 1}), "data": {"cells": blobs.cells_digest()}}
    assert trainings.differing(config, blobs, "vae+", {"recipe": "paper"}) == []
    found = trainings.differing(config, blobs, "vae+", {"recipe": "best"})
    assert len(found) > 1
    assert all(", not " in sentence for sentence in found)
    best = {**config, "recipe": kind.recipe({"recipe": "best"})}
    assert trainings.differing(best, blobs, "vae+", {"recipe": "best", "seed": 0}) == []
    assert trainings.differing(best, blobs, "vae+", {"recipe": "paper"})
    assert trainings.differing(best, blobs, "vae+", {}) == []
