"""One field or crop read as uint16, with a clear error for every way it can be broken."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import itertools
import logging
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from cytovae.config import MAX_PLANE_PX
from cytovae.errors import ConfigError, DependencyError, ImageError, IngestError, first_line

Image = npt.NDArray[np.uint16]

SUFFIXES = (".tif", ".tiff", ".png", ".npy")
VENDOR = (".czi", ".nd2", ".lif", ".dv")
"""Formats of microscopes' makers that are one file each; bioio reads them, with a plug-in for each."""


@dataclasses.dataclass(frozen=True)
class Plane:
    """Which plane of a file shows a channel; of a file with one plane nothing need be said.

    Parameters
    ----------
    frame : int, optional
        The page, from 0, where the table says it.
    names : tuple of str
        What an OME-TIFF may call the channel; case does not count.
    z : str, optional
        What becomes of a z-stack: ``max``, ``sum``, or the number of one plane, from 1.
    more : tuple of Path
        The further files of a z-stack that has a file for each of its planes.
    """

    frame: int | None = None
    names: tuple[str, ...] = ()
    z: str | None = None
    more: tuple[Path, ...] = ()


BETWEEN_FILES = "\0"
"""Stands between the names of files that are one image together: the planes of a z-stack, the channels of a crop."""


def check_z(z: str | None) -> None:
    """Refuse what says nothing about a z-stack.

    Raises
    ------
    ConfigError
        It is neither ``max`` nor ``sum`` nor a number from 1.
    """
    if z not in (None, "max", "sum") and not (z.isdecimal() and int(z) > 0):
        raise ConfigError(f"a z-stack becomes its 'max' or 'sum', or one plane by its number from 1, not {z!r}")


def read_plane(path: Path, plane: Plane = Plane(), *, bit_depth: int = 16, shared: bool = False) -> Image:
    """One channel of one field.

    Parameters
    ----------
    path : Path
        A TIFF (OME-TIFF too), PNG or npy file, the folder of an OME-Zarr image, or a file of a microscope's maker.
    plane : Plane
        Which plane of a file that holds several.
    bit_depth : int
        Bits per pixel the file is declared to have, 8 or 16.
    shared : bool
        Other channels of the field lie in the same file, so its planes are channels unless it says otherwise.

    Returns
    -------
    (H, W) uint16
        Values as stored.

    Raises
    ------
    ImageError
        ``missing-file``, ``unreadable-file`` (truncated, or of another format), ``too-large`` (more than
        `MAX_PLANE_PX`), ``several-planes`` (it is not said which is meant), ``wrong-bit-depth``, ``nan`` or
        ``wrong-shape``.
    DependencyError
        Only bioio reads the file, and it or its plug-in is not installed.
    """
    if plane.more:
        one = dataclasses.replace(plane, more=())
        stack = [read_plane(p, one, bit_depth=bit_depth, shared=shared) for p in (path, *plane.more)]
        if len({p.shape for p in stack}) > 1:
            raise ImageError("size-mismatch", f"the z-planes of {path} and the files beside it differ in size")
        return _projected(np.stack(stack), str(plane.z), path)
    pixels = _read(path, lambda tiff: _planes(tiff, path, plane, shared), plane)
    stacks = (".tif", ".tiff", *VENDOR)
    if pixels.ndim == 3 and plane.z is not None and (path.suffix.lower() in stacks or path.is_dir()):
        return _projected(as_uint16(pixels, path, bit_depth), plane.z, path)
    if pixels.ndim != 2:
        raise ImageError("wrong-shape", f"{path} holds an image of shape {pixels.shape}, not one plane of (H, W)")
    return as_uint16(pixels, path, bit_depth)


def read_field(paths: Mapping[str, Path], *, bit_depth: int = 16, planes: Mapping[str, Plane] | None = None) -> Image:
    """All channels of one field.

    Parameters
    ----------
    paths : mapping of str to Path
        Channel -> file, in the order wanted.
    bit_depth : int
        As for `read_plane`.
    planes : mapping of str to Plane, optional
        By channel; without one a channel is looked for by its own name.

    Returns
    -------
    (H, W, C) uint16

    Raises
    ------
    ImageError
        As `read_plane`; ``size-mismatch`` where the channels differ in size; ``several-planes`` where two channels are
        the same plane of the same file.
    """
    named = {c: (planes or {}).get(c, Plane(names=(c,))) for c in paths}
    for path in (file for c, first in paths.items() for file in (first, *named[c].more)):
        if not path.exists():
            raise ImageError("missing-file", f"{path} does not exist")
    files = list(paths.values())
    read = [read_plane(p, named[c], bit_depth=bit_depth, shared=files.count(p) > 1) for c, p in paths.items()]
    shapes = {plane.shape for plane in read}
    if len(shapes) > 1:
        seen = ", ".join(
            f"{path.name} {plane.shape[0]} x {plane.shape[1]}" for path, plane in zip(files, read, strict=True)
        )
        raise ImageError("size-mismatch", f"the channels of one field differ in size: {seen}")
    for (one, path, pixels), (other, beside, same) in itertools.combinations(zip(paths, files, read, strict=True), 2):
        if path == beside and np.array_equal(pixels, same) and pixels.min() < pixels.max():
            raise ImageError(
                "several-planes",
                f"channels {one} and {other} are the same plane of {path}; name a file for each channel (in file "
                "names by a group 'channel' of --microscope), or its page in a column Frame_<name> of the table",
            )
    return np.stack(read, axis=-1)


def read_labels(path: Path) -> npt.NDArray[np.int64]:
    """A label image: 0 outside, and one number for each nucleus, as Cellpose, StarDist and CellProfiler write them.

    Parameters
    ----------
    path : Path
        A TIFF, PNG or npy file of whole numbers.

    Returns
    -------
    (H, W) int64

    Raises
    ------
    ImageError
        ``missing-file``, ``unreadable-file``, ``wrong-shape``, or ``wrong-labels``: fractions, negative numbers, or a
        mask, in which many nuclei have one number.
    """
    pixels = np.squeeze(_read(path))
    if pixels.ndim != 2:
        raise ImageError("wrong-shape", f"{path} holds labels of shape {pixels.shape}, not (H, W)")
    if not np.issubdtype(pixels.dtype, np.integer) or pixels.min(initial=0) < 0:
        raise ImageError("wrong-labels", f"{path} holds {pixels.dtype} values, not labels: whole numbers from 0")
    labels = pixels.astype(np.int64)
    _check_pieces(labels, path)
    return labels


_PIECES = 4
"""A label of more pieces, each at least a quarter as large as the largest of them, is no nucleus."""


def _check_pieces(labels: npt.NDArray[np.int64], path: Path) -> None:
    """Refuse a mask, in which one number stands for many nuclei; the only label of an image is one with two pieces."""
    import cv2

    inside = labels > 0
    if not inside.any():
        return
    total, pieces = cv2.connectedComponents(inside.astype(np.uint8))
    numbers, which = np.unique(labels[inside], return_inverse=True)
    pairs, areas = np.unique(which * np.int64(total) + pieces[inside], return_counts=True)
    label = pairs // total
    largest = np.zeros(len(numbers), np.int64)
    np.maximum.at(largest, label, areas)
    count = np.bincount(label[4 * areas >= largest[label]])
    if count.max() > (_PIECES if len(numbers) > 1 else 1):
        raise ImageError(
            "wrong-labels",
            f"{path} gives the number {numbers[count.argmax()]} to {count.max()} separate pieces, as a mask does; a "
            "label image has a number of its own for every nucleus (scipy.ndimage.label makes one of a mask)",
        )


def read_illumination(path: Path) -> npt.NDArray[np.float64]:
    """The illumination of a channel, as CellProfiler's SaveImages writes it to a npy file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    (H, W) float64
        Positive.

    Raises
    ------
    ImageError
        ``missing-file``, ``unreadable-file``, ``wrong-shape``, or ``wrong-illumination``: a value is not above 0.
    """
    if not path.is_file():
        raise ImageError("missing-file", f"{path} does not exist")
    if path.suffix.lower() != ".npy":
        raise ImageError("unreadable-file", f"{path} is no npy file, and illumination is read from these alone")
    stat = path.stat()
    return _illumination(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=16)
def _illumination(path: Path, *stamp: int) -> npt.NDArray[np.float64]:
    """As `read_illumination`; `stamp` changes when the file does."""
    light = np.squeeze(_read(path))
    if light.ndim != 2:
        raise ImageError("wrong-shape", f"{path} holds an illumination of shape {light.shape}, not (H, W)")
    if light.dtype.kind not in "fiu" or not (np.isfinite(light) & (light > 0)).all():
        raise ImageError("wrong-illumination", f"{path} must hold numbers above 0, as fields are divided by them")
    return light.astype(np.float64)


def read_crops(
    source: Path, names: Sequence[str], channels: int, size_px: int | None, *, bit_depth: int = 16
) -> Iterator[Image | ImageError]:
    """Pre-cut cells one after the other; of one that cannot be used the error, so that the rest goes on.

    Parameters
    ----------
    source : Path
        A folder of npy, TIFF or PNG files of (H, W, C), or (C, H, W) where that can be told from the shape, or of
        (H, W), one per channel; or an npz or npy array of (n, H, W, C). An array is read as a stream, never whole.
    names : sequence of str
        File names in the folder, those of a crop's channels with `BETWEEN_FILES` between them; or places in the array.
    channels, size_px : int
        How many channels and which edge are expected; None where any edge will do.
    bit_depth : int
        As for `read_plane`.

    Yields
    ------
    (H, W, C) uint16, or ImageError
    """
    raw: Iterable[tuple[str, npt.NDArray[Any] | ImageError]]
    if source.is_dir():
        files = (name.split(BETWEEN_FILES) for name in names)
        raw = ((str(source / several[0]), _read_or_error(source, several)) for several in files)
    else:
        raw = _from_array(source, [int(name) for name in names])
    for label, pixels in raw:
        try:
            yield pixels if isinstance(pixels, ImageError) else as_crop(pixels, label, channels, size_px, bit_depth)
        except ImageError as broken:
            yield broken


def _read_or_error(folder: Path, names: Sequence[str]) -> npt.NDArray[Any] | ImageError:
    """A file as it is, or the files of a crop's channels as (H, W, C)."""
    try:
        planes = [_read(folder / name) for name in names]
    except ImageError as broken:
        return broken
    if len(planes) == 1:
        return planes[0]
    kinds = {(plane.shape, plane.dtype) for plane in planes}
    if len(kinds) > 1 or planes[0].ndim != 2:
        seen = ", ".join(f"{name} {p.shape} {p.dtype}" for name, p in zip(names, planes, strict=True))
        return ImageError("size-mismatch", f"the channels of a crop must be alike and (H, W), and are {seen}")
    return np.stack(planes, axis=-1)


def _from_array(source: Path, places: Sequence[int]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Crops of an array, each with its label; a compressed array is passed through once where places ascend."""
    if source.suffix.lower() == ".npy":
        array = np.load(source, mmap_mode="r", allow_pickle=False)
        for place in places:
            yield f"{source}[{place}]", np.array(array[place])
        return
    try:
        with zipfile.ZipFile(source) as archive, archive.open(array_member(archive)) as handle:
            shape, fortran, dtype = read_head(handle)
            if fortran:
                raise ImageError("unreadable-file", f"{source} holds its array in Fortran order; save it in C order")
            start, size = handle.tell(), int(np.prod(shape[1:])) * dtype.itemsize
            for place in places:
                handle.seek(start + place * size)
                yield f"{source}[{place}]", np.frombuffer(handle.read(size), dtype=dtype).reshape(shape[1:])
    except IngestError:
        raise
    except Exception as broken:  # a damaged archive fails in many ways; what comes after the damage is lost
        said = f"{source} cannot be read to its end: {first_line(broken)}"
        raise ImageError("unreadable-file", said) from None


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
            shape, _, dtype = read_head(handle)
            claimed = dtype.itemsize * math.prod(shape) + handle.tell()
        if dtype.hasobject or claimed != info.file_size:
            said = "Python objects" if dtype.hasobject else f"{claimed:,} bytes in {info.file_size:,}"
            raise IngestError(f"{info.filename} of {archive.filename} claims to hold {said}, so it cannot be read")
        heads[info.filename] = shape
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


def as_crop(pixels: npt.NDArray[Any], source: object, channels: int, size_px: int | None, bit_depth: int) -> Image:
    """Pixels checked to be one crop (H, W, C) of the expected size and type; `source` names them in messages."""
    if pixels.ndim == 2 and channels == 1:
        pixels = pixels[..., None]
    if size_px is None:
        if pixels.ndim == 3 and pixels.shape[-1] != channels and pixels.shape[0] == channels:
            pixels = np.moveaxis(pixels, 0, -1)
        if pixels.ndim != 3 or pixels.shape[-1] != channels:
            raise ImageError("wrong-shape", f"{source} has shape {pixels.shape}, not (H, W, {channels})")
        return as_uint16(pixels, source, bit_depth)
    wanted = (size_px, size_px, channels)
    if pixels.shape == (channels, size_px, size_px) and pixels.shape != wanted:
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.shape != wanted:
        raise ImageError(
            "wrong-shape", f"{source} has shape {pixels.shape}, not {wanted}; --fit cuts or pads crops of another size"
        )
    return as_uint16(pixels, source, bit_depth)


def as_uint16(pixels: npt.NDArray[Any], source: object, bit_depth: int) -> Image:
    """Pixels as uint16 without changing a value.

    Raises
    ------
    ImageError
        ``nan``, or ``wrong-bit-depth``: another integer type than declared, or fractions; ``wrong-shape``: no pixel.
    """
    if not pixels.size:
        raise ImageError("wrong-shape", f"{source} holds no pixel: its shape is {pixels.shape}")
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


def _read(
    path: Path, of_tiff: Callable[[Any], npt.NDArray[Any]] | None = None, plane: Plane | None = None
) -> npt.NDArray[Any]:
    """The pixels of a file; `of_tiff` picks from an open TIFF and `plane` from OME-Zarr, without them all there is."""
    if path.is_dir():
        return _of_zarr(path, plane)
    if not path.is_file():
        raise ImageError("missing-file", f"{path} does not exist")
    if path.suffix.lower() in VENDOR:
        return _of_vendor(path, plane or Plane())
    if path.suffix.lower() not in SUFFIXES:
        raise ImageError("unreadable-file", f"{path} is not one of {', '.join(SUFFIXES)}")
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as handle:
                _check_size(path, math.prod(read_head(handle)[0]))
            return np.asarray(np.load(path, allow_pickle=False))
        if path.suffix.lower() == ".png":
            return _read_png(path)
        with _opened(path) as tiff:
            if of_tiff is not None:
                return of_tiff(tiff)
            _check_whole(path, tiff.pages)
            image = _only_image(tiff, path)
            _check_size(path, math.prod(image.shape))
            return np.asarray(image.asarray())
    except ImageError:
        raise
    except Exception as broken:
        # Decoders fail in many ways on damaged files; each of them means that this one file is not usable.
        raise ImageError("unreadable-file", f"{path} cannot be read: {first_line(broken)}") from None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A TIFF; one of a set of OME-TIFFs as if it described the images in it alone."""
    import tifffile

    # what it has to say of a file is raised, or does not count
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tifffile.TiffFile(path) as tiff:
        own = _own_images(tiff, path) if len(tiff.pages) > 1 else None
        if own is None:
            yield tiff
            return
    with tifffile.TiffFile(path, omexml=own) as tiff:
        yield tiff


def _only_image(tiff: Any, path: Path) -> Any:
    """The one image of an open TIFF, which may have planes and levels of a pyramid.

    Raises
    ------
    ImageError
        ``several-planes``: it holds others.
    """
    image, *others = (one for one in tiff.series if one.index == 0 or not one.keyframe.is_reduced)
    if others:
        raise ImageError(
            "several-planes",
            f"{path} holds {1 + len(others)} images, of shapes {image.shape} and {others[0].shape}, and not those of "
            "one field; write each to a file of its own, or give the page of each channel, counted from 0, in a column "
            "Frame_<name> of the table",
        )
    return image


def _check_size(path: Path, pixels: int) -> None:
    if pixels > MAX_PLANE_PX:
        raise ImageError("too-large", f"{path} claims to hold {pixels:,} pixels, and at most {MAX_PLANE_PX:,} are read")


def _of_zarr(path: Path, plane: Plane | None) -> npt.NDArray[Any]:
    """The plane of an OME-Zarr image that is meant, (H, W), or the z-stack (Z, H, W); without one all there is."""
    from cytovae import omezarr

    about = omezarr.picture(path)
    try:
        array = about.array()
    except DependencyError:
        raise
    except Exception as broken:  # zarr fails in many ways on damaged metadata
        raise ImageError("unreadable-file", f"{about.path} cannot be read: {first_line(broken)}") from None
    if array.ndim != len(about.axes):
        raise ImageError("wrong-shape", f"{about.path} has the shape {array.shape}, which axes {about.axes} do not fit")
    index: tuple[Any, ...] = ()
    if plane is not None:
        lengths = zip(about.axes[:-2], array.shape[:-2], strict=True)
        index = tuple(_along(lambda: about.names, path, axis, n, plane, True) for axis, n in lengths)
    _check_size(path, math.prod(array.shape[-2:]))
    try:
        if bad := omezarr.bad_chunk(about.path, array, index):
            raise ImageError("unreadable-file", bad)
        return np.asarray(array[index])
    except ImageError:
        raise
    except Exception as broken:  # codecs fail in many ways on damaged chunks
        raise ImageError("unreadable-file", f"{about.path} cannot be read: {first_line(broken)}") from None


def _of_vendor(path: Path, plane: Plane) -> npt.NDArray[Any]:
    """The plane of a maker's file that is meant, (H, W), or the z-stack (Z, H, W), read by bioio."""
    kind = path.suffix.lower().removeprefix(".")
    missing = DependencyError(
        f"{path.name} is read by bioio with its plug-in for {kind} files: pip install bioio bioio-{kind}"
    )
    try:
        import bioio
    except ImportError:
        raise missing from None
    try:
        image = bioio.BioImage(path)
        scenes, axes = image.scenes, str(image.dims.order)
        if len(scenes) > 1:
            said = f"{path} holds {len(scenes)} scenes ({', '.join(map(str, scenes[:3]))}, ...)"
            raise ImageError("several-planes", f"{said}; write each to a file of its own")
        if set(axes) - set("TCZYX"):
            raise ImageError("wrong-shape", f"{path} holds an image of axes {axes}, not planes of T, C, Z, Y and X")
        _check_size(path, image.dims.Y * image.dims.X)
        index = {
            axis: _along(lambda: [str(n) for n in image.channel_names], path, axis, image.dims[axis][0], plane, True)
            for axis in "TCZ"
        }
        whole = isinstance(index["Z"], slice)
        told = {axis: k for axis, k in index.items() if not isinstance(k, slice)}
        return np.asarray(image.get_image_data("ZYX" if whole else "YX", **told))
    except ImageError:
        raise
    except Exception as broken:  # each plug-in fails in ways of its own
        if type(broken).__name__ == "UnsupportedFileFormatError" and not importlib.util.find_spec(f"bioio_{kind}"):
            raise missing from None
        raise ImageError("unreadable-file", f"{path} cannot be read: {first_line(broken)}") from None


def _check_whole(path: Path, pages: Iterable[Any]) -> None:
    size = path.stat().st_size
    for page in pages:
        _check_size(path, math.prod(page.shape))
        ends = [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if not ends or max(ends) > size or min(page.databytecounts) == 0:
            said = f"{path} is truncated: it has {size} bytes and should have {max(ends, default=0)}"
            raise ImageError("unreadable-file", said)


def _planes(tiff: Any, path: Path, plane: Plane, shared: bool) -> npt.NDArray[Any]:
    """The plane of an open TIFF that is meant, (H, W), or where its z-stack is wanted the stack (Z, H, W)."""
    if plane.frame is not None:
        pages = tiff.pages[plane.frame : plane.frame + 1]
        if not len(pages):
            raise ImageError("unreadable-file", f"{path} has {len(tiff.pages)} pages, so no frame {plane.frame}")
        _check_whole(path, pages)
        several = len(tiff.pages) > 1 or (tiff.is_imagej and math.prod(tiff.series[0].shape[:-2]) > 1)
        if plane.z is not None and several:
            raise ImageError(
                "several-planes",
                f"{path} holds several planes: the table asks for page {plane.frame} in a column Frame_, and --z "
                f"{plane.z} for another; leave out --z, or take the columns Frame_ out of the table",
            )
        return np.asarray(pages[0].asarray())
    if len(tiff.pages) == 1 and not tiff.is_imagej:
        _check_whole(path, tiff.pages)
        page = np.asarray(tiff.pages[0].asarray())
        if page.ndim != 2:
            raise ImageError("wrong-shape", f"{path} holds an image of shape {page.shape}, not one plane of (H, W)")
        return page
    series = _only_image(tiff, path)
    axes, shape = series.axes, series.shape
    if axes[-2:] != "YX":
        raise ImageError("wrong-shape", f"{path} holds an image of axes {axes} and shape {shape}, not planes of (Y, X)")
    held = functools.partial(channel_names, tiff)
    index = tuple(_along(held, path, axis, n, plane, shared) for axis, n in zip(axes[:-2], shape[:-2], strict=True))
    leading = np.arange(int(np.prod(shape[:-2]))).reshape(shape[:-2])[index]
    if len(series.pages) != int(np.prod(shape[:-2])):  # ImageJ writes one page for all its planes
        _check_whole(path, tiff.pages)
        return np.asarray(series.asarray()[index])
    chosen = [series.pages[int(k)] for k in np.ravel(leading)]
    if any(page is None for page in chosen):
        raise ImageError("unreadable-file", f"{path} lacks planes that its description names")
    _check_whole(path, chosen)
    read = np.stack([page.asarray() for page in chosen])
    return np.asarray(read if leading.ndim else read[0])


def _own_images(tiff: Any, path: Path) -> str | None:
    """What an OME-TIFF of a set would say of itself if it described the images in it alone; None where it does.

    The files of a set all describe the images of all of them, and say by a UUID in which file a plane lies.
    """
    described = tiff.ome_metadata or ""
    if "UUID>" not in described:
        return None
    try:
        root = ElementTree.fromstring(described)
    except ElementTree.ParseError:
        return None  # tifffile goes by the pages alone

    def lies_here(image: ElementTree.Element) -> bool:
        files = [plane.find("{*}UUID") for plane in image.iterfind("{*}Pixels/{*}TiffData")]
        here = (root.get("UUID"), path.name.lower())
        return any(f is None or f.text == here[0] or f.get("FileName", "").lower() == here[1] for f in files)

    elsewhere = [image for image in root.iterfind("{*}Image") if not lies_here(image)]
    for image in elsewhere:
        root.remove(image)
    return ElementTree.tostring(root, encoding="unicode") if elsewhere else None


def _along(
    held: Callable[[], list[str]], path: Path, axis: str, length: int, plane: Plane, shared: bool
) -> int | slice:
    """Which of the planes along one axis of a file are meant; `held` gives what the file calls its channels.

    Raises
    ------
    ImageError
        ``several-planes``: that is not said.
    """
    if length == 1:
        return 0
    if axis == "C":
        names = held()
        wanted = {name.lower() for name in plane.names}
        if plane.frame is not None and plane.frame < length:
            return plane.frame
        found = [i for i, name in enumerate(names) if name.lower() in wanted]
        if len(found) != 1 or len(names) != length:
            raise ImageError(
                "several-planes",
                f"{path} holds {length} channels, called {', '.join(names) or 'nothing'}, and not just one is called "
                f"{' or '.join(plane.names)}; name the channel as the file does, or give its page, counted from "
                "0, in a column Frame_<name> of the table",
            )
        return found[0]
    if axis == "Z" or (axis in "QI" and not shared and plane.z is not None):
        if plane.z is None:
            raise ImageError(
                "several-planes",
                f"{path} is a z-stack of {length} planes; say what becomes of it with --z max, --z sum or --z N",
            )
        if plane.z.isdecimal():
            if int(plane.z) > length:
                raise ImageError("several-planes", f"{path} has {length} z-planes, so no plane {plane.z} (--z)")
            return int(plane.z) - 1
        return slice(None)
    if axis == "T":
        raise ImageError("several-planes", f"{path} holds {length} time points; split it into one file a time point")
    raise ImageError(
        "several-planes",
        f"{path} holds {length} planes and does not say what they are; give the page of each channel, counted from 0, "
        "in a column Frame_<name> of the table, or --z if they are one z-stack",
    )


def channel_names(tiff: Any) -> list[str]:
    """What an open OME-TIFF calls the channels of its first image; none where it does not say.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    """
    import tifffile

    if not tiff.is_ome:
        return []
    images = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
    pixels = (images[0] if isinstance(images, list) else images)["Pixels"]
    channels = pixels.get("Channel", [])
    channels = channels if isinstance(channels, list) else [channels]
    return [str(channel.get("Name", "")) for channel in channels]


def _projected(stack: Image, z: str, path: Path) -> Image:
    """A z-stack (Z, H, W) as one plane."""
    if z == "max":
        return np.asarray(stack.max(axis=0))
    total = stack.sum(axis=0, dtype=np.uint64)
    if total.max() > np.iinfo(np.uint16).max:
        raise ImageError(
            "wrong-bit-depth", f"the {len(stack)} z-planes of {path} add up to {total.max()}, beyond 65535; use --z max"
        )
    return np.asarray(total.astype(np.uint16))


def _read_png(path: Path) -> npt.NDArray[Any]:
    import cv2

    content = np.fromfile(path, dtype=np.uint8)
    if content[:8].tobytes() != b"\x89PNG\r\n\x1a\n":
        raise ImageError("unreadable-file", f"{path} is no PNG")
    _check_size(path, math.prod(content[16:24].view(">u4").tolist()))
    cv2.utils.logging.setLogLevel(0)  # what it has to say of a file is raised
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
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
