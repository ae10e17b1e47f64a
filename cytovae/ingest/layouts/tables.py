"""What all layouts share: the tables they give, and how tables are read, completed and checked against the files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytovae import schema
from cytovae.errors import ConfigError, TableError

STORED_ORDER = ("DNA", "Tubulin", "Actin")

OK, REFUSED, ABSENT = "ok", "refused", "absent"
"""Status of a field: usable; there but not usable; in the table without any image."""


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


_MISSING = ("", "nan", "na", "n/a", "null")
"""Words, in any case, that say in a column of numbers that there is none."""

NO_MOA = (*_MISSING, "none")
"""Words, in any case, that say in a column of mechanisms that none is known."""


def given(column: pd.Series, missing: Sequence[str] = _MISSING) -> pd.Series:
    """A column of text, NaN where it says one of the words for what is missing."""
    return column.mask(column.str.strip().str.lower().isin(missing))


def head(path: Path) -> pd.DataFrame:
    """A table without its rows."""
    return _parse(path, nrows=0)


def read_csv(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """Those of some columns that a table has, as they are written: text, and missing only what is empty or white space.

    A compound may be called ``NA`` and a plate ``001``; columns of numbers are read by `numbers` where they are used.
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


def numbers(table: pd.DataFrame, column: str, path: Path, whole: bool = False) -> pd.Series:
    """A column of a table of text as float64, NaN where it says that there is no number.

    Raises
    ------
    TableError
        Another cell holds no finite number, or where `whole` is asked for no whole one of at most 2**53.
    """
    text = given(table[column])
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


def whole_numbers(table: pd.DataFrame, column: str, path: Path) -> pd.Series:
    """As `numbers`, as int64, 0 where there is none."""
    return numbers(table, column, path, whole=True).fillna(0).astype(np.int64)


def complete(fields: pd.DataFrame) -> pd.DataFrame:
    """Fields with derived columns, sorted, and everything not yet in doubt."""
    fields = metadata(fields)
    fields = fields.sort_values([schema.PLATE, schema.WELL, schema.SITE], kind="stable", ignore_index=True)
    twice = fields.duplicated(schema.FIELD)
    note(fields, twice, REFUSED, "duplicate-field", "an earlier row of the table is the same field")
    return fields


def metadata(table: pd.DataFrame) -> pd.DataFrame:
    """Fields or cells with the types of the vocabulary, what follows from their plate, and status ok."""
    incomplete = table[[schema.PLATE, schema.WELL, schema.COMPOUND]].isna().any(axis=1)
    for column in (schema.PLATE, schema.WELL, schema.COMPOUND):
        table[column] = table[column].fillna("").astype(str)
    if schema.REPLICATE not in table:
        table[schema.REPLICATE] = 0
    batch = table[schema.PLATE].map(schema.batch_of)
    table[schema.BATCH] = table[schema.BATCH].fillna(batch).astype(str) if schema.BATCH in table else batch
    table[schema.CONCENTRATION] = given(table[schema.CONCENTRATION])
    written = "the table gives " + table[schema.CONCENTRATION].map(repr, na_action="ignore").fillna("nothing")
    table[schema.CONCENTRATION] = pd.to_numeric(table[schema.CONCENTRATION], errors="coerce").astype(np.float64)
    if schema.MOA not in table:
        table[schema.MOA] = schema.UNKNOWN_MOA
    table[schema.MOA] = given(table[schema.MOA], NO_MOA).fillna(schema.UNKNOWN_MOA).astype(str)
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


def note_missing(fields: pd.DataFrame, channels: Sequence[str], there: pd.DataFrame) -> None:
    """Say of fields that none, or not all, of their files are there (`there`: a bool column per channel)."""
    said = "the table names this field, but none of its files exist"
    note(fields, ~there.any(axis=1), ABSENT, "row-without-image", said)
    missing = pd.Series("", index=fields.index)
    for channel in channels:
        lost = ~there[channel]
        missing[lost] += "the " + channel + " file " + fields.loc[lost, path_column(channel)] + " does not exist; "
    note(fields, ~there.all(axis=1), REFUSED, "missing-file", missing.str.removesuffix("; "))


def image_files(folder: Path, suffixes: Sequence[str]) -> set[str]:
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


def appended(table: pd.DataFrame, extra: pd.DataFrame) -> pd.DataFrame:
    """More rows at the end of a table; what they do not say is empty, 0 or NaN as the column's type has it."""
    for column in table.columns.difference(extra.columns):
        kind = table[column].dtype.kind
        extra[column] = {"i": 0, "f": np.nan, "b": False}.get(kind, "")
    return pd.concat([table, extra.astype(table.dtypes.to_dict())[list(table.columns)]], ignore_index=True)
