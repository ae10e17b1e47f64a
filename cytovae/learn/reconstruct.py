"""Originals beside what models make of them: as measures and as a picture."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import ScreenError, SelectionError
from cytovae.learn import bundle as bundles
from cytovae.learn import measures, sampling
from cytovae.learn.bundle import Bundle
from cytovae.learn.pool import Pool
from cytovae.patches import normalise
from cytovae.screen import Screen, whole_file

MOST_CELLS = 2000
"""Cells that measures are taken on at most."""


class Split(enum.StrEnum):
    """Which cells: not trained on, trained on, or all."""

    TEST = "test"
    TRAIN = "train"
    ALL = "all"


def split_rows(screen: Screen, cells: pd.DataFrame, bundle: Bundle, split: str = Split.TEST) -> npt.NDArray[np.int64]:
    """Rows of the cells of a split, blank ones left out.

    Parameters
    ----------
    screen : Screen
    cells : DataFrame
        All of the screen.
    bundle : Bundle
        It knows the patches that it was trained on.
    split : str
        A `Split`; for ``test`` see `sampling.unseen`.

    Raises
    ------
    SelectionError
        There is no such split, the bundle does not say, or the split is empty on this screen.
    """
    if split not in list(Split):
        raise SelectionError(f"a split is one of {', '.join(Split)}, not {split!r}")
    rows = np.flatnonzero(schema.not_blank(cells))
    if split == Split.ALL:
        return rows
    unseen = sampling.unseen(bundle.config, bundle.trained_on, screen, cells)
    if unseen is None:
        raise SelectionError(f"{bundle.name} does not say which wells it was not trained on; use --split all")
    rows = rows[unseen[rows] if split == Split.TEST else ~unseen[rows]]
    if not len(rows):
        raise SelectionError(f"{screen.path} has no cell of the {split} split of {bundle.name}; use --split all")
    return rows


def some_of_each(cells: pd.DataFrame, rows: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """At most `size` of the rows, the treatments taking turns; the same ones every time.

    Returns
    -------
    (m,) int64
        Sorted by turn, then by treatment.
    """
    treatments = cells[schema.TREATMENT].iloc[rows]
    turn = treatments.groupby(treatments).cumcount().to_numpy()
    order = np.lexsort((rows, treatments.to_numpy(str), turn))
    return rows[order][:size]


def reconstruct(screen: Screen | Pool, rows: npt.NDArray[np.int64], bundle: Bundle) -> tuple[npt.NDArray, npt.NDArray]:
    """Normalised patches and what a model makes of them.

    Returns
    -------
    tuple of ((n, H, W, C) float32, (n, H, W, C) float32)

    Raises
    ------
    ScreenError
        The screen has other channels than the model, or another magnification.
    """
    if screen.record.channels != bundle.channels:
        raise ScreenError(
            f"{bundle.name} was made for {', '.join(bundle.channels)}, but {screen.path} holds "
            f"{', '.join(screen.record.channels)}"
        )
    bundle.refuse_other_magnification(screen.record)
    patches = Pool.of(screen).store().read(rows)
    return normalise(patches), bundle.decode(bundle.encode(patches))


def measure(screen: Screen | Pool, bundle: Bundle, split: str = Split.TEST) -> dict[str, Any]:
    """A model's measures (`measures.measure`) on the cells of a split, at most `MOST_CELLS` of them.

    Raises
    ------
    SelectionError
        The split holds a single cell, which has no distribution.
    """
    pool = Pool.of(screen)
    found = []
    for start, one in zip(pool.starts(), pool.screens, strict=True):
        with contextlib.suppress(*([SelectionError] if len(pool.screens) > 1 else [])):  # of one of them, none is left
            found.append(start + split_rows(one, one.cells(), bundle, split))
    rows = some_of_each(pool.cells(), np.concatenate([np.empty(0, np.int64), *found]), MOST_CELLS)
    if len(rows) < 2:
        raise SelectionError(f"measures need at least 2 cells and {screen.path} has {len(rows)} in split {split!r}")
    return {"split": split, **measures.measure(*reconstruct(screen, rows, bundle))}


def save_measured(
    screen: Screen | Pool,
    path: Path,
    arrays: dict[str, npt.NDArray],
    config: dict[str, Any],
    trained_on: npt.NDArray[np.uint64],
) -> None:
    """Write a bundle with its measures on the cells that were kept out of its training, where there are two.

    Parameters
    ----------
    screen : Screen or Pool
        What it was trained on.
    path, arrays, config, trained_on
        As for `cytovae.learn.bundle.save`.
    """
    metrics = {}
    if config["split"]["n_held_out_cells"] >= 2:
        metrics = measure(screen, bundles.ready(path, arrays, config, {}, np.unique(trained_on)))
    bundles.save(path, arrays, config, metrics, trained_on)


def sentence(measured: Mapping[str, Any]) -> str:
    """The measures of a bundle for a person, two lines.

    Parameters
    ----------
    measured : mapping
        What `measure` gives, and the ``bundle``'s name.
    """
    energies, shared, floor = (
        " ".join(f"{value:.{digits}f}" for value in measured[key])
        for key, digits in (("spectrum_bands", 2), ("coherence", 3), ("coherence_floor", 3))
    )
    readable = "at no size" if measured["readable_px"] is None else f"down to {measured['readable_px']:.0f} px"
    return (
        f"{measured['bundle']}: {measured['n_cells']} cells, mse {measured['mse']:.5f}, ssim {measured['ssim']:.3f}, "
        f"sharpness ratio {measured['sharpness_ratio']:.3f}, Frechet {measured['frechet']:.2f}, "
        f"frame ratio {measured['frame_ratio']:.2f}, grid ratio {measured['grid_ratio']:.3f} "
        f"(real cells {measured['grid_ratio_original']:.3f})\n"
        f"  from coarse to fine: energy {energies}, coherence {shared} (mismatched cells {floor}); "
        f"follows the cell {readable}"
    )


def picture(
    screen: Screen, bundles: Sequence[Bundle], path: Path, n_cells: int = 10, split: str = Split.TEST, scale: int = 3
) -> list[str]:
    """A picture with originals on top and one row of reconstructions per model.

    Parameters
    ----------
    screen : Screen
    bundles : sequence of Bundle
        Cells are of the split of the first.
    path : Path
        Of the PNG.
    n_cells : int
        Columns.
    split : str
    scale : int
        Screen pixels per pixel.

    Returns
    -------
    list of str
        The cell ids, left to right.
    """
    cells = screen.cells()
    rows = some_of_each(cells, split_rows(screen, cells, bundles[0], split), n_cells)
    made = [reconstruct(screen, rows, bundle) for bundle in bundles]
    strips = [("original", made[0][0]), *((b.name, m[1]) for b, m in zip(bundles, made, strict=True))]
    write_sheet(path, strips, scale)
    return [str(c) for c in cells[schema.CELL_ID].iloc[rows]]


def write_sheet(path: Path, strips: Sequence[tuple[str, npt.NDArray]], scale: int = 3) -> None:
    """Rows of patches under each other as a PNG, with the name of each on its left.

    Parameters
    ----------
    path : Path
        Of the PNG.
    strips : sequence of (str, (n, H, W, C) float array)
        All of one shape.
    scale : int
        Screen pixels per pixel.
    """
    from PIL import Image, ImageDraw

    sheet = np.concatenate([np.concatenate(list(grid_ready(images)), axis=1) for _, images in strips])
    shown = Image.fromarray(sheet).resize((sheet.shape[1] * scale, sheet.shape[0] * scale), Image.Resampling.NEAREST)
    margin = 8 + 7 * max(len(name) for name, _ in strips)
    canvas = Image.new("RGB", (shown.width + margin, shown.height), "white")
    canvas.paste(shown, (margin, 0))
    draw = ImageDraw.Draw(canvas)
    for number, (name, _) in enumerate(strips):
        draw.text((4, (number + 0.5) * shown.height / len(strips) - 6), name, fill="black")
    with whole_file(path) as beside:
        canvas.save(beside, format="PNG")


def grid_ready(images: npt.NDArray) -> npt.NDArray[np.uint8]:
    """Patches as 8-bit RGB with a black line around each.

    Parameters
    ----------
    images : (n, H, W, C) float
        The first three channels are shown; values outside [0, 1] are clipped.

    Returns
    -------
    (n, H + 2, W + 2, 3) uint8
    """
    shown = np.zeros((len(images), images.shape[1] + 2, images.shape[2] + 2, 3), dtype=np.uint8)
    used = min(3, images.shape[3])
    shown[:, 1:-1, 1:-1, :used] = np.rint(np.clip(images[..., :used], 0, 1) * 255)
    return shown
