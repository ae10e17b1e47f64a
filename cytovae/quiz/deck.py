"""A balanced, blinded deck: real cells and reconstructions of others, made into pictures the same way.

What would tell the two classes apart without looking, and what is done about it:

===================================  ================================================================================
a real patch                         so
===================================  ================================================================================
lies on the camera's grid (12 bits   a reconstruction is put back on the scale and grid of the cell it was made from;
in steps of 16)                      then both get a uniform dither of one step, which leaves no gaps between levels
has a noise floor, never exact 0;    each channel is stretched by rank: the same number of its pixels is 0 and the same
its brightest pixel is exactly 1     number is 255 on every card, everything between lies in 1..254
after normalisation                  (an affine change of a channel, such as division by its maximum, changes nothing)
has sparse highlights, so some of    a level that no pixel of a channel has is taken by the pixel next in rank, moved by
the 256 levels do not occur          at most 8 levels of 255: next to all levels occur on every card
is uint16, another size              every card is uint8 of one shape
comes from an uneven screen          every treatment gives as many real as synthetic cards; no cell is dealt twice
===================================  ================================================================================

So a generator that reproduces its input exactly deals the very bytes of the real cell. What is left, such as
smoothness and thus compressibility, mean brightness and the shape of the histogram, is the picture itself: it is
what the rater is asked about.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import QuizError

SYNTHETIC = "synthetic"
"""Column of a deck's cards: True where the card shows a reconstruction."""

REACH = 8
"""How many grey levels of 255 a pixel may be moved so that all levels occur."""

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


@dataclasses.dataclass(frozen=True)
class DeckOptions:
    """How a deck is dealt.

    Parameters
    ----------
    n_real, n_synthetic : int
        Cards of either kind; 50 and 50 in the paper.
    clip_percent : float
        Share of each channel's pixels (%) that is drawn black, and the same share that is drawn full.
    """

    n_real: int = 50
    n_synthetic: int = 50
    clip_percent: float = 0.5

    def __post_init__(self) -> None:
        if self.n_real < 1 or self.n_synthetic < 1:
            raise QuizError(
                f"a deck holds at least one real and one synthetic card, not {self.n_real} + {self.n_synthetic}"
            )
        if not 0 < self.clip_percent < 50:
            raise QuizError(f"clip_percent lies between 0 and 50, not {self.clip_percent}")


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
        There are too few cells, or the generator gives images of another shape or values that are no numbers.
    """
    schema.require_columns(cells, CARD_COLUMNS[:3], "the table of cells")
    rows, real, all_held_out = _choose(cells, held_out, avoid, options, rng)
    patches = np.asarray(read(rows))
    levels = patches.astype(np.int64)
    synthetic = np.flatnonzero(~real)
    levels[synthetic] = _reconstruct(generator, patches[synthetic])
    cards = cells.iloc[rows][list(CARD_COLUMNS[:3])].reset_index(drop=True)
    cards[SYNTHETIC] = ~real
    return Deck(cards, as_pictures(levels, camera_step(patches), rng, options.clip_percent), all_held_out, options)


def as_pictures(
    levels: npt.NDArray[np.int64], step: npt.NDArray[np.int64], rng: np.random.Generator, clip_percent: float = 0.5
) -> npt.NDArray[np.uint8]:
    """Camera levels as 8-bit pictures that all have the same number of black and of full pixels.

    A uniform dither of one step is added; in each channel the darkest `clip_percent` of the pixels become 0, as many
    of the brightest 255, and the rest spread linearly over 1..254; a level that would not occur is taken by a pixel
    within `REACH`. A channel with one level alone stays black.

    Parameters
    ----------
    levels : (n, H, W, C) int64
        Intensities on the camera's grid, real and synthetic alike.
    step : (n,) int64
        Distance of the grid's levels, from `camera_step`.
    rng : numpy.random.Generator
    clip_percent : float

    Returns
    -------
    (n, H, W, C) uint8
    """
    n, height, width, channels = levels.shape
    clipped = max(1, round(height * width * clip_percent / 100))
    dithered = levels + step[:, None, None, None] * (rng.random(levels.shape) - 0.5)
    out = np.zeros(levels.shape, dtype=np.uint8)
    for card, channel in np.ndindex(n, channels):
        if np.ptp(levels[card, :, :, channel]):
            grey = _spread(dithered[card, :, :, channel].ravel(), clipped)
            out[card, :, :, channel] = grey.reshape(height, width)
    return out


def _spread(values: npt.NDArray[np.float64], clipped: int) -> npt.NDArray[np.uint8]:
    """Distinct values (p,) as grey levels (p,): `clipped` are 0, as many 255, next to all of 1..254 occur between."""
    order = np.argsort(values)
    inner = values[order[clipped:-clipped]]
    low, high = values[order[clipped - 1]], values[order[-clipped]]
    grey = np.clip(1 + np.floor(254 * (inner - low) / (high - low)), 1, 254).astype(np.int64)
    used = np.arange(1, 255)
    if len(grey) >= len(used):  # a level that no pixel has is taken by the pixel next in rank, if it is near
        rank = np.arange(len(used))
        first = np.maximum.accumulate(np.searchsorted(grey, used) - rank) + rank
        first = np.minimum(first, len(grey) - len(used) + rank)
        near = np.abs(grey[first] - used) <= REACH
        grey[first[near]] = used[near]
    out = np.zeros(len(values), dtype=np.uint8)
    out[order[clipped:-clipped]] = grey
    out[order[-clipped:]] = 255
    return out


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


def _reconstruct(generator: Generator, patches: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """The generator's image of each patch, on the patch's own scale and grid: (n, H, W, C) int64."""
    images = np.asarray(generator.decode(generator.encode(patches)), dtype=np.float64)
    if images.shape != patches.shape:
        raise QuizError(
            f"model {generator.name!r} gives images of {images.shape[1:]} for patches of {patches.shape[1:]}; "
            "choose a model trained on this screen's patches"
        )
    if not np.isfinite(images).all():
        raise QuizError(f"model {generator.name!r} gives values that are no numbers; train it anew")
    flat = patches.reshape(len(patches), -1)
    offset = flat.min(axis=1)[:, None, None, None].astype(np.int64)
    step = camera_step(patches)[:, None, None, None]
    scale = patches.max(axis=(1, 2), keepdims=True)  # (n, 1, 1, C): what the patch was divided by
    levels: npt.NDArray[np.int64] = offset + step * np.rint((images * scale - offset) / step).astype(np.int64)
    return levels


def _choose(
    cells: pd.DataFrame,
    held_out: npt.ArrayLike | None,
    avoid: Collection[str],
    options: DeckOptions,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], bool]:
    """Rows and kinds of the cards in showing order, and whether all are held out; the narrowest pool that suffices."""
    usable = np.ones(len(cells), dtype=bool)
    if schema.BLANK in cells:
        usable &= ~cells[schema.BLANK].to_numpy(dtype=bool)
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
