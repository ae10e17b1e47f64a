"""A screen on disk: open it, find, read and write its artefacts, each whole and with its provenance.

Nothing here knows how an artefact is made. A file or folder is written beside its place and renamed into it,
so a reader sees the old one or the new one, never half of one.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import gzip
import hashlib
import itertools
import json
import os
import re
import shutil
import warnings
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cytovae import __version__, locks, schema
from cytovae.config import MAX_JSON_BYTES, ScreenRecord, from_dict, to_dict
from cytovae.errors import ConfigError, CytovaeError, ScreenError, did_you_mean, first_line

LAYOUT_VERSION = 1
_KEY = b"cytovae"


def provenance(
    step: str, *, config: dict[str, Any] | None = None, inputs: dict[str, str] | None = None, seed: int | None = None
) -> dict[str, Any]:
    """The record that travels inside an output: what made it, from what, how.

    Parameters
    ----------
    step : str
        The verb, such as ``embed``.
    config : dict, optional
        Its options as JSON types.
    inputs : dict of str to str, optional
        Name -> sha256 of what it read.
    seed : int, optional
        Of its randomness.
    """
    return {"cytovae": __version__, "step": step, "config": config or {}, "inputs": inputs or {}, "seed": seed}


def require_file(path: Path) -> None:
    """Refuse what is there and no plain file: a pipe would be waited for without end.

    Raises
    ------
    OSError
        It is a folder, pipe, socket or device.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "this is a folder, pipe or device, not a file", str(path))


def read_json(path: Path, refused: type[CytovaeError] = ScreenError) -> Any:
    """A JSON document that may come from anywhere.

    Raises
    ------
    CytovaeError
        Of the kind `refused`: it is no JSON, names a key twice, is nested without end, or larger than `MAX_JSON_BYTES`.
    OSError
        It is not there, or no file.
    """
    require_file(path)
    if (size := path.stat().st_size) > MAX_JSON_BYTES:
        raise refused(f"{path} cannot be understood: it has {size:,} bytes, and at most {MAX_JSON_BYTES:,} are read")
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=_keys_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as broken:
        raise refused(f"{path} cannot be understood: {first_line(broken)}") from None


def _keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError(f"it names a key twice, among {', '.join(made)[:80]}")
    return made


def _no_number(word: str) -> None:
    raise ValueError(f"it holds {word}, which is no number")


_SAVE_AS = "save it as comma-separated text in UTF-8"


def parse_csv(path: Path, **how: Any) -> pd.DataFrame:
    """A table of text by pandas' ``read_csv``, which is kept from guessing.

    Raises
    ------
    ValueError
        It cannot be parsed; it is not in UTF-8, or holds NUL bytes, after which pandas would leave out the rest of a
        cell; its cells are parted by semicolons or tabs; a column that is read stands twice; or rows have more cells
        than there are columns.
    OSError
        It is not there, or no file.
    """
    require_file(path)
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    text = codecs.getincrementaldecoder("utf-8")()
    with opened(path, "rb") as handle:
        while block := handle.read(2**20):
            if b"\0" in block:
                raise ValueError(f"it holds NUL bytes, as UTF-16 and binary files do; {_SAVE_AS}")
            try:
                text.decode(block)
            except UnicodeDecodeError as other:
                raise ValueError(
                    f"it is not in UTF-8: byte {other.object[other.start]:#x} is not; {_SAVE_AS}"
                ) from None
    if "names" not in how:
        head = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0].tolist()
        if len(head) == 1 and (mark := next((m for m in ";\t" if m in head[0]), "")):
            raise ValueError(f"its cells are parted by {'semicolons' if mark == ';' else 'tabs'}; {_SAVE_AS}")
        wanted = how["usecols"] if callable(how.get("usecols")) else lambda name: True
        if twice := [name for name in dict.fromkeys(head) if name and head.count(name) > 1 and wanted(name)]:
            raise ValueError(f"the column {twice[0]!r:.80} stands there {head.count(twice[0])} times")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            table: pd.DataFrame = pd.read_csv(path, index_col=False, **how)
        except pd.errors.ParserWarning:
            raise ValueError("its rows have more cells than there are names of columns") from None
    return table


def csv_text(table: pd.DataFrame) -> str:
    """A table as CSV that spreadsheets take for text: a cell that they would compute has an apostrophe before it.

    Examples
    --------
    >>> csv_text(pd.DataFrame({"compound": ["taxol", "=1+1"], "n": [-1, 2]})).splitlines()
    ['compound,n', 'taxol,-1', "'=1+1,2"]
    """
    text = table.select_dtypes(include=["object", "string", "category"]).columns
    cells = {name: table[name].astype(object).map(neutral) for name in text}
    return table.assign(**cells).rename(columns=neutral).to_csv(index=False)


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def neutral(cell: Any) -> Any:
    """What a spreadsheet would compute, with an apostrophe before it; anything else as it is."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def plain(cell: Any) -> Any:
    """A cell as it was before `neutral`."""
    return cell[1:] if isinstance(cell, str) and cell[:1] == "'" and cell[1:].startswith(_FORMULA) else cell


def digest_file(path: Path) -> str:
    """The sha256 of a file, as hexadecimal."""
    require_file(path)
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it into place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    locks.sweep(path.parent)
    beside = locks.beside(path)
    try:
        with called(path, beside):
            yield beside
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a fresh folder beside `path` to fill; it takes the place of `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    locks.sweep(path.parent)
    beside = locks.beside(path)
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with called(path, beside):
            beside.mkdir()
            yield beside
            if not _put(beside, path) and not _exchange(beside, path):
                old = locks.beside(path, "old")
                path.replace(old)
                beside.replace(path)
                shutil.rmtree(old)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def foreign(folder: Path, what: str, marks: Collection[str]) -> str:
    """Why a folder may not be written to or replaced: it holds somebody else's files; an empty word where it may.

    Parameters
    ----------
    folder : Path
    what : str
        What may lie there, such as ``screen``.
    marks : collection of str
        Names of files: one of them is in every such folder.

    Examples
    --------
    >>> foreign(Path("/dev"), "screen", ["screen.json"]).startswith("/dev holds files and is no screen (")
    True
    """
    if not folder.is_dir():
        return ""
    names = sorted(each.name for each in folder.iterdir() if not locks.half_written(each.name))
    if not names or not set(marks).isdisjoint(names):
        return ""
    few = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{folder} holds files and is no {what} ({few}); name a new or an empty folder"


@contextlib.contextmanager
def called(path: Path, beside: Path) -> Iterator[None]:
    """Raise with the path what the block raises without a name, as on a full disk, or under the name beside it."""
    try:
        yield
    except OSError as failed:
        short = re.search(r"^\d+ requested and \d+ written$", str(failed))  # numpy's words for a full disk
        number, name = errno.ENOSPC if short else failed.errno, str(failed.filename or beside)
        if number and name.startswith(str(beside)):
            raise OSError(number, os.strerror(number), str(path) + name.removeprefix(str(beside))) from None
        raise


def _put(folder: Path, path: Path) -> bool:
    """Give a folder its name, unless there is another one by then, perhaps since a moment ago."""
    try:
        folder.replace(path)
    except OSError as failed:
        if failed.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return False
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, so that none is missing for a moment; whether the system can (Linux does)."""
    import ctypes

    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document, whole, with sorted keys."""
    with whole_file(path) as beside:
        beside.write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _as_bytes(record: dict[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True).encode()


def write_table(path: Path, table: pd.DataFrame, record: dict[str, Any]) -> None:
    """Write a table as parquet, whole, with its provenance in the file's metadata."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _KEY: _as_bytes(record)})
    with whole_file(path) as beside:
        pq.write_table(arrow, beside)


def write_table_blocks(path: Path, types: pa.Schema, blocks: Iterable[pd.DataFrame], record: dict[str, Any]) -> None:
    """Write a table as parquet block by block, whole, with its provenance; memory holds one block.

    Parameters
    ----------
    types : pyarrow.Schema
        Columns and their types; further columns of a block are left out.
    blocks : iterable of DataFrame
        One row group each.
    record : dict
        From `provenance`.
    """
    types = types.with_metadata({_KEY: _as_bytes(record)})
    with whole_file(path) as beside, pq.ParquetWriter(beside, types) as writer:
        for block in blocks:
            writer.write_table(pa.Table.from_pandas(block[types.names], schema=types, preserve_index=False))


@contextlib.contextmanager
def _reading_parquet(path: Path) -> Iterator[None]:
    try:
        require_file(path)
        yield
    except FileNotFoundError:
        raise ScreenError(f"{path} is missing") from None
    except Exception as broken:  # a damaged file fails in many ways; each of them means that it cannot be used
        raise ScreenError(f"{path} cannot be read as parquet: {first_line(broken)}") from None


def read_table(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a parquet table.

    Raises
    ------
    ScreenError
        The file is missing or no parquet.
    """
    with _reading_parquet(path):
        return pd.read_parquet(path, columns=columns)


def count_rows(path: Path) -> int:
    """How many rows a parquet table has, from its foot.

    Raises
    ------
    ScreenError
        The file is missing or no parquet.
    """
    with _reading_parquet(path):
        return int(pq.read_metadata(path).num_rows)


def read_provenance(path: Path) -> dict[str, Any]:
    """The provenance inside a parquet table, or an empty dict where it carries none.

    Raises
    ------
    ScreenError
        The file is missing or no parquet.
    """
    with _reading_parquet(path):
        raw = (pq.read_schema(path).metadata or {}).get(_KEY)
        found = json.loads(raw) if raw else {}
    return found if isinstance(found, dict) else {}


class Screen:
    """A screen folder.

    Use `Screen.open` for one that exists, `Screen.create` for a new one.

    Parameters
    ----------
    path : Path
        The folder.
    record : ScreenRecord
        The content of its ``screen.json``.
    """

    def __init__(self, path: Path, record: ScreenRecord) -> None:
        self.path = path
        self.record = record

    @classmethod
    def open(cls, path: str | Path) -> Screen:
        """Open a screen.

        Raises
        ------
        ScreenError
            There is no folder, no ``screen.json`` in it, or one that cannot be understood.
        """
        path = Path(path)
        if not path.is_dir():
            raise ScreenError(f"there is no screen at {path}: make one with 'cytovae ingest' or 'cytovae demo'")
        try:
            values = read_json(path / "screen.json")
            if values.get("version") != LAYOUT_VERSION:
                raise ScreenError(
                    f"{path} has layout version {values.get('version')}; this cytovae reads {LAYOUT_VERSION}"
                )
            return cls(path, from_dict(ScreenRecord, values))
        except FileNotFoundError:
            raise ScreenError(f"{path} is no screen: it has no screen.json; 'cytovae ingest' makes one") from None
        except (AttributeError, ConfigError) as broken:
            raise ScreenError(f"{path / 'screen.json'} cannot be understood: {broken}") from None

    @classmethod
    def create(cls, path: str | Path, record: ScreenRecord) -> Screen:
        """Make the folder and its record; what is already in the folder stays."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "screen.json", to_dict(record))
        return cls(path, record)

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def cells_path(self) -> Path:
        return self.path / "cells.parquet"

    @property
    def fields_path(self) -> Path:
        return self.path / "fields.parquet"

    @property
    def patches_path(self) -> Path:
        return self.path / "patches"

    def cells(self) -> pd.DataFrame:
        """One row per cell, in the order of the patches (``schema.CELL_COLUMNS``)."""
        return read_table(self.cells_path)

    def fields(self) -> pd.DataFrame:
        """One row per field, with status and reason; empty for a screen made of crops without fields."""
        return read_table(self.fields_path)

    def cells_digest(self) -> str:
        """The sha256 of ``cells.parquet``: what embeddings and profiles must agree on."""
        if not self.cells_path.exists():
            raise ScreenError(f"{self.path} holds no cells; run 'cytovae ingest' first")
        return digest_file(self.cells_path)

    def models(self) -> list[str]:
        """Names of the models this screen has been embedded with, sorted."""
        root = self.path / "embeddings"
        return sorted(p.parent.name for p in root.glob("[!.]*/embeddings.npy"))  # a dot: not whole yet

    def embeddings_path(self, model: str) -> Path:
        return self.path / "embeddings" / model

    def write_embeddings(
        self,
        model: str,
        cell_ids: list[str],
        embeddings: npt.NDArray[np.float32] | Iterable[npt.NDArray[np.float32]],
        record: dict[str, Any],
    ) -> None:
        """Write embeddings, whole: ``index.parquet`` (cell_id, with provenance) beside ``embeddings.npy``.

        Parameters
        ----------
        cell_ids : list of str
            Length n.
        embeddings : (n, d) float32, or blocks of it one after the other
            Of blocks only one is held in memory.
        record : dict
            From `provenance`, with the screen's `cells_digest` as its input ``cells``; its option ``features`` names
            the columns where they are not ``z000``, ``z001`` ...

        Raises
        ------
        ScreenError
            What `embeddings` would refuse to read: ids or names that do not fit, or provenance of other cells.
        """
        blocks = iter([embeddings] if isinstance(embeddings, np.ndarray) else embeddings)
        first = next(blocks)
        count, d = 0, first.shape[1]
        if isinstance(embeddings, np.ndarray) and len(cell_ids) != len(embeddings):
            raise ScreenError(f"{len(cell_ids)} cell ids do not name {len(embeddings)} embeddings")
        if (made_from := record.get("inputs", {}).get("cells")) != self.cells_digest():
            raise ScreenError(
                f"embeddings of {model!r} were made from cells {str(made_from)[:12]!r}, not from those of {self.path} "
                f"({self.cells_digest()[:12]!r}); give the cells' digest as the input 'cells' of their provenance"
            )
        known = set(read_table(self.cells_path, [schema.CELL_ID])[schema.CELL_ID])
        strange = next((cell_id for cell_id in cell_ids if cell_id not in known), None)
        if strange is not None or len(set(cell_ids)) != len(cell_ids):
            what = "repeat a cell" if strange is None else f"name {strange!r}, which is no cell of the screen"
            raise ScreenError(f"the cell ids of the embeddings of {model!r} {what}")
        names = record.get("config", {}).get("features")
        if names is not None and len(set(names)) != d:
            raise ScreenError(f"{len(set(names))} different names do not fit {d} features")
        with whole_folder(self.embeddings_path(model)) as folder:
            write_table(folder / "index.parquet", pd.DataFrame({schema.CELL_ID: cell_ids}), record)
            with (folder / "embeddings.npy").open("wb") as handle:
                head = {"descr": "<f4", "fortran_order": False, "shape": (len(cell_ids), d)}
                np.lib.format.write_array_header_1_0(handle, head)
                for block in itertools.chain([first], blocks):
                    handle.write(np.ascontiguousarray(block, dtype="<f4").data)
                    count += len(block)
            if count != len(cell_ids):
                raise ScreenError(f"{len(cell_ids)} cell ids do not name {count} embeddings")

    def embeddings(self, model: str) -> tuple[pd.DataFrame, npt.NDArray[np.float32]]:
        """The embedded cells.

        Returns
        -------
        tuple of (DataFrame, (n, d) float32 memory map)
            The cells' rows joined by ``cell_id``, in the order of the embeddings; and the embeddings.

        Raises
        ------
        ScreenError
            The model has not been run on this screen, or the screen's cells have changed since.
        """
        folder = self.embeddings_path(model)
        if not (folder / "embeddings.npy").exists():
            raise ScreenError(
                f"{self.path} has no embeddings of {model!r}{did_you_mean(model, self.models())}; "
                "run 'cytovae embed' first"
            )
        made_from = read_provenance(folder / "index.parquet").get("inputs", {}).get("cells")
        if made_from != self.cells_digest():
            raise ScreenError(
                f"the cells of {self.path} changed after {model!r} embedded them; run 'cytovae embed --overwrite'"
            )
        index = read_table(folder / "index.parquet")
        cells = self.cells()
        if (
            list(index) != [schema.CELL_ID]
            or cells.columns[0] != schema.CELL_ID
            or not index.iloc[:, 0].equals(cells[schema.CELL_ID])
        ):  # else it is all cells in their order, and a second table of a large screen is spared
            cells = index.merge(cells, on=schema.CELL_ID, how="left", validate="one_to_one")
        return cells, np.load(folder / "embeddings.npy", mmap_mode="r")

    def feature_names(self, model: str) -> list[str]:
        """Names of the columns of a model's embeddings: those its provenance gives, else ``z000``, ``z001`` ..."""
        _, values = self.embeddings(model)
        record = read_provenance(self.embeddings_path(model) / "index.parquet")
        names = record.get("config", {}).get("features") or schema.feature_names(values.shape[1])
        return [str(name) for name in names]

    def profiles_path(self, model: str, level: str, summary: str = "mean", whiten: str = "none") -> Path:
        """Where a profile table lies; `level` is ``wells`` or ``treatments``."""
        return self.path / "profiles" / model / f"{level}.{summary}.{whiten}.parquet"

    def profiles(self, model: str, level: str, summary: str = "mean", whiten: str = "none") -> pd.DataFrame:
        """A profile table, pycytominer-style: ``Metadata_*`` columns, every other column a feature."""
        path = self.profiles_path(model, level, summary, whiten)
        if not path.exists():
            raise ScreenError(
                f"{self.path} has no {level} profiles ({summary}, whiten {whiten}) of {model!r}; "
                "run 'cytovae profile' first"
            )
        return read_table(path)

    def results_path(self, model: str) -> Path:
        return self.path / "results" / model

    def map_path(self, model: str, level: str, method: str) -> Path:
        """Where a 2-D map lies; `level` is ``cells``, ``wells`` or ``treatments``, `method` ``umap`` or ``pca``."""
        return self.path / "maps" / model / f"{level}.{method}.parquet"
