"""Intervals of means that rest on cells which may be used more than once, and that are read many at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cytovae.patches import Doubles


def mean_interval(values: npt.NDArray) -> tuple[Doubles, Doubles, Doubles]:
    """Mean over the first axis with its 95 % t interval; every row is a cell (or pair) of its own.

    Parameters
    ----------
    values : (n, ...)
        At least two; not-a-number is left out of its own column.

    Returns
    -------
    tuple of three (...) float64
        Mean, lower and upper limit.

    Examples
    --------
    >>> import numpy as np
    >>> [round(float(v), 3) for v in mean_interval(np.array([1.0, 2.0, 3.0]))]
    [2.0, -0.484, 4.484]
    """
    found = pairs_interval(values)
    return found.mean, found.low(), found.high()


@dataclass(frozen=True)
class PairsInterval:
    """Means with what their intervals are made of.

    Parameters
    ----------
    mean, error : (...) float64
        The mean and its standard error.
    freedom : (...) float64
        Degrees of freedom of the error.
    """

    mean: Doubles
    error: Doubles
    freedom: Doubles

    def half(self, level: float = 0.95) -> Doubles:
        """Half of the interval's width; not-a-number where there are fewer than two cells."""
        from scipy.special import stdtrit

        return np.asarray(stdtrit(np.maximum(self.freedom, 1e-9), 0.5 + level / 2) * self.error)

    def low(self, level: float = 0.95) -> Doubles:
        """Lower limit."""
        return self.mean - self.half(level)

    def high(self, level: float = 0.95) -> Doubles:
        """Upper limit."""
        return self.mean + self.half(level)

    @property
    def p(self) -> Doubles:
        """Two-sided p of the mean being 0; 1 where it cannot be told."""
        from scipy.special import stdtr

        t = np.divide(self.mean, self.error, out=np.zeros_like(self.mean), where=self.error > 0)
        t = np.where((self.error == 0) & (self.mean != 0), np.inf, t)
        return np.asarray(np.where(np.isfinite(self.error), 2 * stdtr(np.maximum(self.freedom, 1e-9), -np.abs(t)), 1.0))

    def selected_level(self, rate: float = 0.05) -> float:
        """The level at which all means may be read together: an interval leaves 0 out where the mean is shown.

        The means shown are those that Benjamini and Hochberg's procedure selects at a false discovery rate; with R of m
        selected, intervals of level ``1 - R rate / m`` keep the false coverage rate (Benjamini & Yekutieli 2005).
        """
        p = np.sort(self.p.ravel())
        m = len(p)
        passed = np.flatnonzero(p <= rate * np.arange(1, m + 1) / m)
        return 1.0 - rate * (passed[-1] + 1 if len(passed) else 1) / m


def pairs_interval(
    values: npt.NDArray, first: npt.ArrayLike | None = None, second: npt.ArrayLike | None = None
) -> PairsInterval:
    """The mean over pairs of cells, with an error that knows which pairs share a cell.

    A cell that is in many pairs is one cell still. The variance of the mean is that of two-way clusters (Cameron,
    Gelbach & Miller 2011): over the first cells of the pairs, plus over the second, less over the pairs. The half-width
    of the 95 % interval is the root of the sum of squares of that of the side with fewer clusters and that of what the
    other adds, each by its own t (Zou & Donner 2008): degrees of freedom estimated from the two variances, as
    Satterthwaite does, cover too seldom where a side has two or three clusters. Where every pair has cells of its own
    this is the t interval over pairs.

    Parameters
    ----------
    values : (n, ...)
        One row per pair; not-a-number is left out of its own column.
    first, second : (n,), optional
        What the pair's two ends are units of: the cell, or its well where there are several wells.

    Raises
    ------
    ValueError
        The labels do not name every pair.
    """
    values = np.asarray(values, dtype=np.float64)
    flat = values.reshape(len(values), -1)
    there = np.isfinite(flat)
    n = there.sum(axis=0)
    filled = np.where(there, flat, 0.0)
    mean = np.divide(filled.sum(axis=0), n, out=np.full(n.shape, np.nan), where=n > 0)
    left = np.where(there, flat - mean, 0.0)
    each = np.arange(len(values))
    ends = [
        np.unique(each if labels is None else np.asarray(labels), return_inverse=True)[1] for labels in (first, second)
    ]
    if any(len(labels) != len(values) for labels in ends):
        raise ValueError("every pair needs a label for both of its ends")
    both = np.unique(ends[0] * (ends[1].max(initial=0) + 1) + ends[1], return_inverse=True)[1]
    (a, n_a), (b, n_b), (ab, _) = (_clustered(left, there, n, labels) for labels in (*ends, both))
    swap = n_b < n_a
    few, n_few = np.where(swap, b, a), np.where(swap, n_b, n_a)
    more, n_more = np.where(swap, a, b), np.where(swap, n_a, n_b)
    extra = np.maximum(more - ab, 0.0)
    variance = few + extra
    freedom = _joined(few, n_few - 1, extra, n_more - 1)
    error = np.where(n_few > 1, np.sqrt(variance), np.nan)
    shape = values.shape[1:]
    return PairsInterval(mean.reshape(shape), error.reshape(shape), freedom.reshape(shape))


def _joined(a: Doubles, freedom_a: npt.NDArray, b: Doubles, freedom_b: npt.NDArray) -> Doubles:
    """Degrees of freedom that give the sum of two variances the half-width ``sqrt(t_a^2 a + t_b^2 b)`` at 95 %."""
    from scipy.special import stdtrit

    t_a, t_b = (stdtrit(np.maximum(freedom, 1.0), 0.975) for freedom in (freedom_a, freedom_b))
    total = a + b
    t = np.sqrt(np.divide(t_a**2 * a + t_b**2 * b, total, out=t_a**2, where=total > 0))
    known: Doubles = 10.0 ** np.linspace(0, 6, 601)
    joined = np.exp(np.interp(-t, -stdtrit(known, 0.975), np.log(known)))
    return np.asarray(np.where(b > 0, joined, np.maximum(freedom_a, 1.0)))


def _clustered(
    left: Doubles, there: npt.NDArray[np.bool_], n: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]
) -> tuple[Doubles, npt.NDArray[np.int64]]:
    """The variance of the mean as the clusters tell it, and how many clusters there are, by column."""
    of = np.zeros((labels.max(initial=0) + 1, len(labels)))
    of[labels, np.arange(len(labels))] = 1.0
    clusters = ((of @ there) > 0).sum(axis=0)
    squares = ((of @ left) ** 2).sum(axis=0)
    return squares / np.maximum(n, 1) ** 2 * clusters / np.maximum(clusters - 1, 1), clusters
