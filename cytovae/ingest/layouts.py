"""Who lies where: the collection's tables, a LoadData table, or pre-cut crops -> one table of fields or crops.

Channels are declared, never guessed, and stored in the order DNA, Tubulin, Actin (shown red, green, blue); channels of
other names follow in the order declared.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cytovae import schema
from cytovae.errors import ConfigError, IngestError, TableError
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
    table = _read_csv(image_table)
    meta = {
        schema.PLATE: "Image_Metadata_Plate_DAPI",
        schema.WELL: "Image_Metadata_Well_DAPI",
        schema.REPLICATE: "Replicate",
        schema.COMPOUND: "Image_Metadata_Compound",
        schema.CONCENTRATION: "Image_Metadata_Concentration",
    }
    names = {c: (f"Image_PathName_{column}", f"Image_FileName_{column}") for c, column in channels.items()}
    schema.require_columns(table, [*meta.values(), *(n for pair in names.values() for n in pair)], str(image_table))
    order = stored_order(list(channels))
    fields = pd.DataFrame({to: table[column] for to, column in meta.items()})
    for channel in order:
        folder, file = names[channel]
        fields[path_column(channel)] = table[folder].astype(str) + "/" + table[file].astype(str)
    sites = table[names["DNA"][1]].astype(str).str.extract(_SITE.pattern, flags=re.IGNORECASE)[0]
    fields[schema.SITE] = pd.to_numeric(sites).fillna(0).astype(np.int64)
    fields = _complete(fields, order)
    _join_moa(fields, _moa_table(moa_table), str(moa_table.name))
    fields = _check_files(fields, order, raw)
    return Layout(fields, order, {image_table.name: digest_file(image_table), moa_table.name: digest_file(moa_table)})


def _find_table(raw: Path, name: str, option: str) -> Path:
    for path in (raw / name, raw / "tables" / name):
        if path.is_file():
            return path
    raise IngestError(f"{raw} does not hold {name}; give the table with {option}")


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        raise TableError(f"{path} does not exist") from None
    except (ValueError, OSError) as broken:
        raise TableError(f"{path} cannot be read as a table: {str(broken).splitlines()[0]}") from None


def _moa_table(path: Path) -> pd.DataFrame:
    """Compound, concentration (uM), moa."""
    table = _read_csv(path).rename(columns=str.lower)
    schema.require_columns(table, ["compound", "concentration", "moa"], str(path))
    return table


def _complete(fields: pd.DataFrame, channels: Sequence[str]) -> pd.DataFrame:
    """Derived columns, the fixed order of columns and rows, and everything not yet in doubt."""
    fields[schema.PLATE] = fields[schema.PLATE].astype(str)
    fields[schema.WELL] = fields[schema.WELL].astype(str)
    if schema.REPLICATE not in fields:
        fields[schema.REPLICATE] = 0
    fields[schema.REPLICATE] = pd.to_numeric(fields[schema.REPLICATE], errors="coerce").fillna(0).astype(np.int64)
    if schema.BATCH not in fields:
        fields[schema.BATCH] = fields[schema.PLATE].map(schema.batch_of)
    fields[schema.COMPOUND] = fields[schema.COMPOUND].astype(str)
    fields[schema.CONCENTRATION] = pd.to_numeric(fields[schema.CONCENTRATION], errors="coerce").astype(np.float64)
    if schema.MOA not in fields:
        fields[schema.MOA] = schema.UNKNOWN_MOA
    fields[schema.MOA] = fields[schema.MOA].fillna(schema.UNKNOWN_MOA).astype(str)
    fields[schema.FIELD] = [
        field_name(p, w, s)
        for p, w, s in zip(fields[schema.PLATE], fields[schema.WELL], fields[schema.SITE], strict=True)
    ]
    fields[schema.STATUS], fields[schema.CODE], fields[schema.REASON] = OK, "", ""
    bad = ~np.isfinite(fields[schema.CONCENTRATION])
    note(fields, bad, REFUSED, "bad-concentration", "the table gives no number as its concentration")
    fields[schema.TREATMENT] = [
        schema.treatment_name(c, x) for c, x in zip(fields[schema.COMPOUND], fields[schema.CONCENTRATION], strict=True)
    ]
    fields = fields.sort_values([schema.PLATE, schema.WELL, schema.SITE], kind="stable", ignore_index=True)
    twice = fields.duplicated(schema.FIELD)
    note(fields, twice, REFUSED, "duplicate-field", "an earlier row of the table is the same field")
    return fields


def note(fields: pd.DataFrame, rows: pd.Series, status: str, code: str, reason: str | pd.Series) -> None:
    """Write what is to be said of some fields into their status, code and reason, after what is already said."""
    rows = rows & (fields[schema.STATUS] == OK)
    if not rows.any():
        return
    more = pd.Series(reason, index=fields.index)[rows]
    said = fields.loc[rows, schema.REASON]
    fields.loc[rows, schema.REASON] = said.where(said == "", said + "; ") + more
    fields.loc[rows, schema.STATUS] = status
    fields.loc[rows, schema.CODE] = code


def _join_moa(fields: pd.DataFrame, moa: pd.DataFrame, table: str) -> None:
    """Mechanisms by compound and concentration; concentrations within the tolerance are the table's."""
    pairs = fields[[schema.COMPOUND, schema.CONCENTRATION]].drop_duplicates()
    by_compound = {c: rows for c, rows in moa.groupby("compound")}
    for compound, concentration in pairs.itertuples(index=False):
        here = (fields[schema.COMPOUND] == compound) & (fields[schema.CONCENTRATION] == concentration)
        rows = by_compound.get(compound)
        if rows is None:
            note(fields, here, OK, "unknown-moa", f"compound {compound!r} is not in {table}")
            continue
        known = rows["concentration"].to_numpy(float)
        nearest = int(np.argmin(np.abs(known - concentration)))
        if not np.isclose(known[nearest], concentration, rtol=CONCENTRATION_TOLERANCE, atol=0):
            note(fields, here, OK, "unknown-moa", f"{compound!r} at {concentration:g} uM is not in {table}")
            continue
        fields.loc[here, schema.MOA] = str(rows["moa"].iloc[nearest])
        if known[nearest] != concentration:
            said = f"its concentration {concentration!r} uM was taken as {float(known[nearest])!r} uM of {table}"
            note(fields, here, OK, "concentration-within-tolerance", said)
            fields.loc[here, schema.CONCENTRATION] = known[nearest]
            fields.loc[here, schema.TREATMENT] = schema.treatment_name(compound, known[nearest])


def _check_files(fields: pd.DataFrame, channels: Sequence[str], raw: Path) -> pd.DataFrame:
    """Fields whose files are not all there, and files that no row names."""
    there = {
        p.relative_to(raw).as_posix() for p in raw.rglob("*") if p.suffix.lower() in (".tif", ".tiff") and p.is_file()
    }
    found = pd.DataFrame({c: fields[path_column(c)].isin(there) for c in channels})
    note(
        fields, ~found.any(axis=1), ABSENT, "row-without-image", "the table names this field, but none of its files exist"
    )
    missing = pd.Series("", index=fields.index)
    for channel in channels:
        lost = ~found[channel]
        missing[lost] += "the " + channel + " file " + fields.loc[lost, path_column(channel)] + " does not exist; "
    note(fields, ~found.all(axis=1), REFUSED, "missing-file", missing.str.removesuffix("; "))
    named = {p for c in channels for p in fields[path_column(c)]}
    orphans = sorted(there - named)
    if orphans:
        extra = pd.DataFrame({schema.FIELD: orphans, path_column(channels[0]): orphans})
        extra[schema.PLATE] = [Path(p).parent.name for p in orphans]
        extra[schema.BATCH] = extra[schema.PLATE].map(schema.batch_of)
        extra[schema.STATUS], extra[schema.CODE] = REFUSED, "image-without-row"
        extra[schema.REASON] = [f"no row of the table names {p}" for p in orphans]
        for column in fields.columns.difference(extra.columns):
            extra[column] = "" if fields[column].dtype == object else (np.nan if column == schema.CONCENTRATION else 0)
        fields = pd.concat([fields, extra.astype(fields.dtypes[extra.columns].to_dict())], ignore_index=True)
    return fields
