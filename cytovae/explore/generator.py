"""What anything must offer so that paths can be drawn through it: `Generator`, a protocol.

An autoencoder's bundle fills it; so could a diffusion or flow model, or principal components. Nothing in this
room knows which one it was handed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy.typing as npt

from cytovae.errors import BundleError
from cytovae.patches import Floats

Encode = Callable[[npt.NDArray], Floats]
"""Images (n, H, W, C) -> embeddings (n, d)."""
Decode = Callable[[Floats], Floats]
"""Embeddings (n, d) -> images (n, H, W, C)."""


@runtime_checkable
class Generator(Protocol):
    """A model that turns cells into points and points into cells."""

    @property
    def name(self) -> str:
        """What to call it in outputs."""

    @property
    def patch_size_px(self) -> int:
        """Edge of the patches it reads and draws."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names, in the order of the last axis of its images."""

    @property
    def latent_size(self) -> int:
        """Number of features d of an embedding."""

    def encode(self, images: npt.NDArray) -> Floats:
        """Embeddings (n, d) float32 of images (n, H, W, C), uint16 or float.

        It normalises each channel of each patch by its own maximum; a blank channel stays 0.
        """

    def decode(self, z: Floats) -> Floats:
        """Images (n, H, W, C) float32, about [0, 1], of embeddings (n, d)."""


def require_fit(
    generator: Generator, channels: Sequence[str], patch_size_px: int, n_features: int | None = None
) -> None:
    """Refuse a generator and a screen that do not belong together.

    Parameters
    ----------
    generator : Generator
    channels : sequence of str
        The screen's channels in order.
    patch_size_px : int
        The screen's patch size.
    n_features : int, optional
        Width of the screen's embeddings.

    Raises
    ------
    BundleError
        Channels, patch size or embedding width differ.
    """
    if tuple(generator.channels) != tuple(channels):
        raise BundleError(
            f"bundle {generator.name!r} was made for the channels {', '.join(generator.channels)}, "
            f"the screen has {', '.join(channels)}; train one on this screen or choose another"
        )
    if generator.patch_size_px != patch_size_px:
        raise BundleError(
            f"bundle {generator.name!r} reads patches of {generator.patch_size_px} px, the screen's are "
            f"{patch_size_px} px; train one on this screen or choose another"
        )
    if n_features is not None and n_features != generator.latent_size:
        raise BundleError(
            f"bundle {generator.name!r} has {generator.latent_size} features, the screen's embeddings have "
            f"{n_features}; run 'cytovae embed --overwrite'"
        )
