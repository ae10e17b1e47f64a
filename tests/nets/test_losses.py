from __future__ import annotations

import numpy as np
import pytest
import torch

from cytovae.nets import losses


def pair(seed: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=shape)), torch.from_numpy(rng.normal(size=shape))


def test_pixel_loss_is_half_the_squared_distance_per_patch() -> None:
    a, b = pair(0, 4, 3, 5, 5)
    expected = np.mean([0.5 * np.sum((x - y) ** 2) for x, y in zip(a.numpy(), b.numpy(), strict=True)])
    assert float(losses.pixel_loss(a, b)) == pytest.approx(expected, rel=1e-12)


def test_kl_loss_is_that_of_two_normal_distributions() -> None:
    mean, logvar = pair(1, 6, 4)
    posterior = torch.distributions.Normal(mean, torch.exp(logvar / 2))
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    assert float(losses.kl_loss(mean, logvar)) == pytest.approx(float(expected), rel=1e-12)


def test_kl_loss_of_the_prior_is_zero() -> None:
    assert float(losses.kl_loss(torch.zeros(3, 5), torch.zeros(3, 5))) == 0.0


def test_similarity_puts_every_layer_on_the_scale_of_the_patch() -> None:
    a, b = pair(2, 4, 8, 3, 3)
    expected = 0.5 * 13872 * np.mean((a.numpy() - b.numpy()) ** 2)
    assert float(losses.similarity_loss(a, b, 13872)) == pytest.approx(expected, rel=1e-12)


def test_discriminator_loss_is_binary_cross_entropy() -> None:
    real, made = pair(3, 7)
    p = 1 / (1 + np.exp(-np.concatenate([real.numpy(), made.numpy()])))
    expected = -np.mean(np.concatenate([np.log(p[:7]), np.log(1 - p[7:])]))
    assert float(losses.discriminator_loss(real, made)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("iteration", "expected"),
    [
        (0, (0, 0, 0, 0)),
        (100, (0, 0, 0, 0)),
        (101, (0.01, 0, 0, 0)),
        (150, (0.5, 0, 0, 0)),
        (200, (1, 0, 0, 0)),
        (201, (1, 0.01, 0, 0)),
        (450, (1, 1, 1, 0.5)),
        (500, (1, 1, 1, 1)),
        (10_000, (1, 1, 1, 1)),
    ],
)
def test_layers_of_the_similarity_come_in_one_after_the_other(iteration: int, expected: tuple[float, ...]) -> None:
    assert losses.gammas(iteration, 100) == pytest.approx(expected)
