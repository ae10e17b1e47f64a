"""Treatment-balanced mini-batches from a patch store, and which wells are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import TrainingError
from cytovae.ingest.patches import PatchStore

HELD_OUT_SHARE = 0.15


def normalise(images: npt.NDArray) -> npt.NDArray[np.float32]:
    """Each channel of each patch divided by its own maximum; a channel without light stays 0.

    Parameters
    ----------
    images : (n, H, W, C) array
        Raw or already normalised; negative values count as 0.

    Returns
    -------
    (n, H, W, C) float32
        In [0, 1].
    """
    out = images.astype(np.float32)
    if images.dtype.kind != "u":
        np.maximum(out, 0.0, out=out)
    top = out.max(axis=(1, 2), keepdims=True)
    return np.divide(out, np.where(top > 0, top, 1.0).astype(np.float32), out=out)


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
        well: int.from_bytes(hashlib.sha256(well.encode()).digest()[:8], "big") / 2**64 for well in wells["well"].unique()
    }
    held = {well for well, r in rank.items() if r < share}
    for _, group in wells.groupby("treatment", sort=True):
        names = sorted(group["well"], key=lambda well: rank[well])
        if held.issuperset(names):
            held.discard(names[-1])
    return sorted(held)


def training_rows(cells: pd.DataFrame, held_out: Sequence[str]) -> npt.NDArray[np.int64]:
    """Rows of the cells to train on: not blank, not of a held-out well."""
    keep = ~cells[schema.BLANK].to_numpy(bool) & ~well_names(cells).isin(list(held_out)).to_numpy()
    return np.flatnonzero(keep)


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

    def draw(self, size: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """One mini-batch, normalised.

        Parameters
        ----------
        size : int
        rng : Generator

        Returns
        -------
        (size, H, W, C) float32
            In [0, 1].
        """
        patches = self.store.read(self.draw_rows(size, rng))
        if self.augment:
            for patch, turn, flip in zip(patches, rng.integers(4, size=size), rng.integers(2, size=size), strict=True):
                turned = np.rot90(patch, turn)
                patch[:] = turned[:, ::-1].copy() if flip else turned.copy()
        return normalise(patches)
