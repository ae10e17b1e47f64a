"""Pixels made visible: contrast limits, composites of channels, difference pictures, the length of a scale bar.

Contrast limits are explicit numbers shared by all images that are compared.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cytovae.errors import ConfigError

Limits = npt.NDArray[np.float64]
"""(C, 2): per channel the values shown as black and as full colour."""


class Look(enum.StrEnum):
    """Colours of the channels."""

    RGB = "rgb"
    MGC = "mgc"
    GREY = "grey"

    @property
    def words(self) -> str:
        """For menus and help texts."""
        return {"rgb": "red, green, blue", "mgc": "magenta, green, cyan", "grey": "each channel alone, in grey"}[
            self.value
        ]


LOOKS = tuple(Look)
COLOURS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "rgb": ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1)),
    "mgc": ((1, 0, 1), (0, 1, 0), (0, 1, 1), (1, 1, 0), (1, 0.5, 0), (0.6, 0.6, 1)),
}
"""Red-green-blue; and magenta-green-cyan, which more readers can tell apart. Further channels get further colours."""
OVERLAID = 3
"""So many channels are laid over each other where none are named: more add up to white."""


def shared_limits(images: npt.NDArray, low: float = 0.5, high: float = 99.8) -> Limits:
    """Contrast limits for a set of images: two percentiles of each channel over all of them.

    Parameters
    ----------
    images : (..., C)
    low, high : float
        Percentiles.

    Returns
    -------
    (C, 2) float64
        A channel without contrast gets limits one apart, so it shows black.
    """
    flat = np.asarray(images, dtype=np.float64).reshape(-1, np.shape(images)[-1])
    limits = np.maximum(np.percentile(flat, [low, high], axis=0).T, 0.0)  # a decoder may give less than nothing
    flatline = limits[:, 1] - limits[:, 0] < 1e-9
    limits[flatline, 1] = limits[flatline, 0] + 1.0
    return np.asarray(limits)


def composite(
    images: npt.NDArray,
    limits: npt.ArrayLike,
    look: str = Look.RGB,
    gamma: float = 1.0,
    shown: Sequence[int] | None = None,
) -> npt.NDArray[np.uint8]:
    """Channels laid over each other in colour.

    Parameters
    ----------
    images : (..., H, W, C)
    limits : (C, 2)
        See `shared_limits`.
    look : str
        ``rgb``, ``mgc`` (magenta, green, cyan) or ``grey`` (the mean of the channels shown); images of one channel are
        grey in every look.
    gamma : float
        The scaled value is raised to this power: below 1 brightens the dark parts.
    shown : sequence of int, optional
        Channels to show; the first `OVERLAID` by default.

    Returns
    -------
    (..., H, W, 3) uint8

    Raises
    ------
    ConfigError
        Unknown look, gamma or limits that cannot be, no such channel, or more channels than there are colours.
    """
    images, limits = np.asarray(images), np.asarray(limits, dtype=np.float64)
    n = images.shape[-1]
    shown = list(range(min(n, OVERLAID))) if shown is None else list(shown)
    if look not in LOOKS:
        raise ConfigError(f"unknown look {look!r}; choose {', '.join(LOOKS)}")
    if not 0.05 <= gamma <= 20:
        raise ConfigError(f"gamma lies between 0.05 and 20, not {gamma:g}")
    if limits.shape != (n, 2) or not (limits[:, 1] > limits[:, 0]).all():
        raise ConfigError(f"contrast limits are a (black, full) pair with black < full for each of {n} channels")
    if any(not 0 <= c < n for c in shown):
        raise ConfigError(f"there are channels 0 to {n - 1}, not {shown}")
    if look != "grey" and shown and max(shown) >= len(COLOURS[look]):
        raise ConfigError(f"the look {look!r} has colours for {len(COLOURS[look])} channels; show fewer, or use 'grey'")
    scaled = (images[..., shown] - limits[shown, 0]) / (limits[shown, 1] - limits[shown, 0])
    scaled = np.clip(scaled, 0.0, 1.0) ** gamma
    if look == "grey" or n == 1:
        mean = scaled.mean(axis=-1, keepdims=True) if shown else np.zeros((*images.shape[:-1], 1))
        out = np.repeat(mean, 3, axis=-1)
    else:
        out = scaled @ np.array([COLOURS[look][c] for c in shown], dtype=np.float64).reshape(len(shown), 3)
        # magenta and cyan share blue: a sum beyond white is dimmed and keeps its hue
        out = out / np.maximum(out.max(axis=-1, keepdims=True), 1.0)
    return np.asarray(np.rint(np.clip(out, 0.0, 1.0) * 255), dtype=np.uint8)


def scale_bar(pixel_size_um: float | None, width_px: int) -> tuple[float, str]:
    """A round scale bar of at most 40 % of an image's width.

    Returns
    -------
    tuple of (float, str)
        Length in px, and its label: in um if the pixel size is known, else in px, never a guess.

    Examples
    --------
    >>> scale_bar(0.5, 68), scale_bar(None, 68)
    ((20.0, '10 µm'), (20.0, '20 px'))
    """
    room = 0.4 * width_px * (pixel_size_um or 1.0)
    power = 10.0 ** np.floor(np.log10(room))
    size = next(s * power for s in (5.0, 2.0, 1.0) if s * power <= room)
    return float(size / (pixel_size_um or 1.0)), f"{size:g} {'µm' if pixel_size_um else 'px'}"


def difference(image: npt.NDArray) -> tuple[npt.NDArray[np.uint8], float]:
    """A difference image, each channel from blue (less) over white to red (more).

    Parameters
    ----------
    image : (H, W, C)
        Of a `cytovae.explore.paths.PopulationPath`.

    Returns
    -------
    tuple of ((C, H, W, 3) uint8, float)
        Pictures, and the difference shown in full colour; the same for all channels.
    """
    limit = max(float(np.abs(image).max()), 1e-6)
    share = np.moveaxis(np.asarray(image, dtype=np.float64), -1, 0)[..., None] / limit  # (C, H, W, 1)
    red, blue = np.array([178, 24, 43]), np.array([33, 102, 172])
    colour = np.where(share > 0, red, blue)
    return np.rint(255 + np.abs(share) * (colour - 255)).astype(np.uint8), limit
