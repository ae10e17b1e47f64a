from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from cytovae.errors import ConfigError
from cytovae.nets import blocks, plain
from cytovae.nets.autoencoders import Networks, channels_last

sys.path.insert(0, str(Path(__file__).parent))


SHAPES = {
    "the paper's": {},
    "margins": {"decoder_margin_px": 6, "discriminator_margin_px": 4},
    "small margin, larger patch": {"decoder_margin_px": 2, "patch_px": 76},
}
"""Networks that training can ask for."""


def shaken(similarity: bool = True, seed: int = 0, **shape: int) -> Networks:
    """Double-precision networks whose batch norms have scales of both signs and moving averages off their start."""
    generator = torch.Generator().manual_seed(seed)
    nets = Networks(3, similarity, **shape).double()
    nets.initialise(generator)
    with torch.no_grad():
        for norm in nets.norms():
            norm.weight.normal_(generator=generator)
            norm.bias.normal_(generator=generator)
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.5, 2.0, generator=generator)
    channels_last(nets)
    return nets


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).norm() <= 1e-11 * b.norm())


def test_phase_convolutions_equal_upsampling_and_convolution_in_output_and_gradients() -> None:
    x = random(2, 4, 6, 5).requires_grad_()
    weight = random(3, 4, 5, 5, seed=2).requires_grad_()
    plain_map = F.conv2d(F.pad(F.interpolate(x, scale_factor=2, mode="nearest"), (4, 4, 4, 4)), weight)
    fast_map = blocks.interleave(F.conv2d(x, blocks.phase_kernel(weight), padding=2), 3)
    assert fast_map.shape == plain_map.shape == (2, 3, 16, 14)
    assert close(fast_map, plain_map)
    direction = random(*plain_map.shape, seed=3)
    for fast, slow in zip(
        torch.autograd.grad(fast_map, (x, weight), direction),
        torch.autograd.grad(plain_map, (x, weight), direction),
        strict=True,
    ):
        assert close(fast, slow)


def test_parameter_counts_are_those_of_the_layers() -> None:
    nets = Networks(3)
    encoder = 25 * (3 * 32 + 32 * 32 + 32 * 32 + 32 * 512) + 2 * (3 * 32 + 512)
    decoder = 25 * (256 * 32 + 3 * 32 * 32) + 32 * 3 + 2 * (4 * 32 + 3)
    discriminator = 25 * (3 * 32 + 32 * 32 + 32 * 32 + 32 * 64) + 64 + 2 * (3 * 32 + 64 + 1)
    counts = [sum(p.numel() for p in part.parameters()) for part in nets.parts()]
    assert counts == [encoder, decoder, discriminator]
    assert [round(c / 1e6, 2) for c in counts[:2]] == [0.46, 0.28]


def test_maps_have_the_sizes_of_the_paper() -> None:
    nets = Networks(3)
    nets.initialise(torch.Generator().manual_seed(0))
    x = torch.rand(2, 3, 68, 68)
    hidden, _ = nets.parts()[2].hidden(x)  # type: ignore[union-attr]
    assert [tuple(h.shape) for h in hidden] == [(2, 32, 32, 32), (2, 32, 14, 14), (2, 32, 5, 5), (2, 64)]
    mean, logvar, _ = nets.encoder(x)
    assert mean.shape == logvar.shape == (2, 256)
    assert nets.decoder(mean)[0].shape == (2, 3, 68, 68)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("given", [False, True])
def test_networks_equal_the_plain_ones(given: bool, shape: dict[str, int]) -> None:
    nets = shaken(**shape)
    patch_px = shape.get("patch_px", 68)
    x = random(3, 3, patch_px, patch_px)
    z = random(3, 256, seed=4)

    def moments(part: blocks.Encoder | blocks.Decoder | blocks.Discriminator) -> list[blocks.Moments] | None:
        return [norm.running() for norm in part.norms()] if given else None

    mean, logvar, _ = nets.encoder(x, moments(nets.encoder))
    plain_mean, plain_logvar, _ = plain.encode(x, nets.encoder, moments(nets.encoder))
    assert close(mean, plain_mean)
    assert close(logvar, plain_logvar)
    assert nets.decoder(z)[0].shape == x.shape
    assert close(nets.decoder(z, moments(nets.decoder))[0], plain.decode(z, nets.decoder, moments(nets.decoder))[0])
    assert nets.discriminator is not None
    logits, hidden, used = nets.discriminator(x, moments(nets.discriminator))
    probability, layers, expected = plain.discriminate(x, nets.discriminator, moments(nets.discriminator))
    assert close(torch.sigmoid(logits), probability)
    for fast, slow in zip(hidden, layers, strict=True):
        assert close(fast.flatten(), slow.flatten())
    for fast_pair, slow_pair in zip(used, expected, strict=True):
        assert close(fast_pair.mean, slow_pair[0])
        assert close(fast_pair.var, slow_pair[1])


def test_initial_kernels_have_the_stated_standard_deviation() -> None:
    nets = Networks(3)
    nets.initialise(torch.Generator().manual_seed(0))
    for weight in blocks.kernels(nets):
        c_out, c_in, k, _ = weight.shape
        if weight.numel() > 2000:
            expected = math.sqrt(2 / (k * k * c_in + c_out))
            assert weight.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * weight.numel()))
            assert abs(weight.mean().item()) < 5 * expected / math.sqrt(weight.numel())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"patch_px": 64}, "28 more than a multiple of 8.*not 64"),
        ({"patch_px": 28}, "not 28"),
        ({"decoder_margin_px": 4}, "margin is 0 .* 2, 6, 10.*not 4"),
        ({"discriminator_margin_px": 2}, "multiple of 4 px, not 2"),
    ],
)
def test_sizes_that_do_not_go_through_the_layers_are_refused(shape: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Networks(3, **shape)


def test_moments_of_batches_taken_together_are_those_of_all_their_rows() -> None:
    rows = random(4, 50, 3) * torch.arange(1, 5)[:, None, None]
    norm = blocks.Norm(3).double()
    together = blocks.pooled([norm.moments(part) for part in rows])
    assert close(together.mean, rows.reshape(-1, 3).mean(dim=0))
    assert close(together.var, rows.reshape(-1, 3).var(dim=0, unbiased=False))


def test_kernels_are_all_convolutions_and_nothing_else() -> None:
    nets = Networks(3)
    shapes = sorted(tuple(w.shape) for w in blocks.kernels(nets))
    assert len(shapes) == 4 + 5 + 5
    assert len(shapes) + 2 * len(nets.norms()) == len(list(nets.parameters()))


def test_running_averages_move_by_a_tenth() -> None:
    norm = blocks.Norm(2)
    norm.track(blocks.Moments(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])))
    assert torch.allclose(norm.running_mean, torch.tensor([0.1, 0.2]))
    assert torch.allclose(norm.running_var, torch.tensor([0.9 + 0.3, 0.9 + 0.5]))


def test_a_network_of_one_channel_works() -> None:
    nets = Networks(1)
    nets.initialise(torch.Generator().manual_seed(0))
    mean, _, _ = nets.encoder(torch.rand(2, 1, 68, 68))
    assert nets.decoder(mean)[0].shape == (2, 1, 68, 68)
