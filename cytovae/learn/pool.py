"""Screens to train on as one: their cells one after the other, and of each its own wells held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.config import ScreenRecord, to_dict
from cytovae.errors import TrainingError
from cytovae.learn import sampling
from cytovae.learn.sampling import By, Split
from cytovae.patches import Patches, PatchStore
from cytovae.screen import Screen

_ALIKE = ("channels", "patch_size_px", "pixel_size_um", "control")


class Stores:
    """The patches of several screens, one screen after the other.

    Parameters
    ----------
    stores : sequence of PatchStore
    """

    def __init__(self, stores: Sequence[PatchStore]) -> None:
        self.stores = stores
        self.starts = np.cumsum([0, *(len(store) for store in stores)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, rows: npt.NDArray[np.int64]) -> Patches:
        """Patches (n, H, W, C) uint16 of rows, in their order."""
        return self._gathered(rows, np.empty((len(rows), *self.stores[0].patch_shape), np.uint16), "read")

    def digests(self, rows: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.uint64]:
        """What tells patches apart: of these rows (n,), or of all."""
        rows = np.arange(len(self)) if rows is None else rows
        return self._gathered(rows, np.empty(len(rows), np.uint64), "digests")

    def _gathered(self, rows: npt.NDArray[np.int64], out: npt.NDArray, what: str) -> npt.NDArray:
        rows = np.asarray(rows, dtype=np.int64)
        of = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(of):
            here = of == number
            out[here] = getattr(self.stores[number], what)(rows[here] - self.starts[number])
        return out


class Pool:
    """One or several screens to train a model on; of one, everything is as the screen itself says.

    Parameters
    ----------
    screens : sequence of Screen
        Their cells follow one another in this order. A treatment of the same name is one treatment.

    Raises
    ------
    TrainingError
        They differ in channels, patch size, pixel size or control, or hold the same cells.
    """

    def __init__(self, screens: Sequence[Screen]) -> None:
        self.screens = tuple(screens)
        first = self.screens[0]
        for other in self.screens[1:]:
            ours, theirs = to_dict(first.record), to_dict(other.record)
            if differ := [name for name in _ALIKE if ours[name] != theirs[name]]:
                what = ", ".join(f"{name} {theirs[name]!r}, not {ours[name]!r}" for name in differ)
                raise TrainingError(f"{other.path} cannot be trained on together with {first.path}: it has {what}")
        seen: dict[int, Path] = {}
        for one in self.screens if len(self.screens) > 1 else ():
            rows = np.flatnonzero(schema.not_blank(one.cells()))
            known = PatchStore(one.patches_path).digests(rows).tolist()
            if (twice := next((seen[k] for k in known if k in seen), None)) is not None:
                raise TrainingError(f"{one.path} holds cells of {twice}; a cell is trained on once")
            seen |= dict.fromkeys(known, one.path)

    @classmethod
    def of(cls, screen: Screen | Pool) -> Pool:
        """A screen as a pool of one; a pool as it is."""
        return screen if isinstance(screen, Pool) else cls([screen])

    @property
    def record(self) -> ScreenRecord:
        """That of the first."""
        return self.screens[0].record

    @property
    def path(self) -> Path:
        """That of the first."""
        return self.screens[0].path

    def cells(self) -> pd.DataFrame:
        """The cells of all."""
        tables = [screen.cells() for screen in self.screens]
        return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)

    def cells_digest(self) -> str:
        """A sha256 that tells these cells from others."""
        digests = [screen.cells_digest() for screen in self.screens]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def store(self) -> PatchStore:
        """The patches of all, in the order of `cells`."""
        stores = [PatchStore(screen.patches_path) for screen in self.screens]
        return stores[0] if len(stores) == 1 else cast(PatchStore, Stores(stores))

    def starts(self) -> npt.NDArray[np.int64]:
        """The row of each screen's first cell."""
        return np.cumsum([0, *(len(screen.cells()) for screen in self.screens[:-1])])

    def splits(self, share: float, validation: float = 0.0) -> list[Split]:
        """`sampling.split` of each screen."""
        return [sampling.split(screen.cells(), share, validation) for screen in self.screens]

    def split(self, share: float, validation: float = 0.0) -> Split:
        """Which cells the training does not see: in each screen, those that a training on it alone would not."""
        each = self.splits(share, validation)
        if len(each) == 1:
            return each[0]
        return Split(
            next(by for by in (*By,) if by in {split.by for split in each}),
            sorted({well for split in each for well in split.wells}),
            np.concatenate([split.kept_out for split in each]),
            sorted({well for split in each for well in split.validation_wells}),
            np.concatenate([split.validation for split in each]),
        )

    def split_record(self, share: float, validation: float = 0.0) -> dict[str, Any]:
        """As `sampling.split_record`; of several screens with what was held out in each."""
        each = [
            sampling.split_record(screen.cells(), split, share)
            for screen, split in zip(self.screens, self.splits(share, validation), strict=True)
        ]
        if len(each) == 1:
            return each[0]
        whole = sampling.split_record(self.cells(), self.split(share, validation), share)
        return whole | {
            "screens": [{"screen": s.name, **record} for s, record in zip(self.screens, each, strict=True)],
        }

    def data_record(self, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
        """As `sampling.data_record` of these rows of `cells`; of several screens with what each gave."""
        starts, each = self.starts(), []
        for number, screen in enumerate(self.screens):
            cells = screen.cells()
            own = rows[(rows >= starts[number]) & (rows < starts[number] + len(cells))] - starts[number]
            each.append(sampling.data_record(screen, cells, own))
        if len(each) == 1:
            return each[0]
        treatments = self.cells()[schema.TREATMENT].iloc[rows].nunique()
        joined = {
            name: "; ".join(dict.fromkeys(record[name] for record in each if record[name]))
            for name in ("source", "licence")
        }
        if not all(record["licence"] for record in each):
            joined["licence"] = ""
        totals = {name: sum(record[name] for record in each) for name in ("n_cells", "n_training_cells")}
        return {
            "screen": " + ".join(screen.name for screen in self.screens),
            **joined,
            "pixel_size_um": self.record.pixel_size_um,
            "cells": self.cells_digest(),
            **totals,
            "n_training_wells": sum(record["n_training_wells"] for record in each),
            "n_treatments": int(treatments),
            "screens": each,
        }
