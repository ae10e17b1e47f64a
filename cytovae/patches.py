"""Patches: cut, stored, read, and normalised as models see them; and the types of their arrays.

The store holds uint16 patches as acquired, one plain ``.npy`` file per part, memory-mapped:

``patches/part-00000.npy``, ``part-00001.npy``, ... each hold ``(n, H, W, C)`` uint16; read one after the other they
are in the order of ``cells.parquet``.
"""

from __future__ import annotations

import contextlib
import io
import os
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cytovae.errors import ScreenError

Patches = npt.NDArray[np.uint16]
"""Patches as acquired (n, H, W, C)."""
Floats = npt.NDArray[np.float32]
"""Images as models see them (n, H, W, C), or embeddings (n, d)."""
Doubles = npt.NDArray[np.float64]
"""Numbers that are computed with."""


def part_path(folder: Path, number: int) -> Path:
    """Where part `number` lies."""
    return folder / f"part-{number:05d}.npy"


class PartWriter:
    """One part, written a few patches at a time; the file appears whole when the block ends, and not if it is empty.

    Parameters
    ----------
    folder : Path
        The screen's ``patches`` folder.
    number : int
        Of the part.
    """

    _HEADER = 128  # bytes; what numpy writes for such arrays, and what is left free until the count is known

    def __init__(self, folder: Path, number: int) -> None:
        self.path = part_path(folder, number)
        self.count = 0
        self._shape: tuple[int, ...] | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> PartWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._handle = self._stack.enter_context(self._beside.open("wb"))
        self._handle.write(bytes(self._HEADER))
        return self

    def append(self, patches: Patches) -> None:
        """Add patches (n, H, W, C) uint16."""
        if patches.dtype != np.uint16 or patches.ndim != 4:
            raise ScreenError(f"a part holds (n, H, W, C) uint16, not {patches.shape} {patches.dtype}")
        if self._shape not in (None, patches.shape[1:]):
            raise ScreenError(f"patches of {patches.shape[1:]} do not fit into a part of {self._shape}")
        self._shape = patches.shape[1:]
        self._handle.write(np.ascontiguousarray(patches).data)
        self.count += len(patches)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None and self.count:
                header = io.BytesIO()
                shape = (self.count, *(self._shape or ()))
                np.lib.format.write_array_header_1_0(
                    header, {"descr": np.dtype(np.uint16).newbyteorder("<").str, "fortran_order": False, "shape": shape}
                )
                if header.tell() != self._HEADER:
                    raise ScreenError(f"patches of {shape} need a header of {header.tell()} bytes")
                self._handle.seek(0)
                self._handle.write(header.getvalue())
                self._stack.close()
                self._beside.replace(self.path)
        finally:
            self._stack.close()
            self._beside.unlink(missing_ok=True)


def write_part(folder: Path, number: int, patches: Patches) -> Path:
    """Write one part, whole.

    Parameters
    ----------
    patches : (n, H, W, C) uint16
    """
    with PartWriter(folder, number) as part:
        part.append(patches)
    return part.path


def cut(
    field: npt.NDArray[np.uint16], centres: npt.NDArray[np.floating], size_px: int
) -> tuple[Patches, npt.NDArray[np.bool_]]:
    """Patches around centres. A patch that would leave the field is not cut.

    Parameters
    ----------
    field : (H, W, C) uint16
    centres : (n, 2) float
        y, x (px).
    size_px : int
        Edge of a patch; the centre falls on its pixel ``size_px // 2``.

    Returns
    -------
    tuple of ((m, size_px, size_px, C) uint16, (n,) bool)
        The patches, and which of the centres they belong to.
    """
    first = np.rint(centres).astype(np.int64) - size_px // 2
    inside = (first >= 0).all(axis=1) & (first + size_px <= field.shape[:2]).all(axis=1)
    out = np.empty((int(inside.sum()), size_px, size_px, field.shape[2]), dtype=np.uint16)
    for patch, (y, x) in zip(out, first[inside], strict=True):
        patch[:] = field[y : y + size_px, x : x + size_px]
    return out, inside


def normalise(images: npt.NDArray) -> Floats:
    """Images scaled as a generator sees them: each channel of each patch divided by its own maximum.

    Negative values, which a decoder may give, count as 0.

    Parameters
    ----------
    images : (n, H, W, C) uint16 or float

    Returns
    -------
    (n, H, W, C) float32, range [0, 1]
        A channel that is blank stays 0.

    Examples
    --------
    >>> import numpy as np
    >>> normalise(np.array([0, 5, 10, 0], np.uint16).reshape(1, 2, 2, 1)).ravel().tolist()
    [0.0, 0.5, 1.0, 0.0]
    """
    n, height, width, channels = images.shape
    out = images.astype(np.float32)
    if images.dtype.kind != "u":
        np.maximum(out, 0.0, out=out)
    lines = out.reshape(n, height, width * channels)
    top = lines.max(axis=1).reshape(n, width, channels).max(axis=1)  # (n, C)
    top[top == 0] = 1.0
    lines /= np.tile(top, width)[:, None, :]  # long rows: numpy is slow on an innermost axis of 3
    return out


class PatchStore:
    """All patches of a screen, as if they were one ``(n, H, W, C)`` array.

    Reads go through the memory map where the patches wanted are in the page cache, which is fastest; where they have to
    come from the disk, several threads ask for them at once, since a memory map would wait for one after the other.
    Which of the two it is, is found anew at every read.

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
        try:
            self.parts = [np.load(p, mmap_mode="r", allow_pickle=False) for p in paths]
        except (ValueError, EOFError) as broken:
            raise ScreenError(
                f"a part of {self.folder} is damaged: {broken}; run 'cytovae ingest --overwrite'"
            ) from None
        shapes = {part.shape[1:] for part in self.parts}
        if len(shapes) != 1 or any(part.dtype != np.uint16 for part in self.parts):
            raise ScreenError(f"the parts of {self.folder} differ in shape or type: {shapes}")
        self.patch_shape: tuple[int, int, int] = self.parts[0].shape[1:]  # (H, W, C)
        self.starts = np.concatenate([[0], np.cumsum([len(p) for p in self.parts])])
        self._patch_bytes = 2 * int(np.prod(self.patch_shape))
        self._files = [os.open(p, os.O_RDONLY) for p in paths]
        self._closing = weakref.finalize(self, _close, self._files)

    def __reduce__(self) -> tuple[type[PatchStore], tuple[Path]]:
        return PatchStore, (self.folder,)  # another process opens its own

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
        within = rows - self.starts[part]
        if self._on_disk(part, within):
            self._read_by_threads(out, part, within)
        else:
            for number in np.unique(part):
                here = part == number
                out[here] = self.parts[number][within[here]]
        return out

    def blocks(self, size: int) -> Iterator[tuple[int, Patches]]:
        """Consecutive blocks of at most `size` patches, each with the row it starts at; memory stays flat."""
        for start in range(0, len(self), size):
            yield start, self.read(np.arange(start, min(start + size, len(self))))

    def _place(self, part: int, within: int) -> int:
        return int(self.parts[part].offset) + int(within) * self._patch_bytes

    def _on_disk(self, part: npt.NDArray[np.int64], within: npt.NDArray[np.int64]) -> bool:
        """Whether some of the patches are not in the page cache, judged by a few of them."""
        if len(part) < _FEW or not hasattr(os, "RWF_NOWAIT"):
            return False
        byte = [bytearray(1)]
        for i in range(0, len(part), len(part) // _FEW):
            try:
                os.preadv(self._files[part[i]], byte, self._place(part[i], within[i]), os.RWF_NOWAIT)
            except BlockingIOError:
                return True
            except OSError:
                return False  # this file system cannot tell
        return False

    def _read_by_threads(self, out: Patches, part: npt.NDArray[np.int64], within: npt.NDArray[np.int64]) -> None:
        def read(some: range) -> None:
            for i in some:
                view = memoryview(out[i]).cast("B")
                if os.preadv(self._files[part[i]], [view], self._place(part[i], within[i])) != self._patch_bytes:
                    raise ScreenError(f"part {part[i]} of {self.folder} is cut short; run 'cytovae ingest --overwrite'")

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(read, [range(first, len(out), _THREADS) for first in range(min(_THREADS, len(out)))]))


_THREADS = 16  # reads in flight on a disk
_FEW = 8  # patches looked at to judge where a batch lies


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)
