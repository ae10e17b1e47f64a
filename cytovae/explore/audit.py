"""The evidence beside a path tried on a user's own screen: a row for each claim, with the rate it was seen to have.

Every check takes a `Material` and a random number generator, so that each can be run alone. One rule says which rates
are fine, `cytovae.schema.as_claimed`; neighbours of the same mechanism must be more than chance gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import SelectionError
from cytovae.explore import evidence, plausible, study, targets
from cytovae.explore.intervals import pairs_interval
from cytovae.explore.study import Material, Request
from cytovae.patches import Doubles
from cytovae.schema import Check, as_claimed, wilson

N_CELLS = 400
"""Cells, or made-up points, that a check of the flag rests on at most."""
N_QUERIES = 1000
"""Cells whose nearest cell is looked up at most."""
N_NULL_REQUESTS = 60
"""Groups of control cells that are taken for treatments."""
N_POPULATIONS = 400
N_GROUPS = 100
GROUP_CELLS = (8, 64)
"""Control cells that are taken for a treatment: at least, and at most."""
HUB_SHARE, HUB_CELLS = 0.15, 0.01
"""No more than this share of answers may be of so small a share of the cells."""

N_PICTURES, N_SPLITS, MIN_WELLS = 1024, 20, 8
"""Decoded cells at most, how often their wells are dealt into halves, and how many wells that takes."""

STAND_IN = "control well taken for a treatment"

Checked = Callable[[Material, np.random.Generator], Check]


def flag_false_alarms(material: Material, rng: np.random.Generator) -> Check:
    """Real cells that the flag takes for something else: cells that it was not calibrated on, each left out."""
    ground = material.ground
    rest = np.setdiff1d(ground.usable, ground.calibration_rows)
    if len(rest) < N_CELLS:  # a small screen calibrates on most of its cells; half of them do for a trial
        half = len(ground.usable) // 2
        ground = evidence.Ground(
            material.cells, material.embeddings, rng, material.again, n_sampled=min(half, evidence.N_CALIBRATION)
        )
        rest = np.setdiff1d(ground.usable, ground.calibration_rows)
    if len(rest) < 20:
        raise SelectionError(f"{len(rest)} cells are left to count false alarms on; it takes 20")
    rows = rng.choice(rest, min(N_CELLS, len(rest)), replace=False)
    flagged = ground.rarity(material.embeddings[rows], exclude=rows[:, None]) <= evidence.FALSE_ALARMS
    # the flag's own level is a draw too: a quantile of the calibration cells
    spread = len(rows) / len(ground.calibration_rows)
    return _rate("flag_false_alarms", evidence.FALSE_ALARMS, flagged, spread=1.0 + spread)


def flag_power_chimeras(material: Material, rng: np.random.Generator) -> Check:
    """Points whose every feature is another random cell's: how many of them are flagged. Fine from 90 % on."""
    ground = material.ground
    d = ground.embeddings.shape[1]
    fakes = ground.embeddings[rng.choice(ground.usable, (N_CELLS, d)), np.arange(d)]
    return _rate("flag_power_chimeras", 0.9, ground.rarity(fakes) <= evidence.FALSE_ALARMS, at_least=True)


def plausible_false_alarms(material: Material, rng: np.random.Generator) -> Check:
    """Decoded real cells called unlike a cell, by comparison with cells of other wells.

    The wells are dealt into halves many times. The halves share cells, so that the variance of the mean rate is not
    that of so many tries: it is ``(1 / splits + tried / compared with)`` times that between splits (Nadeau and Bengio
    2003), or that of the two samples' sizes where the rates hardly differ.
    """
    rows = rng.permutation(np.flatnonzero(schema.not_blank(material.cells)))[:N_PICTURES]
    wells = targets.wells(material.cells, rows)
    n_wells = int(wells.max(initial=-1)) + 1
    if len(rows) < 4 * plausible.MIN_REAL or n_wells < MIN_WELLS:
        raise SelectionError(
            f"{len(rows)} cells of {n_wells} wells; it takes {4 * plausible.MIN_REAL} of {MIN_WELLS} to judge the "
            "pictures of half of the wells by those of the others"
        )
    table = plausible.measured(material.generator.decode(material.embeddings[rows]), material.channels)
    return plausible_rate(table, wells, material.channels, rng)


def plausible_rate(
    table: pd.DataFrame, wells: npt.NDArray[np.int64], channels: Sequence[str], rng: np.random.Generator
) -> Check:
    """As `plausible_false_alarms`, of pictures `measured` already, in random order, and the well of each."""
    rates, compared = [], []
    for _ in range(N_SPLITS):
        n_wells = int(wells.max()) + 1
        first = (rng.permutation(n_wells) < n_wells // 2)[wells]
        real = table[first].iloc[: plausible.N_REAL]
        p = plausible.Reference(real, channels).p(table[~first])
        rates.append(float(np.mean(p <= plausible.FALSE_ALARMS)))
        compared.append(len(p) / len(real))
    n, rate, ratio = len(table), float(np.mean(rates)), float(np.mean(compared))
    variance = (1.0 / N_SPLITS + ratio) * float(np.var(rates, ddof=1))
    spread = max(1.0 + ratio, n * variance / (rate * (1.0 - rate)) if 0 < rate < 1 else 0.0)
    ci = wilson(rate * n / spread, n / spread)
    ok = as_claimed(plausible.FALSE_ALARMS, ci)
    return Check("plausible_false_alarms", plausible.FALSE_ALARMS, rate, ci, n, ok)


def nearest_hub_share(material: Material, rng: np.random.Generator) -> Check:
    """The largest share of answers that the 1 % of cells named most often give, when real cells are asked for."""
    _, answers = _asked(material, rng)
    most = max(1, round(HUB_CELLS * len(material.ground.usable)))
    counts = np.sort(np.bincount(answers))[::-1]
    share = float(counts[:most].sum() / len(answers))
    # so few questions name a cell at most once by chance: that much is no hub
    fair = max(HUB_SHARE, most / len(answers))
    ci = wilson(counts[:most].sum(), len(answers))
    return Check("nearest_hub_share", fair, share, ci, len(answers), as_claimed(fair, ci))


def nearest_same_moa(material: Material, rng: np.random.Generator) -> Check:
    """Treated cells whose nearest cell of another well has their mechanism; nominal: the share that chance gives."""
    cells = material.cells
    moas = cells[schema.MOA].astype(str).to_numpy()
    ground = material.ground
    mine = (cells[schema.COMPOUND] != material.control).to_numpy() & (moas != schema.UNKNOWN_MOA)
    treated = np.intersect1d(np.flatnonzero(mine), ground.usable)
    if len(treated) < 20 or len(np.unique(moas[treated])) < 2:
        raise SelectionError("fewer than 20 treated cells of two known mechanisms: nothing to compare")
    rows, answers = _asked(material, rng, treated)
    chance = float(np.mean([(moas[ground.usable] == moas[row]).mean() for row in rows]))
    made = _rate("nearest_same_moa", chance, moas[answers] == moas[rows])
    return dataclasses.replace(made, ok=made.ci95[0] > chance)


def null_path_false_alarms(material: Material, rng: np.random.Generator) -> Check:
    """Cells of a control well taken for a treatment: how often their path is said to differ more than controls do.

    Each well once, since tries of one well are not independent; the others are what it is compared with.
    """
    cells, control = material.cells, material.control
    rows = targets.controls(cells, control)
    wells = targets.wells(cells, rows)
    of_well = [rows[wells == w] for w in range(int(wells.max()) + 1)]
    if len(of_well) <= targets.MIN_GROUPS:
        raise SelectionError(
            f"{len(of_well)} control wells; it takes {targets.MIN_GROUPS + 1} to compare one with the others"
        )
    alarms = []
    for w in rng.permutation(len(of_well))[:N_NULL_REQUESTS]:
        most = min(len(of_well[w]), int(rng.integers(GROUP_CELLS[0], GROUP_CELLS[1] + 1)))
        mine = np.sort(rng.choice(of_well[w], most, replace=False))
        taken = np.isin(np.arange(len(cells)), mine)
        names = {schema.COMPOUND: STAND_IN, schema.TREATMENT: f"{STAND_IN}@1"}
        marked = cells.assign(**{c: np.where(taken, name, cells[c].astype(object)) for c, name in names.items()})
        marked[schema.CONCENTRATION] = np.where(taken, 1.0, cells[schema.CONCENTRATION])
        kept = np.setdiff1d(np.arange(len(cells)), np.setdiff1d(of_well[w], mine))
        tried = Material(
            marked.iloc[kept].reset_index(drop=True), material.embeddings[kept], material.generator, control
        )
        request = Request(treatment=f"{STAND_IN}@1", seed=int(rng.integers(2**31)))
        start, end = study.ends(tried, request)
        length = float(np.linalg.norm(tried.embeddings[end].astype(np.float64) - tried.embeddings[start]))
        p = study.null_paths(tried, request).p(length)
        if p is not None:
            alarms.append(p <= study.MOST_P)
    if not alarms:
        raise SelectionError("too few control wells for a path's p, so nothing is claimed and nothing to check")
    return _rate("null_path_false_alarms", 0.05, np.array(alarms))


def population_interval_coverage(material: Material, rng: np.random.Generator) -> Check:
    """Groups of control cells paired with other control cells: how often the interval holds the true difference, 0.

    What is compared is the cells' place along the first principal component of the control cells. Where `MIN_WELLS`
    control wells hold two cells or more, wells are drawn, and from each as many cells: what wells differ by is in the
    trial, and the interval is over wells. Else cells are, whatever their wells, which says nothing of wells. Both are
    drawn with replacement: the population, endless, then has the sample's mean.
    """
    rows = targets.controls(material.cells, material.control)
    if len(rows) < 2 * GROUP_CELLS[0]:
        raise SelectionError(f"{len(rows)} control cells; it takes {2 * GROUP_CELLS[0]} to make groups of them")
    z = material.embeddings[rows].astype(np.float64)
    z = z - z.mean(axis=0)
    place = z @ np.linalg.eigh(z.T @ z)[1][:, -1]
    of = targets.wells(material.cells, rows)
    wells = [place[of == well] for well in np.unique(of)]
    wells = [well for well in wells if len(well) > 1]
    by_wells = len(wells) >= MIN_WELLS
    held = []
    for _ in range(N_POPULATIONS):
        size = int(rng.integers(3, GROUP_CELLS[1] + 1))
        n = int(rng.choice([8, 32, 128, 500]))
        if by_wells:
            treated, unit = _drawn(wells, int(rng.integers(2, MIN_WELLS + 1)), size, rng)
            others, beside = _drawn(wells, len(wells), max(len(place) // 2, 12), rng)
        else:
            treated, others = rng.choice(place, size), rng.choice(place, max(len(place) // 2, 12))
            unit, beside = np.arange(size), np.arange(len(others))
        ends = np.concatenate([rng.permutation(len(treated)) for _ in range(-(-n // len(treated)))])[:n]
        starts = rng.integers(0, len(others), n)
        found = pairs_interval(treated[ends] - others[starts], beside[starts], unit[ends])
        held.append(bool(found.low() <= 0.0 <= found.high()))
    tried = "wells" if by_wells else "cells, whatever their wells"
    return _rate("population_interval_coverage", 0.95, np.array(held), at_least=True, tried=tried)


def _drawn(
    wells: Sequence[Doubles], n_wells: int, size: int, rng: np.random.Generator
) -> tuple[Doubles, npt.NDArray[np.int64]]:
    """About so many cells' values, as many of each of some wells, and which drawn well each is of."""
    each = max(round(size / n_wells), 1)
    chosen = rng.integers(0, len(wells), n_wells)
    return np.concatenate([rng.choice(wells[k], each) for k in chosen]), np.repeat(np.arange(n_wells), each)


def subpopulation_false_splits(material: Material, rng: np.random.Generator) -> Check:
    """Cells of one group shown as several: a normal cloud of the control cells' covariance, with their own tails.

    Each made-up cell is at the distance from the mean that some control cell is at, so that the cloud has one peak and
    is as heavy-tailed as the screen.
    """
    rows = targets.controls(material.cells, material.control)
    if len(rows) < 2 * GROUP_CELLS[0]:
        raise SelectionError(f"{len(rows)} control cells; it takes {2 * GROUP_CELLS[0]} to make groups of them")
    z = material.embeddings[rows].astype(np.float64)
    left, spread = z - z.mean(axis=0), np.linalg.svd(z - z.mean(axis=0), full_matrices=False)[1:]
    scale = np.linalg.norm(left, axis=1) / np.sqrt((left**2).sum(axis=1).mean())
    split = []
    for _ in range(N_GROUPS):
        n = int(rng.integers(GROUP_CELLS[0], min(GROUP_CELLS[1], len(rows)) + 1))
        cloud = rng.normal(size=(n, len(spread[0]))) * spread[0] @ spread[1]
        split.append(bool(targets.grouping(cloud * rng.choice(scale, n)[:, None], rng)[0].any()))
    return _rate("subpopulation_false_splits", targets.FALSE_SPLITS, np.array(split))


CHECKS: tuple[Checked, ...] = (
    flag_false_alarms,
    flag_power_chimeras,
    plausible_false_alarms,
    nearest_hub_share,
    nearest_same_moa,
    null_path_false_alarms,
    population_interval_coverage,
    subpopulation_false_splits,
)


def _asked(
    material: Material, rng: np.random.Generator, of: npt.NDArray[np.int64] | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of cells drawn, and of the nearest cell of each that is not of the same well."""
    ground = material.ground
    rows = ground.usable if of is None else of
    rows = rng.choice(rows, min(N_QUERIES, len(rows)), replace=False)
    wells = targets.wells(material.cells, np.arange(len(material.cells)))
    order = np.argsort(wells, kind="stable")
    edges = np.searchsorted(wells[order], np.arange(wells.max() + 2))
    most = int(np.diff(edges)[wells[rows]].max())
    left_out = np.repeat(rows[:, None], most, axis=1)
    for i, row in enumerate(rows):
        mates = order[edges[wells[row]] : edges[wells[row] + 1]]
        left_out[i, : len(mates)] = mates
    found, apart = ground.nearest(material.embeddings[rows], 1, exclude=left_out)
    if not found.shape[1] or not np.isfinite(apart).all():
        raise SelectionError("all cells are of one well, so none has a neighbour from another")
    return rows, found[:, 0]


def _rate(
    name: str,
    nominal: float,
    hits: npt.NDArray[np.bool_],
    spread: float = 1.0,
    *,
    at_least: bool = False,
    tried: str = "",
) -> Check:
    """A row for a rate.

    Parameters
    ----------
    hits : (n,) bool
    spread : float
        By what the variance exceeds that of a binomial count.
    at_least, tried
        As of `cytovae.schema.as_claimed` and `cytovae.schema.Check`.
    """
    n = len(hits)
    ci = wilson(float(hits.mean()) * n / spread, n / spread)
    return Check(name, nominal, float(hits.mean()), ci, n, as_claimed(nominal, ci, at_least=at_least), tried)
