"""What a quiz says: how often reconstructions pass for real, how well raters tell the two apart.

A table of calls has one row per answered card: ``synthetic`` (the truth) and ``called_real`` (the answer), both
bool, and any columns to group by.
"""

from __future__ import annotations

import dataclasses
from statistics import NormalDist

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
paper does not give that one's numbers)."""


@dataclasses.dataclass(frozen=True)
class Share:
    """A share k / n with its Wilson 95 % interval; ``share``, ``low`` and ``high`` are nan where n is 0."""

    k: int
    n: int
    share: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Score:
    """The figures of one set of calls.

    Parameters
    ----------
    fooled : Share
        Synthetic cards called real, of all synthetic ones: the paper's measure.
    real_called_real : Share
        Real cards called real, of all real ones.
    accuracy : Share
        Right answers of all; one half is guessing where both kinds are as many.
    d_prime : float
        Sensitivity to synthetic cards in standard deviations; 0 is guessing.
    """

    fooled: Share
    real_called_real: Share
    accuracy: Share
    d_prime: float


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
    if not 0 <= k <= n:
        raise QuizError(f"a share counts between 0 and n successes, not {k} of {n}")
    if n == 0:
        return Share(0, 0, float("nan"), float("nan"), float("nan"))
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
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
    if not n_signal or not n_noise:
        return float("nan")
    z = NormalDist().inv_cdf
    return z((hits + 0.5) / (n_signal + 1)) - z((false_alarms + 0.5) / (n_noise + 1))


def score(calls: pd.DataFrame) -> Score:
    """The figures of a table of calls, pooled over whatever it holds.

    Parameters
    ----------
    calls : DataFrame
        ``synthetic`` and ``called_real``, bool.

    Raises
    ------
    TableError
        A column is missing.
    """
    schema.require_columns(calls, (SYNTHETIC, CALLED_REAL), "a table of calls")
    synthetic = calls[SYNTHETIC].to_numpy(dtype=bool)
    called_real = calls[CALLED_REAL].to_numpy(dtype=bool)
    n_synthetic, n_real = int(synthetic.sum()), int((~synthetic).sum())
    fooled = int((called_real & synthetic).sum())
    kept = int((called_real & ~synthetic).sum())
    return Score(
        fooled=wilson(fooled, n_synthetic),
        real_called_real=wilson(kept, n_real),
        accuracy=wilson(n_synthetic - fooled + kept, n_synthetic + n_real),
        d_prime=d_prime(n_synthetic - fooled, n_synthetic, n_real - kept, n_real),
    )


def score_by(calls: pd.DataFrame, column: str) -> pd.DataFrame:
    """The figures of each group of calls: by mechanism (``Metadata_MoA``), by rater, by model ...

    Parameters
    ----------
    calls : DataFrame
        ``synthetic``, ``called_real`` and `column`.
    column : str
        What to group by.

    Returns
    -------
    DataFrame
        One row per group in the order of its name: `column`, ``n_synthetic``, ``fooled`` (cards), ``fooled_share``,
        ``fooled_low``, ``fooled_high``, ``n_real``, ``accuracy``, ``accuracy_low``, ``accuracy_high``, ``d_prime``.

    Raises
    ------
    TableError
        A column is missing.
    """
    schema.require_columns(calls, (SYNTHETIC, CALLED_REAL, column), "a table of calls")
    rows = []
    for name, group in calls.groupby(column, sort=True, dropna=False):
        got = score(group)
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
                "d_prime": got.d_prime,
            }
        )
    columns = [column, "n_synthetic", "fooled", "fooled_share", "fooled_low", "fooled_high", "n_real"]
    return pd.DataFrame(rows, columns=[*columns, "accuracy", "accuracy_low", "accuracy_high", "d_prime"])
