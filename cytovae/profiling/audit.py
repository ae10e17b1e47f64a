"""The evidence of profiles tried on a user's own screen: do its intervals cover, are its p-values calibrated?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import t

from cytovae import schema
from cytovae.errors import ProfileError
from cytovae.profiling import activity, benchmark, intervals, precision, profiles
from cytovae.profiling.ranking import NSC, Ranked
from cytovae.schema import Check, as_claimed, wilson

NAMES = ("accuracy_interval_coverage", "map_false_positives", "activity_false_positives")
"""Of all checks of this room."""


def checks(
    cells: pd.DataFrame, embeddings: npt.NDArray[np.floating[Any]], control: str = "DMSO", seed: int = 0
) -> tuple[list[Check], dict[str, str]]:
    """All checks of this room that a screen has the data for, and why it has none for the others.

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
    tuple of (list of Check, dict of str to str)
        ``accuracy_interval_coverage`` and ``map_false_positives`` where mechanisms can be scored,
        ``activity_false_positives`` where controls can pose as treatments; and name to reason of those left out.
    """
    treatments = profiles.treatments(profiles.wells(cells, embeddings))
    rng = np.random.default_rng(seed)
    tried: dict[str, Callable[[], Check]] = {
        "accuracy_interval_coverage": lambda: accuracy_interval_coverage(_scored(treatments, control), rng),
        "map_false_positives": lambda: map_false_positives(treatments, rng, control),
        "activity_false_positives": lambda: activity_false_positives(cells, embeddings, control, seed),
    }
    out, skipped = [], {}
    for name in NAMES:
        try:
            out.append(tried[name]())
        except ProfileError as few:
            skipped[name] = str(few)
    return out, skipped


def _scored(treatments: pd.DataFrame, control: str) -> pd.DataFrame:
    """The calls that are scored, of two compounds at least."""
    calls = benchmark.neighbours(treatments, NSC, control)
    scored = calls[calls["scored"]]
    if (n := scored[schema.COMPOUND].nunique()) < 2:
        raise ProfileError(f"it takes two compounds that share their mechanism with another, not {n}")
    return scored


def accuracy_interval_coverage(scored: pd.DataFrame, rng: np.random.Generator, count: int = 2_000) -> Check:
    """How often the 95 % interval of an accuracy covers it, for compounds as many and as large as the screen's.

    Accuracies of 0.35, 0.7, 0.9 and 0.96 are simulated in turn, the treatments of a compound alike to the degree of 0.5
    (0.46 to 0.52 in BBBC021's published profiles).
    """
    counts = scored.groupby(schema.COMPOUND).size()
    sizes: npt.NDArray[np.float64] = np.array(counts, dtype=np.float64)
    hits = 0
    for k in range(count):
        accuracy = (0.35, 0.7, 0.9, 0.96)[k % 4]
        shares = rng.beta(accuracy, 1 - accuracy, len(sizes))
        right = np.asarray(rng.binomial(sizes.astype(int), shares), dtype=np.float64)
        found = intervals.accuracy(right, sizes)
        hits += found is not None and found[0] <= accuracy <= found[1]
    ci = wilson(hits, count)
    return Check("accuracy_interval_coverage", 0.95, hits / count, ci, count, as_claimed(0.95, ci, at_least=True))


def map_false_positives(
    treatments: pd.DataFrame, rng: np.random.Generator, control: str = "DMSO", count: int = 60
) -> Check:
    """How often a mechanism has p <= 0.05 where mechanisms were shuffled among the screen's compounds.

    The interval is over shuffles, since the mechanisms of one shuffle depend on each other; where all of them came out
    alike it is Wilson's of so many trials.

    Raises
    ------
    ProfileError
        Fewer than two treatments or known mechanisms, or no shuffle leaves a mechanism two compounds to find.
    """
    ranked = Ranked(treatments, NSC, control)
    names = pd.factorize(ranked.moa, sort=True)[1]
    if (known := len(set(ranked.moa[ranked.known]))) < 2:
        raise ProfileError(f"it takes two known mechanisms for a shuffle of them to change anything, not {known}")
    shares, n = [], 0
    for labels in ranked.shuffles(rng, count):
        table = ranked.table.assign(**{schema.MOA: names[labels]})
        p = precision.mean_average_precision(table, NSC, control, int(rng.integers(2**31)), null_size=199)["p"]
        if len(p):
            shares.append(float((p <= 0.05).mean()))
            n += len(p)
    if not shares:
        raise ProfileError("no mechanism has two compounds")
    mean, k = float(np.mean(shares)), len(shares)
    if min(shares) == max(shares):
        ci = wilson(mean * k, k)
    else:
        half = float(t.ppf(0.975, k - 1) * np.std(shares, ddof=1) / np.sqrt(k))
        ci = (max(mean - half, 0.0), min(mean + half, 1.0))
    return Check("map_false_positives", 0.05, mean, ci, n, as_claimed(0.05, ci))


def activity_false_positives(
    cells: pd.DataFrame, embeddings: npt.NDArray[np.floating[Any]], control: str = "DMSO", seed: int = 0
) -> Check:
    """How often controls that pose as treatments have p <= 0.05, see `cytovae.profiling.activity.posing`.

    Raises
    ------
    ProfileError
        The screen has no controls, or too few to pose.
    """
    p, what = activity.posing(cells, embeddings, control, seed)
    if not len(p):
        raise ProfileError(
            f"too few {control} cells; it takes {activity.LEAST_POSING} wells of two cells or more that share their "
            f"plate with others, or {activity.LEAST_POSING_CELLS} cells of one plate"
        )
    hits, n = int((p <= 0.05).sum()), len(p)
    ci = wilson(hits, n)
    return Check("activity_false_positives", 0.05, hits / n, ci, n, as_claimed(0.05, ci), what)
