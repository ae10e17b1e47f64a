"""Could a decoded picture be a cell: one nucleus in the middle, inside its cell, of a size and brightness cells have.

Sizes and brightnesses are compared with those of decoded real cells, since decoding smooths. How far each measure is
from the middle is told in widths of a third of the real cells; the largest of these distances is ranked among those of
the other two thirds. So a real cell falls to or below p in a share p of cases at most (split conformal prediction, Vovk
et al. 2005; ties count as stranger), on average over the cells that happened to be compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae.errors import SelectionError
from cytovae.explore.morphology import bright_parts, dna_channel, masks
from cytovae.patches import normalise

FALSE_ALARMS = 0.05
"""Share of decoded real cells that are called implausible."""
N_REAL = 384
"""Decoded real cells, at most, that pictures are compared with: a third for the widths, the others for the ranks."""
MIN_REAL = 40
"""Fewer with a nucleus, and nothing is judged."""
NUCLEUS = "nucleus in the middle"
COUNTS = ("nuclei in the middle", "nuclei in view")


def measured(frames: npt.NDArray, channels: Sequence[str], check: Callable[[], None] = lambda: None) -> pd.DataFrame:
    """What a picture is judged by.

    Parameters
    ----------
    frames : (n, H, W, C)
        As decoded.
    channels : sequence of str
    check : callable
        Called for every picture; it may end the work by an exception.

    Returns
    -------
    DataFrame
        One row per picture; the columns' names are words. Areas in px², lengths in px, mean brightnesses as shares of
        the picture's brightest pixel, that pixel as decoded (1 in a real cell). Not-a-number where no nucleus is found.
    """
    images, dna = normalise(frames), dna_channel(channels)
    nucleus, cell = masks(images, channels)
    _, height, width, _ = images.shape
    y, x = np.mgrid[:height, :width]
    central = (y - (height - 1) / 2) ** 2 + (x - (width - 1) / 2) ** 2 <= (min(height, width) / 4) ** 2
    lines = []
    for image, mine, whole in zip(images, nucleus, cell, strict=True):
        check()
        if not mine.any():
            lines.append({NUCLEUS: 0.0})
            continue
        parts = bright_parts(image[..., dna])
        area, around = float(mine.sum()), float(whole.sum())
        at = y[mine].mean(), x[mine].mean()
        moments = np.linalg.eigvalsh(np.cov(np.stack([y[mine], x[mine]])))
        line = {
            NUCLEUS: 1.0,
            COUNTS[0]: float(len(np.unique(parts[central & (parts > 0)]))),
            COUNTS[1]: float(len(np.unique(parts)) - 1),
            "distance of the nucleus from the centre": float(np.hypot(at[0] - y.mean(), at[1] - x.mean())),
            "nuclear area": area,
            "length to width of the nucleus": float(np.sqrt(moments[1] / max(moments[0], 1e-9))),
            "cell area": around,
            "nuclear share of the cell": area / around,
        }
        line |= {
            f"{name} brightness": float(image[..., c][mine if c == dna else whole].mean())
            for c, name in enumerate(channels)
        }
        lines.append(line)
    out = pd.DataFrame(lines)
    for c, name in enumerate(channels):
        out[f"brightest {name} pixel"] = np.asarray(frames, dtype=np.float64)[..., c].max(axis=(1, 2))
    return out


@dataclass(frozen=True)
class Judged:
    """What stands beside each of k pictures.

    Parameters
    ----------
    p : (k,) float64
        The share of decoded real cells that are as strange.
    implausible : (k,) bool
        p of at most `FALSE_ALARMS`.
    why : (k,) str
        What is strangest about it, in words; empty where it is plausible.
    """

    p: npt.NDArray[np.float64]
    implausible: npt.NDArray[np.bool_]
    why: npt.NDArray[Any]

    @property
    def summary(self) -> str:
        """One sentence."""
        odd = np.flatnonzero(self.implausible)
        if not len(odd):
            return "no step's picture is out of the range of decoded real cells"
        said = "; ".join(f"step {k}: {self.why[k]}" for k in odd)
        return f"{len(odd)} of {len(self.p)} steps look unlike a cell ({said})"


class Reference:
    """Pictures of real cells that others are compared with.

    Parameters
    ----------
    real : DataFrame
        `measured` of decoded real cells, in random order.
    channels : sequence of str

    Raises
    ------
    SelectionError
        Fewer than `MIN_REAL` cells with a nucleus in the middle.
    """

    def __init__(self, real: pd.DataFrame, channels: Sequence[str]) -> None:
        self.channels, self._columns = tuple(channels), real.columns
        n = int(real[NUCLEUS].sum())
        if n < MIN_REAL:
            raise SelectionError(
                f"a nucleus is found in {n} of {len(real)} decoded cells; it takes {MIN_REAL} to judge pictures"
            )
        fitted, ranked = real.iloc[: len(real) // 3], real.iloc[len(real) // 3 :]
        low, self._middle, high = fitted.quantile([0.05, 0.5, 0.95]).to_numpy()
        self._below, self._above = self._middle - low, high - self._middle
        self._counts = {c: np.sort(fitted[c].dropna().to_numpy()) for c in COUNTS}
        self._without = float((fitted[NUCLEUS] == 0).mean())
        self._strangest = np.sort(self._distances(ranked).max(axis=1))

    def p(self, table: pd.DataFrame) -> npt.NDArray[np.float64]:
        """The share of decoded real cells that are as strange as each picture, (k,), of their `measured`."""
        return self._ranked(self._distances(table))

    def judge(self, frames: npt.NDArray) -> Judged:
        """What stands beside pictures, (k, H, W, C) as decoded."""
        table = measured(frames, self.channels).reindex(columns=self._columns)
        apart = self._distances(table)
        p = self._ranked(apart)
        implausible = p <= FALSE_ALARMS
        why = []
        for k, c in enumerate(apart.argmax(axis=1)):
            column, middle = self._columns[c], self._middle[c]
            if not implausible[k]:
                why.append("")
            elif table[NUCLEUS].iloc[k] == 0:
                why.append("no nucleus in the middle")
            else:
                word = "more" if table[column].iloc[k] > middle else "less"
                why.append(f"{column} {table[column].iloc[k]:.3g}, {word} than in decoded cells ({middle:.3g})")
        return Judged(p, implausible, np.array(why, dtype=object))

    def _ranked(self, apart: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        n = len(self._strangest)
        as_strange = n - np.searchsorted(self._strangest, apart.max(axis=1), side="left")
        p: npt.NDArray[np.float64] = np.asarray((1.0 + as_strange) / (n + 1.0), dtype=np.float64)
        return p

    def _distances(self, table: pd.DataFrame) -> npt.NDArray[np.float64]:
        """(k, measures): how far from the middle of real cells, in widths of theirs on that side; 0 where not known.

        A number of nuclei has no width: half of the cells or more have one, and a few per cent, all tied, have two. It
        is as far as a normal measure that so many cells reach, and endlessly far where none does.
        """
        away = table.to_numpy(dtype=np.float64) - self._middle
        width = np.where(away < 0, self._below, self._above)
        apart = np.divide(np.abs(away), width, out=np.full(away.shape, np.inf), where=width > 0)
        for name, counts in self._counts.items():
            reached = 1.0 - np.searchsorted(counts, table[name], side="left") / len(counts)
            apart[:, self._columns.get_loc(name)] = _normal_widths(reached)
        # a picture without a nucleus has no other measure to be strange by
        absent = np.inf if self._without <= FALSE_ALARMS / 2 else _normal_widths(self._without)
        apart[:, self._columns.get_loc(NUCLEUS)] = np.where(table[NUCLEUS] == 0, absent, 0.0)
        return np.where(table.isna() | (away == 0), 0.0, apart)


def _normal_widths(share: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """How far from the middle a share of a normal distribution lies, in distances from its middle to its 95 % point."""
    from scipy.special import ndtri

    widths: npt.NDArray[np.float64] = np.maximum(ndtri(1.0 - np.asarray(share)) / ndtri(0.95), 0.0)
    return widths
