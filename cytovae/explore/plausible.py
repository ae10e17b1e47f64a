"""Could a decoded picture be a cell: one nucleus in the middle, inside its cell, of a size and brightness cells have.

Sizes and brightnesses are compared with those of decoded real cells, since decoding smooths. How far each measure is
from the middle is told in widths of the real cells on that side; the largest of these distances is ranked among those
of the decoded real cells themselves, so that a real cell falls to or below p in a share p of cases.
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
from cytovae.patches import Floats, normalise

FALSE_ALARMS = 0.05
"""Share of decoded real cells that are called implausible."""
N_REAL = 256
"""Decoded real cells, at most, that pictures are compared with."""
MIN_REAL = 40
"""Fewer with a nucleus, and nothing is judged."""


def measured(frames: npt.NDArray, channels: Sequence[str]) -> pd.DataFrame:
    """What a picture is judged by.

    Parameters
    ----------
    frames : (n, H, W, C)
        As decoded.
    channels : sequence of str

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
        if not mine.any():
            lines.append({"nucleus in the middle": 0.0})
            continue
        parts = bright_parts(image[..., dna])
        area, around = float(mine.sum()), float(whole.sum())
        at = y[mine].mean(), x[mine].mean()
        moments = np.linalg.eigvalsh(np.cov(np.stack([y[mine], x[mine]])))
        line = {
            "nucleus in the middle": 1.0,
            "nuclei in the middle": float(len(np.unique(parts[central & (parts > 0)]))),
            "nuclei in view": float(len(np.unique(parts)) - 1),
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
    embeddings : (n, d) float32
        Of real cells, in any order.
    decode : callable
        (n, d) -> (n, H, W, C).
    channels : sequence of str

    Raises
    ------
    SelectionError
        Fewer than `MIN_REAL` cells with a nucleus in the middle.
    """

    def __init__(
        self, embeddings: npt.NDArray[np.float32], decode: Callable[[Floats], Floats], channels: Sequence[str]
    ) -> None:
        self.channels = tuple(channels)
        self._real = measured(decode(embeddings), channels)
        n = int(self._real["nucleus in the middle"].sum())
        if n < MIN_REAL:
            raise SelectionError(
                f"a nucleus is found in {n} of {len(self._real)} decoded cells; it takes {MIN_REAL} to judge pictures"
            )
        low, self._middle, high = self._real.quantile([0.05, 0.5, 0.95]).to_numpy()
        spread = self._real.std().to_numpy()
        self._below, self._above = np.maximum(self._middle - low, spread), np.maximum(high - self._middle, spread)
        self._strangest = np.sort(self._distances(self._real).max(axis=1))

    def __len__(self) -> int:
        return len(self._real)

    def judge(self, frames: npt.NDArray) -> Judged:
        """What stands beside pictures, (k, H, W, C) as decoded."""
        table = measured(frames, self.channels).reindex(columns=self._real.columns)
        apart = self._distances(table)
        stranger = len(self) - np.searchsorted(self._strangest, apart.max(axis=1), side="left")
        p = (1.0 + stranger) / (len(self) + 1.0)
        implausible = p <= FALSE_ALARMS
        why = []
        for k, c in enumerate(apart.argmax(axis=1)):
            column, middle = self._real.columns[c], self._middle[c]
            if not implausible[k]:
                why.append("")
            elif table["nucleus in the middle"].iloc[k] == 0:
                why.append("no nucleus in the middle")
            else:
                word = "more" if table[column].iloc[k] > middle else "less"
                why.append(f"{column} {table[column].iloc[k]:.3g}, {word} than in decoded cells ({middle:.3g})")
        return Judged(p, implausible, np.array(why, dtype=object))

    def _distances(self, table: pd.DataFrame) -> npt.NDArray[np.float64]:
        """(k, measures): how far from the middle of real cells, in widths of theirs on that side; 0 where not known."""
        away = table.to_numpy(dtype=np.float64) - self._middle
        width = np.where(away < 0, self._below, self._above)
        apart = np.divide(np.abs(away), width, out=np.full(away.shape, np.inf), where=width > 0)
        return np.where(np.isnan(away) | (away == 0), 0.0, apart)
