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
import pandas as pd

from cytovae import schema
from cytovae.explore import evidence, morphology, paths, plausible, study
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


def spoiled(frames: npt.NDArray, dna: int) -> Iterator[tuple[str, npt.NDArray]]:
    """Decoded cells made into what is no usual picture of one, and how."""
    import cv2

    edge = frames.shape[1]

    def zoomed(by: float) -> npt.NDArray:
        turn = cv2.getRotationMatrix2D(((edge - 1) / 2, (edge - 1) / 2), 0, by)
        return np.stack([cv2.warpAffine(f, turn, (edge, edge), borderMode=cv2.BORDER_REPLICATE) for f in frames])

    def dna_as(values: npt.NDArray) -> npt.NDArray:
        out = frames.copy()
        out[..., dna] = values
        return out

    black, other = np.zeros_like(frames), (dna + 1) % frames.shape[3]
    yield "no DNA at all", dna_as(black[..., dna])
    yield "DNA moved to the corner", np.roll(frames, (edge // 2, edge // 2), axis=(1, 2))
    both = np.maximum(np.roll(frames, 13, axis=1), np.roll(frames, -13, axis=1))
    yield "two nuclei, 26 px apart", dna_as(both[..., dna])
    three = np.maximum(both, np.roll(frames, 16, axis=2))
    yield "three nuclei", dna_as(three[..., dna])
    for shift in (5, 10, 15):
        yield f"everything moved by {shift} px", np.roll(frames, shift, axis=1)
    for by in (0.5, 0.7, 1.4, 2.0):
        yield f"everything {by:g} times as wide", zoomed(by)
    yield "nucleus of half the width in its cell", dna_as(zoomed(0.5)[..., dna])
    yield "half as bright", 0.5 * frames
    yield "0.8 times as bright", 0.8 * frames
    yield "twice as bright, cut off at 1", np.minimum(2 * frames, 1)
    yield "black", black
    yield "white", np.ones_like(frames)
    yield "noise", np.random.default_rng(0).random(frames.shape, np.float32)
    mixed = frames.copy()
    mixed[..., [dna, other]] = frames[..., [other, dna]]
    yield "DNA and another channel exchanged", mixed
    yield "two cells half and half", (frames + frames[::-1]) / 2
    yield (
        "channels of different cells",
        np.stack([np.roll(frames[..., c], c, axis=0) for c in range(frames.shape[3])], 3),
    )


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
    own = material.embeddings[rng.choice(np.setdiff1d(material.ground.usable, material.ground.calibration_rows), N)]
    mean = material.ground.mean.astype(np.float32)
    for by in (1.5, 2.0, 3.0):
        line(f"real cells, {by:g} times as far from the mean", mean + by * (own - mean))
    for name, frames in spoiled(model.decode(own), morphology.dna_channel(material.channels)):
        judged = material.plausible.judge(frames)
        told = pd.Series(judged.why[judged.implausible]).str.split(" ").str[:3].str.join(" ").value_counts().head(2)
        said = ", ".join(f"{n} {why}" for why, n in told.items())
        print(f"{name:<58}{N:>5}{'':>10}{100 * judged.implausible.mean():>7.0f} %   {said}", flush=True)
    treatments = [t for t in material.cells[schema.TREATMENT].unique() if not str(t).startswith(material.control)]
    ends = [study.ends(material, Request(treatment=str(t))) for t in rng.permutation(treatments)[:40]]
    for mode in paths.MODES:
        drawn = [paths.latent(material.embeddings[s], material.embeddings[e], 10, mode)[0] for s, e in ends]
        for words, at in (("first and last step", [0, 9]), ("steps 1 to 3", [1, 2, 3]), ("steps 4 to 6", [4, 5, 6])):
            line(f"{mode}, {words} of {len(drawn)} paths", np.concatenate([points[at] for points in drawn]))
    print(f"implausible: compared with {plausible.N_REAL} decoded real cells at most")


if __name__ == "__main__":
    main()
