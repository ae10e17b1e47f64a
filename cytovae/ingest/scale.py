"""From any magnification to the networks': fields and crops made larger or smaller, antialiased, and crops fitted."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from cytovae.config import ScreenRecord
from cytovae.errors import ConfigError
from cytovae.images import Image

NUCLEUS_PX = 34.0
"""Usual diameter of an interphase nucleus (px) in BBBC021, the scale that patches of 68 px are made for."""


NUCLEUS, NONE = "nucleus", "none"
"""What ``rescale`` may say beside a pixel size: to the usual nucleus; as acquired, whatever the size of the nuclei."""

FAR = 1.5
"""How many times wider or narrower than usual nuclei are of another magnification."""


def factor(rescale: str, nucleus_px: float, pixel_size_um: float | None) -> float:
    """What the edges of images are multiplied by.

    Parameters
    ----------
    rescale : str
        ``nucleus``: until a nucleus of `nucleus_px` is `NUCLEUS_PX` wide; or a number: the pixel size wanted (um).
    nucleus_px : float
        Usual diameter of a nucleus as acquired (px).
    pixel_size_um : float or None
        Edge of a pixel as acquired (um).

    Raises
    ------
    ConfigError
        It is neither, the pixel size is not known, or the images would change more than eightfold.

    Examples
    --------
    >>> factor("nucleus", 68, None), factor("0.65", 34, 0.325)
    (0.5, 0.5)
    """
    if rescale == NUCLEUS:
        times = NUCLEUS_PX / nucleus_px
    else:
        try:
            wanted = float(rescale)
            if not wanted > 0:
                raise ValueError
        except ValueError:
            raise ConfigError(
                f"rescale to the size of the 'nucleus', to a pixel size in um, or 'none', not {rescale!r}"
            ) from None
        if pixel_size_um is None:
            raise ConfigError(f"to rescale to pixels of {wanted:g} um give their size as acquired with --pixel-size-um")
        times = pixel_size_um / wanted
    if not 1 / 8 <= times <= 8:
        raise ConfigError(f"images would be made {times:g} times as large, and at most 8 times either way makes sense")
    return times


def of(record: ScreenRecord, times: float) -> ScreenRecord:
    """The record of a screen whose images are rescaled: the pixel size follows."""
    size = None if record.pixel_size_um is None else record.pixel_size_um / times
    return dataclasses.replace(record, pixel_size_um=size, scale=times)


def moved(centres: npt.NDArray[np.float64], before: tuple[int, ...], after: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Centres (n, 2) y, x of an image of one shape, in the one it was rescaled to; a first pixel's centre is 0."""
    ratio = np.array(after[:2]) / np.array(before[:2])
    return np.asarray((centres + 0.5) * ratio - 0.5)


def fitted(crop: Image, size_px: int) -> Image:
    """A crop cut to its centre, or padded with the median of each channel's rim.

    The centre stays where `cytovae.patches.cut` has it: on pixel ``size // 2``.

    Parameters
    ----------
    crop : (H, W, C) uint16
    size_px : int

    Returns
    -------
    (size_px, size_px, C) uint16
    """
    first = [size_px // 2 - edge // 2 for edge in crop.shape[:2]]  # where the crop's first pixel falls, each axis
    rim = np.concatenate([crop[0], crop[-1], crop[:, 0], crop[:, -1]])
    out = np.broadcast_to(np.median(rim, axis=0).astype(np.uint16), (size_px, size_px, crop.shape[2])).copy()
    to = tuple(slice(max(0, f), min(size_px, f + edge)) for f, edge in zip(first, crop.shape[:2], strict=True))
    of_crop = tuple(slice(t.start - f, t.stop - f) for t, f in zip(to, first, strict=True))
    out[to] = crop[of_crop]
    return out
