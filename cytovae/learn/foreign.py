"""Embeddings made elsewhere, brought into a screen: read, joined to its cells, written like our own.

One file (parquet, CSV, npz, AnnData's h5ad) or DeepProfiler's folder of features. Rows are joined by ``cell_id`` or by
plate, well, site and object number; DeepProfiler's by the centres of the cells. A row that is no cell of the screen, a
cell named twice or a value that is not finite is refused: nothing is dropped or guessed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import locks, schema
from cytovae.errors import BusyError, DependencyError, TableError, first_line
from cytovae.screen import Screen, digest_file, parse_csv, provenance, read_provenance, read_table

KEYS = (schema.PLATE, schema.WELL, schema.SITE, schema.OBJECT)
CENTRES_AGREE_PX = 2.0
"""Centres of one cell in two tables are at most so far apart."""
FORMATS = ".parquet, .csv, .csv.gz, .npz, .h5ad, or a folder of DeepProfiler's features"
_COUNTS = re.compile(r"(|Unnamed: ?\d+|index|level_\d|row|(Image|Object)_?Number|Number_Object_Number)", re.IGNORECASE)
"""Columns that number rows, images or objects, as pandas and CellProfiler write them."""


@dataclasses.dataclass(frozen=True)
class Foreign:
    """Embeddings as another tool wrote them.

    Parameters
    ----------
    keys : DataFrame
        Who each row is: ``cell_id``, or `KEYS`, or the first three of them and the centre (px).
    values : (n, d) float32
    features : list of str
        Their names.
    """

    keys: pd.DataFrame
    values: npt.NDArray[np.float32]
    features: list[str]


@dataclasses.dataclass(frozen=True)
class Imported:
    """What an import did.

    Parameters
    ----------
    n_cells, n_features : int
        Cells that have an embedding now, and its length.
    n_without : int
        Cells of the screen that the file says nothing of.
    already : bool
        The very same file was imported before, and nothing was done.
    """

    n_cells: int
    n_features: int
    n_without: int
    already: bool = False


def import_embeddings(screen: Screen, path: Path, name: str, overwrite: bool = False) -> Imported:
    """Bring embeddings made elsewhere into a screen.

    Parameters
    ----------
    screen : Screen
    path : Path
        See `FORMATS`.
    name : str
        What they are called here, as a model is.
    overwrite : bool
        Replace embeddings of this name.

    Raises
    ------
    TableError
        The file is not understood, or does not belong to the screen's cells: says what is wrong with it.
    """
    if not name.strip() or name.startswith(".") or {*"/\\"} & {*name} or len(name) > 100 or not name.isprintable():
        raise TableError(f"a name for embeddings is one word without slashes, such as 'dino', not {name!r}")
    inputs = {"cells": screen.cells_digest(), "file": _digest(path)}
    index = screen.embeddings_path(name) / "index.parquet"
    cells = screen.cells()
    if index.exists() and not overwrite:
        if read_provenance(index).get("inputs") != inputs:
            raise TableError(
                f"{screen.path} holds embeddings called {name!r} already, made from something else; choose another "
                "--name, or replace them with --overwrite"
            )
        if locks.abandoned(index.parent):
            with contextlib.suppress(BusyError, OSError), locks.held(index.parent, "import"):
                pass
        found = screen.embeddings(name)[1]
        return Imported(len(found), found.shape[1], len(cells) - len(found), already=True)
    read = load(path)
    bad = int((~np.isfinite(read.values).all(axis=1)).sum())
    if bad:
        raise TableError(f"{path}: {bad} of {len(read.values)} rows hold values that are not finite")
    rows = match(read.keys, cells, path)
    order = np.argsort(rows, kind="stable")
    record = provenance("import", config={"file": path.name, "features": read.features}, inputs=inputs)
    ids = cells[schema.CELL_ID].iloc[rows[order]].to_list()
    with locks.held(screen.embeddings_path(name), "import"):
        screen.write_embeddings(name, ids, read.values[order], record)
    return Imported(len(rows), read.values.shape[1], len(cells) - len(rows))


def load(path: Path) -> Foreign:
    """Embeddings from a file or folder of one of the `FORMATS`.

    Raises
    ------
    TableError
        It is of none of them, or lacks what is needed to know whose embeddings they are.
    """
    suffixes = "".join(path.suffixes[-2:]).lower()
    if path.is_dir():
        return _deep_profiler(path)
    if not path.exists():
        raise TableError(f"there is no file {path}")
    if path.suffix.lower() == ".parquet":
        return from_table(read_table(path), str(path))
    if path.suffix.lower() == ".csv" or suffixes.endswith(".csv.gz"):
        try:
            text = {schema.CELL_ID: str, schema.PLATE: str, schema.WELL: str}
            return from_table(parse_csv(path, dtype=text), str(path))
        except (ValueError, OSError) as broken:
            raise TableError(f"{path} cannot be read as CSV: {first_line(broken)}") from None
    if path.suffix.lower() == ".npz":
        return _npz(path)
    if path.suffix.lower() == ".h5ad":
        return _anndata(path)
    raise TableError(f"{path.name} is of no format known here: {FORMATS}")


def from_table(table: pd.DataFrame, what: str) -> Foreign:
    """Embeddings of a table: metadata columns say whose they are, every other column is a feature.

    Raises
    ------
    TableError
        A feature is not numeric, there is none, or the table does not say which cell a row is.
    """
    if schema.CELL_ID in table:
        keys = [schema.CELL_ID]
    elif set(KEYS) <= set(table.columns):
        keys = list(KEYS)
    else:
        missing = [key for key in KEYS if key not in table.columns]
        per_well = missing and not {schema.PLATE, schema.WELL} & set(missing)
        hint = "; profiles of wells are for 'cytovae benchmark --profiles'" if per_well else ""
        raise TableError(
            f"{what} does not say which cell a row is: it needs the column {schema.CELL_ID}, or else "
            f"{', '.join(missing)} too{hint}"
        )
    features = schema.feature_columns(table)
    if not features:
        raise TableError(f"{what} has no column of features beside {', '.join(map(str, table.columns[:8]))}")
    if counts := [str(name) for name in features if _COUNTS.fullmatch(str(name))]:
        verb, them = ("counts", "it") if len(counts) == 1 else ("count", "them")
        raise TableError(
            f"{what}: {', '.join(counts[:5])} {verb} rows, which is no feature; leave {them} out (pandas: "
            "to_csv(..., index=False)), or put Metadata_ before the name"
        )
    odd = [str(name) for name in features if not pd.api.types.is_numeric_dtype(table[name])]
    if odd:
        raise TableError(
            f"{what}: {', '.join(odd[:5])} {'holds' if len(odd) == 1 else 'hold'} no numbers; "
            "put Metadata_ before names of columns that are no features"
        )
    return Foreign(table[keys], table[features].to_numpy(np.float32), [str(name) for name in features])


def _npz(path: Path) -> Foreign:
    """An npz with ``cell_id`` (n,) and ``embeddings`` or ``features`` (n, d); nothing in it is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as held:
            names = [name for name in ("embeddings", "features") if name in held.files]
            if schema.CELL_ID not in held.files or len(names) != 1:
                raise TableError(
                    f"{path} holds {', '.join(held.files) or 'nothing'}; it needs cell_id (n,) and embeddings (n, d)"
                )
            ids, values = held[schema.CELL_ID], held[names[0]]
    except TableError:
        raise
    except Exception as broken:  # a damaged archive fails in many ways
        raise TableError(f"{path} cannot be read as npz: {first_line(broken)}") from None
    if ids.ndim != 1 or values.ndim != 2 or len(ids) != len(values) or values.dtype.kind not in "fiu":
        raise TableError(
            f"{path}: cell_id {ids.shape} and {names[0]} {values.shape} {values.dtype} do not fit together"
        )
    keys = pd.DataFrame({schema.CELL_ID: ids.astype(str)})
    return Foreign(keys, values.astype(np.float32), schema.feature_names(values.shape[1]))


def _anndata(path: Path) -> Foreign:
    """AnnData: X with the cell ids as ``obs_names``, or the columns of `KEYS` in ``obs``."""
    try:
        import anndata
    except ImportError:
        raise DependencyError("AnnData needs the package anndata: pip install 'cytovae[anndata]'") from None
    try:
        held = anndata.read_h5ad(path)
    except Exception as broken:  # as above
        raise TableError(f"{path} cannot be read as AnnData: {first_line(broken)}") from None
    if held.X is None:
        raise TableError(f"{path} holds no matrix X")
    values = held.X.toarray() if hasattr(held.X, "toarray") else held.X
    if set(KEYS) <= set(held.obs.columns) and schema.CELL_ID not in held.obs:
        keys = held.obs[list(KEYS)].reset_index(drop=True)
    else:
        ids = held.obs.get(schema.CELL_ID, held.obs_names)
        keys = pd.DataFrame({schema.CELL_ID: np.asarray(ids).astype(str)})
    return Foreign(keys, np.asarray(values, dtype=np.float32), [str(name) for name in held.var_names])


def _deep_profiler(folder: Path) -> Foreign:
    """DeepProfiler's folder: ``plate/well/site.npz`` or ``plate_well_site.npz``, each with features and locations.

    The metadata in these files are pickled and left alone; the path says the field, and ``locations`` (n, 2), x before
    y (px), the cell.
    """
    keys, values = [], []
    for path in sorted(folder.rglob("*.npz")):
        parts = path.relative_to(folder).with_suffix("").parts
        field = parts if len(parts) == 3 else tuple(path.stem.rsplit("_", 2))
        if len(field) != 3:
            raise TableError(f"{path} is named neither plate/well/site.npz nor plate_well_site.npz")
        try:
            with np.load(path, allow_pickle=False) as held:
                features, places = held["features"], held["locations"]
        except KeyError as absent:
            raise TableError(f"{path} lacks {absent}; DeepProfiler writes features and locations") from None
        except Exception as broken:  # as above
            raise TableError(f"{path} cannot be read: {first_line(broken)}") from None
        if features.ndim != 2 or places.ndim != 2 or places.shape[1] < 2 or len(places) != len(features):
            raise TableError(f"{path}: features {features.shape} and locations {places.shape} do not fit")
        keys.append(
            pd.DataFrame(
                {schema.CENTER_Y: places[:, 1].astype(float), schema.CENTER_X: places[:, 0].astype(float)}
            ).assign(**dict(zip(KEYS[:3], field, strict=True)))
        )
        values.append(features.astype(np.float32))
    if not values:
        raise TableError(f"{folder} holds no .npz file: {FORMATS}")
    if len({block.shape[1] for block in values}) > 1:
        raise TableError(f"the files of {folder} hold features of different length")
    return Foreign(pd.concat(keys, ignore_index=True), np.concatenate(values), schema.feature_names(values[0].shape[1]))


def match(keys: pd.DataFrame, cells: pd.DataFrame, what: object) -> npt.NDArray[np.int64]:
    """The row of the screen's cells for each row of a foreign table.

    Parameters
    ----------
    keys : DataFrame
        See `Foreign`.
    cells : DataFrame
        All of the screen.
    what : object
        What to call the table in a message.

    Returns
    -------
    (n,) int64

    Raises
    ------
    TableError
        A row is no cell of the screen, or two are the same.
    """
    if schema.CENTER_Y in keys:
        rows = _match_centres(keys, cells, what)
    else:
        columns = list(keys.columns)
        known = pd.MultiIndex.from_frame(_comparable(cells[columns]))
        if known.has_duplicates:
            raise TableError(f"cells of the screen share {', '.join(columns)}; {what} has to name them by cell_id")
        rows = known.get_indexer(pd.MultiIndex.from_frame(_comparable(keys)))
    lost = np.flatnonzero(rows < 0)
    if len(lost):
        first = ", ".join(f"{k} {v}" for k, v in keys.iloc[lost[0]].items())
        raise TableError(
            f"{what}: {len(lost)} of {len(rows)} rows are no cells of this screen, the first with {first}; "
            "leave them out"
        )
    repeated = len(rows) - len(np.unique(rows))
    if repeated:
        raise TableError(f"{what} names {repeated} cells more than once")
    return np.asarray(rows, dtype=np.int64)


def _comparable(keys: pd.DataFrame) -> pd.DataFrame:
    """Keys as text, whole numbers without a decimal point, wells as ``B02``."""

    def text(value: object) -> str:
        return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)

    made = pd.DataFrame({name: keys[name].map(text).to_numpy(object) for name in keys})
    return made.assign(**{schema.WELL: made[schema.WELL].map(schema.well_name)}) if schema.WELL in made else made


def _match_centres(keys: pd.DataFrame, cells: pd.DataFrame, what: object) -> npt.NDArray[np.int64]:
    """By field, then by the nearest centre; -1 where none is near enough."""
    from scipy.spatial import cKDTree

    fields = list(KEYS[:3])
    rows = np.full(len(keys), -1, dtype=np.int64)
    of_field = _comparable(cells[fields]).groupby(fields).indices
    centres = [schema.CENTER_Y, schema.CENTER_X]
    for field, mine in _comparable(keys[fields]).groupby(fields).indices.items():
        if field in of_field:
            theirs = of_field[field]
            tree = cKDTree(cells[centres].to_numpy(float)[theirs])
            distance, nearest = tree.query(keys[centres].to_numpy(float)[mine])
            rows[mine] = np.where(distance <= CENTRES_AGREE_PX, theirs[np.minimum(nearest, len(theirs) - 1)], -1)
    return rows


def _digest(path: Path) -> str:
    """Of a file, or of all files of a folder with their names."""
    if not path.is_dir():
        return digest_file(path) if path.exists() else ""
    import hashlib

    found = hashlib.sha256()
    for file in sorted(path.rglob("*.npz")):
        found.update(f"{file.relative_to(path)} {digest_file(file)}\n".encode())
    return found.hexdigest()
