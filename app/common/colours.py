"""One colour and one mark for every mechanism, treatment or plate, the same on every page; colours of numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from app.common import loaders
from app.common.figures import OKABE_ITO
from cytovae import schema
from cytovae.screen import Screen

CONTROL = "#3B4650"
"""Of control wells; on a map controls are stars in the colour of the text."""
OTHER = "#999FA3"
"""Of what is unknown, not measured, or one of too many."""
STAR, SHAPES = 5, 5
"""The mark of controls alone; the marks of all others: circle, square, triangle, diamond, cross."""
RAMP = [
    "#440154",
    "#482475",
    "#414487",
    "#355F8D",
    "#2A788E",
    "#21918C",
    "#22A884",
    "#44BF70",
    "#7AD151",
    "#BDDF26",
    "#FDE725",
]
"""From few to many: viridis."""
ACTIVITY = {"active": "#D55E00", "no activity shown": "#56B4E9", "not tested": OTHER}
"""What `cytovae.profiling.activity` says of a treatment, and its colour."""


def mixed(colour: str, other: str, share: float) -> str:
    """A colour with a share, 0 to 1, of another."""
    a, b = (np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in (colour, other))
    return "#" + "".join(f"{int(v):02X}" for v in np.rint((1 - share) * a + share * b))


def style(k: int) -> tuple[str, int]:
    """The k-th colour and mark: seven colours of Okabe and Ito, then lighter and darker ones with other marks."""
    base = OKABE_ITO[k % 7]
    turn = (k // 7) % 3
    return (base, mixed(base, "#FFFFFF", 0.45), mixed(base, "#000000", 0.45))[turn], (k // 7) % SHAPES


@loaders.cached(32)
def styles(screen: Screen, column: str) -> dict[str, tuple[str, int]]:
    """Colour and mark of every name in a column of the cells: by the alphabet, so the same on every page and level."""
    control, cells = screen.record.control, loaders.cells(screen)
    of_control = set(cells.loc[cells[schema.COMPOUND] == control, column].astype(str))
    if column not in (schema.MOA, schema.COMPOUND, schema.TREATMENT):
        of_control = set()
    names = sorted(set(cells[column].astype(str)) - of_control - {schema.UNKNOWN_MOA})
    found = {name: style(k) for k, name in enumerate(names)}
    return found | dict.fromkeys(of_control, (CONTROL, STAR)) | {schema.UNKNOWN_MOA: (OTHER, 0)}


def ramp(values: Iterable[float], low: float, high: float) -> list[str]:
    """Colours of numbers between two ends; grey where a number is missing."""
    ends = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in RAMP], dtype=float)
    at = (np.asarray(list(values), dtype=float) - low) / (high - low if high > low else 1.0)
    place = np.clip(np.nan_to_num(at), 0, 1) * (len(RAMP) - 1)
    mixed: npt.NDArray[np.float64] = np.stack([np.interp(place, np.arange(len(RAMP)), ends[:, c]) for c in range(3)], 1)
    return [
        "#" + "".join(f"{int(v):02X}" for v in np.rint(row)) if np.isfinite(t) else OTHER
        for row, t in zip(mixed, at, strict=True)
    ]
