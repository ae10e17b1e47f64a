from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cytovae import schema
from cytovae.config import ScreenRecord
from cytovae.errors import ScreenError, SelectionError
from cytovae.learn import bundle as bundles
from cytovae.learn import embed as embeddings
from cytovae.learn import linear, reconstruct, sampling
from cytovae.learn.embed import embed
from cytovae.screen import Screen, read_provenance


@pytest.fixture
def screen(blobs: Screen, tmp_path: Path) -> Screen:
    shutil.copytree(blobs.path, tmp_path / "copy.screen")
    return Screen.open(tmp_path / "copy.screen")


@pytest.fixture(scope="module")
def pca(blobs: Screen, tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    path = tmp_path_factory.mktemp("models") / "blobs-pca"
    linear.fit(blobs, path)
    return bundles.load(path)


def test_embeddings_are_those_of_the_cells_and_carry_their_provenance(screen: Screen, pca: bundles.Bundle) -> None:
    told: list[tuple[int, int]] = []
    assert embed(screen, pca, progress=lambda done, total: told.append((done, total)))
    cells, z = screen.embeddings("blobs-pca")
    patches = np.concatenate([np.load(p) for p in sorted(screen.patches_path.glob("part-*.npy"))])
    np.testing.assert_allclose(z, pca.encode(patches), atol=1e-4)
    assert cells[schema.CELL_ID].to_list() == screen.cells()[schema.CELL_ID].to_list()
    record = read_provenance(screen.embeddings_path("blobs-pca") / "index.parquet")
    assert record["inputs"] == {"cells": screen.cells_digest(), "weights": pca.digest}
    assert told[-1] == (120, 120)


def test_what_is_embedded_is_not_embedded_again_unless_asked(screen: Screen, pca: bundles.Bundle) -> None:
    assert embed(screen, pca)
    path = screen.embeddings_path("blobs-pca") / "embeddings.npy"
    before = path.stat().st_mtime_ns
    assert not embed(screen, pca)
    assert path.stat().st_mtime_ns == before
    assert embed(screen, pca, overwrite=True)
    assert path.stat().st_mtime_ns > before


def test_an_interrupted_run_goes_on_where_it_was(
    screen: Screen, pca: bundles.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "PART_CELLS", 50)
    encoded: list[int] = []

    def failing(images: np.ndarray) -> np.ndarray:
        if len(encoded) == 2:
            raise KeyboardInterrupt
        encoded.append(len(images))
        return pca.encode(images)

    class Failing:
        def __getattr__(self, name: str) -> object:
            return failing if name == "encode" else getattr(pca, name)

    with pytest.raises(KeyboardInterrupt):
        embed(screen, Failing())  # type: ignore[arg-type]
    assert encoded == [50, 50]
    assert screen.models() == []
    encoded.clear()
    assert embed(screen, Failing())  # type: ignore[arg-type]
    assert encoded == [20]
    assert len(screen.embeddings("blobs-pca")[1]) == 120
    assert not list((screen.path / "embeddings").glob(".*"))


def test_a_model_of_other_channels_is_refused(screen: Screen, pca: bundles.Bundle) -> None:
    other = Screen.create(screen.path, ScreenRecord(name="x", channels=("DNA", "ER", "Actin")))
    with pytest.raises(ScreenError, match=r"made for 68 px patches of DNA, Tubulin, Actin, but .* of DNA, ER, Actin"):
        embed(other, pca)


def test_the_linear_baseline_is_principal_components(blobs: Screen, pca: bundles.Bundle) -> None:
    cells = blobs.cells()
    rows = sampling.training_rows(cells, pca.config["split"]["held_out_wells"])
    patches = np.concatenate([np.load(p) for p in sorted(blobs.patches_path.glob("part-*.npy"))])
    pixels = sampling.normalise(patches[rows]).reshape(len(rows), -1).astype(float)
    values = np.linalg.svd(pixels - pixels.mean(axis=0), compute_uv=False)
    z = pca.encode(patches[rows])
    np.testing.assert_allclose(np.sqrt(np.square(z).sum(axis=0))[:10], values[:10], rtol=1e-3)
    assert pca.model == "pca"
    assert pca.latent_size == len(rows) - 1
    again = pca.encode(np.clip(pca.decode(z), 0, 1))
    assert np.corrcoef(again[:, 0], z[:, 0])[0, 1] > 0.99


def test_measures_are_of_wells_not_trained_on(blobs: Screen, pca: bundles.Bundle) -> None:
    cells = blobs.cells()
    rows = reconstruct.split_rows(blobs, cells, pca, "test")
    assert set(sampling.well_names(cells).iloc[rows]) == set(pca.config["split"]["held_out_wells"])
    assert not cells[schema.BLANK].iloc[rows].any()
    assert pca.metrics["n_cells"] == len(rows) == pca.config["split"]["n_held_out_cells"]
    train = reconstruct.split_rows(blobs, cells, pca, "train")
    assert not set(train) & set(rows)
    assert sorted([*train, *rows]) == sorted(reconstruct.split_rows(blobs, cells, pca, "all"))


def test_a_split_that_is_not_there_is_an_error(blobs: Screen, pca: bundles.Bundle) -> None:
    cells = blobs.cells()
    with pytest.raises(SelectionError, match="one of test, train, all, not 'dev'"):
        reconstruct.split_rows(blobs, cells, pca, "dev")
    trained = cells[~sampling.well_names(cells).isin(pca.config["split"]["held_out_wells"])]
    with pytest.raises(SelectionError, match=r"no cell of the test split of blobs-pca; use --split all"):
        reconstruct.split_rows(blobs, trained, pca, "test")
    silent = dataclasses.replace(pca, config={**pca.config, "split": {}})
    with pytest.raises(SelectionError, match=r"blobs-pca does not say which wells it was not trained on"):
        reconstruct.split_rows(blobs, cells, silent, "test")


def test_a_model_knows_the_cells_it_was_trained_on_whatever_the_screen_is_called(
    blobs: Screen, pca: bundles.Bundle, paint: Callable[..., Screen], tmp_path: Path
) -> None:
    cells, wells = blobs.cells(), pca.config["split"]["held_out_wells"]
    assert len(pca.config["data"]["witnesses"]) == sampling.N_WITNESSES
    renamed = Screen(blobs.path, dataclasses.replace(blobs.record, name="mine", source="elsewhere"))
    assert sampling.trained_on(pca.config, renamed, cells)
    assert np.array_equal(sampling.unseen(pca.config, renamed, cells), sampling.well_names(cells).isin(wells))
    other = paint(tmp_path / "other.screen", seed=1)  # the same names and wells, other pixels
    assert other.cells()[schema.CELL_ID].equals(cells[schema.CELL_ID])
    assert not sampling.trained_on(pca.config, other, cells)
    assert sampling.unseen(pca.config, other, cells).all()
    sourced = {**pca.config, "data": {**pca.config["data"], "source": "here"}}
    assert sampling.trained_on(sourced, Screen(other.path, dataclasses.replace(other.record, source="here")), cells)
    old = {**pca.config, "data": {}}  # keeps no digests: its wells' names decide
    assert sampling.trained_on(old, other, cells)
    assert not sampling.trained_on(old, other, cells.assign(**{schema.PLATE: "P"}))


def test_treatments_take_turns(blobs: Screen) -> None:
    cells = blobs.cells()
    rows = reconstruct.some_of_each(cells, np.arange(len(cells)), 10)
    assert cells[schema.TREATMENT].iloc[rows].value_counts().to_list() == [2] * 5


def test_the_picture_has_a_row_per_model_and_a_column_per_cell(
    blobs: Screen, pca: bundles.Bundle, tmp_path: Path
) -> None:
    from PIL import Image

    ids = reconstruct.picture(blobs, [pca, pca], tmp_path / "p.png", n_cells=4, scale=1)
    assert len(ids) == len(set(ids)) == 4
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.height == 3 * 70
        assert picture.width - 4 * 70 == 8 + 7 * len("blobs-pca")
