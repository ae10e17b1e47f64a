"""The networks and the training step as the paper writes them, layer by layer: slow, short, the oracle of the tests.

Every function takes the network whose weights it uses (`cytovae.nets.blocks`) and computes the same numbers as that
network's own fast form, by PyTorch's standard operations alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[Tensor, Tensor]


def _at(moments: list[Pair] | None, layer: int) -> Pair | None:
    return None if moments is None else moments[layer]


def batch_norm(x: Tensor, norm: Any, moments: Pair | None = None) -> tuple[Tensor, Pair]:
    """Batch normalisation with the batch's own moments, or those given; and the moments used."""
    if moments is None:
        moments = (x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False))
    mean, var = (m[None, :, None, None] for m in moments)
    scaled = (x - mean) / torch.sqrt(var + 1e-5)
    return scaled * norm.weight[None, :, None, None] + norm.bias[None, :, None, None], moments


def stem(x: Tensor, net: Any, moments: list[Pair] | None = None) -> tuple[list[Tensor], list[Pair]]:
    """Layers 1-3 of encoder and discriminator: convolution, batch norm, max-pool, leaky ReLU."""
    layers, used = [], []
    for i in range(3):
        x, m = batch_norm(F.conv2d(x, net.kernels[i]), net.norms[i], _at(moments, i))
        x = F.leaky_relu(F.max_pool2d(x, 2), 0.01)
        layers.append(x)
        used.append(m)
    return layers, used


def encode(x: Tensor, net: Any, moments: list[Pair] | None = None) -> tuple[Tensor, Tensor, list[Pair]]:
    """Posterior means and log-variances, ``(n, 256)`` each."""
    layers, used = stem(x, net.stem, moments)
    h, m = batch_norm(F.conv2d(layers[-1], net.head), net.norm, _at(moments, 3))
    return h[:, :256, 0, 0], h[:, 256:, 0, 0], [*used, m]


def decode(z: Tensor, net: Any, moments: list[Pair] | None = None) -> tuple[Tensor, list[Pair]]:
    """Patches ``(n, C, H, W)`` of embeddings ``(n, 256)``."""
    x, used = z[:, :, None, None], []
    for i in range(4):
        size = net.kernels[i].shape[2]
        padding = 2 if i and net.margin_px else size - 1  # a margin: every layer but the first keeps the map's size
        x = F.conv2d(F.pad(x, (padding,) * 4), net.kernels[i])
        x, m = batch_norm(x, net.layer_norms[i], _at(moments, i))
        x = F.leaky_relu(x, 0.01)
        used.append(m)
        if i < 3:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
    x = F.pad(x, (-net.margin_px,) * 4)
    x, m = batch_norm(F.conv2d(x, net.out), net.out_norm, _at(moments, 4))
    return F.leaky_relu(x, 0.01), [*used, m]


def discriminate(x: Tensor, net: Any, moments: list[Pair] | None = None) -> tuple[Tensor, list[Tensor], list[Pair]]:
    """Probability of being real ``(n,)``, and the hidden activations D_1 ... D_4 of the learned similarity."""
    if net.margin_px:
        x = F.pad(x, (net.margin_px,) * 4, mode="reflect")
    layers, used = stem(x, net.stem, moments)
    h, m = batch_norm(F.conv2d(layers[-1], net.dense), net.dense_norm, _at(moments, 3))
    h = F.leaky_relu(h, 0.01)
    logits, last = batch_norm(F.conv2d(h, net.out), net.out_norm, _at(moments, 4))
    return torch.sigmoid(logits).flatten(), [*layers, h], [*used, m, last]


def step(
    nets: Any, b1: Tensor, b2: Tensor, noise: Tensor, beta: float, gammas: list[float]
) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
    """The named terms, the loss of encoder and decoder, and that of the discriminator."""
    mean, logvar, _ = encode(b1, nets.encoder)
    made, _ = decode(mean + torch.exp(logvar / 2) * noise, nets.decoder)
    terms = {
        "pixel": (0.5 * (b1 - made) ** 2).sum(dim=(1, 2, 3)).mean(),
        "kl": (0.5 * (torch.exp(logvar) + mean**2 - 1 - logvar)).sum(dim=1).mean(),
    }
    total = terms["pixel"] + beta * terms["kl"]
    if nets.discriminator is None:
        return terms, total, None
    probability, hidden, moments = discriminate(torch.cat([b2, made]), nets.discriminator)
    _, of_b1, _ = discriminate(b1, nets.discriminator, moments)
    for i, gamma in enumerate(gammas):
        difference = (of_b1[i] - hidden[i][len(b1) :]) ** 2
        terms[f"similarity{i + 1}"] = 0.5 * b1[0].numel() * difference.flatten(1).mean(dim=1).mean()
        total = total + gamma * terms[f"similarity{i + 1}"]
    truth = torch.cat([torch.ones(len(b2)), torch.zeros(len(b1))]).to(probability)
    terms["discriminator"] = F.binary_cross_entropy(probability, truth)
    return terms, total, terms["discriminator"]
