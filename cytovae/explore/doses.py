"""Dose and response: where the cells of each concentration lie between the controls and the highest one.

A place is that of `cytovae.explore.responders`: 0 as the controls are on average, 1 as the highest concentration is.
The line is the same for all doses. Cells of the highest one are placed on the line that its other wells make.
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
from cytovae.explore.intervals import pairs_interval
from cytovae.explore.responders import on_line, peers, places
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
        (95 % interval over wells, over cells where there is one well), ``n_cells``, ``n_wells``.
    wells : DataFrame
        One row per well: ``treatment``, ``concentration``, ``plate``, ``well``, ``mean``, ``n_cells``.
    n_controls : int
        Control cells that the line starts from.
    curve : Curve or None
    reason : str
        Why there is no curve, else empty.
    """

    compound: str
    doses: pd.DataFrame
    wells: pd.DataFrame
    n_controls: int
    curve: Curve | None
    reason: str

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
        Unknown compound, the control itself, or too few cells at its highest concentration.
    """
    if compound == control:
        raise SelectionError(f"{control!r} is the control itself; name a compound with doses")
    series = targets.dose_series(cells, compound)
    top = series[-1]
    if len(top.rows) < 2:
        raise SelectionError(f"{top.treatment} has one cell, too few for a direction to place the other doses on")
    control_rows = peers(cells, control, np.concatenate([dose.rows for dose in series]))
    from_ = embeddings[control_rows].mean(axis=0, dtype=np.float64)
    way = embeddings[top.rows].mean(axis=0, dtype=np.float64) - from_
    lines, wells = [], []
    for dose in series:
        units = targets.units(cells, dose.rows)
        if dose is top:
            place = places(embeddings[dose.rows], embeddings[control_rows], units)[0]
        else:
            place = on_line(embeddings[dose.rows].astype(np.float64), from_, way)
        over = pairs_interval(place, units)
        named = {"treatment": dose.treatment, "concentration": dose.concentration}
        mine = cells.iloc[dose.rows].assign(place=place).groupby([schema.PLATE, schema.WELL], sort=True, dropna=False)
        for (plate, well), group in mine["place"]:
            at = {"plate": str(plate), "well": str(well), "mean": float(group.mean()), "n_cells": len(group)}
            wells.append(named | at)
        lines.append(
            named
            | {"mean": float(over.mean), "low": float(over.low()), "high": float(over.high())}
            | {"n_cells": len(dose.rows), "n_wells": mine.ngroups}
        )
    table = pd.DataFrame(wells)
    curve, reason = fitted(table["concentration"].to_numpy(), table["mean"].to_numpy())
    return DoseResponse(compound, pd.DataFrame(lines), table, len(control_rows), curve, reason)


def fitted(concentrations: npt.NDArray, values: npt.NDArray) -> tuple[Curve | None, str]:
    """A Hill curve through the places of wells, least squares, where the doses allow one.

    The interval of the EC50 is that of its logarithm, by the t distribution over wells less three.

    Parameters
    ----------
    concentrations, values : (n,) float
        Of each well; concentrations in uM, above 0.

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
    half = float(stdtrit(len(x) - 3, 0.5 + LEVEL / 2) * np.sqrt(spread[1, 1]))
    if not doses[0] <= middle - half <= middle + half <= doses[-1]:
        return None, undetermined
    ec50, low, high, steep = (float(np.exp(v)) for v in (middle, middle - half, middle + half, slope))
    return Curve(ec50, low, high, steep, float(top), len(x)), ""


def _hill(log_c: Doubles, top: float, log_ec50: float, log_slope: float) -> Doubles:
    from scipy.special import expit

    return np.asarray(top * expit(np.exp(np.clip(log_slope, -3, 3)) * (log_c - log_ec50)))
