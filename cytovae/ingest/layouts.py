"""Who lies where: the collection's tables, a LoadData table, or pre-cut crops -> one table of fields or crops.

Channels are declared, never guessed, and stored in the order DNA, Tubulin, Actin (shown red, green, blue); channels of
other names follow in the order declared.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import urllib.parse
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytovae import schema
from cytovae.errors import ConfigError, IngestError, TableError
from cytovae.ingest.images import SUFFIXES, array_member, read_head
from cytovae.screen import digest_file

STORED_ORDER = ("DNA", "Tubulin", "Actin")
BBBC021_CHANNELS = {"DNA": "DAPI", "Tubulin": "Tubulin", "Actin": "Actin"}

OK, REFUSED, ABSENT = "ok", "refused", "absent"
"""Status of a field: usable; there but not usable; in the table without any image."""

CONCENTRATION_TOLERANCE = 1e-3
"""Relative difference up to which two concentrations are the same."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """The fields of a raw screen.

    Parameters
    ----------
    fields : DataFrame
        ``schema.FIELD_COLUMNS`` without counts, and one ``path_<channel>`` column per channel; status ``ok`` where
        nothing is known against a field yet. One row per field, sorted by plate, well and site.
    channels : tuple of str
        In stored order.
    inputs : dict of str to str
        Name -> sha256 of the tables read.
    centres : DataFrame, optional
        Known cell centres: ``Metadata_Field``, ``Metadata_ObjectNumber``, y and x (px).
    """

    fields: pd.DataFrame
    channels: tuple[str, ...]
    inputs: dict[str, str]
    centres: pd.DataFrame | None = None


def path_column(channel: str) -> str:
    """The column of ``fields.parquet`` that holds a channel's file."""
    return f"path_{channel}"


def frame_column(channel: str) -> str:
    """The column that holds the page of that file, where files hold several."""
    return f"frame_{channel}"


def stored_order(channels: Sequence[str]) -> tuple[str, ...]:
    """Declared channels in the order in which patches keep them.

    Raises
    ------
    ConfigError
        No channel is called DNA, or a name stands twice.

    Examples
    --------
    >>> stored_order(["Actin", "ER", "DNA", "Tubulin"])
    ('DNA', 'Tubulin', 'Actin', 'ER')
    """
    if len(set(channels)) != len(channels):
        raise ConfigError(f"a channel stands twice in {','.join(channels)}")
    if "DNA" not in channels:
        raise ConfigError(f"one channel must be called DNA (it shows the nuclei); given were {','.join(channels)}")
    return tuple(c for c in STORED_ORDER if c in channels) + tuple(c for c in channels if c not in STORED_ORDER)


def field_name(plate: str, well: str, site: object) -> str:
    """What a field is called: ``plate/well/s<site>``."""
    return f"{plate}/{well}/s{site}"


_SITE = re.compile(r"_s(\d+)_", re.IGNORECASE)


def bbbc021(
    raw: Path,
    image_table: Path | None = None,
    moa_table: Path | None = None,
    channels: Mapping[str, str] = BBBC021_CHANNELS,
) -> Layout:
    """A folder laid out as the BBBC021 collection: ``<week>/<plate>/*.tif`` and the image and MoA tables.

    Parameters
    ----------
    raw : Path
        Folder with the image folders.
    image_table, moa_table : Path, optional
        The tables; without them the ones in `raw` are taken.
    channels : mapping of str to str
        Channel -> its name in the table's columns.

    Raises
    ------
    IngestError, TableError
        There is no folder or table, or a table lacks columns.
    """
    if not raw.is_dir():
        raise IngestError(f"there is no folder {raw}")
    image_table = image_table or _find_table(raw, "BBBC021_v1_image.csv", "--image-table")
    moa_table = moa_table or _find_table(raw, "BBBC021_v1_moa.csv", "--moa-table")
    meta = {
        schema.PLATE: "Image_Metadata_Plate_DAPI",
        schema.WELL: "Image_Metadata_Well_DAPI",
        schema.REPLICATE: "Replicate",
        schema.COMPOUND: "Image_Metadata_Compound",
        schema.CONCENTRATION: "Image_Metadata_Concentration",
    }
    names = {c: (f"Image_PathName_{column}", f"Image_FileName_{column}") for c, column in channels.items()}
    needed = [*meta.values(), *(n for pair in names.values() for n in pair)]
    schema.require_columns(_head(image_table), needed, str(image_table))
    table = _read_csv(image_table, needed)
    order = stored_order(list(channels))
    fields = pd.DataFrame({to: table[column] for to, column in meta.items()})
    fields[schema.REPLICATE] = _whole_numbers(table, meta[schema.REPLICATE], image_table)
    for channel in order:
        folder, file = names[channel]
        fields[path_column(channel)] = table[folder].fillna("") + "/" + table[file].fillna("")
    sites = table[names["DNA"][1]].fillna("").str.extract(_SITE.pattern, flags=re.IGNORECASE)[0]
    unnumbered = fields.groupby([schema.PLATE, schema.WELL]).cumcount() + 1
    fields[schema.SITE] = pd.to_numeric(sites).fillna(unnumbered).astype(np.int64)
    fields = _complete(fields)
    fields = _check_files(fields, order, raw)
    _join_moa(fields, _moa_table(moa_table), moa_table.name)
    return Layout(fields, order, {image_table.name: digest_file(image_table), moa_table.name: digest_file(moa_table)})


BBBC021_SOURCE = "image set BBBC021v1 (Caie et al. 2010), Broad Bioimage Benchmark Collection (Ljosa et al. 2012)"


def origin(raw: Path) -> tuple[str, str]:
    """Source and licence of a raw folder in the collection's layout: the collection's, or a simulated screen's."""
    if (raw / "phantom.json").exists():
        return "simulated by cytovae phantom", "none needed"
    return BBBC021_SOURCE, "CC BY-NC-SA 3.0"


def _find_table(raw: Path, name: str, option: str) -> Path:
    for path in (raw / name, raw / "tables" / name):
        if path.is_file():
            return path
    raise IngestError(f"{raw} does not hold {name}; give the table with {option}")


_MISSING = ("", "nan", "na", "n/a", "null")
"""Words, in any case, that say in a column of numbers that there is none."""

_NO_MOA = (*_MISSING, "none")
"""Words, in any case, that say in a column of mechanisms that none is known."""


def _given(column: pd.Series, missing: Sequence[str] = _MISSING) -> pd.Series:
    """A column of text, NaN where it says one of the words for what is missing."""
    return column.mask(column.str.strip().str.lower().isin(missing))


def _head(path: Path) -> pd.DataFrame:
    """A table without its rows."""
    return _parse(path, nrows=0)


def _read_csv(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """Those of some columns that a table has, as they are written: text, and missing only what is empty or white space.

    A compound may be called ``NA`` and a plate ``001``; columns of numbers are read by `_numbers` where they are used.
    The columns that nobody needs may be hundreds, and are not kept.
    """
    wanted = set(columns)
    table = _parse(path, usecols=lambda name: name in wanted)
    if table.empty:
        raise TableError(f"{path} holds no rows, only the names of its columns")
    return table.mask(table.apply(lambda column: column.str.strip() == ""))


def _parse(path: Path, **how: Any) -> pd.DataFrame:
    try:
        table: pd.DataFrame = pd.read_csv(path, dtype=str, keep_default_na=False, **how)
        return table
    except FileNotFoundError:
        raise TableError(f"{path} does not exist") from None
    except (ValueError, OSError) as broken:
        raise TableError(f"{path} cannot be read as a table: {str(broken).splitlines()[0]}") from None


_LARGEST_WHOLE = 2**53  # up to it every whole number is a float64


def _numbers(table: pd.DataFrame, column: str, path: Path, whole: bool = False) -> pd.Series:
    """A column of a table of text as float64, NaN where it says that there is no number.

    Raises
    ------
    TableError
        Another cell holds no finite number, or where `whole` is asked for no whole one of at most 2**53.
    """
    text = _given(table[column])
    values = pd.to_numeric(text, errors="coerce").astype(np.float64)
    bad = text.notna() & ~np.isfinite(values)
    if whole:
        bad |= text.notna() & ((values % 1 != 0) | (values.abs() > _LARGEST_WHOLE))
    if bad.any():
        wanted = "whole numbers up to 2**53" if whole else "numbers"
        raise TableError(
            f"column {column} of {path} must hold {wanted}, and {int(bad.sum())} of its {len(table)} "
            f"rows do not, the first {table.loc[bad, column].iloc[0]!r}; correct the table or leave the cell empty"
        )
    return values


def _whole_numbers(table: pd.DataFrame, column: str, path: Path) -> pd.Series:
    """As `_numbers`, as int64, 0 where there is none."""
    return _numbers(table, column, path, whole=True).fillna(0).astype(np.int64)


def _moa_table(path: Path) -> pd.DataFrame:
    """Compound, concentration (uM), moa; rows that lack one of them tell nothing."""
    wanted = ["compound", "concentration", "moa"]
    head = _head(path)
    schema.require_columns(head.rename(columns=str.lower), wanted, str(path))
    table = _read_csv(path, [name for name in map(str, head) if name.lower() in wanted]).rename(columns=str.lower)
    table = table.assign(concentration=_numbers(table, "concentration", path), moa=_given(table["moa"], _NO_MOA))
    return table.dropna(subset=wanted)


def _complete(fields: pd.DataFrame) -> pd.DataFrame:
    """Fields with derived columns, sorted, and everything not yet in doubt."""
    fields = _metadata(fields)
    fields = fields.sort_values([schema.PLATE, schema.WELL, schema.SITE], kind="stable", ignore_index=True)
    twice = fields.duplicated(schema.FIELD)
    note(fields, twice, REFUSED, "duplicate-field", "an earlier row of the table is the same field")
    return fields


def _metadata(table: pd.DataFrame) -> pd.DataFrame:
    """Fields or cells with the types of the vocabulary, what follows from their plate, and status ok."""
    incomplete = table[[schema.PLATE, schema.WELL, schema.COMPOUND]].isna().any(axis=1)
    for column in (schema.PLATE, schema.WELL, schema.COMPOUND):
        table[column] = table[column].fillna("").astype(str)
    if schema.REPLICATE not in table:
        table[schema.REPLICATE] = 0
    batch = table[schema.PLATE].map(schema.batch_of)
    table[schema.BATCH] = table[schema.BATCH].fillna(batch).astype(str) if schema.BATCH in table else batch
    table[schema.CONCENTRATION] = _given(table[schema.CONCENTRATION])
    written = "the table gives " + table[schema.CONCENTRATION].map(repr, na_action="ignore").fillna("nothing")
    table[schema.CONCENTRATION] = pd.to_numeric(table[schema.CONCENTRATION], errors="coerce").astype(np.float64)
    if schema.MOA not in table:
        table[schema.MOA] = schema.UNKNOWN_MOA
    table[schema.MOA] = _given(table[schema.MOA], _NO_MOA).fillna(schema.UNKNOWN_MOA).astype(str)
    table[schema.FIELD] = [
        field_name(p, w, s) for p, w, s in table[[schema.PLATE, schema.WELL, schema.SITE]].itertuples(index=False)
    ]
    table[schema.TREATMENT] = [
        schema.treatment_name(c, x) for c, x in table[[schema.COMPOUND, schema.CONCENTRATION]].itertuples(index=False)
    ]
    table[schema.STATUS], table[schema.CODE], table[schema.REASON] = OK, "", ""
    note(table, incomplete, REFUSED, "incomplete-row", "the table gives no plate, no well or no compound")
    bad = ~np.isfinite(table[schema.CONCENTRATION])
    note(table, bad, REFUSED, "bad-concentration", written + " as its concentration, where a number of uM is needed")
    return table


def note(fields: pd.DataFrame, rows: pd.Series, status: str, code: str, reason: str | pd.Series) -> None:
    """Write what is to be said of some fields into their status, code and reason, after what is already said.

    Several codes and reasons stand one after the other, with "; " between them. Of a field that is already refused
    nothing more is said.
    """
    rows = rows & (fields[schema.STATUS] == OK)
    if not rows.any():
        return
    more = pd.Series(reason, index=fields.index)[rows]
    fields.loc[rows, schema.STATUS] = status
    for column, text in ((schema.CODE, pd.Series(code, index=fields.index)[rows]), (schema.REASON, more)):
        said = fields.loc[rows, column]
        fields.loc[rows, column] = said.where(said == "", said + "; ") + text


def _join_moa(fields: pd.DataFrame, moa: pd.DataFrame, table: str) -> None:
    """Mechanisms by compound and concentration; concentrations within the tolerance are the table's."""
    known = {c: (rows["concentration"].to_numpy(float), rows["moa"].to_list()) for c, rows in moa.groupby("compound")}
    which = fields.groupby([schema.COMPOUND, schema.CONCENTRATION], dropna=False).ngroup()
    pairs = fields[[schema.COMPOUND, schema.CONCENTRATION]].assign(pair=which).drop_duplicates("pair").set_index("pair")
    joined: dict[int, tuple[str, float, str, str]] = {}  # pair -> mechanism, concentration, code, reason
    for pair, compound, concentration in pairs.itertuples():
        concentrations, mechanisms = known.get(compound, (np.empty(0), []))
        if not len(concentrations):
            joined[pair] = (
                schema.UNKNOWN_MOA,
                concentration,
                "unknown-moa",
                f"{table} gives no mechanism for {compound!r}",
            )
            continue
        nearest = int(np.argmin(np.abs(concentrations - concentration)))
        found = float(concentrations[nearest])
        if not np.isclose(found, concentration, rtol=CONCENTRATION_TOLERANCE, atol=0):
            said = f"{table} gives no mechanism for {compound!r} at {concentration:g} uM"
            joined[pair] = (schema.UNKNOWN_MOA, concentration, "unknown-moa", said)
        elif found != concentration:
            said = f"its concentration {concentration!r} uM was taken as {found!r} uM of {table}"
            joined[pair] = (str(mechanisms[nearest]), found, "concentration-within-tolerance", said)
        else:
            joined[pair] = (str(mechanisms[nearest]), concentration, "", "")
    names = [schema.MOA, schema.CONCENTRATION, "joined_code", "joined_reason"]
    by_row = pd.DataFrame.from_dict(joined, orient="index", columns=names).loc[which].set_index(fields.index)
    for code in ("unknown-moa", "concentration-within-tolerance"):
        note(fields, by_row["joined_code"] == code, OK, code, by_row["joined_reason"])
    fields[schema.MOA], fields[schema.CONCENTRATION] = by_row[schema.MOA], by_row[schema.CONCENTRATION].astype(float)
    fields[schema.TREATMENT] = [
        schema.treatment_name(c, x) if c else ""
        for c, x in fields[[schema.COMPOUND, schema.CONCENTRATION]].itertuples(index=False)
    ]


def _note_missing(fields: pd.DataFrame, channels: Sequence[str], there: pd.DataFrame) -> None:
    """Say of fields that none, or not all, of their files are there (`there`: a bool column per channel)."""
    said = "the table names this field, but none of its files exist"
    note(fields, ~there.any(axis=1), ABSENT, "row-without-image", said)
    missing = pd.Series("", index=fields.index)
    for channel in channels:
        lost = ~there[channel]
        missing[lost] += "the " + channel + " file " + fields.loc[lost, path_column(channel)] + " does not exist; "
    note(fields, ~there.all(axis=1), REFUSED, "missing-file", missing.str.removesuffix("; "))


def _image_files(folder: Path, suffixes: Sequence[str]) -> set[str]:
    """Files of a folder and all below it, also through links, relative to it; hidden ones are left out."""
    files, seen = set(), set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else [f for f in folders if not f.startswith(".")]
        if real not in seen:
            inside = Path(place).relative_to(folder)
            files |= {(inside / n).as_posix() for n in names if n.lower().endswith(tuple(suffixes)) and n[0] != "."}
        seen.add(real)
    return files


def _check_files(fields: pd.DataFrame, channels: Sequence[str], raw: Path) -> pd.DataFrame:
    """Fields whose files are not all there, and files that no row names."""
    there = _image_files(raw, (".tif", ".tiff"))
    found = pd.DataFrame({c: fields[path_column(c)].isin(there) for c in channels})
    _note_missing(fields, channels, found)
    named = {p for c in channels for p in fields[path_column(c)]}
    orphans = sorted(there - named)
    if not orphans:
        return fields
    extra = pd.DataFrame({schema.FIELD: orphans, path_column(channels[0]): orphans})
    extra[schema.PLATE] = [Path(p).parent.name for p in orphans]
    extra[schema.BATCH] = extra[schema.PLATE].map(schema.batch_of)
    extra[schema.STATUS], extra[schema.CODE] = REFUSED, "image-without-row"
    extra[schema.REASON] = [f"no row of the table names {p}" for p in orphans]
    return _appended(fields, extra)


@dataclasses.dataclass(frozen=True)
class CropLayout:
    """Pre-cut cells.

    Parameters
    ----------
    cells : DataFrame
        One row per row of the table, in its order, and after them one per image that no row names: the metadata of
        ``schema.CELL_COLUMNS``, status, code and reason, and ``source``: the file's name, or the crop's place in the
        array.
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
    schema.SITE: _whole_numbers,
    schema.REPLICATE: _whole_numbers,
    schema.OBJECT: _whole_numbers,
    schema.CENTER_Y: _numbers,
    schema.CENTER_X: _numbers,
}
_CROP_REQUIRED = (schema.CELL_ID, schema.PLATE, schema.WELL, schema.COMPOUND, schema.CONCENTRATION)


def crops(source: Path, table: Path, channels: Sequence[str], batch_column: str | None = None) -> CropLayout:
    """Pre-cut cells: an array ``(n, H, W, C)`` in an npz or npy file, or a folder of one npy, TIFF or PNG per cell.

    An npz file may name its crops in an array ``cell_id``; otherwise an array's crops are taken in the order of the
    table, which must be as long. A folder's files are named by the table's column ``file``, or are
    ``<cell_id>.{npy,tif,tiff,png}``.

    Parameters
    ----------
    source : Path
        The file or folder.
    table : Path
        CSV with one row per cell: cell_id, plate, well, compound, concentration_uM (uM), and optionally site,
        replicate, batch, moa, file; or the same as ``Metadata_*``.
    channels : sequence of str
        The channels in the order in which the images hold them.
    batch_column : str, optional
        Column that tells the experimental batch; without it `schema.batch_of` the plate.

    Raises
    ------
    TableError, IngestError
        The table lacks columns, or array and table cannot be brought together.
    """
    order = stored_order(channels)
    head = _head(table)
    columns = dict(_CROP_COLUMNS)
    if batch_column:
        schema.require_columns(head, [batch_column], str(table))
        columns[schema.BATCH] = (batch_column,)
    named = {}
    for name, accepted in columns.items():
        there = [c for c in accepted if c in head]
        if there:
            named[name] = there[0]
        elif name in _CROP_REQUIRED:
            raise TableError(f"{table} lacks a column {' or '.join(accepted)}; it has {', '.join(head.columns[:12])}")
    given = _read_csv(table, named.values())
    cells = pd.DataFrame(index=given.index)
    for name, column in named.items():
        read = _CROP_NUMBERS.get(name)
        cells[name] = read(given, column, table) if read else given[column]
    nameless = cells[schema.CELL_ID].isna()
    cells = _complete_crops(cells)
    note(cells, nameless, REFUSED, "incomplete-row", "the table gives no cell_id")
    twice = cells.duplicated(schema.CELL_ID) & ~nameless
    note(cells, twice, REFUSED, "duplicate-cell-id", "an earlier row has the same cell_id " + cells[schema.CELL_ID])
    unknown = cells[schema.MOA] == schema.UNKNOWN_MOA
    note(cells, unknown, OK, "unknown-moa", "the table gives no mechanism for " + cells[schema.TREATMENT])
    inputs = {table.name: digest_file(table)}
    files: tuple[str, ...] = ()
    if source.is_dir():
        cells, files = _crop_files(cells, source)
    elif source.is_file():
        cells, inputs["images"] = _crop_array(cells, source)
    else:
        raise IngestError(f"{source} does not exist; give an npz or npy file, or a folder of npy, tif or png files")
    if tuple(channels) != order:  # the cells do not tell in which order their channels were read
        inputs["--channels"] = ",".join(channels)
    if batch_column:
        inputs["--batch-column"] = batch_column
    return CropLayout(cells, order, tuple(list(channels).index(c) for c in order), source, inputs, files)


def _complete_crops(cells: pd.DataFrame) -> pd.DataFrame:
    """As `_complete`, for a table of cells."""
    cells[schema.CELL_ID] = cells[schema.CELL_ID].fillna("")
    for column, empty in ((schema.SITE, 1), (schema.OBJECT, 0), (schema.CENTER_Y, np.nan), (schema.CENTER_X, np.nan)):
        if column not in cells:
            cells[column] = empty
    return _metadata(cells)


def _crop_files(cells: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Each cell's file in a folder; what is missing and what no row names. And all its files."""
    files = sorted(_image_files(folder, SUFFIXES))
    if SOURCE in cells:
        cells[SOURCE] = cells[SOURCE].fillna("")
    else:
        by_stem = {Path(name).with_suffix("").as_posix(): name for name in files}
        cells[SOURCE] = [by_stem.get(c, c) for c in cells[schema.CELL_ID]]
    lost = ~cells[SOURCE].isin(files)
    note(cells, lost, REFUSED, "row-without-image", f"{folder} holds no file for cell " + cells[schema.CELL_ID])
    orphans = sorted(set(files) - set(cells[SOURCE]))
    return _with_orphans(cells, orphans, [f"no row of the table names {name}" for name in orphans]), tuple(files)


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
    note(cells, cells[SOURCE] == "", REFUSED, "row-without-image", f"{source} names no cell " + cells[schema.CELL_ID])
    named = set(cells[SOURCE])
    orphans = [str(i) for i in range(array.length) if str(i) not in named]
    reasons = [f"no row of the table names crop {i} ({array.ids[int(i)]}) of {source}" for i in orphans]
    return _with_orphans(cells, orphans, reasons), array.digest


def _with_orphans(cells: pd.DataFrame, sources: Sequence[str], reasons: Sequence[str]) -> pd.DataFrame:
    """The table with a refused row for every image that no row names."""
    if not sources:
        return cells
    extra = pd.DataFrame({SOURCE: sources, schema.FIELD: sources, schema.REASON: reasons})
    extra[schema.STATUS], extra[schema.CODE] = REFUSED, "image-without-row"
    return _appended(cells, extra)


def _appended(table: pd.DataFrame, extra: pd.DataFrame) -> pd.DataFrame:
    """More rows at the end of a table; what they do not say is empty, 0 or NaN as the column's type has it."""
    for column in table.columns.difference(extra.columns):
        kind = table[column].dtype.kind
        extra[column] = {"i": 0, "f": np.nan, "b": False}.get(kind, "")
    return pd.concat([table, extra.astype(table.dtypes.to_dict())[list(table.columns)]], ignore_index=True)


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
            sums = "".join(f"{i.filename}\t{i.file_size}\t{i.CRC}\n" for i in archive.infolist())
            return CropArray(shape[0], ids, hashlib.sha256(sums.encode()).hexdigest())
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as broken:
        raise IngestError(f"{path} cannot be read as an array of crops: {broken}") from None


def _check_axes(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) != 4:
        raise IngestError(f"{path} holds an array of shape {shape}, not (n, H, W, C)")


_CENTRE_COLUMNS = {
    "y": ("Metadata_CenterY_px", "Nuclei_Location_Center_Y", "Location_Center_Y", "Nuclei_AreaShape_Center_Y"),
    "x": ("Metadata_CenterX_px", "Nuclei_Location_Center_X", "Location_Center_X", "Nuclei_AreaShape_Center_X"),
}


def loaddata(
    table: Path,
    channels: Mapping[str, str],
    *,
    images: Path | None = None,
    centres: Path | None = None,
    columns: Mapping[str, str] | None = None,
    control: str = "DMSO",
) -> Layout:
    """A CellProfiler LoadData table: ``FileName_X``, ``PathName_X`` or ``URL_X``, optional ``Frame_X``, ``Metadata_*``.

    Parameters
    ----------
    table : Path
        The CSV. It needs Metadata_Plate and Metadata_Well; without Metadata_Site the fields of a well are numbered.
        Without a compound every well is its own treatment: its compound is ``<plate>/<well>``.
    channels : mapping of str to str
        Channel -> the X of its columns, such as ``{"DNA": "OrigDNA"}``.
    images : Path, optional
        Folder to which relative paths belong; without it the table's own.
    centres : Path, optional
        CSV of known cell centres (px), such as CellProfiler's Nuclei.csv: Metadata_Plate, Metadata_Well, Metadata_Site
        (or ImageNumber: the row of the table, from 1), and Location_Center_X and Y.
    columns : mapping of str to str, optional
        Vocabulary column -> column of the table, where it is called otherwise, such as
        ``{"Metadata_Compound": "Metadata_pert_iname"}``.
    control : str
        Compound name of untreated cells; its missing concentration is 0.

    Raises
    ------
    TableError
        A column is missing.
    """
    head, named = _head(table), dict(columns or {})
    files = [f"FileName_{column}" for column in channels.values() if f"URL_{column}" not in head]
    schema.require_columns(head, [*named.values(), *files], str(table))
    places = [kind + column for kind in _LOADDATA_FILES for column in channels.values()]
    given = _read_csv(table, [*_FIELD_METADATA, *named.values(), *places])
    fields = pd.DataFrame(index=given.index)
    for name in _FIELD_METADATA:
        column = named.get(name, name)
        if column in given:
            fields[name] = given[column]
    schema.require_columns(fields, [schema.PLATE, schema.WELL], str(table))
    for name in {schema.SITE, schema.REPLICATE} & set(fields.columns):
        fields[name] = _whole_numbers(given, named.get(name, name), table)
    if schema.SITE not in fields:
        fields[schema.SITE] = fields.groupby([schema.PLATE, schema.WELL]).cumcount() + 1
    if schema.COMPOUND not in fields:
        fields[schema.COMPOUND] = fields[schema.PLATE] + "/" + fields[schema.WELL]
        fields[schema.CONCENTRATION] = "0"
    if schema.CONCENTRATION not in fields:
        raise TableError(
            f"{table} gives compounds but no {schema.CONCENTRATION} (uM); name its column with --concentration-column"
        )
    untreated = (fields[schema.COMPOUND] == control) & _given(fields[schema.CONCENTRATION]).isna()
    fields.loc[untreated, schema.CONCENTRATION] = "0"
    order = stored_order(list(channels))
    base = (images or table.parent).resolve()
    for channel in order:
        fields[path_column(channel)] = _loaddata_paths(given, channels[channel], base, table)
        frame = f"Frame_{channels[channel]}"
        fields[frame_column(channel)] = _whole_numbers(given, frame, table) if frame in given else 0
    fields["row"] = np.arange(1, len(fields) + 1)
    fields = _complete(fields)
    note(
        fields,
        fields[schema.MOA] == schema.UNKNOWN_MOA,
        OK,
        "unknown-moa",
        f"{table.name} gives no mechanism for " + fields[schema.TREATMENT],
    )
    there = pd.DataFrame({c: [(base / p).is_file() for p in fields[path_column(c)]] for c in order})
    _note_missing(fields, order, there)
    inputs = {table.name: digest_file(table)}
    known = None
    if centres is not None:
        known = _centre_table(centres, fields)
        inputs[centres.name] = digest_file(centres)
    return Layout(fields.drop(columns="row"), order, inputs, known)


_FIELD_METADATA = (
    schema.PLATE,
    schema.WELL,
    schema.SITE,
    schema.REPLICATE,
    schema.BATCH,
    schema.COMPOUND,
    schema.CONCENTRATION,
    schema.MOA,
)
_LOADDATA_FILES = ("URL_", "FileName_", "PathName_", "Frame_")


def _loaddata_paths(given: pd.DataFrame, channel: str, base: Path, table: Path) -> list[str]:
    """One channel's files, relative to `base` where they lie in it."""
    url, name, folder = f"URL_{channel}", f"FileName_{channel}", f"PathName_{channel}"
    if url in given:
        parts = [urllib.parse.urlparse(u) for u in given[url].fillna("")]
        far = [p for p in parts if p.scheme not in ("", "file")]
        if far:
            raise TableError(f"{table} names images by {far[0].scheme}://; fetch them first, only local files are read")
        paths = [Path(urllib.parse.unquote(p.path)) for p in parts]
    else:
        folders = given[folder].fillna("") if folder in given else [""] * len(given)
        paths = [Path(f) / n for f, n in zip(folders, given[name].fillna(""), strict=True)]
    return [(p.relative_to(base) if p.is_relative_to(base) else p).as_posix() for p in paths]


def _centre_table(path: Path, fields: pd.DataFrame) -> pd.DataFrame:
    """Known centres: field, object number, y and x (px)."""
    head = _head(path)
    where = [schema.PLATE, schema.WELL, schema.SITE]
    numbers = [c for c in (schema.OBJECT, "ObjectNumber") if c in head][:1]
    keys = where if set(where) <= set(head) else ["ImageNumber"]
    if not set(keys) <= set(head):
        raise TableError(f"{path} must say the field of a centre: {', '.join(where)}, or ImageNumber")
    axes = {}
    for axis, accepted in _CENTRE_COLUMNS.items():
        there = [c for c in accepted if c in head]
        if not there:
            raise TableError(f"{path} lacks a column {' or '.join(accepted)}")
        axes[axis] = there[0]
    given = _read_csv(path, [*keys, *numbers, *axes.values()])
    for column in (keys[-1], *numbers):
        given[column] = _given(given[column])
    given = given.dropna(subset=[*keys, *numbers])
    centres = pd.DataFrame({axis: _numbers(given, column, path) for axis, column in axes.items()})
    last = _whole_numbers(given, keys[-1], path)
    if keys == where:
        named = zip(given[schema.PLATE], given[schema.WELL], last, strict=True)
        centres[schema.FIELD] = [field_name(*parts) for parts in named]
    else:
        centres[schema.FIELD] = last.map(fields.set_index("row")[schema.FIELD])
    centres[schema.OBJECT] = (
        _whole_numbers(given, numbers[0], path) if numbers else centres.groupby(schema.FIELD).cumcount() + 1
    )
    centres = centres.dropna()
    twice = centres[centres.duplicated([schema.FIELD, schema.OBJECT])]
    if len(twice):
        raise TableError(
            f"{path} repeats {len(twice)} object numbers within a field, the first {twice[schema.OBJECT].iloc[0]} in "
            f"{twice[schema.FIELD].iloc[0]}; every cell of a field needs a number of its own"
        )
    return centres
