"""The patch store: uint16 patches as acquired, one plain ``.npy`` file per part, memory-mapped.

``patches/part-00000.npy``, ``part-00001.npy``, ... each hold ``(n, H, W, C)`` uint16; read one after the other they
are in the order of ``cells.parquet``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cytovae.errors import ScreenError
from cytovae.screen import whole_file

Patches = npt.NDArray[np.uint16]


def part_path(folder: Path, number: int) -> Path:
    """Where part `number` lies."""
    return folder / f"part-{number:05d}.npy"


def write_part(folder: Path, number: int, patches: Patches) -> Path:
    """Write one part, whole.

    Parameters
    ----------
    patches : (n, H, W, C) uint16
    """
    if patches.dtype != np.uint16 or patches.ndim != 4:
        raise ScreenError(f"a part holds (n, H, W, C) uint16, not {patches.shape} {patches.dtype}")
    path = part_path(folder, number)
    with whole_file(path) as beside, beside.open("wb") as handle:
        np.save(handle, np.ascontiguousarray(patches))
    return path


class PatchStore:
    """All patches of a screen, as if they were one ``(n, H, W, C)`` array.

    Parameters
    ----------
    folder : Path
        The screen's ``patches`` folder.

    Raises
    ------
    ScreenError
        There are no parts, or they do not fit together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        paths = sorted(self.folder.glob("part-*.npy"))
        if not paths:
            raise ScreenError(f"{self.folder} holds no patches; run 'cytovae ingest' first")
        self.parts = [np.load(p, mmap_mode="r") for p in paths]
        shapes = {part.shape[1:] for part in self.parts}
        if len(shapes) != 1 or any(part.dtype != np.uint16 for part in self.parts):
            raise ScreenError(f"the parts of {self.folder} differ in shape or type: {shapes}")
        self.patch_shape: tuple[int, int, int] = self.parts[0].shape[1:]  # (H, W, C)
        self.starts = np.concatenate([[0], np.cumsum([len(p) for p in self.parts])])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, rows: npt.ArrayLike) -> Patches:
        """Patches by row of ``cells.parquet``, in the order asked for.

        Returns
        -------
        (len(rows), H, W, C) uint16
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise ScreenError(
                f"{self.folder} holds {len(self)} patches; rows {rows.min()} to {rows.max()} were asked for"
            )
        out = np.empty((len(rows), *self.patch_shape), dtype=np.uint16)
        part = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(part):
            here = part == number
            out[here] = self.parts[number][rows[here] - self.starts[number]]
        return out

    def blocks(self, size: int) -> Iterator[tuple[int, Patches]]:
        """Consecutive blocks of at most `size` patches, each with the row it starts at; memory stays flat."""
        for start in range(0, len(self), size):
            yield start, self.read(np.arange(start, min(start + size, len(self))))
