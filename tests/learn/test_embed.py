from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from cytovae import schema
from cytovae.cluster import Shard
from cytovae.config import ScreenRecord, to_dict
from cytovae.errors import ScreenError, SelectionError
from cytovae.learn import bundle as bundles
from cytovae.learn import embed as embeddings
from cytovae.learn import linear, reconstruct, sampling
from cytovae.learn.embed import embed
from cytovae.patches import PatchStore, write_part
from cytovae.screen import Screen, provenance, read_provenance, write_json, write_table


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


@pytest.mark.parametrize("at", [0, 40])
def test_a_damaged_table_of_cells_is_refused_before_the_work(screen: Screen, pca: bundles.Bundle, at: int) -> None:
    """At 0 nothing can be read of it, at 40 its foot can be and its cells cannot."""
    content = bytearray(screen.cells_path.read_bytes())
    content[at:-8000] = bytes(len(content) - 8000 - at) if at else b""
    screen.cells_path.write_bytes(content if at else b"")
    with pytest.raises(ScreenError, match=r"cells\.parquet cannot be read as parquet"):
        embed(screen, pca)
    assert not list((screen.path / "embeddings").glob(".*"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("intensity", [False, True])
def test_shards_and_a_cluster_embed_byte_for_byte_as_one_process(
    screen: Screen, pca: bundles.Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, intensity: bool
) -> None:
    monkeypatch.setattr(embeddings, "PART_CELLS", 50)
    options = embeddings.Options(intensity=intensity)
    path = screen.embeddings_path(options.name("blobs-pca"))

    def made() -> dict[str, bytes]:
        found = {p.name: p.read_bytes() for p in path.iterdir()}
        shutil.rmtree(path)
        return found

    with threadpool_limits(1):  # as in a worker: the last digits of a sum depend on the number of threads
        assert embed(screen, pca, options=options)
        one = made()
    assert set(one) == {"embeddings.npy", "index.parquet"}
    with threadpool_limits(1):
        embed(screen, pca, options=options, shard=Shard(2, 2))
        with pytest.raises(ScreenError, match=r"1 of 3 parts of .* are not made yet, the first being 1"):
            embeddings.merge(screen)
        embed(screen, pca, options=options, shard=Shard(1, 2))
    assert embeddings.merge(screen) == [path.name]
    assert made() == one
    if not intensity:
        embed(screen, pca, workers="local:2")
        assert made() == one


def test_cells_that_came_later_are_embedded_alone(screen: Screen, pca: bundles.Bundle) -> None:
    assert embed(screen, pca)
    path = screen.embeddings_path("blobs-pca")
    whole = {p.name: p.read_bytes() for p in path.iterdir()}
    cells, z = screen.embeddings("blobs-pca")
    record = read_provenance(path / "index.parquet")
    screen.write_embeddings("blobs-pca", cells[schema.CELL_ID].to_list()[:100], np.array(z[:100]), record)
    told: list[tuple[int, int]] = []
    assert embed(screen, pca, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (20, 20)
    np.testing.assert_allclose(screen.embeddings("blobs-pca")[1], z, atol=1e-4)
    assert (path / "index.parquet").read_bytes() == whole["index.parquet"]
    assert not embed(screen, pca)


def test_the_mean_over_orientations_does_not_depend_on_how_a_cell_lies(screen: Screen, pca: bundles.Bundle) -> None:
    patches = PatchStore(screen.patches_path).read(np.arange(6))
    z = embeddings.mean_of_orientations(pca, patches)
    naive = [
        pca.encode(np.ascontiguousarray(np.rot90(p, k, axes=(1, 2))))
        for p in (patches, patches[:, :, ::-1])
        for k in range(4)
    ]
    np.testing.assert_allclose(z, np.mean(naive, axis=0), atol=1e-3)
    turned = sampling.turned(patches, np.arange(2, 8))
    np.testing.assert_allclose(embeddings.mean_of_orientations(pca, turned), z, atol=1e-3)
    assert embed(screen, pca, options=embeddings.Options(orientations=8))
    _, stored = screen.embeddings("blobs-pca.turned")
    np.testing.assert_allclose(stored[:6], z, atol=1e-3)
    assert screen.models() == ["blobs-pca.turned"]  # the plain embedding has its own place


def test_intensities_are_named_features_scaled_on_each_plates_controls(screen: Screen, pca: bundles.Bundle) -> None:
    assert embed(screen, pca, options=embeddings.Options(intensity=True))
    cells, stored = screen.embeddings("blobs-pca.intensity")
    record = read_provenance(screen.embeddings_path("blobs-pca.intensity") / "index.parquet")
    names = record["config"]["features"]
    assert names[pca.latent_size :] == ["log_max_DNA", "log_max_Tubulin", "log_max_Actin", "log_area_nucleus"]
    assert len(names) == stored.shape[1]
    patches = np.concatenate([np.load(p) for p in sorted(screen.patches_path.glob("part-*.npy"))])
    expected = np.log1p(patches.max(axis=(1, 2)).astype(float)).astype(np.float32).astype(float)
    controls = (cells[schema.COMPOUND] == "DMSO") & ~cells[schema.BLANK]
    for plate in cells[schema.PLATE].unique():
        here = (cells[schema.PLATE] == plate).to_numpy()
        some = expected[here & controls]
        z = (expected[here] - some.mean(axis=0)) / some.std(axis=0, ddof=1)
        np.testing.assert_allclose(stored[here, pca.latent_size : -1], z, rtol=1e-3, atol=1e-3)
    area = stored[:, -1]
    treated = cells[schema.TREATMENT].to_numpy()
    shown = ~cells[schema.BLANK].to_numpy()
    assert np.median(area[(treated == "drug4@0.4") & shown]) > np.median(area[(treated == "drug1@0.1") & shown])


def test_a_plate_without_controls_is_scaled_on_all_of_them_and_named() -> None:
    cells = pd.DataFrame(
        {
            schema.COMPOUND: ["DMSO", "DMSO", "a", "a"],
            schema.PLATE: ["p", "p", "p", "q"],
            schema.BLANK: False,
        }
    )
    values, poor = embeddings.scaled_on_controls(np.array([[1.0], [3.0], [4.0], [6.0]]), cells, "DMSO")
    np.testing.assert_allclose(values[:, 0], (np.array([1, 3, 4, 6]) - 2) / np.sqrt(2), rtol=1e-6)
    assert poor == ["q"]
    with pytest.raises(ScreenError, match=r"has 0 of 'water'; embed without --with-intensity"):
        embeddings.scaled_on_controls(np.zeros((4, 1)), cells, "water")


def test_a_model_of_other_channels_is_refused(screen: Screen, pca: bundles.Bundle) -> None:
    other = Screen.create(screen.path, ScreenRecord(name="x", channels=("DNA", "ER", "Actin")))
    with pytest.raises(ScreenError, match=r"made for 68 px patches of DNA, Tubulin, Actin, but .* of DNA, ER, Actin"):
        embed(other, pca)


def test_the_linear_baseline_is_principal_components(blobs: Screen, pca: bundles.Bundle) -> None:
    cells = blobs.cells()
    rows = sampling.split(cells).training_rows(cells)
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
    every = sampling.digests(PatchStore(blobs.patches_path), np.arange(len(cells)))
    everything = dataclasses.replace(pca, trained_on=np.unique(every))
    with pytest.raises(SelectionError, match=r"no cell of the test split of blobs-pca; use --split all"):
        reconstruct.split_rows(blobs, cells, everything, "test")
    silent = dataclasses.replace(pca, config={**pca.config, "split": {}})
    with pytest.raises(SelectionError, match=r"blobs-pca does not say which wells it was not trained on"):
        reconstruct.split_rows(blobs, cells, silent, "test")


def test_a_model_knows_the_cells_it_was_trained_on_whatever_the_screen_is_called(
    blobs: Screen, pca: bundles.Bundle, paint: Callable[..., Screen], tmp_path: Path
) -> None:
    cells, wells = blobs.cells(), pca.config["split"]["held_out_wells"]
    known = pca.trained_on
    assert known is not None
    assert len(known) == pca.config["data"]["n_training_cells"]
    assert np.array_equal(bundles.trained_patches(pca.path), known)
    held = sampling.well_names(cells).isin(wells) & ~cells[schema.BLANK]
    renamed = Screen(blobs.path, dataclasses.replace(blobs.record, name="mine", source="elsewhere"))
    assert sampling.trained_on(pca.config, known, renamed, cells)
    blank = cells[schema.BLANK].to_numpy()
    unseen = sampling.unseen(pca.config, known, renamed, cells)
    assert unseen is not None
    assert np.array_equal(unseen[~blank], held[~blank])
    other = paint(tmp_path / "other.screen", seed=1)  # the same names and wells, other pixels
    assert other.cells()[schema.CELL_ID].equals(cells[schema.CELL_ID])
    assert not sampling.trained_on(pca.config, known, other, cells)
    assert sampling.unseen(pca.config, known, other, cells).all()
    sourced = {**pca.config, "data": {**pca.config["data"], "source": "here"}}
    same = Screen(other.path, dataclasses.replace(other.record, source="here"))
    assert sampling.trained_on(sourced, known, same, cells)
    assert np.array_equal(sampling.unseen(sourced, known, same, cells), sampling.well_names(cells).isin(wells))
    old = {**pca.config, "data": {}}  # keeps no digests: its wells' names decide
    assert sampling.trained_on(old, None, other, cells)
    assert not sampling.trained_on(old, None, other, cells.assign(**{schema.PLATE: "P"}))


def test_the_same_pixels_are_known_by_new_ids_in_new_wells_and_in_a_part_of_the_screen(
    blobs: Screen, pca: bundles.Bundle, tmp_path: Path
) -> None:
    cells = blobs.cells()
    rows = np.concatenate([np.arange(80, 60, -1), np.arange(100, 120)])
    patches = np.concatenate([np.load(p) for p in sorted(blobs.patches_path.glob("part-*.npy"))])
    part = Screen.create(tmp_path / "part.screen", dataclasses.replace(blobs.record, name="part"))
    write_part(part.patches_path, 0, patches[rows])
    named = cells.iloc[rows].assign(**{schema.CELL_ID: [f"n{i}" for i in range(len(rows))], schema.PLATE: "new"})
    write_table(part.cells_path, named, provenance("test"))
    seen = ~sampling.unseen(pca.config, pca.trained_on, part, part.cells())
    trained = np.isin(rows, sampling.split(cells).training_rows(cells))
    assert 0 < trained.sum() < len(rows)
    wells = named[schema.WELL].to_numpy()
    assert np.array_equal(seen, np.isin(wells, wells[trained]))  # a well of which one cell was trained on


def test_bundles_that_keep_32_digests_by_id_still_know_their_cells(
    blobs: Screen, pca: bundles.Bundle, paint: Callable[..., Screen], tmp_path: Path
) -> None:
    cells = blobs.cells()
    patches = np.concatenate([np.load(p) for p in sorted(blobs.patches_path.glob("part-*.npy"))])
    rows = sampling.split(cells).training_rows(cells)[::3]
    kept = {cells[schema.CELL_ID].iloc[row]: hashlib.sha256(patches[row].tobytes()).hexdigest() for row in rows}
    old = {**pca.config, "data": {**pca.config["data"], "witnesses": kept}}
    assert sampling.trained_on(old, None, blobs, cells)
    wells = sampling.well_names(cells).isin(pca.config["split"]["held_out_wells"])
    assert np.array_equal(sampling.unseen(old, None, blobs, cells), wells)
    other = paint(tmp_path / "other.screen", seed=1)
    assert sampling.unseen(old, None, other, cells).all()


def test_digests_are_the_first_bytes_of_the_sha256_of_the_pixels(blobs: Screen) -> None:
    patches = np.concatenate([np.load(p) for p in sorted(blobs.patches_path.glob("part-*.npy"))])
    found = sampling.digests(PatchStore(blobs.patches_path), np.array([7, 3]))
    expected = [int.from_bytes(hashlib.sha256(patches[i].tobytes()).digest()[:8], "little") for i in (7, 3)]
    assert found.tolist() == expected


def test_a_screen_without_wells_to_spare_keeps_cells_out_and_says_that_it_is_weaker(
    paint: Callable[..., Screen], tmp_path: Path
) -> None:
    screen = paint(tmp_path / "small.screen", n_treatments=4, wells=1, cells_each=20)
    cells = screen.cells()
    split = sampling.split(cells, 0.3)
    assert split.by is sampling.By.CELLS
    assert split.wells == []
    trained, tested = split.training_rows(cells), split.test_rows(cells)
    assert len(tested) > 5
    assert not set(trained) & set(tested)
    assert sorted([*trained, *tested]) == list(np.flatnonzero(~cells[schema.BLANK]))
    assert set(cells[schema.TREATMENT].iloc[trained]) == set(cells[schema.TREATMENT])
    everything = sampling.split(cells, 0.999)
    assert everything.training_rows(cells).size == 4  # a cell of each treatment is left
    linear.fit(screen, tmp_path / "m", linear.Recipe(held_out=0.3))
    bundle = bundles.load(tmp_path / "m")
    assert bundle.config["split"]["by"] == "cells"
    assert "weaker than a split by well" in bundle.config["split"]["rule"]
    assert "This is weaker than a split by well" in (tmp_path / "m" / "README.md").read_text()
    assert bundle.metrics["n_cells"] == len(tested)
    unseen = sampling.unseen(bundle.config, bundle.trained_on, screen, cells)
    assert unseen is not None
    assert np.array_equal(np.flatnonzero(unseen & ~cells[schema.BLANK]), tested)


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


def test_a_screen_of_another_magnification_is_refused(screen: Screen, blobs: Screen, tmp_path: Path) -> None:
    for path, size in ((screen.path, 0.2), (tmp_path / "trained.screen", 0.65)):
        if path != screen.path:
            shutil.copytree(blobs.path, path)
        write_json(path / "screen.json", to_dict(dataclasses.replace(blobs.record, pixel_size_um=size)))
    linear.fit(Screen.open(tmp_path / "trained.screen"), tmp_path / "m")
    model, other = bundles.load(tmp_path / "m"), Screen.open(screen.path)
    assert model.pixel_size_um == 0.65
    said = "m was trained on pixels of 0.65 um and the pixels of 'blobs' are of 0.2 um, so its cells look 3.2 times"
    with pytest.raises(ScreenError, match=said):
        embed(other, model)
    with pytest.raises(ScreenError, match=said):
        reconstruct.reconstruct(other, np.arange(3), model)
    assert embed(Screen.open(tmp_path / "trained.screen"), model)
    assert embed(Screen.open(shutil.copytree(blobs.path, tmp_path / "x.screen")), model)  # of a size that nobody knows


def test_imported_embeddings_of_the_same_name_are_not_replaced_unasked(screen: Screen, pca: bundles.Bundle) -> None:
    ids = screen.cells()[schema.CELL_ID].to_list()
    made = provenance("import", inputs={"cells": screen.cells_digest()})
    screen.write_embeddings(pca.name, ids, np.ones((len(ids), 5), np.float32), made)
    with pytest.raises(ScreenError, match="holds imported embeddings called 'blobs-pca'; import those under another"):
        embed(screen, pca)
    assert screen.embeddings(pca.name)[1].shape == (len(ids), 5)
    assert embed(screen, pca, overwrite=True)
