"""What a quiz says: how often reconstructions pass for real, how well raters tell the two apart, and how surely.

A table of calls has one row per answered card: ``synthetic`` (the truth) and ``called_real`` (the answer), both
bool, and any columns to group by.

All intervals are Wilson's, of 95 %, taken over to d' and criterion by the method of variance estimates recovery (Zou
and Donner 2008, Statistics in Medicine 27:1693). Answers of one rater are alike, and so are answers to one cell: where
calls come from several raters or show a cell more than once, the normal quantile gives way to Student's for the number
of raters (or cells, if fewer), times the root of the design effect of both (Cameron, Gelbach and Miller 2011, Journal
of Business & Economic Statistics 29:238), never less than 1. Such an interval is about raters like these.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import QuizError
from cytovae.quiz.deck import SYNTHETIC

CALLED_REAL = "called_real"
RATER = "rater"


@dataclasses.dataclass(frozen=True)
class Reference:
    """A published figure: the share of synthetic cells that were called real."""

    source: str
    share: float
    n_synthetic: int | None
    n_raters: int | None


REFERENCES = (
    Reference("VAE+, Lafarge et al. 2019", 0.407, 150, 3),
    Reference("GAN, Goldsborough et al. 2017", 0.30, None, None),
)
"""The paper's section 4.3.2: three experts with 50 real and 50 synthetic cards each, and the GAN it compares with (the
paper does not give that one's numbers). Decoded cells were shown as they are: matched decks are not.
"""

CLUSTERS = (RATER, schema.CELL_ID)
"""Columns of calls whose rows are alike: pass them as `clusters` where a table has them."""

BANDS = (
    (-0.3, "synthetic cells are taken for the real ones"),
    (0.3, "no better than guessing"),
    (1.0, "hard to tell apart"),
    (2.0, "told apart with some errors"),
    (math.inf, "clearly told apart"),
)
"""Upper ends of d' and what lies below each."""


@dataclasses.dataclass(frozen=True)
class Share:
    """A share k / n with its 95 % interval; ``share``, ``low`` and ``high`` are nan where n is 0."""

    k: int
    n: int
    share: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, open (infinite) to the side where a kind of card got one answer throughout."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Score:
    """The figures of one set of calls, pooled.

    Parameters
    ----------
    fooled : Share
        Synthetic cards called real, of all synthetic ones: the paper's measure.
    real_called_real : Share
        Real cards called real, of all real ones.
    accuracy : Share
        Right answers of all; one half is guessing where both kinds are as many.
    d_prime : Estimate
        Sensitivity to synthetic cards in standard deviations; 0 is guessing. Of pooled calls it lies closer to 0 than
        the mean of the raters' own where their criteria differ.
    criterion : Estimate
        Leaning in standard deviations: above 0 towards calling cards real, below 0 towards calling them synthetic.
    """

    fooled: Share
    real_called_real: Share
    accuracy: Share
    d_prime: Estimate
    criterion: Estimate


def wilson(k: int, n: int, level: float = 0.95) -> Share:
    """A share with the score interval of Wilson (1927), without continuity correction.

    Parameters
    ----------
    k, n : int
        Successes, trials.
    level : float
        Confidence.

    Raises
    ------
    QuizError
        k does not lie between 0 and n.

    Examples
    --------
    >>> got = wilson(61, 150)
    >>> round(got.share, 3), round(got.low, 3), round(got.high, 3)
    (0.407, 0.331, 0.487)
    """
    return _share(k, n, NormalDist().inv_cdf(0.5 + level / 2))


def _share(k: int, n: int, quantile: float) -> Share:
    if not 0 <= k <= n:
        raise QuizError(f"a share counts between 0 and n successes, not {k} of {n}")
    if n == 0:
        return Share(0, 0, float("nan"), float("nan"), float("nan"))
    p, extra = k / n, quantile * quantile / n
    centre = (p + extra / 2) / (1 + extra)
    half = (p * (1 - p) * extra + extra * extra / 4) ** 0.5 / (1 + extra)
    return Share(k, n, p, 0.0 if k == 0 else centre - half, 1.0 if k == n else centre + half)


def d_prime(hits: int, n_signal: int, false_alarms: int, n_noise: int) -> float:
    """Sensitivity of a yes-no task: z(hit rate) - z(false alarm rate), each with the log-linear correction.

    Half a call is added to both counts and one to both totals, so a perfect rater gets a finite value
    (Hautus 1995, Behavior Research Methods 27:46).

    Parameters
    ----------
    hits, n_signal : int
        Synthetic cards called synthetic, of all synthetic cards.
    false_alarms, n_noise : int
        Real cards called synthetic, of all real cards.

    Returns
    -------
    float
        Standard deviations; 0 is guessing, nan where one kind of card was never shown.

    Examples
    --------
    >>> d_prime(25, 50, 25, 50)
    0.0
    """
    return _z(hits, n_signal) - _z(false_alarms, n_noise)


def criterion(hits: int, n_signal: int, false_alarms: int, n_noise: int) -> float:
    """Leaning of a yes-no task: minus the mean of z(hit rate) and z(false alarm rate), log-linear as `d_prime`.

    Parameters
    ----------
    hits, n_signal, false_alarms, n_noise : int
        As in `d_prime`.

    Returns
    -------
    float
        Standard deviations; above 0 the rater leans to "real", nan where one kind of card was never shown.

    Examples
    --------
    >>> criterion(40, 50, 10, 50)
    0.0
    """
    return (-_z(hits, n_signal) - _z(false_alarms, n_noise)) / 2


def _z(k: int, n: int) -> float:
    return NormalDist().inv_cdf((k + 0.5) / (n + 1)) if n else float("nan")


def score(calls: pd.DataFrame, clusters: Sequence[str] = ()) -> Score:
    """The figures of a table of calls, pooled over whatever it holds.

    Parameters
    ----------
    calls : DataFrame
        ``synthetic`` and ``called_real``, bool, and `clusters`.
    clusters : sequence of str
        Columns within which answers are alike, such as `CLUSTERS`; none where all cards are independent. A column
        with one value alone says nothing and is passed over: the interval is then about that rater, or that cell.

    Raises
    ------
    TableError
        A column is missing.
    """
    schema.require_columns(calls, (SYNTHETIC, CALLED_REAL, *clusters), "a table of calls")
    synthetic = calls[SYNTHETIC].to_numpy(dtype=bool)
    called_real = calls[CALLED_REAL].to_numpy(dtype=bool)
    groups = [pd.factorize(calls[column], use_na_sentinel=False)[0] for column in clusters]
    return Score(
        fooled=_counted(called_real, synthetic, groups),
        real_called_real=_counted(called_real, ~synthetic, groups),
        accuracy=_counted(called_real != synthetic, np.ones_like(synthetic), groups),
        d_prime=_contrast(synthetic, called_real, groups, sensitivity=True),
        criterion=_contrast(synthetic, called_real, groups, sensitivity=False),
    )


def _counted(
    yes: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_], groups: Sequence[npt.NDArray[np.int64]]
) -> Share:
    """The share of `yes` among some of the cards."""
    k, n = int((yes & among).sum()), int(among.sum())
    pull = yes[among] - k / max(n, 1)
    return _share(k, n, _quantile(pull, [group[among] for group in groups]))


def _contrast(
    synthetic: npt.NDArray[np.bool_],
    called_real: npt.NDArray[np.bool_],
    groups: Sequence[npt.NDArray[np.int64]],
    *,
    sensitivity: bool,
) -> Estimate:
    """Sensitivity or criterion with its interval: the limits of both rates, put together as independent (MOVER)."""
    normal = NormalDist()
    n_signal, n_noise = int(synthetic.sum()), int((~synthetic).sum())
    hits, false_alarms = int((synthetic & ~called_real).sum()), int((~synthetic & ~called_real).sum())
    if not n_signal or not n_noise:
        return Estimate(float("nan"), float("nan"), float("nan"))
    at_hit, at_false = _z(hits, n_signal), _z(false_alarms, n_noise)
    pull_hit = synthetic * (~called_real - hits / n_signal) / (n_signal * normal.pdf(at_hit))
    pull_false = ~synthetic * (~called_real - false_alarms / n_noise) / (n_noise * normal.pdf(at_false))
    quantile = _quantile(pull_hit - pull_false if sensitivity else pull_hit + pull_false, groups)
    hit, false = _share(hits, n_signal, quantile), _share(false_alarms, n_noise, quantile)
    up_hit, up_false = (_probit(share.high) - z for share, z in ((hit, at_hit), (false, at_false)))
    down_hit, down_false = (z - _probit(share.low) for share, z in ((hit, at_hit), (false, at_false)))
    if sensitivity:
        value = at_hit - at_false
        return Estimate(value, value - math.hypot(down_hit, up_false), value + math.hypot(up_hit, down_false))
    value = (-at_hit - at_false) / 2
    return Estimate(value, value - math.hypot(up_hit, up_false) / 2, value + math.hypot(down_hit, down_false) / 2)


def _probit(share: float) -> float:
    return NormalDist().inv_cdf(share) if 0 < share < 1 else math.copysign(math.inf, share - 0.5)


def _quantile(pull: npt.NDArray[np.floating[Any]], groups: Sequence[npt.NDArray[np.int64]]) -> float:
    """How many standard errors of independent cards a 95 % interval reaches to either side.

    Parameters
    ----------
    pull : (n,) float
        What each card adds to the figure's error.
    groups : sequence of (n,) int
        Numbers of the clusters of each card, one array per way of clustering.
    """
    alone = float((pull**2).sum())
    variances, counts = [], []
    for group in groups:
        names, number = np.unique(group, return_inverse=True)
        if 1 < len(names) < len(group):
            variances.append(float((np.bincount(number, pull) ** 2).sum()) * len(names) / (len(names) - 1))
            counts.append(len(names))
    if not counts:
        return NormalDist().inv_cdf(0.975)
    from scipy import stats

    both = sum(variances) - (len(variances) - 1) * alone
    design_effect = max(alone, both, *variances) / alone if alone else 1.0
    return float(stats.t.ppf(0.975, min(counts) - 1)) * math.sqrt(design_effect)


def verdict(d_prime: Estimate) -> str:
    """What a sensitivity means, as far as its interval settles it."""
    if math.isnan(d_prime.value):
        return "cannot be told: one kind of card was not shown"
    lower = -math.inf
    for upper, words in BANDS:
        if lower <= d_prime.low and d_prime.high <= upper:
            return words
        lower = upper
    if d_prime.low > 0:
        return "told apart better than by guessing; how well is not settled"
    if d_prime.high < 0:
        return "synthetic cells are taken for the real ones; how often is not settled"
    return "not settled: guessing is not ruled out"


def score_by(calls: pd.DataFrame, column: str, clusters: Sequence[str] = ()) -> pd.DataFrame:
    """The figures of each group of calls: by mechanism (``Metadata_MoA``), by rater, by model ...

    Parameters
    ----------
    calls : DataFrame
        ``synthetic``, ``called_real``, `column` and `clusters`.
    column : str
        What to group by.
    clusters : sequence of str
        As in `score`.

    Returns
    -------
    DataFrame
        One row per group in the order of its name: `column`, ``n_synthetic``, ``fooled`` (cards), ``fooled_share``,
        ``fooled_low``, ``fooled_high``, ``n_real``, ``accuracy``, ``accuracy_low``, ``accuracy_high``, ``d_prime``,
        ``d_prime_low``, ``d_prime_high``.

    Raises
    ------
    TableError
        A column is missing.
    """
    schema.require_columns(calls, (SYNTHETIC, CALLED_REAL, column, *clusters), "a table of calls")
    rows = []
    for name, group in calls.groupby(column, sort=True, dropna=False):
        got = score(group, clusters)
        rows.append(
            {
                column: name,
                "n_synthetic": got.fooled.n,
                "fooled": got.fooled.k,
                "fooled_share": got.fooled.share,
                "fooled_low": got.fooled.low,
                "fooled_high": got.fooled.high,
                "n_real": got.real_called_real.n,
                "accuracy": got.accuracy.share,
                "accuracy_low": got.accuracy.low,
                "accuracy_high": got.accuracy.high,
                "d_prime": got.d_prime.value,
                "d_prime_low": got.d_prime.low,
                "d_prime_high": got.d_prime.high,
            }
        )
    columns = [column, "n_synthetic", "fooled", "fooled_share", "fooled_low", "fooled_high", "n_real", "accuracy"]
    return pd.DataFrame(
        rows, columns=[*columns, "accuracy_low", "accuracy_high", "d_prime", "d_prime_low", "d_prime_high"]
    )
