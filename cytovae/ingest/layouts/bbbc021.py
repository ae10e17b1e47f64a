"""A folder laid out as the BBBC021 collection, or as the phantom."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cytovae import schema
from cytovae.errors import ConfigError, IngestError
from cytovae.ingest.layouts import tables
from cytovae.screen import digest_file

CHANNELS = {"DNA": "DAPI", "Tubulin": "Tubulin", "Actin": "Actin"}

CONCENTRATION_TOLERANCE = 1e-3
"""Relative difference up to which two concentrations are the same."""


_SITE = re.compile(r"_s(\d+)_", re.IGNORECASE)


def read(
    raw: Path,
    image_table: Path | None = None,
    moa_table: Path | None = None,
    channels: Mapping[str, str] = CHANNELS,
    design: tables.Design | None = None,
) -> tables.Layout:
    """A folder laid out as the BBBC021 collection: ``<week>/<plate>/*.tif`` and the image and MoA tables.

    Parameters
    ----------
    raw : Path
        Folder with the image folders.
    image_table, moa_table : Path, optional
        The tables; without them the ones in `raw` are taken.
    channels : mapping of str to str
        Channel -> its name in the table's columns.
    design : Design, optional
        What was done to the wells beside what the tables say.

    Raises
    ------
    IngestError, TableError, ConfigError
        There is no folder or table, or a table lacks columns; or mechanisms are asked for in a column.
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
    design = design or tables.Design()
    mapped = [] if design.plate_map is None else list(tables.head(design.plate_map))
    head = tables.head(image_table)
    if schema.MOA in design.columns:
        raise ConfigError(f"mechanisms of this layout come from the table of mechanisms ({moa_table}), not a --column")
    meta |= {ours: theirs for ours, theirs in design.columns.items() if theirs in head or theirs not in mapped}
    names = {c: (f"Image_PathName_{column}", f"Image_FileName_{column}") for c, column in channels.items()}
    needed = [*meta.values(), *(n for pair in names.values() for n in pair)]
    schema.require_columns(head, needed, str(image_table))
    table = tables.read_csv(image_table, needed)
    order = tables.stored_order(list(channels))
    fields = pd.DataFrame({to: table[column] for to, column in meta.items()})
    fields[schema.WELL] = fields[schema.WELL].map(schema.well_name, na_action="ignore")
    fields[schema.REPLICATE] = tables.whole_numbers(table, meta[schema.REPLICATE], image_table)
    for channel in order:
        folder, file = names[channel]
        fields[tables.path_column(channel)] = table[folder].fillna("") + "/" + table[file].fillna("")
    if schema.SITE in meta:
        fields[schema.SITE] = tables.whole_numbers(table, meta[schema.SITE], image_table)
    else:
        sites = table[names["DNA"][1]].fillna("").str.extract(_SITE.pattern, flags=re.IGNORECASE)[0]
        if sites.isna().any():
            sites = sites.fillna(tables.numbered_sites(fields, design, str(image_table)))
        fields[schema.SITE] = pd.to_numeric(sites).astype(np.int64)
    fields = tables.complete(tables.with_plate_map(fields, design), design, str(image_table))
    fields = _check_files(fields, order, raw)
    _join_moa(fields, _moa_table(moa_table, design.unit), moa_table.name, design)
    inputs = {image_table.name: digest_file(image_table), moa_table.name: digest_file(moa_table)}
    return tables.Layout(fields, order, inputs | design.inputs())


SOURCE = "image set BBBC021v1 (Caie et al. 2010), Broad Bioimage Benchmark Collection (Ljosa et al. 2012)"


def origin(raw: Path) -> tuple[str, str]:
    """Source and licence of a raw folder in the collection's layout: the collection's, or a simulated screen's."""
    if (raw / "phantom.json").exists():
        return "simulated by cytovae phantom", "none needed"
    return SOURCE, "CC BY-NC-SA 3.0"


def _find_table(raw: Path, name: str, option: str) -> Path:
    for path in (raw / name, raw / "tables" / name):
        if path.is_file():
            return path
    raise IngestError(f"{raw} does not hold {name}; give the table with {option}")


def _moa_table(path: Path, unit: tables.Unit) -> pd.DataFrame:
    """Compound, concentration (uM), moa; rows that lack one of them tell nothing."""
    wanted = ["compound", "concentration", "moa"]
    head = tables.head(path)
    schema.require_columns(head.rename(columns=str.lower), wanted, str(path))
    table = tables.read_csv(path, [name for name in map(str, head) if name.lower() in wanted]).rename(columns=str.lower)
    table = table.assign(
        concentration=unit.micromolar(tables.numbers(table, "concentration", path)),
        moa=tables.given(table["moa"], tables.NO_MOA),
    )
    return table.dropna(subset=wanted)


def _join_moa(fields: pd.DataFrame, moa: pd.DataFrame, table: str, design: tables.Design) -> None:
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
            said = f"{table} gives no mechanism for {compound!r} at {concentration:g} µM"
            joined[pair] = (schema.UNKNOWN_MOA, concentration, "unknown-moa", said)
        elif found != concentration:
            said = f"its concentration {concentration!r} µM was taken as {found!r} µM of {table}"
            joined[pair] = (str(mechanisms[nearest]), found, "concentration-within-tolerance", said)
        else:
            joined[pair] = (str(mechanisms[nearest]), concentration, "", "")
    names = [schema.MOA, schema.CONCENTRATION, "joined_code", "joined_reason"]
    by_row = pd.DataFrame.from_dict(joined, orient="index", columns=names).loc[which].set_index(fields.index)
    for code in ("unknown-moa", "concentration-within-tolerance"):
        tables.note(fields, by_row["joined_code"] == code, tables.OK, code, by_row["joined_reason"])
    fields[schema.MOA], fields[schema.CONCENTRATION] = by_row[schema.MOA], by_row[schema.CONCENTRATION].astype(float)
    fields[schema.TREATMENT] = tables.treatment_names(fields, design)


def _check_files(fields: pd.DataFrame, channels: Sequence[str], raw: Path) -> pd.DataFrame:
    """Fields whose files are not all there, and files that no row names."""
    there = tables.image_files(raw, (".tif", ".tiff"))
    found = pd.DataFrame({c: fields[tables.path_column(c)].isin(there) for c in channels})
    tables.note_missing(fields, channels, found)
    tables.refuse_shared(fields, channels, found, "the image table")
    named = {p for c in channels for p in fields[tables.path_column(c)]}
    orphans = sorted(there - named)
    if not orphans:
        return fields
    extra = pd.DataFrame({schema.FIELD: orphans, tables.path_column(channels[0]): orphans})
    extra[schema.PLATE] = [Path(p).parent.name for p in orphans]
    extra[schema.BATCH] = extra[schema.PLATE].map(schema.batch_of)
    extra[schema.STATUS], extra[schema.CODE] = tables.REFUSED, "image-without-row"
    extra[schema.REASON] = [f"no row of the table names {p}" for p in orphans]
    return tables.appended(fields, extra)
