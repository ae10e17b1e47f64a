"""Is it the plate? Where treatments lie, and whether controls differ by row or column."""

from __future__ import annotations

import dataclasses
import enum
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema

LEAST_CONTROL_WELLS = 3
LEAST_CONTROL_CELLS = 20
"""Fewer of either on a plate, and its treatments cannot be told from what the plate, or a well of it, does."""

FORMATS = ((2, 3), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48))
"""Rows and columns of the usual plates."""

_PLACE = re.compile(r"([A-Za-z]{1,2})0*(\d{1,2})")


class Doubt(enum.StrEnum):
    """Why an effect may be the plate's."""

    one_plate = "one plate"
    one_batch = "one batch"
    edge = "edge"
    few_controls = "few controls"


@dataclasses.dataclass(frozen=True)
class Warning:
    """What makes it hard to tell a treatment's effect from its plate's.

    Parameters
    ----------
    treatment : str
    doubt : Doubt
    words : str
        A sentence to be shown.
    """

    treatment: str
    doubt: Doubt
    words: str


def place(well: str) -> tuple[int, int] | None:
    """Row and column of a well, from 1; None where its name does not say.

    Examples
    --------
    >>> place("B02"), place("AA1"), place("centre")
    ((2, 2), (27, 1), None)
    """
    found = _PLACE.fullmatch(str(well).strip())
    if not found:
        return None
    row = 0
    for letter in found.group(1).upper():
        row = 26 * row + ord(letter) - 64
    return row, int(found.group(2))


def warnings(cells: pd.DataFrame, control: str = "DMSO") -> list[Warning]:
    """What to bear in mind about each treatment, before its effect is believed.

    Parameters
    ----------
    cells : DataFrame
        One row per cell; blank ones are left out.
    control : str
        Compound name of the controls.

    Returns
    -------
    list of Warning
        By treatment. A screen of one plate, or of one batch, warns of neither plate nor batch for each treatment: it
        holds for all. Wells whose names give no place are never called at the edge.
    """
    usable = cells[schema.not_blank(cells)]
    is_control = usable[schema.COMPOUND] == control
    on_plate = usable[is_control].groupby(schema.PLATE)[schema.WELL].agg(["nunique", "size"])
    poor = {
        str(plate)
        for plate in usable[schema.PLATE].unique()
        if plate not in on_plate.index
        or on_plate.loc[plate, "nunique"] < LEAST_CONTROL_WELLS
        or on_plate.loc[plate, "size"] < LEAST_CONTROL_CELLS
    }
    edges = _edge_wells(usable)
    several = {column: len(set(usable[column])) > 1 for column in (schema.PLATE, schema.BATCH)}
    found = []
    for name, rows in usable[~is_control].groupby(schema.TREATMENT, sort=True):
        said = str(name)
        plates, batches = sorted({str(x) for x in rows[schema.PLATE]}), sorted({str(x) for x in rows[schema.BATCH]})
        wells = set(zip(rows[schema.PLATE].astype(str), rows[schema.WELL].astype(str), strict=True))
        if len(plates) == 1 and several[schema.PLATE]:
            words = f"{said} lies on one plate ({plates[0]}): its effect cannot be told from the plate's"
            found.append(Warning(said, Doubt.one_plate, words))
        elif len(batches) == 1 and several[schema.BATCH]:
            words = f"{said} lies in one batch ({batches[0]}): its effect cannot be told from the batch's"
            found.append(Warning(said, Doubt.one_batch, words))
        if wells <= edges:
            n = f"all {len(wells)} of its wells lie" if len(wells) > 1 else "its only well lies"
            found.append(Warning(said, Doubt.edge, f"{said}: {n} at the edge of the plate, where cells dry out first"))
        few = [plate for plate in plates if plate in poor]
        if few:
            least = f"{LEAST_CONTROL_WELLS} control wells or {LEAST_CONTROL_CELLS} control cells"
            if len(plates) == 1:
                where = f"its plate ({plates[0]}) has"
            elif len(few) == len(plates):
                where = f"all {len(plates)} of its plates have"
            else:
                where = f"{len(few)} of its {len(plates)} plates {'has' if len(few) == 1 else 'have'}"
            words = f"{said}: {where} fewer than {least} to compare it with"
            found.append(Warning(said, Doubt.few_controls, words))
    return found


def _edge_wells(cells: pd.DataFrame) -> set[tuple[str, str]]:
    """(plate, well) of the wells in the outermost rows and columns of the smallest usual plate that holds them all."""
    wells = cells[[schema.PLATE, schema.WELL]].astype(str).drop_duplicates()
    places = {key: place(key[1]) for key in zip(wells[schema.PLATE], wells[schema.WELL], strict=True)}
    known = {key: at for key, at in places.items() if at is not None}
    if not known:
        return set()
    rows, columns = max(r for r, _ in known.values()), max(c for _, c in known.values())
    # Screens of fewer than 96 wells a plate are rare, and a 96-well plate often has its outermost wells empty.
    n_rows, n_columns = next((f for f in FORMATS[3:] if rows <= f[0] and columns <= f[1]), FORMATS[-1])
    return {key for key, (r, c) in known.items() if r in (1, n_rows) or c in (1, n_columns)}


def position_effects(
    wells: pd.DataFrame, rng: np.random.Generator, control: str = "DMSO", n_null: int = 499
) -> list[dict[str, Any]]:
    """Do control wells differ by row or by column of the plate?

    The share of the variance of control profiles about their plate's centre that lies between rows (or columns), and
    its p-value against wells dealt out anew within their plates (PERMANOVA; Anderson, 2001).

    Parameters
    ----------
    wells : DataFrame
        Well profiles.
    rng : Generator
        Of the deals.
    control : str
        Compound name of the controls.
    n_null : int

    Returns
    -------
    list of dict
        ``by`` (row, column), ``share``, ``expected`` (mean of the null), ``p``, ``n_wells``; empty where fewer than
        four control wells have a place and a companion on their plate, or all lie in one row (column).
    """
    controls = wells[wells[schema.COMPOUND] == control]
    controls = controls[[place(str(well)) is not None for well in controls[schema.WELL]]]
    controls = controls[controls.groupby(schema.PLATE)[schema.WELL].transform("size") > 1]
    if len(controls) < 4:
        return []
    plates = controls[schema.PLATE].astype(str).to_numpy()
    values = controls[schema.feature_columns(wells)].to_numpy(dtype=np.float64, copy=True)
    for plate in np.unique(plates):
        values[plates == plate] -= values[plates == plate].mean(axis=0)
    places = np.array([place(str(well)) for well in controls[schema.WELL]])
    lines = []
    for k, by in enumerate(("row", "column")):
        codes = pd.factorize(places[:, k])[0]
        if codes.max() == 0:
            continue
        null = np.array([_between(values, _dealt(codes, plates, rng)) for _ in range(n_null)])
        share = _between(values, codes)
        p = float((1 + (null >= share - 1e-12).sum()) / (1 + n_null))
        lines.append({"by": by, "share": share, "expected": float(null.mean()), "p": p, "n_wells": len(values)})
    return lines


def _between(values: npt.NDArray[np.float64], codes: npt.NDArray[np.int64]) -> float:
    """The share of the sum of squares that lies between groups."""
    sums = np.zeros((int(codes.max()) + 1, values.shape[1]))
    np.add.at(sums, codes, values)
    total = float((values**2).sum())
    return float((sums**2 / np.bincount(codes)[:, None]).sum()) / total if total > 0 else 0.0


def _dealt(codes: npt.NDArray[np.int64], plates: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    out = codes.copy()
    for plate in np.unique(plates):
        here = np.flatnonzero(plates == plate)
        out[here] = codes[rng.permutation(here)]
    return out
