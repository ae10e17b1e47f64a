"""How far a path can be believed: real cells near it, what real cells never look like, gap closed, null paths.

A decoder draws something plausible at any point. What is on the data, and what is a story, has to be shown beside it.
Likeness of two cells is the cosine of their embeddings about the mean of the cells that are searched: all, or a random
sample of a large screen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import SelectionError
from cytovae.explore.paths import Path, cosine_similarity, feature_order
from cytovae.explore.plausible import Judged

BLOCK_CELLS = 16384
N_SEARCHED = 20_000
"""Cells at most that near ones are looked for among; of a larger screen so many are drawn at random, and it is said."""
FALSE_ALARMS = 0.05
"""Share of real cells that the flag takes for something else."""
OFF_DATA_PERCENTILE = 100.0 * (1.0 - FALSE_ALARMS)
"""A step stranger than this percentage of real cells is off the data."""
N_CALIBRATION = 512
"""Real cells at most that the flag is calibrated on, each left out of the cells that it is compared with."""
CROWD = 10
"""Neighbours that tell how crowded it is around a cell."""
N_CROWD = 4096
"""Cells at most that crowding is told by."""
MISSES = (
    "The flag speaks of features, not of the picture: it is raised where features are combined as in no real cell. "
    "Exchanging them one after the other does that halfway between two cells, though the picture may look like a cell. "
    "It does not see what lies where real cells lie: two cells half and half in one picture, channels taken from "
    "different cells or exchanged, a straight blend of two cells. A step without a flag is like real cells to this "
    "model; that does not prove that the cell exists."
)
"""What the flag has little or no power for, as measured by the audit."""
QUANTILES = (np.arange(64) + 0.5) / 64
"""Where the one-dimensional quantile functions of `gap_closed` are compared."""

Again = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""Points (n, d) -> the same, decoded and encoded again."""


class Ground:
    """The real cells of a screen as one model sees them; made once, then shared.

    Of a screen of more than `N_SEARCHED` cells so many are drawn at random, and what is said of a point rests on these
    alone: time and memory do not grow with the screen. The flag is calibrated on the same cells, so that its rate of
    false alarms is the same; the nearest cell is the nearest of those drawn, which `searched_words` says.

    The nearest cell of a point is the one of largest likeness less the cell's own crowding (cross-domain similarity
    local scaling, Conneau et al. 2018): without that, a few cells in the thick of the data are everyone's nearest.

    Parameters
    ----------
    cells : DataFrame
        ``cell_id``, ``Metadata_Treatment`` and ``Metadata_Blank``, one row per embedded cell; a blank is never near.
    embeddings : (n, d) float32
        In the same order.
    rng : numpy Generator
        Draws the cells that are searched, and those that say how far apart real cells are and how strange.
    again : callable, optional
        Decodes and encodes: whether the model agrees with itself is part of the flag where it is given.
    n_sampled : int
        How many cells it draws at most.

    Raises
    ------
    SelectionError
        Fewer than three cells, or embeddings that are not finite.
    """

    def __init__(
        self,
        cells: pd.DataFrame,
        embeddings: npt.NDArray[np.float32],
        rng: np.random.Generator,
        again: Again | None = None,
        n_sampled: int = N_CALIBRATION,
    ) -> None:
        if len(cells) != len(embeddings) or len(cells) < 3:
            raise SelectionError(
                f"evidence needs at least 3 embedded cells, not {len(cells)} cells and {len(embeddings)} embeddings"
            )
        self.embeddings = embeddings
        self._cells = cells
        ones = np.ones(embeddings.shape[1], dtype=np.float32)
        for start in range(0, len(embeddings), BLOCK_CELLS):
            with np.errstate(all="ignore"):
                sums = np.asarray(embeddings[start : start + BLOCK_CELLS], dtype=np.float32) @ ones
            if not np.isfinite(sums).all():
                raise SelectionError("some embeddings are not finite; run 'cytovae embed --overwrite'")
        self.usable = np.flatnonzero(schema.not_blank(cells))  # blank crops are no cells to be near to
        """(u,) int64: the cells that are not blank."""
        if len(self.usable) < 3:
            raise SelectionError(f"evidence needs at least 3 cells that are not blank, not {len(self.usable)}")
        self.searched = self.usable
        """(s,) int64: those of them that near cells are looked for among, in order."""
        if len(self.usable) > N_SEARCHED:
            self.searched = np.sort(rng.choice(self.usable, N_SEARCHED, replace=False))
        near = np.asarray(embeddings[self.searched], dtype=np.float32)
        self.mean = near.mean(axis=0, dtype=np.float64)
        self._units = self._directions(near)
        self._crowding = self._crowded(rng)
        rows = rng.choice(self.searched, size=min(n_sampled, len(self.searched)), replace=False)
        self.calibration_rows = rows
        """(s,) int64: the real cells that the flag is calibrated on."""
        _, apart = self.nearest(self.embeddings[rows], 1, exclude=rows[:, None])
        self.real_to_real = np.sort(apart[:, 0])
        """(s,) float64: distances of sampled real cells to their nearest other real cell, sorted."""
        self._again = again
        self._scores = self.scores(self.embeddings[rows], exclude=rows[:, None])
        self._joint = np.sort(self._smallest(self._scores, own=1))

    def __len__(self) -> int:
        return len(self._cells)

    @property
    def searched_words(self) -> str:
        """Which cells near ones are looked for among; empty where it is all that are not blank."""
        if len(self.searched) == len(self.usable):
            return ""
        return (
            f"nearest cells, and what real cells look like, are those of {len(self.searched):,} of "
            f"{len(self.usable):,} cells drawn at random"
        )

    def named(self, rows: npt.NDArray[np.int64], column: str = schema.CELL_ID) -> npt.NDArray[Any]:
        """A column's text by row of the embeddings, in the shape of `rows`."""
        found = self._cells[column].iloc[rows.ravel()].astype(str).to_numpy()
        return np.asarray(found).reshape(rows.shape)

    def nearest(
        self, z: npt.NDArray, m: int = 1, exclude: npt.ArrayLike | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The m nearest of the cells searched (see the class's head): exact among these.

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
            Rows, nearest first, and distances: 1 - likeness, 0 to 2.
        """
        query = self._directions(np.atleast_2d(z))
        k, n = len(query), len(self.searched)
        out = np.empty((k, 0), np.int64) if exclude is None else np.atleast_2d(np.asarray(exclude, dtype=np.int64))
        out = np.broadcast_to(out, (k, out.shape[1]))
        place = np.minimum(np.searchsorted(self.searched, out), n - 1)
        there = self.searched[place] == out
        m = max(min(m, n - int(there.sum(axis=1).max(initial=0))), 0)
        keep = min(m + 4, n)  # a few to spare: float32 may swap near ties, the exact values decide below
        best = np.full((k, keep), -np.inf, np.float32)
        rows = np.zeros((k, keep), np.int64)
        for start in range(0, n, BLOCK_CELLS):
            stop = min(start + BLOCK_CELLS, n)
            key = 2.0 * (query @ self._units[start:stop].T) - self._crowding[start:stop]  # (k, b)
            here, column = np.nonzero(there & (place >= start) & (place < stop))
            key[here, place[here, column] - start] = -np.inf
            better = key > best.min(axis=1, keepdims=True)  # few, once the first block has been seen
            for i in np.flatnonzero(better.any(axis=1)):
                found = np.flatnonzero(better[i])
                both = np.concatenate([best[i], key[i, found]])
                few = np.argpartition(-both, keep - 1)[:keep]
                best[i], rows[i] = both[few], np.concatenate([rows[i], found + start])[few]
        likeness = np.einsum("kmd,kd->km", self._units[rows].astype(np.float64), query.astype(np.float64))
        exact = 2.0 * likeness - self._crowding[rows]
        exact[np.isneginf(best)] = -np.inf
        order = np.argsort(-exact, axis=1, kind="stable")[:, :m]
        found = self.searched[np.take_along_axis(rows, order, axis=1)]
        return found, np.take_along_axis(1.0 - likeness, order, axis=1)

    def percentile(self, distance: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Where distances lie among real-to-real ones, 0 to 100: the share of those that are no larger."""
        rank = np.searchsorted(self.real_to_real, np.asarray(distance, dtype=np.float64), side="right")
        return np.asarray(100.0 * rank / len(self.real_to_real))

    def scores(
        self, z: npt.NDArray, again: npt.NDArray | None = None, exclude: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """In what ways points are unlike real cells, larger is stranger.

        Parameters
        ----------
        z : (k, d)
        again : (k, d), optional
            The same, decoded and encoded again, where that is known already.
        exclude : (e,) or (k, e) int, optional
            As in `nearest`.

        Returns
        -------
        (k, 2 or 3) float64
            Distance to the nearest real cell; length about the mean; and, where the ground was given a way
            to do it, 1 - cosine of the point and the same point decoded and encoded again.
        """
        z = np.atleast_2d(np.asarray(z, dtype=np.float32))
        apart = self.nearest(z, 1, exclude)[1][:, 0]
        columns = [apart, np.linalg.norm(z - self.mean, axis=1)]
        if self._again is not None:
            again = self._again(z) if again is None else np.asarray(again)
            columns.append(np.array([1.0 - cosine_similarity(a, b) for a, b in zip(z, again, strict=True)]))
        return np.column_stack(columns)

    def rarity(
        self, z: npt.NDArray, again: npt.NDArray | None = None, exclude: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """The share of real cells that are as strange as a point, 1 / (s + 1) to 1: a conformal p.

        Each score gives the share of the calibration cells that score as high; the smallest of these is compared with
        the smallest ones of the calibration cells themselves. A real cell falls to or below p in a share p of cases.
        The parameters are those of `scores`.
        """
        smallest = self._smallest(self.scores(z, again, exclude))
        rank = np.searchsorted(self._joint, smallest, side="right")
        return np.asarray((1.0 + rank) / (len(self._joint) + 1.0))

    def _directions(self, z: npt.NDArray) -> npt.NDArray[np.float32]:
        """Unit vectors from the mean, (n, d); 0 for a point that lies on it."""
        out = np.zeros(z.shape, dtype=np.float32)
        for start in range(0, len(z), BLOCK_CELLS):
            block = slice(start, start + BLOCK_CELLS)
            centred = np.asarray(z[block], dtype=np.float32) - self.mean.astype(np.float32)
            length = np.linalg.norm(centred, axis=1, keepdims=True)
            np.divide(centred, length, out=out[block], where=length > 0)
        return out

    def _crowded(self, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Of each cell searched: its mean likeness to the `CROWD` cells most like it, among at most `N_CROWD`."""
        n = len(self.searched)
        drawn = np.arange(n) if n <= N_CROWD else np.sort(rng.choice(n, N_CROWD, replace=False))
        others = self._units[drawn]
        few = min(CROWD, len(drawn) - 1)
        out = np.empty(n, dtype=np.float32)
        for start in range(0, n, 2048):
            rows = np.arange(start, min(start + 2048, n))
            likeness = self._units[rows] @ others.T
            at = np.searchsorted(drawn, rows)
            itself = np.flatnonzero(drawn[np.minimum(at, len(drawn) - 1)] == rows)
            likeness[itself, at[itself]] = -np.inf
            likeness.partition(len(drawn) - few, axis=1)
            out[rows] = likeness[:, len(drawn) - few :].mean(axis=1)
        return out

    def _smallest(self, scores: npt.NDArray[np.float64], own: int = 0) -> npt.NDArray[np.float64]:
        """The smallest over the scores of the share of calibration cells that score as high; `own`: is one of them."""
        n = len(self._scores)
        shares = [
            (n - np.searchsorted(np.sort(self._scores[:, c]), scores[:, c], side="left") + 1.0 - own) / (n + 1.0 - own)
            for c in range(scores.shape[1])
        ]
        return np.asarray(np.min(shares, axis=0))


@dataclass(frozen=True)
class Evidence:
    """What stands beside each of the k steps of a path.

    Parameters
    ----------
    nearest_rows : (k, m) int64
        The nearest real cells other than the path's own ends, as rows of the embeddings, nearest first.
    nearest_ids, nearest_treatments : (k, m) str
    nearest_distances : (k, m) float64
        1 - likeness.
    support_percentile : (k,) float64
        The distance to the nearest cell as a percentile of the distances of real cells to their own nearest
        neighbours, 0 (in the thick of the data) to 100.
    rarity : (k,) float64
        The share of real cells that are as strange as the step, see `Ground.rarity`.
    off_data : (k,) bool
        Stranger than all but `FALSE_ALARMS` of the real cells.
    gap_closed : (k,) float64 or None
        See `gap_closed`; None where the populations were not given.
    length_percentile : float or None
        The path's length as a percentile of the lengths of null paths; None where those were not given.
    length_p : float or None
        How often a null path is as long, by `cytovae.explore.study.Null.p`; None where that cannot be said.
    typicality : float or None
        See `typicality`; None where the populations were not given.
    pictures : plausible.Judged or None
        Whether the steps' pictures could be cells, None where that was not judged.
    """

    nearest_rows: npt.NDArray[np.int64]
    nearest_ids: npt.NDArray[Any]
    nearest_treatments: npt.NDArray[Any]
    nearest_distances: npt.NDArray[np.float64]
    support_percentile: npt.NDArray[np.float64]
    rarity: npt.NDArray[np.float64]
    off_data: npt.NDArray[np.bool_]
    gap_closed: npt.NDArray[np.float64] | None = None
    length_percentile: float | None = None
    length_p: float | None = None
    typicality: float | None = None
    pictures: Judged | None = None

    @property
    def summary(self) -> str:
        """One sentence on the support."""
        off = np.flatnonzero(self.off_data)
        if not len(off):
            return "no step combines features as no real cell does"
        return (
            f"{len(off)} of {len(self.off_data)} steps are unlike any real cell (they combine features as fewer than "
            f"{100 * FALSE_ALARMS:g} % of real cells do): step {', '.join(map(str, off))}"
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
        exclude = ground.searched[np.isin(ground.named(ground.searched), [path.control_id, path.target_id])]
    rows, distances = ground.nearest(path.z, m, exclude=np.asarray(exclude, dtype=np.int64))
    if not rows.shape[1]:
        raise SelectionError("there is no real cell besides those of the path itself to compare it with")
    rarity = ground.rarity(path.z, path.reencoded, np.asarray(exclude, dtype=np.int64))
    return Evidence(
        nearest_rows=rows,
        nearest_ids=ground.named(rows),
        nearest_treatments=ground.named(rows, schema.TREATMENT),
        nearest_distances=distances,
        support_percentile=ground.percentile(distances[:, 0]),
        rarity=rarity,
        off_data=rarity <= FALSE_ALARMS,
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


def half_gap(z0: npt.NDArray, z1: npt.NDArray, start: npt.NDArray, target: npt.NDArray) -> int:
    """How many features, largest difference of the pair first, close half of the gap between two populations.

    Parameters
    ----------
    z0, z1 : (d,)
        The two cells.
    start, target : (n, d), (n', d)

    Returns
    -------
    int
        The smallest number of features after which `gap_closed` is at least one half; d where the two do not differ.
    """
    apart = ((_quantiles(start) - _quantiles(target)) ** 2).mean(axis=0)[feature_order(z0, z1)]
    if not apart.sum() > 0:
        return len(apart)
    return int(np.searchsorted(np.cumsum(apart), 0.75 * apart.sum() * (1 - 1e-12))) + 1


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
