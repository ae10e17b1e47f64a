"""Paths through a generator's latent space, decoded, each step with its cosine similarity to the target.

The paper's path (figure 3): features in order of their absolute difference, largest first; step k has the first n_k at
their target values and the rest at the start's. Straight and spherical paths stand beside it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cytovae.config import choice
from cytovae.errors import ConfigError, SelectionError
from cytovae.explore.generator import Decode, Encode
from cytovae.explore.intervals import pairs_interval
from cytovae.patches import Doubles, Floats


class Mode(enum.StrEnum):
    """How to go from one cell to the other; to add one, name it here and give `_POINTS` its points."""

    TOP_FEATURES = "top-features"
    LINEAR = "linear"
    SPHERICAL = "spherical"

    @property
    def words(self) -> str:
        """For menus and help texts."""
        return {
            "top-features": "features in order of difference (the paper's)",
            "linear": "straight, all features together",
            "spherical": "along an arc",
        }[self.value]


class Spacing(enum.StrEnum):
    """What the steps of a path have in equal parts."""

    GAIN = "gain"
    COUNT = "count"

    @property
    def words(self) -> str:
        """For menus and help texts."""
        return {
            "gain": "equal gains in cosine similarity",
            "count": "equal numbers of features (the paper's)",
        }[self.value]


MODES = tuple(Mode)
SPACINGS = tuple(Spacing)
MIN_STEPS, MAX_STEPS = 2, 64
DOSE_SERIES = "dose-series"
"""What `Path.mode` says of a path that is one cell per dose."""


@dataclass(frozen=True)
class Path:
    """A decoded path.

    Parameters
    ----------
    control_id, target_id : str
        The cells at its ends: where it starts and where it leads (a start need not be a control).
    mode, spacing : str
        A `Mode` (or `DOSE_SERIES`) and a `Spacing`.
    z : (k, d) float32
        The steps; the first and the last are the two cells' embeddings, exactly.
    order : (d,) int64
        Feature numbers by absolute difference between the ends, largest first.
    n_features : (k,) int64
        How many features stand at their target values, to the bit; it tells something along `TOP_FEATURES` only.
    distance_share : (k,) float64
        1 - (squared distance left to the target / of the start), 0 to 1 along a path of any `Mode`.
    cosine : (k,) float64
        Of each step's embedding and the target's.
    frames : (k, H, W, C) float32
        Each step decoded, as the generator gives it.
    cosine_reencoded : (k,) float64
        Of each decoded step's own embedding and the target's: does the model agree with itself?
    labels : tuple of str
        A word per step where it has one (the doses of a series), else empty.
    reencoded : (k, d) float32 or None
        The embeddings of the decoded steps.
    """

    control_id: str
    target_id: str
    mode: str
    spacing: str
    z: Floats
    order: npt.NDArray[np.int64]
    n_features: npt.NDArray[np.int64]
    distance_share: Doubles
    cosine: Doubles
    frames: Floats
    cosine_reencoded: Doubles
    labels: tuple[str, ...] = ()
    reencoded: Floats | None = None

    @property
    def steps(self) -> int:
        return len(self.z)

    @property
    def by_features(self) -> bool:
        """Whether the steps move some features at a time; along other paths all of them move together."""
        return self.mode == Mode.TOP_FEATURES

    @property
    def way(self) -> Doubles:
        """(k,): the share of the distance between the ends that lies behind each step, 0 to 1."""
        left = np.linalg.norm(self.z.astype(np.float64) - self.z[-1].astype(np.float64), axis=1)
        return np.asarray(1.0 - left / left[0] if left[0] > 0 else np.ones(len(left)))

    @property
    def captions(self) -> tuple[str, ...]:
        """What each step is, in a few words: a dose, a number of features, or a share of the way."""
        if self.labels:
            return self.labels
        if self.by_features:
            return tuple(f"{n} feature{'' if n == 1 else 's'}" for n in self.n_features)
        return tuple(f"{100 * share:.0f} % of the way" for share in self.way)

    @property
    def length(self) -> float:
        """Euclidean distance between the ends."""
        return float(np.linalg.norm(self.z[-1].astype(np.float64) - self.z[0].astype(np.float64)))

    def moved(self, step: int) -> npt.NDArray[np.int64]:
        """The feature numbers that changed between step ``step - 1`` and `step`, largest change first."""
        change = np.abs(self.z[step].astype(np.float64) - self.z[step - 1].astype(np.float64))
        ranked = np.argsort(-change, kind="stable")
        return ranked[: int((change > 0).sum())]


@dataclass(frozen=True)
class PopulationPath:
    """The same path for many pairs of cells: one cell is an anecdote.

    Parameters
    ----------
    z : (n, k, d) float32
    frames : (n, k, H, W, C) float32
    cosine : (n, k) float64
        Of each step and its own pair's target.
    n_features : (n, k) int64
    difference : (H, W, C) float32
        Mean over the pairs of the last frame minus the first.
    difference_low, difference_high : (H, W, C) float32
        Its interval, wide enough for all pixels to be read together: of pixels that do not change, 0 lies outside in
        5 % of such images only (see `cytovae.explore.intervals.PairsInterval.selected_level`).
    """

    z: Floats
    frames: Floats
    cosine: Doubles
    n_features: npt.NDArray[np.int64]
    difference: Floats
    difference_low: Floats
    difference_high: Floats


def cosine_similarity(z: npt.NDArray, target: npt.NDArray) -> Doubles:
    """Cosine of the angle between each row and the target, -1 to 1; 0 where either has no length.

    Parameters
    ----------
    z : (..., d)
    target : (d,)

    Returns
    -------
    (...) float64

    Examples
    --------
    >>> import numpy as np
    >>> cosine_similarity(np.array([[1.0, 0.0], [3.0, 3.0]]), np.array([2.0, 0.0])).round(4).tolist()
    [1.0, 0.7071]
    """
    z, target = np.asarray(z, dtype=np.float64), np.asarray(target, dtype=np.float64)
    lengths = np.linalg.norm(z, axis=-1) * np.linalg.norm(target)
    dots = z @ target
    return np.asarray(np.clip(np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0), -1.0, 1.0))


def feature_order(z0: npt.NDArray, z1: npt.NDArray) -> npt.NDArray[np.int64]:
    """Feature numbers by ``|z1 - z0|``, largest first; equal ones by number."""
    return np.argsort(-np.abs(np.asarray(z1, np.float64) - np.asarray(z0, np.float64)), kind="stable").astype(np.int64)


def latent(
    z0: npt.ArrayLike,
    z1: npt.ArrayLike,
    steps: int = 10,
    mode: str = Mode.TOP_FEATURES,
    spacing: str = Spacing.COUNT,
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The points of a path.

    Parameters
    ----------
    z0, z1 : (d,)
        The embeddings at its ends.
    steps : int
        Points including both ends, 2 to 64.
    mode : str
        ``top-features``: the paper's. ``linear``: straight. ``spherical``: the direction turns at an even angle and the
        length changes evenly.
    spacing : str
        ``count``: equally many features (an equal fraction of the way) per step. ``gain``: an equal gain in cosine
        similarity with the target per step, as near as features allow; where the cosine falls in between, the first
        point that reaches the level is taken.

    Returns
    -------
    tuple of ((k, d) float32, (k,) int64)
        The points, and how many features stand at their target values, to the bit.

    Raises
    ------
    ConfigError
        Steps out of range, or an unknown mode or spacing.
    SelectionError
        The two ends are the same point or do not have the same features.
    """
    mode, spacing = choice(Mode, mode, "mode"), choice(Spacing, spacing, "spacing")
    if not MIN_STEPS <= steps <= MAX_STEPS:
        raise ConfigError(f"a path has {MIN_STEPS} to {MAX_STEPS} steps, both ends among them, not {steps}")
    z0, z1 = np.asarray(z0, dtype=np.float32), np.asarray(z1, dtype=np.float32)
    if z0.shape != z1.shape or z0.ndim != 1:
        raise SelectionError(f"a path joins two embeddings of the same length, not {z0.shape} and {z1.shape}")
    if not (np.isfinite(z0).all() and np.isfinite(z1).all()):
        raise SelectionError("an end of the path has an embedding that is not finite; run 'cytovae embed --overwrite'")
    if np.array_equal(z0, z1):
        raise SelectionError("the path starts and ends at the same embedding; choose two different cells")
    z = _POINTS[mode](z0, z1, steps, spacing)
    z[0], z[-1] = z0, z1
    if mode == Mode.TOP_FEATURES:  # equal features are never "moved", so they are counted by rank
        return z, _feature_counts(z0, z1, steps, spacing)
    return z, (z == z1).sum(axis=1).astype(np.int64)


def interpolate(
    z0: npt.ArrayLike,
    z1: npt.ArrayLike,
    decode: Decode,
    encode: Encode,
    steps: int = 10,
    mode: str = Mode.TOP_FEATURES,
    spacing: str = Spacing.COUNT,
    control_id: str = "",
    target_id: str = "",
) -> Path:
    """The path between two cells, decoded.

    From a treated cell to a control (the reverse path) or from one compound to another it is the same call.

    Parameters
    ----------
    z0, z1, steps, mode, spacing
        See `latent`.
    decode, encode : callable
        See `cytovae.explore.generator.Generator`.
    control_id, target_id : str
        Names of the ends.

    Raises
    ------
    ConfigError, SelectionError
        See `latent`.
    """
    z, n_features = latent(z0, z1, steps, mode, spacing)
    return _decoded(z, n_features, decode, encode, mode, spacing, control_id, target_id)


def series(
    z0: npt.ArrayLike,
    waypoints: npt.ArrayLike,
    decode: Decode,
    encode: Encode,
    labels: Sequence[str],
    control_id: str = "",
    target_id: str = "",
) -> Path:
    """A control and one cell per dose, lowest dose first, decoded: nothing in between is invented.

    Parameters
    ----------
    z0 : (d,)
        The control.
    waypoints : (m, d)
        One embedding per dose.
    labels : sequence of str
        Length m + 1: the control's and each dose's.

    Raises
    ------
    SelectionError
        There are no doses, or more than a path can have steps.
    """
    z = np.vstack([np.asarray(z0, np.float32)[None], np.asarray(waypoints, np.float32)])
    if not MIN_STEPS <= len(z) <= MAX_STEPS or len(labels) != len(z):
        raise SelectionError(f"a dose series has 1 to {MAX_STEPS - 1} doses with a label each, not {len(z) - 1}")
    n_features = (z == z[-1]).sum(axis=1).astype(np.int64)
    path = _decoded(z, n_features, decode, encode, DOSE_SERIES, Spacing.COUNT, control_id, target_id)
    return replace(path, labels=tuple(labels))


def population(
    z0: npt.NDArray,
    z1: npt.NDArray,
    decode: Decode,
    steps: int = 10,
    mode: str = Mode.TOP_FEATURES,
    spacing: str = Spacing.COUNT,
    first: npt.ArrayLike | None = None,
    second: npt.ArrayLike | None = None,
) -> PopulationPath:
    """The path of every pair, with the mean difference image.

    Parameters
    ----------
    z0 : (n, d)
        Control cells, see `cytovae.explore.targets.pairs`.
    z1 : (n, d) or (d,)
        The target of each, or one target for all.
    decode : callable
    steps, mode, spacing
        See `latent`.
    first, second : (n,), optional
        What the ends of each pair are units of, see `cytovae.explore.intervals.pairs_interval`.

    Raises
    ------
    SelectionError
        Fewer than two pairs.
    """
    z0 = np.asarray(z0, dtype=np.float32)
    z1 = np.broadcast_to(np.asarray(z1, dtype=np.float32), z0.shape)
    if len(z0) < 2:
        raise SelectionError(f"a population path needs at least 2 control cells, not {len(z0)}")
    drawn = [latent(a, b, steps, mode, spacing) for a, b in zip(z0, z1, strict=True)]
    z = np.stack([points for points, _ in drawn])  # (n, k, d)
    frames = np.concatenate([decode(points) for points in z]).reshape(*z.shape[:2], *decode(z[0, :1]).shape[1:])
    cosine = np.stack([cosine_similarity(points, points[-1]) for points in z])
    change = pairs_interval(frames[:, -1] - frames[:, 0], first, second)
    level = change.selected_level()
    return PopulationPath(
        z=z,
        frames=frames,
        cosine=cosine,
        n_features=np.stack([counts for _, counts in drawn]),
        difference=change.mean.astype(np.float32),
        difference_low=change.low(level).astype(np.float32),
        difference_high=change.high(level).astype(np.float32),
    )


def _counts(d: int, steps: int) -> npt.NDArray[np.int64]:
    return np.rint(np.linspace(0, d, steps)).astype(np.int64)


def _counts_by_gain(z0: Floats, z1: Floats, order: npt.NDArray[np.int64], steps: int) -> npt.NDArray[np.int64]:
    a, b = z0[order].astype(np.float64), z1[order].astype(np.float64)
    # after n features: dot with and squared length of the mixture, for every n at once
    dots = (a @ b) + np.concatenate([[0.0], np.cumsum(b * b - a * b)])
    squares = (a @ a) + np.concatenate([[0.0], np.cumsum(b * b - a * a)])
    lengths = np.sqrt(np.maximum(squares, 0.0)) * np.linalg.norm(b)
    reached = np.maximum.accumulate(np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0))
    counts = np.searchsorted(reached, np.linspace(reached[0], reached[-1], steps))
    d = len(order)
    counts[0], counts[-1] = 0, d
    if d >= steps - 1:  # every step moves at least one feature
        rising = np.arange(steps)
        counts = rising + np.maximum.accumulate(counts - rising)
        counts = np.minimum(counts, d - rising[::-1])
        counts[0] = 0
    return counts.astype(np.int64)


def _feature_counts(z0: Floats, z1: Floats, steps: int, spacing: Spacing) -> npt.NDArray[np.int64]:
    if spacing == Spacing.GAIN:
        return _counts_by_gain(z0, z1, feature_order(z0, z1), steps)
    return _counts(len(z0), steps)


def _top_features(z0: Floats, z1: Floats, steps: int, spacing: Spacing) -> Floats:
    rank = np.argsort(feature_order(z0, z1))
    return np.where(rank[None, :] < _feature_counts(z0, z1, steps, spacing)[:, None], z1, z0)  # (k, d)


def _linear(z0: Floats, z1: Floats, steps: int, spacing: Spacing) -> Floats:
    return _spaced(_straight, z0, z1, steps, spacing)


def _spherical(z0: Floats, z1: Floats, steps: int, spacing: Spacing) -> Floats:
    return _spaced(_arc, z0, z1, steps, spacing)


_POINTS: dict[Mode, Callable[[Floats, Floats, int, Spacing], Floats]] = {
    Mode.TOP_FEATURES: _top_features,
    Mode.LINEAR: _linear,
    Mode.SPHERICAL: _spherical,
}
"""(ends (d,) and (d,), steps, spacing) -> (steps, d)."""


def _spaced(
    between: Callable[[Floats, Floats, Doubles], Floats], z0: Floats, z1: Floats, steps: int, spacing: Spacing
) -> Floats:
    """Points of a curve at fractions of it: even ones, or those at which the cosine has gained equally."""
    if spacing == Spacing.COUNT:
        return between(z0, z1, np.linspace(0.0, 1.0, steps))
    fine = np.linspace(0.0, 1.0, 2049)
    reached = np.maximum.accumulate(cosine_similarity(between(z0, z1, fine), z1))
    levels = np.linspace(reached[0], reached[-1], steps)
    return between(z0, z1, fine[np.minimum(np.searchsorted(reached, levels), len(fine) - 1)])


def _straight(z0: Floats, z1: Floats, fractions: Doubles) -> Floats:
    t = fractions[:, None]
    return np.asarray((1 - t) * z0.astype(np.float64) + t * z1.astype(np.float64), dtype=np.float32)


def _arc(z0: Floats, z1: Floats, fractions: Doubles) -> Floats:
    a, b, t = z0.astype(np.float64), z1.astype(np.float64), fractions[:, None]
    size_a, size_b = np.linalg.norm(a), np.linalg.norm(b)
    angle = np.arccos(cosine_similarity(a, b)) if size_a > 0 and size_b > 0 else np.float64(0.0)
    if np.sin(angle) < 1e-6:  # same or opposite direction, or no direction: there is no arc to follow
        return _straight(z0, z1, fractions)
    direction = (np.sin((1 - t) * angle) * (a / size_a) + np.sin(t * angle) * (b / size_b)) / np.sin(angle)
    return np.asarray(direction * ((1 - t) * size_a + t * size_b), dtype=np.float32)


def _decoded(
    z: Floats,
    n_features: npt.NDArray[np.int64],
    decode: Decode,
    encode: Encode,
    mode: str,
    spacing: str,
    control_id: str,
    target_id: str,
) -> Path:
    frames = np.asarray(decode(z), dtype=np.float32)
    left = ((z.astype(np.float64) - z[-1].astype(np.float64)) ** 2).sum(axis=1)
    again = encode(frames)
    return Path(
        control_id=control_id,
        target_id=target_id,
        mode=mode,
        spacing=spacing,
        z=z,
        order=feature_order(z[0], z[-1]),
        n_features=n_features,
        distance_share=1.0 - left / left[0] if left[0] > 0 else np.ones(len(z)),
        cosine=cosine_similarity(z, z[-1]),
        frames=frames,
        cosine_reencoded=cosine_similarity(again, z[-1]),
        reencoded=again,
    )
