"""Cell centres that are known already: a table that says where in its field each cell lies."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cytovae import schema
from cytovae.errors import TableError
from cytovae.ingest.layouts import tables

_CENTRE_COLUMNS = {
    "y": ("Metadata_CenterY_px", "Nuclei_Location_Center_Y", "Location_Center_Y", "Nuclei_AreaShape_Center_Y"),
    "x": ("Metadata_CenterX_px", "Nuclei_Location_Center_X", "Location_Center_X", "Nuclei_AreaShape_Center_X"),
}


def read(path: Path, fields: pd.DataFrame) -> pd.DataFrame:
    """Known centres, such as CellProfiler's Nuclei.csv.

    Parameters
    ----------
    path : Path
        CSV: Metadata_Plate, Metadata_Well, Metadata_Site (or ImageNumber), and Location_Center_X and Y (px).
    fields : DataFrame
        Of the layout; its column ``row``, where it has one, is the ImageNumber.

    Returns
    -------
    DataFrame
        Field, object number, y and x (px).

    Raises
    ------
    TableError
        Columns are missing, or a field repeats an object number.
    """
    head = tables.head(path)
    where = [schema.PLATE, schema.WELL, schema.SITE]
    numbers = [c for c in (schema.OBJECT, "ObjectNumber") if c in head][:1]
    keys = where if set(where) <= set(head) or "row" not in fields else ["ImageNumber"]
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
        named = zip(given[schema.PLATE], given[schema.WELL].map(schema.well_name), last, strict=True)
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
