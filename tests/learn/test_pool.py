"""Training on several screens: cells of all, treatments of the same name together, wells held out in each."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cytovae import schema
from cytovae.cli import console, verbs  # noqa: F401  (registers the verbs)
from cytovae.config import ScreenRecord
from cytovae.errors import ConfigError, TrainingError
from cytovae.learn import bundle as bundles
from cytovae.learn import kinds, linear, models, reconstruct, sampling
from cytovae.learn import train as trainings
from cytovae.learn.pool import Pool
from cytovae.patches import PatchStore, write_part
from cytovae.screen import Screen, provenance, write_table


@pytest.fixture(scope="module")
def two(blobs: Screen, paint: Callable[..., Screen], tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """The blobs, and a screen with wells of the same names, two of the same treatments and cells of its own."""
    other = paint(tmp_path_factory.mktemp("other") / "more.screen", n_treatments=3, wells=5, cells_each=4, seed=9)
    Screen.create(other.path, dataclasses.replace(other.record, name="more", source="elsewhere", licence="CC0"))
    return Pool([blobs, Screen.open(other.path)])


def test_of_one_screen_everything_is_as_it_says(blobs: Screen) -> None:
    pool, cells = Pool.of(blobs), blobs.cells()
    split = sampling.split(cells)
    assert pool.cells().equals(cells) and pool.cells_digest() == blobs.cells_digest()
    assert isinstance(pool.store(), PatchStore)
    assert pool.split_record(0.15) == sampling.split_record(cells, split, 0.15)
    rows = split.training_rows(cells)
    assert pool.data_record(rows) == sampling.data_record(blobs, cells, rows)


def test_patches_and_digests_are_those_of_the_screens_in_any_order(two: Pool) -> None:
    patches = np.concatenate([s.read(np.arange(len(s))) for s in (PatchStore(s.patches_path) for s in two.screens)])
    digests = np.concatenate([PatchStore(s.patches_path).digests() for s in two.screens])
    rows = np.random.default_rng(0).integers(0, len(patches), 60)
    store = two.store()
    assert len(store) == len(patches) == len(two.cells())
    assert np.array_equal(store.read(rows), patches[rows])
    assert np.array_equal(store.digests(rows), digests[rows]) and np.array_equal(store.digests(), digests)


def test_each_screen_holds_out_what_it_would_alone_and_treatments_are_balanced_over_all(two: Pool) -> None:
    split, cells = two.split(0.3), two.cells()
    alone = [sampling.split(s.cells(), 0.3) for s in two.screens]
    assert np.array_equal(split.kept_out, np.concatenate([s.kept_out for s in alone])) and split.kept_out.any()
    rows = split.training_rows(cells)
    names = cells[schema.TREATMENT].iloc[rows].to_list()
    sampler = sampling.TreatmentSampler(two.store(), rows, names)
    assert len(sampler.treatments) == 5
    rng, drawn = np.random.default_rng(0), []
    for _ in range(40):
        batch = sampler.draw_rows(5, rng)
        assert cells[schema.TREATMENT].iloc[batch].nunique() == 5
        drawn += batch.tolist()
    assert set(drawn) <= set(rows.tolist())
    shared = [row for row in drawn if cells[schema.TREATMENT].iloc[row] == "DMSO@0"]
    assert {row < len(two.screens[0].cells()) for row in shared} == {True, False}


def test_a_bundle_says_what_each_screen_gave_and_knows_the_unseen_cells_of_each(two: Pool, tmp_path: Path) -> None:
    linear.fit(two, tmp_path / "both", linear.Recipe(held_out=0.3))
    bundle = bundles.load(tmp_path / "both")
    data, split = bundle.config["data"], bundle.config["split"]
    assert data["screen"] == "blobs + more" and data["source"] == "elsewhere" and data["licence"] == ""
    assert [one["screen"] for one in data["screens"]] == ["blobs", "more"]
    assert sum(one["n_training_cells"] for one in data["screens"]) == data["n_training_cells"]
    alone = [sampling.split(s.cells(), 0.3) for s in two.screens]
    assert [one["held_out_wells"] for one in split["screens"]] == [one.wells for one in alone]
    assert split["n_held_out_cells"] == bundle.metrics["n_cells"]
    for screen, own in zip(two.screens, alone, strict=True):
        cells = screen.cells()
        rows = reconstruct.split_rows(screen, cells, bundle, reconstruct.Split.TEST)
        assert np.array_equal(rows, own.test_rows(cells))
    pixels = np.concatenate(
        [
            sampling.normalise(PatchStore(s.patches_path).read(own.training_rows(s.cells())))
            for s, own in zip(two.screens, alone, strict=True)
        ]
    )
    mean = pixels.reshape(len(pixels), -1).astype(np.float64).mean(axis=0)
    from safetensors.numpy import load_file

    np.testing.assert_allclose(load_file(tmp_path / "both" / bundles.WEIGHTS)["mean"], mean, atol=1e-5)
    assert "- more: " in (tmp_path / "both" / "README.md").read_text()


def test_networks_are_trained_and_a_killed_training_knows_its_screens(two: Pool, tmp_path: Path) -> None:
    recipe = trainings.Recipe("vae", iterations=2, batch_size=4, period=1)
    here = trainings.Machine(device="cpu", threads=1)
    trainings.train(two, tmp_path / "m", recipe, machine=here, pictures_every=1)
    assert bundles.load(tmp_path / "m").config["data"]["cells"] == two.cells_digest()
    assert models.differing(bundles.describe(tmp_path / "m"), two, "vae", {}) == []
    alone = models.differing(bundles.describe(tmp_path / "m"), two.screens[0], "vae", {})
    assert alone == [f"its cells are those of 'blobs + more', not of {two.screens[0].path}"]


def test_the_verb_takes_more_screens(two: Pool, tmp_path: Path) -> None:
    one, other = (str(screen.path) for screen in two.screens)
    words = ["train", one, str(tmp_path / "m"), "--model", "pca", "--also", other, "--json"]
    ran = CliRunner().invoke(console.app, words, catch_exceptions=False)
    assert ran.exit_code == 0 and json.loads(ran.stdout)["data"]["screen"] == "blobs + more"
    again = CliRunner().invoke(console.app, words, catch_exceptions=False)
    assert "already there" in again.stderr


def test_screens_that_do_not_belong_together_are_refused(blobs: Screen, tmp_path: Path, monkeypatch) -> None:
    patches, cells = PatchStore(blobs.patches_path).read(np.arange(20)), blobs.cells().iloc[:20]

    def like(name: str, **record: object) -> Screen:
        made = {"name": name, "channels": blobs.record.channels, **record}
        screen = Screen.create(tmp_path / name, ScreenRecord(**made))  # type: ignore[arg-type]
        write_part(screen.patches_path, 0, patches)
        write_table(screen.cells_path, cells, provenance("test"))
        return screen

    for name, record, said in (
        ("a", {"control": "water"}, "control 'water', not 'DMSO'"),
        ("b", {"pixel_size_um": 0.5}, "pixel_size_um 0.5, not None"),
        ("c", {"channels": ("DNA", "Actin", "Tubulin")}, r"channels \['DNA', 'Actin', 'Tubulin'\], not"),
    ):
        with pytest.raises(TrainingError, match=f"cannot be trained on together with .*{said}"):
            Pool([blobs, like(name, **record)])
    with pytest.raises(TrainingError, match=r"holds cells of .*; a cell is trained on once"):
        Pool([blobs, like("d")])
    one_only = dataclasses.replace(kinds.get("pca"), several=False)
    monkeypatch.setattr(kinds, "get", lambda name: one_only)
    with pytest.raises(ConfigError, match="models of the kind 'pca' are trained on one screen"):
        models.train(Pool([blobs]), tmp_path / "m", "pca")
