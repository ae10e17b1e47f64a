"""Drawn cells: the phenotypes as numbers, and one field of cells drawn from them.

A cell is a handful of traits (`CONTROL`); a mechanism says what they are at full strength (`MECHANISMS`), and a
cell under treatment stands between the two. Everything is drawn for a whole field at once: territories as a
weighted Voronoi diagram, filaments as persistent random walks that stay in their cell, then optics and camera.

Image axes are (y, x) in px, angles in radians from x towards y. Intensities before the camera are in 12-bit steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]
Traits = dict[str, npt.NDArray[np.float64]]

CHANNELS = ("DNA", "Tubulin", "Actin")
PAD_PX = 72
"""Margin drawn around a field and cut off, so that cells cross its border."""

CONTROL: dict[str, float] = {
    "nucleus_area": 1130.0,  # px^2
    "nucleus_elongation": 1.28,
    "nucleus_intensity": 1.0,
    "chromatin": 0.155,  # contrast of the texture
    "grain": 0.5,  # share of the fine texture
    "nucleoli": 2.6,  # mean number
    "nucleolus_radius": 2.6,  # px
    "cell_radius": 41.0,  # px
    "elongation": 1.45,
    "spikes": 0.42,  # length of the corners, in cell radii
    "thickness": 1.0,
    "filaments": 190.0,  # microtubules of a cell
    "filament_length": 42.0,  # px
    "wobble": 0.10,  # turning of a microtubule, rad per px
    "bundling": 0.0,  # 0 free microtubules, 1 all in bundles
    "tubulin": 1.0,
    "tubulin_pool": 0.5,  # share that is not in filaments
    "actin": 1.0,
    "cortex": 0.55,
    "stress_fibres": 55.0,
    "ruffles": 0.35,
    "junctions": 0.35,
    "puncta": 0.6,  # mean number
    "aggresome": 0.0,  # radius in px of a perinuclear inclusion
    "density": 1.0,  # cells against the control's
    "clustering": 0.45,
    "nuclei": 2.0,  # mean number in a multinucleate cell
    "p_mitotic": 0.035,
    "p_monoaster": 0.0,
    "p_fragmented": 0.004,
    "p_multinucleate": 0.015,
    "p_lobed": 0.015,
    "p_apoptotic": 0.006,
}
"""Traits of an untreated cell; probabilities start with ``p_``."""

MECHANISMS: dict[str, dict[str, float]] = {
    "Actin disruptors": {
        "actin": 0.5, "cortex": 0.12, "stress_fibres": 0.0, "ruffles": 0.0, "junctions": 0.05, "puncta": 26.0,
        "cell_radius": 31.0, "spikes": 0.75, "elongation": 1.25, "p_multinucleate": 0.22, "density": 0.8,
        "clustering": 0.6, "p_mitotic": 0.02, "tubulin": 1.15,
    },
    "Aurora kinase inhibitors": {
        "nucleus_area": 2150.0, "p_lobed": 0.72, "nucleus_elongation": 1.15, "cell_radius": 58.0, "density": 0.6,
        "p_mitotic": 0.02, "nucleus_intensity": 0.85, "chromatin": 0.22, "nucleoli": 5.0, "filaments": 290.0,
        "clustering": 0.3,
    },
    "Cholesterol-lowering": {
        "elongation": 3.4, "cell_radius": 33.0, "spikes": 0.35, "nucleus_elongation": 1.7, "nucleus_area": 780.0,
        "stress_fibres": 6.0, "actin": 0.75, "cortex": 0.75, "ruffles": 0.1, "density": 0.72, "clustering": 0.25,
        "filaments": 135.0, "tubulin": 1.25, "thickness": 1.25, "p_apoptotic": 0.03, "junctions": 0.1,
        "p_mitotic": 0.012,
    },
    "DNA damage": {
        "nucleus_area": 1750.0, "cell_radius": 62.0, "density": 0.48, "thickness": 0.72, "stress_fibres": 140.0,
        "nucleus_intensity": 0.72, "chromatin": 0.11, "nucleolus_radius": 4.1, "nucleoli": 2.2, "clustering": 0.15,
        "p_mitotic": 0.0, "filaments": 260.0, "filament_length": 60.0, "elongation": 1.3, "nucleus_elongation": 1.15,
    },
    "DNA replication": {
        "nucleus_area": 1520.0, "chromatin": 0.34, "grain": 0.85, "nucleoli": 1.2, "density": 0.72, "p_mitotic": 0.004,
        "nucleus_elongation": 1.12, "cell_radius": 46.0, "tubulin": 0.8, "nucleus_intensity": 1.15,
    },
    "Eg5 inhibitors": {
        "p_monoaster": 0.62, "p_mitotic": 0.0, "density": 0.85, "p_lobed": 0.05, "p_apoptotic": 0.03,
    },
    "Epithelial": {
        "junctions": 3.0, "stress_fibres": 4.0, "spikes": 0.05, "elongation": 1.08, "nucleus_elongation": 1.1,
        "cell_radius": 33.0, "clustering": 1.0, "cortex": 1.0, "ruffles": 0.05, "wobble": 0.16, "density": 1.2,
        "actin": 1.1, "thickness": 1.2,
    },
    "Kinase inhibitors": {
        "ruffles": 2.6, "stress_fibres": 6.0, "spikes": 0.08, "elongation": 1.1, "cell_radius": 39.0, "cortex": 0.3,
        "thickness": 0.85, "density": 0.75, "wobble": 0.035, "filament_length": 60.0, "clustering": 0.1,
        "p_mitotic": 0.012, "nucleus_area": 1150.0,
    },
    "Microtubule destabilizers": {
        "filaments": 5.0, "filament_length": 14.0, "tubulin_pool": 0.95, "p_fragmented": 0.46, "p_mitotic": 0.10,
        "cell_radius": 38.0, "spikes": 0.2, "elongation": 1.2, "density": 0.72, "stress_fibres": 100.0, "actin": 1.15,
        "p_apoptotic": 0.02,
    },
    "Microtubule stabilizers": {
        "bundling": 0.92, "nuclei": 3.2, "filaments": 240.0, "filament_length": 50.0, "wobble": 0.05, "tubulin": 1.35,
        "tubulin_pool": 0.25, "p_multinucleate": 0.58, "density": 0.68, "p_mitotic": 0.06, "cell_radius": 46.0,
        "spikes": 0.2, "elongation": 1.2,
    },
    "Protein degradation": {
        "aggresome": 8.5, "nucleus_area": 900.0, "nucleus_intensity": 1.3, "chromatin": 0.13, "cell_radius": 33.0,
        "thickness": 1.4, "cortex": 1.3, "stress_fibres": 10.0, "density": 0.75, "p_apoptotic": 0.07, "spikes": 0.3,
        "tubulin": 1.2, "p_mitotic": 0.02, "nucleoli": 1.5,
    },
    "Protein synthesis": {
        "nucleus_area": 780.0, "nucleoli": 1.0, "nucleolus_radius": 3.9, "chromatin": 0.09, "tubulin": 0.55, "actin": 0.62,
        "cell_radius": 36.0, "density": 0.8, "filaments": 100.0, "p_mitotic": 0.0, "nucleus_elongation": 1.1,
        "tubulin_pool": 0.6, "ruffles": 0.1,
    },
}  # fmt: skip
"""Traits of a cell at full strength of each mechanism; those not named stay as in the control."""

_SPREAD = {
    "nucleus_area": 0.16, "nucleus_elongation": 0.08, "nucleus_intensity": 0.14, "chromatin": 0.2, "cell_radius": 0.14,
    "elongation": 0.16, "spikes": 0.3, "thickness": 0.12, "tubulin": 0.2, "actin": 0.24, "cortex": 0.25, "ruffles": 0.5,
    "filament_length": 0.1, "tubulin_pool": 0.12, "nucleolus_radius": 0.12,
}  # fmt: skip
"""Log standard deviation of a trait among cells of one well."""

PHASES = ("interphase", "metaphase", "anaphase", "monoaster", "apoptotic")
SHAPES = ("single", "lobed", "multinucleate", "fragmented")


@dataclass(frozen=True)
class Optics:
    """What lies between cells and counts on one plate; channels in the order of `CHANNELS`.

    Parameters
    ----------
    gain : tuple of float
        Brightness of each stain, 1 the usual one.
    background : tuple of float
        Light where there are no cells, 12-bit steps above the offset.
    blur_px : float
        Standard deviation of the point-spread function.
    shade : tuple of (float, float, float)
        Of each channel: loss of light at a corner, and the bright spot's place (y, x) in field sizes from the centre.
    """

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    background: tuple[float, float, float] = (14.0, 9.0, 16.0)
    blur_px: float = 0.95
    shade: tuple[tuple[float, float, float], ...] = ((0.12, 0.0, 0.0), (0.16, 0.0, 0.0), (0.14, 0.0, 0.0))


OFFSET_STEPS = 31.0
READ_NOISE_STEPS = 2.4
ELECTRONS_PER_STEP = 5.0
STEP = 16
"""A 12-bit camera in a 16-bit file: every count is a multiple of this, as in BBBC021."""

_GAIN_STEPS = (262.0, 66.0, 205.0)  # 12-bit steps of a usual nucleus, microtubule layer and actin layer


def treated(mechanism: str | None, strength: npt.NDArray[np.float64]) -> Traits:
    """Mean traits of cells at the given strengths of a mechanism, from control (0) to full (1).

    Parameters
    ----------
    mechanism : str or None
        A key of `MECHANISMS`; None for untreated cells.
    strength : (n,) float64

    Returns
    -------
    dict of str to (n,) float64
    """
    full = MECHANISMS[mechanism] if mechanism else {}
    return {name: value + strength * (full.get(name, value) - value) for name, value in CONTROL.items()}


def _place(n: int, radius: float, clustering: float, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Centres (n, 2) that keep apart by `radius` at least, the more in groups the larger `clustering`."""
    import cv2

    height, width = shape
    coarse = rng.standard_normal((height // 48 + 2, width // 48 + 2)).astype(np.float32)
    coarse = cv2.GaussianBlur(coarse, (0, 0), 1.3)
    ranks = coarse.argsort(axis=None).argsort().reshape(coarse.shape).astype(np.float32) / coarse.size
    hills = cv2.resize(ranks, (width, height), interpolation=cv2.INTER_LINEAR)
    centres = np.empty((n, 2), np.float32)
    tries = rng.random((60 * n, 3))
    placed, apart = 0, radius
    for k in range(len(tries)):
        y, x = tries[k, 0] * height, tries[k, 1] * width
        if k % (6 * n) == 6 * n - 1:
            apart *= 0.93
        if tries[k, 2] > max(0.04, 1 - 1.35 * clustering * (1 - hills[int(y), int(x)])):
            continue
        if placed and np.min(np.square(centres[:placed] - (y, x)).sum(1)) < apart * apart:
            continue
        centres[placed] = y, x
        placed += 1
        if placed == n:
            break
    return centres[:placed]


def _population(
    mechanism: str | None, strength: float, individual: dict[str, float], n: int, rng: np.random.Generator
) -> Traits:
    """Traits of n cells: their own strength, spread about its mean traits, a phase and a nuclear shape."""
    own = np.clip(strength * (1 + 0.22 * rng.standard_normal(n)), 0.0, 1.0)
    traits = treated(mechanism, own)
    for name, factor in individual.items():
        traits[name] = traits[name] * (1 + (factor - 1) * own)
    for name, spread in _SPREAD.items():
        traits[name] = traits[name] * np.exp(spread * rng.standard_normal(n))
    cycle = np.where(rng.random(n) < 0.6, 0.88, 1.22)  # before and after the DNA has doubled
    traits["nucleus_area"] = traits["nucleus_area"] * cycle
    traits["cell_radius"] = traits["cell_radius"] * np.sqrt(cycle)
    traits["strength"] = own
    phase = np.zeros(n, np.int64)
    shape = np.zeros(n, np.int64)
    draw = rng.random((6, n))
    shape[draw[0] < traits["p_lobed"]] = 1
    shape[draw[1] < traits["p_multinucleate"]] = 2
    shape[draw[2] < traits["p_fragmented"]] = 3
    phase[draw[3] < traits["p_mitotic"]] = 1
    phase[(phase == 1) & (draw[3] < 0.3 * traits["p_mitotic"])] = 2
    phase[draw[4] < traits["p_monoaster"]] = 3
    phase[draw[5] < traits["p_apoptotic"]] = 4
    shape[phase > 0] = 0
    traits["phase"] = phase
    traits["shape"] = shape
    traits["round"] = (phase > 0).astype(np.float64)
    round_radius = np.select(
        [phase == 4, phase == 2], [rng.uniform(11, 15, n), rng.uniform(17, 20, n)], rng.uniform(16, 20.5, n)
    )
    traits["cell_radius"] = np.where(phase > 0, round_radius, traits["cell_radius"])
    traits["nucleus_elongation"] = np.maximum(traits["nucleus_elongation"], 1.0)
    traits["elongation"] = np.where(phase > 0, np.where(phase == 2, 1.65, 1.06), np.maximum(traits["elongation"], 1.0))
    traits["spikes"] = np.where(phase > 0, 0.0, traits["spikes"])
    traits["axis"] = rng.uniform(0, np.pi, n)
    return traits


def _outlines(traits: Traits, rng: np.random.Generator) -> Floats:
    """Reach (n, 128) of every cell by direction, px: an ellipse drawn out into a few corners."""
    n = len(traits["axis"])
    theta = np.linspace(0, 2 * np.pi, 128, endpoint=False)[None, :]
    turn = theta - traits["axis"][:, None]
    ratio = traits["elongation"][:, None]
    a, b = np.sqrt(ratio), 1 / np.sqrt(ratio)
    reach = 1 / np.sqrt(np.square(np.cos(turn) / a) + np.square(np.sin(turn) / b))
    corners = rng.integers(2, 6, n)
    angle = traits["axis"][:, None] + np.arange(5)[None] * (2 * np.pi / corners)[:, None] + rng.normal(0, 0.3, (n, 5))
    length = traits["spikes"][:, None] * rng.gamma(4.0, 0.25, (n, 5)) * (np.arange(5)[None] < corners[:, None])
    width = rng.uniform(0.13, 0.34, (n, 5))
    for k in range(5):
        away = np.angle(np.exp(1j * (theta - angle[:, k, None])))
        reach = reach * (1 + length[:, k, None] * np.exp(-np.abs(away) / width[:, k, None]))
    wave = sum(
        rng.normal(0, 0.03, (n, 1)) * np.cos(m * theta + rng.uniform(0, 2 * np.pi, (n, 1))) for m in (2, 3, 4, 5)
    )
    waist = np.where(traits["phase"] == 2, 0.34, 0.0)[:, None]
    reach = reach * (1 - waist * np.square(np.sin(turn)))
    still = np.where(traits["round"] > 0, 0.4, 1.0)[:, None]
    reach = reach * (1 + wave * still)
    return np.asarray(traits["cell_radius"][:, None] * reach, np.float32)


def _nearest(
    centres: Floats, reach: Floats, shape: tuple[int, int], warp: Floats | None = None
) -> tuple[Floats, Labels]:
    """Weighted Voronoi territories of star-shaped bodies.

    Parameters
    ----------
    centres : (n, 2) float32
    reach : (n, 128) float32
        Of body i by direction, px.
    shape : tuple of int
    warp : (H, W) float32, optional
        Added to the normalised distance: makes outlines irregular.

    Returns
    -------
    tuple of (H, W) float32, (H, W) int32
        Distance to the nearest body in units of its reach (inf where beyond 1), and its number, -1 where none.
    """
    import cv2

    height, width = shape
    best = np.full(shape, np.inf, np.float32)
    label = np.full(shape, -1, np.int32)
    for i, (cy, cx) in enumerate(centres):
        far = float(reach[i].max()) * 1.1 + 1
        y0, y1 = max(0, int(cy - far)), min(height, int(cy + far) + 2)
        x0, x1 = max(0, int(cx - far)), min(width, int(cx + far) + 2)
        if y0 >= y1 or x0 >= x1:
            continue
        dx, dy = np.meshgrid(
            np.arange(x0, x1, dtype=np.float32) - np.float32(cx), np.arange(y0, y1, dtype=np.float32) - np.float32(cy)
        )
        radius, angle = cv2.cartToPolar(dx, dy)
        distance = radius / reach[i][(angle * (128 / (2 * np.pi)) + 0.5).astype(np.int32) & 127]
        if warp is not None:
            distance += warp[y0:y1, x0:x1]
        here = best[y0:y1, x0:x1]
        closer = (distance < here) & (distance < 1)
        here[closer] = distance[closer]
        label[y0:y1, x0:x1][closer] = i
    return best, label


@dataclass
class _Bodies:
    """Pieces of nuclei and holes in them, in field coordinates."""

    owner: list[int]
    centre: list[tuple[float, float]]
    a: list[float]
    b: list[float]
    angle: list[float]
    bright: list[float]
    holes: list[tuple[float, float, float, float]]  # y, x, radius px, depth in [0, 1]

    def add(self, owner: int, y: float, x: float, a: float, b: float, angle: float, bright: float) -> None:
        self.owner.append(owner)
        self.centre.append((y, x))
        self.a.append(a)
        self.b.append(b)
        self.angle.append(angle)
        self.bright.append(bright)


def _nuclei(centres: Floats, traits: Traits, rng: np.random.Generator) -> _Bodies:
    """The pieces of every cell's nucleus, by its phase and shape."""
    bodies = _Bodies([], [], [], [], [], [], [])
    for i, (cy, cx) in enumerate(centres):
        area, ratio = float(traits["nucleus_area"][i]), float(traits["nucleus_elongation"][i])
        bright, axis = float(traits["nucleus_intensity"][i]), float(traits["axis"][i]) + rng.normal(0, 0.25)
        radius = np.sqrt(area / np.pi)
        phase, shape = int(traits["phase"][i]), int(traits["shape"][i])
        y, x = float(cy), float(cx)
        if phase == 1:
            bodies.add(i, y, x, rng.uniform(11, 14), rng.uniform(3.6, 4.8), axis + np.pi / 2, 2.6 * bright)
        elif phase == 2:
            gap = rng.uniform(9.5, 12)
            for side in (-1, 1):
                oy, ox = side * gap * np.sin(axis), side * gap * np.cos(axis)
                bodies.add(
                    i, y + oy, x + ox, rng.uniform(7.0, 8.6), rng.uniform(3.2, 4.2), axis + np.pi / 2, 2.5 * bright
                )
        elif phase == 3:
            arms = int(rng.integers(9, 13))
            ring = rng.uniform(6.5, 8.5)
            for k in range(arms):
                turn = axis + 2 * np.pi * k / arms + rng.normal(0, 0.12)
                off = ring + rng.normal(0, 0.7)
                bodies.add(
                    i,
                    y + off * np.sin(turn),
                    x + off * np.cos(turn),
                    rng.uniform(3.8, 5.2),
                    rng.uniform(1.6, 2.3),
                    turn,
                    2.1 * bright,
                )
        elif phase == 4:
            for _ in range(int(rng.integers(2, 6))):
                oy, ox = rng.normal(0, 4.0, 2)
                size = rng.uniform(2.5, 5.0)
                bodies.add(i, y + oy, x + ox, size, size * rng.uniform(0.8, 1.0), rng.uniform(0, np.pi), 2.9 * bright)
        elif shape == 3:
            pieces = int(rng.integers(6, 14))
            spread = radius * 0.84
            turn = rng.uniform(0, 2 * np.pi)
            for k in range(pieces):
                size = radius * rng.uniform(0.22, 0.46)
                off = spread * np.sqrt((k + 0.4) / pieces)
                turn += 2.4
                bodies.add(
                    i,
                    y + off * np.sin(turn),
                    x + off * np.cos(turn),
                    size,
                    size * rng.uniform(0.85, 1.0),
                    rng.uniform(0, np.pi),
                    bright * rng.uniform(0.8, 1.15),
                )
        elif shape == 2:
            pieces = 2 + min(3, int(rng.poisson(max(traits["nuclei"][i] - 2.0, 0.0))))
            turn = rng.uniform(0, 2 * np.pi)
            share = rng.dirichlet(np.full(pieces, 14.0)) * (1.45 if pieces == 2 else 1.6)
            for k in range(pieces):
                size = radius * np.sqrt(share[k])
                off = radius * (0.0, 0.0, 0.86, 0.98, 1.08, 1.2)[pieces]
                angle = turn + 2 * np.pi * k / pieces + rng.normal(0, 0.15)
                bodies.add(
                    i,
                    y + off * np.sin(angle),
                    x + off * np.cos(angle),
                    size * 1.1,
                    size / 1.1,
                    angle + np.pi / 2,
                    bright * rng.uniform(0.9, 1.1),
                )
        elif shape == 1:
            pieces = int(rng.integers(2, 5))
            turn = rng.uniform(0, 2 * np.pi)
            for k in range(pieces):
                size = radius * rng.uniform(0.62, 0.8)
                off = radius * rng.uniform(0.34, 0.56)
                angle = turn + 2 * np.pi * k / pieces + rng.normal(0, 0.3)
                bodies.add(i, y + off * np.sin(angle), x + off * np.cos(angle), size * 1.08, size / 1.08, angle, bright)
        else:
            bodies.add(i, y, x, radius * np.sqrt(ratio), radius / np.sqrt(ratio), axis, bright)
        if phase == 0 and shape != 3:
            for _ in range(int(rng.poisson(traits["nucleoli"][i]))):
                turn, off = rng.uniform(0, 2 * np.pi), 0.6 * radius * np.sqrt(rng.random())
                size = float(traits["nucleolus_radius"][i]) * rng.uniform(0.75, 1.25)
                bodies.holes.append((y + off * np.sin(turn), x + off * np.cos(turn), size, rng.uniform(0.28, 0.46)))
    return bodies


def _walk(
    start: Floats,
    heading: Floats,
    owner: Labels,
    length: Floats,
    wobble: Floats,
    axis: Floats,
    pull: Floats,
    label: Labels,
    weight: Floats,
    canvas: Floats,
    rng: np.random.Generator,
) -> None:
    """Persistent random walks that turn away at the border of their own cell, added to a canvas.

    Parameters
    ----------
    start : (f, 2) float32
        First points.
    heading, length, wobble, axis, pull, weight : (f,) float32
        First direction; px; turning per step; direction of the cell and how strongly it is followed; light per px.
    owner : (f,) int32
        Label of each walk's cell.
    label : (H, W) int32
    canvas : (H, W) float32
        Changed in place.
    """  # fmt: skip
    height, width = label.shape
    y, x, heading = start[:, 0].copy(), start[:, 1].copy(), heading.copy()
    side = np.where(rng.random(len(y)) < 0.5, -0.5, 0.5).astype(np.float32)
    spots, shares = [], []
    for step in range(int(length.max()) if len(length) else 0):
        going = step < length
        if not going.any():
            break
        if not going.all():
            y, x, heading, owner, length, wobble, axis, pull, weight, side = (
                v[going] for v in (y, x, heading, owner, length, wobble, axis, pull, weight, side)
            )
        ny, nx = y + np.sin(heading), x + np.cos(heading)
        iy = np.clip(ny.astype(np.int32), 0, height - 2)
        ix = np.clip(nx.astype(np.int32), 0, width - 2)
        inside = label[iy, ix] == owner
        if step == 0:  # a walk that starts elsewhere never was
            y, x, heading, owner, length, wobble, axis, pull, weight, side, ny, nx, iy, ix = (
                v[inside] for v in (y, x, heading, owner, length, wobble, axis, pull, weight, side, ny, nx, iy, ix)
            )
            inside = np.ones(len(y), bool)
        y, x = np.where(inside, ny, y), np.where(inside, nx, x)
        fy, fx = np.clip(ny - iy, 0, 1), np.clip(nx - ix, 0, 1)
        light = weight * inside
        flat = iy * width + ix
        spots += [flat, flat + 1, flat + width, flat + width + 1]
        low = light * (1 - fy)
        high = light * fy
        shares += [low * (1 - fx), low * fx, high * (1 - fx), high * fx]
        heading = heading + np.where(inside, 0.0, side) + wobble * rng.standard_normal(len(y), dtype=np.float32)
        heading = (heading + pull * np.sin(2 * (axis - heading))).astype(np.float32)
    if spots:
        light = np.bincount(np.concatenate(spots), np.concatenate(shares), canvas.size)
        canvas += light.astype(np.float32).reshape(canvas.shape)


def _noise(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> Floats:
    """Smooth noise of mean 0 and standard deviation 1 with grains of `scale` px."""
    import cv2

    shrink = max(1, int(scale))
    small = rng.standard_normal((shape[0] // shrink + 2, shape[1] // shrink + 2), dtype=np.float32)
    small = cv2.GaussianBlur(small, (0, 0), max(scale / shrink, 0.6))
    noise = small if shrink == 1 else cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    noise = noise[: shape[0], : shape[1]]
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


def draw_field(
    mechanism: str | None,
    strength: float,
    individual: dict[str, float],
    cells: float,
    shape: tuple[int, int],
    optics: Optics,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint16], pd.DataFrame]:
    """A field as the camera sees it, and the truth about its cells.

    Parameters
    ----------
    mechanism : str or None
        A key of `MECHANISMS`; None for untreated cells.
    strength : float
        Mean strength in [0, 1].
    individual : dict of str to float
        Factors on traits at full strength: what is a compound's own.
    cells : float
        Mean number of untreated cells in such a field.
    shape : (int, int)
        Height and width, px.
    optics : Optics
    rng : numpy.random.Generator

    Returns
    -------
    tuple of (H, W, 3) uint16, DataFrame
        Counts, channels as `CHANNELS`; one row per cell whose nucleus lies in the field, in the order of y, then x.
    """
    height, width = shape
    padded = (height + 2 * PAD_PX, width + 2 * PAD_PX)
    means = {k: float(v[0]) for k, v in treated(mechanism, np.array([strength])).items()}
    crowd = cells * means["density"] * individual.get("density", 1.0) * padded[0] * padded[1] / (height * width)
    n = max(3, round(crowd * (1 + 0.10 * rng.standard_normal())))
    apart = 2.0 * np.sqrt(means["nucleus_area"] / np.pi) * 1.12
    if means["p_multinucleate"] > 0.3:
        apart *= 1.2
    centres = _place(n, apart, means["clustering"], padded, rng)
    traits = _population(mechanism, strength, individual, len(centres), rng)
    layers, facts = _paint(centres, traits, padded, rng)
    counts = _photograph(layers, optics, rng)
    facts["center_y_px"] -= PAD_PX
    facts["center_x_px"] -= PAD_PX
    inside = facts["center_y_px"].between(0, height - 1) & facts["center_x_px"].between(0, width - 1)
    inside &= facts["nuclear_area_px"] > 0
    truth = facts[inside].sort_values(["center_y_px", "center_x_px"], ignore_index=True)
    return counts, truth


def _paint(
    centres: Floats, traits: Traits, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[Floats, pd.DataFrame]:
    """Light (H, W, 3) float32 in 12-bit steps of all cells before the optics, and what each cell is."""
    import cv2

    n = len(centres)
    # territories
    warp = 0.035 * _noise(shape, 3.0, rng) + 0.05 * _noise(shape, 9.0, rng)
    distance, label = _nearest(centres, _outlines(traits, rng), shape, warp)
    owner = np.where(label >= 0, label, n).astype(np.int32)  # n: nobody

    def of_cell(values: npt.NDArray[Any]) -> Floats:
        return np.append(values, 0.0).astype(np.float32)[owner]

    cell = label >= 0
    border = np.zeros(shape, np.uint8)
    border[:, 1:] |= label[:, 1:] != label[:, :-1]
    border[1:, :] |= label[1:, :] != label[:-1, :]
    depth = cv2.distanceTransform(1 - border, cv2.DIST_L2, 3)
    outside = cv2.distanceTransform(cell.astype(np.uint8), cv2.DIST_L2, 3)  # to the open
    round_cell = of_cell(traits["round"]) > 0
    dome = np.sqrt(np.clip(1 - np.square(np.where(np.isfinite(distance), distance, 1.0)), 0, 1))
    flat = (1 - np.exp(-depth / 7.0)) * (0.42 + 0.58 * dome)
    height_map = (
        np.where(round_cell, 2.3 * dome, flat) * cell * of_cell(np.where(traits["round"] > 0, 1.0, traits["thickness"]))
    )
    height_map = height_map.astype(np.float32)

    # nuclei
    bodies = _nuclei(centres, traits, rng)
    piece_centres = np.array(bodies.centre, np.float32).reshape(-1, 2)
    theta = np.linspace(0, 2 * np.pi, 128, endpoint=False)[None]
    turn = theta - np.array(bodies.angle)[:, None]
    a, b = np.array(bodies.a)[:, None], np.array(bodies.b)[:, None]
    reach = 1 / np.sqrt(np.square(np.cos(turn) / a) + np.square(np.sin(turn) / b))
    for m in (2, 3, 4):
        reach = reach * (
            1 + rng.normal(0, 0.03 / m * 2, (len(reach), 1)) * np.cos(m * theta + rng.uniform(0, 6.28, (len(reach), 1)))
        )
    near, piece = _nearest(piece_centres, reach.astype(np.float32), shape)
    in_nucleus = piece >= 0
    piece_owner = np.append(np.array(bodies.owner, np.int64), n)[piece]
    bright = np.append(np.array(bodies.bright), 0.0)[piece].astype(np.float32)
    fine, coarse = _noise(shape, 1.1, rng), _noise(shape, 2.3, rng)
    grain = np.append(traits["grain"], 0.0)[piece_owner].astype(np.float32)
    contrast = np.append(traits["chromatin"], 0.0)[piece_owner].astype(np.float32)
    texture = 1 + contrast * (grain * 1.6 * fine + (1 - grain) * 1.2 * coarse)
    body = np.where(in_nucleus, np.sqrt(np.clip(1.02 - np.power(np.where(in_nucleus, near, 1), 6), 0, 1)), 0)
    holes = np.zeros(shape, np.uint8)
    aggresome = np.zeros(shape, np.uint8)
    for y, x, size, deep in bodies.holes:
        cv2.circle(holes, (round(x * 16), round(y * 16)), round(size * 16), int(255 * deep), -1, cv2.LINE_AA, 4)
    for i in np.flatnonzero((traits["aggresome"] > 2.0) & (traits["phase"] == 0)):
        turn_i, radius = rng.uniform(0, 2 * np.pi), float(np.sqrt(traits["nucleus_area"][i] / np.pi))
        y, x = centres[i] + np.array([np.sin(turn_i), np.cos(turn_i)]) * radius * 0.95
        size = float(traits["aggresome"][i] * rng.uniform(0.8, 1.15))
        cv2.circle(aggresome, (round(x * 16), round(y * 16)), round(size * 16), 255, -1, cv2.LINE_AA, 4)
    dent = cv2.GaussianBlur(aggresome, (0, 0), 1.5).astype(np.float32) / 255
    dna = (
        bright
        * texture
        * body
        * (1 - cv2.GaussianBlur(holes, (0, 0), 0.9).astype(np.float32) / 255)
        * (1 - 0.85 * dent)
    )

    # microtubules
    count = np.where(traits["phase"] == 4, 0, np.where(traits["phase"] > 0, 55, traits["filaments"])).astype(np.int64)
    bundled = traits["bundling"] * (traits["round"] == 0)
    count = np.maximum(0, np.round(count * (1 - 0.72 * bundled))).astype(np.int64)
    who = np.repeat(np.arange(n), count)
    nuclear_radius = np.sqrt(traits["nucleus_area"] / np.pi)
    toward = rng.uniform(0, 2 * np.pi, n)
    organiser = centres + (nuclear_radius * 0.75)[:, None] * np.stack([np.sin(toward), np.cos(toward)], 1)
    organiser = np.where((traits["round"] > 0)[:, None], centres, organiser)
    spread = rng.random(len(who))
    free = spread < np.where(traits["round"][who] > 0, 0.0, 0.72 + 0.25 * bundled[who])
    around = rng.uniform(0, 2 * np.pi, len(who))
    off = (nuclear_radius * 0.55)[who] + np.maximum(traits["cell_radius"] * 0.8 - nuclear_radius * 0.55, 4)[
        who
    ] * np.square(rng.random(len(who)))
    start = np.where(
        free[:, None],
        centres[who] + off[:, None] * np.stack([np.sin(around), np.cos(around)], 1),
        organiser[who] + rng.normal(0, 3.2, (len(who), 2)),
    )
    spindle = np.isin(traits["phase"][who], (1, 2))
    pole = np.where(rng.random(len(who)) < 0.5, -1.0, 1.0) * np.where(traits["phase"][who] == 2, 12.0, 9.0)
    line = np.stack([np.sin(traits["axis"][who]), np.cos(traits["axis"][who])], 1)
    start = np.where(spindle[:, None], centres[who] + pole[:, None] * line + rng.normal(0, 1.0, (len(who), 2)), start)
    heading = np.where(free, around + rng.normal(0, 1.1, len(who)), rng.uniform(0, 2 * np.pi, len(who)))
    tangent = around + np.pi / 2 * np.where(rng.random(len(who)) < 0.5, -1, 1) + rng.normal(0, 0.3, len(who))
    heading = np.where(rng.random(len(who)) < bundled[who], tangent, heading)
    heading = np.where(
        spindle, np.arctan2(-pole * line[:, 0], -pole * line[:, 1]) + rng.normal(0, 0.6, len(who)), heading
    )
    length = traits["filament_length"][who] * rng.gamma(4.0, 0.25, len(who))
    length = np.where(traits["round"][who] > 0, rng.uniform(7, 14, len(who)), length)
    light = np.where(bundled[who] * rng.random(len(who)) > 0.3, rng.uniform(2.5, 6.0, len(who)), 1.0)
    tubes = np.zeros(shape, np.float32)
    as32 = np.float32
    _walk(
        start.astype(as32), heading.astype(as32), who.astype(np.int32), length.astype(as32),
        (traits["wobble"][who] * np.where(light > 1, 0.6, 1.0)).astype(as32), traits["axis"][who].astype(as32),
        np.where(traits["round"][who] > 0, 0.0, 0.018 * (traits["elongation"][who] - 1)).astype(as32),
        label, light.astype(as32), tubes, rng,
    )  # fmt: skip

    # actin fibres
    count = np.round(traits["stress_fibres"] * (traits["round"] == 0) * rng.gamma(3.0, 1 / 3, n)).astype(np.int64)
    fibre_count = count
    who = np.repeat(np.arange(n), count)
    disc = rng.normal(0, 0.42, (len(who), 2)) * traits["cell_radius"][who][:, None]
    side = np.where(rng.random(len(who)) < 0.5, 0.0, np.pi)
    own_axis = traits["axis"] + rng.normal(0, 0.25, n)
    fibres = np.zeros(shape, np.float32)
    _walk(
        (centres[who] + disc).astype(as32), (own_axis[who] + side + rng.normal(0, 0.09, len(who))).astype(as32),
        who.astype(np.int32), (traits["cell_radius"][who] * rng.uniform(0.4, 1.3, len(who))).astype(as32),
        np.full(len(who), 0.008, as32), own_axis[who].astype(as32), np.zeros(len(who), as32), label,
        rng.gamma(1.5, 0.5, len(who)).astype(as32), fibres, rng,
    )  # fmt: skip

    # tubulin
    pool, shape_noise = of_cell(traits["tubulin_pool"]), _noise(shape, 5.0, rng)
    nucleus_shadow = 1 - 0.22 * cv2.GaussianBlur((in_nucleus & ~round_cell).astype(np.float32), (0, 0), 1.6)
    perinuclear = np.exp(-0.5 * np.square(np.clip(np.where(np.isfinite(distance), distance, 9), 0, 9) / 0.42)).astype(
        np.float32
    )
    diffuse = height_map * (0.55 + 0.75 * perinuclear) * (1 + 0.08 * shape_noise) * nucleus_shadow
    tubulin = of_cell(traits["tubulin"]) * (
        2.6 * pool * diffuse
        + np.where(round_cell, 0.55, 1.0) * 0.54 * tubes * np.clip(0.45 + 0.7 * height_map, 0, 1.4)
        + np.where(round_cell, 0.9 * height_map, 0.0)
    )
    tubulin = tubulin + 0.5 * dent * cell

    # actin
    line_width = np.exp(-np.square(depth / 1.7)) * cell
    open_side = np.exp(-np.square(np.clip(outside - 1, 0, None) / 2.2)) * cell
    shared_side = line_width * (outside > 3.0)
    patchy = np.clip(_noise(shape, 8.0, rng) * 0.8 + 0.15, 0, 1.6)
    frill = np.clip(1 + 0.5 * fine, 0, 2)
    actin = of_cell(traits["actin"]) * (
        0.85 * height_map * (1 + 0.10 * shape_noise + 0.06 * coarse)
        + 0.25 * cell * (1 + 0.08 * coarse)
        + 0.5 * fibres
        + 0.75 * of_cell(traits["cortex"]) * open_side * (1 + 0.35 * shape_noise)
        + 0.9 * of_cell(traits["junctions"]) * shared_side * (1 + 0.25 * shape_noise)
        + 0.9 * of_cell(traits["ruffles"]) * np.exp(-np.square(outside / 6.5)) * patchy * frill * cell * ~round_cell
        + np.where(round_cell, 0.7 * height_map + 1.1 * line_width, 0.0)
    )
    spots = np.zeros(shape, np.float32)
    count = rng.poisson(traits["puncta"])
    who = np.repeat(np.arange(n), count)
    turn_p = rng.uniform(0, 2 * np.pi, len(who))
    off = traits["cell_radius"][who] * (0.35 + 0.75 * np.sqrt(rng.random(len(who))))
    spot_y, spot_x = centres[who, 0] + off * np.sin(turn_p), centres[who, 1] + off * np.cos(turn_p)
    puncta = np.zeros(shape, np.uint8)
    for y, x, size, value in zip(
        spot_y, spot_x, rng.uniform(0.9, 2.6, len(who)), rng.uniform(60, 200, len(who)), strict=True
    ):
        cv2.circle(puncta, (round(x * 16), round(y * 16)), round(size * 16), int(value), -1, cv2.LINE_AA, 4)
    near_cell = cv2.dilate(cell.astype(np.uint8), np.ones((7, 7), np.uint8))
    spots = cv2.GaussianBlur(puncta, (0, 0), 0.9).astype(np.float32) / 255 * near_cell
    actin = actin + 3.2 * spots

    # debris
    dirt = np.zeros(shape, np.uint8)
    for _ in range(int(rng.poisson(shape[0] * shape[1] / 250_000))):
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        axes = (round(rng.uniform(1, 3.5) * 16), round(rng.uniform(1, 2.5) * 16))
        cv2.ellipse(
            dirt,
            (round(x * 16), round(y * 16)),
            axes,
            rng.uniform(0, 180),
            0,
            360,
            int(rng.uniform(60, 220)),
            -1,
            cv2.LINE_AA,
            4,
        )
    dirt_light = cv2.GaussianBlur(dirt, (0, 0), 1.2).astype(np.float32) / 255

    light = np.stack(
        [
            _GAIN_STEPS[0] * (dna + 0.9 * dirt_light) + 5.0 * height_map,
            _GAIN_STEPS[1] * (tubulin + 1.1 * dirt_light * rng.random()),
            _GAIN_STEPS[2] * (actin + 1.4 * dirt_light * rng.random()),
        ],
        axis=-1,
    ).astype(np.float32)
    # rounded cells stand above the plane in focus
    above = cv2.GaussianBlur((round_cell & cell).astype(np.float32), (0, 0), 2.5)[..., None]
    light = light * (1 - 0.75 * above) + cv2.GaussianBlur(light, (0, 0), 1.7) * (0.75 * above)

    areas = np.bincount(piece_owner.ravel(), minlength=n + 1)[:n]
    rows, columns = np.nonzero(in_nucleus)
    mine = piece_owner[rows, columns]
    center_y = np.bincount(mine, rows, n) / np.maximum(areas, 1)
    center_x = np.bincount(mine, columns, n) / np.maximum(areas, 1)
    flat_owner = owner.ravel()
    facts = pd.DataFrame(
        {
            "center_y_px": center_y,
            "center_x_px": center_x,
            "strength": traits["strength"],
            "phase": np.array(PHASES)[traits["phase"]],
            "nucleus": np.array(SHAPES)[traits["shape"]],
            "fragmented": traits["shape"] == 3,
            "nuclear_pieces": np.bincount(np.array(bodies.owner, np.int64), minlength=n),
            "nuclear_area_px": areas,
            "nuclear_elongation": traits["nucleus_elongation"],
            "chromatin_contrast": traits["chromatin"],
            "cell_area_px": np.bincount(flat_owner, minlength=n + 1)[:n],
            "cell_elongation": traits["elongation"],
            "microtubules": np.where(traits["phase"] == 4, 0, traits["filaments"]),
            "bundling": traits["bundling"],
            "tubulin_amount": np.bincount(flat_owner, tubulin.ravel(), n + 1)[:n],
            "tubulin_pool": traits["tubulin_pool"],
            "actin_amount": np.bincount(flat_owner, actin.ravel(), n + 1)[:n],
            "stress_fibres": fibre_count,
            "ruffles": traits["ruffles"],
            "junctions": traits["junctions"],
            "actin_puncta": np.bincount(who, minlength=n),
            "aggresome_radius_px": traits["aggresome"],
        }
    )
    return light, facts


def _photograph(light: Floats, optics: Optics, rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Light through lens and camera: (H + 2 pad, W + 2 pad, 3) steps -> (H, W, 3) counts."""
    import cv2

    inner = slice(PAD_PX, -PAD_PX)
    counts = np.empty((light.shape[0] - 2 * PAD_PX, light.shape[1] - 2 * PAD_PX, 3), np.uint16)
    for c in range(3):
        seen = cv2.GaussianBlur(light[..., c], (0, 0), optics.blur_px)
        seen = 0.88 * seen + 0.12 * cv2.GaussianBlur(seen, (0, 0), 7.0)  # light from out of focus
        seen = seen[inner, inner]
        y = np.linspace(-0.5, 0.5, seen.shape[0], dtype=np.float32)[:, None]
        x = np.linspace(-0.5, 0.5, seen.shape[1], dtype=np.float32)[None]
        loss, at_y, at_x = optics.shade[c]
        shade = 1 - np.float32(2 * loss) * (np.square(y - at_y) + np.square(x - at_x))
        steps = (seen * optics.gain[c] + optics.background[c]) * shade
        sd = np.sqrt(np.maximum(steps, 0) / ELECTRONS_PER_STEP + READ_NOISE_STEPS**2)
        steps = steps + OFFSET_STEPS + sd * rng.standard_normal(steps.shape, dtype=np.float32)
        counts[..., c] = np.clip(np.rint(steps), 0, 4095).astype(np.uint16) * STEP
    return counts
