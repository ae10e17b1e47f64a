"""One field or crop read as uint16, with a clear error for every way it can be broken."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from cytovae.errors import ImageError, IngestError

Image = npt.NDArray[np.uint16]

SUFFIXES = (".tif", ".tiff", ".png", ".npy")


def read_plane(path: Path, *, bit_depth: int = 16, frame: int = 0) -> Image:
    """One channel of one field.

    Parameters
    ----------
    path : Path
        A TIFF (OME-TIFF too), PNG or npy file.
    bit_depth : int
        Bits per pixel the file is declared to have, 8 or 16.
    frame : int
        Which page of a file that holds several.

    Returns
    -------
    (H, W) uint16
        Values as stored.

    Raises
    ------
    ImageError
        ``missing-file``, ``unreadable-file`` (truncated, or of another format), ``wrong-bit-depth``, ``nan`` or
        ``wrong-shape``.
    """
    pixels = _read(path, frame)
    if pixels.ndim != 2:
        raise ImageError("wrong-shape", f"{path} holds an image of shape {pixels.shape}, not one plane of (H, W)")
    return as_uint16(pixels, path, bit_depth)


def read_field(paths: Mapping[str, Path], *, bit_depth: int = 16, frames: Mapping[str, int] | None = None) -> Image:
    """All channels of one field.

    Parameters
    ----------
    paths : mapping of str to Path
        Channel -> file, in the order wanted.
    bit_depth, frames
        As for `read_plane`; frames by channel.

    Returns
    -------
    (H, W, C) uint16

    Raises
    ------
    ImageError
        As `read_plane`; and ``size-mismatch`` where the channels differ in size.
    """
    for path in paths.values():
        if not path.is_file():
            raise ImageError("missing-file", f"{path} does not exist")
    planes = [read_plane(p, bit_depth=bit_depth, frame=(frames or {}).get(c, 0)) for c, p in paths.items()]
    shapes = {plane.shape for plane in planes}
    if len(shapes) > 1:
        seen = ", ".join(
            f"{path.name} {plane.shape[0]} x {plane.shape[1]}"
            for path, plane in zip(paths.values(), planes, strict=True)
        )
        raise ImageError("size-mismatch", f"the channels of one field differ in size: {seen}")
    return np.stack(planes, axis=-1)


def read_crops(
    source: Path, names: Sequence[str], channels: int, size_px: int, *, bit_depth: int = 16
) -> Iterator[Image | ImageError]:
    """Pre-cut cells one after the other; of one that cannot be used the error, so that the rest goes on.

    Parameters
    ----------
    source : Path
        A folder of npy, TIFF or PNG files of (H, W, C), or (C, H, W) where that can be told from the shape; or an npz
        or npy array of (n, H, W, C). An array is read as a stream, never whole.
    names : sequence of str
        File names in the folder, or places in the array.
    channels, size_px : int
        How many channels and which edge are expected.
    bit_depth : int
        As for `read_plane`.

    Yields
    ------
    (H, W, C) uint16, or ImageError
    """
    raw: Iterable[tuple[str, npt.NDArray[Any] | ImageError]]
    if source.is_dir():
        raw = ((str(source / name), _read_or_error(source / name)) for name in names)
    else:
        raw = _from_array(source, [int(name) for name in names])
    for label, pixels in raw:
        try:
            yield pixels if isinstance(pixels, ImageError) else as_crop(pixels, label, channels, size_px, bit_depth)
        except ImageError as broken:
            yield broken


def _read_or_error(path: Path) -> npt.NDArray[Any] | ImageError:
    try:
        return _read(path, None)
    except ImageError as broken:
        return broken


def _from_array(source: Path, places: Sequence[int]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Crops of an array, each with its label; a compressed array is passed through once where places ascend."""
    if source.suffix.lower() == ".npy":
        array = np.load(source, mmap_mode="r", allow_pickle=False)
        for place in places:
            yield f"{source}[{place}]", np.array(array[place])
        return
    with zipfile.ZipFile(source) as archive, archive.open(array_member(archive)) as handle:
        shape, fortran, dtype = read_head(handle)
        if fortran:
            raise ImageError("unreadable-file", f"{source} holds its array in Fortran order; save it in C order")
        start, size = handle.tell(), int(np.prod(shape[1:])) * dtype.itemsize
        for place in places:
            handle.seek(start + place * size)
            yield f"{source}[{place}]", np.frombuffer(handle.read(size), dtype=dtype).reshape(shape[1:])


def array_member(archive: zipfile.ZipFile) -> str:
    """The array of crops in an npz file: ``images``, else the only one of four axes.

    Raises
    ------
    IngestError
        There is none, or more than one.
    """
    heads = {}
    for info in archive.infolist():
        with archive.open(info) as handle:
            heads[info.filename] = read_head(handle)[0]
    arrays = [n for n, shape in heads.items() if len(shape) == 4 and (n == "images.npy" or "images.npy" not in heads)]
    if len(arrays) != 1:
        held = ", ".join(f"{n.removesuffix('.npy')} {s}" for n, s in heads.items()) or "nothing"
        raise IngestError(
            f"{archive.filename} must hold one array of crops (n, H, W, C), best called 'images'; it holds {held}"
        )
    return arrays[0]


def read_head(handle: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is in Fortran order, and type, from the head of a npy stream."""
    version = np.lib.format.read_magic(handle)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(handle)
    return shape, fortran, dtype


def as_crop(pixels: npt.NDArray[Any], source: object, channels: int, size_px: int, bit_depth: int) -> Image:
    """Pixels checked to be one crop (H, W, C) of the expected size and type; `source` names them in messages."""
    wanted = (size_px, size_px, channels)
    if pixels.ndim == 2 and channels == 1:
        pixels = pixels[..., None]
    if pixels.shape == (channels, size_px, size_px) and pixels.shape != wanted:
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.shape != wanted:
        raise ImageError("wrong-shape", f"{source} has shape {pixels.shape}, not {wanted}")
    return as_uint16(pixels, source, bit_depth)


def as_uint16(pixels: npt.NDArray[Any], source: object, bit_depth: int) -> Image:
    """Pixels as uint16 without changing a value.

    Raises
    ------
    ImageError
        ``nan``, or ``wrong-bit-depth``: another integer type than declared, or fractions.
    """
    if np.issubdtype(pixels.dtype, np.floating):
        if not np.isfinite(pixels).all():
            raise ImageError("nan", f"{source} holds {int((~np.isfinite(pixels)).sum())} values that are no number")
        if (pixels != np.floor(pixels)).any() or pixels.min() < 0 or pixels.max() > np.iinfo(np.uint16).max:
            raise ImageError(
                "wrong-bit-depth", f"{source} holds {pixels.dtype} fractions, not {bit_depth}-bit intensities"
            )
        return pixels.astype(np.uint16)
    if pixels.dtype != np.dtype(f"uint{bit_depth}"):
        raise ImageError(
            "wrong-bit-depth",
            f"{source} holds {pixels.dtype}, not the uint{bit_depth} declared; "
            "give --bit-depth 8 only if the whole screen is 8-bit",
        )
    return pixels.astype(np.uint16)


def _read(path: Path, frame: int | None) -> npt.NDArray[Any]:
    """The pixels of a file; `frame` picks a page of a TIFF, None takes all there is."""
    if not path.is_file():
        raise ImageError("missing-file", f"{path} does not exist")
    if path.suffix.lower() not in SUFFIXES:
        raise ImageError("unreadable-file", f"{path} is not one of {', '.join(SUFFIXES)}")
    try:
        if path.suffix.lower() == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        if path.suffix.lower() == ".png":
            return _read_png(path)
        return _read_tiff(path, frame)
    except ImageError:
        raise
    except Exception as broken:
        # Decoders fail in many ways on damaged files; each of them means that this one file is not usable.
        raise ImageError("unreadable-file", f"{path} cannot be read: {broken or type(broken).__name__}") from None


def _read_tiff(path: Path, frame: int | None) -> npt.NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        pages = tiff.pages if frame is None else tiff.pages[frame : frame + 1]
        if not len(pages):
            raise ImageError("unreadable-file", f"{path} has {len(tiff.pages)} pages, so no frame {frame}")
        size = path.stat().st_size
        for page in pages:
            ends = [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
            if not ends or max(ends) > size or min(page.databytecounts) == 0:
                said = f"{path} is truncated: it has {size} bytes and should have {max(ends, default=0)}"
                raise ImageError("unreadable-file", said)
        return np.asarray(tiff.asarray() if frame is None else pages[0].asarray())


def _read_png(path: Path) -> npt.NDArray[Any]:
    import cv2

    pixels = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageError("unreadable-file", f"{path} is no PNG")
    return pixels if pixels.ndim == 2 else np.asarray(pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]])


_ROUNDING_NOISE = 12**-0.5  # standard deviation (grey levels) that rounding to whole grey levels alone brings


def is_blank(patches: npt.NDArray[Any], channel: int = 0, contrast: float = 10.0) -> npt.NDArray[np.bool_]:
    """Which patches show no nucleus: the DNA channel has no contrast.

    The 5 x 5 box mean of the channel spans less than `contrast` times its pixel noise. The noise is estimated from
    differences of neighbouring pixels. In the BBBC021 sample blank crops span 1.8 to 3.2 times the noise, cells 27 and
    more.

    The noise is never taken to be less than what rounding to whole grey levels brings, 1 / sqrt(12) grey levels. Where
    most neighbours are equal, as in dark 8-bit images, a cell must therefore span about 3 grey levels. The rule never
    depends on the offset, and not on the gain either as long as the noise is more than that of rounding.

    Parameters
    ----------
    patches : (n, H, W, C) array
        In grey levels as acquired.
    channel : int
        Which one is DNA.
    contrast : float
        The least span of a cell, in standard deviations of the pixel noise.

    Returns
    -------
    (n,) bool
    """
    import cv2

    blank = np.empty(len(patches), dtype=bool)
    for i, patch in enumerate(patches):
        plane = np.ascontiguousarray(patch[..., channel], dtype=np.float32)
        noise = float(np.median(np.abs(np.diff(plane[::3], axis=1)))) / (0.6745 * np.sqrt(2))
        smooth = cv2.blur(plane, (5, 5))[2:-2, 2:-2]
        blank[i] = smooth.max() - smooth.min() <= contrast * max(noise, _ROUNDING_NOISE)
    return blank
