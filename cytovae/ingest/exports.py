"""A screen handed to other tools: AnnData, parquet, or plain crops with their table; each with its provenance."""

from __future__ import annotations

import enum
import functools
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cytovae import omezarr, schema
from cytovae.config import to_dict
from cytovae.errors import DependencyError, ScreenError
from cytovae.patches import PatchStore
from cytovae.schema import Progress
from cytovae.screen import Screen, csv_text, provenance, whole_file, whole_folder, write_json, write_table_blocks

_BLOCK = 4096


class Format(enum.StrEnum):
    """What a screen can be written as."""

    ANNDATA = "anndata"
    PARQUET = "parquet"
    CROPS = "crops"
    OME_ZARR = "ome-zarr"

    @property
    def words(self) -> str:
        """What it is."""
        return {
            "anndata": "an embedding as an AnnData file",
            "parquet": "cells as a table, with an embedding if asked",
            "crops": "a folder of all patches with their table",
            "ome-zarr": "a folder of OME-Zarr plates, a mosaic of its cells for every well",
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
    with whole_folder(out) as folder:
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
        write_json(folder / "provenance.json", _record(screen, None))
    return len(cells)


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
    where, about = [schema.PLATE, schema.WELL], [schema.COMPOUND, schema.CONCENTRATION, schema.MOA]
    own = schema.own_columns(cells)
    own = [c for c in own if cells.groupby(where)[c].nunique(dropna=False).max() == 1]
    plate_map = cells[[*where, *about, *own]].drop_duplicates()
    if len(twice := plate_map[plate_map.duplicated(where)]):
        plate, well = twice[where].iloc[0]
        raise ScreenError(
            f"the cells of well {well} on plate {plate} differ in what was done to them: no plate map says so"
        )
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

    with whole_folder(out) as folder:
        for number, (plate, of_plate) in enumerate(cells.groupby(schema.PLATE)):
            by_well = of_plate.groupby([wells.loc[of_plate.index, 0], wells.loc[of_plate.index, 1]])
            fields = {
                (str(row), str(column)): functools.partial(mosaic, rows.index.to_numpy())
                for (row, column), rows in by_well
            }
            safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in str(plate))
            name = f"{safe}.zarr" if not (folder / f"{safe}.zarr").exists() else f"{safe}-{number}.zarr"
            record, made = screen.record, {"cytovae": _record(screen, None)}
            omezarr.write_plate(folder / name, str(plate), fields, record.channels, record.pixel_size_um, made)
        places.to_csv(folder / "centres.csv", index=False)
        plate_map.to_csv(folder / "plate_map.csv", index=False)
        write_json(folder / "provenance.json", _record(screen, None))
    return len(cells)
