"""What each way to an embedding adds to the nearest neighbour's mechanism; prints tables in Markdown.

    python benchmarks/embeddings.py [--screen SCREEN --model BUNDLE] [--join BUNDLE...] [--curve CELLS...]
    python benchmarks/embeddings.py --bbbc021 FOLDER

The first embeds a screen in every way that there is, keeps all of it in the screen, and scores every profile beside the
simple measurements; without a screen, one that is simulated. ``--join``: further bundles whose embeddings stand beside
the model's. ``--curve``: accuracy against the number of cells of a treatment up to so many, on the treatments that have
them. The second scores the collection's published profiles of wells.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import ProfileError
from cytovae.learn import bundle as bundles
from cytovae.learn import embed
from cytovae.patches import PatchStore
from cytovae.profiling import baselines, benchmark, intervals, profiles, published, study, whiten
from cytovae.profiling.ranking import RULES, Rule
from cytovae.profiling.whiten import Whitening
from cytovae.screen import Screen

MODELS = Path(__file__).resolve().parent.parent / "models"
EVERY = {
    "plain": embed.Options(),
    "`--orientations 8`": embed.Options(8),
    "`--with-intensity`": embed.Options(1, True),
    "both": embed.Options(8, True),
}
MEASUREMENTS_TVN = f"{baselines.MEASUREMENTS}, TVN"
DRAWS = 20
SIZES = (1, 2, 4, 8, 16, 32, 64)


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def gained(one: pd.DataFrame, other: pd.DataFrame | None) -> str:
    """Accuracy of one less that of the other, in points, with its interval over compounds."""
    if other is None or one is other:
        return "-"
    found = intervals.compared(one, other)
    if found["ci95"] is None:
        return "-"
    low, high = (f"{100 * v:+.1f}" for v in found["ci95"])
    said = f"{100 * found['difference']:+.1f} [{low}, {high}]"
    return said if found["verdict"] == intervals.Verdict.unclear else f"**{said}**"


def show(tables: dict[str, pd.DataFrame | None], control: str) -> None:
    """One row for every treatment profile; None where that way does not apply.

    What is whitened is compared with the simple measurements whitened alike.
    """
    calls = {
        name: {} if table is None else {rule: benchmark.neighbours(table, rule, control) for rule in RULES}
        for name, table in tables.items()
    }
    plain, simple = calls["plain"], calls[baselines.MEASUREMENTS]
    white = calls.get(MEASUREMENTS_TVN) or simple
    heads = [f"{r.name} ({plain[r]['scored'].sum()} scored) | minus plain | minus simple measurements" for r in RULES]
    print(f"| embedding | numbers | {' | '.join(heads)} |\n|{'---|' * 8}")
    for name, own in calls.items():
        table = tables[name]
        than = white if name in ("TVN", "both, TVN") else simple
        cells = [name, "-" if table is None else str(len(schema.feature_columns(table)))]
        for rule in RULES:
            if own:
                cells += [percent(benchmark.accuracy(own[rule]))]
                cells += [gained(own[rule], other.get(rule)) for other in (plain, than)]
            else:
                cells += ["-"] * 3
        print(f"| {' | '.join(cells)} |", flush=True)


def of_screen(screen: Screen, path: Path, others: Sequence[Path]) -> dict[str, pd.DataFrame | None]:
    """Treatment profiles of a screen in every way, and of the simple measurements."""
    names: dict[Path, dict[str, str]] = {}
    for folder in (path, *others):
        model = bundles.load(folder)
        names[folder] = {}
        for way, options in EVERY.items():
            if folder == path or way in ("plain", "both"):
                embed.embed(screen, model, options=options)
                names[folder][way] = options.name(model.name)
    of = {way: (name, Whitening.none) for way, name in names[path].items()}
    of |= {"TVN": (of["plain"][0], Whitening.tvn), "both, TVN": (of["both"][0], Whitening.tvn)}
    if others:
        beside = " and ".join(folder.name for folder in others)
        for way, label in (("plain", f"joined with {beside}"), ("both", f"both, joined with {beside}")):
            of[label] = (study.join(screen, [names[folder][way] for folder in names]), Whitening.none)
    made: dict[str, pd.DataFrame | None] = {}
    for label, (name, by) in of.items():
        try:
            made[label] = study.profile(screen, name, "mean", whiten.Options(by)).treatments
        except ProfileError as too_few:
            made[label] = None
            print(f"{label}: {too_few}\n")
    cells, values, control = screen.cells(), simple(screen), screen.record.control
    made[MEASUREMENTS_TVN] = None
    if made["TVN"] is not None:
        made[MEASUREMENTS_TVN] = treatments(cells, values, Whitening.tvn, control)
    return {**made, baselines.MEASUREMENTS: treatments(cells, values, Whitening.none, control, in_units=True)}


def simple(screen: Screen) -> npt.NDArray[np.float64]:
    """The simple measurements of every cell."""
    blocks = PatchStore(screen.patches_path).blocks(512)
    return np.concatenate([baselines.measure(block, screen.record.channels).to_numpy() for _, block in blocks])


def of_tables(folder: Path) -> dict[str, pd.DataFrame | None]:
    """Treatment profiles of the published wells; without cells and a model most ways do not apply."""
    wells = published.read_wells(
        next(folder.rglob("ljosa_*_per_well_mean.csv.gz")),
        next(folder.rglob("BBBC021_v1_image.csv")),
        next(folder.rglob("BBBC021_v1_moa.csv")),
    )
    standard, _ = profiles.standardise(wells, "DMSO")
    white, _ = whiten.profiles(standard, whiten.Options(Whitening.tvn))
    made: dict[str, pd.DataFrame | None] = dict.fromkeys(EVERY)
    made |= {"plain": profiles.treatments(standard), "TVN": profiles.treatments(white)}
    return made | dict.fromkeys(("both, TVN", "joined", baselines.MEASUREMENTS))


def averaged(draws: list[pd.DataFrame]) -> pd.DataFrame:
    """Calls whose ``correct`` is the share of right ones among the draws in which a treatment is scored."""
    right, scored = (sum(calls[column].to_numpy(float) for calls in draws) for column in ("correct", "scored"))
    return draws[0].assign(scored=scored > 0, correct=right / np.maximum(scored, 1))


def curve(screen: Screen, model: str, most: int, seed: int) -> None:
    """Accuracy by the number of cells that are drawn of every treatment; controls keep all of theirs.

    What is compared is each treatment's share of right calls over `DRAWS` draws.
    """
    control = screen.record.control
    cells = screen.cells()
    usable, is_control = schema.not_blank(cells), (cells[schema.COMPOUND] == control).to_numpy()
    names = cells[schema.TREATMENT].astype(str).to_numpy()
    counts = pd.Series(names[usable & ~is_control]).value_counts()
    of = {name: np.flatnonzero(usable & (names == name)) for name in sorted(counts.index[counts >= most])}
    controls = np.flatnonzero(usable & is_control)
    plain, both = (np.asarray(screen.embeddings(EVERY[way].name(model))[1], dtype=float) for way in ("plain", "both"))
    measured = simple(screen)
    ways = {
        "plain": (plain, Whitening.none),
        "both": (both, Whitening.none),
        baselines.MEASUREMENTS: (measured, Whitening.none),
        "both, TVN": (both, Whitening.tvn),
        MEASUREMENTS_TVN: (measured, Whitening.tvn),
    }
    pairs = [("plain", baselines.MEASUREMENTS), ("both", baselines.MEASUREMENTS)]
    pairs += [("both, TVN", MEASUREMENTS_TVN)]
    rng = np.random.default_rng(seed)
    found: dict[tuple[int, Rule, str], list[pd.DataFrame]] = {}
    for k, _ in itertools.product([k for k in SIZES if k <= most], range(DRAWS)):
        rows = np.concatenate([*(rng.choice(own, k, replace=False) for own in of.values()), controls])
        drawn = cells.iloc[rows].reset_index(drop=True)
        for label, (values, by) in ways.items():
            try:
                table = treatments(drawn, values[rows], by, control, label == baselines.MEASUREMENTS)
            except ProfileError:  # too few controls for TVN; said with the table
                continue
            for rule in RULES:
                found.setdefault((k, rule, label), []).append(benchmark.neighbours(table, rule, control))
    made = {label for _, _, label in found}
    shown, pairs = [label for label in ways if label in made], [pair for pair in pairs if made.issuperset(pair)]
    for rule in RULES:
        print(f"\n{len(of)} treatments with {most} cells or more, {rule.name}, mean of {DRAWS} draws\n")
        heads = ["cells a treatment", "scored", *shown, *(f"{one} minus {other}" for one, other in pairs)]
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for k in [k for k in SIZES if k <= most]:
            mean = {label: averaged(found[k, rule, label]) for label in shown}
            row = [str(k), str(mean["plain"]["scored"].sum())]
            for label in shown:
                of_draws = np.std([benchmark.accuracy(c) or 0.0 for c in found[k, rule, label]], ddof=1)
                row.append(f"{percent(benchmark.accuracy(mean[label]))} (s.d. {100 * of_draws:.1f})")
            print(f"| {' | '.join([*row, *(gained(mean[one], mean[other]) for one, other in pairs)])} |", flush=True)


def treatments(
    cells: pd.DataFrame, values: npt.NDArray[np.float64], by: Whitening, control: str, in_units: bool = False
) -> pd.DataFrame:
    """Treatment profiles of the mean, whitened or, where their features differ in unit, in units of control wells."""
    wells = profiles.wells(cells, values)
    if in_units:
        wells = baselines.in_control_units(wells, control)
    white, _ = whiten.profiles(wells, whiten.Options(by), control, cells=cells, embeddings=values)
    return profiles.treatments(white)


def simulated(folder: Path) -> Path:
    """A phantom screen that no model was trained on."""
    raw, made = str(folder / "raw"), str(folder / "phantom.screen")
    for words in (["phantom", raw, "--wells", "3", "--seed", "7"], ["ingest", "bbbc021", raw, made]):
        subprocess.run([sys.executable, "-m", "cytovae", *words], check=True)
    return Path(made)


def measure(screen: Screen, model: Path, others: Sequence[Path], curves: Sequence[int], seed: int) -> None:
    """Print the table and the curves of a screen."""
    show(of_screen(screen, model, others), screen.record.control)
    for most in curves:
        curve(screen, bundles.load(model).name, most, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--screen", type=Path)
    parser.add_argument("--model", type=Path, default=MODELS / "phantom-vaeplus")
    parser.add_argument("--join", type=Path, nargs="*", default=[])
    parser.add_argument("--curve", type=int, nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bbbc021", type=Path)
    asked = parser.parse_args()
    if asked.bbbc021:
        show(of_tables(asked.bbbc021), "DMSO")
        return
    with tempfile.TemporaryDirectory() as folder:
        screen = Screen.open(asked.screen or simulated(Path(folder)))
        measure(screen, asked.model, asked.join, asked.curve, asked.seed)


if __name__ == "__main__":
    main()
