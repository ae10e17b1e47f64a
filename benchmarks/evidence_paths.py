"""Error rates of the evidence beside a path, by simulation, against their nominal levels.

Prints one line per simulation; ends 1 where a rate lies outside of what is stated. ``--quick`` runs a tenth.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cytovae.explore import targets
from cytovae.explore.intervals import pairs_interval


@dataclass(frozen=True)
class Pairs:
    """Pairs of control and treated cells, as `cytovae.explore.targets.pairs` draws them.

    Parameters
    ----------
    treated, n_pairs : int
        Treated cells, and pairs.
    controls : int
    treated_wells, control_wells : int
        Wells that they are dealt out to; of one well, cells are the units.
    sd_well : float
        Of the wells' effect, in s.d. of cells; the truth is that of a population of wells.
    """

    treated: int
    n_pairs: int
    controls: int = 60
    treated_wells: int = 1
    control_wells: int = 1
    sd_well: float = 0.0


def coverage(pairs: Pairs, n: int, rng: np.random.Generator, each: int = 50) -> tuple[float, int]:
    """How often the 95 % interval over pairs holds the difference of two populations' means.

    Every treated cell is in a pair before any is in two, controls are drawn at random. A pair's value is the treated
    cell's less the control's, with noise of its own. `each` populations share their pairing.

    Returns
    -------
    tuple of (float, int)
        The share, and of how many populations.
    """
    well_of = [
        np.arange(k) % w for k, w in ((pairs.treated, pairs.treated_wells), (pairs.controls, pairs.control_wells))
    ]
    held = []
    for _ in range(-(-n // each)):
        rounds = -(-pairs.n_pairs // pairs.treated)
        ends = np.concatenate([rng.permutation(pairs.treated) for _ in range(rounds)])[: pairs.n_pairs]
        starts = rng.integers(0, pairs.controls, pairs.n_pairs)
        drawn = [
            rng.normal(size=(len(well), each)) + pairs.sd_well * rng.normal(size=(well.max() + 1, each))[well]
            for well in well_of
        ]
        values = 0.7 + drawn[0][ends] - drawn[1][starts] + rng.normal(0, 0.5, (pairs.n_pairs, each))
        first = well_of[1][starts] if pairs.control_wells > 1 else starts
        second = well_of[0][ends] if pairs.treated_wells > 1 else ends
        got = pairs_interval(values, first, second)
        held.append((got.low() <= 0.7) & (got.high() >= 0.7))
    return float(np.mean(held)), each * len(held)


GRID = [
    *(Pairs(treated, n_pairs) for treated in (3, 8, 16, 64) for n_pairs in (8, 64, 500) if n_pairs >= treated),
    *(
        Pairs(treated, n_pairs, 60, wells, 6, sd_well)
        for treated, wells in ((3, 3), (8, 2), (8, 4), (16, 4), (64, 3), (64, 8))
        for n_pairs in (8, 64, 500)
        for sd_well in (0.0, 0.3)
        if n_pairs >= treated
    ),
]


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
    for pairs in GRID:
        share, n = coverage(pairs, 3000 // scale, rng)
        print(f"  {pairs}: {100 * share:.1f} %", flush=True)
        if not 0.93 - 2.6 * np.sqrt(0.95 * 0.05 / n) <= share <= 0.97 + 2.6 * np.sqrt(0.95 * 0.05 / n):
            missed.append(f"coverage of {pairs}")
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
