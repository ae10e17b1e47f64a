"""How long profiles, whitening and the benchmark take; prints seconds, ends 1 where a limit is missed.

Limits, in processor time: 1,000 treatments x 512 features under both rules in 1 s; whitening 100 plates in 512
dimensions in 10 s.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from cytovae import schema
from cytovae.profiling import benchmark, precision, profiles, whiten
from cytovae.profiling.ranking import RULES

missed: list[str] = []


def timed(label: str, work: Callable[[], object], limit_s: float | None = None, repeats: int = 2) -> None:
    """Print the best of some runs of `work` on the clock and in processor time; the limit is on processor time."""
    took, busy = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        work()
        took.append(time.perf_counter() - start)
        busy.append(time.process_time() - used)
    limit = f" (limit {limit_s:g} s)" if limit_s else ""
    print(f"{label}: {min(took):.2f} s, processor {min(busy):.2f} s{limit}", flush=True)
    if limit_s and min(busy) > limit_s:
        missed.append(label)


def cells(plates: int, wells: int, per_well: int, controls: int) -> pd.DataFrame:
    """Cells of plates that hold `controls` DMSO wells and otherwise one treatment a well."""
    plate = np.repeat(np.arange(plates), wells * per_well)
    well = np.tile(np.repeat(np.arange(wells), per_well), plates)
    compound = np.where(well < controls, "DMSO", np.char.add("drug", well.astype(str)))
    table = pd.DataFrame(
        {
            schema.PLATE: np.char.add("P", plate.astype(str)),
            schema.WELL: np.char.add("W", well.astype(str)),
            schema.BATCH: np.char.add("Week", (plate // 10).astype(str)),
            schema.COMPOUND: compound,
            schema.CONCENTRATION: 1.0,
            schema.MOA: np.where(well < controls, "DMSO", np.char.add("moa", (well % 12).astype(str))),
        }
    )
    return table.assign(**{schema.TREATMENT: table[schema.COMPOUND] + "@1"})


def main() -> None:
    rng = np.random.default_rng(0)
    n, d = 1_000, 512
    names = [f"drug{k // 3}@{k % 3}" for k in range(n)]
    treatments = pd.DataFrame(
        {
            schema.TREATMENT: names,
            schema.COMPOUND: [name.split("@")[0] for name in names],
            schema.CONCENTRATION: 1.0,
            schema.MOA: [f"moa{k // 3 % 12}" for k in range(n)],
            schema.BATCH: [f"Week{k // 3 % 10}" for k in range(n)],
        }
    )
    features = pd.DataFrame(rng.normal(size=(n, d)), columns=profiles.feature_names(d))
    treatments = pd.concat([treatments, features], axis=1)
    timed(
        f"NSC and NSCB, {n:,} treatments x {d}",
        lambda: [benchmark.neighbours(treatments, rule) for rule in RULES],
        1.0,
    )
    timed(
        "  the same with intervals and 200 permutations",
        lambda: [benchmark.score(treatments, rule, np.random.default_rng(0)) for rule in RULES],
    )
    timed("  average precision", lambda: [precision.average_precision(treatments, rule) for rule in RULES])

    table = cells(plates=100, wells=30, per_well=50, controls=12)  # 600 control cells a plate
    for summary, dimension in (("mean", 512), ("mean+sd", 256)):
        z = rng.normal(size=(len(table), dimension)).astype(np.float32)
        wells = profiles.wells(table, z, summary)
        timed(
            f"whitening 100 plates, {summary} of {dimension} dimensions, 600 control cells a plate",
            partial(whiten.profiles, wells, whiten.Options("plate"), cells=table, embeddings=z, summary=summary),
            10,
            repeats=1,
        )
        del z

    table = cells(plates=50, wells=100, per_well=200, controls=6)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "embeddings.npy"
        np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(table), 256)).flush()  # a sparse file
        z = np.load(path, mmap_mode="r")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        timed(f"{len(table):,} cells x 256 (zeros) to wells", lambda: profiles.wells(table, z), repeats=1)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    size = len(table) * 1024 / 1e6
    print(f"  peak resident memory +{grown:.0f} MB, with cached pages of the mapped file ({size:.0f} MB)")
    if missed:
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
