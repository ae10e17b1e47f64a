"""A folder of images whose names say where they belong, as microscopes write them: no table is needed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import pandas as pd

from cytovae import schema
from cytovae.errors import ConfigError, IngestError
from cytovae.images import BETWEEN_FILES, VENDOR, check_z
from cytovae.ingest.layouts import harmony, tables
from cytovae.screen import digest_file


class Microscope(StrEnum):
    """Whose way of naming files it is."""

    OPERETTA = "operetta"
    IMAGEXPRESS = "imagexpress"
    INCELL = "incell"


PATTERNS = {
    Microscope.OPERETTA: r"r(?P<row>\d+)c(?P<column>\d+)f(?P<site>\d+)p(?P<z>\d+)-ch(?P<channel>\d+)"
    r"(?:sk(?P<time>\d+))?[a-z0-9]*\.tiff?",
    Microscope.IMAGEXPRESS: r".*_(?P<well>[A-Z]{1,2}\d{2})(?:_s(?P<site>\d+))?_w(?P<channel>\d)"
    r"(?:[0-9A-F]{8}-[0-9A-F-]{27})?\.tiff?",
    Microscope.INCELL: r"(?P<row>[A-Z]{1,2}) - (?P<column>\d+)\(fld (?P<site>\d+) wv (?P<channel>[^)]*?)"
    r"(?: z (?P<z>\d+))?(?: time (?P<time>\d+)[^)]*)?\)\.tiff?",
}
"""Microscope -> what its file names are; the groups say well, or row and column, site, channel, z and time."""

_PARTS = ("well", "row", "column", "site", "channel", "z", "time", "plate")
_NO_PLATE = re.compile(r"images|timepoint_\d+|zstep_\d+", re.IGNORECASE)
_STEP = re.compile(r"zstep_(\d+)", re.IGNORECASE)
_THUMBNAIL = re.compile(r"_thumb", re.IGNORECASE)


def read(
    raw: Path,
    channels: Mapping[str, str],
    naming: Microscope | str,
    *,
    z: str | None = None,
    design: tables.Design | None = None,
) -> tables.Layout:
    """The fields of a folder, from the names of its files.

    A plate is the folder a file lies in, passing over ``Images``, ``TimePoint_1`` and ``ZStep_1``. What was done to the
    wells comes from a plate map; without one every well is its own treatment: its compound is ``<plate>/<well>``.
    Where Harmony's ``Index.xml`` lies beside the images of an Opera or Operetta, it names the plate and the channels
    and says how large a pixel is, and the images are those that it lists.

    Parameters
    ----------
    raw : Path
        The folder; folders in it count too, thumbnails do not.
    channels : mapping of str to str
        Channel -> what the file names call it, such as ``{"DNA": "1"}``, or what ``Index.xml`` does; where one file
        holds all channels, what the file itself calls it.
    naming : Microscope or str
        Whose names they are; or a regular expression with the groups ``well`` (or ``row`` and ``column``) and, where
        there are any, ``plate``, ``site``, ``channel``, ``z`` and ``time``.
    z : str, optional
        What becomes of z-stacks of which every plane is a file: ``max``, ``sum``, or the number of one plane.
    design : Design, optional
        What was done to the wells.

    Raises
    ------
    ConfigError
        The regular expression cannot be used, or no file is of a channel asked for.
    IngestError
        There is no folder, no file is named so, several files are the same channel of a field, or an ``Index.xml`` is
        not understood or speaks of other images.
    """
    design = design or tables.Design()
    check_z(z)
    if not raw.is_dir():
        raise IngestError(f"there is no folder {raw}")
    order = tables.stored_order(list(channels))
    pattern = _compiled(naming)
    names = [
        n for n in sorted(tables.image_files(raw, (".tif", ".tiff", *VENDOR))) if not _THUMBNAIL.search(Path(n).name)
    ]
    indices = _indices(raw, names) if naming == Microscope.OPERETTA else {}
    names = sorted({*names, *(name for folder, index in indices.items() for name in _listed(folder, index))})
    matches = {name: pattern.fullmatch(Path(name).name) for name in names}
    found = pd.DataFrame([_described(name, m.groupdict(), raw) for name, m in matches.items() if m])
    if found.empty:
        seen = f"the first of its {len(names)} images is {Path(names[0]).name!r}" if names else "it holds no image"
        raise IngestError(f"no file of {raw} is named as {naming} names them: {seen}")
    found = _one_plane(_indexed(found, indices, channels), z, raw)
    in_names = "channel" in pattern.groupindex
    if in_names:
        found = _asked_for(found, channels, raw)
    _refuse_twice(found, raw)
    keys = [schema.PLATE, schema.WELL, schema.SITE]
    fields = found[keys].drop_duplicates().reset_index(drop=True)
    where = pd.MultiIndex.from_frame(fields[keys])
    depth = {}
    for channel in order:
        mine = found[found["channel"] == _token(channels[channel])] if in_names else found
        files, depth[channel] = mine.set_index(keys)["path"], mine["z"].nunique()
        if depth[channel] > 1:
            files = mine.sort_values("z").groupby(keys)["path"].agg(BETWEEN_FILES.join)
        fields[tables.path_column(channel)] = files.reindex(where).fillna("").to_numpy()
    fields = tables.treated(fields, design, str(raw))
    fields = tables.complete(fields, design, str(design.plate_map or raw))
    unknown = fields[schema.MOA] == schema.UNKNOWN_MOA
    tables.note(fields, unknown, tables.OK, "unknown-moa", "no table gives a mechanism for " + fields[schema.TREATMENT])
    for channel in order:
        lost = fields[tables.path_column(channel)] == ""
        said = f"no file of {raw} is its channel {channel} ({channels[channel]})"
        tables.note(fields, lost, tables.REFUSED, "missing-file", said)
        few = fields[tables.path_column(channel)].str.count(BETWEEN_FILES) + 1 < depth[channel]
        said = f"{raw} does not hold all {depth[channel]} z-planes of its channel {channel} ({channels[channel]})"
        tables.note(fields, few, tables.REFUSED, "missing-file", said)
    inputs = design.inputs() | {"--channels": ",".join(f"{c}={channels[c]}" for c in order)}
    inputs |= {index.path.relative_to(raw).as_posix(): digest_file(index.path) for index in indices.values()}
    sizes = {round(index.pixel_size_um, 4) for index in indices.values() if index.pixel_size_um}
    if len(sizes) > 1:
        seen = ", ".join(map(str, sorted(sizes)))
        raise IngestError(f"images of {raw} have pixels of {seen} um; ingest those of one size at a time")
    known: dict[str, tuple[str, ...]] = {c: (name, c) for c, name in channels.items()}
    return tables.Layout(fields, order, inputs, names=known, pixel_size_um=next(iter(sizes), None))


def _indices(raw: Path, names: Sequence[str]) -> dict[str, harmony.Index]:
    """Folder of images, relative -> the index in it."""
    folders = sorted({Path(name).parent.as_posix() for name in names})
    there = {folder: harmony.find(raw / folder) for folder in folders}
    return {folder: harmony.read(path) for folder, path in there.items() if path is not None}


def _listed(folder: str, index: harmony.Index) -> dict[str, tuple[int, int, int, int]]:
    """The files that an index lists, relative as its folder is, with their places."""
    return {(Path(folder) / file).as_posix(): place for file, place in index.places.items()}


def _indexed(found: pd.DataFrame, indices: Mapping[str, harmony.Index], channels: Mapping[str, str]) -> pd.DataFrame:
    """Files with the plates, and the names of channels that were asked for, of their indices.

    Raises
    ------
    IngestError
        An index and the names of the files beside it disagree.
    """
    asked = {_token(name) for name in channels.values()}
    found["called"] = found["channel"]
    for folder, index in indices.items():
        here = found["path"].map(lambda path, folder=folder: Path(path).parent.as_posix() == folder)
        listed = _listed(folder, index)
        if unlike := sorted(set(listed) ^ set(found.loc[here, "path"])):
            said = "lists {}, which is not named as operetta names" if unlike[0] in listed else "does not list {}"
            raise IngestError(
                f"{index.path} {said.format(unlike[0])}; export the plate again, or take the index away to go by the "
                "names of the files alone"
            )
        for path, well, site, channel in found.loc[here, ["path", schema.WELL, schema.SITE, "channel"]].to_numpy():
            row, column, field, number = listed[path]
            if (well, site, channel) != (schema.well_name(f"{_letters(row)}{column}"), field, str(number)):
                raise IngestError(
                    f"{index.path} says that {path} is row {row}, column {column}, field {field}, channel {number}, "
                    "and its name says another"
                )
        names = {number: _token(name) for number, name in index.channels.items()}
        numbers = list(found.loc[here, "channel"])
        found.loc[here, "called"] = [f"{n} ({index.channels[n]})" if n in names else n for n in numbers]
        found.loc[here, "channel"] = [names[n] if names.get(n) in asked else n for n in numbers]
        if index.plate:
            found.loc[here, schema.PLATE] = index.plate
    return found


def _compiled(naming: Microscope | str) -> re.Pattern[str]:
    if naming in list(Microscope):
        return re.compile(PATTERNS[Microscope(naming)], re.IGNORECASE)
    try:
        pattern = re.compile(naming)
    except re.error as broken:
        raise ConfigError(f"{naming!r} is no regular expression: {broken}") from None
    groups = set(pattern.groupindex)
    if not ("well" in groups or {"row", "column"} <= groups) or groups - set(_PARTS):
        raise ConfigError(
            f"{naming!r} must name the group 'well', or 'row' and 'column', and may name "
            f"{', '.join(_PARTS[3:])}; it names {', '.join(sorted(groups)) or 'none'}; "
            f"or give {', '.join(Microscope)}"
        )
    return pattern


def _described(name: str, parts: Mapping[str, str | None], raw: Path) -> dict[str, object]:
    """What a file's name says."""
    row = parts.get("row") or ""
    letters = row if not row.isdecimal() else _letters(int(row))
    well = schema.well_name(parts.get("well") or f"{letters}{parts.get('column')}")
    folders = [f for f in Path(name).parent.parts if not _NO_PLATE.fullmatch(f)]
    return {
        schema.PLATE: parts.get("plate") or (folders[-1] if folders else raw.resolve().name),
        schema.WELL: well,
        schema.SITE: int(parts.get("site") or 1),
        "channel": _token(parts.get("channel") or ""),
        "z": int(parts.get("z") or next((m.group(1) for m in map(_STEP.fullmatch, Path(name).parts) if m), 1)),
        "time": parts.get("time") or next((f for f in Path(name).parts if f.lower().startswith("timepoint_")), ""),
        "path": name,
    }


def _letters(row: int) -> str:
    """The letters of a plate's row, from 1.

    Examples
    --------
    >>> _letters(1), _letters(26), _letters(27), _letters(32)
    ('A', 'Z', 'AA', 'AF')
    """
    return (chr(64 + (row - 1) // 26) if row > 26 else "") + chr(65 + (row - 1) % 26)


def _token(channel: str) -> str:
    """A channel as names are compared: a number without leading zeros."""
    text = channel.strip().lower()
    return str(int(text)) if text.isdecimal() else text


def _one_plane(found: pd.DataFrame, z: str | None, raw: Path) -> pd.DataFrame:
    """The files of one time point, and of one z-plane or all that become one."""
    times = sorted(found["time"].unique())
    if len(times) > 1:
        raise IngestError(f"{raw} holds {len(times)} time points ({', '.join(times[:4])}); ingest each by itself")
    planes = sorted(found["z"].unique())
    if len(planes) == 1:
        return found
    if z in ("max", "sum"):
        made = found["path"].map(lambda path: any(part.lower() == "zstep_0" for part in Path(path).parts))
        if made.any():
            raise IngestError(
                f"{raw} holds the folder ZStep_0, in which MetaXpress puts projections, beside those of z-planes; move "
                "it away, or choose one plane with --z N"
            )
        return found
    if z is None or int(z) not in planes:
        raise IngestError(
            f"{raw} holds z-planes {planes[0]} to {planes[-1]}, each a file of its own; say what becomes of them with "
            "--z max or --z sum, or choose one of them with --z N"
        )
    return found[found["z"] == int(z)]


def _asked_for(found: pd.DataFrame, channels: Mapping[str, str], raw: Path) -> pd.DataFrame:
    """The files of the channels asked for."""
    missing = [f"{ours}={theirs}" for ours, theirs in channels.items() if _token(theirs) not in set(found["channel"])]
    if missing:
        have = ", ".join(sorted(found["called"].unique()))
        raise ConfigError(f"no file of {raw} is of the channel {', '.join(missing)}; there are {have}")
    return found[found["channel"].isin([_token(c) for c in channels.values()])]


def _refuse_twice(found: pd.DataFrame, raw: Path) -> None:
    same = [schema.PLATE, schema.WELL, schema.SITE, "channel", "z"]
    twice = found[found.duplicated(same, keep=False)]
    if len(twice):
        one, other = twice.sort_values(same)["path"].iloc[:2]
        raise IngestError(f"{one} and {other} of {raw} are the same channel of the same field; ingest them apart")
