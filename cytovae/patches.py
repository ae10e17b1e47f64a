"""Patches: cut, stored or left in their fields, read, and normalised as models see them; and the types of their arrays.

A store holds uint16 patches as acquired, one plain ``.npy`` file per part, memory-mapped:

``patches/part-00000.npy``, ``part-00001.npy``, ... each hold ``(n, H, W, C)`` uint16; read one after the other they
are in the order of ``cells.parquet``.

Or it holds where they lie, and they are read from the fields when they are wanted: ``patches/places-00000.npy``, ...
each hold ``(n, 3)`` int32, the field's row in ``patches/sources.parquet`` and the patch's first pixel, y and x;
``patches/sources.json`` says what is done to a field before patches are cut.

Either way ``patches/digests-00000.npy``, ... hold ``(n,)`` uint64, the `digests` of the patches.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import hashlib
import io
import json
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import contents, locks
from cytovae.errors import ImageError, ScreenError
from cytovae.fields import Field
from cytovae.images import BETWEEN_FILES, Image, Plane
from cytovae.screen import called, read_table, whole_file, write_json, write_table

Patches = npt.NDArray[np.uint16]
"""Patches as acquired (n, H, W, C)."""
Floats = npt.NDArray[np.float32]
"""Images as models see them (n, H, W, C), or embeddings (n, d)."""
Doubles = npt.NDArray[np.float64]
"""Numbers that are computed with."""


class Storage(enum.StrEnum):
    """Where a screen has its patches."""

    STORED = "stored"
    ON_DEMAND = "on-demand"


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
        self._beside = locks.beside(self.path)
        with called(self.path, self._beside):
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
        with called(self.path, self._beside):
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
                with called(self.path, self._beside):
                    self._handle.seek(0)
                    self._handle.write(header.getvalue())
                    self._stack.close()
                    self._beside.replace(self.path)
        finally:
            with contextlib.suppress(OSError):  # what could not be written is not wanted any more
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
    first = first_px(centres, size_px)
    inside = np.asarray((first >= 0).all(axis=1) & (first + size_px <= field.shape[:2]).all(axis=1))
    out = np.empty((int(inside.sum()), size_px, size_px, field.shape[2]), dtype=np.uint16)
    for patch, (y, x) in zip(out, first[inside], strict=True):
        patch[:] = field[y : y + size_px, x : x + size_px]
    return out, inside


def first_px(centres: npt.NDArray[np.floating], size_px: int) -> npt.NDArray[np.int64]:
    """The first pixel (n, 2) y, x of patches around centres (n, 2)."""
    return np.asarray(np.rint(centres).astype(np.int64) - size_px // 2)


def digests(patches: Patches) -> npt.NDArray[np.uint64]:
    """The first 8 bytes of the sha256 of each patch's pixels, as one number.

    Among a million patches compared with a million others, two share it by chance once in eighteen million times.

    Parameters
    ----------
    patches : (n, H, W, C) uint16

    Returns
    -------
    (n,) uint64
    """
    found = b"".join(hashlib.sha256(np.ascontiguousarray(patch).data).digest()[:8] for patch in patches)
    return np.frombuffer(found, dtype="<u8")


def write_digests(folder: Path, number: int, found: npt.NDArray[np.uint64]) -> None:
    """Write the digests of the patches of one part, whole; nothing where there are none."""
    if len(found):
        with whole_file(folder / f"digests-{number:05d}.npy") as beside, beside.open("wb") as handle:
            np.save(handle, found)


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
    """All patches of a screen, as if they were one ``(n, H, W, C)`` array, whether they are stored or read from fields.

    Parameters
    ----------
    folder : Path
        The screen's ``patches`` folder.

    Raises
    ------
    ScreenError
        There are none, or they do not fit together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._kept: _Kept = InFields(self.folder) if (self.folder / SOURCES).exists() else Parts(self.folder)
        self.patch_shape = self._kept.patch_shape  # (H, W, C)

    def __reduce__(self) -> tuple[type[PatchStore], tuple[Path]]:
        return PatchStore, (self.folder,)  # another process opens its own

    def __len__(self) -> int:
        return int(self._kept.starts[-1])

    def read(self, rows: npt.ArrayLike) -> Patches:
        """Patches by row of ``cells.parquet``, in the order asked for.

        Returns
        -------
        (len(rows), H, W, C) uint16

        Raises
        ------
        ScreenError
            There is no such row; or the patches are read from fields, and one of these is gone or was changed.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise ScreenError(
                f"{self.folder} holds {len(self)} patches; rows {rows.min()} to {rows.max()} were asked for"
            )
        out = np.empty((len(rows), *self.patch_shape), dtype=np.uint16)
        part = np.searchsorted(self._kept.starts, rows, side="right") - 1
        self._kept.read(out, part, rows - self._kept.starts[part])
        return out

    def field_of(self, row: int) -> Image | None:
        """The field (H, W, C) uint16, as acquired, that a patch is read from; None where patches are stored.

        Raises
        ------
        ScreenError
            The field is gone, was changed, or cannot be read.
        """
        if not isinstance(self._kept, InFields):
            return None
        part = int(np.searchsorted(self._kept.starts, row, side="right")) - 1
        return self._kept.acquired(int(self._kept.parts.opened(part).values[row - self._kept.starts[part], 0]))

    def digests(self, rows: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.uint64]:
        """The digests of patches by row, of all without `rows`, as ingest took them; else they are taken now."""
        rows = np.arange(len(self)) if rows is None else rows
        none = np.empty(0, np.uint64)
        paths = sorted(self.folder.glob("digests-*.npy"))
        kept = np.concatenate([none, *(np.load(p, allow_pickle=False) for p in paths)])
        if len(kept) == len(self):
            return np.asarray(kept[rows])
        blocks = (self.read(rows[first : first + 512]) for first in range(0, len(rows), 512))
        return np.concatenate([none, *(digests(block) for block in blocks)])

    def blocks(self, size: int) -> Iterator[tuple[int, Patches]]:
        """Consecutive blocks of at most `size` patches, each with the row it starts at; memory stays flat."""
        for start in range(0, len(self), size):
            yield start, self.read(np.arange(start, min(start + size, len(self))))


class _Kept(Protocol):
    """A way patches are kept: in parts one after the other, of which the rows begin at `starts`."""

    patch_shape: tuple[int, int, int]
    starts: npt.NDArray[np.int64]

    def read(self, out: Patches, part: npt.NDArray[np.int64], within: npt.NDArray[np.int64]) -> None:
        """Fill `out` with patches by part and place within it."""
        ...


class Parts:
    """Patches that are stored.

    Reads go through the memory map where the patches wanted are in the page cache, which is fastest; where they have to
    come from the disk, several threads ask for them at once, since a memory map would wait for one after the other.
    Which of the two it is, is found anew at every read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        paths = sorted(self.folder.glob("part-*.npy"))
        if not paths:
            raise ScreenError(f"{self.folder} holds no patches; run 'cytovae ingest' first")
        self.parts = _Arrays(paths)
        shapes = {shape[1:] for shape, _, _ in self.parts.heads}
        if len(shapes) != 1 or any(dtype != np.uint16 for _, dtype, _ in self.parts.heads):
            raise ScreenError(f"the parts of {self.folder} differ in shape or type: {shapes}")
        (self.patch_shape,) = shapes
        self.starts = self.parts.starts
        self._patch_bytes = 2 * int(np.prod(self.patch_shape))

    def read(self, out: Patches, part: npt.NDArray[np.int64], within: npt.NDArray[np.int64]) -> None:
        if self._on_disk(part, within):
            self._read_by_threads(out, part, within)
            return
        for number in np.unique(part):
            here = part == number
            out[here] = self.parts.opened(number).values[within[here]]

    def _place(self, part: int, within: int) -> int:
        return self.parts.heads[part][2] + int(within) * self._patch_bytes

    def _on_disk(self, part: npt.NDArray[np.int64], within: npt.NDArray[np.int64]) -> bool:
        """Whether some of the patches are not in the page cache, judged by a few of them."""
        if len(part) < _FEW or not hasattr(os, "RWF_NOWAIT"):
            return False
        byte = [bytearray(1)]
        for i in range(0, len(part), len(part) // _FEW):
            try:
                os.preadv(self.parts.opened(part[i]).file, byte, self._place(part[i], within[i]), os.RWF_NOWAIT)
            except BlockingIOError:
                return True
            except OSError:
                return False  # this file system cannot tell
        return False

    def _read_by_threads(self, out: Patches, part: npt.NDArray[np.int64], within: npt.NDArray[np.int64]) -> None:
        def read(some: range) -> None:
            for i in some:
                view = memoryview(out[i]).cast("B")
                opened = self.parts.opened(part[i])
                if os.preadv(opened.file, [view], self._place(part[i], within[i])) != self._patch_bytes:
                    raise ScreenError(f"part {part[i]} of {self.folder} is cut short; run 'cytovae ingest --overwrite'")

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(read, [range(first, len(out), _THREADS) for first in range(min(_THREADS, len(out)))]))


_THREADS = 16  # reads in flight on a disk
_FEW = 8  # patches looked at to judge where a batch lies


class _Array:
    """An ``.npy`` file that is open: its memory map, and the file, to be read at any place."""

    def __init__(self, path: Path) -> None:
        try:
            self.values: np.memmap = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as broken:
            said = f"a part of {path.parent} is damaged: {broken}; run 'cytovae ingest --overwrite'"
            raise ScreenError(said) from None
        self.file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.file)


class _Arrays:
    """Arrays in files, one after the other; those used last are open, for a process may open about a thousand files.

    `heads` are their shapes, types and where in its file each begins (byte); `starts` the rows they begin at.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._open = functools.lru_cache(_OPEN)(_Array)
        self.heads = [
            (values.shape, values.dtype, int(values.offset)) for values in (self._open(path).values for path in paths)
        ]
        self.starts = np.concatenate([[0], np.cumsum([shape[0] for shape, _, _ in self.heads])]).astype(np.int64)

    def opened(self, number: int) -> _Array:
        return self._open(self._paths[number])


_OPEN = 256  # arrays open at once, each by two files


SOURCES = "sources.json"
_FOLDER = "folder"


def write_places(folder: Path, number: int, places: npt.NDArray[np.int32]) -> None:
    """Write where the patches of one part lie, whole; nothing where there are none.

    Parameters
    ----------
    places : (n, 3) int32
        Row of the field in the table of sources; first pixel of the patch, y and x, in the field as it is cut.
    """
    if len(places):
        with whole_file(folder / f"places-{number:05d}.npy") as beside, beside.open("wb") as handle:
            np.save(handle, np.ascontiguousarray(places, dtype=np.int32))


def write_sources(folder: Path, table: pd.DataFrame, said: Mapping[str, Any]) -> None:
    """Write where the fields lie that patches are read from.

    Parameters
    ----------
    folder : Path
        The screen's ``patches`` folder.
    table : DataFrame
        A row per field, in the order that places count: ``path_<channel>``, relative or absolute, with
        `cytovae.images.BETWEEN_FILES` between the files of a z-stack; ``frame_<channel>`` (a page from 0, or -1); and
        ``light``: whose illumination it is divided by, or nothing; ``light_<channel>`` where it is divided by files.
    said : mapping
        ``folder`` (of relative paths), ``channels`` (in stored order), ``names`` (channel -> what an OME-TIFF may call
        it), ``z``, ``bit_depth``, ``scale``, ``patch_size_px``.
    """
    write_table(folder / "sources.parquet", table, {})
    write_json(folder / SOURCES, dict(said))


def move_sources(folder: Path, raw: Path) -> None:
    """Say that the fields are in another folder now."""
    said = json.loads((folder / SOURCES).read_text())
    if said[_FOLDER] != str(raw):
        write_json(folder / SOURCES, {**said, _FOLDER: str(raw)})


class InFields:
    """Patches that are read from their fields.

    A file's size and times of change are compared with those it had when the screen was made; where only the times
    differ, its sha256 is. Of fields stored uncompressed no more is read than the patches; of others the whole field,
    and the last one is remembered, so that patches read in their order cost each field once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._said: dict[str, Any] = json.loads((folder / SOURCES).read_text())
        except json.JSONDecodeError as broken:
            raise ScreenError(f"{folder / SOURCES} cannot be understood: {broken}") from None
        self.channels: list[str] = self._said["channels"]
        table, files = read_table(folder / "sources.parquet"), read_table(folder.parent / "images.parquet")
        self._paths = [table[f"path_{c}"].to_numpy(object) for c in self.channels]
        self._pages = [table[f"frame_{c}"].to_numpy(np.int64) for c in self.channels]
        self._light_of = table["light"].to_numpy(object)
        lit = [f"light_{c}" for c in self.channels]
        self._light_files = table[lit].to_numpy(object) if set(lit) <= set(table) else None
        self._known = {name: i for i, name in enumerate(files[contents.NAME])}
        self._stamps = files[contents.STAMP].to_numpy(np.int64)
        self._sha256 = files[contents.SHA256].to_numpy(object)
        paths = sorted(folder.glob("places-*.npy"))
        if not paths:
            raise ScreenError(f"{folder} does not say where its patches lie; run 'cytovae ingest --overwrite'")
        self.parts = _Arrays(paths)
        self.starts = self.parts.starts
        size = int(self._said["patch_size_px"])
        self.patch_shape: tuple[int, int, int] = (size, size, len(self.channels))
        self._lights: dict[str, npt.NDArray[np.float32]] = {}
        self._trusted: dict[Path, tuple[int, int, int]] = {}  # stamps of files whose content is the same
        self._last: tuple[int, Image] | None = None
        self._lock = threading.Lock()

    def read(self, out: Patches, part: npt.NDArray[np.int64], within: npt.NDArray[np.int64]) -> None:
        places = np.empty((len(out), 3), dtype=np.int64)
        for number in np.unique(part):
            here = part == number
            places[here] = self.parts.opened(number).values[within[here]]
        order = np.argsort(places[:, 0], kind="stable")
        rows, first = np.unique(places[order, 0], return_index=True)
        for row, here in zip(rows, np.split(order, first[1:]), strict=True):
            self._cut(int(row), places[here, 1:], out, here)

    def _cut(self, row: int, first: npt.NDArray[np.int64], out: Patches, to: npt.NDArray[np.int64]) -> None:
        """Cut the patches of one field into their places in `out`."""
        size, light = self.patch_shape[0], str(self._light_of[row])
        field, stamps = self._field(row)
        maps = field.maps(stamps) if field.scale is None and not light and not field.lights else None
        if maps is not None:
            for at, (y, x) in zip(to, first, strict=True):
                for channel, plane in enumerate(maps):
                    out[at, :, :, channel] = plane[y : y + size, x : x + size]
            return
        pixels = self._whole(row, field, light)
        for at, (y, x) in zip(to, first, strict=True):
            out[at] = pixels[y : y + size, x : x + size]

    def acquired(self, row: int) -> Image:
        """A field by its row among the sources; errors as `PatchStore.field_of`."""
        try:
            return self._field(row)[0].acquired()
        except ImageError as broken:
            raise ScreenError(f"a field of {self.folder.parent} cannot be read: {broken}") from None

    def _field(self, row: int) -> tuple[Field, tuple[tuple[int, int, int], ...]]:
        """Where a field lies, and the stamps of its files, which hold what they held."""
        said = self._said
        base = Path(said[_FOLDER])
        names = {c: str(p[row]).split(BETWEEN_FILES) for c, p in zip(self.channels, self._paths, strict=True)}
        planes = {
            c: Plane(
                None if pages[row] < 0 else int(pages[row]),
                tuple(said["names"][c]),
                said["z"],
                tuple(base / name for name in names[c][1:]),
            )
            for c, pages in zip(self.channels, self._pages, strict=True)
        }
        paths = {c: base / first for c, (first, *_) in names.items()}
        lights = {}
        if self._light_files is not None:
            lights = {c: base / str(name) for c, name in zip(self.channels, self._light_files[row], strict=True)}
            for path, name in zip(lights.values(), self._light_files[row], strict=True):
                self._check(path, str(name))
        field = Field(paths, planes, said["bit_depth"], said["scale"], lights)
        return field, tuple(self._check(base / name, name) for several in names.values() for name in several)

    def _whole(self, row: int, field: Field, light: str) -> Image:
        last = self._last
        if last is not None and last[0] == row:
            return last[1]
        try:
            pixels = field.prepared(field.acquired(), self._light(light) if light else None)
        except ImageError as broken:
            raise ScreenError(f"cells of {self.folder.parent} cannot be read from their field: {broken}") from None
        self._last = (row, pixels)
        return pixels

    def _light(self, plate: str) -> npt.NDArray[np.float32]:
        with self._lock:
            if plate not in self._lights:
                with np.load(self.folder.parent / "illumination.npz") as lights:
                    self._lights[plate] = lights[plate]
            return self._lights[plate]

    def _check(self, path: Path, name: str) -> tuple[int, int, int]:
        """The stamp of a file; refuses one that does not hold what it held.

        Raises
        ------
        ScreenError
            It is gone, or was changed.
        """
        remedy = (
            f"{self.folder.parent} keeps no patches but reads them from its fields: put the file back, or run the same "
            "'cytovae ingest' again with the folder the images are in now"
        )
        stamp = contents.stamp_of(path)
        if stamp is None:
            raise ScreenError(f"{path} is gone; {remedy}")
        known = self._known[name]
        before = tuple(self._stamps[known])
        if stamp == before or self._trusted.get(path) == stamp:
            return stamp
        if stamp[0] != before[0] or contents.digest_of(path) != self._sha256[known]:
            said = f"{path} holds something else than when the screen was made (its size or its sha256 differs)"
            raise ScreenError(f"{said}; {remedy}")
        self._trusted[path] = stamp
        return stamp
