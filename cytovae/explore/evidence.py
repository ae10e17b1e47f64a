"""How far a path can be believed: real cells near it, support, gap closed, and how long a path is that means nothing.

A decoder draws something plausible at any point. What is on the data, and what is a story, has to be shown beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import SelectionError
from cytovae.explore.paths import Path, cosine_similarity

BLOCK_CELLS = 16384
OFF_DATA_PERCENTILE = 95.0
"""A step farther from every real cell than this percentile of real cells are from each other is off the data."""
QUANTILES = (np.arange(64) + 0.5) / 64
"""Where the one-dimensional quantile functions of `gap_closed` are compared."""


class Ground:
    """The real cells of a screen as one model sees them, searched exactly; made once, then shared.

    Parameters
    ----------
    cells : DataFrame
        ``cell_id``, ``Metadata_Treatment`` and ``Metadata_Blank``, one row per embedded cell; a blank is never near.
    embeddings : (n, d) float32
        In the same order.
    rng : numpy Generator
        Draws the cells whose distance to their nearest neighbour says how far apart real cells are.
    n_sampled : int
        How many of them at most.

    Raises
    ------
    SelectionError
        Fewer than three cells, or embeddings that are not finite.
    """

    def __init__(
        self, cells: pd.DataFrame, embeddings: npt.NDArray[np.float32], rng: np.random.Generator, n_sampled: int = 512
    ) -> None:
        if len(cells) != len(embeddings) or len(cells) < 3:
            raise SelectionError(
                f"evidence needs at least 3 embedded cells, not {len(cells)} cells and {len(embeddings)} embeddings"
            )
        self.embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
        self.cell_ids = cells[schema.CELL_ID].astype(str).to_numpy()
        self.treatments = cells[schema.TREATMENT].astype(str).to_numpy()
        # about the mean, so that |a|^2 + |b|^2 - 2ab loses as few digits as it can
        self._mean = self.embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._centred = self.embeddings - self._mean
        self._squared = np.einsum("nd,nd->n", self._centred, self._centred)
        if not np.isfinite(self._squared).all():
            raise SelectionError("some embeddings are not finite; run 'cytovae embed --overwrite'")
        self._hidden = np.flatnonzero(~schema.not_blank(cells))  # blank crops are no cells to be near to
        usable = np.flatnonzero(schema.not_blank(cells))
        if len(usable) < 3:
            raise SelectionError(f"evidence needs at least 3 cells that are not blank, not {len(usable)}")
        rows = rng.choice(usable, size=min(n_sampled, len(usable)), replace=False)
        _, apart = self.nearest(self.embeddings[rows], 1, exclude=rows[:, None])
        self.real_to_real = np.sort(apart[:, 0])
        """(s,) float64: distances of sampled real cells to their nearest other real cell, sorted."""

    def __len__(self) -> int:
        return len(self.cell_ids)

    def nearest(
        self, z: npt.NDArray, m: int = 1, exclude: npt.ArrayLike | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The m nearest real cells of each point by Euclidean distance: exact, block by block.

        Parameters
        ----------
        z : (k, d)
        m : int
            How many.
        exclude : (e,) or (k, e) int, optional
            Rows that do not count: the path's own ends, or a sampled cell itself.

        Returns
        -------
        tuple of ((k, m) int64, (k, m) float64)
            Rows, nearest first, and distances.
        """
        z = np.atleast_2d(np.asarray(z, dtype=np.float32))
        k, n = len(z), len(self)
        out = np.empty((k, 0), np.int64) if exclude is None else np.atleast_2d(np.asarray(exclude, dtype=np.int64))
        out = np.broadcast_to(out, (k, out.shape[1]))
        m = max(min(m, n - out.shape[1] - len(self._hidden)), 0)
        keep = min(m + 4, n)  # a few to spare: float32 may swap near ties, the exact distance decides below
        query = z - self._mean
        best_d2 = np.full((k, keep), np.inf, np.float32)
        rows = np.zeros((k, keep), np.int64)
        for start in range(0, n, BLOCK_CELLS):
            block = self._centred[start : start + BLOCK_CELLS]
            d2 = query @ block.T  # (k, b)
            d2 *= -2.0
            d2 += self._squared[start : start + BLOCK_CELLS]
            hidden = self._hidden[(self._hidden >= start) & (self._hidden < start + len(block))]
            d2[:, hidden - start] = np.inf
            for column in range(out.shape[1]):
                here = np.flatnonzero((out[:, column] >= start) & (out[:, column] < start + len(block)))
                d2[here, out[here, column] - start] = np.inf
            nearer = d2 < best_d2.max(axis=1, keepdims=True)  # few, once the first block has been seen
            for i in np.flatnonzero(nearer.any(axis=1)):
                found = np.flatnonzero(nearer[i])
                both = np.concatenate([best_d2[i], d2[i, found]])
                few = np.argpartition(both, keep - 1)[:keep]
                best_d2[i], rows[i] = both[few], np.concatenate([rows[i], found + start])[few]
        exact = np.linalg.norm(self.embeddings[rows].astype(np.float64) - z[:, None, :].astype(np.float64), axis=2)
        exact[np.isinf(best_d2)] = np.inf
        order = np.argsort(exact, axis=1, kind="stable")[:, :m]
        return np.take_along_axis(rows, order, axis=1), np.take_along_axis(exact, order, axis=1)

    def percentile(self, distance: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Where distances lie among real-to-real ones, 0 to 100: the share of those that are no larger."""
        rank = np.searchsorted(self.real_to_real, np.asarray(distance, dtype=np.float64), side="right")
        return np.asarray(100.0 * rank / len(self.real_to_real))


@dataclass(frozen=True)
class Evidence:
    """What stands beside each of the k steps of a path.

    Parameters
    ----------
    nearest_rows : (k, m) int64
        The nearest real cells other than the path's own ends, as rows of the embeddings, nearest first.
    nearest_ids, nearest_treatments : (k, m) str
    nearest_distances : (k, m) float64
        Euclidean, in latent space.
    support_percentile : (k,) float64
        The distance to the nearest cell as a percentile of the distances of real cells to their own nearest
        neighbours, 0 (in the thick of the data) to 100.
    off_data : (k,) bool
        Farther out than `OFF_DATA_PERCENTILE` percent of the real cells.
    gap_closed : (k,) float64 or None
        See `gap_closed`; None where the populations were not given.
    length_percentile : float or None
        The path's length as a percentile of the lengths of null paths; None where those were not given.
    typicality : float or None
        See `typicality`; None where the populations were not given.
    """

    nearest_rows: npt.NDArray[np.int64]
    nearest_ids: npt.NDArray[Any]
    nearest_treatments: npt.NDArray[Any]
    nearest_distances: npt.NDArray[np.float64]
    support_percentile: npt.NDArray[np.float64]
    off_data: npt.NDArray[np.bool_]
    gap_closed: npt.NDArray[np.float64] | None = None
    length_percentile: float | None = None
    typicality: float | None = None

    @property
    def summary(self) -> str:
        """One sentence on the support."""
        off = np.flatnonzero(self.off_data)
        if not len(off):
            return "every step is as near to a real cell as real cells are to each other"
        return (
            f"{len(off)} of {len(self.off_data)} steps are off the data (farther from any real cell than "
            f"{OFF_DATA_PERCENTILE:g} % of real cells are from each other): step {', '.join(map(str, off))}"
        )


def assess(
    path: Path,
    ground: Ground,
    start: npt.NDArray | None = None,
    target: npt.NDArray | None = None,
    null_lengths: npt.NDArray | None = None,
    m: int = 1,
    exclude: npt.ArrayLike | None = None,
) -> Evidence:
    """The evidence for a path.

    Parameters
    ----------
    path : Path
    ground : Ground
    start, target : (n, d), (n', d), optional
        Embeddings of the populations it leads from and to (the controls of the plate; the treatment's cells), for
        the gap closed and the typicality.
    null_lengths : (q,), optional
        Lengths of control-to-control paths, see `null_lengths`.
    m : int
        How many nearest cells.
    exclude : (e,) int, optional
        Rows of the embeddings that do not count as near; by default the path's two ends, found by their ids.

    Raises
    ------
    SelectionError
        No cell is left to be near to.
    """
    if exclude is None:
        exclude = np.flatnonzero((ground.cell_ids == path.control_id) | (ground.cell_ids == path.target_id))
    rows, distances = ground.nearest(path.z, m, exclude=np.asarray(exclude, dtype=np.int64))
    if not rows.shape[1]:
        raise SelectionError("there is no real cell besides those of the path itself to compare it with")
    support = ground.percentile(distances[:, 0])
    return Evidence(
        nearest_rows=rows,
        nearest_ids=ground.cell_ids[rows],
        nearest_treatments=ground.treatments[rows],
        nearest_distances=distances,
        support_percentile=support,
        off_data=support > OFF_DATA_PERCENTILE,
        gap_closed=None if start is None or target is None else gap_closed(path.z, start, target),
        typicality=None if start is None or target is None else typicality(path, start, target),
        length_percentile=None
        if null_lengths is None or not len(null_lengths)
        else float(100.0 * np.mean(np.asarray(null_lengths) <= path.length)),
    )


def wasserstein(a: npt.NDArray, b: npt.NDArray) -> float:
    """The distance of two populations, feature by feature: fast, and zero only if all marginals agree.

    The square root of the sum over features of the squared 2-Wasserstein distance of the feature's two distributions,
    each taken at 64 mid-quantiles: the sliced Wasserstein distance along the axes, a lower bound of the full one.

    Parameters
    ----------
    a, b : (n, d), (n', d)
    """
    return float(np.sqrt(((_quantiles(a) - _quantiles(b)) ** 2).mean(axis=0).sum()))


def gap_closed(z: npt.NDArray, start: npt.NDArray, target: npt.NDArray) -> npt.NDArray[np.float64]:
    """How much of the difference between two populations lies in what a path has moved so far.

    ``1 - W(step population, target) / W(start, target)`` with W as in `wasserstein`. The step population is the start
    population carried as far as the path has come, by feature: where the path has a feature at a fraction p of its
    way, every cell of the start population has gone p of its way to the target's distribution of that feature, along
    the optimal map; its distance left is ``|1 - p|`` times the whole (displacement interpolation).

    So it is 0 at the start and 1 at the end. A path whose first features are peculiar to the two cells, and not to the
    treatment, closes the gap late.

    Parameters
    ----------
    z : (k, d)
        The path.
    start, target : (n, d), (n', d)

    Returns
    -------
    (k,) float64
        Not-a-number throughout where the two populations do not differ.
    """
    apart = ((_quantiles(start) - _quantiles(target)) ** 2).mean(axis=0)  # (d,) squared, by feature
    if not apart.sum() > 0:
        return np.full(len(z), np.nan)
    z = np.asarray(z, dtype=np.float64)
    way, moved = z[-1] - z[0], z[-1] != z[0]
    done = np.divide(z - z[0], way, out=np.zeros_like(z), where=moved)
    done[-1] = 1.0
    return np.asarray(1.0 - np.sqrt(((1.0 - done) ** 2 * apart).sum(axis=1) / apart.sum()))


def population_gap_closed(z: npt.NDArray, target: npt.NDArray) -> npt.NDArray[np.float64]:
    """The same for the paths of many cells: the step population is those cells, as they stand at each step.

    Parameters
    ----------
    z : (n, k, d)
        Of a `cytovae.explore.paths.PopulationPath`: its points, or the embeddings of its frames (then it is what the
        images show that counts).
    target : (n', d)
        The treatment's cells.

    Returns
    -------
    (k,) float64
        ``1 - W(z[:, k], target) / W(z[:, 0], target)``; n cells are a sample, so an end at the targets themselves stays
        somewhat below 1.
    """
    left = np.array([wasserstein(z[:, step], target) for step in range(z.shape[1])])
    return np.asarray(1.0 - left / left[0]) if left[0] > 0 else np.full(len(left), np.nan)


def typicality(path: Path, start: npt.NDArray, target: npt.NDArray) -> float:
    """Whether the two cells differ as their populations do: cosine of the path's direction and that between the means.

    Parameters
    ----------
    start, target : (n, d), (n', d)

    Returns
    -------
    float
        1: the same direction; 0: what this pair shows is about these two cells, not about the treatment.
    """
    return direction_cosine(path.z[-1].astype(np.float64) - path.z[0].astype(np.float64), start, target)


def direction_cosine(way: npt.NDArray, start: npt.NDArray, target: npt.NDArray) -> float:
    """Cosine of a direction (d,) and that from the mean of one population to the mean of another, -1 to 1."""
    means = np.asarray(target, np.float64).mean(axis=0) - np.asarray(start, np.float64).mean(axis=0)
    return float(cosine_similarity(way, means))


def null_lengths(embeddings: npt.NDArray, starts: npt.ArrayLike, ends: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Lengths of null paths, for the rows that `cytovae.explore.targets.null_pairs` gives."""
    a, b = (np.asarray(embeddings[np.asarray(rows)], dtype=np.float64) for rows in (starts, ends))
    return np.asarray(np.linalg.norm(a - b, axis=1))


def _quantiles(population: npt.NDArray) -> npt.NDArray[np.float64]:
    ordered = np.sort(np.asarray(population, dtype=np.float64), axis=0)
    at = QUANTILES * len(ordered) - 0.5
    low = np.clip(np.floor(at).astype(int), 0, len(ordered) - 1)
    high = np.minimum(low + 1, len(ordered) - 1)
    weight = np.clip(at - low, 0.0, 1.0)[:, None]
    return np.asarray((1 - weight) * ordered[low] + weight * ordered[high])
