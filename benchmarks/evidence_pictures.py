"""What the two flags of a step see: how often "off the data" and "unlike a cell" are raised for what is and is no cell.

    python benchmarks/evidence_pictures.py SCREEN BUNDLE

Prints a line per kind of point with how many it rests on. Nothing passes or fails: these are powers, beside the false
alarms that `cytovae audit` counts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cytovae import schema
from cytovae.explore import evidence, paths, plausible, study
from cytovae.explore.study import Material, Request
from cytovae.learn.generators import open_model
from cytovae.screen import Screen

N = 200


def kinds(material: Material, rng: np.random.Generator) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Points, and what they are."""
    z, ground = material.embeddings, material.ground
    rest = np.setdiff1d(ground.usable, ground.calibration_rows)
    a, b = (rng.choice(rest, N) for _ in range(2))
    d = z.shape[1]
    mean = ground.mean.astype(np.float32)
    yield "real cells", z[a]
    yield "real cells, decoded and encoded again", material.again(z[a])
    yield "each feature of another cell", z[rng.choice(rest, (N, d)), np.arange(d)]
    half = np.array([rng.permutation(d) < d // 2 for _ in range(N)])
    yield "half of the features of each of two cells", np.where(half, z[a], z[b])
    blend = ((z[a] + z[b]) / 2).astype(np.float32)
    yield "halfway between two cells", blend
    length = [np.linalg.norm(points - mean, axis=1, keepdims=True) for points in (z[a], blend)]
    yield "halfway between two cells, drawn out to a cell's length", (blend - mean) / length[1] * length[0] + mean
    yield "real cells, drawn in to the length of halfway", (z[a] - mean) / length[0] * length[1] + mean
    by = material.cells[schema.TREATMENT].to_numpy()
    mates = np.array([rng.choice(np.flatnonzero(by == by[row])) for row in a])
    yield "halfway between two cells of one treatment", ((z[a] + z[mates]) / 2).astype(np.float32)
    yield "normal draws, each feature with its own spread", rng.normal(mean, z.std(axis=0), (N, d)).astype(np.float32)


def main() -> None:
    screen, model = Screen.open(Path(sys.argv[1])), open_model(sys.argv[2])
    material, rng = Material.of(screen, model), np.random.default_rng(0)
    assert material.plausible is not None
    print(f"{'':<58}{'n':>5}{'off data':>10}{'no cell':>9}{'either':>8}   median length, nearest, re-encoded")

    def line(name: str, points: npt.NDArray[np.float32]) -> None:
        points = points.astype(np.float32)
        off = material.ground.rarity(points) <= evidence.FALSE_ALARMS
        odd = material.plausible.judge(model.decode(points)).implausible  # type: ignore[union-attr]
        scores = np.median(material.ground.scores(points), axis=0)
        rates = "".join(f"{100 * np.mean(x):>{w}.0f} %" for x, w in ((off, 8), (odd, 7), (off | odd, 6)))
        said = f"{scores[1]:.1f}, {scores[0]:.2f}, {scores[2]:.2f}"
        print(f"{name:<58}{len(points):>5}{rates}   {said}", flush=True)

    for name, points in kinds(material, rng):
        line(name, points)
    treatments = [t for t in material.cells[schema.TREATMENT].unique() if not str(t).startswith(material.control)]
    ends = [study.ends(material, Request(treatment=str(t))) for t in rng.permutation(treatments)[:40]]
    for mode in paths.MODES:
        drawn = [paths.latent(material.embeddings[s], material.embeddings[e], 10, mode)[0] for s, e in ends]
        for words, at in (("first and last step", [0, 9]), ("steps 1 to 3", [1, 2, 3]), ("steps 4 to 6", [4, 5, 6])):
            line(f"{mode}, {words} of {len(drawn)} paths", np.concatenate([points[at] for points in drawn]))
    print(f"implausible: compared with {plausible.N_REAL} decoded real cells at most")


if __name__ == "__main__":
    main()
