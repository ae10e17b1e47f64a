"""Treatment-balanced mini-batches from a patch store, and which wells are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import TrainingError
from cytovae.patches import PatchStore
from cytovae.patches import normalise as normalise
from cytovae.screen import Screen

HELD_OUT_SHARE = 0.15
N_WITNESSES = 32
"""Cells a bundle keeps digests of, to know the screen it was trained on again."""


def well_names(cells: pd.DataFrame) -> pd.Series:
    """Plate and well of each cell as one name, such as ``Week4_27861/B02``."""
    return cells[schema.PLATE].astype(str) + "/" + cells[schema.WELL].astype(str)


def held_out_wells(cells: pd.DataFrame, share: float = HELD_OUT_SHARE) -> list[str]:
    """The wells that no training sees: about `share` of them, chosen by a hash of plate and well.

    The choice does not depend on the order or number of rows. Every treatment keeps at least one well for training.

    Parameters
    ----------
    cells : DataFrame
        With ``Metadata_Plate``, ``Metadata_Well`` and ``Metadata_Treatment``.
    share : float
        Between 0 and 1.

    Returns
    -------
    list of str
        Names as `well_names` gives them, sorted.
    """
    wells = pd.DataFrame({"well": well_names(cells), "treatment": cells[schema.TREATMENT]}).drop_duplicates()
    rank = {
        well: int.from_bytes(hashlib.sha256(well.encode()).digest()[:8], "big") / 2**64
        for well in wells["well"].unique()
    }
    held = {well for well, r in rank.items() if r < share}
    for _, group in wells.groupby("treatment", sort=True):
        names = sorted(group["well"], key=lambda well: rank[well])
        if held.issuperset(names):
            held.discard(names[-1])
    return sorted(held)


def validation_wells(cells: pd.DataFrame, held_out: float, validation: float) -> list[str]:
    """The wells kept out to choose between recipes on: about a share `validation` of all, none of those held out.

    Parameters
    ----------
    cells : DataFrame
    held_out, validation : float
        Shares of the wells.

    Returns
    -------
    list of str
        Names as `well_names` gives them, sorted.
    """
    return sorted({*held_out_wells(cells, held_out + validation)} - {*held_out_wells(cells, held_out)})


def training_rows(cells: pd.DataFrame, held_out: Sequence[str]) -> npt.NDArray[np.int64]:
    """Rows of the cells to train on: not blank, not of a held-out well."""
    keep = schema.not_blank(cells) & ~well_names(cells).isin(list(held_out)).to_numpy()
    return np.flatnonzero(keep)


def split_record(cells: pd.DataFrame, held_out: Sequence[str], share: float) -> dict[str, Any]:
    """What a bundle says about its split: the rule, the held-out wells by name, and how many cells they hold."""
    inside = well_names(cells).isin(list(held_out)) & schema.not_blank(cells)
    return {
        "rule": f"wells whose hash is among the lowest {share:g} of all hashes; every treatment keeps a well",
        "held_out_wells": list(held_out),
        "n_held_out_cells": int(inside.sum()),
    }


def data_record(screen: Screen, cells: pd.DataFrame, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
    """What a bundle says about the cells it was trained on.

    Parameters
    ----------
    screen : Screen
    cells : DataFrame
        All of the screen.
    rows : (n,) int
        Those trained on.
    """
    used = cells.iloc[rows]
    some = rows[np.unique(np.linspace(0, len(rows) - 1, N_WITNESSES).astype(np.int64))]
    return {
        "screen": screen.name,
        "source": screen.record.source,
        "licence": screen.record.licence,
        "cells": screen.cells_digest(),
        "n_cells": len(cells),
        "n_training_cells": len(used),
        "n_training_wells": int(well_names(used).nunique()),
        "n_treatments": int(used[schema.TREATMENT].nunique()),
        "witnesses": dict(_digests(cells, some, PatchStore(screen.patches_path))),
    }


def _digests(cells: pd.DataFrame, rows: npt.NDArray[np.int64], patches: PatchStore) -> Iterator[tuple[str, str]]:
    """Cell id and sha256 of the patch, row by row."""
    for cell_id, patch in zip(cells[schema.CELL_ID].iloc[rows], patches.read(rows), strict=True):
        yield str(cell_id), hashlib.sha256(patch.tobytes()).hexdigest()


def trained_on(config: Mapping[str, Any], screen: Screen, cells: pd.DataFrame) -> bool:
    """Whether a model was trained on cells of this screen, whatever it is called.

    It was where one of the cells the bundle keeps digests of is here with the same pixels, and counts as such where
    screen and bundle state the same source. A bundle that keeps no digests is judged by the names of its wells.

    Parameters
    ----------
    config : mapping
        The bundle's configuration.
    screen : Screen
    cells : DataFrame
        All of the screen.
    """
    data = config.get("data", {})
    if screen.record.source and screen.record.source == data.get("source"):
        return True
    if (known := data.get("witnesses")) is None:
        return bool(well_names(cells).isin(config.get("split", {}).get("held_out_wells", [])).any())
    rows = np.flatnonzero(cells[schema.CELL_ID].isin(known.keys()))
    return any(known[cell_id] == found for cell_id, found in _digests(cells, rows, PatchStore(screen.patches_path)))


def unseen(config: Mapping[str, Any], screen: Screen, cells: pd.DataFrame) -> npt.NDArray[np.bool_] | None:
    """Which cells a model was not trained on: those of held-out wells, and all of a screen that it never saw.

    Parameters
    ----------
    config, screen, cells
        As for `trained_on`.

    Returns
    -------
    (n,) bool or None
        None where the bundle does not say which wells it held out.
    """
    wells = config.get("split", {}).get("held_out_wells")
    if wells is None:
        return None
    if not trained_on(config, screen, cells):
        return np.ones(len(cells), dtype=bool)
    return well_names(cells).isin(wells).to_numpy()


class TreatmentSampler:
    """Mini-batches with one random patch of each treatment.

    Parameters
    ----------
    store : PatchStore
    rows : (n,) int
        The rows that may be drawn.
    treatments : sequence of str
        The treatment of each of them.
    augment : bool
        Whether a patch is flipped and turned by quarters at random.

    Raises
    ------
    TrainingError
        There is nothing to draw.
    """

    def __init__(
        self, store: PatchStore, rows: npt.NDArray[np.int64], treatments: Sequence[str], augment: bool = True
    ) -> None:
        if not len(rows):
            raise TrainingError("no cell is left to train on; blank cells and those of held-out wells do not count")
        self.store = store
        self.augment = augment
        names, codes = np.unique(np.asarray(treatments, dtype=str), return_inverse=True)
        self.treatments = [str(name) for name in names]
        self.rows = [rows[codes == code] for code in range(len(names))]

    def draw_rows(self, size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Rows of one mini-batch.

        A batch as large as the number of treatments holds one cell of each; a smaller one holds that many different
        treatments; a larger one goes round again.

        Parameters
        ----------
        size : int
        rng : Generator

        Returns
        -------
        (size,) int64
        """
        rounds = -(-size // len(self.rows))
        order = np.concatenate([rng.permutation(len(self.rows)) for _ in range(rounds)])[:size]
        return np.array([self.rows[t][rng.integers(len(self.rows[t]))] for t in order], dtype=np.int64)

    def draw(self, size: int, rng: np.random.Generator, part: slice = slice(None)) -> npt.NDArray[np.float32]:
        """One mini-batch, normalised.

        Parameters
        ----------
        size : int
        rng : Generator
        part : slice
            The part of the mini-batch to read; the same is drawn from `rng` whichever it is.

        Returns
        -------
        (size of the part, H, W, C) float32
            In [0, 1].
        """
        rows = self.draw_rows(size, rng)[part]
        if not self.augment:
            return normalise(self.store.read(rows))
        turn = rng.integers(8, size=size)[part]
        return normalise(turned(self.store.read(rows), turn))


def turned(patches: npt.NDArray, turn: npt.NDArray[np.int64]) -> npt.NDArray:
    """Patches in one of the eight orientations of a square.

    Parameters
    ----------
    patches : (n, H, H, C) array
    turn : (n,) int
        0 to 3: quarter turns; 4 to 7: the same, mirrored.

    Returns
    -------
    (n, H, H, C) array
    """
    out = np.empty_like(patches)
    for orientation in np.unique(turn):
        here = turn == orientation
        view = np.rot90(patches[here], orientation % 4, axes=(1, 2))
        out[here] = view[:, :, ::-1] if orientation >= 4 else view
    return out
