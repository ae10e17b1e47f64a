"""The vocabulary: column names, treatment names and the checks every table passes.

Columns whose names start with ``Metadata_`` (and ``cell_id``) are metadata; every other column of a
profile table is a feature. Concentrations are in micromolar (uM); positions in pixels (px).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae.errors import SelectionError, TableError

Progress = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""

CELL_ID = "cell_id"
PLATE = "Metadata_Plate"
WELL = "Metadata_Well"
SITE = "Metadata_Site"
BATCH = "Metadata_Batch"
REPLICATE = "Metadata_Replicate"
COMPOUND = "Metadata_Compound"
CONCENTRATION = "Metadata_Concentration"
MOA = "Metadata_MoA"
TREATMENT = "Metadata_Treatment"
OBJECT = "Metadata_ObjectNumber"
CENTER_Y = "Metadata_CenterY_px"
CENTER_X = "Metadata_CenterX_px"
FIELD = "Metadata_Field"
BLANK = "Metadata_Blank"
N_CELLS = "Metadata_CellCount"
N_BORDER = "Metadata_BorderCount"
NUCLEUS_WIDTH = "Metadata_NucleusWidth_px"
N_WELLS = "Metadata_WellCount"

STATUS = "status"
REASON = "reason"
CODE = "code"

CELL_COLUMNS = (
    CELL_ID,
    FIELD,
    PLATE,
    WELL,
    SITE,
    REPLICATE,
    BATCH,
    COMPOUND,
    CONCENTRATION,
    TREATMENT,
    MOA,
    OBJECT,
    CENTER_Y,
    CENTER_X,
    BLANK,
)
"""Columns of ``cells.parquet``, in order."""

FIELD_COLUMNS = (
    FIELD,
    PLATE,
    WELL,
    SITE,
    REPLICATE,
    BATCH,
    COMPOUND,
    CONCENTRATION,
    TREATMENT,
    MOA,
    STATUS,
    CODE,
    REASON,
    N_CELLS,
    N_BORDER,
    NUCLEUS_WIDTH,
)
"""Columns of ``fields.parquet`` beside one ``path_<channel>`` column per channel."""

UNKNOWN_MOA = "unknown"

_BATCH = re.compile(r"^(week\d+)(?:_|$)", re.IGNORECASE)


def batch_of(plate: str) -> str:
    """The experimental batch of a plate: the ``WeekN`` its name starts with, else the plate itself.

    Examples
    --------
    >>> batch_of("Week4_27861"), batch_of("P-017")
    ('Week4', 'P-017')
    """
    found = _BATCH.match(str(plate))
    return found.group(1) if found else str(plate)


def well_name(text: str) -> str:
    """A well as ``B02``, however many digits are written; what is no such name stays.

    Examples
    --------
    >>> well_name("b2"), well_name("B002"), well_name("AA10"), well_name("pool")
    ('B02', 'B02', 'AA10', 'pool')
    """
    found = re.fullmatch(r"([A-Za-z]{1,2})0*([1-9][0-9]*)", str(text).strip())
    return f"{found.group(1).upper()}{int(found.group(2)):02d}" if found else str(text)


def treatment_name(compound: str, concentration: float | None, *more: str) -> str:
    """The name of a compound at a concentration (uM), as users write it.

    Parameters
    ----------
    compound : str
    concentration : float or None
        None where what was done to the cells has no dose, such as a knocked-out gene.
    *more : str
        What else tells treatments apart, such as the cell line.

    Examples
    --------
    >>> treatment_name("taxol", 0.3), treatment_name("DMSO", 0.0)
    ('taxol@0.3', 'DMSO@0')
    >>> treatment_name("TP53", None), treatment_name("taxol", 0.3, "A549", "24 h")
    ('TP53', 'taxol@0.3 [A549, 24 h]')
    """
    name = compound if concentration is None else f"{compound}@{float(concentration):g}"
    return f"{name} [{', '.join(more)}]" if more else name


def words(treatment: str) -> str:
    """A treatment as people write it: the dose with its unit, the control without a dose.

    Examples
    --------
    >>> words("taxol@0.3"), words("DMSO@0"), words("siRNA 7"), words("taxol@3 [A549]")
    ('taxol 0.3 µM', 'DMSO', 'siRNA 7', 'taxol 3 µM [A549]')
    """
    name, bracket, more = treatment.partition(" [")
    compound, at, dose = name.rpartition("@")
    try:
        amount = float(dose) if at else None
    except ValueError:
        amount = None
    if amount is None:
        return treatment
    return (f"{compound} {amount:g} µM" if amount else compound) + bracket + more


def parse_treatment(text: str) -> tuple[str, float]:
    """A treatment name taken apart again.

    Returns
    -------
    tuple of (str, float)
        Compound, and concentration in uM.

    Raises
    ------
    SelectionError
        The text has no ``@`` or what follows the last one is no number.

    Examples
    --------
    >>> parse_treatment("taxol@0.3")
    ('taxol', 0.3)
    """
    compound, at, number = text.rpartition("@")
    try:
        if not at or not compound:
            raise ValueError
        return compound, float(number)
    except ValueError:
        raise SelectionError(
            f"a treatment is written compound@concentration in µM, such as 'taxol@0.3', not {text!r}"
        ) from None


@dataclasses.dataclass(frozen=True)
class Check:
    """One claim of the evidence tried on a user's own screen: the rate it should have and the rate it was seen to have.

    Parameters
    ----------
    name : str
        What was tried, such as ``map_false_positives``.
    nominal : float
        The rate it should have: 0.05 for the false positives of a test at 5 %, 0.95 for a 95 % interval.
    observed : float
        The rate it had here.
    ci95 : tuple of (float, float)
        95 % interval of the observed rate.
    n : int
        How many trials the observed rate rests on.
    ok : bool
        Whether the observed rate is as good as it should be, see `as_claimed`.
    tried : str
        What was taken, where the screen decides it: ``groups of cells``.

    Examples
    --------
    >>> Check("map_false_positives", 0.05, 0.048, (0.03, 0.07), 400, True).to_dict()["ci95"]
    [0.03, 0.07]
    """

    name: str
    nominal: float
    observed: float
    ci95: tuple[float, float]
    n: int
    ok: bool
    tried: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON types, as ``cytovae audit --json`` prints it."""
        return dataclasses.asdict(self) | {"ci95": list(self.ci95)}


TOLERANCE = 0.02
"""How far from the claim the near end of a rate's interval may lie."""


def as_claimed(nominal: float, ci95: tuple[float, float], *, at_least: bool = False) -> bool:
    """Whether a rate is as claimed: its interval, widened by `TOLERANCE`, reaches the claim or what is better.

    Parameters
    ----------
    nominal : float
    ci95 : tuple of (float, float)
    at_least : bool
        Coverage or power, which may lie above the claim; by default a rate of errors, which may lie below.

    Examples
    --------
    >>> as_claimed(0.05, (0.0, 0.01)), as_claimed(0.05, (0.08, 0.12))
    (True, False)
    >>> as_claimed(0.95, (0.99, 1.0), at_least=True), as_claimed(0.95, (0.88, 0.92), at_least=True)
    (True, False)
    """
    return ci95[1] + TOLERANCE >= nominal if at_least else ci95[0] - TOLERANCE <= nominal


def wilson(k: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share k / n (Wilson 1927)."""
    z = 1.959964
    centre = (k + z**2 / 2) / (n + z**2)
    half = z * math.sqrt(max(k * (n - k) / n, 0.0) + z**2 / 4) / (n + z**2)
    return max(float(centre - half), 0.0), min(float(centre + half), 1.0)


def not_blank(cells: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which cells show something: not flagged blank; all of them where the table has no such column.

    Returns
    -------
    (n,) bool
    """
    if BLANK not in cells:
        return np.ones(len(cells), dtype=bool)
    return ~cells[BLANK].fillna(False).to_numpy(dtype=bool)


def feature_names(count: int) -> list[str]:
    """Names of the features of an embedding.

    Examples
    --------
    >>> feature_names(2)
    ['z000', 'z001']
    """
    return [f"z{k:03d}" for k in range(count)]


def feature_columns(table: pd.DataFrame) -> list[str]:
    """The columns of a profile table that are features: all but ``cell_id`` and ``Metadata_*``."""
    return [c for c in table.columns if c != CELL_ID and not str(c).startswith("Metadata_")]


def own_columns(table: pd.DataFrame) -> list[str]:
    """The metadata columns of a table that are not of the vocabulary: the user's own."""
    ours = {*CELL_COLUMNS, *FIELD_COLUMNS, N_WELLS}
    return [str(c) for c in table.columns if str(c).startswith("Metadata_") and c not in ours]


def require_columns(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Refuse a table that lacks columns.

    Raises
    ------
    TableError
        Names every missing column and what there is instead.
    """
    missing = [c for c in columns if c not in table.columns]
    if missing:
        have = ", ".join(map(str, list(table.columns)[:12]))
        raise TableError(f"{what} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has {have}")


def require_unique(table: pd.DataFrame, column: str, what: str) -> None:
    """Refuse a table in which an id stands twice.

    Raises
    ------
    TableError
        Names the first repeated id and how many there are.
    """
    twice = table[column][table[column].duplicated()]
    if len(twice):
        raise TableError(
            f"{what} repeats {len(twice)} values of {column}, the first {twice.iloc[0]!r}; they must differ"
        )
