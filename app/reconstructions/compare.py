"""Originals beside what several models make of them: cached pictures and measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st

from app.common import loaders, pixels
from app.common.components.cells import Item, Row
from app.common.pixels import Pictures
from app.common.selection import Selection
from cytovae import schema
from cytovae.errors import CytovaeError, SelectionError, did_you_mean
from cytovae.learn import measures, reconstruct
from cytovae.screen import Screen

SAMPLE = 256
"""Held-out cells that measures are taken on here at most."""
ORDER = {"ae": 0, "vae": 1, "vae+": 2}
TITLES = {"ae": "AE", "vae": "VAE", "vae+": "VAE+", "pca": "PCA, linear"}


MEASURES = {
    "n_cells": st.column_config.NumberColumn("cells", format="%d"),
    "mse": st.column_config.NumberColumn("mse", format="%.4f", help="mean squared difference; lower is better"),
    "ssim": st.column_config.NumberColumn("ssim", format="%.3f", help="structural similarity; 1 is best"),
    "sharpness_ratio": st.column_config.NumberColumn(
        "sharpness",
        format="%.3f",
        help="energy in the upper half of spatial frequencies, over the original's; 1 is best",
    ),
    "grid_ratio": st.column_config.NumberColumn("grid", format="%.2f", help="traces of up-sampling; 1 means none"),
    "frechet": st.column_config.NumberColumn(
        "Frechet", format="%.1f", help="distance in a fixed random network's features: compares with nothing but itself"
    ),
}
"""How the columns of `table` are shown."""


def kinds(names: list[str]) -> dict[str, str]:
    """Models in the order of the paper's figure: AE, VAE, VAE+, then others; name -> kind."""
    found = {name: str(loaders.describe(name).get("model", "")) for name in names}
    return dict(sorted(found.items(), key=lambda item: (ORDER.get(item[1], 9), item[0])))


def at_home(screen: Screen, names: list[str], most: int = 6) -> list[str]:
    """Models that the screen is embedded with, else those trained on it, else all."""
    embedded = [name for name in names if name in screen.models()]
    trained = [] if embedded else [name for name in names if loaders.trained_on(screen, name)]
    return (embedded or trained or names)[:most]


@loaders.cached(64)
def made(screen: Screen, model: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """What a model makes of cells: (n, H, W, C), as the decoder gives it."""
    return reconstruct.reconstruct(screen, rows, loaders.bundle(model))[1]


@dataclass(frozen=True)
class Sample:
    """Measures on many cells.

    Parameters
    ----------
    split : str
        ``test``, or ``all`` where the screen holds no cell of a well that the training left out.
    measures : dict
        See `cytovae.learn.measures.measure`.
    frequency, ratio : (b,) float64
        Spatial frequency (cycles per pixel) and energy there, reconstruction over original.
    """

    split: str
    measures: dict[str, Any]
    frequency: npt.NDArray[np.float64]
    ratio: npt.NDArray[np.float64]


@loaders.cached(24, "Measuring held-out cells")
def sample(screen: Screen, model: str) -> Sample:
    """A model's measures on at most `SAMPLE` cells of wells it was not trained on."""
    bundle = loaders.bundle(model)
    cells, split = loaders.cells(screen), "test"
    try:
        rows = reconstruct.split_rows(screen, cells, bundle, split)
    except SelectionError:  # a model that does not say, or no cell of its held-out wells here
        rows, split = reconstruct.split_rows(screen, cells, bundle, "all"), "all"
    rows = reconstruct.some_of_each(cells, rows, SAMPLE)
    original, drawn = reconstruct.reconstruct(screen, rows, bundle)
    frequency = measures.radial_frequency(*original.shape[1:3])
    band = np.minimum((frequency * 40).astype(int), 19).ravel()  # 20 bands of 0 to 0.5 cycles per pixel
    before, after = (np.bincount(band, measures.power_spectrum(x).ravel(), 20) for x in (original, drawn))
    ratio = after / np.maximum(before, np.finfo(float).tiny)
    return Sample(split, measures.measure(original, drawn), (np.arange(20) + 0.5) / 40, ratio)


def out_of_play(screen: Screen, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The rows whose cells lie in no unfinished quiz."""
    return rows[~loaders.cells(screen)[schema.CELL_ID].iloc[rows].isin(loaders.in_play(screen)).to_numpy()]


def draw(screen: Screen, model: str, how: str, treatment: str, n: int, number: int) -> npt.NDArray[np.int64]:
    """Rows of cells to show: ``held-out`` ones at random or of ``each`` mechanism in turn, or a
    ``treatment``'s, none of an unfinished quiz; another draw for another `number`.
    """
    cells = loaders.cells(screen)
    if how == "treatment":
        rows = np.flatnonzero((cells[schema.TREATMENT] == treatment).to_numpy())
    else:
        try:
            rows = reconstruct.split_rows(screen, cells, loaders.bundle(model), "test")
        except SelectionError:
            rows = reconstruct.split_rows(screen, cells, loaders.bundle(model), "all")
    rows = np.random.default_rng(number).permutation(out_of_play(screen, rows))
    if how == "each":
        moas = cells[schema.MOA].iloc[rows]
        rows = rows[np.argsort(moas.groupby(moas).cumcount().to_numpy(), kind="stable")]
    return rows[:n]


def named(screen: Screen, ids: list[str]) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Rows of the cells that were named and can be shown; and a sentence for those that cannot."""
    known, playing = set(loaders.cells(screen)[schema.CELL_ID]), loaders.in_play(screen)
    said = []
    if strange := [name for name in ids if name not in known]:
        alike = [name for name in known if name[:3].lower() == strange[0][:3].lower()][:2000]  # of all it takes seconds
        hint = did_you_mean(strange[0], alike) or "; every gallery tells the ids of its cells on hover."
        said.append(f"{screen.name} has no cell {', '.join(map(repr, strange))}{hint}")
    if held := [name for name in ids if name in playing]:
        said.append(f"In a quiz that is not finished: {', '.join(held)}. Choose other cells, or finish it.")
    return loaders.rows(screen, [name for name in ids if name in known and name not in playing]), said


def picked(screen: Screen, lassoed: Selection, n: int, number: int) -> npt.NDArray[np.int64]:
    """Rows of `n` cells drawn from what is selected, by `number`."""
    rows = out_of_play(screen, np.flatnonzero(lassoed.of_cells(loaders.cells(screen))))
    return np.random.default_rng(number).permutation(rows)[:n]


def table(screen: Screen, models: dict[str, str]) -> pd.DataFrame:
    """The models' measures side by side."""
    rows = []
    for name, kind in models.items():
        found = sample(screen, name)
        keep = ("n_cells", "mse", "ssim", "sharpness_ratio", "grid_ratio", "frechet")
        rows.append({"model": name, "kind": TITLES.get(kind, kind), **{k: found.measures[k] for k in keep}})
    return pd.DataFrame(rows)


def grid(
    screen: Screen, models: dict[str, str], rows: npt.NDArray[np.int64], *, difference: bool
) -> tuple[Pictures, list[Row], list[str]]:
    """Originals, then each model's reconstructions with their measures, as `cytovae.cells` shows them.

    Parameters
    ----------
    models : dict of str to str
        Name -> how it is called on the page.
    difference : bool
        Under each model a row of absolute differences.

    Returns
    -------
    tuple of (images, rows, list of str)
        The last: why a model could not be shown.
    """
    table = loaders.cells(screen).iloc[rows]
    ids, shown = table[schema.CELL_ID].tolist(), pixels.of_cells(screen, rows)
    original = shown.images
    firsts = [Item(i, loaders.named(str(name)), id=ids[i]) for i, name in enumerate(table[schema.TREATMENT])]
    pictures, lines, refused = shown, [Row(firsts, "Original", "real cells")], []
    for name, words in models.items():
        try:
            drawn = made(screen, name, rows)
        except CytovaeError as unfit:
            refused.append(str(unfit))
            continue
        ssim, mse = measures.ssim(original, drawn), ((original - drawn) ** 2).mean(axis=(1, 2, 3))
        at = len(pictures)
        items = [Item(at + i, f"ssim {ssim[i]:.2f}", f"mse {mse[i]:.4f}", id=ids[i]) for i in range(len(rows))]
        lines.append(Row(items, words, f"ssim {ssim.mean():.2f} · mse {mse.mean():.4f}"))
        pictures += pixels.veil(screen, ids, drawn)
        if difference:
            at = len(pictures)
            lines.append(Row([Item(at + i) for i in range(len(rows))], "", "absolute difference"))
            pictures += pixels.veil(screen, ids, np.abs(original - drawn))
    return pictures, lines, refused


def large(screen: Screen, models: dict[str, str], cell_id: str) -> tuple[Pictures, list[Row]]:
    """One cell, and under it what each model makes of it."""
    at = loaders.rows(screen, [cell_id])
    images = pixels.of_cells(screen, at)
    for name in models:
        images += pixels.veil(screen, [cell_id], made(screen, name, at))
    return images, [Row([Item(k, title)]) for k, title in enumerate(["Original", *models.values()])]
