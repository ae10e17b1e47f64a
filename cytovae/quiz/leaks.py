"""What could tell the classes apart without looking: statistics of pictures, and classifiers that attack with them.

`pixel_statistics` says of a picture what a script would measure first. `attack` trains on some decks and is judged on
others. What is not pixels must tell nothing; what the pixels themselves tell is reported as what it is.
"""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage, stats

BANDS = (0.0, 0.06, 0.12, 0.25, 0.5)
"""Limits of the bands of the spectrum, in cycles per pixel."""


@dataclasses.dataclass(frozen=True)
class Attack:
    """How well a set of statistics tells synthetic from real cards of decks it was not fitted to.

    Parameters
    ----------
    auc : float
        Of gradient boosting on all of them; 0.5 tells nothing.
    single : str
        The one statistic that told most on the decks it was chosen on.
    single_auc : float
        What that one tells on fresh decks, 0.5 or more being in the direction it was chosen in.
    n_train, n_fresh : int
        Cards fitted to, cards judged on.
    """

    auc: float
    single: str
    single_auc: float
    n_train: int
    n_fresh: int


def auc(values: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Share of pairs of cards in which the synthetic one has the larger value, ties counting half.

    Parameters
    ----------
    values : (n,) float
    truth : (n,) bool
        True for synthetic cards.
    """
    numbers, synthetic = np.asarray(values, dtype=float), np.asarray(truth, dtype=bool)
    u = stats.mannwhitneyu(numbers[synthetic], numbers[~synthetic]).statistic
    return float(u / (synthetic.sum() * (~synthetic).sum()))


def attack(
    train: pd.DataFrame, truth: npt.ArrayLike, fresh: pd.DataFrame, fresh_truth: npt.ArrayLike, seed: int = 0
) -> Attack:
    """Fit gradient boosting to the cards of some decks and judge it on those of others.

    Parameters
    ----------
    train, fresh : DataFrame
        One row per card, one column per statistic.
    truth, fresh_truth : (n,) bool
        True for synthetic cards.
    seed : int
        Of the classifier.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(max_iter=60, random_state=seed).fit(train.to_numpy(float), truth)
    told = auc(model.predict_proba(fresh[train.columns].to_numpy(float))[:, 1], fresh_truth)
    alone = {str(name): auc(train[name], truth) - 0.5 for name in train}
    best = max(alone, key=lambda name: abs(alone[name]))
    single = auc(fresh[best] if alone[best] >= 0 else -fresh[best], fresh_truth)
    return Attack(told, best, single, len(train), len(fresh))


def pixel_statistics(pictures: npt.NDArray[np.uint8], shown: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """Statistics of what is shown of each picture.

    Parameters
    ----------
    pictures : (n, H, W, C) uint8
    shown : (H, W) bool
        The pixels that are not hidden.

    Returns
    -------
    DataFrame
        One row per picture; columns are named ``border: ...``, ``histogram: ...``, ``spectrum: ...``, ``zlib: ...``.
    """
    columns: dict[str, npt.NDArray[np.float64]] = {}
    light = pictures.astype(float)
    for c in range(pictures.shape[3]):
        plane = light[:, :, :, c]
        found = {**_border(plane, shown), **_histogram(plane[:, shown]), **_spectrum(plane, shown)}
        columns |= {f"{name} {c}": values for name, values in found.items()}
    columns["zlib: bytes"] = np.array([len(zlib.compress(p[shown].tobytes())) for p in pictures], dtype=float)
    return pd.DataFrame(columns)


def family(statistics: Sequence[str], name: str) -> list[str]:
    """The columns of one family of `pixel_statistics`, such as ``border``."""
    return [column for column in statistics if column.startswith(f"{name}:")]


def _border(plane: npt.NDArray[np.float64], shown: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.float64]]:
    """The outermost pixels that are shown beside the ones next to them, and their fine detail beside the rest's."""
    inside = ndimage.binary_erosion(shown, np.ones((3, 3)))
    edge, following = shown & ~inside, inside & ~ndimage.binary_erosion(inside, np.ones((3, 3)))
    steps, pairs = np.zeros_like(plane), np.zeros(shown.shape)
    for axis in (0, 1):
        here = [slice(None), slice(None)]
        there = [slice(None), slice(None)]
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        both = shown[tuple(here)] & shown[tuple(there)]
        steps[:, *here] += np.abs(plane[:, *here] - plane[:, *there]) * both
        pairs[tuple(here)] += both
    at_edge = steps[:, edge].sum(1) / pairs[edge].sum()
    within = steps[:, inside].sum(1) / pairs[inside].sum()
    return {
        "border: light against the rest": plane[:, edge].mean(1) - plane[:, inside].mean(1),
        "border: light against the next": plane[:, edge].mean(1) - plane[:, following].mean(1),
        "border: detail against the rest": at_edge / (within + 1e-9),
    }


def _histogram(pixels: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    quantiles = np.quantile(pixels, [0.1, 0.25, 0.5, 0.75, 0.9], axis=1)
    return {
        "histogram: mean": pixels.mean(1),
        "histogram: spread": pixels.std(1),
        "histogram: black": (pixels == 0).mean(1),
        "histogram: full": (pixels == 255).mean(1),
        "histogram: levels": np.array([len(np.unique(p)) for p in pixels], dtype=float),
        **{f"histogram: quantile {q}": v for q, v in zip((10, 25, 50, 75, 90), quantiles, strict=True)},
    }


def _spectrum(plane: npt.NDArray[np.float64], shown: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.float64]]:
    """Logarithm of the mean power in each of `BANDS` that patches of this size reach."""
    centred = (plane - plane[:, shown].mean(1)[:, None, None]) * shown
    power = np.abs(np.fft.fft2(centred)) ** 2
    radius = np.hypot(np.fft.fftfreq(shown.shape[0])[:, None], np.fft.fftfreq(shown.shape[1])[None])
    found = {}
    for low, high in itertools.pairwise(BANDS):
        band = (radius > low) & (radius <= high)
        if band.any():
            found[f"spectrum: {low:g} to {high:g} cycles/px"] = np.log(power[:, band].mean(1) + 1)
    return found
