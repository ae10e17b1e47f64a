"""How often the evidence of profiles is wrong, beside how often it says it is: the tests' simulations at full size.

    python benchmarks/evidence_profiles.py [--tables FOLDER] [--screen SCREEN --model MODEL]

Without arguments: coverage of the intervals of accuracies, and how often a treatment that does nothing is taken for
active where wells differ. ``--tables``: a folder of BBBC021's published tables, for
the false positives of mAP and for TVN. ``--screen`` and ``--model``: the audit's rows, activity and learning curve.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.patches import PatchStore
from cytovae.profiling import activity, audit, baselines, benchmark, intervals, profiles, published, whiten
from cytovae.profiling.ranking import NSC, RULES
from cytovae.screen import Screen

SIZES = np.array([1] * 7 + [2] * 12 + [3] * 13 + [4, 4, 5, 6, 7, 7], dtype=float)
"""Treatments of each of BBBC021's 38 compounds."""


def bootstrap(right: npt.NDArray[np.float64], rng: np.random.Generator, n: int = 1_000) -> tuple[float, float]:
    """The percentile interval over compounds, for comparison."""
    k = len(SIZES)
    weights = rng.multinomial(k, np.full(k, 1 / k), size=n)
    lo, hi = np.quantile(weights @ right / (weights @ SIZES), [0.025, 0.975])
    return float(lo), float(hi)


def coverage(rng: np.random.Generator, n: int = 2_000) -> None:
    """Coverage and mean width of both intervals."""
    print(f"coverage of 95 % intervals of an accuracy, {len(SIZES)} compounds, {SIZES.sum():.0f} treatments, n = {n:,}")
    print("accuracy  correlation  clustered Wilson (width)  bootstrap (width), n = 500")
    for accuracy in (0.35, 0.7, 0.9, 0.96, 1.0):
        for likeness in (0.2, 0.5, 0.8):
            share = np.ones((n, len(SIZES)))
            if accuracy < 1:
                share = rng.beta(accuracy * (1 / likeness - 1), (1 - accuracy) * (1 / likeness - 1), share.shape)
            right = rng.binomial(SIZES.astype(int), share).astype(float)
            found = np.array([intervals.accuracy(row, SIZES) for row in right])
            boot = np.array([bootstrap(row, rng) for row in right[:500]])
            said = [
                f"{100 * ((x[:, 0] <= accuracy) & (accuracy <= x[:, 1])).mean():.1f} ({np.ptp(x, axis=1).mean():.3f})"
                for x in (found, boot)
            ]
            print(f"{accuracy:8.2f}  {likeness:11.1f}  {said[0]:>24}  {said[1]:>17}", flush=True)


@dataclass(frozen=True)
class Wells:
    """A treatment that does nothing: on every plate one well of it, beside control wells.

    Parameters
    ----------
    plates, controls : int
        Plates, and control wells on each.
    cells, control_cells : int
        Of a treated and of a control well.
    """

    plates: int = 1
    controls: int = 6
    cells: int = 15
    control_cells: int = 10


WELLS = {
    "one plate, 6 control wells": Wells(),
    "one plate, one control well of 60 cells": Wells(controls=1, cells=20, control_cells=60),
    "two plates, 6 control wells each": Wells(plates=2),
    "three plates, 6 control wells each": Wells(plates=3),
}


def active_by_chance(
    wells: Wells, unit: activity.Unit | str, sd: float, d: int, n: int, rng: np.random.Generator
) -> float:
    """How often such a treatment has p <= 0.05, by cells or by the means of wells; `sd` of wells in s.d. of cells."""
    per_plate = [wells.cells, *[wells.control_cells] * wells.controls]
    of = np.repeat(np.arange(wells.plates * len(per_plate)), per_plate * wells.plates)
    found = []
    for _ in range(n):
        z = rng.normal(size=(len(of), d)) + sd * rng.normal(size=(of.max() + 1, d))[of]
        own = of
        if unit == activity.Unit.wells:
            own = np.unique(of)
            z = np.array([z[of == k].mean(axis=0) for k in own])
        found.append(activity.test(z, own // len(per_plate), own % len(per_plate) == 0, rng, 99)["p"] <= 0.05)
    return float(np.mean(found))


def wells_that_differ(rng: np.random.Generator, n: int = 400) -> None:
    """How often nothing is called active, by what wells differ by."""
    sizes = (0.0, 0.05, 0.1, 0.2, 0.3)
    print(f"treatments that do nothing with p <= 0.05, in %, n = {n}, by the s.d. of wells in s.d. of cells")
    print(f"{'':<60}" + "".join(f"{sd:>7g}" for sd in sizes))
    for d in (32, 256):
        for unit in activity.Unit:
            for name, wells in WELLS.items():
                if (unit == activity.Unit.wells) != (wells.plates > 2):
                    continue  # as activity.measure asks: wells where they can be dealt out in 200 ways, else cells
                rates = [active_by_chance(wells, unit, sd, d, n, rng) for sd in sizes]
                said = f"{d} features, by {unit}: {name}"
                print(f"{said:<60}" + "".join(f"{100 * rate:>7.1f}" for rate in rates), flush=True)


def of_tables(folder: Path, rng: np.random.Generator) -> None:
    """Published profiles: false positives of mAP, and TVN beside no whitening."""
    wells = published.read_wells(
        folder / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz",
        folder / "BBBC021_v1_image.csv",
        folder / "BBBC021_v1_moa.csv",
    )
    standard, _ = profiles.standardise(wells, "DMSO")
    plain = profiles.treatments(standard)
    print("published profiles:", audit.map_false_positives(plain, rng, count=200))
    white, used = whiten.profiles(standard, whiten.Options(whiten.Whitening.tvn))
    for rule in RULES:
        compare("TVN", profiles.treatments(white), "standardised", plain, rule.name)
    print(f"  TVN keeps {used['dimension'].iloc[0]} of 513 dimensions")


def compare(name: str, one: pd.DataFrame, than: str, other: pd.DataFrame, rule_name: str) -> None:
    (rule,) = (r for r in RULES if r.name == rule_name)
    calls = [benchmark.neighbours(table, rule) for table in (one, other)]
    found = intervals.compared(*calls)
    shares = " against ".join(f"{100 * (benchmark.accuracy(c) or 0):.1f} %" for c in calls)
    ci = [round(100 * v, 1) for v in found["ci95"] or []]
    print(f"  {rule.name}: {name} {shares} {than}, difference {ci}, n = {found['n_scored']}: {found['verdict']}")


def of_screen(screen: Screen, model: str, rng: np.random.Generator) -> None:
    """The audit's rows, activity, and accuracy by the number of cells of a treatment."""
    cells, embeddings = screen.embeddings(model)
    start = time.process_time()
    for check in audit.checks(cells, embeddings, screen.record.control)[0]:
        print(" ", check)
    print(f"  the audit took {time.process_time() - start:.0f} s of processor time")
    table = activity.measure(cells, embeddings, screen.record.control)
    print("  activity:", activity.described(table), table["reason"].value_counts().to_dict())
    store = PatchStore(screen.patches_path)
    simple = np.concatenate(
        [baselines.measure(block, screen.record.channels).to_numpy() for _, block in store.blocks(512)]
    )
    learning_curve(cells, np.asarray(embeddings), simple, screen.record.control, rng)


def learning_curve(
    cells: pd.DataFrame,
    embeddings: npt.NDArray[np.float32],
    simple: npt.NDArray[np.float64],
    control: str,
    rng: np.random.Generator,
    repeats: int = 10,
) -> None:
    """Accuracy against cells a treatment, the model's and the simple measurements', on treatments with enough cells."""
    usable = schema.not_blank(cells)
    is_control = (cells[schema.COMPOUND] == control).to_numpy()
    names = cells[schema.TREATMENT].astype(str).to_numpy()
    counts = pd.Series(names[usable & ~is_control]).value_counts()
    control_cells = np.flatnonzero(usable & is_control)
    spread = simple[control_cells].std(axis=0)
    scaled = (simple - simple[control_cells].mean(axis=0)) / np.where(spread > 0, spread, 1)
    for most in (8, 16, 32):
        kept = counts.index[counts >= most]
        if len(kept) < 10:
            continue
        print(f"  learning curve on the {len(kept)} treatments with {most} cells or more, mean of {repeats} draws")
        for k in [k for k in (1, 2, 4, 8, 16, 32) if k <= most]:
            shares: dict[str, list[float]] = {"model": [], "simple": []}
            n_scored = 0
            for _ in range(repeats):
                rows = np.concatenate(
                    [rng.choice(np.flatnonzero(usable & (names == name)), k, replace=False) for name in kept]
                )
                drawn = cells.iloc[rows].reset_index(drop=True)
                for name, values in (("model", embeddings), ("simple", scaled)):
                    wells = profiles.wells(drawn, values[rows])
                    calls = benchmark.neighbours(profiles.treatments(wells), NSC, control)
                    shares[name].append(benchmark.accuracy(calls) or 0.0)
                    n_scored = int(calls["scored"].sum())
            said = ", ".join(f"{n} {100 * np.mean(v):.1f} % (s.d. {100 * np.std(v):.1f})" for n, v in shares.items())
            print(f"    {k:2d} cells: {said}, {n_scored} scored under NSC", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path)
    parser.add_argument("--screen", type=Path)
    parser.add_argument("--model")
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    if asked.tables:
        of_tables(asked.tables, rng)
    if asked.screen:
        screen = Screen.open(asked.screen)
        of_screen(screen, asked.model or screen.models()[0], rng)
    if not asked.tables and not asked.screen:
        coverage(rng)
        wells_that_differ(rng)


if __name__ == "__main__":
    main()
