"""A balanced, blinded deck: real cells and reconstructions of others, drawn by one of two protocols.

``as decoded``, the paper's: both kinds as the model sees and draws them, each channel from 0 to 1. Whatever a decoded
cell shows tells it from a real one, brightness and black point included. Only these results stand beside the paper's.

``matched``: structure alone decides. What would tell the classes apart without looking, and what is done about it:

- *Brightness, contrast, black and white point, range.* A reconstruction is smooth, so its maximum is not 1, its
  background is flat or negative, and any stretch of its own range makes it brighter than a real cell. So a synthetic
  card takes its grey values from the cell it was made from, rank by rank: the generator says which pixel is brighter
  than which, the camera says how bright. Every statistic of the grey values of a channel (minimum, maximum, mean,
  spread, number of levels) then has the same distribution for both classes, whatever the generator.
- *The camera's grid* (12 bits in steps of 16) and its noise floor come along with the grey values.
- *Gaps between levels*, wide in dim cells: every pixel of either class gets a uniform dither of one step.
- *Exact zeros and saturation.* Each channel is stretched linearly by rank: the same number of its pixels is 0 and the
  same number 255 on every card, all others lie in 1..254. (Dividing by the maximum first would change nothing.)

A generator that reproduces its input exactly then deals the very bytes of the real cell. What is left is where the
light lies: structure, and with it smoothness and compressibility. That is the picture, and what the rater judges. But
the camera's noise comes along with the grey values: a smooth reconstruction looks more detailed than it is.

In either protocol:

- *The border.* A decoder pads its feature maps, and the outermost pixels of what it draws show it. Both kinds are
  shown through the same round window, `DeckOptions.hidden_px` away from the edges.
- *Type and size*: every card is uint8 of one shape.
- *Uneven screens*: every treatment gives as many real as synthetic cards; no cell is dealt twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import QuizError

SYNTHETIC = "synthetic"
"""Column of a deck's cards: True where the card shows a reconstruction."""

CARD_COLUMNS = (schema.CELL_ID, schema.TREATMENT, schema.MOA, SYNTHETIC)


class Generator(Protocol):
    """What a deck asks of a model: both ways between images and embeddings, normalisation being its own business."""

    @property
    def name(self) -> str:
        """What to call it."""
        ...

    def encode(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Embeddings (n, d) of patches (n, H, W, C)."""
        ...

    def decode(self, z: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Images (n, H, W, C), about [0, 1] per channel, of embeddings (n, d)."""
        ...


class DeckProtocol(StrEnum):
    """How both kinds of cards are drawn; results of the two are answers to different questions."""

    MATCHED = "matched"
    AS_DECODED = "as decoded"

    @property
    def words(self) -> str:
        """What it shows and why one would choose it."""
        if self is DeckProtocol.MATCHED:
            return (
                "A reconstruction is drawn with the grey values of the cell it was made from, so brightness and "
                "contrast give nothing away: the question is whether the model puts light where a cell does. The "
                "camera's noise comes along and makes it look more detailed than it is, so the result is not the "
                "paper's figure."
            )
        return (
            "Decoded cells are shown as they are, as in the paper: brightness, background and blur may give them away. "
            "Only this result can stand beside the paper's."
        )


@dataclasses.dataclass(frozen=True)
class DeckOptions:
    """How a deck is dealt.

    Parameters
    ----------
    n_real, n_synthetic : int
        Cards of either kind; 50 and 50 in the paper.
    clip_percent : float
        Share of each channel's pixels (%) that is drawn black, and the same share that is drawn full, in a matched
        deck.
    protocol : DeckProtocol
        How both kinds are drawn.
    hidden_px : int
        Distance (px) of the round window, through which every card is shown, from the edges of the patch; 0 shows
        the whole patch.
    """

    n_real: int = 50
    n_synthetic: int = 50
    clip_percent: float = 0.5
    protocol: DeckProtocol = DeckProtocol.MATCHED
    hidden_px: int = 6

    def __post_init__(self) -> None:
        if self.n_real < 1 or self.n_synthetic < 1:
            raise QuizError(
                f"a deck holds at least one real and one synthetic card, not {self.n_real} + {self.n_synthetic}"
            )
        if not 0 < self.clip_percent < 50:
            raise QuizError(f"clip_percent lies between 0 and 50, not {self.clip_percent}")
        if self.hidden_px < 0:
            raise QuizError(f"hidden_px is 0 or more pixels, not {self.hidden_px}")


@dataclasses.dataclass(frozen=True)
class Deck:
    """A dealt deck; everything but the pictures is for the server alone.

    Parameters
    ----------
    cards : DataFrame
        One row per card in the order of showing: ``cell_id``, ``Metadata_Treatment``, ``Metadata_MoA``, ``synthetic``.
    pictures : (n, H, W, C) uint8
        In the same order.
    held_out : bool
        True where every cell comes from a well that the model was not trained on.
    options : DeckOptions
    """

    cards: pd.DataFrame
    pictures: npt.NDArray[np.uint8]
    held_out: bool
    options: DeckOptions


def deal(
    cells: pd.DataFrame,
    read: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.uint16]],
    generator: Generator,
    rng: np.random.Generator,
    options: DeckOptions = DeckOptions(),
    *,
    held_out: npt.ArrayLike | None = None,
    avoid: Collection[str] = (),
) -> Deck:
    """A shuffled deck of real cells and of reconstructions of other cells.

    Treatments are drawn at random, controls among them, each as often as any other; each gives one real and one
    synthetic card at a time. Cells of held-out wells are used alone where they suffice for the whole deck.

    Parameters
    ----------
    cells : DataFrame
        ``cell_id``, ``Metadata_Treatment``, ``Metadata_MoA`` and, where known, ``Metadata_Blank``; row i is patch i.
    read : callable
        Rows (k,) int64 -> patches (k, H, W, C) uint16 as acquired.
    generator : Generator
        Its reconstructions are the synthetic cards.
    rng : numpy.random.Generator
        Chooses cells and order, and dithers.
    options : DeckOptions
    held_out : (len(cells),) bool, optional
        True for cells of wells that the generator was not trained on.
    avoid : collection of str
        Cells not to deal, such as those this rater has seen; ignored where the deck cannot be filled without them.

    Raises
    ------
    QuizError
        There are too few cells, or the generator gives images of another shape or values that are not numbers.
    """
    schema.require_columns(cells, CARD_COLUMNS[:3], "the table of cells")
    rows, real, all_held_out = _choose(cells, held_out, avoid, options, rng)
    patches = np.asarray(read(rows))
    shown = window(patches.shape[1:3], options.hidden_px)
    images = _reconstruct(generator, patches[~real])
    draw = _matched if options.protocol is DeckProtocol.MATCHED else _as_decoded
    pictures = np.zeros(patches.shape, dtype=np.uint8)
    pictures[:, shown] = draw(patches, images, ~real, shown, rng, options)
    cards = cells.iloc[rows][list(CARD_COLUMNS[:3])].reset_index(drop=True)
    cards[SYNTHETIC] = ~real
    return Deck(cards, pictures, all_held_out, options)


def window(shape: tuple[int, ...], hidden_px: int) -> npt.NDArray[np.bool_]:
    """The pixels of a patch that are shown: a disc `hidden_px` away from its edges, or all of them where that is 0.

    Parameters
    ----------
    shape : (H, W)
    hidden_px : int

    Returns
    -------
    (H, W) bool

    Raises
    ------
    QuizError
        Less than half of the patch's height or width would be shown.
    """
    height, width = shape
    if not hidden_px:
        return np.ones((height, width), dtype=bool)
    if 4 * hidden_px > min(height, width):
        raise QuizError(
            f"hiding {hidden_px} px at the edges leaves too little of patches of {height} x {width} px; "
            f"hide at most {min(height, width) // 4} px"
        )
    y, x = np.ogrid[:height, :width]
    away = ((y - (height - 1) / 2) / (height / 2 - hidden_px)) ** 2
    disc: npt.NDArray[np.bool_] = away + ((x - (width - 1) / 2) / (width / 2 - hidden_px)) ** 2 <= 1
    return disc


def _matched(
    patches: npt.NDArray[np.uint16],
    images: npt.NDArray[np.float64],
    synthetic: npt.NDArray[np.bool_],
    shown: npt.NDArray[np.bool_],
    rng: np.random.Generator,
    options: DeckOptions,
) -> npt.NDArray[np.uint8]:
    """The shown pixels (n, pixels, C) of all cards; grey values are matched and stretched among them alone."""
    light = patches[:, shown][:, None]  # (n, 1, pixels, C)
    noise = rng.random(light.shape)
    levels = light.astype(np.int64)
    levels[synthetic] = with_grey_values_of(light[synthetic], images[:, shown][:, None], noise[synthetic])
    return as_pictures(levels, camera_step(patches), noise, options.clip_percent)[:, 0]


def _as_decoded(
    patches: npt.NDArray[np.uint16],
    images: npt.NDArray[np.float64],
    synthetic: npt.NDArray[np.bool_],
    shown: npt.NDArray[np.bool_],
    rng: np.random.Generator,
    options: DeckOptions,
) -> npt.NDArray[np.uint8]:
    """The shown pixels (n, pixels, C) of all cards: what the model reads and what it draws, 0 to 1 as 0 to 255."""
    drawn = patches / patches.max(axis=(1, 2), keepdims=True).clip(1)
    drawn[synthetic] = images.clip(0, 1)
    levels: npt.NDArray[np.uint8] = np.rint(255 * drawn[:, shown]).astype(np.uint8)
    return levels


def with_grey_values_of(
    patches: npt.NDArray[np.uint16], images: npt.NDArray[np.float64], noise: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Images redrawn with the grey values of patches: in each channel the brightest pixel takes the highest, and so on.

    Parameters
    ----------
    patches : (n, H, W, C) uint16
        Where the grey values come from.
    images : (n, H, W, C) float
        Where the order of the pixels comes from.
    noise : (n, H, W, C) float
        Orders pixels that are equal in `images`.

    Returns
    -------
    (n, H, W, C) int64
    """
    grey = np.sort(_by_channel(patches), axis=2).astype(np.int64)
    levels = np.empty_like(grey)
    np.put_along_axis(levels, np.lexsort((_by_channel(noise), _by_channel(images)), axis=2), grey, axis=2)
    return _by_pixel(levels, patches.shape)


def as_pictures(
    levels: npt.NDArray[np.int64],
    step: npt.NDArray[np.int64],
    noise: npt.NDArray[np.float64],
    clip_percent: float = 0.5,
) -> npt.NDArray[np.uint8]:
    """Camera levels as 8-bit pictures that all have the same number of black and of full pixels.

    A dither of one step is added; in each channel the darkest `clip_percent` of the pixels become 0, as many of the
    brightest 255, and the rest spread linearly over 1..254. A channel with one level alone stays black.

    Parameters
    ----------
    levels : (n, H, W, C) int64
        Intensities on the camera's grid, real and synthetic alike.
    step : (n,) int64
        Distance of the grid's levels, from `camera_step`.
    noise : (n, H, W, C) float
        Uniform, range [0, 1).
    clip_percent : float

    Returns
    -------
    (n, H, W, C) uint8
    """
    dithered = _by_channel(levels + step[:, None, None, None] * (noise - 0.5))  # (n, C, H*W)
    clipped = max(1, round(dithered.shape[2] * clip_percent / 100))
    order = np.argsort(dithered, axis=2)
    ends = np.take_along_axis(dithered, order[:, :, [clipped - 1, -clipped]], axis=2)
    low, high = ends[:, :, :1], ends[:, :, 1:]
    grey = np.clip(1 + np.floor(254 * (dithered - low) / (high - low)), 1, 254).astype(np.uint8)
    np.put_along_axis(grey, order[:, :, :clipped], 0, axis=2)
    np.put_along_axis(grey, order[:, :, -clipped:], 255, axis=2)
    grey[np.ptp(levels, axis=(1, 2)) == 0] = 0
    return _by_pixel(grey, levels.shape)


def _by_channel(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Images (n, H, W, C) as (n, C, H*W)."""
    return np.ascontiguousarray(np.moveaxis(images, 3, 1)).reshape(len(images), images.shape[3], -1)


def _by_pixel(channels: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The way back: (n, C, H*W) as (n, H, W, C)."""
    n, height, width, c = shape
    return np.ascontiguousarray(np.moveaxis(channels.reshape(n, c, height, width), 1, 3))


def camera_step(patches: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """Distance between the intensity levels of each patch: 16 for a 12-bit camera stored in 16 bits, at least 1.

    Parameters
    ----------
    patches : (n, H, W, C) uint16

    Returns
    -------
    (n,) int64
        Greatest common divisor of the differences between intensities.
    """
    flat = patches.reshape(len(patches), -1).astype(np.int64)
    step: npt.NDArray[np.int64] = np.gcd.reduce(flat - flat.min(axis=1, keepdims=True), axis=1)
    return np.maximum(step, 1)


def _reconstruct(generator: Generator, patches: npt.NDArray[np.uint16]) -> npt.NDArray[np.float64]:
    """The generator's image of each patch, (n, H, W, C)."""
    images = np.asarray(generator.decode(generator.encode(patches)), dtype=np.float64)
    if images.shape != patches.shape:
        raise QuizError(
            f"model {generator.name!r} gives images of {images.shape[1:]} for patches of {patches.shape[1:]}; "
            "choose a model trained on this screen's patches"
        )
    if not np.isfinite(images).all():
        raise QuizError(f"model {generator.name!r} gives values that are not numbers (NaN or infinite); train it again")
    return images


def _choose(
    cells: pd.DataFrame,
    held_out: npt.ArrayLike | None,
    avoid: Collection[str],
    options: DeckOptions,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], bool]:
    """Rows and kinds of the cards in showing order, and whether all are held out; the narrowest pool that suffices."""
    usable = schema.not_blank(cells)
    fresh = usable & ~cells[schema.CELL_ID].isin(list(avoid)).to_numpy()
    apart = np.zeros(len(cells), dtype=bool) if held_out is None else np.asarray(held_out, dtype=bool)
    for pool, is_held_out in ((fresh & apart, True), (usable & apart, True), (fresh, False), (usable, False)):
        drawn = _draw(cells[schema.TREATMENT].to_numpy(), np.flatnonzero(pool), options, rng)
        if drawn is not None:
            return *drawn, is_held_out
    raise QuizError(
        f"a deck of {options.n_real} + {options.n_synthetic} cards needs as many different cells, two of each "
        f"treatment it draws, and of the {int(usable.sum())} usable cells of this screen too few are so paired; "
        "ask for a smaller deck"
    )


def _draw(
    treatments: npt.NDArray[np.object_], pool: npt.NDArray[np.int64], options: DeckOptions, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]] | None:
    """Rows and kinds from a pool, treatment by treatment in random order; None where it does not suffice."""
    pool = rng.permutation(pool)
    left = {str(name): pool[treatments[pool] == name].tolist() for name in pd.unique(treatments[pool])}
    pairs = min(options.n_real, options.n_synthetic)
    rest = [options.n_real > options.n_synthetic] * abs(options.n_real - options.n_synthetic)
    rows: list[int] = []
    real: list[bool] = []
    turn: list[str] = []  # treatments that have yet to deal in this round
    for hand in [[True, False]] * pairs + [[kind] for kind in rest]:
        turn = turn or list(rng.permutation([name for name, have in left.items() if len(have) >= len(hand)]))
        if not turn:
            return None
        have = left[turn.pop()]
        rows += [have.pop() for _ in hand]
        real += hand
    order = rng.permutation(len(rows))
    return np.array(rows, dtype=np.int64)[order], np.array(real)[order]
