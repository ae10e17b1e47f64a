"""Which treatments look like a cell or a group of cells: those that lead away from the controls in the same direction.

A cell's displacement is its embedding minus the mean of the other control cells of its plate, where that has enough,
else of its batch, else of the screen. A treatment looks like the cells in question as far as the cosine of the two mean
displacements says; groups of control cells, asked the same, show how large that is where nothing is at work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import SelectionError
from cytovae.explore import targets
from cytovae.explore.targets import Embeddings, Rows
from cytovae.patches import Doubles, Floats

MIN_CELLS = 3
"""A treatment of fewer cells, those in question left out, is not compared."""
N_NULL = 199
"""Groups of control cells that are asked the same."""


@dataclass(frozen=True)
class Likeness:
    """The treatments, those most alike first.

    Parameters
    ----------
    table : DataFrame
        ``treatment``, ``moa``, ``cosine`` (-1 to 1), ``n_cells`` it rests on, and ``row`` of the treatment's cell most
        like those in question.
    n_cells : int
        In question.
    null : (q,) float64
        The largest cosine that each of the groups of control cells has.
    """

    table: pd.DataFrame
    n_cells: int
    null: Doubles

    @property
    def p(self) -> float:
        """How often control cells look as much like some treatment: the rank of the largest cosine."""
        best = self.table["cosine"].iloc[0]
        return float((1 + (self.null >= best).sum()) / (1 + len(self.null)))

    @property
    def sentence(self) -> str:
        """What the first of the table is worth."""
        first, usual = self.table.iloc[0], np.quantile(self.null, 0.95)
        asked, look = ("cell", "looks") if self.n_cells == 1 else (f"{self.n_cells} cells", "look")
        beside = (
            f"p = {self.p:.2g} among {len(self.null)} groups of control cells, of which 95 % stay below {usual:.2f}"
        )
        if self.p > 0.05:
            best = f"largest cosine {first.cosine:.2f}"
            return f"The {asked} {look} like no treatment more than control cells do ({best}; {beside})"
        return f"The {asked} {look} most like {schema.words(first.treatment)} (cosine {first.cosine:.2f}; {beside})"


def displacements(cells: pd.DataFrame, embeddings: Embeddings, control: str) -> Floats:
    """Each cell's embedding minus the mean of the control cells near it, itself left out: (n, d) float32.

    Raises
    ------
    SelectionError
        Fewer than two control cells.
    """
    rows = targets.controls(cells, control)
    if len(rows) < 2:
        raise SelectionError(f"there is one {control} cell, so there is nothing that treatments lead away from")
    own = np.zeros(len(cells), dtype=bool)
    own[rows] = True
    out = np.empty(embeddings.shape, dtype=np.float32)
    left = np.ones(len(cells), dtype=bool)
    for column in (schema.PLATE, schema.BATCH, None):
        codes = np.zeros(len(cells), np.int64) if column is None else pd.factorize(cells[column])[0]
        count = np.bincount(codes[rows], minlength=codes.max() + 1)
        sums = np.zeros((codes.max() + 1, embeddings.shape[1]))
        np.add.at(sums, codes[rows], embeddings[rows].astype(np.float64))
        others = count[codes] - own
        here = left & (others >= (1 if column is None else targets.MIN_NEAR))
        for code in np.unique(codes[here]):
            mine = np.flatnonzero(here & (codes == code))
            z = embeddings[mine].astype(np.float64)
            out[mine] = z - (sums[code] - own[mine, None] * z) / others[mine, None]
        left &= ~here
    return out


def alike(
    cells: pd.DataFrame, displaced: npt.NDArray, control: str, rows: npt.ArrayLike, rng: np.random.Generator
) -> Likeness:
    """The treatments that look most like some cells.

    Parameters
    ----------
    cells : DataFrame
    displaced : (n, d)
        See `displacements`.
    control : str
    rows : (m,) int
        The cells in question; no treatment is compared with them by these cells themselves.
    rng : numpy Generator
        Draws the groups of control cells: as many cells, of as many wells.

    Raises
    ------
    SelectionError
        No cells are given, or no treatment has `MIN_CELLS` others.
    """
    rows = np.unique(np.asarray(rows, dtype=np.int64))
    if not len(rows):
        raise SelectionError("no cells are selected; select at least one")
    names, codes, sums, counts = _sums(cells, displaced, control, rows)
    if not (counts >= MIN_CELLS).any():
        raise SelectionError(f"no treatment has {MIN_CELLS} cells to compare with")
    kept = np.flatnonzero(counts >= MIN_CELLS)
    directions = _unit(sums[kept] / counts[kept, None])
    asked = displaced[rows].astype(np.float64).mean(axis=0)
    cosine = directions @ _unit(asked)
    null = np.array(
        [
            (directions @ _unit(displaced[group].astype(np.float64).mean(axis=0))).max()
            for group in _control_groups(cells, control, rows, rng)
        ]
    )
    table = []
    for k in np.argsort(-cosine, kind="stable"):
        mine = np.flatnonzero(codes == kept[k])
        nearest = mine[np.argmax(_unit(displaced[mine].astype(np.float64)) @ _unit(asked))]
        table.append((names[kept[k]], cells[schema.MOA].iloc[nearest], cosine[k], len(mine), int(nearest)))
    found = pd.DataFrame(table, columns=["treatment", "moa", "cosine", "n_cells", "row"])
    return Likeness(found, len(rows), null)


def _sums(
    cells: pd.DataFrame, displaced: npt.NDArray, control: str, rows: Rows
) -> tuple[list[str], npt.NDArray[np.int64], Doubles, npt.NDArray[np.int64]]:
    """Treatments, the number of each cell's (-1 for those that do not count), sums of displacements and counts."""
    counts_here = ((cells[schema.COMPOUND] != control) & schema.not_blank(cells)).to_numpy().copy()
    counts_here[rows] = False
    codes, names = pd.factorize(cells[schema.TREATMENT].where(counts_here))
    sums = np.zeros((len(names), displaced.shape[1]))
    np.add.at(sums, codes[codes >= 0], displaced[codes >= 0].astype(np.float64))
    return [str(name) for name in names], codes, sums, np.bincount(codes[codes >= 0], minlength=len(names))


def _unit(x: Doubles) -> Doubles:
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.asarray(np.divide(x, length, out=np.zeros_like(x), where=length > 0))


def _control_groups(cells: pd.DataFrame, control: str, rows: Rows, rng: np.random.Generator) -> list[Rows]:
    """Groups of as many control cells, of as many wells where there are so many, not those in question."""
    pool = np.setdiff1d(targets.controls(cells, control), rows)
    if not len(pool):
        raise SelectionError(f"all {control} cells are in question; select fewer")
    of_well = targets.wells(cells, pool)
    n_wells = min(len(np.unique(targets.wells(cells, rows))), len(np.unique(of_well)))
    wells = np.unique(of_well)
    groups = []
    for _ in range(N_NULL):
        some = pool[np.isin(of_well, rng.choice(wells, n_wells, replace=False))]
        groups.append(rng.permutation(some)[: len(rows)])
    return groups
