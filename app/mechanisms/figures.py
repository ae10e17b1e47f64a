"""The confusion of mechanisms as a grid whose squares can be clicked."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.common import colours
from app.common.components.grid import Grid, Ramp, Square

SEPARATOR = "\t"
"""Between the two mechanisms of a square's id."""


def confusion(line: dict[str, Any], rule: str, chosen: set[tuple[str, str]], *, dark: bool = False) -> Grid:
    """Mechanisms by the mechanism of the nearest neighbour, in treatments; right calls lie on the bordered diagonal.

    Parameters
    ----------
    line : dict
        Of ``confusion`` in ``scores.json``.
    rule : str
    chosen : set of (str, str)
        True and called mechanism of squares that hold what is selected.
    dark : bool
        Few are dark and many bright, for a dark page.
    """
    true, called, counts = line["true"], line["predicted"], np.array(line["counts"])
    totals = counts.sum(axis=1)
    squares = [
        Square(
            r,
            c,
            f"{true[r]}{SEPARATOR}{called[c]}",
            _tint(counts[r, c] / totals[r], dark),
            str(counts[r, c]),
            f"{true[r]}\ncalled {called[c]}\n{counts[r, c]} of {totals[r]} treatments",
            (true[r], called[c]) in chosen,
        )
        for r, c in np.argwhere(counts).tolist()
    ]
    right = [(r, called.index(name)) for r, name in enumerate(true) if name in called]
    return Grid(
        f"Mechanisms by the mechanism of their nearest neighbour, {rule}",
        true,
        called,
        squares,
        corner="mechanism ↓ called →",
        marked=right,
        ramp=Ramp("share of a row", "0 %", "100 %", [_tint(v, dark) for v in np.linspace(0, 1, 6)]),
        keys=[],
        tall_heads=True,
        tall_px=32,
        most_px=760,
        label_width="9.5rem",
    )


def _tint(share: float, dark: bool) -> str:
    return colours.mixed(*(("#1B3A40", "#4FC3C7") if dark else ("#DDF0F1", "#1B8A91")), float(share))
