"""A small screen in memory with the marks of a camera, and generators that differ from it in every trivial way."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import ndimage

from cytovae import schema

EDGE_PX = 68


class Screen:
    """Cells and patches: 12-bit steps of 16, a camera offset and noise floor, sparse highlights, uneven treatments."""

    def __init__(self, edge_px: int = EDGE_PX, counts: tuple[int, ...] = (60, 24, 24, 12, 12, 6, 2, 1)) -> None:
        rng = np.random.default_rng(0)
        treatment = np.repeat([f"drug{i}@1" for i in range(len(counts))], counts)
        n = len(treatment)
        self.cells = pd.DataFrame(
            {
                schema.CELL_ID: [f"cell-{i:04d}" for i in range(n)],
                schema.TREATMENT: treatment,
                schema.MOA: [f"mechanism {int(t[4]) % 3}" for t in treatment],
                schema.BLANK: np.zeros(n, dtype=bool),
            }
        )
        y, x = np.mgrid[:edge_px, :edge_px] - edge_px / 2
        gain = rng.uniform(400, 20_000, (n, 1, 1, 3))
        width = rng.uniform(12, 26, (n, 1, 1, 3))
        blob = np.exp(-(x**2 + y**2)[None, :, :, None] / (2 * width**2))
        speckle = rng.gamma(8.0, 0.125, (n, edge_px, edge_px, 3))
        light = gain * blob * speckle + rng.normal(500, 40, (n, edge_px, edge_px, 3))
        self.patches: npt.NDArray[np.uint16] = (16 * np.rint(light / 16)).clip(16, 65520).astype(np.uint16)

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
        return self.patches[rows]


class Identity:
    """A perfect generator: what it decodes is the patch, each channel divided by its maximum."""

    name = "identity"

    def __init__(self, shape: tuple[int, int, int] = (EDGE_PX, EDGE_PX, 3)) -> None:
        self.shape = shape

    def encode(self, images: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
        top = images.max(axis=(1, 2), keepdims=True).clip(1)
        return (images / top.astype(np.float32)).reshape(len(images), -1).astype(np.float32)

    def decode(self, z: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return z.reshape(-1, *self.shape)


class Betraying(Identity):
    """Smooth, off the camera's grid, with a flat negative background, and far from a maximum of 1."""

    name = "betraying"

    def decode(self, z: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        smooth = ndimage.gaussian_filter(super().decode(z), (0, 1.0, 1.0, 0))
        return (0.6 * np.maximum(smooth - 0.2, -0.05)).astype(np.float32)


class Bordered(Identity):
    """Perfect but for its outermost three pixels, which are blurred as by a decoder's padding."""

    name = "bordered"

    def decode(self, z: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        images = super().decode(z).copy()
        smooth = ndimage.gaussian_filter(images, (0, 2.0, 2.0, 0))
        outer = np.ones(self.shape[:2], dtype=bool)
        outer[3:-3, 3:-3] = False
        images[:, outer] = smooth[:, outer]
        return images


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def identity() -> Identity:
    return Identity()


@pytest.fixture
def betraying() -> Betraying:
    return Betraying()
