"""Error rates of the evidence beside a path, by simulation, against their nominal levels.

Prints one line per simulation; ends 1 where a rate lies outside of what is stated. ``--quick`` runs a tenth.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from cytovae.explore import targets
from cytovae.explore.intervals import pairs_interval


def coverage(
    treated: int, controls: int, n_pairs: int, n: int, rng: np.random.Generator, sd_cell: float = 1.0
) -> tuple[float, int]:
    """How often the 95 % interval over pairs holds the difference of two populations' means.

    Pairs are drawn as `cytovae.explore.targets.pairs` draws them: every treated cell before any twice, controls at
    random. A pair's value is the treated cell's less the control's, with noise of its own.

    Returns
    -------
    tuple of (float, int)
        The share, and of how many populations.
    """
    held = 0
    for _ in range(n):
        cells = rng.normal(0.7, sd_cell, treated)
        others = rng.normal(0.0, sd_cell, controls)
        ends = np.concatenate([rng.permutation(treated) for _ in range(-(-n_pairs // treated))])[:n_pairs]
        starts = rng.integers(0, controls, n_pairs)
        values = cells[ends] - others[starts] + rng.normal(0, 0.5, n_pairs)
        got = pairs_interval(values, starts, ends)
        held += bool(got.low() <= 0.7 <= got.high())
    return held / n, n


def false_splits(
    draw: Callable[[tuple[int, int]], np.ndarray], n_cells: int, n: int, rng: np.random.Generator
) -> float:
    """How often cells of one group, in 20 features of unequal spread, are shown as several."""
    scale = np.linspace(3, 0.2, 20)
    return float(np.mean([targets.grouping(draw((n_cells, 20)) * scale, rng)[0].any() for _ in range(n)]))


def main() -> None:
    scale = 10 if "--quick" in sys.argv else 1
    rng = np.random.default_rng(0)
    missed = []
    print("coverage of the 95 % interval over pairs (93 to 97 % wanted), 3,000 populations each")
    for treated in (3, 8, 24, 64):
        for n_pairs in (8, 32, 128, 500):
            if n_pairs < treated:
                continue
            share, _ = coverage(treated, 60, n_pairs, 3000 // scale, rng)
            print(f"  {treated} treated cells, {n_pairs} pairs: {100 * share:.1f} %", flush=True)
            if not 0.93 <= share <= 0.97 and scale == 1:
                missed.append(f"coverage {treated} {n_pairs}")
    one_peak: dict[str, Callable[[tuple[int, int]], np.ndarray]] = {
        "normal": lambda shape: rng.normal(size=shape),
        "Student t, 2 degrees": lambda shape: rng.standard_t(2, size=shape),
        "lognormal": lambda shape: rng.lognormal(0, 1, size=shape),
        "uniform": lambda shape: rng.uniform(size=shape),
        "normal, a scale for each cell": lambda shape: rng.normal(size=shape) * rng.lognormal(0, 1, (shape[0], 1)),
    }
    print("one group shown as several (at most 5 % wanted), 300 populations each")
    for name, draw in one_peak.items():
        for n_cells in (30, 120):
            share = false_splits(draw, n_cells, 300 // scale, rng)
            print(f"  {name}, {n_cells} cells: {100 * share:.1f} %", flush=True)
            if share > 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / (300 / scale)):
                missed.append(f"splits {name} {n_cells}")
    print("two groups, found as such")
    for apart in (3, 4, 6):
        for n_cells in (30, 60, 120):
            found = 0
            for _ in range(100 // scale):
                z = rng.normal(size=(n_cells, 20))
                z[: n_cells // 3, 0] += apart
                found += int(targets.grouping(z, rng)[0].any())
            print(f"  {apart} s.d. apart, {n_cells} cells, a third in one: {found} of {100 // scale}", flush=True)
    if missed:
        print("missed:", "; ".join(missed))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
