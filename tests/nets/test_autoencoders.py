from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from cytovae.errors import ConfigError
from cytovae.nets import autoencoders, plain

sys.path.insert(0, str(Path(__file__).parent))
from test_blocks import SHAPES, close, random, shaken


def inputs(n: int = 3, size: int = 68) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    noise = torch.randn(n, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return random(n, 3, size, size), random(n, 3, size, size, seed=2), noise


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("gammas", [[], [0.4], [1.0, 0.8, 0.6, 0.3]])
def test_training_step_equals_the_plain_one(gammas: list[float], shape: dict[str, int]) -> None:
    nets = shaken(**shape)
    b1, b2, noise = inputs(size=shape.get("patch_px", 68))
    found = autoencoders.training_step(nets, b1, b2, noise, 2.0, gammas)
    terms, total, cross_entropy = plain.step(nets, b1, b2, noise, 2.0, gammas)
    assert cross_entropy is not None
    assert found.terms.keys() == terms.keys()
    for name, value in terms.items():
        assert found.terms[name].item() == pytest.approx(value.item(), rel=1e-11), name
    expected = torch.autograd.grad(total, nets.autoencoder_parameters(), retain_graph=True)
    for fast, slow in zip(found.autoencoder_gradients, expected, strict=True):
        assert close(fast, slow)
    for fast, slow in zip(
        found.discriminator_gradients,
        torch.autograd.grad(cross_entropy, nets.discriminator_parameters()),
        strict=True,
    ):
        assert close(fast, slow)


def test_weights_of_pixels_enter_the_objective_and_not_the_term_that_is_told() -> None:
    nets = shaken()
    b1, b2, noise = inputs()
    weights = torch.rand(68, 68, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    found = autoencoders.training_step(nets, b1, b2, noise, 2.0, [1.0, 0.5], weights)
    terms, total, _ = plain.step(nets, b1, b2, noise, 2.0, [1.0, 0.5])
    assert found.terms["pixel"].item() == pytest.approx(terms["pixel"].item(), rel=1e-11)
    mean, logvar, _ = nets.encoder(b1)
    made, _ = nets.decoder(mean + torch.exp(0.5 * logvar) * noise)
    weighted = sum(
        0.5 * weights[y, x] * (b1[:, :, y, x] - made[:, :, y, x]).square().sum() / len(b1)
        for y in range(68)
        for x in range(68)
    )
    expected = torch.autograd.grad(total, nets.autoencoder_parameters(), retain_graph=True)
    unweighted = torch.autograd.grad(terms["pixel"], nets.autoencoder_parameters())
    instead = torch.autograd.grad(weighted, nets.autoencoder_parameters())
    for fast, whole, less, more in zip(found.autoencoder_gradients, expected, unweighted, instead, strict=True):
        assert close(fast, whole - less + more)


@pytest.mark.parametrize(("beta", "reaches"), [(0.0, False), (1.0, True)])
def test_without_a_discriminator_the_step_is_that_of_a_variational_autoencoder(beta: float, reaches: bool) -> None:
    nets = shaken(similarity=False)
    b1, b2, noise = inputs()
    found = autoencoders.training_step(nets, b1, b2, noise, beta, [])
    terms, total, _ = plain.step(nets, b1, b2, noise, beta, [])
    for fast, slow in zip(
        found.autoencoder_gradients, torch.autograd.grad(total, nets.autoencoder_parameters()), strict=True
    ):
        assert close(fast, slow)
    assert list(found.terms) == ["pixel", "kl"]
    assert found.discriminator_gradients == []
    assert (total.item() != terms["pixel"].item()) is reaches


def test_single_precision_gradients_are_as_near_to_double_as_the_plain_ones() -> None:
    nets = shaken()
    b1, b2, noise = inputs()
    gammas = [1.0, 1.0, 1.0, 1.0]
    exact = autoencoders.training_step(nets, b1, b2, noise, 2.0, gammas).autoencoder_gradients
    nets = nets.float()
    b1, b2, noise = b1.float(), b2.float(), noise.float()
    fast = autoencoders.training_step(nets, b1, b2, noise, 2.0, gammas).autoencoder_gradients
    _, total, _ = plain.step(nets, b1, b2, noise, 2.0, gammas)
    slow = torch.autograd.grad(total, nets.autoencoder_parameters())

    def error(gradients: list[torch.Tensor]) -> float:
        return float(
            torch.stack([(g.double() - e).norm() / e.norm() for g, e in zip(gradients, exact, strict=True)]).median()
        )

    assert error(list(fast)) <= 1.5 * error(list(slow))


def test_each_loss_moves_its_own_group_alone() -> None:
    nets = shaken()
    b1, b2, noise = inputs()
    first = autoencoders.training_step(nets, b1, b2, noise, 2.0, [1.0] * 4)
    plain_only = autoencoders.training_step(nets, b1, b2, noise, 2.0, [])
    for a, b in zip(first.discriminator_gradients, plain_only.discriminator_gradients, strict=True):
        assert torch.equal(a, b), "similarity must not move the discriminator"
    without_kl = autoencoders.training_step(nets, b1, b2, noise, 0.0, [1.0] * 4)
    n_encoder = len(list(nets.encoder.parameters()))
    for a, b in zip(first.autoencoder_gradients[n_encoder:], without_kl.autoencoder_gradients[n_encoder:], strict=True):
        assert close(a, b), "the KL term must not move the decoder"
    assert not close(first.autoencoder_gradients[0], without_kl.autoencoder_gradients[0])
    other = autoencoders.training_step(nets, b1, 1 - b2, noise, 2.0, [])
    for a, b in zip(other.autoencoder_gradients, plain_only.autoencoder_gradients, strict=True):
        assert torch.equal(a, b), "the discriminator's loss must not move encoder and decoder"
    assert not close(other.discriminator_gradients[0], plain_only.discriminator_gradients[0])


def test_discriminator_moments_are_those_of_the_balanced_batch_alone() -> None:
    nets = shaken()
    b1, b2, noise = inputs()
    found = autoencoders.training_step(nets, b1, b2, noise, 2.0, [1.0] * 4)
    mean, logvar, _ = plain.encode(b1, nets.encoder)
    made, _ = plain.decode(mean + torch.exp(logvar / 2) * noise, nets.decoder)
    _, _, expected = plain.discriminate(torch.cat([b2, made]), nets.discriminator)
    for used, (m, v) in zip(found.moments[-5:], expected, strict=True):
        assert close(used.mean, m)
        assert close(used.var, v)


def test_blank_channels_give_finite_losses_and_gradients() -> None:
    nets = autoencoders.Networks(3)
    nets.initialise(torch.Generator().manual_seed(0))
    b1, b2, noise = (t.float() for t in inputs())
    b1[0] = 0.0
    b1[1, 2] = 0.0
    b2[:, 0] = 0.0
    found = autoencoders.training_step(nets, b1, b2, noise, 2.0, [1.0] * 4)
    for tensor in [*found.terms.values(), *found.autoencoder_gradients, *found.discriminator_gradients]:
        assert bool(torch.isfinite(tensor).all())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_folded_networks_equal_the_running_averages(shape: dict[str, int]) -> None:
    nets = shaken(**shape)
    folded = autoencoders.Folded(nets)
    x, _, _ = inputs(size=shape.get("patch_px", 68))
    z = random(3, 256, seed=4)
    with torch.no_grad():
        mean, _, _ = plain.encode(x, nets.encoder, [n.running() for n in nets.encoder.norms()])
        made, _ = plain.decode(z, nets.decoder, [n.running() for n in nets.decoder.norms()])
    assert close(folded.encode(x), mean)
    assert close(folded.decode(z), made)


def test_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'vaee'; it is one of ae, vae, vae\+"):
        autoencoders.objective("vaee")
