"""The one door through which pictures of cells go to a browser.

A cell that lies in an unfinished quiz is black in every picture: itself, what a model makes of it, and its place in a
field. `Pictures` are made here alone, and the components take nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.common import loaders
from cytovae import schema
from cytovae.errors import CytovaeError
from cytovae.patches import normalise
from cytovae.screen import Screen


@dataclass(frozen=True)
class Pictures:
    """Pictures that may be shown.

    Parameters
    ----------
    images : (n, H, W, C) float32
        Range [0, 1] for real cells; what a decoder draws may lie outside. Black where `veiled`.
    veiled : (n,) bool
    """

    images: npt.NDArray[np.float32]
    veiled: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: slice) -> Pictures:
        """Some of them."""
        return Pictures(self.images[which], self.veiled[which])

    def __add__(self, more: Pictures) -> Pictures:
        """These, then those."""
        return Pictures(np.concatenate([self.images, more.images]), np.concatenate([self.veiled, more.veiled]))


def veil(screen: Screen, cell_ids: Sequence[str] | npt.ArrayLike, images: npt.NDArray) -> Pictures:
    """Pictures of these cells, or of what was made of them: black while the cell lies in an unfinished quiz.

    Parameters
    ----------
    cell_ids : (n,) of str
        Whose picture each is; an empty word for a picture that is of no cell in particular, as between two cells.
    images : (n, H, W, C) float
    """
    veiled = np.isin(np.asarray(cell_ids, dtype=str), list(loaders.in_play(screen)))
    return Pictures(np.where(veiled[:, None, None, None], np.float32(0), images).astype(np.float32), veiled)


def of_cells(screen: Screen, rows: npt.ArrayLike) -> Pictures:
    """Real cells by row as a model sees them: each channel of each cell divided by its own maximum."""
    ids = loaders.cells(screen)[schema.CELL_ID].iloc[np.asarray(rows)]
    return veil(screen, ids.to_numpy(str), normalise(loaders.patches(screen, rows)))


def of_nobody(images: npt.NDArray) -> Pictures:
    """Pictures that show no cell of the screen: averages, and what a model draws between two cells."""
    return Pictures(np.asarray(images, np.float32), np.zeros(len(images), bool))


def of_field(screen: Screen, pixels: npt.NDArray[np.uint16], cells: pd.DataFrame) -> npt.NDArray[np.uint16]:
    """A raw field in which the patches of cells in unfinished quizzes are black.

    Parameters
    ----------
    pixels : (H, W, C) uint16
    cells : DataFrame
        The field's cells, with their centres in pixels of the field.
    """
    hidden = cells[cells[schema.CELL_ID].isin(loaders.in_play(screen))]
    shown, half = pixels.copy(), -(-screen.record.patch_size_px // 2)
    for y, x in zip(hidden[schema.CENTER_Y], hidden[schema.CENTER_X], strict=True):
        top, left = (max(int(np.floor(v)) - half, 0) for v in (y, x))
        shown[top : int(np.ceil(y)) + half, left : int(np.ceil(x)) + half] = 0
    return shown


def of_sheet(path: Path) -> npt.NDArray[np.uint8] | None:
    """A file of pictures of cells; None while a quiz on any screen at hand is unfinished, or that cannot be known.

    Such a file does not say which cells it shows, nor of which screen, so no cell can be made black alone.

    Returns
    -------
    (H, W, 3) uint8 or None

    Raises
    ------
    CytovaeError
        The file cannot be read as a picture.
    """
    from PIL import Image, UnidentifiedImageError

    if any(loaders.in_play(screen) or loaders.quiz_trouble(screen) for screen in loaders.screens().values()):
        return None
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as bad:
        raise CytovaeError(f"the pictures {path} cannot be read: {bad}") from None
