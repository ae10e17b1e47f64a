"""Well profiles made elsewhere: published tables, with the tables that say what stood in their wells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import ProfileError, first_line
from cytovae.profiling.profiles import WELL_METADATA
from cytovae.screen import parse_csv, read_table


def read_wells(path: Path, image_table: Path | None = None, moa_table: Path | None = None) -> pd.DataFrame:
    """Published per-well profiles, with plate, well, batch, treatment and mechanism.

    Parameters
    ----------
    path : Path
        CSV (may be .gz) or parquet.
    image_table, moa_table : Path, optional
        What stands in which well, and the mechanisms; both or neither: the profiles then carry them.

    Raises
    ------
    ProfileError
        A table is missing, cannot be read, or does not fit the others.
    TableError
        A table lacks columns.
    """
    wells = _read(path)
    if image_table is None or moa_table is None:
        return complete(wells)
    return join_published(wells, _read(image_table), _read(moa_table))


_NAMES = ("plate", "well", "compound", "batch", "treatment")
"""What columns of names say: a compound may be called ``None``, and plate ``001`` is not plate ``1``."""


def _read(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise ProfileError(f"there is no table at {path}")
    if path.suffix == ".parquet":
        return read_table(path)
    try:
        columns = parse_csv(path, nrows=0).columns
        names = [column for column in columns if any(says(column, word) for word in _NAMES)]
        mechanisms = [column for column in columns if says(column, "moa")]  # these may be missing
        table = parse_csv(path, dtype=dict.fromkeys(mechanisms, str), converters=dict.fromkeys(names, str.strip))
        table[names] = table[names].mask(table[names] == "")
        return table
    except (ValueError, UnicodeDecodeError, OSError) as broken:
        raise ProfileError(f"{path} cannot be read as CSV: {first_line(broken)}") from None


def join_published(
    wells: pd.DataFrame, images: pd.DataFrame, mechanisms: pd.DataFrame, tolerance: float = 1e-3
) -> pd.DataFrame:
    """A published per-well table joined to the collection's image and mechanism tables.

    Parameters
    ----------
    wells : DataFrame
        A plate and a well column (names that end in ``Plate`` and ``Well``, with or without ``Metadata_`` before
        or a channel behind) and the features.
    images : DataFrame
        One row per field, with plate, well, ``...Compound`` and ``...Concentration`` (uM).
    mechanisms : DataFrame
        ``compound``, ``concentration`` (uM) and ``moa``.
    tolerance : float
        Largest relative difference at which two concentrations are one.

    Returns
    -------
    DataFrame
        `WELL_METADATA` without the cell count, then the features.

    Raises
    ------
    ProfileError
        A column is missing or ambiguous, a well is not in the image table, or one of its wells holds two treatments.
    """
    plate, well = _find(wells, "plate", "the profiles"), _find(wells, "well", "the profiles")
    image = images[
        [_find(images, word, "the image table") for word in ("plate", "well", "compound", "concentration")]
    ].drop_duplicates()
    image.columns = pd.Index([schema.PLATE, schema.WELL, schema.COMPOUND, schema.CONCENTRATION])
    image[[schema.PLATE, schema.WELL]] = image[[schema.PLATE, schema.WELL]].astype(str)
    repeated = image.duplicated([schema.PLATE, schema.WELL])
    if repeated.any():
        first = image[repeated].iloc[0]
        raise ProfileError(
            f"the image table gives well {first[schema.WELL]} of plate {first[schema.PLATE]} more than one treatment"
        )
    keys = pd.DataFrame({schema.PLATE: wells[plate].astype(str), schema.WELL: wells[well].astype(str)})
    if keys.duplicated().any():
        first = keys[keys.duplicated()].iloc[0]
        raise ProfileError(f"the profiles hold well {first[schema.WELL]} of plate {first[schema.PLATE]} twice")
    table = keys.merge(image, on=[schema.PLATE, schema.WELL], how="left")
    lost = table[schema.COMPOUND].isna()
    if lost.any():
        first = table[lost].iloc[0]
        raise ProfileError(
            f"{int(lost.sum())} of {len(table)} wells are not in the image table, the first "
            f"{first[schema.PLATE]} {first[schema.WELL]}"
        )
    moa = mechanisms[[_find(mechanisms, word, "the mechanism table") for word in ("compound", "concentration", "moa")]]
    table[schema.MOA] = [
        _mechanism(moa.to_numpy(), compound, float(concentration), tolerance)
        for compound, concentration in zip(table[schema.COMPOUND], table[schema.CONCENTRATION], strict=True)
    ]
    table[schema.BATCH] = table[schema.PLATE].map(schema.batch_of)
    table[schema.TREATMENT] = [
        schema.treatment_name(compound, concentration)
        for compound, concentration in zip(table[schema.COMPOUND], table[schema.CONCENTRATION], strict=True)
    ]
    features = [
        c
        for c in wells.columns
        if c not in (plate, well) and "Metadata_" not in str(c) and pd.api.types.is_numeric_dtype(wells[c])
    ]
    order = [c for c in WELL_METADATA if c in table]
    return pd.concat([table[order], wells[features].reset_index(drop=True)], axis=1)


def complete(wells: pd.DataFrame) -> pd.DataFrame:
    """Well profiles that carry their own metadata, with batch, treatment and mechanism filled in where they are absent.

    Parameters
    ----------
    wells : DataFrame
        ``Metadata_Plate``, ``Metadata_Well``, ``Metadata_Compound``, ``Metadata_Concentration`` (uM) and features;
        other columns that are not numbers are dropped.
    """
    schema.require_columns(
        wells, [schema.PLATE, schema.WELL, schema.COMPOUND, schema.CONCENTRATION], "the table of profiles"
    )
    table = wells[
        [c for c in wells if str(c).startswith("Metadata_") or pd.api.types.is_numeric_dtype(wells[c])]
    ].copy()
    if schema.BATCH not in table:
        table[schema.BATCH] = table[schema.PLATE].map(schema.batch_of)
    table[schema.TREATMENT] = [
        schema.treatment_name(compound, concentration)
        for compound, concentration in zip(table[schema.COMPOUND], table[schema.CONCENTRATION], strict=True)
    ]
    table[schema.MOA] = table[schema.MOA].fillna(schema.UNKNOWN_MOA) if schema.MOA in table else schema.UNKNOWN_MOA
    return table


def _mechanism(known: npt.NDArray[Any], compound: str, concentration: float, tolerance: float) -> str:
    near = known[(known[:, 0] == compound) & np.isclose(known[:, 1].astype(float), concentration, rtol=tolerance)]
    return str(near[0, 2]) if len(near) else schema.UNKNOWN_MOA


def says(column: str, word: str) -> bool:
    """Whether a column's name says what it holds, as ``Image_Metadata_Plate_DAPI`` says plate."""
    return column.lower() == word or f"metadata_{word}" in column.lower()


def _find(table: pd.DataFrame, word: str, what: str) -> str:
    """The one column whose name says `word`, as ``Image_Metadata_Plate_DAPI`` says plate."""
    exact = [c for c in table.columns if str(c).lower() in (word, f"metadata_{word}", f"image_metadata_{word}")]
    found = exact or [c for c in table.columns if says(str(c), word)]
    if len(found) != 1:
        some = ", ".join(map(str, list(found or table.columns)[:8]))
        raise ProfileError(
            f"{what} should have one column for the {word}, such as Metadata_{word.title()}; it has {some}"
        )
    return str(found[0])
