"""Treatment-balanced mini-batches from a patch store, and which wells are held out."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
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


class By(enum.StrEnum):
    """What is kept out of training as a whole."""

    WELLS = "wells"
    CELLS = "cells"
    NOTHING = "nothing"


@dataclasses.dataclass(frozen=True)
class Split:
    """Which cells of a screen a training does not see.

    Parameters
    ----------
    by : By
        Whole wells; or cells within wells, where there are too few wells: weaker, as their neighbours are trained on.
    wells : list of str
        The wells kept out, as `well_names` names them, sorted.
    kept_out : (n,) bool
        The cells kept out, blank ones among them.
    validation_wells : list of str
        Further wells that are not trained on, to choose between recipes on.
    validation : (n,) bool
        Their cells.
    """

    by: By
    wells: list[str]
    kept_out: npt.NDArray[np.bool_]
    validation_wells: list[str]
    validation: npt.NDArray[np.bool_]

    def training_rows(self, cells: pd.DataFrame) -> npt.NDArray[np.int64]:
        """Rows of the cells to train on: not blank, not kept out."""
        return np.flatnonzero(schema.not_blank(cells) & ~self.kept_out & ~self.validation)

    def test_rows(self, cells: pd.DataFrame) -> npt.NDArray[np.int64]:
        """Rows of the cells to measure on: not blank, kept out."""
        return np.flatnonzero(schema.not_blank(cells) & self.kept_out)

    def watched_rows(self, cells: pd.DataFrame) -> npt.NDArray[np.int64]:
        """Rows of the cells to look at while training: for validation where there are any, else those to test on."""
        rows = np.flatnonzero(schema.not_blank(cells) & self.validation)
        return rows if len(rows) else self.test_rows(cells)


def split(cells: pd.DataFrame, share: float = HELD_OUT_SHARE, validation: float = 0.0) -> Split:
    """About a share of the wells kept out of training; of the cells, where no well can be spared.

    Every treatment keeps a well for training (`held_out_wells`). On a small screen that can leave no well to keep out;
    then cells are chosen by a hash of well and cell id, and every treatment keeps a cell.

    Parameters
    ----------
    cells : DataFrame
        All of the screen.
    share : float
        Between 0 and 1; with 0 nothing is kept out.
    validation : float
        Share of further wells kept out to choose between recipes on.
    """
    names = well_names(cells)
    wells = held_out_wells(cells, share)
    choosing = validation_wells(cells, share, validation)
    aside = names.isin(choosing).to_numpy()
    if wells:
        return Split(By.WELLS, wells, names.isin(wells).to_numpy(), choosing, aside)
    rank = np.array([_rank(f"{well}/{cell}") for well, cell in zip(names, cells[schema.CELL_ID], strict=True)])
    out = (rank < share) & ~aside
    treatments = cells[schema.TREATMENT].to_numpy(str)
    for treatment in np.unique(treatments[out]):
        rows = np.flatnonzero(treatments == treatment)
        out[rows[np.argmax(rank[rows])]] = False
    return Split(By.CELLS if out.any() else By.NOTHING, [], out, choosing, aside)


def _rank(name: str) -> float:
    """A number from 0 to 1 that depends on a name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


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
    rank = {well: _rank(well) for well in wells["well"].unique()}
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


def split_record(cells: pd.DataFrame, chosen: Split, share: float) -> dict[str, Any]:
    """What a bundle says about its split: the rule, the held-out wells by name, and how many cells were kept out."""
    rules = {
        By.WELLS: f"wells whose hash is among the lowest {share:g} of all hashes; every treatment keeps a well",
        By.CELLS: f"no well could be spared, so cells within wells whose hash is among the lowest {share:g}; every "
        "treatment keeps a cell; weaker than a split by well",
        By.NOTHING: "no cell was kept out",
    }
    return {
        "by": chosen.by.value,
        "rule": rules[chosen.by],
        "held_out_wells": chosen.wells,
        "validation_wells": chosen.validation_wells,
        "n_held_out_cells": len(chosen.test_rows(cells)),
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
    return {
        "screen": screen.name,
        "source": screen.record.source,
        "licence": screen.record.licence,
        "pixel_size_um": screen.record.pixel_size_um,
        "cells": screen.cells_digest(),
        "n_cells": len(cells),
        "n_training_cells": len(used),
        "n_training_wells": int(well_names(used).nunique()),
        "n_treatments": int(used[schema.TREATMENT].nunique()),
    }


def digests(store: PatchStore, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """What tells patches apart (`cytovae.patches.digests`): of these rows (n,) of a store."""
    return store.digests(rows)


@functools.lru_cache(maxsize=8)
def _all_digests(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> npt.NDArray[np.uint64]:
    """Of every patch of a screen; `stamp` changes when its patches do."""
    found = PatchStore(folder).digests()
    found.flags.writeable = False
    return found


def trained_cells(config: Mapping[str, Any], known: npt.NDArray[np.uint64] | None, screen: Screen) -> npt.NDArray:
    """Which cells of a screen a model was trained on, by their pixels alone: new ids and names do not matter.

    Bundles made before they kept a digest of every patch keep those of 32 by cell id; of their cells only such are
    found.

    Parameters
    ----------
    config : mapping
        The bundle's configuration.
    known : (m,) uint64 or None
        The digests that the bundle keeps (`cytovae.learn.bundle.trained_patches`).
    screen : Screen

    Returns
    -------
    (n,) bool
    """
    parts = sorted(screen.patches_path.glob("*.npy"))
    if known is not None:
        stamp = tuple((p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in parts)
        return np.isin(_all_digests(screen.patches_path.resolve(), stamp), known)
    witnesses = config.get("data", {}).get("witnesses", {})
    cells = screen.cells()
    rows = np.flatnonzero(cells[schema.CELL_ID].isin(witnesses.keys()))
    out = np.zeros(len(cells), dtype=bool)
    for row, patch in zip(rows, PatchStore(screen.patches_path).read(rows) if len(rows) else (), strict=True):
        out[row] = witnesses[cells[schema.CELL_ID].iloc[row]] == hashlib.sha256(patch.data).hexdigest()
    return out


def trained_on(
    config: Mapping[str, Any], known: npt.NDArray[np.uint64] | None, screen: Screen, cells: pd.DataFrame
) -> bool:
    """Whether a model was trained on cells of this screen, whatever it and they are called.

    It was where a patch that it was trained on is here, and counts as such where screen and bundle state the same
    source. A bundle that keeps no digests is judged by the names of its wells.

    Parameters
    ----------
    config, known, screen
        As for `trained_cells`.
    cells : DataFrame
        All of the screen.
    """
    if same_source(config, screen):
        return True
    if known is None and "witnesses" not in config.get("data", {}):
        return bool(well_names(cells).isin(config.get("split", {}).get("held_out_wells", [])).any())
    return bool(trained_cells(config, known, screen).any())


def same_source(config: Mapping[str, Any], screen: Screen) -> bool:
    """Whether a model's data, or those of one of the screens it was trained on, and a screen state the same source."""
    data = config.get("data", {})
    sources = [one.get("source") for one in (data, *data.get("screens", []))]
    return bool(screen.record.source) and screen.record.source in sources


def unseen(
    config: Mapping[str, Any], known: npt.NDArray[np.uint64] | None, screen: Screen, cells: pd.DataFrame
) -> npt.NDArray[np.bool_] | None:
    """Which cells a model was not trained on: those of wells that it never saw, and all of a screen that it never saw.

    A well counts as seen where one of its patches was trained on, or where it served to choose between recipes; under a
    split by cells, a cell does. Where screen and bundle state the same source, wells that the split did not keep out
    count as seen, too, as their cells may have been cut out anew.

    Parameters
    ----------
    config, known, screen, cells
        As for `trained_on`.

    Returns
    -------
    (n,) bool or None
        None where the bundle does not say what it held out.
    """
    kept = config.get("split", {})
    if (wells := kept.get("held_out_wells")) is None:
        return None
    if not trained_on(config, known, screen, cells):
        return np.ones(len(cells), dtype=bool)
    names = well_names(cells)
    if known is None:
        return names.isin(wells).to_numpy()
    seen = trained_cells(config, known, screen) | names.isin(kept.get("validation_wells", [])).to_numpy()
    if kept.get("by") == By.CELLS:
        return ~seen if seen.any() else np.zeros(len(cells), dtype=bool)
    seen = names.isin(names[seen]).to_numpy()
    return ~seen & names.isin(wells).to_numpy() if same_source(config, screen) else ~seen


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
