"""What all layouts share: the tables they give, and how tables are read, completed and checked against the files."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytovae import schema
from cytovae.config import MAX_NAME
from cytovae.errors import ConfigError, TableError, first_line
from cytovae.screen import digest_file, parse_csv, plain, require_file

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
    names : dict of str to tuple of str
        Channel -> what an OME-TIFF may call it; without an entry it is looked for by its own name.
    pixel_size_um : float, optional
        Edge of a pixel, where the images or their index say it.
    """

    fields: pd.DataFrame
    channels: tuple[str, ...]
    inputs: dict[str, str]
    centres: pd.DataFrame | None = None
    names: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    pixel_size_um: float | None = None


def path_column(channel: str) -> str:
    """The column of ``fields.parquet`` that holds a channel's file."""
    return f"path_{channel}"


def frame_column(channel: str) -> str:
    """The column that holds the page of that file, from 0; `UNTOLD` where the table does not give it."""
    return f"frame_{channel}"


UNTOLD = -1


def light_column(channel: str) -> str:
    """The column that holds the file of a channel's illumination, where fields are divided by such files."""
    return f"light_{channel}"


def lit(fields: pd.DataFrame, channels: Sequence[str]) -> list[str]:
    """The columns of illumination files that fields have: those of all channels, or none."""
    columns = [light_column(channel) for channel in channels]
    return columns if set(columns) <= set(fields) else []


_VOCABULARY = {
    "cell_id": schema.CELL_ID,
    "plate": schema.PLATE,
    "well": schema.WELL,
    "site": schema.SITE,
    "replicate": schema.REPLICATE,
    "batch": schema.BATCH,
    "compound": schema.COMPOUND,
    "concentration": schema.CONCENTRATION,
    "concentration_um": schema.CONCENTRATION,
    "moa": schema.MOA,
}
"""Short name, in lower case -> column of the vocabulary."""


def metadata_name(short: str) -> str:
    """The column that a short name stands for.

    Examples
    --------
    >>> metadata_name("compound"), metadata_name("cell_line"), metadata_name("Metadata_Gene")
    ('Metadata_Compound', 'Metadata_cell_line', 'Metadata_Gene')
    """
    known = _VOCABULARY.get(short.removeprefix("Metadata_").lower())
    return known or (short if short.startswith("Metadata_") else f"Metadata_{short}")


class Unit(StrEnum):
    """What doses of the tables are counted in."""

    NM = "nM"
    UM = "uM"
    MM = "mM"
    M = "M"

    def micromolar(self, doses: pd.Series) -> pd.Series:
        """Doses in uM, to twelve digits: 300 nM are 0.3 exactly."""
        if self is Unit.UM:
            return doses
        return (doses * _IN_MICROMOLAR[self]).map(lambda dose: float(f"{dose:.12g}"))

    @staticmethod
    def of(column: str) -> Unit | None:
        """The unit that the name of a column ends in.

        Examples
        --------
        >>> [Unit.of(name) for name in ("concentration_nM", "Conc (µM)", "doseM", "CONC_MM", "concentration")]
        [<Unit.NM: 'nM'>, <Unit.UM: 'uM'>, <Unit.M: 'M'>, <Unit.MM: 'mM'>, None]
        """
        last = re.split(r"concentration|conc|dose|[\W_]", column.rstrip(")] "), flags=re.IGNORECASE)[-1].lower()
        return {"nm": Unit.NM, "um": Unit.UM, "\u00b5m": Unit.UM, "\u03bcm": Unit.UM, "mm": Unit.MM, "m": Unit.M}.get(
            last
        )


_IN_MICROMOLAR = {Unit.NM: 1e-3, Unit.MM: 1e3, Unit.M: 1e6}


@dataclasses.dataclass(frozen=True)
class Design:
    """What was done to the wells, and how the tables say it.

    Parameters
    ----------
    columns : mapping of str to str
        Column of the vocabulary, or of one's own -> what the tables call it, such as
        ``{"Metadata_Compound": "Metadata_pert_iname"}``.
    plate_map : Path, optional
        CSV with a row per well: well, plate unless all plates are alike, and whatever is known of the wells.
    treatment : tuple of str, optional
        The columns that tell treatments apart, short (``compound``, ``concentration``, ``cell_line``) or in full.
        Without them compound and concentration do, and a cell line or time point that differs within a treatment is
        refused. Without ``concentration`` among them treatments have no dose.
    control : str
        Compound name of untreated cells; its missing concentration is 0.
    unit : Unit
        What doses of the tables are counted in; a screen has them in uM.
    """

    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    plate_map: Path | None = None
    treatment: tuple[str, ...] | None = None
    control: str = "DMSO"
    unit: Unit = Unit.UM

    def __post_init__(self) -> None:
        self.check_unit(self.columns.get(schema.CONCENTRATION, ""))
        if self.treatment is not None and "compound" not in map(str.lower, self.treatment):
            raise ConfigError(
                f"the columns of a treatment begin with compound, such as compound,cell_line, not "
                f"{','.join(self.treatment) or 'nothing'}; name another column with --column compound=NAME"
            )

    def check_unit(self, column: str) -> None:
        """Refuse a column of doses whose name says another unit than was asked for.

        Raises
        ------
        ConfigError
            It does.
        """
        said = Unit.of(column)
        if said not in (None, self.unit):
            raise ConfigError(
                f"the column {column!r} says that doses are in {said}, and they would be read as {self.unit}; give "
                f"--concentration-unit {said}, or rename the column"
            )

    @property
    def dosed(self) -> bool:
        """Whether treatments have doses."""
        return self.treatment is None or schema.CONCENTRATION in map(metadata_name, self.treatment)

    def more(self, table: pd.DataFrame) -> list[str]:
        """The columns that tell treatments apart beside compound and concentration.

        Raises
        ------
        TableError
            The table lacks one.
        """
        spelled = {_bare(c): str(c) for c in table.columns}
        asked = [c for c in self.treatment or () if metadata_name(c) not in (schema.COMPOUND, schema.CONCENTRATION)]
        missing = [c for c in asked if _bare(c) not in spelled]
        if missing:
            have = ", ".join(schema.own_columns(table)) or "none of its own"
            raise TableError(
                f"the table lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} of --treatment-columns; "
                f"it has {have}"
            )
        return [spelled[_bare(c)] for c in asked]

    def inputs(self) -> dict[str, str]:
        """What of it counts among the inputs of a screen."""
        said = {} if self.plate_map is None else {self.plate_map.name: digest_file(self.plate_map)}
        said |= {} if self.unit is Unit.UM else {"--concentration-unit": self.unit.value}
        return said if self.treatment is None else said | {"--treatment-columns": ",".join(self.treatment)}


def _few(names: Iterable[str]) -> str:
    """The first of some names, and how many more there are."""
    names = sorted(names)
    return ", ".join(map(repr, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _bare(column: str) -> str:
    return str(column).removeprefix("Metadata_").replace("_", "").replace(" ", "").lower()


_DONE = {
    *(
        "concentration",
        "dose",
        "moa",
        "drug",
        "drugname",
        "compoundname",
        "compoundid",
        "molecule",
        "inhibitor",
        "ligand",
    ),
    *("perturbation", "perturbagen", "pert", "pertname", "pertiname", "pertid", "treatment", "condition", "smiles"),
    *("gene", "genesymbol", "genename", "sirna", "shrna", "sgrna", "grna", "guide", "crispr", "orf", "inchikey"),
    *("broadsample", "jcp2022"),
}
"""Columns, bare, that say something of what was done to a well."""

_TIMES = {"t", "time", "timeh", "timehours", "timemin", "timepoint", "timepointh", "timepointhours", "hour", "hours"}
_FACTORS = {"cellline", "celltype", "donor", "genotype", "tissue", *_TIMES}
"""Own columns, bare, whose values are no mere replicates of each other."""

_STACKS = {*_TIMES, "frame", "day", "z", "zplane", "zstep", "plane"}
"""Own columns, bare, whose values are several images of one place."""

_PLACES = re.compile("field|fov|site|view|tile|position|image|file|path|location|url")
"""What the bare names of own columns have in them that tell fields of a well apart."""


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
    White space around a cell is no part of it. The columns that nobody needs may be hundreds, and are not kept.
    """
    wanted = set(columns)
    table = _parse(path, usecols=lambda name: name in wanted)
    if table.empty:
        raise TableError(f"{path} holds no rows, only the names of its columns")
    table = table.map(lambda cell: plain(cell).strip()).astype(object)
    return table.mask(table == "")


def _two_rows(path: Path) -> list[str] | None:
    """The columns of a table of CellProfiler's that has two rows of names, objects above measurements; else None.

    A measurement that stands once keeps its name; of several objects it is ``Nuclei_Location_Center_X``.
    """
    try:
        first = pd.read_csv(path, header=None, nrows=2, dtype=str, keep_default_na=False).to_numpy(str).tolist()
    except ValueError:  # `parse_csv` says why
        return None
    if len(first) < 2 or "ImageNumber" not in first[1] or "ImageNumber" in first[0]:
        return None
    above, names = first
    return [n if names.count(n) == 1 else f"{a}_{n}" for a, n in zip(above, names, strict=True)]


def _parse(path: Path, **how: Any) -> pd.DataFrame:
    try:
        require_file(path)
        if path.suffix.lower() == ".parquet":
            return _of_parquet(path, **how)
        if names := _two_rows(path):
            how = how | {"header": None, "skiprows": 2, "names": names}
        return parse_csv(path, dtype=str, keep_default_na=False, **how)
    except FileNotFoundError:
        raise TableError(f"{path} does not exist") from None
    except (ValueError, OSError) as broken:
        raise TableError(f"{path} cannot be read as a table: {first_line(broken)}") from None


def _of_parquet(
    path: Path, nrows: int | None = None, usecols: Callable[[str], bool] = lambda name: True
) -> pd.DataFrame:
    """A parquet table as a CSV of the same would be read: every cell as text, nothing where there is none.

    Raises
    ------
    ValueError
        It is no parquet, or of a column that is read there are two.
    """
    import pyarrow.parquet as pq

    try:
        names = [name for name in pq.read_schema(path).names if usecols(name)]
        columns = {} if nrows == 0 else pq.read_table(path, columns=names).to_pydict()
    except Exception as broken:  # a damaged file fails in many ways
        raise ValueError(first_line(broken)) from None
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"the column {twice[0]!r:.80} stands there {names.count(twice[0])} times")
    text = {n: ["" if v is None or v != v else str(v) for v in columns.get(n, ())] for n in names}
    return pd.DataFrame(text, columns=names, dtype=object)


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


def _apart(rows: pd.DataFrame, keys: Sequence[str]) -> str:
    """By which own column rows of equal keys are told apart, and by which values; nothing where by none.

    A column that is different in every row, as a time stamp is, does not count, unless it is known to tell images of
    one place apart.
    """
    for column in schema.own_columns(rows):
        bare, values = _bare(column), sorted(map(str, rows[column].dropna().unique()))
        known = bare in _STACKS or (len(values) < len(rows) and not _PLACES.search(bare))
        if known and rows.groupby(list(keys))[column].nunique().max() > 1:
            return f"{column} ({', '.join(values[:5])}{', ...' if len(values) > 5 else ''})"
    return ""


def numbered_sites(fields: pd.DataFrame, design: Design, source: str) -> pd.Series:
    """Sites of fields that have none: in every well from 1, in the order of the table.

    Raises
    ------
    TableError
        They may be time points, planes or something else: a column tells them apart, and nobody says what they are.
    """
    where = [schema.PLATE, schema.WELL]
    if design.treatment is None and (told := _apart(fields, where)):
        raise TableError(
            f"{source} has no {schema.SITE}, and rows of one well differ in {told}: ingest time points or planes each "
            "by itself; where they are fields, name the column that numbers them with --column site=NAME, or have them "
            "numbered as they stand with --treatment-columns compound,concentration"
        )
    return fields.groupby(where).cumcount() + 1


def refuse_shared(fields: pd.DataFrame, channels: Sequence[str], there: pd.DataFrame, source: str) -> None:
    """Refuse fields that have the same image, the same page of the same file: their cells would count twice.

    Raises
    ------
    TableError
        Names the image and two of its fields.
    """
    for channel in channels:
        image = [c for c in (path_column(channel), frame_column(channel)) if c in fields]
        usable = fields[there[channel] & (fields[schema.STATUS] == OK)]
        twice = usable[usable.duplicated(image)]
        if len(twice):
            same = usable[(usable[image] == twice[image].iloc[0]).all(axis=1)]
            one, other = same[schema.FIELD].iloc[:2]
            raise TableError(
                f"{source} gives {one} and {other} the same image of {channel}, {same[image[0]].iloc[0]}: its cells "
                "would count twice; correct the table, or say with Frame_... which page of the file each is"
            )


def complete(fields: pd.DataFrame, design: Design, source: str) -> pd.DataFrame:
    """Fields with derived columns, sorted, and everything not yet in doubt; `source` names the table in messages.

    Raises
    ------
    TableError
        As `metadata`; or rows of one field are told apart by a column, as time points and planes are.
    """
    where = [schema.PLATE, schema.WELL, schema.SITE]
    if told := _apart(fields[fields.duplicated(where, keep=False)], where):
        raise TableError(
            f"{source} gives one field several times, with {told}, and a field of a screen has one image of each "
            "channel: ingest time points or planes each by itself"
        )
    fields = metadata(fields, design, source)
    fields = fields.sort_values([schema.PLATE, schema.WELL, schema.SITE], kind="stable", ignore_index=True)
    twice = fields.duplicated(schema.FIELD)
    note(fields, twice, REFUSED, "duplicate-field", "an earlier row of the table is the same field")
    return fields


def metadata(table: pd.DataFrame, design: Design, source: str) -> pd.DataFrame:
    """Fields or cells with the types of the vocabulary, what follows from their plate, and status ok.

    Raises
    ------
    TableError
        Compounds without concentrations, a missing column of the treatment, treatments that hold several cell lines,
        time points or mechanisms, wells that hold several treatments, or the control in another spelling.
    """
    table[schema.WELL] = table[schema.WELL].map(schema.well_name, na_action="ignore")
    incomplete = table[[schema.PLATE, schema.WELL, schema.COMPOUND]].isna().any(axis=1)
    for column in (schema.PLATE, schema.WELL, schema.COMPOUND, *schema.own_columns(table)):
        table[column] = table[column].fillna("").astype(str)
    if schema.REPLICATE not in table:
        table[schema.REPLICATE] = 0
    batch = table[schema.PLATE].map(schema.batch_of)
    table[schema.BATCH] = table[schema.BATCH].fillna(batch).astype(str) if schema.BATCH in table else batch
    if schema.CONCENTRATION not in table:
        if design.dosed:
            raise TableError(
                f"{source} gives compounds but no {schema.CONCENTRATION} (µM); name its column with "
                "--column concentration=NAME, or give --treatment-columns compound where nothing has a dose"
            )
        table[schema.CONCENTRATION] = np.nan
    table[schema.CONCENTRATION] = given(table[schema.CONCENTRATION].astype(object))
    doseless = table[schema.CONCENTRATION].isna() & ((table[schema.COMPOUND] == design.control) | (not design.dosed))
    table.loc[doseless, schema.CONCENTRATION] = "0"
    written = "the table gives " + table[schema.CONCENTRATION].map(repr, na_action="ignore").fillna("nothing")
    doses = pd.to_numeric(table[schema.CONCENTRATION], errors="coerce").astype(np.float64)
    table[schema.CONCENTRATION] = design.unit.micromolar(doses)
    if schema.MOA not in table:
        table[schema.MOA] = schema.UNKNOWN_MOA
    table[schema.MOA] = given(table[schema.MOA], NO_MOA).fillna(schema.UNKNOWN_MOA).astype(str)
    table[schema.FIELD] = [
        field_name(p, w, s) for p, w, s in table[[schema.PLATE, schema.WELL, schema.SITE]].itertuples(index=False)
    ]
    table[schema.TREATMENT] = treatment_names(table, design)
    table[schema.STATUS], table[schema.CODE], table[schema.REASON] = OK, "", ""
    note(table, incomplete, REFUSED, "incomplete-row", "the table gives no plate, no well or no compound")
    named = table[[schema.PLATE, schema.WELL, schema.COMPOUND, schema.BATCH, schema.MOA]]
    odd = ~named.apply(lambda column: column.str.len().le(MAX_NAME) & column.map(str.isprintable)).all(axis=1)
    said = f"its plate, well, batch, compound or mechanism has a line break or the like, or over {MAX_NAME} characters"
    note(table, odd, REFUSED, "bad-name", said)
    bad = ~np.isfinite(table[schema.CONCENTRATION])
    unit = design.unit.replace("u", "µ")
    written += " as its concentration, "
    note(table, bad, REFUSED, "bad-concentration", written + f"where a number of {unit} is needed")
    below = written + f"and none is below 0 {unit}; logarithms have to be taken back first"
    note(table, table[schema.CONCENTRATION] < 0, REFUSED, "bad-concentration", below)
    usable = table[table[schema.STATUS] == OK]
    _check_wells(usable, source)
    if len(usable) and design.treatment is None:
        _check_factors(usable, source)
    _check_control(table, design.control)
    return table


def treatment_names(table: pd.DataFrame, design: Design) -> list[str]:
    """What the treatment of each row is called; nothing where it has no compound."""
    more = table[design.more(table)].to_numpy(str).tolist()
    rows = zip(table[schema.COMPOUND], table[schema.CONCENTRATION], more, strict=True)
    return [schema.treatment_name(c, x if design.dosed else None, *m) if c else "" for c, x, m in rows]


def _check_wells(table: pd.DataFrame, source: str) -> None:
    """Refuse wells of several treatments or batches, and treatments of several mechanisms: no profile is of these."""
    said = table[[schema.PLATE, schema.WELL, schema.TREATMENT, schema.BATCH, schema.MOA]].drop_duplicates()
    well = "well " + said[schema.WELL] + " on plate " + said[schema.PLATE]
    known = said[said[schema.MOA] != schema.UNKNOWN_MOA]
    for name, values, what in (
        (well, said[schema.TREATMENT], "treatments"),
        (well, said[schema.BATCH], "batches"),
        (known[schema.TREATMENT], known[schema.MOA], "mechanisms"),
    ):
        several = values.groupby(name).unique()
        several = several[several.str.len() > 1]
        if len(several):
            more = f", and {len(several) - 1} more likewise" if len(several) > 1 else ""
            raise TableError(
                f"{source} gives {several.index[0]} several {what} ({_few(several.iloc[0])}){more}; a well has one "
                "treatment and batch, and a treatment one mechanism: correct the table"
            )


def _check_factors(table: pd.DataFrame, source: str) -> None:
    """Refuse treatments that hold cells of several lines, time points and the like, unless that was asked for."""
    for column in (c for c in schema.own_columns(table) if _bare(c) in _FACTORS):
        several = table.groupby(schema.TREATMENT)[column].unique()
        several = several[several.str.len() > 1]
        if len(several):
            seen = ", ".join(sorted(map(str, several.iloc[0]))[:5])
            raise TableError(
                f"{source} gives {several.index[0]!r} with several {column} ({seen}); keep these apart with "
                f"--treatment-columns compound,concentration,{column.removeprefix('Metadata_')}, or take them for one "
                "treatment with --treatment-columns compound,concentration"
            )


def merged(table: pd.DataFrame, design: Design) -> str:
    """What to say where wells that differ in columns of the user's own are one treatment; nothing where none do.

    Columns that are not of whole wells do not count, nor those that name every well differently.
    """
    if design.treatment is not None:
        return ""
    usable = table[table[schema.STATUS] == OK]
    wells = usable[[schema.PLATE, schema.WELL]].drop_duplicates()
    said = []
    for column in schema.own_columns(usable):
        of_well = usable[[schema.PLATE, schema.WELL, schema.TREATMENT, column]].drop_duplicates()
        values = of_well[column].nunique()
        if len(of_well) > len(wells) or values in (1, len(wells)):
            continue
        if of_well.groupby(schema.TREATMENT)[column].nunique().max() > 1:
            said.append((column, values))
    if not said:
        return ""
    columns = " and ".join(f"{column} ({values} values)" for column, values in said)
    asked = ",".join(column.removeprefix("Metadata_") for column, _ in said)
    return (
        f"wells of one treatment differ in {columns} and are taken together; --treatment-columns "
        f"compound,concentration,{asked} keeps them apart"
    )


def _check_control(table: pd.DataFrame, control: str) -> None:
    """Refuse a control that is there in another spelling, be it beside the right one: it would be a treatment."""
    compounds = table[schema.COMPOUND].unique()
    alike = [c for c in compounds if _bare(c) == _bare(control) and c != control]
    if not alike:
        return
    if control not in compounds:
        raise TableError(f"no compound is spelled {control!r}, but there is {alike[0]!r}; give --control {alike[0]!r}")
    rows = int((table[schema.COMPOUND] == alike[0]).sum())
    raise TableError(
        f"the control is spelled {control!r} and, in {rows} of {len(table)} rows, {alike[0]!r}, which would be a "
        "treatment; spell them alike, or give what is no control another name"
    )


def without_control(table: pd.DataFrame, control: str) -> str:
    """What to say of usable fields or cells among which there is no control; nothing where there is one, or no cell."""
    compounds = sorted(table.loc[table[schema.STATUS] == OK, schema.COMPOUND].unique())
    if control in compounds or not compounds:
        return ""
    return (
        f"no well holds the control {control!r}, so paths and whitening will have nothing to begin from; the compounds "
        f"are {_few(compounds)}: name the untreated one with --control"
    )


def with_plate_map(table: pd.DataFrame, design: Design) -> pd.DataFrame:
    """A table of fields or cells with what the plate map says of their wells; wells are matched as ``B2`` = ``B02``.

    Raises
    ------
    TableError
        The map has no column for the well, or two for one thing; it names a well twice, or none of the plates; or map
        and table disagree.
    """
    path = design.plate_map
    if path is None:
        return table
    columns = list(map(str, head(path)))
    asked = {theirs: ours for ours, theirs in design.columns.items() if theirs in columns}
    columns = [c for c in columns if c in asked or metadata_name(c) not in asked.values()]
    names = {c: asked.get(c, metadata_name(c)) for c in columns}
    for ours in names.values():
        if len(alike := [c for c in columns if names[c] == ours]) > 1:
            raise TableError(
                f"{path} has {len(alike)} columns of one meaning, {' and '.join(alike)}; leave one of them out, or "
                f"name the right one with --column {ours.removeprefix('Metadata_').lower()}={alike[0]}"
            )
    for column in (c for c in columns if names[c] == schema.CONCENTRATION):
        design.check_unit(column)
    plates = read_csv(path, columns).rename(columns=names)
    schema.require_columns(plates, [schema.WELL], str(path))
    keys = [c for c in (schema.PLATE, schema.WELL) if c in plates]
    plates = plates.dropna(subset=keys)
    for of_map, of_table in [(set(plates[c]), set(table[c].dropna())) for c in keys if c == schema.PLATE]:
        if of_map.isdisjoint(of_table):
            raise TableError(
                f"{path} has the plates {_few(of_map)}, and the images are of {_few(of_table)}; name them alike, or "
                "leave plates out of the map where all are alike"
            )
    plates[schema.WELL] = plates[schema.WELL].map(schema.well_name)
    twice = plates[plates.duplicated(keys)]
    if len(twice):
        first = " ".join(map(str, twice[keys].iloc[0]))
        raise TableError(f"{path} names {len(twice)} wells more than once, the first {first}; a well has one row")
    said = table[keys].assign(**{schema.WELL: table[schema.WELL].map(schema.well_name, na_action="ignore")})
    joined = said.merge(plates, on=keys, how="left").set_index(table.index)
    for column in joined.columns.difference(keys, sort=False):
        if column in table:
            numbers_of = [pd.to_numeric(values, errors="coerce") for values in (table[column], joined[column])]
            same = (table[column].astype(str) == joined[column]) | (numbers_of[0] == numbers_of[1])
            other = table[column].notna() & joined[column].notna() & ~same
            if other.any():
                row = table[other].iloc[0]
                raise TableError(
                    f"{path} and the table disagree about {column} of well {row[schema.WELL]} on plate "
                    f"{row[schema.PLATE]}: {joined.loc[other, column].iloc[0]!r} and {row[column]!r}; "
                    "leave one of them out"
                )
            joined[column] = joined[column].fillna(table[column])
        table[column] = joined[column]
    return table


def treated(fields: pd.DataFrame, design: Design, source: str, columns: Iterable[str] = ()) -> pd.DataFrame:
    """Fields with what the plate map says of them; where no table says what was done, every well is a treatment.

    Parameters
    ----------
    fields : DataFrame
    design : Design
    source : str
        What to call the table of fields in a message.
    columns : iterable of str
        All that this table has, if there is one.

    Raises
    ------
    TableError
        As `with_plate_map`; or a table says what was done, in a column that is not known to do so.
    """
    fields = with_plate_map(fields, design)
    if schema.COMPOUND in fields:
        return fields
    said = [str(c) for c in columns if _bare(c) in _DONE]
    if design.plate_map is not None and not said:
        source, said = str(design.plate_map), [str(c) for c in head(design.plate_map)]
    if said:
        raise TableError(
            f"{source} has {', '.join(said)} and no {schema.COMPOUND}, so every well would be a treatment of its own; "
            "name the column that says what was done to the wells with --column compound=NAME"
        )
    fields[schema.COMPOUND] = fields[schema.PLATE] + "/" + fields[schema.WELL]
    fields[schema.CONCENTRATION] = "0"
    return fields


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
