"""How sure an accuracy is, and a difference between two: intervals over compounds.

The concentrations of a compound stand or fall together, so compounds are the sample. A bootstrap of compounds covers
three quarters of what it says where nearly all are right, and has no width where all are; Wilson's interval with the
number of treatments replaced by an effective one covers at least 93 % from 0.35 to 1.0
(``benchmarks/evidence_profiles.py`` measures both).
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema

EXPECTED_CORRELATION = 0.6
"""Likeness of a compound's concentrations (intraclass correlation) that is assumed where the data cannot tell it."""

WEIGHT_OF_EXPECTED = 3
"""How many treatments of the rarer outcome (right or wrong) the assumed correlation weighs as much as."""


class Verdict(enum.StrEnum):
    """What a paired interval shows."""

    above = "above"
    below = "below"
    unclear = "no difference shown"


def accuracy(
    right: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], level: float = 0.95
) -> tuple[float, float] | None:
    """Interval of a share of treatments: Wilson's, at the effective number of treatments.

    The effective number is n / (1 + r (w - 1)): n treatments, w the mean size of the compound of a treatment, r the
    intraclass correlation of a compound's treatments. r comes from the spread of the compounds' shares, drawn towards
    `EXPECTED_CORRELATION` where few treatments are wrong, or few right. The quantile is Student's, of compounds - 1.

    Parameters
    ----------
    right : (k,) float
        Treatments that are right, by compound.
    sizes : (k,) float
        Treatments, by compound.
    level : float

    Returns
    -------
    tuple of (float, float) or None
        None of fewer than two compounds.
    """
    from scipy.stats import t

    k, n = len(sizes), float(sizes.sum())
    if k < 2:
        return None
    share = float(right.sum()) / n
    largest = float((sizes**2).sum()) / n
    rarer = min(right.sum(), n - right.sum())
    correlation = EXPECTED_CORRELATION
    if rarer > 0 and largest > 1:
        spread = k / (k - 1) * float(((right - share * sizes) ** 2).sum()) / n / (share * (1 - share))
        weight = rarer / (rarer + WEIGHT_OF_EXPECTED)
        seen = min(max((spread - 1) / (largest - 1), 0.0), 1.0)
        correlation = weight * seen + (1 - weight) * EXPECTED_CORRELATION
    effective = n / (1 + correlation * (largest - 1))
    z = float(t.ppf((1 + level) / 2, k - 1))
    center = (share + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = z / (1 + z**2 / effective) * np.sqrt(share * (1 - share) / effective + (z / (2 * effective)) ** 2)
    return min(max(float(center - half), 0.0), share), max(min(float(center + half), 1.0), share)


def difference(
    one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], compounds: npt.NDArray[Any], level: float = 0.95
) -> tuple[float, float] | None:
    """Interval of the difference of two shares of the same treatments, paired, over compounds.

    Student's interval of a ratio over compounds, with half a compound of mean size added on either side (as Agresti and
    Min, 2005, add half a pair to each cell): so a few compounds that all point one way prove nothing.

    Parameters
    ----------
    one, other : (n,) float
        Whether each treatment is right, or the probability that it is.
    compounds : (n,)
    level : float

    Returns
    -------
    tuple of (float, float) or None
        Of the share of `one` minus that of `other`; None of fewer than two compounds.
    """
    from scipy.stats import t

    codes = pd.factorize(compounds)[0]
    sizes = np.bincount(codes).astype(float)
    k = len(sizes)
    if k < 2:
        return None
    gained = np.bincount(codes, weights=np.asarray(one, float) - np.asarray(other, float))
    mean = sizes.mean()
    gained, sizes = np.append(gained, [mean / 2, -mean / 2]), np.append(sizes, [mean / 2, mean / 2])
    centre = gained.sum() / sizes.sum()
    spread = np.sqrt(len(sizes) / (len(sizes) - 1) * ((gained - centre * sizes) ** 2).sum()) / sizes.sum()
    half = float(t.ppf((1 + level) / 2, k - 1)) * spread
    return max(float(centre - half), -1.0), min(float(centre + half), 1.0)


def compared(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, Any]:
    """Two sets of calls on the same treatments, paired.

    Parameters
    ----------
    one, other : DataFrame
        Treatment, compound, ``scored`` and ``correct`` (bool, or the probability of being right).

    Returns
    -------
    dict
        ``difference`` of the accuracies, ``ci95``, ``n_scored`` and ``verdict``; None, None and "no difference shown"
        where too little is scored in both.
    """
    keys = [schema.TREATMENT, schema.COMPOUND]
    both = one.loc[one["scored"], [*keys, "correct"]].merge(
        other.loc[other["scored"], [*keys, "correct"]], on=keys, suffixes=("_one", "_other")
    )
    a, b = (both[f"correct_{which}"].to_numpy(dtype=float) for which in ("one", "other"))
    ci = difference(a, b, both[schema.COMPOUND].to_numpy())
    verdict = Verdict.unclear
    if ci is not None and ci[0] > 0:
        verdict = Verdict.above
    elif ci is not None and ci[1] < 0:
        verdict = Verdict.below
    return {
        "difference": float((a - b).mean()) if len(both) else None,
        "ci95": list(ci) if ci else None,
        "n_scored": len(both),
        "verdict": str(verdict),
    }
