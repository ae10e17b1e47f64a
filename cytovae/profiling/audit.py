"""The evidence of profiles tried on a user's own screen: do its intervals cover, are its p-values calibrated?"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest, t

from cytovae import schema
from cytovae.profiling import activity, benchmark, intervals, precision, profiles
from cytovae.profiling.ranking import NSC, Ranked
from cytovae.schema import Check

NAMES = ("accuracy_interval_coverage", "map_false_positives", "activity_false_positives")
"""Of all checks of this room."""

TOLERANCE = 0.02
"""How far beyond the nominal rate the near end of an observed one's interval may lie and still be called good."""


def checks(
    cells: pd.DataFrame, embeddings: npt.NDArray[np.floating[Any]], control: str = "DMSO", seed: int = 0
) -> list[Check]:
    """All checks of this room that a screen has the data for.

    Parameters
    ----------
    cells : DataFrame
        One row per embedding, in its order.
    embeddings : (n, d) float
    control : str
        Compound name of the controls.
    seed : int
        Of all draws.

    Returns
    -------
    list of Check
        ``accuracy_interval_coverage`` and ``map_false_positives`` where mechanisms can be scored,
        ``activity_false_positives`` where controls can pose as treatments.
    """
    treatments = profiles.treatments(profiles.wells(cells, embeddings))
    rng = np.random.default_rng(seed)
    calls = benchmark.neighbours(treatments, NSC, control)
    out = []
    if len(set(calls.loc[calls["scored"], schema.COMPOUND])) > 1:
        out = [accuracy_interval_coverage(calls, rng), map_false_positives(treatments, rng, control)]
    if (cells[schema.COMPOUND] == control).any():
        p, _ = activity.posing(cells, embeddings, control, seed)
        if len(p):
            out.append(_of_counts("activity_false_positives", 0.05, int((p <= 0.05).sum()), len(p)))
    return out


def accuracy_interval_coverage(calls: pd.DataFrame, rng: np.random.Generator, count: int = 2_000) -> Check:
    """How often the 95 % interval of an accuracy covers it, for compounds as many and as large as the screen's.

    Accuracies of 0.35, 0.7, 0.9 and 0.96 are simulated in turn, the treatments of a compound alike to the degree of 0.5
    (0.46 to 0.52 in BBBC021's published profiles). Good is a coverage of at least 95 %, within the tolerance.
    """
    counts = calls[calls["scored"]].groupby(schema.COMPOUND).size()
    sizes: npt.NDArray[np.float64] = np.array(counts, dtype=np.float64)
    hits = 0
    for k in range(count):
        accuracy = (0.35, 0.7, 0.9, 0.96)[k % 4]
        shares = rng.beta(accuracy, 1 - accuracy, len(sizes))
        right = np.asarray(rng.binomial(sizes.astype(int), shares), dtype=np.float64)
        found = intervals.accuracy(right, sizes)
        hits += found is not None and found[0] <= accuracy <= found[1]
    return _of_counts("accuracy_interval_coverage", 0.95, hits, count)


def map_false_positives(
    treatments: pd.DataFrame, rng: np.random.Generator, control: str = "DMSO", count: int = 60
) -> Check:
    """How often a mechanism has p <= 0.05 where mechanisms were shuffled among the screen's compounds.

    The interval is over shuffles, since the mechanisms of one shuffle depend on each other.
    """
    ranked = Ranked(treatments, NSC, control)
    names = pd.factorize(ranked.moa, sort=True)[1]
    shares, n = [], 0
    for labels in ranked.shuffles(rng, count):
        table = ranked.table.assign(**{schema.MOA: names[labels]})
        p = precision.mean_average_precision(table, NSC, control, int(rng.integers(2**31)), null_size=199)["p"]
        if len(p):
            shares.append(float((p <= 0.05).mean()))
            n += len(p)
    mean = float(np.mean(shares))
    half = float(t.ppf(0.975, len(shares) - 1) * np.std(shares, ddof=1) / np.sqrt(len(shares)))
    ci = (max(mean - half, 0.0), min(mean + half, 1.0))
    return Check("map_false_positives", 0.05, mean, ci, n, ci[0] <= 0.05 + TOLERANCE)


def _of_counts(name: str, nominal: float, hits: int, n: int) -> Check:
    """A rate of independent trials; a coverage may not be too low, a share of false positives not too high."""
    ci = binomtest(hits, n).proportion_ci(method="wilson")
    good = ci.high >= nominal - TOLERANCE if nominal > 0.5 else ci.low <= nominal + TOLERANCE
    return Check(name, nominal, hits / n, (float(ci.low), float(ci.high)), n, bool(good))
