"""Drawn cells: one field of a phantom screen, from the traits of its cells to the counts of the camera.

Everything is drawn for a whole field at once: territories as a weighted Voronoi diagram of star-shaped bodies,
filaments as persistent random walks that stay in their cell, then optics, shading and a 12-bit camera.

Image axes are (y, x) in px, angles in radians from x towards y. Intensities before the camera are in 12-bit steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae.patches import Floats
from cytovae.phantom import traits as kinds
from cytovae.phantom.traits import PHASES, SHAPES, Traits, population, treated

Labels = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]

CHANNELS = ("DNA", "Tubulin", "Actin")
PAD_PX = 72
"""Margin drawn around a field and cut off, so that cells cross its border."""

_DIRECTIONS = np.linspace(0, 2 * np.pi, 128, endpoint=False)
_SUBPIXEL = 4  # bits: cv2 draws to a sixteenth of a pixel


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

_LAYER_STEPS = (262.0, 66.0, 205.0)  # 12-bit steps of a usual nucleus, microtubule layer and actin layer


def _place(n: int, radius: float, clustering: float, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Centres (n, 2) that keep apart by `radius` at least, the more in groups the larger `clustering`."""
    import cv2

    height, width = shape
    coarse = rng.standard_normal((height // 48 + 2, width // 48 + 2)).astype(np.float32)
    smooth = np.asarray(cv2.GaussianBlur(coarse, (0, 0), 1.3))
    ranks = smooth.argsort(axis=None).argsort().reshape(smooth.shape).astype(np.float32) / smooth.size
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


def _outlines(traits: Traits, rng: np.random.Generator) -> Floats:
    """Reach (n, 128) of every cell by direction, px: an ellipse drawn out into a few corners."""
    n = len(traits["axis"])
    theta = _DIRECTIONS[None, :]
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


@dataclass(frozen=True)
class _Piece:
    """An ellipse of chromatin: cell, centre, half axes (px), direction of the first, brightness."""

    cell: int
    y: float
    x: float
    a: float
    b: float
    angle: float
    bright: float


_Hole = tuple[float, float, float, float]  # y, x, radius (px), depth in [0, 1]


def _nuclei(centres: Floats, traits: Traits, rng: np.random.Generator) -> tuple[list[_Piece], list[_Hole]]:
    """The pieces of every cell's nucleus by its phase and shape, and its nucleoli."""
    pieces: list[_Piece] = []
    nucleoli: list[_Hole] = []
    for i, (cy, cx) in enumerate(centres):
        y, x = float(cy), float(cx)
        phase, shape = int(traits["phase"][i]), int(traits["shape"][i])
        bright = float(traits["nucleus_intensity"][i])
        axis = float(traits["axis"][i]) + rng.normal(0, 0.25)
        radius = float(np.sqrt(traits["nucleus_area"][i] / np.pi))

        def add(
            turn: float,
            off: float,
            a: float,
            b: float,
            angle: float,
            light: float,
            i: int = i,
            y: float = y,
            x: float = x,
        ) -> None:
            pieces.append(_Piece(i, y + off * np.sin(turn), x + off * np.cos(turn), a, b, angle, light))

        if phase == kinds.METAPHASE:
            add(0, 0, rng.uniform(11, 14), rng.uniform(3.6, 4.8), axis + np.pi / 2, 2.6 * bright)
        elif phase == kinds.ANAPHASE:
            gap = rng.uniform(9.5, 12)
            for side in (-1, 1):
                add(axis, side * gap, rng.uniform(7.0, 8.6), rng.uniform(3.2, 4.2), axis + np.pi / 2, 2.5 * bright)
        elif phase == kinds.MONOASTER:  # chromosomes in a ring around the one pole
            arms = int(rng.integers(9, 13))
            ring = rng.uniform(6.5, 8.5)
            for k in range(arms):
                turn = axis + 2 * np.pi * k / arms + rng.normal(0, 0.12)
                off = ring + rng.normal(0, 0.7)
                add(turn, off, rng.uniform(3.8, 5.2), rng.uniform(1.6, 2.3), turn, 2.1 * bright)
        elif phase == kinds.APOPTOTIC:
            for _ in range(int(rng.integers(2, 6))):
                oy, ox = rng.normal(0, 4.0, 2)
                size = rng.uniform(2.5, 5.0)
                b, angle = size * rng.uniform(0.8, 1.0), rng.uniform(0, np.pi)
                pieces.append(_Piece(i, y + oy, x + ox, size, b, angle, 2.9 * bright))
        elif shape == kinds.FRAGMENTED:  # micronuclei like grapes, on a sunflower spiral
            n = int(rng.integers(6, 14))
            turn = rng.uniform(0, 2 * np.pi)
            for k in range(n):
                size = radius * rng.uniform(0.22, 0.46)
                off = radius * 0.84 * np.sqrt((k + 0.4) / n)
                turn += 2.4
                b, angle = size * rng.uniform(0.85, 1.0), rng.uniform(0, np.pi)
                add(turn, off, size, b, angle, bright * rng.uniform(0.8, 1.15))
        elif shape == kinds.MULTINUCLEATE:
            n = 2 + min(3, int(rng.poisson(max(traits["nuclei"][i] - 2.0, 0.0))))
            first = rng.uniform(0, 2 * np.pi)
            share = rng.dirichlet(np.full(n, 14.0)) * (1.45 if n == 2 else 1.6)
            for k in range(n):
                size = radius * np.sqrt(share[k])
                off = radius * {2: 0.86, 3: 0.98, 4: 1.08, 5: 1.2}[n]
                turn = first + 2 * np.pi * k / n + rng.normal(0, 0.15)
                add(turn, off, size * 1.1, size / 1.1, turn + np.pi / 2, bright * rng.uniform(0.9, 1.1))
        elif shape == kinds.LOBED:
            n = int(rng.integers(2, 5))
            first = rng.uniform(0, 2 * np.pi)
            for k in range(n):
                size = radius * rng.uniform(0.62, 0.8)
                off = radius * rng.uniform(0.34, 0.56)
                turn = first + 2 * np.pi * k / n + rng.normal(0, 0.3)
                add(turn, off, size * 1.08, size / 1.08, turn, bright)
        else:
            ratio = float(np.sqrt(traits["nucleus_elongation"][i]))
            add(0, 0, radius * ratio, radius / ratio, axis, bright)
        if phase == 0 and shape != kinds.FRAGMENTED:
            for _ in range(int(rng.poisson(traits["nucleoli"][i]))):
                turn, off = rng.uniform(0, 2 * np.pi), 0.6 * radius * np.sqrt(rng.random())
                size = float(traits["nucleolus_radius"][i]) * rng.uniform(0.75, 1.25)
                nucleoli.append((y + off * np.sin(turn), x + off * np.cos(turn), size, rng.uniform(0.28, 0.46)))
    return pieces, nucleoli


@dataclass
class _Walks:
    """Filaments to be: f walks, one px a step.

    Parameters
    ----------
    start : (f, 2)
        First points.
    heading : (f,)
        First directions.
    owner : (f,)
        Number of each walk's cell.
    length : (f,)
        Px.
    wobble : (f,)
        Turning per step, standard deviation in radians.
    axis, pull : (f,)
        A direction to keep to, either way, and how strongly.
    light : (f,)
        Per px.
    """

    start: npt.NDArray[Any]
    heading: npt.NDArray[Any]
    owner: npt.NDArray[Any]
    length: npt.NDArray[Any]
    wobble: npt.NDArray[Any]
    axis: npt.NDArray[Any]
    pull: npt.NDArray[Any]
    light: npt.NDArray[Any]


def _walk(walks: _Walks, label: Labels, rng: np.random.Generator) -> Floats:
    """Light (H, W) of persistent random walks that turn away at the border of their own cell (`label`)."""
    height, width = label.shape
    y, x = walks.start.astype(np.float32).T
    heading, length, wobble, axis, pull, light = (
        v.astype(np.float32) for v in (walks.heading, walks.length, walks.wobble, walks.axis, walks.pull, walks.light)
    )
    owner = walks.owner.astype(np.int32)
    side = np.where(rng.random(len(y)) < 0.5, -0.5, 0.5).astype(np.float32)
    begun = label[_pixel(y + np.sin(heading), height), _pixel(x + np.cos(heading), width)] == owner
    spots, shares = [], []
    for step in range(int(length.max()) if len(length) else 0):
        going = step < length if step else begun  # a walk that would start in another cell never was
        if not going.all():
            y, x, heading, owner = y[going], x[going], heading[going], owner[going]
            length, wobble, axis, pull, light, side = (v[going] for v in (length, wobble, axis, pull, light, side))
        if not len(y):
            break
        ny, nx = y + np.sin(heading), x + np.cos(heading)
        iy, ix = _pixel(ny, height), _pixel(nx, width)
        inside = label[iy, ix] == owner
        y, x = np.where(inside, ny, y), np.where(inside, nx, x)
        fy, fx = np.clip(ny - iy, 0, 1), np.clip(nx - ix, 0, 1)
        low, high = light * inside * (1 - fy), light * inside * fy  # shared out among four pixels
        flat = iy * width + ix
        spots += [flat, flat + 1, flat + width, flat + width + 1]
        shares += [low * (1 - fx), low * fx, high * (1 - fx), high * fx]
        heading = heading + np.where(inside, 0.0, side) + wobble * rng.standard_normal(len(y), dtype=np.float32)
        heading = (heading + pull * np.sin(2 * (axis - heading))).astype(np.float32)
    if not spots:
        return np.zeros(label.shape, np.float32)
    canvas = np.bincount(np.concatenate(spots), np.concatenate(shares), label.size)
    return canvas.astype(np.float32).reshape(label.shape)


def _pixel(at: npt.NDArray[Any], size: int) -> Labels:
    """The pixel a coordinate lies in, with one more beyond it in the image."""
    return np.clip(at.astype(np.int32), 0, size - 2)


def _noise(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> Floats:
    """Smooth noise of mean 0 and standard deviation 1 with grains of `scale` px."""
    import cv2

    shrink = max(1, int(scale))
    small = rng.standard_normal((shape[0] // shrink + 2, shape[1] // shrink + 2), dtype=np.float32)
    noise = np.asarray(cv2.GaussianBlur(small, (0, 0), max(scale / shrink, 0.6)))
    if shrink > 1:
        noise = np.asarray(cv2.resize(noise, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))
    noise = noise[: shape[0], : shape[1]]
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


@dataclass(frozen=True)
class _Ground:
    """Who stands where in a field; all maps (H, W)."""

    n: int
    cell: npt.NDArray[np.bool_]  # inside any cell
    label: Labels  # its number, -1 outside
    owner: Labels  # the same with n outside
    distance: Floats  # from the cell's centre in units of its reach, inf outside
    depth: Floats  # px to the cell's border
    outside: Floats  # px to the open
    rounded: npt.NDArray[np.bool_]  # inside a cell that has rounded up
    thickness: Floats  # of the cell layer, 1 a usual one

    def spread(self, values: npt.NDArray[Any]) -> Floats:
        """Each cell's value (n,) on its territory, 0 outside."""
        return np.append(values, 0.0).astype(np.float32)[self.owner]


def _territories(centres: Floats, traits: Traits, shape: tuple[int, int], rng: np.random.Generator) -> _Ground:
    """Cytoplasm shaped by its neighbours."""
    import cv2

    n = len(centres)
    warp = 0.035 * _noise(shape, 3.0, rng) + 0.05 * _noise(shape, 9.0, rng)
    distance, label = _nearest(centres, _outlines(traits, rng), shape, warp)
    owner = np.where(label >= 0, label, n).astype(np.int32)
    cell = label >= 0
    border = np.zeros(shape, np.uint8)
    border[:, 1:] |= label[:, 1:] != label[:, :-1]
    border[1:, :] |= label[1:, :] != label[:-1, :]
    depth = np.asarray(cv2.distanceTransform(1 - border, cv2.DIST_L2, 3), np.float32)
    outside = np.asarray(cv2.distanceTransform(cell.astype(np.uint8), cv2.DIST_L2, 3), np.float32)
    rounded = (np.append(traits["round"], 0.0).astype(np.float32)[owner]) > 0
    dome = np.sqrt(np.clip(1 - np.square(np.where(cell, distance, 1.0)), 0, 1))
    flat = (1 - np.exp(-depth / 7.0)) * (0.42 + 0.58 * dome)
    own = np.append(np.where(traits["round"] > 0, 1.0, traits["thickness"]), 0.0).astype(np.float32)[owner]
    thickness = (np.where(rounded, 2.3 * dome, flat) * cell * own).astype(np.float32)
    return _Ground(n, cell, label, owner, distance, depth, outside, rounded, thickness)


def _dots(shape: tuple[int, int], dots: list[tuple[float, float, float, float]], blur_px: float) -> Floats:
    """Soft discs (H, W) in [0, 1] from their (y, x, radius px, light in [0, 1]); the last drawn lies on top."""
    import cv2

    canvas = np.zeros(shape, np.uint8)
    unit = 1 << _SUBPIXEL
    for y, x, radius, light in dots:
        centre = (round(x * unit), round(y * unit))
        cv2.circle(canvas, centre, round(radius * unit), int(255 * light), -1, cv2.LINE_AA, _SUBPIXEL)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), blur_px).astype(np.float32) / 255, np.float32)


@dataclass(frozen=True)
class _Chromatin:
    """The DNA of a field and what goes with it; maps (H, W)."""

    light: Floats
    owner: npt.NDArray[np.int64]  # number of the cell, n outside nuclei
    inside: npt.NDArray[np.bool_]
    aggresome: Floats
    fine: Floats  # noise that the nuclei share with the cytoplasm
    coarse: Floats
    n_pieces: npt.NDArray[np.int64]  # (n,)
    nuclei: pd.DataFrame


def _chromatin(centres: Floats, traits: Traits, shape: tuple[int, int], rng: np.random.Generator) -> _Chromatin:
    """Nuclei with texture, nucleoli, and dents where an inclusion presses on them."""
    n = len(centres)
    pieces, nucleoli = _nuclei(centres, traits, rng)
    turn = _DIRECTIONS[None] - np.array([p.angle for p in pieces])[:, None]
    a, b = np.array([p.a for p in pieces])[:, None], np.array([p.b for p in pieces])[:, None]
    reach = 1 / np.sqrt(np.square(np.cos(turn) / a) + np.square(np.sin(turn) / b))
    for m in (2, 3, 4):
        height = rng.normal(0, 0.03 / m * 2, (len(reach), 1))
        reach = reach * (1 + height * np.cos(m * _DIRECTIONS[None] + rng.uniform(0, 6.28, (len(reach), 1))))
    spots = np.array([(p.y, p.x) for p in pieces], np.float32).reshape(-1, 2)
    near, piece = _nearest(spots, reach.astype(np.float32), shape)
    inside = piece >= 0
    cells = np.array([p.cell for p in pieces], np.int64)
    owner = np.append(cells, n)[piece]
    bright = np.append(np.array([p.bright for p in pieces]), 0.0)[piece].astype(np.float32)
    fine, coarse = _noise(shape, 1.1, rng), _noise(shape, 2.3, rng)
    grain = np.append(traits["grain"], 0.0)[owner].astype(np.float32)
    contrast = np.append(traits["chromatin"], 0.0)[owner].astype(np.float32)
    texture = 1 + contrast * (grain * 1.6 * fine + (1 - grain) * 1.2 * coarse)
    body = np.where(inside, np.sqrt(np.clip(1.02 - np.power(np.where(inside, near, 1), 6), 0, 1)), 0)
    inclusions = []
    for i in np.flatnonzero((traits["aggresome"] > 2.0) & (traits["phase"] == 0)):
        toward, radius = rng.uniform(0, 2 * np.pi), float(np.sqrt(traits["nucleus_area"][i] / np.pi))
        y, x = centres[i] + np.array([np.sin(toward), np.cos(toward)]) * radius * 0.95
        inclusions.append((y, x, float(traits["aggresome"][i] * rng.uniform(0.8, 1.15)), 1.0))
    aggresome = _dots(shape, inclusions, 1.5)
    light = bright * texture * body * (1 - _dots(shape, nucleoli, 0.9)) * (1 - 0.85 * aggresome)
    nuclei = _whole_nuclei(piece, cells, traits["shape"][cells] == kinds.MULTINUCLEATE)
    return _Chromatin(light, owner, inside, aggresome, fine, coarse, np.bincount(cells, minlength=n), nuclei)


def _whole_nuclei(piece: Labels, cells: npt.NDArray[np.int64], apart: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """Cell, centroid and area of every nucleus: each piece of a multinucleate cell, else all pieces of a cell at once.

    Parameters
    ----------
    piece : (H, W) int32
        Number of the piece, -1 outside nuclei.
    cells, apart : (p,)
        Cell of each piece, and whether the piece is a nucleus of its own.
    """
    _, first = np.unique(cells, return_index=True)
    nucleus = np.where(apart, np.arange(len(cells)), first[np.searchsorted(np.unique(cells), cells)])
    rows, columns = np.nonzero(piece >= 0)
    mine = nucleus[piece[rows, columns]]
    area = np.bincount(mine, minlength=len(cells))
    seen = np.flatnonzero(area)
    return pd.DataFrame(
        {
            "cell": cells[seen],
            "center_y_px": np.bincount(mine, rows, len(cells))[seen] / area[seen],
            "center_x_px": np.bincount(mine, columns, len(cells))[seen] / area[seen],
            "area_px": area[seen],
        }
    )


def _microtubules(
    centres: Floats, traits: Traits, ground: _Ground, rng: np.random.Generator
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Light (H, W) of all microtubules, and how many each cell has.

    Most start about the nucleus, the others at the organising centre; in mitosis they start at the poles and run
    towards the chromosomes; bundles run around the nucleus and carry the light of several.
    """
    n = len(centres)
    mitotic = np.where(traits["phase"] == kinds.APOPTOTIC, 0, 55)
    count = np.where(traits["phase"] > 0, mitotic, traits["filaments"]).astype(np.int64)
    bundled = traits["bundling"] * (traits["round"] == 0)
    count = np.maximum(0, np.round(count * (1 - 0.72 * bundled))).astype(np.int64)
    who = np.repeat(np.arange(n), count)
    f = len(who)
    rounded, phase = traits["round"][who] > 0, traits["phase"][who]

    nuclear_radius = np.sqrt(traits["nucleus_area"] / np.pi)
    toward = rng.uniform(0, 2 * np.pi, n)
    organiser = centres + (nuclear_radius * 0.75)[:, None] * np.stack([np.sin(toward), np.cos(toward)], 1)
    organiser = np.where((traits["round"] > 0)[:, None], centres, organiser)
    free = rng.random(f) < np.where(rounded, 0.0, 0.72 + 0.25 * bundled[who])
    around = rng.uniform(0, 2 * np.pi, f)
    ring = np.maximum(traits["cell_radius"] * 0.8 - nuclear_radius * 0.55, 4)
    off = (nuclear_radius * 0.55)[who] + ring[who] * np.square(rng.random(f))
    start = np.where(
        free[:, None],
        centres[who] + off[:, None] * np.stack([np.sin(around), np.cos(around)], 1),
        organiser[who] + rng.normal(0, 3.2, (f, 2)),
    )
    spindle = np.isin(phase, (kinds.METAPHASE, kinds.ANAPHASE))
    pole = np.where(rng.random(f) < 0.5, -1.0, 1.0) * np.where(phase == kinds.ANAPHASE, 12.0, 9.0)
    line = np.stack([np.sin(traits["axis"][who]), np.cos(traits["axis"][who])], 1)
    start = np.where(spindle[:, None], centres[who] + pole[:, None] * line + rng.normal(0, 1.0, (f, 2)), start)

    heading = np.where(free, around + rng.normal(0, 1.1, f), rng.uniform(0, 2 * np.pi, f))
    tangent = around + np.pi / 2 * np.where(rng.random(f) < 0.5, -1, 1) + rng.normal(0, 0.3, f)
    heading = np.where(rng.random(f) < bundled[who], tangent, heading)
    inward = np.arctan2(-pole * line[:, 0], -pole * line[:, 1])
    heading = np.where(spindle, inward + rng.normal(0, 0.6, f), heading)
    length = traits["filament_length"][who] * rng.gamma(4.0, 0.25, f)
    length = np.where(rounded, rng.uniform(7, 14, f), length)
    light = np.where(bundled[who] * rng.random(f) > 0.3, rng.uniform(2.5, 6.0, f), 1.0)
    walks = _Walks(
        start=start,
        heading=heading,
        owner=who,
        length=length,
        wobble=traits["wobble"][who] * np.where(light > 1, 0.6, 1.0),
        axis=traits["axis"][who],
        pull=np.where(rounded, 0.0, 0.018 * (traits["elongation"][who] - 1)),
        light=light,
    )
    return _walk(walks, ground.label, rng), count


def _stress_fibres(
    centres: Floats, traits: Traits, ground: _Ground, rng: np.random.Generator
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Light (H, W) of all stress fibres, nearly straight and parallel in a cell, and how many each cell has."""
    n = len(centres)
    count = np.round(traits["stress_fibres"] * (traits["round"] == 0) * rng.gamma(3.0, 1 / 3, n)).astype(np.int64)
    who = np.repeat(np.arange(n), count)
    f = len(who)
    disc = rng.normal(0, 0.42, (f, 2)) * traits["cell_radius"][who][:, None]
    side = np.where(rng.random(f) < 0.5, 0.0, np.pi)
    axis = traits["axis"] + rng.normal(0, 0.25, n)
    walks = _Walks(
        start=centres[who] + disc,
        heading=axis[who] + side + rng.normal(0, 0.09, f),
        owner=who,
        length=traits["cell_radius"][who] * rng.uniform(0.4, 1.3, f),
        wobble=np.full(f, 0.008),
        axis=axis[who],
        pull=np.zeros(f),
        light=rng.gamma(1.5, 0.5, f),
    )
    return _walk(walks, ground.label, rng), count


def _puncta(
    centres: Floats, traits: Traits, ground: _Ground, rng: np.random.Generator
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Light (H, W) of aggregated actin, and how many aggregates each cell has."""
    import cv2

    count = rng.poisson(traits["puncta"])
    who = np.repeat(np.arange(len(centres)), count)
    turn = rng.uniform(0, 2 * np.pi, len(who))
    off = traits["cell_radius"][who] * (0.35 + 0.75 * np.sqrt(rng.random(len(who))))
    y, x = centres[who, 0] + off * np.sin(turn), centres[who, 1] + off * np.cos(turn)
    radius, light = rng.uniform(0.9, 2.6, len(who)), rng.uniform(60, 200, len(who)) / 255
    near = cv2.dilate(ground.cell.astype(np.uint8), np.ones((7, 7), np.uint8))
    return _dots(ground.cell.shape, list(zip(y, x, radius, light, strict=True)), 0.9) * near, count


def _debris(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Light (H, W) of a few specks."""
    import cv2

    dirt = np.zeros(shape, np.uint8)
    unit = 1 << _SUBPIXEL
    for _ in range(int(rng.poisson(shape[0] * shape[1] / 250_000))):
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        axes = (round(rng.uniform(1, 3.5) * unit), round(rng.uniform(1, 2.5) * unit))
        centre, turn, light = (round(x * unit), round(y * unit)), rng.uniform(0, 180), int(rng.uniform(60, 220))
        cv2.ellipse(dirt, centre, axes, turn, 0, 360, light, -1, cv2.LINE_AA, _SUBPIXEL)
    return np.asarray(cv2.GaussianBlur(dirt, (0, 0), 1.2).astype(np.float32) / 255, np.float32)


def _paint(
    centres: Floats, traits: Traits, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[Floats, pd.DataFrame, pd.DataFrame]:
    """Light (H, W, 3) float32 in 12-bit steps of all cells before the optics; what each cell and nucleus is."""
    import cv2

    ground = _territories(centres, traits, shape, rng)
    chromatin = _chromatin(centres, traits, shape, rng)
    tubes, n_tubes = _microtubules(centres, traits, ground, rng)
    fibres, n_fibres = _stress_fibres(centres, traits, ground, rng)
    spread, thickness, rounded, cell = ground.spread, ground.thickness, ground.rounded, ground.cell
    mottle = _noise(shape, 5.0, rng)

    shadow = 1 - 0.22 * cv2.GaussianBlur((chromatin.inside & ~rounded).astype(np.float32), (0, 0), 1.6)
    away = np.clip(np.where(cell, ground.distance, 9.0), 0, 9)
    perinuclear = np.exp(-0.5 * np.square(away / 0.42)).astype(np.float32)
    diffuse = thickness * (0.55 + 0.75 * perinuclear) * (1 + 0.08 * mottle) * shadow
    tubulin = spread(traits["tubulin"]) * (
        2.6 * spread(traits["tubulin_pool"]) * diffuse
        + np.where(rounded, 0.55, 1.0) * 0.54 * tubes * np.clip(0.45 + 0.7 * thickness, 0, 1.4)
        + np.where(rounded, 0.9 * thickness, 0.0)
    )
    tubulin = tubulin + 0.5 * chromatin.aggresome * cell

    rim = np.exp(-np.square(ground.depth / 1.7)) * cell
    open_rim = np.exp(-np.square(np.clip(ground.outside - 1, 0, None) / 2.2)) * cell
    shared_rim = rim * (ground.outside > 3.0)
    patchy = np.clip(_noise(shape, 8.0, rng) * 0.8 + 0.15, 0, 1.6)
    frill = np.clip(1 + 0.5 * chromatin.fine, 0, 2)
    veil = np.exp(-np.square(ground.outside / 6.5)) * patchy * frill * cell * ~rounded
    actin = spread(traits["actin"]) * (
        0.85 * thickness * (1 + 0.10 * mottle + 0.06 * chromatin.coarse)
        + 0.25 * cell * (1 + 0.08 * chromatin.coarse)
        + 0.5 * fibres
        + 0.75 * spread(traits["cortex"]) * open_rim * (1 + 0.35 * mottle)
        + 0.9 * spread(traits["junctions"]) * shared_rim * (1 + 0.25 * mottle)
        + 0.9 * spread(traits["ruffles"]) * veil
        + np.where(rounded, 0.7 * thickness + 1.1 * rim, 0.0)
    )
    spots, n_spots = _puncta(centres, traits, ground, rng)
    actin = actin + 3.2 * spots

    dirt = _debris(shape, rng)
    light = np.stack(
        [
            _LAYER_STEPS[0] * (chromatin.light + 0.9 * dirt) + 5.0 * thickness,
            _LAYER_STEPS[1] * (tubulin + 1.1 * dirt * rng.random()),
            _LAYER_STEPS[2] * (actin + 1.4 * dirt * rng.random()),
        ],
        axis=-1,
    ).astype(np.float32)  # (H, W, 3)
    # rounded cells stand above the plane in focus
    above = 0.75 * cv2.GaussianBlur((rounded & cell).astype(np.float32), (0, 0), 2.5)[..., None]
    light = light * (1 - above) + cv2.GaussianBlur(light, (0, 0), 1.7) * above

    n = ground.n
    areas = np.bincount(chromatin.owner.ravel(), minlength=n + 1)[:n]
    rows, columns = np.nonzero(chromatin.inside)
    mine = chromatin.owner[rows, columns]
    owner = ground.owner.ravel()
    facts = pd.DataFrame(
        {
            "center_y_px": np.bincount(mine, rows, n) / np.maximum(areas, 1),
            "center_x_px": np.bincount(mine, columns, n) / np.maximum(areas, 1),
            "strength": traits["strength"],
            "phase": np.array(PHASES)[traits["phase"]],
            "nucleus": np.array(SHAPES)[traits["shape"]],
            "fragmented": traits["shape"] == kinds.FRAGMENTED,
            "nuclear_pieces": chromatin.n_pieces,
            "nuclear_area_px": areas,
            "nuclear_elongation": traits["nucleus_elongation"],
            "chromatin_contrast": traits["chromatin"],
            "cell_area_px": np.bincount(owner, minlength=n + 1)[:n],
            "cell_elongation": traits["elongation"],
            "microtubules": n_tubes,
            "bundling": traits["bundling"],
            "tubulin_amount": np.bincount(owner, tubulin.ravel(), n + 1)[:n],
            "tubulin_pool": traits["tubulin_pool"],
            "actin_amount": np.bincount(owner, actin.ravel(), n + 1)[:n],
            "stress_fibres": n_fibres,
            "ruffles": traits["ruffles"],
            "junctions": traits["junctions"],
            "actin_puncta": n_spots,
            "aggresome_radius_px": traits["aggresome"],
        }
    )
    return light, facts, chromatin.nuclei


def draw_field(
    mechanism: str | None,
    strength: float,
    individual: dict[str, float],
    cells: float,
    shape: tuple[int, int],
    optics: Optics,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint16], pd.DataFrame, pd.DataFrame]:
    """A field as the camera sees it, and the truth about its cells and nuclei.

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
    tuple of (H, W, 3) uint16, DataFrame, DataFrame
        Counts, channels as `CHANNELS`; one row per cell whose nuclear centre lies in the field, in the order of y,
        then x; and one row per nucleus: a multinucleate cell has several, and ``object`` is 0 where the centre of its
        cell lies outside.
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
    traits = population(mechanism, strength, individual, len(centres), rng)
    light, facts, nuclei = _paint(centres, traits, padded, rng)
    counts = _photograph(light, optics, rng)

    facts = _within(facts[facts["nuclear_area_px"] > 0], shape)
    number = pd.Series(np.arange(1, len(facts) + 1), index=facts.index)
    nuclei = _within(nuclei, shape)
    nuclei.insert(0, "object", nuclei.pop("cell").map(number).fillna(0).astype(int))
    facts.insert(0, "object", number)
    return counts, facts.reset_index(drop=True), nuclei.reset_index(drop=True)


def _within(table: pd.DataFrame, shape: tuple[int, int]) -> pd.DataFrame:
    """The rows whose centre lies in the field, in its coordinates, in the order of y, then x."""
    table = table.assign(center_y_px=table["center_y_px"] - PAD_PX, center_x_px=table["center_x_px"] - PAD_PX)
    inside = table["center_y_px"].between(0, shape[0] - 1) & table["center_x_px"].between(0, shape[1] - 1)
    return table[inside].sort_values(["center_y_px", "center_x_px"])


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
