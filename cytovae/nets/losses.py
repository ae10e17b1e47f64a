"""The terms of the objective and the progressive schedule: pure functions of tensors (paper, sections 3.2-3.3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

SIMILARITY_LAYERS = 4


def pixel_loss(x: Tensor, reconstruction: Tensor, weights: Tensor | None = None) -> Tensor:
    """Half the sum of squared differences over the patch, mean over the batch.

    Parameters
    ----------
    x, reconstruction : (n, C, H, W) tensor
    weights : (H, W) tensor, optional
        Of the pixels; 1 where None.
    """
    squares = (x - reconstruction).square()
    return 0.5 * (squares if weights is None else squares * weights).sum() / len(x)


def kl_loss(mean: Tensor, logvar: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the posterior from the standard normal, mean over the batch.

    Parameters
    ----------
    mean, logvar : (n, d) tensor
    """
    return 0.5 * (logvar.exp() + mean.square() - 1.0 - logvar).sum() / len(mean)


def similarity_loss(real: Tensor, reconstructed: Tensor, n_values: int) -> Tensor:
    """The learned similarity of one discriminator layer: 0.5 * n_values * mean squared difference.

    Parameters
    ----------
    real, reconstructed : (n, ...) tensor
        Activations D_i of a batch and of its reconstruction.
    n_values : int
        Values in a patch (68 * 68 * 3): puts every layer on the scale of the pixel term.
    """
    return 0.5 * n_values * (real - reconstructed).square().mean()


def discriminator_loss(real_logits: Tensor, synthetic_logits: Tensor) -> Tensor:
    """Binary cross-entropy over a balanced batch, real as 1 and synthetic as 0.

    Parameters
    ----------
    real_logits, synthetic_logits : (n,) tensor
    """
    return 0.5 * (F.softplus(-real_logits).mean() + F.softplus(synthetic_logits).mean())


def gammas(iteration: int, period: int, layers: int = SIMILARITY_LAYERS) -> tuple[float, ...]:
    """Weights of the learned similarities: min(1, max(0, t / T - i)) for layer i = 1, 2, ...

    Parameters
    ----------
    iteration : int
        t, counted from 0.
    period : int
        T.
    layers : int
        How many.

    Examples
    --------
    >>> gammas(2500, 2500), gammas(3750, 2500), gammas(12500, 2500)
    ((0.0, 0.0, 0.0, 0.0), (0.5, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0, 1.0))
    """
    return tuple(min(1.0, max(0.0, iteration / period - i)) for i in range(1, layers + 1))
