"""What Lafarge et al. (2019) report and did, as data: their Table 1, the size of their trainings, where we differ."""

from __future__ import annotations

import dataclasses
import math

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

Figure = tuple[float, float] | None
"""Mean and s.d. of three trainings, accuracy in %; None where the paper has none."""

TABLE_1: dict[tuple[str, str], tuple[Figure, ...]] = {
    ("NSC", "vae+"): ((90.6, 1.5), (90.3, 1.0), (92.2, 1.7), (92.9, 2.4)),
    ("NSC", "vae"): ((83.5, 1.0), (80.6, 4.4), (90.9, 1.1), (87.1, 0.6)),
    ("NSC", "ae"): ((87.6, 2.0), (92.2, 1.0), (90.3, 0.0), (92.5, 0.6)),
    ("NSCB", "vae+"): ((71.0, 1.2), (76.1, 1.1), (72.5, 2.3), (82.2, 2.6)),
    ("NSCB", "vae"): ((68.8, 0.6), (69.9, 5.1), (74.6, 0.6), (71.0, 0.6)),
    ("NSCB", "ae"): ((75.0, 2.0), (79.0, 0.6), (76.8, 0.7), (80.8, 1.7)),
}
"""By rule and model."""

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


@dataclasses.dataclass(frozen=True)
class Departure:
    """One thing that is not as in the paper.

    Parameters
    ----------
    where, paper, here, why : str
        Markdown, as in ``docs/departures.md``.
    """

    where: str
    paper: str
    here: str
    why: str


DEPARTURES = (
    Departure(
        "training set",
        "all cells",
        "cells of about 15 % of the wells are held out",
        "measures need cells that were never trained on",
    ),
    Departure(
        "augmentation",
        "none is described",
        "flips and quarter turns",
        "`--no-augment`",
    ),
    Departure(
        "blank crops",
        "not mentioned",
        "kept in the screen, left out of training and profiles",
        "a blank channel has no maximum to divide by",
    ),
    Departure(
        "moving average of batch-norm moments",
        "0.9",
        "0.9 with `paper`; `best` takes the moments anew over 30 balanced batches",
        "0.9 remembers ten batches",
    ),
    Departure(
        "weights that leave the training",
        "the last",
        "the last with `paper`; `best` averages over the last 32,000 cells or so",
        "the last ones swing from snapshot to snapshot",
    ),
    Departure(
        "decoder",
        "four layers padded with 4 px of zeros",
        "the same with `paper`; `best` draws 80 px and cuts 6 px off each side",
        "zeros at the edge leave a frame in the picture",
    ),
    Departure(
        "learning rates",
        "Adam 0.001, SGD 0.01",
        "the same",
        "`--rates implementation` swaps them, as the authors' code does in effect",
    ),
    Departure(
        "length of the shipped models",
        "40,000 iterations of 104 cells on the whole collection",
        "thousands of iterations of 32 cells on about 1 % of it",
        "one CPU; each model's card says how long",
    ),
    Departure(
        "whitening",
        "on each plate's control wells",
        "on control cells, shrunk or pooled where they are few (`cytovae reproduce` pools)",
        "six control wells cannot span 256 dimensions",
    ),
    Departure(
        "spacing of a path's steps",
        "equal numbers of features",
        "equal gain in cosine similarity",
        "with equal counts the first steps do nearly everything; `--spacing count` is the paper's",
    ),
    Departure(
        "quiz",
        "decoded cells as they are",
        "the same ('as decoded'), or grey values matched to the source cell ('matched'); "
        "both seen through the same round window",
        "results of the two are never put on one axis",
    ),
    Departure(
        "Frechet distance",
        "not reported",
        "in the features of a fixed network with random weights",
        "compares with nothing but itself, and only at the same number of cells",
    ),
    Departure(
        "centres of cells",
        "CellProfiler's",
        "our own nuclei (`cytovae ingest`)",
        "the command starts from images alone; `ingest loaddata --centres` takes any centres",
    ),
)
"""Everything in which cytovae differs; ``docs/departures.md`` shows the same."""


def departures_table() -> str:
    """The departures as a Markdown table."""
    rows = [("where", "the paper", "here", "why, and how to have it otherwise"), ("---",) * 4]
    rows += [(d.where, d.paper, d.here, d.why) for d in DEPARTURES]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows).replace("| --- ", "|---").replace("--- |", "---|")


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
    level : float

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
