"""How many cells respond, and how far: every cell's place between the controls and the treatment.

A cell's place is where it falls on the line from the mean of the controls (0) to the mean of the treatment (1). A cell
that takes part in a mean pulls the line towards itself, and with few cells in many features that alone puts it near 1;
so each cell is placed on the line that the other wells make. Where a treatment has one well the other cells make it:
then what sets that well apart counts as response, whatever its cause.
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
        The share of cells that respond, with its 95 % interval, see `excess`: of the cells beyond the threshold, those
        more than the controls' own 5 %, 0 to 1.
    n_wells : int
        The treatment's wells.
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
        """The share, and what it rests on; with a caution where that is one well."""
        alone = "" if self.n_wells > 1 else "; what sets that well apart counts as response, whatever its cause"
        return (
            f"{100 * self.share:.0f} % of the cells respond (95 % interval {100 * self.low:.0f} to "
            f"{100 * self.high:.0f} %; {len(self.treated)} treated cells of {self.n_wells} "
            f"well{'' if self.n_wells == 1 else 's'}, {len(self.control)} controls){alone}"
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
    units = [targets.units(cells, rows) for rows in (treated_rows, control_rows)]
    treated, untreated = places(embeddings[treated_rows], embeddings[control_rows], *units)
    threshold = float(np.quantile(untreated, BEYOND, method="higher"))
    share, low, high = excess(treated > threshold, untreated > threshold, *units)
    n_wells = len(np.unique(targets.wells(cells, treated_rows)))
    return Responders(treated_rows, control_rows, treated, untreated, threshold, share, low, high, n_wells)


def excess(
    treated: npt.NDArray[np.bool_],
    control: npt.NDArray[np.bool_],
    treated_units: npt.ArrayLike,
    control_units: npt.ArrayLike,
) -> tuple[float, float, float]:
    """The share of treated cells that do what control cells do not, ``1 - (1 - F_treated) / (1 - F_control)``.

    Each F is a share of cells, with a Wilson interval for as many cells as the spread between its units makes them
    worth (Korn & Graubard 1998); the two are joined to the interval of their ratio (Donner & Zou 2012).

    Parameters
    ----------
    treated, control : (n,), (m,) bool
        Which cells lie beyond the threshold.
    treated_units, control_units : (n,), (m,)
        See `cytovae.explore.targets.units`.

    Returns
    -------
    tuple of (float, float, float)
        Share and its 95 % interval, cut to 0 to 1.
    """
    untreated, alike = _stay(control, control_units, 0.0)
    stay, _ = _stay(treated, treated_units, alike)
    (g, low, high), (h, h_low, h_high) = stay, untreated
    most, least = h_high * (2 * h - h_high), h_low * (2 * h - h_low)
    ratio_low = (g * h - np.sqrt(max((g * h) ** 2 - low * (2 * g - low) * most, 0.0))) / most if most > 0 else 0.0
    ratio_high = (g * h + np.sqrt(max((g * h) ** 2 - high * (2 * g - high) * least, 0.0))) / least if least > 0 else 1.0
    share, low, high = (min(max(1.0 - float(r), 0.0), 1.0) for r in (g / h if h else 1.0, ratio_high, ratio_low))
    return share, min(low, share), max(high, share)


def _stay(
    beyond: npt.NDArray[np.bool_], units: npt.ArrayLike, alike: float
) -> tuple[tuple[float, float, float], float]:
    """The share of cells that are not beyond with its interval, and how much alike the cells of a unit are, 0 to 1.

    `alike` stands in where all cells are on one side, which does not tell.
    """
    from scipy.special import stdtrit

    n, share = len(beyond), float(1.0 - np.mean(beyond))
    k = len(np.unique(units))
    worth: float = n
    if k < n:
        if 0 < share < 1:
            error = float(pairs_interval(np.asarray(beyond, dtype=float), units).error)
            alike = min(max((error**2 * n / (share * (1 - share)) - 1) / (n / k - 1), 0.0), 1.0)
        worth = n / (1 + (n / k - 1) * alike) * (_Z / float(stdtrit(k - 1, 0.975))) ** 2
    centre = (share * worth + _Z**2 / 2) / (worth + _Z**2)
    half = _Z * np.sqrt(worth * share * (1 - share) + _Z**2 / 4) / (worth + _Z**2)
    return (share, float(centre - half), float(centre + half)), alike


_Z = 1.959964


def central_responder(cells: pd.DataFrame, embeddings: Embeddings, control: str, treatment: str) -> Choice:
    """The cell closest to the mean of those that lie beyond the controls, each on the line that the other cells make.

    Raises
    ------
    SelectionError
        No cell lies beyond the controls, unknown treatment, or too few cells.
    """
    everyone = targets.rows_of(cells, treatment, at_least=MIN_CELLS)
    group = targets.standing_for(everyone)
    beyond = far(embeddings, group, targets.standing_for(peers(cells, control, group)))
    drawn = "" if len(group) == len(everyone) else f" ({len(group):,} of {len(everyone):,} drawn at random)"
    if not len(beyond):
        raise SelectionError(
            f"no cell of {treatment}{drawn} lies beyond {BEYOND:.0%} of the controls; choose the target otherwise"
        )
    return targets.typical(
        cells, embeddings, beyond, f"the {len(beyond)} cells of {schema.words(treatment)}{drawn} that respond"
    )


def central_of(embeddings: Embeddings, group: Rows, pool: Rows) -> int | None:
    """As `central_responder` chooses, for any two groups of rows; None where no cell lies beyond."""
    beyond = far(embeddings, group, pool)
    return targets.closest_to_mean(embeddings, beyond) if len(beyond) else None


def far(embeddings: Embeddings, group: Rows, pool: Rows) -> Rows:
    """The rows of a group that lie beyond `BEYOND` of a pool; none where either has fewer than `MIN_CELLS`."""
    if len(group) < MIN_CELLS or len(pool) < MIN_CELLS:
        return group[:0]
    treated, untreated = places(embeddings[group], embeddings[pool])
    return group[treated > np.quantile(untreated, BEYOND, method="higher")]


def peers(cells: pd.DataFrame, control: str, rows: Rows) -> Rows:
    """Control cells of the plates of the given cells, where a plate has too few, of its batch, else of the screen."""
    plates = targets.wells(cells.assign(**{schema.WELL: ""}), rows)
    firsts = rows[np.unique(plates, return_index=True)[1]]
    found = [targets.controls_near(cells, control, int(row))[0] for row in firsts]
    return np.unique(np.concatenate(found))


def places(
    treated: npt.NDArray,
    control: npt.NDArray,
    treated_units: npt.ArrayLike | None = None,
    control_units: npt.ArrayLike | None = None,
) -> tuple[Doubles, Doubles]:
    """The place of every cell on the line from the controls' mean to the treatment's, made without the cell's own unit.

    Parameters
    ----------
    treated, control : (n, d), (m, d)
    treated_units, control_units : (n,), (m,), optional
        What is left out together, two or more of each; by default every cell by itself.

    Returns
    -------
    tuple of ((n,), (m,) float64)
    """
    (treated, others), (control, without) = (
        _left_out(np.asarray(z, dtype=np.float64), units)
        for z, units in ((treated, treated_units), (control, control_units))
    )
    to, from_ = treated.mean(axis=0), control.mean(axis=0)
    return on_line(treated, from_, others - from_), on_line(control, without, to - without)


def _left_out(z: Doubles, units: npt.ArrayLike | None) -> tuple[Doubles, Doubles]:
    """Points, and of each the mean of all that are not of its unit."""
    if units is None:
        return z, (z.sum(axis=0) - z) / max(len(z) - 1, 1)
    labels = np.unique(np.asarray(units), return_inverse=True)[1]
    n = np.bincount(labels)
    order = np.argsort(labels, kind="stable")
    sums = np.add.reduceat(z[order], np.cumsum(n) - n)
    return z, ((z.sum(axis=0) - sums) / np.maximum(len(z) - n, 1)[:, None])[labels]


def on_line(z: Doubles, start: Doubles, way: Doubles) -> Doubles:
    """Where points fall on a line, or each on its own: 0 at its start, 1 at the end of its way."""
    length = (way**2).sum(axis=-1)
    along = ((z - start) * way).sum(axis=-1)
    return np.asarray(np.divide(along, length, out=np.zeros_like(along), where=length > 0))
