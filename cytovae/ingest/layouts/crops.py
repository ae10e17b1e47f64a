"""Pre-cut cells: an array, or a folder of one file per cell or per channel of a cell, and a table."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cytovae import schema
from cytovae.errors import IngestError, TableError, first_line
from cytovae.images import BETWEEN_FILES, SUFFIXES, array_member, read_head
from cytovae.ingest.layouts import tables
from cytovae.screen import digest_file, require_file


@dataclasses.dataclass(frozen=True)
class CropLayout:
    """Pre-cut cells.

    Parameters
    ----------
    cells : DataFrame
        One row per row of the table, in its order, and after them one per image that no row names: the metadata of
        ``schema.CELL_COLUMNS``, status, code and reason, and ``source``: the file's name, those of its
        channels with `cytovae.images.BETWEEN_FILES` between them, or the crop's place in the array.
    channels : tuple of str
        In stored order.
    take : tuple of int
        For each stored channel its place in the files.
    images : Path
        The array (npz, npy) or the folder.
    inputs : dict of str to str
        Name -> digest of what was read; and how it was read, where that was said.
    files : tuple of str
        The image files of a folder, relative to it, whose content is an input too; none for an array, which has its
        digest in `inputs`.
    """

    cells: pd.DataFrame
    channels: tuple[str, ...]
    take: tuple[int, ...]
    images: Path
    inputs: dict[str, str]
    files: tuple[str, ...] = ()


SOURCE = "source"

_CROP_COLUMNS = {
    schema.CELL_ID: ("cell_id", "Metadata_CellID"),
    schema.PLATE: ("plate", "Metadata_Plate"),
    schema.WELL: ("well", "Metadata_Well"),
    schema.SITE: ("site", "Metadata_Site"),
    schema.REPLICATE: ("replicate", "Metadata_Replicate"),
    schema.BATCH: ("batch", "Metadata_Batch"),
    schema.COMPOUND: ("compound", "Metadata_Compound"),
    schema.CONCENTRATION: ("concentration_uM", "concentration", "Metadata_Concentration"),
    schema.MOA: ("moa", "Metadata_MoA"),
    schema.OBJECT: ("Metadata_ObjectNumber",),
    schema.CENTER_Y: ("Metadata_CenterY_px",),
    schema.CENTER_X: ("Metadata_CenterX_px",),
    SOURCE: ("file", "FileName", "Metadata_FileName"),
}
_CROP_NUMBERS: dict[str, Callable[[pd.DataFrame, str, Path], pd.Series]] = {
    schema.SITE: tables.whole_numbers,
    schema.REPLICATE: tables.whole_numbers,
    schema.OBJECT: tables.whole_numbers,
    schema.CENTER_Y: tables.numbers,
    schema.CENTER_X: tables.numbers,
}


def read(
    source: Path,
    table: Path,
    channels: Sequence[str],
    batch_column: str | None = None,
    design: tables.Design | None = None,
) -> CropLayout:
    """Pre-cut cells: an array ``(n, H, W, C)`` in an npz or npy file, or a folder of npy, TIFF or PNG files.

    An npz file may name its crops in an array ``cell_id``; otherwise an array's crops are taken in the order of the
    table, which must be as long. A folder holds one file per cell, named by the table's column ``file``
    or ``<cell_id>.{npy,tif,tiff,png}``; or one per channel of a cell, named by the table's columns
    ``FileName_<channel>`` or ``<cell_id>_<channel>.{npy,tif,tiff,png}``.

    Parameters
    ----------
    source : Path
        The file or folder.
    table : Path
        CSV with one row per cell: cell_id, plate, well, compound, concentration_uM (uM), and optionally site,
        replicate, batch, moa, file, FileName_<channel>; or the same as ``Metadata_*``. Further ``Metadata_*`` columns
        are kept.
    channels : sequence of str
        The channels in the order in which the images hold them.
    batch_column : str, optional
        Column that tells the experimental batch; without it `schema.batch_of` the plate.
    design : Design, optional
        What was done to the cells.

    Raises
    ------
    TableError, IngestError
        The table lacks columns, all of them named, or array and table cannot be brought together.
    """
    order = tables.stored_order(channels)
    design = design or tables.Design()
    cells = _cells(table, design, channels, batch_column)
    nameless = cells[schema.CELL_ID].isna()
    cells = _complete_crops(cells, design, str(table))
    tables.note(cells, nameless, tables.REFUSED, "incomplete-row", "the table gives no cell_id")
    twice = cells.duplicated(schema.CELL_ID) & ~nameless
    tables.note(
        cells,
        twice,
        tables.REFUSED,
        "duplicate-cell-id",
        "an earlier row has the same cell_id " + cells[schema.CELL_ID],
    )
    unknown = cells[schema.MOA] == schema.UNKNOWN_MOA
    tables.note(cells, unknown, tables.OK, "unknown-moa", "the table gives no mechanism for " + cells[schema.TREATMENT])
    inputs = {table.name: digest_file(table)} | design.inputs()
    files: tuple[str, ...] = ()
    if source.is_dir():
        cells, files = _crop_files(cells, source, channels)
    elif source.is_file():
        cells, inputs["images"] = _crop_array(cells, source)
    else:
        raise IngestError(f"{source} does not exist; give an npz or npy file, or a folder of npy, tif or png files")
    if tuple(channels) != order:  # the cells do not tell in which order their channels were read
        inputs["--channels"] = ",".join(channels)
    if batch_column:
        inputs["--batch-column"] = batch_column
    if design.columns:
        inputs["--column"] = ",".join(f"{ours}={theirs}" for ours, theirs in sorted(design.columns.items()))
    cells = cells.drop(columns=[f"{SOURCE}_{c}" for c in channels], errors="ignore")
    return CropLayout(cells, order, tuple(list(channels).index(c) for c in order), source, inputs, files)


def _cells(table: Path, design: tables.Design, channels: Sequence[str], batch_column: str | None) -> pd.DataFrame:
    """The table's columns under the names of the vocabulary, and what the plate map adds.

    Raises
    ------
    TableError
        Columns are missing, all of them named.
    """
    head = tables.head(table)
    mapped = [] if design.plate_map is None else list(tables.head(design.plate_map))
    columns = dict(_CROP_COLUMNS) | {c: (c,) for c in schema.own_columns(head)}
    columns |= {f"{SOURCE}_{c}": (f"FileName_{c}", f"FileName_Orig{c}", f"file_{c}") for c in channels}
    columns |= {ours: (theirs,) for ours, theirs in design.columns.items() if theirs in head or theirs not in mapped}
    if batch_column:
        columns[schema.BATCH] = (batch_column,)
    required = {schema.CELL_ID, schema.PLATE, schema.WELL, *design.columns, *([schema.BATCH] if batch_column else [])}
    if design.plate_map is None:
        required |= {schema.COMPOUND, *([schema.CONCENTRATION] if design.dosed else [])}
    named = {name: next((c for c in accepted if c in head), None) for name, accepted in columns.items()}
    missing = [" or ".join(columns[n]) for n in columns if named[n] is None and n in required]
    if missing:
        have = ", ".join(map(str, head.columns[:12]))
        lacks = "lacks the columns" if len(missing) > 1 else "lacks a column"
        raise TableError(f"{table} {lacks} {', '.join(missing)}; it has {have}")
    design.check_unit(named[schema.CONCENTRATION] or "")
    given = tables.read_csv(table, [c for c in named.values() if c])
    cells = pd.DataFrame(index=given.index)
    for name, column in named.items():
        if column is not None:
            read = _CROP_NUMBERS.get(name)
            cells[name] = read(given, column, table) if read else given[column]
    return tables.with_plate_map(cells, design)


def _complete_crops(cells: pd.DataFrame, design: tables.Design, source: str) -> pd.DataFrame:
    """As `complete`, for a table of cells."""
    cells[schema.CELL_ID] = cells[schema.CELL_ID].fillna("")
    for column, empty in ((schema.SITE, 1), (schema.OBJECT, 0), (schema.CENTER_Y, np.nan), (schema.CENTER_X, np.nan)):
        if column not in cells:
            cells[column] = empty
    return tables.metadata(cells, design, source)


def _crop_files(cells: pd.DataFrame, folder: Path, channels: Sequence[str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Each cell's file in a folder, or those of its channels; what is missing and what no row names. And all files."""
    files = sorted(tables.image_files(folder, SUFFIXES))
    there = set(files)
    if SOURCE in cells:
        cells[SOURCE] = cells[SOURCE].fillna("")
    else:
        by_stem = {Path(name).with_suffix("").as_posix(): name for name in files}
        columns = [f"{SOURCE}_{c}" for c in channels]
        told: list[list[str]] = [[]] * len(cells)
        if set(columns) <= set(cells):
            told = cells[columns].fillna("").astype(str).to_numpy().tolist()
        cells[SOURCE] = [
            by_stem.get(cell) or BETWEEN_FILES.join(named or _by_channel(cell, channels, by_stem))
            for cell, named in zip(cells[schema.CELL_ID], told, strict=True)
        ]
    parts = [source.split(BETWEEN_FILES) for source in cells[SOURCE]]
    lacking = [", ".join(name for name in names if name not in there) if len(names) > 1 else "" for names in parts]
    lost = pd.Series([not there.issuperset(names) for names in parts], cells.index)
    said = f"{folder} holds no file for cell " + cells[schema.CELL_ID]
    said += [f": {names} is not there" if names else "" for names in lacking]
    tables.note(cells, lost, tables.REFUSED, "row-without-image", said)
    alike = pd.Series([len(set(names)) < len(names) for names in parts], cells.index)
    said = "one file is named for two channels of cell " + cells[schema.CELL_ID]
    tables.note(cells, alike, tables.REFUSED, "several-planes", said)
    orphans = sorted(there.difference(*parts))
    return _with_orphans(cells, orphans, [f"no row of the table names {name}" for name in orphans]), tuple(files)


def _by_channel(cell: str, channels: Sequence[str], by_stem: Mapping[str, str]) -> list[str]:
    """The files ``<cell>_<channel>``, in any case, of a cell; of one that is not there what it would be called.

    Where there is none it is the cell's own name, for it may as well have one file.
    """
    spelled = [[f"{cell}_{word}" for word in (c, c.lower(), c.upper())] for c in channels]
    found = [next((by_stem[stem] for stem in stems if stem in by_stem), "") for stems in spelled]
    return [name or stems[0] for name, stems in zip(found, spelled, strict=True)] if any(found) else [cell]


def _crop_array(cells: pd.DataFrame, source: Path) -> tuple[pd.DataFrame, str]:
    """Each cell's place in an array."""
    array = open_array(source)
    if array.ids is None:
        if array.length != len(cells):
            raise IngestError(
                f"{source} holds {array.length} crops and the table {len(cells)} rows, so their order cannot be "
                "trusted; make them equal, or name the crops in an array 'cell_id' inside the npz file"
            )
        cells[SOURCE] = np.arange(len(cells)).astype(str)
        return cells, array.digest
    place = {c: i for i, c in reversed(list(enumerate(array.ids)))}
    cells[SOURCE] = [str(place.get(c, "")) for c in cells[schema.CELL_ID]]
    tables.note(
        cells,
        cells[SOURCE] == "",
        tables.REFUSED,
        "row-without-image",
        f"{source} names no cell " + cells[schema.CELL_ID],
    )
    named = set(cells[SOURCE])
    orphans = [str(i) for i in range(array.length) if str(i) not in named]
    reasons = [f"no row of the table names crop {i} ({array.ids[int(i)]}) of {source}" for i in orphans]
    return _with_orphans(cells, orphans, reasons), array.digest


def _with_orphans(cells: pd.DataFrame, sources: Sequence[str], reasons: Sequence[str]) -> pd.DataFrame:
    """The table with a refused row for every image that no row names."""
    if not sources:
        return cells
    extra = pd.DataFrame({SOURCE: sources, schema.FIELD: sources, schema.REASON: reasons})
    extra[schema.STATUS], extra[schema.CODE] = tables.REFUSED, "image-without-row"
    return tables.appended(cells, extra)


@dataclasses.dataclass(frozen=True)
class CropArray:
    """An array of crops in a file: how many, what they are called if that is said, and a digest of the file."""

    length: int
    ids: list[str] | None
    digest: str


def open_array(path: Path) -> CropArray:
    """The head of an array of crops in an npz or npy file; no pixels are read.

    Raises
    ------
    IngestError
        The file is neither, is damaged, or holds no array of four axes.
    """
    try:
        require_file(path)
        if path.suffix.lower() == ".npy":
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
            _check_axes(path, shape)
            return CropArray(shape[0], None, digest_file(path))
        with zipfile.ZipFile(path) as archive:
            member = array_member(archive)
            with archive.open(member) as handle:
                shape = read_head(handle)[0]
            _check_axes(path, shape)
            ids = None
            if "cell_id.npy" in archive.namelist():
                with archive.open("cell_id.npy") as handle:
                    ids = [str(i) for i in np.lib.format.read_array(handle, allow_pickle=False)]
                if len(ids) != shape[0]:
                    raise IngestError(
                        f"{path} holds {shape[0]} crops and {len(ids)} names of them in 'cell_id'; each crop needs one"
                    )
            sums = "".join(f"{i.filename}\t{i.file_size}\t{i.CRC}\n" for i in archive.infolist())
            return CropArray(shape[0], ids, hashlib.sha256(sums.encode()).hexdigest())
    except IngestError:
        raise
    except Exception as broken:  # a damaged archive fails in many ways
        raise IngestError(f"{path} cannot be read as an array of crops: {first_line(broken)}") from None


def _check_axes(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) != 4:
        raise IngestError(f"{path} holds an array of shape {shape}, not (n, H, W, C)")
