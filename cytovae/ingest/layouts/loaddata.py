"""A CellProfiler LoadData table, with known centres where there are any."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pandas as pd

from cytovae import schema
from cytovae.errors import TableError
from cytovae.ingest.layouts import centres as centre_tables
from cytovae.ingest.layouts import tables
from cytovae.screen import digest_file


def read(
    table: Path,
    channels: Mapping[str, str],
    *,
    images: Path | None = None,
    centres: Path | None = None,
    design: tables.Design | None = None,
    illumination: bool = False,
) -> tables.Layout:
    """A CellProfiler LoadData table: ``FileName_X``, ``PathName_X`` or ``URL_X``, optional ``Frame_X``, ``Metadata_*``.

    A file is looked for where the table says, then under `images` by the longest end of its folders that is there: a
    table written on another machine needs no editing. CellProfiler's ``Image.csv`` and the tables of its data bases are
    read too: their columns may begin with ``Image_``.

    Parameters
    ----------
    table : Path
        A CSV, gzipped or not, or the same as parquet. It needs Metadata_Plate and Metadata_Well; without Metadata_Site
        the fields of a well are numbered. Without a compound every well is its own treatment: its compound is
        ``<plate>/<well>``. Further ``Metadata_*`` columns are kept.
    channels : mapping of str to str
        Channel -> the X of its columns, such as ``{"DNA": "OrigDNA"}``.
    images : Path, optional
        Folder to which relative paths belong; without it the table's own.
    centres : Path, optional
        CSV of known cell centres (px), such as CellProfiler's Nuclei.csv: Metadata_Plate, Metadata_Well, Metadata_Site
        (or ImageNumber: that of the table, or its row from 1 where it has none), and Location_Center_X and Y.
    design : Design, optional
        What was done to the wells.
    illumination : bool
        Read, too, which illumination files belong to the images: ``FileName_IllumDNA`` to ``FileName_OrigDNA``.

    Raises
    ------
    TableError
        Columns are missing, all of them named; images lie on another machine only; or two rows mean one file.
    """
    design = design or tables.Design()
    head = tables.head(table)
    spelled = _spelled(head)
    plain = {written: name for name, written in spelled.items()}
    head = head.rename(columns=plain)
    named = {ours: plain.get(theirs, theirs) for ours, theirs in design.columns.items()}
    mapped = [] if design.plate_map is None else list(tables.head(design.plate_map))
    own = [c for c in schema.own_columns(head) if c not in named.values()]
    lights = {c: illumination_of(column) for c, column in channels.items()} if illumination else {}
    pictures = [*channels.values(), *lights.values()]
    files = [f"FileName_{column}" for column in pictures if f"URL_{column}" not in head]
    here = {schema.PLATE, schema.WELL} - set(named)
    schema.require_columns(head, [*sorted(here), *(c for c in named.values() if c not in mapped), *files], str(table))
    places = [kind + column for kind in _LOADDATA_FILES for column in pictures]
    wanted = ["ImageNumber", *_FIELD_METADATA, *own, *named.values(), *places]
    given = tables.read_csv(table, [spelled.get(name, name) for name in wanted]).rename(columns=plain)
    fields = pd.DataFrame(index=given.index)
    for name in dict.fromkeys([*_FIELD_METADATA, *own, *named]):
        column = named.get(name, name)
        if column in given:
            fields[name] = given[column]
    fields[schema.WELL] = fields[schema.WELL].map(schema.well_name, na_action="ignore")
    for name in {schema.SITE, schema.REPLICATE} & set(fields.columns):
        fields[name] = tables.whole_numbers(given, named.get(name, name), table)
    if schema.SITE not in fields:
        fields[schema.SITE] = tables.numbered_sites(fields, design, str(table))
    fields = tables.treated(fields, design, str(table), head.columns)
    order = tables.stored_order(list(channels))
    base = (images or table.parent).resolve()
    for channel in order:
        fields[tables.path_column(channel)] = _local_files(given, channels[channel], base, table)
        frame = f"Frame_{channels[channel]}"
        told = tables.whole_numbers(given, frame, table) if frame in given else tables.UNTOLD
        fields[tables.frame_column(channel)] = told
        _refuse_series(given, channels[channel], table)
        if lights:
            fields[tables.light_column(channel)] = _local_files(given, lights[channel], base, table)
    fields["row"] = np.arange(1, len(fields) + 1)
    if "ImageNumber" in given:
        schema.require_unique(given, "ImageNumber", str(table))
        fields["row"] = tables.whole_numbers(given, "ImageNumber", table)
    fields = tables.complete(fields, design, str(table))
    tables.note(
        fields,
        fields[schema.MOA] == schema.UNKNOWN_MOA,
        tables.OK,
        "unknown-moa",
        f"{table.name} gives no mechanism for " + fields[schema.TREATMENT],
    )
    there = pd.DataFrame({c: [(base / p).is_file() for p in fields[tables.path_column(c)]] for c in order})
    tables.note_missing(fields, order, there)
    tables.refuse_shared(fields, order, there, str(table))
    for channel in lights:
        file = fields[tables.light_column(channel)]
        said = f"the illumination of {channel}, " + file + ", does not exist"
        tables.note(fields, ~file.map(lambda p: (base / p).is_file()), tables.REFUSED, "missing-file", said)
    inputs = {table.name: digest_file(table)} | design.inputs()
    known = None
    if centres is not None:
        known = centre_tables.read(centres, fields)
        inputs[centres.name] = digest_file(centres)
    names: dict[str, tuple[str, ...]] = {channel: (column, channel) for channel, column in channels.items()}
    return tables.Layout(fields.drop(columns="row"), order, inputs, known, names)


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
_LOADDATA_FILES = ("URL_", "FileName_", "PathName_", "Frame_", "Series_")


def _refuse_series(given: pd.DataFrame, channel: str, table: Path) -> None:
    """Refuse a table that asks for another image of a file than the first."""
    column = f"Series_{channel}"
    if column not in given:
        return
    later = tables.whole_numbers(given, column, table) != 0
    if later.any():
        _, file, address = _named(given[later], channel)[0]
        raise TableError(
            f"{table} asks in {column} for image {given.loc[later, column].iloc[0]} of {file or address}, and only "
            "image 0, the first of a file, is read; write each image to a file of its own"
        )


def _spelled(head: pd.DataFrame) -> dict[str, str]:
    """Column -> how it is written, of those that are written with ``Image_`` before them and not also without it."""
    kinds = tuple("Image_" + kind for kind in (*_LOADDATA_FILES, "Metadata_"))
    written = [str(name) for name in head if str(name).startswith(kinds)]
    return {name.removeprefix("Image_"): name for name in written if name.removeprefix("Image_") not in head}


def illumination_of(column: str) -> str:
    """What a table calls the illumination of a channel's images.

    Examples
    --------
    >>> illumination_of("OrigDNA")
    'IllumDNA'
    """
    return f"Illum{column.removeprefix('Orig')}"


def lights_named(table: Path, channels: Mapping[str, str]) -> bool:
    """Whether a table names illumination files of all channels; `channels` as for `read`."""
    names = {str(name).removeprefix("Image_") for name in tables.head(table)}
    columns = map(illumination_of, channels.values())
    return all({f"FileName_{column}", f"URL_{column}"} & names for column in columns)


def addresses(table: Path, channels: Mapping[str, str]) -> dict[str, PurePosixPath]:
    """The images, and their illumination files, that a table names by address (``s3://``, ``https://`` ...).

    Parameters
    ----------
    table : Path
    channels : mapping of str to str
        As for `read`.

    Returns
    -------
    dict of str to PurePosixPath
        Address -> where `read` looks for it below its folder of images: host, or bucket, and path.

    Raises
    ------
    TableError
        A column is missing, an address leads out of the folder, or two lie in the same place.
    """
    head = tables.head(table)
    spelled = _spelled(head)
    head = head.rename(columns={written: name for name, written in spelled.items()})
    files = [f"FileName_{column}" for column in channels.values() if f"URL_{column}" not in head]
    schema.require_columns(head, files, str(table))
    columns = [*channels.values(), *map(illumination_of, channels.values())]
    wanted = [kind + column for kind in ("URL_", "FileName_", "PathName_") for column in columns]
    given = tables.read_csv(table, [spelled.get(name, name) for name in wanted])
    given = given.rename(columns={written: name for name, written in spelled.items()})
    found: dict[str, PurePosixPath] = {}
    taken: dict[PurePosixPath, str] = {}
    for column in columns:
        for _, _, address in _named(given, column):
            if "://" not in address or address.startswith("file:") or address in found:
                continue
            place = PurePosixPath(*_place(address))
            if place.is_absolute() or ".." in place.parts or len(place.parts) < 2:
                raise TableError(f"{table} names {address}, which has no place below a folder")
            if (other := taken.setdefault(place, address)) != address:
                raise TableError(f"{table} names {address} and {other}, which would lie in the same file {place}")
            found[address] = place
    return found


def _named(given: pd.DataFrame, column: str) -> list[tuple[str, str, str]]:
    """What each row says of a channel: folder, file, address; a folder that is an address makes one."""
    empty = pd.Series("", index=given.index)
    columns = (f"PathName_{column}", f"FileName_{column}", f"URL_{column}")
    rows = []
    for folder, file, address in zip(*(given.get(c, empty).fillna("") for c in columns), strict=True):
        if "://" in folder and file:
            folder, file, address = "", "", address or f"{folder.rstrip('/')}/{file}"
        rows.append((folder, file, address))
    return rows


def _place(address: str) -> tuple[str, ...]:
    """Where the file of an address is looked for: below its host or bucket; a ``file:`` or a mere path as it is."""
    parsed = urllib.parse.urlparse(address)
    path = PurePosixPath(urllib.parse.unquote(parsed.path)).parts
    if parsed.scheme in ("", "file"):
        return path
    return (parsed.netloc.rpartition("@")[2].replace(":", "_"), *path[path[:1] == ("/",) :])


def _local_files(given: pd.DataFrame, channel: str, base: Path, table: Path) -> list[str]:
    """One channel's files, relative to `base` where they lie in it.

    Raises
    ------
    TableError
        They are named by addresses of other machines and none is under `base`; or two rows mean one file.
    """
    known: dict[tuple[str, ...], Path | None] = {}
    found: list[Path] = []
    meant: dict[Path, tuple[str, ...]] = {}
    far = ""
    for parent, file, address in _named(given, channel):
        asked = [_parts(parent, file)] if file else []
        if address and not (file and _find(asked[0], base, known)):
            asked.append(_place(address))
            scheme = urllib.parse.urlparse(address).scheme
            far = far or (scheme if scheme not in ("", "file") and not _find(asked[-1], base, known) else "")
        there = [path for parts in asked if (path := _find(parts, base, known))]
        path = there[0] if there else Path(*asked[0]) if asked else Path()
        found.append(path)
        if there and meant.setdefault(path, asked[0][:-1]) != asked[0][:-1]:
            raise TableError(
                f"{table} names {'/'.join(asked[0])} and {'/'.join((*meant[path], path.name))}, and both are found as "
                f"{path} only; give with --images the folder under which the table's own folders lie"
            )
    if far and not any((base / path).is_file() for path in found):
        raise TableError(
            f"{table} names images by {far}://; fetch them first with 'cytovae fetch loaddata' and give their folder "
            "with --images"
        )
    return [(p.relative_to(base) if p.is_relative_to(base) else p).as_posix() for p in found]


def _parts(folder: str, file: str) -> tuple[str, ...]:
    """A path taken apart, whichever system it was written on."""
    path = f"{folder}/{file}" if folder else file
    windows = "\\" in path or re.match(r"[A-Za-z]:", path)
    return (PureWindowsPath(path) if windows else PurePosixPath(path)).parts


def _find(parts: tuple[str, ...], base: Path, known: dict[tuple[str, ...], Path | None]) -> Path | None:
    """A file where it is named, or under `base` by the longest end of its folders that is there; `known`: by folder."""
    above = parts[:-1]
    if above in known and known[above] is not None and (path := Path(str(known[above])) / parts[-1]).is_file():
        return path
    for k in range(len(parts)):
        path = base / Path(*parts[k:])  # an absolute path stays itself
        if path.is_file():
            known[above] = path.parent
            return path
    return None
