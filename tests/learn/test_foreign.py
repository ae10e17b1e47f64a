"""Embeddings made elsewhere: each format by its own writer, each way to be wrong with its sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytovae import schema
from cytovae.errors import TableError
from cytovae.learn import foreign
from cytovae.screen import Screen, read_provenance

NAMES = ["a", "b", "c"]


@pytest.fixture
def screen(blobs: Screen, tmp_path: Path) -> Screen:
    shutil.copytree(blobs.path, tmp_path / "copy.screen")
    return Screen.open(tmp_path / "copy.screen")


@pytest.fixture
def order(screen: Screen) -> np.ndarray:
    """All rows but ten, shuffled: another tool's order."""
    return np.random.default_rng(0).permutation(len(screen.cells()))[10:]


def values(count: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 3)).astype(np.float32)


def features(z: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(z, columns=NAMES)


def write_parquet(path: Path, cells: pd.DataFrame, z: np.ndarray) -> Path:
    pd.concat([cells[[schema.CELL_ID, schema.MOA]], features(z)], axis=1).to_parquet(path / "f.parquet")
    return path / "f.parquet"


def write_csv(path: Path, cells: pd.DataFrame, z: np.ndarray) -> Path:
    pd.concat([cells[list(foreign.KEYS)], features(z)], axis=1).to_csv(path / "f.csv", index=False)
    return path / "f.csv"


def write_npz(path: Path, cells: pd.DataFrame, z: np.ndarray) -> Path:
    np.savez(path / "f.npz", cell_id=cells[schema.CELL_ID].to_numpy(str), embeddings=z)
    return path / "f.npz"


def write_h5ad(path: Path, cells: pd.DataFrame, z: np.ndarray) -> Path:
    anndata = pytest.importorskip("anndata")
    obs = cells[[schema.MOA]].set_axis(cells[schema.CELL_ID].astype(str), axis=0)
    anndata.AnnData(X=z, obs=obs, var=pd.DataFrame(index=NAMES)).write_h5ad(path / "f.h5ad")
    return path / "f.h5ad"


def write_deep_profiler(path: Path, cells: pd.DataFrame, z: np.ndarray) -> Path:
    fields = [schema.PLATE, schema.WELL, schema.SITE]
    for (plate, well, site), rows in cells.groupby(fields).indices.items():
        file = path / "features" / str(plate) / str(well) / f"{site}.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        places = cells[[schema.CENTER_X, schema.CENTER_Y]].iloc[rows] + 0.4
        metadata = {"Metadata_Plate": plate, "Metadata_Model": "x"}  # an object array, as DeepProfiler writes it
        np.savez_compressed(file, features=z[rows], metadata=np.array(metadata, object), locations=places)
    return path / "features"


@pytest.mark.parametrize("write", [write_parquet, write_csv, write_npz, write_h5ad, write_deep_profiler])
def test_each_format_gives_every_cell_its_own_embedding(
    screen: Screen, order: np.ndarray, tmp_path: Path, write: Callable[[Path, pd.DataFrame, np.ndarray], Path]
) -> None:
    cells = screen.cells()
    if write is write_deep_profiler:  # cells of a field must lie apart
        cells[schema.CENTER_X] = 10.0 + 20 * cells[schema.OBJECT]
        cells.to_parquet(screen.cells_path)
    if write is write_csv:
        cells[schema.OBJECT] = cells[schema.OBJECT].astype(int)
    z = values(len(cells))
    theirs = cells.iloc[order].reset_index(drop=True)
    path = write(tmp_path, theirs, z[order])
    done = foreign.import_embeddings(screen, path, "dino")
    assert (done.n_cells, done.n_features, done.n_without, done.already) == (len(order), 3, 10, False)
    found, stored = screen.embeddings("dino")
    position = pd.Index(cells[schema.CELL_ID]).get_indexer(found[schema.CELL_ID])
    assert sorted(position) == sorted(order)
    np.testing.assert_array_equal(stored, z[position])
    names = read_provenance(screen.embeddings_path("dino") / "index.parquet")["config"]["features"]
    assert names == (["z000", "z001", "z002"] if write in (write_npz, write_deep_profiler) else NAMES)
    assert foreign.import_embeddings(screen, path, "dino").already


def test_wells_are_found_however_many_digits_are_written(screen: Screen, tmp_path: Path) -> None:
    cells = screen.cells()
    short = cells[schema.WELL].str.replace(r"^([A-Z])0*", r"\1", regex=True).str.lower()
    assert (short != cells[schema.WELL]).any()
    path = write_csv(tmp_path, cells.assign(**{schema.WELL: short}), values(len(cells)))
    assert foreign.import_embeddings(screen, path, "dino").n_cells == len(cells)


def test_another_file_does_not_replace_what_is_there_unasked(screen: Screen, tmp_path: Path) -> None:
    cells = screen.cells()
    foreign.import_embeddings(screen, write_npz(tmp_path, cells, values(len(cells))), "dino")
    other = write_npz(tmp_path, cells, 2 * values(len(cells)))
    with pytest.raises(TableError, match="holds embeddings called 'dino' already, made from something else"):
        foreign.import_embeddings(screen, other, "dino")
    foreign.import_embeddings(screen, other, "dino", overwrite=True)
    np.testing.assert_array_equal(screen.embeddings("dino")[1], 2 * values(len(cells)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="cell_id"), "does not say which cell a row is: it needs the column cell_id"),
        (
            lambda t: t.drop(columns="cell_id").assign(Metadata_Plate="p", Metadata_Well="A01"),
            "profiles of wells are for 'cytovae benchmark --profiles'",
        ),
        (lambda t: t.assign(colour="red"), "colour holds no numbers; put Metadata_ before"),
        (lambda t: t[["cell_id"]], "has no column of features"),
        (lambda t: t.assign(cell_id=t["cell_id"] + "x"), "120 of 120 rows are no cells of this screen, the first with"),
        (lambda t: pd.concat([t, t.iloc[:2]]), "names 2 cells more than once"),
        (lambda t: t.assign(a=np.nan), "120 of 120 rows hold values that are not finite"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_and_nothing_is_written(
    screen: Screen, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    cells = screen.cells()
    table = pd.concat([cells[[schema.CELL_ID]], features(values(len(cells)))], axis=1)
    change(table).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(TableError, match=message):
        foreign.import_embeddings(screen, tmp_path / "t.parquet", "dino")
    assert screen.models() == []


def test_nothing_is_unpickled(screen: Screen, tmp_path: Path) -> None:
    ids = screen.cells()[schema.CELL_ID].to_numpy(object)
    np.savez(tmp_path / "f.npz", cell_id=ids, embeddings=values(len(ids)))
    with pytest.raises(TableError, match="cannot be read as npz: Object arrays cannot be loaded"):
        foreign.import_embeddings(screen, tmp_path / "f.npz", "dino")


def test_a_centre_that_no_cell_has_is_refused(screen: Screen, tmp_path: Path) -> None:
    cells = screen.cells()
    cells[schema.CENTER_X] = 10.0 + 20 * cells[schema.OBJECT]
    cells.to_parquet(screen.cells_path)
    folder = write_deep_profiler(tmp_path, cells.assign(**{schema.CENTER_Y: 38.0}), values(len(cells)))
    with pytest.raises(TableError, match="120 of 120 rows are no cells of this screen"):
        foreign.import_embeddings(screen, folder, "dino")


@pytest.mark.parametrize("name", ["", "../x", ".hidden", "a/b"])
def test_a_name_that_leaves_the_folder_is_refused(screen: Screen, tmp_path: Path, name: str) -> None:
    with pytest.raises(TableError, match="a name for embeddings is one word without slashes"):
        foreign.import_embeddings(screen, tmp_path / "f.npz", name)


@pytest.mark.parametrize("name", ["Unnamed: 0", "", "ObjectNumber", "image_number", "Number_Object_Number", "index"])
def test_a_column_that_counts_rows_is_no_feature(screen: Screen, tmp_path: Path, name: str) -> None:
    cells = screen.cells()
    table = pd.concat([cells[[schema.CELL_ID]], features(values(len(cells)))], axis=1)
    table.insert(0, name, range(len(cells)))
    table.to_csv(tmp_path / "f.csv", index=False)
    with pytest.raises(TableError, match="counts rows, which is no feature; leave it out"):
        foreign.import_embeddings(screen, tmp_path / "f.csv", "x")
