"""The uneven illumination of a plate, channel by channel, estimated from the plate's own fields.

The mean of many fields shows where the light is brighter, once the cells in them have averaged out (Singh et al. 2014,
J. Microsc. 256, 231-236: the "regular" method). A surface of second degree is laid through it, so that what is left of
the cells is not taken for light. Fields are divided by it before nuclei are found and patches cut.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from cytovae.fields import SHRINK
from cytovae.images import Image


class Correction(enum.StrEnum):
    """Whose illumination patches are divided by."""

    NONE = "none"
    PLATE = "plate"
    FILES = "files"

    @property
    def words(self) -> str:
        """What it does."""
        return {
            "none": "leave it as it is",
            "plate": "divide by each plate's own, estimated from its fields",
            "files": "divide by the files that a LoadData table names for it, such as FileName_IllumDNA",
        }[self.value]


MIN_FIELDS = 8
MAX_FIELDS = 96


def estimate(fields: Iterable[Image]) -> npt.NDArray[np.float32]:
    """The illumination of a plate, from some of its fields.

    The dark level of each field (its 1st percentile) is taken off first: it carries no light of the lamp.

    Parameters
    ----------
    fields : iterable of (H, W, C) uint16
        Read one at a time. Of several shapes the most common counts (of two as common, the first met), and fields of
        the others are passed over.

    Returns
    -------
    (H // 8, W // 8, C) float32
        Mean 1 in every channel, at least 0.1; all 1 where fewer than `MIN_FIELDS` fields could be used, for their cells
        would be taken for light; (1, 1, 1) where there was none.
    """
    import cv2

    sums: dict[tuple[int, ...], tuple[npt.NDArray[np.float64], int]] = {}  # shape -> sum, number of fields
    for field in fields:
        height, width, channels = field.shape[0] // SHRINK, field.shape[1] // SHRINK, field.shape[2]
        if not (height and width):
            continue
        small = cv2.resize(field.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        small = small.reshape(height, width, channels)
        small -= np.percentile(small, 1, axis=(0, 1))
        # A few very bright objects must not count as light.
        small = np.minimum(small, np.percentile(small, 98, axis=(0, 1)))
        total, count = sums.get(field.shape, (np.zeros(small.shape, dtype=np.float64), 0))
        sums[field.shape] = total + small, count + 1
    total, count = max(sums.values(), key=lambda entry: entry[1], default=(np.ones((1, 1, 1)), 0))
    height, width, channels = total.shape
    if count < MIN_FIELDS:
        return np.ones((height, width, channels), dtype=np.float32)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].reshape(2, -1)
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    coefficients = np.linalg.lstsq(basis, total.reshape(-1, channels) / count, rcond=None)[0]
    smooth = (basis @ coefficients).reshape(height, width, channels)
    light = smooth / np.maximum(smooth.mean(axis=(0, 1)), 1e-6)
    return np.asarray(np.maximum(light, 0.1), dtype=np.float32)
