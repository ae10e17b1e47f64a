"""What Lafarge et al. (2019) report and did, as data: their Table 1, the size of their trainings, where we differ."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from cytovae.profiling.profiles import Summary
from cytovae.profiling.whiten import Whitening

CITATION = "Lafarge et al., Capturing single-cell phenotypic variation via unsupervised representation learning (2019)"
ITERATIONS, BATCH_SIZE, PERIOD, SEEDS = 40_000, 104, 2_500, 3
TREATMENTS, SCORED = 103, {"NSC": 103, "NSCB": 92}
PLATES, FIELDS, CELLS = 55, 13_200, 1_000_000
"""The whole collection; the paper counts about a million cells."""

COLUMNS = (
    (Summary.mean, Whitening.none),
    (Summary.mean, Whitening.plate),
    (Summary.mean_sd, Whitening.none),
    (Summary.mean_sd, Whitening.plate),
)
"""Of Table 1, left to right."""

TABLE_1: dict[tuple[str, str], tuple[tuple[float, float], ...]] = {
    ("NSC", "vae+"): ((90.6, 1.5), (90.3, 1.0), (92.2, 1.7), (92.9, 2.4)),
    ("NSC", "vae"): ((83.5, 1.0), (80.6, 4.4), (90.9, 1.1), (87.1, 0.6)),
    ("NSC", "ae"): ((87.6, 2.0), (92.2, 1.0), (90.3, 0.0), (92.5, 0.6)),
    ("NSCB", "vae+"): ((71.0, 1.2), (76.1, 1.1), (72.5, 2.3), (82.2, 2.6)),
    ("NSCB", "vae"): ((68.8, 0.6), (69.9, 5.1), (74.6, 0.6), (71.0, 0.6)),
    ("NSCB", "ae"): ((75.0, 2.0), (79.0, 0.6), (76.8, 0.7), (80.8, 1.7)),
}
"""By rule and model: mean and s.d. of three trainings, accuracy in %."""

OTHERS = {
    ("NSC", "Ando et al. 2017"): (None, 96.0, None, None),
    ("NSC", "Singh et al. 2014"): (90.0, None, None, None),
    ("NSCB", "Ando et al. 2017"): (None, 95.0, None, None),
    ("NSCB", "Singh et al. 2014"): (85.0, None, None, None),
}
"""What the paper cites beside its own."""

PATHS = (("cytochalasin D@0.3", "Actin disruptors"), ("simvastatin@20", "Cholesterol-lowering"))
"""Figure 3: the targets, and their mechanisms."""
TWO_APPEARANCES = ("nocodazole@3", "Microtubule destabilizers")
"""Figure 4."""


def departures() -> pd.DataFrame:
    """Everything in which cytovae differs, a row each in Markdown, as ``docs/departures.md`` shows it."""
    lines = (Path(__file__).parent / "departures.md").read_text().splitlines()
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return pd.DataFrame(rows, columns=head)


def difference(
    ours: tuple[float, float | None, int], theirs: tuple[float, float], level: float = 0.95
) -> tuple[float, float] | None:
    """Interval of the difference of two mean accuracies, ours minus the paper's, over trainings: Welch's.

    It says how far trainings that differ in nothing but their seed would scatter, and nothing of other cells or
    compounds.

    Parameters
    ----------
    ours : (float, float or None, int)
        Mean and standard deviation over seeds, and the number of seeds.
    theirs : (float, float)
        Mean and standard deviation over the paper's `SEEDS`.

    Returns
    -------
    tuple of (float, float) or None
        Within 100 points either way; None where we have a single seed, or neither side scatters.
    """
    from scipy.stats import t

    (mean, sd, n), (their_mean, their_sd) = ours, theirs
    if sd is None or n < 2 or sd == their_sd == 0:
        return None
    a, b = sd**2 / n, their_sd**2 / SEEDS
    freedom = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (SEEDS - 1))
    half = float(t.ppf((1 + level) / 2, freedom)) * math.sqrt(a + b)
    return max(mean - their_mean - half, -100.0), min(mean - their_mean + half, 100.0)
