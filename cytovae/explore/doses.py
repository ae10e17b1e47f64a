"""Dose and response: where the cells of each concentration lie between the controls and the highest one.

The line leads from the controls' mean (0) to the highest concentration's (1, by construction). A mean of few cells in
many features lies off by chance, and a product of two means that share this chance is too large: a dose that does
nothing then seems to have gone some of the way. So every product is of different units only (wells; cells where there
is one well): one control unit is the origin, another starts the line, and all pairs of them are averaged (Hoeffding
1948). Of the highest concentration, too, one unit is placed on the line that the others make.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import SelectionError
from cytovae.explore import targets
from cytovae.explore.responders import peers
from cytovae.explore.targets import Embeddings
from cytovae.patches import Doubles

MIN_DOSES = 4
"""Concentrations that a curve of three parameters takes at least."""
LEVEL = 0.95


@dataclass(frozen=True)
class Curve:
    """A Hill curve through the wells, ``top * c^slope / (c^slope + ec50^slope)``: 0, as the controls are, without dose.

    Parameters
    ----------
    ec50, ec50_low, ec50_high : float
        Half of the curve's own top is reached at this concentration (uM), with its 95 % interval over wells.
    slope, top : float
    n_wells : int
        Wells that it was fitted to.
    """

    ec50: float
    ec50_low: float
    ec50_high: float
    slope: float
    top: float
    n_wells: int

    def at(self, concentration: npt.ArrayLike) -> Doubles:
        """The curve at concentrations (uM)."""
        return _hill(np.log(np.asarray(concentration, dtype=float)), self.top, np.log(self.ec50), np.log(self.slope))

    @property
    def sentence(self) -> str:
        """The concentration of half the effect, and what it rests on."""
        return (
            f"half of the effect at {self.ec50:.2g} µM (95 % interval {self.ec50_low:.2g} to {self.ec50_high:.2g} µM, "
            f"slope {self.slope:.2g}; {self.n_wells} wells)"
        )


@dataclass(frozen=True)
class DoseResponse:
    """How a compound's effect grows with its dose.

    Parameters
    ----------
    compound : str
    doses : DataFrame
        One row per concentration, lowest first: ``treatment``, ``concentration`` (uM), ``mean``, ``low``, ``high``
        (95 % interval over wells, over cells where there is one well, of the dose, the controls and the highest dose),
        ``n_cells``, ``n_wells``. The highest is 1 by construction; its interval is that of its units left out in turn.
    wells : DataFrame
        One row per well: ``treatment``, ``concentration``, ``plate``, ``well``, ``mean``, ``n_cells``. Wells of the
        highest concentration are each placed on the line of its others.
    n_controls, n_control_wells : int
        Control cells that the line starts from, and their wells.
    told : bool
        Whether the highest concentration is told from the controls. If not, its place is not 1 but about 0.
    curve : Curve or None
    reason : str
        Why there is no curve, else empty.
    """

    compound: str
    doses: pd.DataFrame
    wells: pd.DataFrame
    n_controls: int
    n_control_wells: int
    told: bool
    curve: Curve | None
    reason: str

    @property
    def scale(self) -> str:
        """What 0 and 1 are."""
        plural = "" if self.n_control_wells == 1 else "s"
        start = f"0: as {self.n_controls:,} control cells of {self.n_control_wells:,} well{plural} are on average"
        highest = str(self.doses["treatment"].iloc[-1])
        if self.told:
            return f"{start}; 1: as {highest} is on average, by construction"
        return f"{start}; 1: no known effect, since {highest} is not told from the controls"

    @property
    def caution(self) -> str:
        """What the intervals do not know, where something has one well only, else empty."""
        single = int((self.doses["n_wells"] == 1).sum())
        few = ["the controls"] * (self.n_control_wells == 1) + [f"{single} of {len(self.doses)} doses"] * (single > 0)
        return f"of one well: {' and '.join(few)}; what sets a well apart counts as an effect there" if few else ""

    @property
    def sentence(self) -> str:
        """What the curve says, or why there is none."""
        return f"{self.compound}: {self.curve.sentence if self.curve else f'no curve: {self.reason}'}"

    def document(self) -> dict[str, Any]:
        """As JSON types."""
        tables = {name: json.loads(getattr(self, name).to_json(orient="records")) for name in ("doses", "wells")}
        curve = None if self.curve is None else vars(self.curve)
        return {
            "compound": self.compound,
            "n_controls": self.n_controls,
            "n_control_wells": self.n_control_wells,
            "told": self.told,
            **tables,
            "curve": curve,
            "reason": self.reason,
        }


def dose_response(cells: pd.DataFrame, embeddings: Embeddings, control: str, compound: str) -> DoseResponse:
    """Where the cells of each concentration lie on the line from the controls (0) to the highest one (1).

    Parameters
    ----------
    cells : DataFrame
        The embedded cells.
    embeddings : (n, d) float32
    control : str
        Compound name of the untreated cells.
    compound : str
        See `cytovae.explore.targets.dose_series`.

    Raises
    ------
    SelectionError
        Unknown compound, the control itself, or too few cells of the control or at its highest concentration.
    """
    if compound == control:
        raise SelectionError(f"{control!r} is the control itself; name a compound with doses")
    series = targets.dose_series(cells, compound)
    top = series[-1]
    if len(top.rows) < 2:
        raise SelectionError(f"{top.treatment} has one cell, too few for a direction to place the other doses on")
    control_rows = peers(cells, control, np.concatenate([dose.rows for dose in series]))
    if len(control_rows) < 2:
        raise SelectionError(f"one cell of the control {control!r} is too few to place doses from; it takes 2")
    origin = embeddings[control_rows].mean(axis=0, dtype=np.float64)
    control_wells, *of_wells = (targets.wells(cells, rows) for rows in (control_rows, *(dose.rows for dose in series)))
    controls, highest = (
        _Units.of(embeddings[rows] - origin, _wells_or_cells(of))
        for rows, of in ((control_rows, control_wells), (top.rows, of_wells[-1]))
    )
    line = _Line(controls, highest)
    lines, wells, noise = [], [], []
    for dose, of_well in zip(series, of_wells, strict=True):
        z = embeddings[dose.rows] - origin
        mean, low, high = line.top_place() if dose is top else line.place(_Units.of(z, _wells_or_cells(of_well)))
        named = {"treatment": dose.treatment, "concentration": dose.concentration}
        first = cells.iloc[dose.rows[np.unique(of_well, return_index=True)[1]]]
        mine = _Units.of(z, of_well)
        at = line.wells_of_top(mine) if dose is top else line.along(mine.z)
        names = zip(first[schema.PLATE], first[schema.WELL], at, mine.n, strict=True)
        made = [{"plate": str(p), "well": str(w), "mean": float(v), "n_cells": int(n)} for p, w, v, n in names]
        by_well = pd.Series(line.along(z)).groupby(of_well)
        noise += (by_well.var() / by_well.size()).tolist()
        wells += [named | one for one in sorted(made, key=lambda one: (one["plate"], one["well"]))]
        lines.append(named | {"mean": mean, "low": low, "high": high, "n_cells": len(dose.rows), "n_wells": len(made)})
    table = pd.DataFrame(wells)
    n_wells = int(control_wells.max()) + 1
    curve = None
    enough = sum(dose.concentration > 0 for dose in series) >= MIN_DOSES
    if enough and not line.told:
        reason = (
            f"the {len(top.rows):,} cells of {top.treatment} ({lines[-1]['n_wells']} wells) are not told from "
            f"the {len(control_rows):,} control cells ({n_wells} wells)"
        )
    elif enough and n_wells == 1:
        reason = "all control cells are of one well, and what sets it apart moves the curve; it takes 2 control wells"
    else:
        of_cells = float(pd.Series(noise).mean()) if any(n > 1 for n in table["n_cells"]) else 0.0
        curve, reason = fitted(table["concentration"].to_numpy(), table["mean"].to_numpy(), line.origin, of_cells)
    return DoseResponse(compound, pd.DataFrame(lines), table, len(control_rows), n_wells, line.told, curve, reason)


def _wells_or_cells(of_well: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """What counts as one, as `cytovae.explore.targets.units` has it."""
    return of_well if of_well.max() > 0 else np.arange(len(of_well))


@dataclass(frozen=True)
class _Units:
    """The means of units (k, d), their cells (k,), and their weights as one and as one of a pair of units (k,)."""

    z: Doubles
    n: npt.NDArray[np.int64]

    @staticmethod
    def of(z: npt.NDArray, labels: npt.ArrayLike) -> _Units:
        """Units in the order of their labels."""
        number = np.unique(np.asarray(labels), return_inverse=True)[1]
        n = np.bincount(number)
        order = np.argsort(number, kind="stable")
        return _Units(np.add.reduceat(z[order].astype(np.float64), np.cumsum(n) - n) / n[:, None], n)

    @property
    def single(self) -> Doubles:
        return np.asarray(self.n / self.n.sum())

    @property
    def pairs(self) -> Doubles:
        w = self.single
        return np.asarray(w * (1 - w) / (1 - (w**2).sum()))

    @property
    def others(self) -> Doubles:
        """Of each unit, the mean of the others, (k, d)."""
        w = self.single[:, None]
        return np.asarray(((w * self.z).sum(axis=0) - w * self.z) / (1 - w))

    @property
    def t2(self) -> float:
        """The square of the t that half-widths take."""
        from scipy.special import stdtrit

        return float(stdtrit(max(len(self.z) - 1, 1), 0.5 + LEVEL / 2) ** 2)

    def error(self, values: Doubles, weights: Doubles) -> Doubles:
        """Covariance (p, p) of the weighted mean of units' values (k, p)."""
        left = weights[:, None] * (values - weights @ values)
        return np.asarray(left.T @ left * self.more)

    @property
    def more(self) -> float:
        return len(self.z) / max(len(self.z) - 1, 1)


class _Line:
    """From the controls to the highest concentration.

    With x of control units, t of units of the highest concentration and y of another's, of different units each,

        N = <y - x, t - x'>,    D = <t - x, t' - x'>,    place = N / D.

    The interval is Fieller's: all places p for which N - p D is not told from 0. Its variance is that of y along the
    line, plus (1 - p)^2 that of the controls, plus p^2 that of the highest concentration, each with its own t (Zou &
    Donner 2008). Where D is not told from 0 nothing limits a place; places are then N over the square of the means'
    distance.
    """

    def __init__(self, controls: _Units, top: _Units) -> None:
        self.start, self.end = controls.pairs @ controls.z, top.pairs @ top.z
        self.way = self.end - self.start
        along_x, along_t = ((u.z * u.others).sum(axis=1) for u in (controls, top))
        self.zero = float(self.start @ self.end - controls.pairs @ along_x)
        self.length = float(top.pairs @ along_t - self.start @ self.end - self.zero)
        x, t = controls.error(controls.z, controls.pairs), top.error(top.z, top.pairs)
        both = float((x * t).sum())  # the variance of the product of the two means' errors
        wider = float(np.trace(x) / np.trace(t)) if np.trace(t) > 0 else 1.0
        of_x, of_t = (
            float(u.error(v[:, None], u.pairs)[0, 0]) + u.more**2 * both * ratio  # units in a product vary less than it
            for u, v, ratio in (
                (controls, along_x - controls.z @ self.end, wider),
                (top, along_t - top.z @ self.start, 1 / wider if wider > 0 else 0.0),
            )
        )
        of_x, of_t = controls.t2 * of_x, top.t2 * of_t
        self.of_x, self.of_t = of_x, of_t
        self.half = float(np.sqrt(of_x + of_t + 2 * max(controls.t2, top.t2) * both))
        self.told = self.length > self.half
        self.scale = self.length if self.told else float(self.way @ self.way) or 1.0

    @property
    def origin(self) -> float:
        """Half of the width that the controls alone give to a place."""
        return float(np.sqrt(self.of_x)) / self.scale

    def along(self, z: Doubles) -> Doubles:
        """Places of points (n, d) that the line was not made of."""
        return np.asarray((z @ self.way - self.zero) / self.scale)

    def wells_of_top(self, wells: _Units) -> Doubles:
        """Places of the highest concentration's wells, each on the line of the others; of one well, of its cells."""
        if len(wells.z) == 1:
            return np.array([self.length / self.scale])
        others = wells.others
        along = (wells.z * (others - self.start)).sum(axis=1) - others @ self.start
        return np.asarray((along + self.start @ self.end - self.zero) / self.scale)

    def top_place(self) -> tuple[float, float, float]:
        """The highest concentration's own, 1 where it is told from the controls; its interval then leaves 0 out."""
        place, half = self.length / self.scale, self.half / self.scale
        return place, place - half, place + half

    def place(self, dose: _Units) -> tuple[float, float, float]:
        """The place of a dose with its interval; no interval of a dose of one cell."""
        above = float(dose.single @ dose.z @ self.way) - self.zero
        place = above / self.scale
        if len(dose.z) < 2:
            return place, np.nan, np.nan
        of_y = dose.t2 * float(dose.error((dose.z @ self.way)[:, None], dose.single)[0, 0])
        if not self.told:
            half = float(np.sqrt(of_y + self.of_x)) / self.scale
            return place, place - half, place + half
        a = self.length**2 - self.of_x - self.of_t
        b = above * self.length - self.of_x
        half = float(np.sqrt(max(b**2 - a * (above**2 - of_y - self.of_x), 0.0)))
        return place, (b - half) / a, (b + half) / a


def fitted(
    concentrations: npt.NDArray, values: npt.NDArray, origin: float = 0.0, noise: float = 0.0
) -> tuple[Curve | None, str]:
    """A Hill curve through the places of wells, least squares, where the doses allow one.

    The interval of the EC50 is that of its logarithm, by the t distribution over wells less three, and by how far the
    curve moves where all places do, since they have the same controls.

    Parameters
    ----------
    concentrations, values : (n,) float
        Of each well; concentrations in uM, above 0.
    origin : float
        Half of the width of the 95 % interval of place 0.
    noise : float
        The variance of a well's place that its cells alone give: wells that lie closer to a curve do so by chance.

    Returns
    -------
    tuple of (Curve or None, str)
        And why there is none: fewer than `MIN_DOSES` concentrations, fewer than two wells more than parameters, or an
        EC50 whose interval is not within the doses.
    """
    from scipy.optimize import OptimizeWarning, curve_fit
    from scipy.special import stdtrit

    there = np.asarray(concentrations, dtype=float) > 0
    x, y = np.log(np.asarray(concentrations, dtype=float)[there]), np.asarray(values, dtype=float)[there]
    doses = np.unique(x)
    if len(doses) < MIN_DOSES:
        return None, f"{len(doses)} concentrations, it takes {MIN_DOSES}"
    if len(x) < 5:
        return None, f"{len(x)} wells, it takes 5"
    import warnings

    best: tuple[float, Doubles, Doubles] | None = None
    for middle in doses[:-1] + np.diff(doses) / 2:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", OptimizeWarning)  # no covariance: looked at below
                found, spread = curve_fit(_hill, x, y, [max(float(y.max()), 0.1), middle, 0.0], maxfev=400)
        except RuntimeError:  # from here the least squares do not settle
            continue
        left = float(((y - _hill(x, *found)) ** 2).sum())
        if best is None or left < best[0]:
            best = left, found, spread
    undetermined = "the wells do not determine where half of the effect is reached"
    if best is None or not np.isfinite(best[2]).all():
        return None, undetermined
    _, (top, middle, slope), spread = best
    closely = best[0] / (len(x) - 3)
    spread = spread * max(1.0, noise / closely) if closely > 0 else spread
    half = float(stdtrit(len(x) - 3, 0.5 + LEVEL / 2) * np.sqrt(spread[1, 1]))
    moved = float(np.linalg.pinv(_slopes(x, top, middle, slope))[1].sum())
    half = float(np.hypot(half, moved * origin))
    if not doses[0] <= middle - half <= middle + half <= doses[-1]:
        return None, undetermined
    ec50, low, high, steep = (float(np.exp(v)) for v in (middle, middle - half, middle + half, slope))
    return Curve(ec50, low, high, steep, float(top), len(x)), ""


def _hill(log_c: Doubles, top: float, log_ec50: float, log_slope: float) -> Doubles:
    from scipy.special import expit

    return np.asarray(top * expit(np.exp(np.clip(log_slope, -3, 3)) * (log_c - log_ec50)))


def _slopes(log_c: Doubles, top: float, log_ec50: float, log_slope: float) -> Doubles:
    """How the curve changes with each of its parameters, (n, 3)."""
    steep = np.exp(np.clip(log_slope, -3, 3))
    share = _hill(log_c, 1.0, log_ec50, log_slope)
    rise = top * share * (1 - share) * steep
    return np.stack([share, -rise, rise * (log_c - log_ec50)], axis=1)
