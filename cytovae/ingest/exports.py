"""A screen handed to other tools: AnnData, parquet, or plain crops with their table; each with its provenance."""

from __future__ import annotations

import contextlib
import enum
import functools
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cytovae import omezarr, schema
from cytovae.config import to_dict
from cytovae.errors import DependencyError, ScreenError
from cytovae.images import BETWEEN_FILES
from cytovae.patches import PatchStore
from cytovae.schema import Progress
from cytovae.screen import (
    Screen,
    csv_text,
    foreign,
    neutral,
    provenance,
    read_provenance,
    whole_file,
    whole_folder,
    write_json,
    write_table,
    write_table_blocks,
)

_BLOCK = 4096
_PROVENANCE = "provenance.json"


class Format(enum.StrEnum):
    """What a screen can be written as."""

    ANNDATA = "anndata"
    PARQUET = "parquet"
    CROPS = "crops"
    OME_ZARR = "ome-zarr"
    CPG = "cpg"

    @property
    def words(self) -> str:
        """What it is."""
        return {
            "anndata": "an embedding as an AnnData file",
            "parquet": "cells as a table, with an embedding if asked",
            "crops": "a folder of all patches with their table",
            "ome-zarr": "a folder of OME-Zarr plates, a mosaic of its cells for every well",
            "cpg": "embeddings, profiles, plate maps and load_data.csv in the Cell Painting Gallery's folders",
        }[self.value]


def _record(screen: Screen, model: str | None) -> dict[str, Any]:
    """What an export was made of."""
    inputs = {"cells": screen.cells_digest()}
    config: dict[str, Any] = {"screen": to_dict(screen.record), "model": model}
    return provenance("export", config=config, inputs=inputs)


def to_parquet(screen: Screen, out: Path, model: str | None = None) -> int:
    """Cells as one parquet table, pycytominer-style; with a model its embedding as features ``z000`` and on.

    Written block by block, so memory stays flat.

    Returns
    -------
    int
        The number of cells written.

    Raises
    ------
    ScreenError
        The model has not been run on this screen.
    """
    cells, features = _cells_and_features(screen, model)
    names = [] if model is None else screen.feature_names(model)
    plain = pa.Schema.from_pandas(cells, preserve_index=False).remove_metadata()
    types = pa.schema([*plain, *(pa.field(name, pa.float32()) for name in names)])

    def blocks() -> Iterator[pd.DataFrame]:
        for first in range(0, len(cells), _BLOCK):
            block = cells.iloc[first : first + _BLOCK].reset_index(drop=True)
            if features is not None:
                values = pd.DataFrame(np.asarray(features[first : first + _BLOCK]), columns=names)
                block = pd.concat([block, values], axis=1)
            yield block

    write_table_blocks(out, types, blocks(), _record(screen, model))
    return len(cells)


def _cells_and_features(screen: Screen, model: str | None) -> tuple[pd.DataFrame, Any]:
    return (screen.cells(), None) if model is None else screen.embeddings(model)


def to_anndata(screen: Screen, out: Path, model: str) -> int:
    """Embeddings as an AnnData file (h5ad): X the features, obs the cells, ``uns["cytovae"]`` the provenance (JSON).

    Returns
    -------
    int
        The number of cells written.

    Raises
    ------
    DependencyError
        anndata is not installed.
    ScreenError
        The model has not been run on this screen.
    """
    try:
        import anndata
    except ImportError:
        raise DependencyError("AnnData needs the package anndata: pip install 'cytovae[anndata]'") from None
    cells, features = screen.embeddings(model)
    obs = cells.set_index(schema.CELL_ID)
    var = pd.DataFrame(index=pd.Index(screen.feature_names(model), name="feature"))
    data = anndata.AnnData(X=np.asarray(features), obs=obs, var=var)
    data.uns["cytovae"] = json.dumps(_record(screen, model), sort_keys=True)
    with whole_file(out) as beside:
        data.write_h5ad(beside)
    return len(cells)


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `out`: a new folder, an empty one, or an earlier export."""
    if said := foreign(out, "export", [_PROVENANCE]):
        raise ScreenError(said)
    with whole_folder(out) as folder:
        yield folder


def to_crops(screen: Screen, out: Path, progress: Progress | None = None) -> int:
    """All patches as ``cells.npz`` (``images`` uint16, ``cell_id``) with ``cells.csv`` and ``provenance.json``.

    ``cytovae ingest crops`` reads them back to the same screen. Written block by block, so memory stays flat.

    Returns
    -------
    int
        The number of cells written.
    """
    cells = screen.cells()
    store = PatchStore(screen.patches_path)
    if len(store) != len(cells):
        raise ScreenError(f"{screen.path} holds {len(store)} patches for {len(cells)} cells")
    with _whole(out) as folder:
        with zipfile.ZipFile(folder / "cells.npz", "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            with archive.open(zipfile.ZipInfo("images.npy"), "w", force_zip64=True) as handle:
                head = {"descr": "<u2", "fortran_order": False, "shape": (len(store), *store.patch_shape)}
                np.lib.format.write_array_header_1_0(handle, head)
                for first, block in store.blocks(_BLOCK):
                    handle.write(block.astype("<u2", copy=False).tobytes())
                    if progress:
                        progress(first + len(block), len(store))
            with archive.open(zipfile.ZipInfo("cell_id.npy"), "w") as handle:
                np.lib.format.write_array(handle, cells[schema.CELL_ID].to_numpy(str), allow_pickle=False)
        (folder / "cells.csv").write_text(csv_text(cells))
        write_json(folder / _PROVENANCE, _record(screen, None))
    return len(cells)


def _plate_map(cells: pd.DataFrame) -> pd.DataFrame:
    """A row a well: plate, well, and what was done to it, with such columns of the user's own as are of wells.

    Raises
    ------
    ScreenError
        The cells of a well differ.
    """
    where, about = [schema.PLATE, schema.WELL], [schema.COMPOUND, schema.CONCENTRATION, schema.MOA]
    own = [c for c in schema.own_columns(cells) if cells.groupby(where)[c].nunique(dropna=False).max() == 1]
    plate_map = cells[[*where, *about, *own]].drop_duplicates()
    if len(twice := plate_map[plate_map.duplicated(where)]):
        plate, well = twice[where].iloc[0]
        raise ScreenError(
            f"the cells of well {well} on plate {plate} differ in what was done to them: no plate map says so"
        )
    return plate_map


def to_cpg(screen: Screen, out: Path, model: str, progress: Progress | None = None) -> int:
    """A model's numbers in the folders of the Cell Painting Gallery, below what it calls ``<project>/<source>``.

    ``workspace_dl/embeddings/<model>/<batch>/<plate>/<well>-<site>/embedding.parquet`` holds a row a cell,
    ``workspace_dl/profiles/<model>/<batch>/<plate>/<plate>.parquet`` a row a well, ``workspace_dl/collated`` all wells
    and ``workspace_dl/consensus`` a row a treatment: plain means; ``Metadata_*`` columns and features, as pycytominer
    reads them. ``workspace/metadata/platemaps`` holds plate maps, and ``workspace/load_data_csv`` where the images lie,
    where every channel has a file of its own. A model is called by its name and the first 7 digits of its weights'
    digest.

    Parameters
    ----------
    screen : Screen
        With the model's embeddings and profiles.
    out : Path
    model : str
    progress : callable, optional
        Called with cells written and cells in all.

    Returns
    -------
    int
        The number of cells written.

    Raises
    ------
    ScreenError
        Embeddings or profiles are not there, the cells of a well differ in what was done to them, or two plates,
        batches or sites would lie in the same folder.
    """
    cells, features = screen.embeddings(model)
    wells, treatments = screen.profiles(model, "wells"), screen.profiles(model, "treatments")
    plate_map, made, names = _plate_map(cells), _record(screen, model), screen.feature_names(model)
    weights = read_provenance(screen.embeddings_path(model) / "index.parquet").get("inputs", {}).get("weights", "")
    of_model = _folder_name(f"{model}_{weights[:7]}" if weights else model)
    of_plate = [schema.BATCH, schema.PLATE]
    places = cells[of_plate].drop_duplicates().reset_index(drop=True)
    folders = places.map(_folder_name)
    if len(twice := places[folders.duplicated(keep=False)]):
        raise ScreenError(f"the plates {', '.join(map(str, twice[schema.PLATE][:2]))} would lie in the same folder")
    below = {
        key: Path(*folder)
        for key, folder in zip(places.itertuples(index=False, name=None), folders.to_numpy(), strict=True)
    }
    done = 0
    with _whole(out) as folder:
        learned, plain = folder / "workspace_dl", folder / "workspace"
        of_site = [*of_plate, schema.WELL, schema.SITE]
        for rows in cells.groupby(of_site).indices.values():
            batch, plate, well, site = cells[of_site].iloc[rows[0]]
            place = learned / "embeddings" / of_model / below[batch, plate] / _folder_name(f"{well}-{site}")
            if place.exists():
                raise ScreenError(f"two sites of plate {plate} would lie in the folder {place.name}")
            values = pd.DataFrame(np.asarray(features[rows]), columns=names)
            table = pd.concat([cells.iloc[rows].reset_index(drop=True), values], axis=1)
            write_table(place / "embedding.parquet", table, made)
            done += len(rows)
            if progress:
                progress(done, len(cells))
        for key, place in below.items():
            here = (wells[of_plate] == list(key)).all(axis=1)
            table = wells[here].reset_index(drop=True)
            write_table(learned / "profiles" / of_model / place / f"{place.name}.parquet", table, made)
            _write_plate_map(plain / "metadata" / "platemaps" / place.parent, key[1], place.name, plate_map)
        write_table(learned / "collated" / of_model / "collated.parquet", wells, made)
        write_table(learned / "consensus" / of_model / "consensus.parquet", treatments, made)
        for batch in dict.fromkeys(place.parent for place in below.values()):
            listed = [(plate, place.name) for (_, plate), place in below.items() if place.parent == batch]
            table = pd.DataFrame(listed, columns=["Assay_Plate_Barcode", "Plate_Map_Name"])
            (plain / "metadata" / "platemaps" / batch / "barcode_platemap.csv").write_text(csv_text(table))
        _write_load_data(screen, plain / "load_data_csv", below)
        write_json(folder / _PROVENANCE, made)
    return len(cells)


def _safe(name: object) -> str:
    """A name without what a path may not hold."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in str(name))


def _folder_name(name: object) -> str:
    """A name that a folder may have."""
    safe = _safe(name)
    return safe if safe.strip(".") else "_" * max(1, len(safe))


def _write_plate_map(folder: Path, plate: object, name: str, plate_map: pd.DataFrame) -> None:
    """What was done to the wells of a plate, as pycytominer reads it: columns without ``Metadata_``, tabs between."""
    wells = plate_map[plate_map[schema.PLATE] == plate].drop(columns=schema.PLATE)
    wells = wells.rename(columns={schema.WELL: "well_position"}).rename(columns=lambda c: c.removeprefix("Metadata_"))
    wells.insert(0, "plate_map_name", name)
    text = wells.select_dtypes(include=["object", "string"]).columns
    (folder / "platemap").mkdir(parents=True, exist_ok=True)
    table = wells.assign(**{c: wells[c].map(neutral) for c in text})
    table.to_csv(folder / "platemap" / f"{name}.txt", sep="\t", index=False)


def _write_load_data(screen: Screen, folder: Path, below: Mapping[tuple[object, ...], Path]) -> None:
    """``load_data.csv`` of every plate; nothing of a screen in which channels share files, as arrays of crops do,
    or have several.
    """
    fields = screen.fields()
    fields = fields[fields[schema.N_CELLS] > 0]
    files = fields[[f"path_{c}" for c in screen.record.channels]]
    images = files.apply(lambda column: column.str.lower().str.endswith((".tif", ".tiff", ".png"))).all(axis=None)
    stacks = files.apply(lambda column: column.str.contains(BETWEEN_FILES, regex=False)).any(axis=None)
    if not images or stacks or (files.nunique(axis=1) < files.shape[1]).any():
        return
    table = pd.DataFrame(index=fields.index)
    for channel, column in zip(screen.record.channels, files, strict=True):
        table[f"FileName_Orig{channel}"] = [PurePosixPath(name).name for name in files[column]]
        table[f"PathName_Orig{channel}"] = [PurePosixPath(name).parent.as_posix() for name in files[column]]
    table = pd.concat([table, fields[[schema.PLATE, schema.WELL, schema.SITE]]], axis=1)
    for key, place in below.items():
        here = (fields[[schema.BATCH, schema.PLATE]] == list(key)).all(axis=1)
        (folder / place).mkdir(parents=True)
        (folder / place / "load_data.csv").write_text(csv_text(table[here]))


def to_ome_zarr(screen: Screen, out: Path, progress: Progress | None = None) -> int:
    """Cells as OME-Zarr plates (NGFF 0.5): ``<plate>.zarr`` with one field a well, a mosaic of its patches row by row.

    A screen keeps cells and not its fields, so cells are what a plate can show. Beside the plates lie ``centres.csv``,
    where in the mosaics each cell lies, ``plate_map.csv`` and ``provenance.json``: ``cytovae ingest ome-zarr OUT
    --centres OUT/centres.csv --plate-map OUT/plate_map.csv`` reads the same patches back. Memory holds one well.

    Returns
    -------
    int
        The number of cells written.

    Raises
    ------
    ScreenError
        Wells are not called by row and column, or differ within in what the plate map would say of them.
    """
    cells, store = screen.cells(), PatchStore(screen.patches_path)
    wells = cells[schema.WELL].str.extract(r"^([A-Z]{1,2})(\d+)$")
    if wells.isna().any(axis=None):
        odd = cells.loc[wells.isna().any(axis=1), schema.WELL].iloc[0]
        raise ScreenError(f"{screen.path} has a well called {odd!r}, which has no place on a plate, such as B02")
    where, plate_map = [schema.PLATE, schema.WELL], _plate_map(cells)
    edge = store.patch_shape[0]
    places = cells[[schema.CELL_ID, *where]].assign(**{schema.SITE: 0, schema.OBJECT: 0})
    done = 0

    def mosaic(rows: Any) -> Any:
        nonlocal done
        across = int(np.ceil(np.sqrt(len(rows))))
        down = -(-len(rows) // across)
        at = np.arange(len(rows))
        y, x = edge * (at // across), edge * (at % across)
        image = np.zeros((store.patch_shape[2], down * edge, across * edge), np.uint16)
        for patch, top, left in zip(store.read(rows), y, x, strict=True):
            image[:, top : top + edge, left : left + edge] = np.moveaxis(patch, -1, 0)
        places.loc[rows, schema.OBJECT] = at + 1
        places.loc[rows, [schema.CENTER_Y, schema.CENTER_X]] = np.stack([y, x], axis=1) + edge // 2
        done += len(rows)
        if progress:
            progress(done, len(cells))
        return image

    with _whole(out) as folder:
        for number, (plate, of_plate) in enumerate(cells.groupby(schema.PLATE)):
            by_well = of_plate.groupby([wells.loc[of_plate.index, 0], wells.loc[of_plate.index, 1]])
            fields = {
                (str(row), str(column)): functools.partial(mosaic, rows.index.to_numpy())
                for (row, column), rows in by_well
            }
            safe = _safe(plate)
            name = f"{safe}.zarr" if not (folder / f"{safe}.zarr").exists() else f"{safe}-{number}.zarr"
            record, made = screen.record, {"cytovae": _record(screen, None)}
            omezarr.write_plate(folder / name, str(plate), fields, record.channels, record.pixel_size_um, made)
        places.to_csv(folder / "centres.csv", index=False)
        plate_map.to_csv(folder / "plate_map.csv", index=False)
        write_json(folder / _PROVENANCE, _record(screen, None))
    return len(cells)
