"""How long a path with its evidence takes on 100,000 cells; prints seconds, ends 1 where a stated limit is missed.

Limits, after loading: 10 steps with evidence in 0.15 s, 64 in 0.5 s, 10 with the morphology subset in 1 s. The
network is the paper's with random weights: speed does not depend on them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from cytovae import schema
from cytovae.explore import morphology, study
from cytovae.explore.paths import Spacing
from cytovae.learn import bundle, networks
from cytovae.nets.autoencoders import Networks

N, WIDTH = 100_000, 256
missed: list[str] = []


def timed(label: str, work: Callable[[], object], limit_s: float | None = None, runs: int = 5) -> None:
    """Print the best of some runs of `work`, and the limit."""
    best = np.inf
    for _ in range(runs):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    print(f"{label}: {best:.3f} s" + (f" (limit {limit_s:g} s)" if limit_s else ""), flush=True)
    if limit_s and best > limit_s:
        missed.append(label)


def screen() -> pd.DataFrame:
    """100,000 cells: 50 plates, 100 wells each, 10 of them DMSO; a treatment is in two wells of five plates."""
    row = np.arange(N)
    plate, well = row // 2000, row // 20 % 100
    drug = plate // 5 * 45 + (well - 10) // 2
    untreated = well < 10
    compound = np.where(untreated, "DMSO", np.char.add("drug", drug.astype(str)))
    return pd.DataFrame(
        {
            schema.CELL_ID: np.char.add("cell-", row.astype(str)),
            schema.PLATE: np.char.add("P", plate.astype(str)),
            schema.WELL: np.char.add("W", well.astype(str)),
            schema.BATCH: np.char.add("Week", (plate // 5).astype(str)),
            schema.COMPOUND: compound,
            schema.CONCENTRATION: np.where(untreated, 0.0, 1.0),
            schema.TREATMENT: np.char.add(compound, np.where(untreated, "@0", "@1")),
            schema.BLANK: False,
        }
    )


def painted(n: int, rng: np.random.Generator) -> np.ndarray:
    """Cells with a nucleus and a body, (n, 68, 68, 3) float32."""
    y, x = np.mgrid[:68, :68] - 33.5
    radius = np.hypot(y, x)[None]
    edge = rng.uniform([[9], [22], [24]], [[15], [32], [34]], size=(n, 3, 1))[..., None]  # (n, 3, 1, 1)
    noise = rng.normal(0, 0.05, (n, 3, 68, 68))
    return np.moveaxis(1 / (1 + np.exp(radius[:, None] - edge)) + noise, 1, -1).astype(np.float32)


def main() -> None:
    rng = np.random.default_rng(0)
    cells = screen()
    z = (rng.normal(size=(N, 40)) @ rng.normal(size=(40, WIDTH)) + rng.normal(size=(N, WIDTH))).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random"
        recipe = {"iterations": 0, "batch_size": 0}
        config = bundle.new_config("random", "vae+", ("DNA", "Tubulin", "Actin"), WIDTH, 68, recipe=recipe)
        bundle.save(path, networks.arrays_of(Networks(3, similarity=False)), config, {})
        model = bundle.load(path)

    material = study.Material(cells, z, model, "DMSO")
    timed("once per screen and model: the ground", lambda: material.ground, runs=1)
    ground = material.ground
    nulls: list[study.Null] = []
    wanted = study.Request(treatment="drug7@1")
    timed("once per treatment: null paths", lambda: nulls.append(study.null_paths(material, wanted)), runs=1)

    def draw(steps: int, spacing: Spacing = Spacing.COUNT) -> study.Drawn:
        return study.draw(material, study.Request(treatment="drug7@1", steps=steps, spacing=spacing), nulls[0])

    for steps in (10, 64):
        drawn = draw(steps)
        timed(f"{steps} steps: cells chosen, path, evidence", lambda n=steps: draw(n), 0.15 if steps == 10 else 0.5)
        timed(f"  of it decoding and encoding {steps} patches", lambda d=drawn: model.encode(model.decode(d.path.z)))
        timed("  of it nearest cells, blocked exact search", lambda d=drawn: ground.nearest(d.path.z, 1))
    drawn = draw(10, Spacing.GAIN)

    channels = model.channels
    images = painted(10, rng)
    morphology.measure(images, channels)

    def with_morphology() -> None:
        draw(10)
        morphology.measure(images, channels)

    timed("10 steps with the morphology subset", with_morphology, 1.0)
    timed("  of it morphology", lambda: morphology.measure(images, channels))
    timed("10 patches, everything cp_measure has", lambda: morphology.measure(images, channels, full=True), runs=1)

    from sklearn.neighbors import BallTree

    trees: list[BallTree] = []
    timed("for comparison: a ball tree, built", lambda: trees.append(BallTree(z)), runs=1)
    timed("  nearest cells of 10 steps by it", lambda: trees[0].query(drawn.path.z, 1), runs=1)
    if missed:
        print("missed:", "; ".join(missed))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
