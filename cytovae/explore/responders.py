"""How many cells respond, and how far: every cell's place between the controls and the treatment.

A cell's place is where it falls on the line from the mean of the controls (0) to the mean of the treatment (1). A cell
that takes part in a mean pulls the line towards itself, and with few cells in many features that alone puts it near 1;
so each cell is placed on the line that the others make.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import SelectionError
from cytovae.explore import targets
from cytovae.explore.intervals import pairs_interval
from cytovae.explore.targets import Choice, Embeddings, Rows
from cytovae.patches import Doubles

MIN_CELLS = 3
"""Treated cells, and controls, that it takes at least."""
BEYOND = 0.95
"""A cell responds where it lies beyond this share of the controls."""


@dataclass(frozen=True)
class Responders:
    """Where the cells of a treatment lie, beside controls of their plates.

    Parameters
    ----------
    treated_rows, control_rows : (n,), (m,) int64
    treated, control : (n,), (m,) float64
        Their places: 0 as the controls are on average, 1 as the treatment is.
    threshold : float
        The place that `BEYOND` of the controls do not reach.
    share, low, high : float
        The share of cells that respond, with its 95 % interval over wells (over cells where there is one well): of the
        cells beyond the threshold, those more than the controls' own 5 %, 0 to 1.
    n_wells : int
        Wells that the interval rests on.
    """

    treated_rows: Rows
    control_rows: Rows
    treated: Doubles
    control: Doubles
    threshold: float
    share: float
    low: float
    high: float
    n_wells: int

    @property
    def rows(self) -> Rows:
        """The treated cells beyond the threshold, the farthest last."""
        beyond = np.flatnonzero(self.treated > self.threshold)
        return self.treated_rows[beyond[np.argsort(self.treated[beyond], kind="stable")]]

    @property
    def sentence(self) -> str:
        """The share, and what it rests on."""
        return (
            f"{100 * self.share:.0f} % of the cells respond (95 % interval {100 * self.low:.0f} to "
            f"{100 * self.high:.0f} %; {len(self.treated)} treated cells of {self.n_wells} "
            f"well{'' if self.n_wells == 1 else 's'}, {len(self.control)} controls)"
        )


def responders(cells: pd.DataFrame, embeddings: Embeddings, control: str, treatment: str) -> Responders:
    """How many of a treatment's cells respond.

    Parameters
    ----------
    cells : DataFrame
        The embedded cells.
    embeddings : (n, d) float32
    control : str
        Compound name of the untreated cells.
    treatment : str

    Raises
    ------
    SelectionError
        Unknown treatment, no controls, or too few cells of either.
    """
    treated_rows = targets.rows_of(cells, treatment, at_least=MIN_CELLS)
    control_rows = peers(cells, control, treated_rows)
    if len(control_rows) < MIN_CELLS:
        raise SelectionError(
            f"{len(control_rows)} control cells are too few to tell who responds; it takes {MIN_CELLS}"
        )
    treated, untreated = places(embeddings[treated_rows], embeddings[control_rows])
    threshold = float(np.quantile(untreated, BEYOND, method="higher"))
    # what the controls themselves have beyond it is no response
    own = float((untreated > threshold).mean())
    found = pairs_interval((treated > threshold).astype(float), targets.units(cells, treated_rows))
    share, low, high = ((float(v) - own) / (1 - own) for v in (found.mean, found.low(), found.high()))
    share, low, high = (min(max(value, 0.0), 1.0) for value in (share, low, high))  # units are two or more
    n_wells = len(np.unique(targets.wells(cells, treated_rows)))
    if not 0 < found.mean < 1:  # all cells alike have no spread: what so few could hide (rule of three)
        hidden = min(3.0 / (len(np.unique(targets.units(cells, treated_rows)))), 1.0)
        low, high = (0.0, hidden) if found.mean == 0 else (1.0 - hidden, 1.0)
    return Responders(treated_rows, control_rows, treated, untreated, threshold, share, low, high, n_wells)


def central_responder(cells: pd.DataFrame, embeddings: Embeddings, control: str, treatment: str) -> Choice:
    """The cell closest to the mean of those that respond.

    Raises
    ------
    SelectionError
        No cell lies beyond the controls, or see `responders`.
    """
    found = responders(cells, embeddings, control, treatment)
    if not len(found.rows):
        raise SelectionError(
            f"no cell of {treatment} lies beyond {BEYOND:.0%} of the controls; choose the target otherwise"
        )
    return targets.typical(cells, embeddings, found.rows, f"the {len(found.rows)} cells of {treatment} that respond")


def central_of(embeddings: Embeddings, group: Rows, pool: Rows) -> int | None:
    """As `central_responder` chooses, for any two groups of rows; None where no cell lies beyond."""
    if len(group) < MIN_CELLS or len(pool) < MIN_CELLS:
        return None
    treated, untreated = places(embeddings[group], embeddings[pool])
    beyond = treated > np.quantile(untreated, BEYOND, method="higher")
    return targets.closest_to_mean(embeddings, group[beyond]) if beyond.any() else None


def peers(cells: pd.DataFrame, control: str, rows: Rows) -> Rows:
    """Control cells of the plates of the given cells, where a plate has too few, of its batch, else of the screen."""
    plates = targets.wells(cells.assign(**{schema.WELL: ""}), rows)
    firsts = rows[np.unique(plates, return_index=True)[1]]
    found = [targets.controls_near(cells, control, int(row))[0] for row in firsts]
    return np.unique(np.concatenate(found))


def places(treated: npt.NDArray, control: npt.NDArray) -> tuple[Doubles, Doubles]:
    """The place of every cell on the line from the controls' mean to the treatment's, made without the cell itself.

    Parameters
    ----------
    treated, control : (n, d), (m, d)

    Returns
    -------
    tuple of ((n,), (m,) float64)
    """
    treated, control = np.asarray(treated, dtype=np.float64), np.asarray(control, dtype=np.float64)
    n, m = len(treated), len(control)
    to, from_ = treated.mean(axis=0), control.mean(axis=0)
    ways = (n * to - treated) / (n - 1) - from_
    back = (m * from_ - control) / (m - 1)
    return _place(treated, from_, ways), _place(control, back, to - back)


def _place(z: Doubles, start: Doubles, way: Doubles) -> Doubles:
    length = (way**2).sum(axis=-1)
    along = ((z - start) * way).sum(axis=-1)
    return np.asarray(np.divide(along, length, out=np.zeros_like(along), where=length > 0))


def dose_response(cells: pd.DataFrame, embeddings: Embeddings, control: str, compound: str) -> pd.DataFrame:
    """Where the cells of each concentration lie on the line from the controls (0) to the highest one (1).

    Returns
    -------
    DataFrame
        One row per concentration, lowest first: ``treatment``, ``concentration``, ``mean``, ``low``, ``high`` (95 %
        interval over wells, over cells where there is one well), ``n_cells``, ``n_wells``.

    Raises
    ------
    SelectionError
        Unknown compound, or too few cells at its highest concentration.
    """
    doses = targets.dose_series(cells, compound)
    top = doses[-1]
    if len(top.rows) < 2:
        raise SelectionError(f"{top.treatment} has one cell, too few for a direction to place the other doses on")
    control_rows = peers(cells, control, np.concatenate([dose.rows for dose in doses]))
    from_ = embeddings[control_rows].mean(axis=0, dtype=np.float64)
    way = embeddings[top.rows].mean(axis=0, dtype=np.float64) - from_
    lines = []
    for dose in doses:
        if dose is top:
            place = places(embeddings[dose.rows], embeddings[control_rows])[0]
        else:
            place = _place(embeddings[dose.rows].astype(np.float64), from_, way)
        over = pairs_interval(place, targets.units(cells, dose.rows))
        lines.append(
            {
                "treatment": dose.treatment,
                "concentration": dose.concentration,
                "mean": float(over.mean),
                "low": float(over.low()),
                "high": float(over.high()),
                "n_cells": len(dose.rows),
                "n_wells": len(np.unique(targets.wells(cells, dose.rows))),
            }
        )
    return pd.DataFrame(lines)
