"""A field as patches are cut from it: read, divided by its plate's illumination, brought to the networks' scale.

Ingest finds cells in such fields; a screen that keeps no patches reads them again when its cells are wanted.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cytovae import images
from cytovae.errors import ImageError
from cytovae.images import Image, Plane

SHRINK = 8
"""How many pixels of a field lie along one of its illumination."""


@dataclasses.dataclass(frozen=True)
class Field:
    """Where one field lies, and what is done to it before patches are cut.

    Parameters
    ----------
    paths : dict of str to Path
        Channel -> file, in stored order.
    planes : dict of str to Plane
        Which plane of that file.
    bit_depth : int
        Bits per pixel the files are declared to have.
    scale : float, optional
        What its edges are multiplied by.
    lights : dict of str to Path
        Channel -> file of the illumination it is divided by, as large as the field; none where it is not.
    """

    paths: Mapping[str, Path]
    planes: Mapping[str, Plane]
    bit_depth: int = 16
    scale: float | None = None
    lights: Mapping[str, Path] = dataclasses.field(default_factory=dict)

    def acquired(self) -> Image:
        """Its pixels as stored, (H, W, C) uint16; errors as `cytovae.images.read_field`."""
        return images.read_field(self.paths, bit_depth=self.bit_depth, planes=self.planes)

    def prepared(self, pixels: Image, light: npt.NDArray[np.float32] | None) -> Image:
        """Its pixels as patches are cut from them.

        Parameters
        ----------
        pixels : (H, W, C) uint16
            As acquired.
        light : (h, w, C) float32 or None
            Its plate's illumination; one of fields of another size is left aside.

        Raises
        ------
        ImageError
            As `cytovae.images.read_illumination`; or ``size-mismatch``: an illumination file is of another size.
        """
        if self.lights:
            pixels = divided(pixels, [self.lights[c] for c in self.paths])
        if light is not None and fits(pixels, light):
            pixels = correct(pixels, light)
        return pixels if self.scale is None else rescaled(pixels, self.scale)

    def maps(self, stamps: tuple[tuple[int, ...], ...]) -> list[npt.NDArray] | None:
        """Its planes (H, W) as memory maps, where all are stored as they are, and of one size; else None.

        Parameters
        ----------
        stamps : tuple
            Of each file: what changes where its content does.
        """
        if any(plane.more for plane in self.planes.values()):
            return None
        maps, shapes = [], set()
        for (channel, path), stamp in zip(self.paths.items(), stamps, strict=True):
            place = _place(path, self.planes[channel].frame, self.bit_depth, stamp)
            if place is None:
                return None
            offset, kind, shape = place
            maps.append(np.memmap(path, dtype=kind, mode="r", offset=offset, shape=shape))
            shapes.add(shape)
        return list(maps) if len(shapes) == 1 else None


@functools.lru_cache(65536)
def _place(
    path: Path, frame: int | None, bit_depth: int, stamp: tuple[int, ...]
) -> tuple[int, np.dtype, tuple[int, ...]] | None:
    """Where in a file a plane lies uncompressed: first byte, type, shape; None where it cannot be mapped."""
    import tifffile

    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    with tifffile.TiffFile(path) as tiff:
        if frame is None and (len(tiff.pages) != 1 or tiff.is_imagej):
            return None
        page = tiff.pages[frame or 0]
        if not page.is_final or page.ndim != 2 or page.dtype != np.dtype(f"uint{bit_depth}"):
            return None
        return page.dataoffsets[0], np.dtype(tiff.byteorder + page.dtype.char), page.shape


def fits(field: Image, light: npt.NDArray[np.float32]) -> bool:
    """Whether an illumination is that of fields of this size, to within `SHRINK` pixels."""
    return light.shape[:2] == (field.shape[0] // SHRINK, field.shape[1] // SHRINK)


def correct(field: Image, light: npt.NDArray[np.float32]) -> Image:
    """A field divided by its plate's illumination; its dark level (1st percentile) stays as it is.

    Parameters
    ----------
    field : (H, W, C) uint16
    light : (h, w, C) float32
        From `cytovae.ingest.illumination.estimate`.

    Returns
    -------
    (H, W, C) uint16
    """
    import cv2

    height, width, channels = field.shape
    full = cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, channels)
    dark = np.percentile(field[::4, ::4], 1, axis=(0, 1)).astype(np.float32)
    even = np.rint((field - dark) / full + dark)
    return np.asarray(np.clip(even, 0, np.iinfo(np.uint16).max), dtype=np.uint16)


def divided(field: Image, lights: Sequence[Path]) -> Image:
    """A field divided by illumination files, as CellProfiler's CorrectIlluminationApply divides.

    Parameters
    ----------
    field : (H, W, C) uint16
    lights : sequence of Path
        One for each channel.

    Returns
    -------
    (H, W, C) uint16
        Rounded; what goes beyond 65535 is 65535.
    """
    even = np.empty_like(field)
    for channel, path in enumerate(lights):
        light = images.read_illumination(path)
        if light.shape != field.shape[:2]:
            said = f"{light.shape[0]} x {light.shape[1]} px, its field {field.shape[0]} x {field.shape[1]}"
            raise ImageError("size-mismatch", f"the illumination {path} has {said}")
        even[..., channel] = np.clip(np.rint(field[..., channel] / light), 0, np.iinfo(np.uint16).max)
    return even


def rescaled(image: Image, times: float) -> Image:
    """An image made smaller by the mean over the area of each new pixel, or larger by cubic interpolation.

    Parameters
    ----------
    image : (H, W, C) uint16
    times : float

    Returns
    -------
    (round(H * times), round(W * times), C) uint16
    """
    import cv2

    height, width = (max(1, round(edge * times)) for edge in image.shape[:2])
    way = cv2.INTER_AREA if times < 1 else cv2.INTER_CUBIC
    planes = (np.ascontiguousarray(plane) for plane in np.moveaxis(image, -1, 0))
    return np.stack([cv2.resize(plane, (width, height), interpolation=way) for plane in planes], axis=-1)
