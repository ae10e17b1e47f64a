from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cytovae.cli import console, verbs  # noqa: F401  (registers the verbs)
from cytovae.errors import BundleError
from cytovae.explore.generator import Generator
from cytovae.learn import bundle as bundles
from cytovae.learn import generators, kinds
from cytovae.patches import PatchStore, normalise
from cytovae.screen import Screen
from tests.learn.test_kinds import run

MODULE = """
import numpy as np


class Halves:
    name, patch_size_px, channels, latent_size = "halves", 4, ("DNA",), 2

    def encode(self, images):
        return images.reshape(len(images), 2, -1).mean(axis=2).astype(np.float32)

    def decode(self, z):
        return np.repeat(z, 8, axis=1).reshape(-1, 4, 4, 1).astype(np.float32)


def make():
    return Halves()


class Half:
    name = "half"

    def encode(self, images):
        return images


number = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere_generators.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_factory_gives_a_generator() -> None:
    made = generators.open_model("elsewhere_generators:make")
    assert isinstance(made, Generator)
    z = np.array([[0.25, 0.75]], np.float32)
    np.testing.assert_array_equal(made.encode(made.decode(z)), z)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("elsewhere_generators:", "is written package.module:factory, not 'elsewhere_generators:'"),
        ("no_such_module:make", "'no_such_module:make' cannot be loaded: No module named 'no_such_module'"),
        ("elsewhere_generators:absent", "cannot be loaded: module 'elsewhere_generators' has no attribute 'absent'"),
        ("elsewhere_generators:number", "is a int, not a function to call"),
        ("elsewhere_generators:Half", "is no generator: it has no patch_size_px, channels, latent_size, decode"),
    ],
)
def test_what_is_no_generator_is_refused(named: str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        generators.open_model(named)


def test_a_bundle_is_opened_by_its_name() -> None:
    assert generators.open_model("phantom-ae").name == "phantom-ae"


def test_answers_of_a_generator_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    made = generators.load("elsewhere_generators:make")
    monkeypatch.setattr(type(made.made), "decode", lambda self, z: z)
    with pytest.raises(BundleError, match=r"decode of the generator .* gives the shape \(1, 2\), not \(1, 4, 4, 1\)"):
        made.decode(np.zeros((1, 2), np.float32))
    monkeypatch.setattr(type(made.made), "encode", lambda self, images: np.full((1, 2), np.nan))
    with pytest.raises(BundleError, match="gives values that are not numbers"):
        made.encode(np.zeros((1, 4, 4, 1), np.uint16))


@pytest.mark.parametrize("example", ["example_vae", "example_flow"])
def test_the_examples_of_the_docs_draw_paths_and_stand_behind_every_verb(
    example: str, blobs: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    module = importlib.import_module(example)
    images = PatchStore(blobs.patches_path).read(np.arange(len(blobs.cells())))
    module.train(images, blobs.record.channels, tmp_path / "weights.npz")
    monkeypatch.setenv(example.upper(), str(tmp_path / "weights.npz"))
    screen = Screen.open(shutil.copytree(blobs.path, tmp_path / "a.screen"))
    generator = generators.load(f"{example}:make")
    again = generator.decode(generator.encode(images))
    target = normalise(images)
    assert ((again - target) ** 2).mean() < 0.7 * ((target.mean(axis=0) - target) ** 2).mean()
    z = np.random.default_rng(0).normal(size=(5, generator.latent_size)).astype(np.float32)
    if example == "example_flow":  # the field followed there and back
        np.testing.assert_allclose(
            generator.made.carried(generator.made.carried(z, 0, 1 / 40), 1, -1 / 40), z, atol=1e-3
        )
    run("embed", screen.path, f"{example}:make")
    out = tmp_path / "path.json"
    run("interpolate", screen.path, "--generator", f"{example}:make", "--treatment", "drug2@0.2", "--out", out)
    assert json.loads(out.read_text())["steps"]
    monkeypatch.setitem(kinds.OWN, "theirs", f"{example}:KIND")
    run("train", screen.path, tmp_path / generator.name, "--model", "theirs")
    card = (tmp_path / generator.name / "README.md").read_text()
    assert "It was trained elsewhere; on which cells is not known here." in card
    bundle = bundles.load(tmp_path / generator.name)
    np.testing.assert_allclose(bundle.decode(z), generator.decode(z), atol=1e-6)
    module.train(images[:-2], blobs.record.channels, tmp_path / "weights.npz")
    with pytest.raises(BundleError, match=r"stands for .*:make as it was .*, and that is another now"):
        bundles.load(tmp_path / generator.name)


def test_one_of_bundle_and_generator_is_named(blobs: Screen) -> None:
    for words in ([], ["phantom-ae", "--generator", "a:b"], ["--generator", "a"]):
        ran = CliRunner().invoke(console.app, ["interpolate", str(blobs.path), *words, "--json"])
        assert ran.exit_code == 2
