"""A CellProfiler LoadData table, with known centres where there are any."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from cytovae import schema
from cytovae.errors import TableError
from cytovae.ingest.layouts import tables
from cytovae.screen import digest_file

_CENTRE_COLUMNS = {
    "y": ("Metadata_CenterY_px", "Nuclei_Location_Center_Y", "Location_Center_Y", "Nuclei_AreaShape_Center_Y"),
    "x": ("Metadata_CenterX_px", "Nuclei_Location_Center_X", "Location_Center_X", "Nuclei_AreaShape_Center_X"),
}


def read(
    table: Path,
    channels: Mapping[str, str],
    *,
    images: Path | None = None,
    centres: Path | None = None,
    columns: Mapping[str, str] | None = None,
    control: str = "DMSO",
) -> tables.Layout:
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
    head, named = tables.head(table), dict(columns or {})
    files = [f"FileName_{column}" for column in channels.values() if f"URL_{column}" not in head]
    schema.require_columns(head, [*named.values(), *files], str(table))
    places = [kind + column for kind in _LOADDATA_FILES for column in channels.values()]
    given = tables.read_csv(table, [*_FIELD_METADATA, *named.values(), *places])
    fields = pd.DataFrame(index=given.index)
    for name in _FIELD_METADATA:
        column = named.get(name, name)
        if column in given:
            fields[name] = given[column]
    schema.require_columns(fields, [schema.PLATE, schema.WELL], str(table))
    for name in {schema.SITE, schema.REPLICATE} & set(fields.columns):
        fields[name] = tables.whole_numbers(given, named.get(name, name), table)
    if schema.SITE not in fields:
        fields[schema.SITE] = fields.groupby([schema.PLATE, schema.WELL]).cumcount() + 1
    if schema.COMPOUND not in fields:
        fields[schema.COMPOUND] = fields[schema.PLATE] + "/" + fields[schema.WELL]
        fields[schema.CONCENTRATION] = "0"
    if schema.CONCENTRATION not in fields:
        raise TableError(
            f"{table} gives compounds but no {schema.CONCENTRATION} (uM); name its column with --concentration-column"
        )
    untreated = (fields[schema.COMPOUND] == control) & tables.given(fields[schema.CONCENTRATION]).isna()
    fields.loc[untreated, schema.CONCENTRATION] = "0"
    order = tables.stored_order(list(channels))
    base = (images or table.parent).resolve()
    for channel in order:
        fields[tables.path_column(channel)] = _loaddata_paths(given, channels[channel], base, table)
        frame = f"Frame_{channels[channel]}"
        fields[tables.frame_column(channel)] = tables.whole_numbers(given, frame, table) if frame in given else 0
    fields["row"] = np.arange(1, len(fields) + 1)
    fields = tables.complete(fields)
    tables.note(
        fields,
        fields[schema.MOA] == schema.UNKNOWN_MOA,
        tables.OK,
        "unknown-moa",
        f"{table.name} gives no mechanism for " + fields[schema.TREATMENT],
    )
    there = pd.DataFrame({c: [(base / p).is_file() for p in fields[tables.path_column(c)]] for c in order})
    tables.note_missing(fields, order, there)
    inputs = {table.name: digest_file(table)}
    known = None
    if centres is not None:
        known = _centre_table(centres, fields)
        inputs[centres.name] = digest_file(centres)
    return tables.Layout(fields.drop(columns="row"), order, inputs, known)


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
    head = tables.head(path)
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
    given = tables.read_csv(path, [*keys, *numbers, *axes.values()])
    for column in (keys[-1], *numbers):
        given[column] = tables.given(given[column])
    given = given.dropna(subset=[*keys, *numbers])
    centres = pd.DataFrame({axis: tables.numbers(given, column, path) for axis, column in axes.items()})
    last = tables.whole_numbers(given, keys[-1], path)
    if keys == where:
        named = zip(given[schema.PLATE], given[schema.WELL], last, strict=True)
        centres[schema.FIELD] = [tables.field_name(*parts) for parts in named]
    else:
        centres[schema.FIELD] = last.map(fields.set_index("row")[schema.FIELD])
    centres[schema.OBJECT] = (
        tables.whole_numbers(given, numbers[0], path) if numbers else centres.groupby(schema.FIELD).cumcount() + 1
    )
    centres = centres.dropna()
    twice = centres[centres.duplicated([schema.FIELD, schema.OBJECT])]
    if len(twice):
        raise TableError(
            f"{path} repeats {len(twice)} object numbers within a field, the first {twice[schema.OBJECT].iloc[0]} in "
            f"{twice[schema.FIELD].iloc[0]}; every cell of a field needs a number of its own"
        )
    return centres
