"""A VAE of another package, as small as can be: patches averaged over 4 x 4 px, one hidden layer, PyTorch.

``EXAMPLE_VAE`` names the file of its weights, which `train` writes. On the command line it is ``example_vae:make``; the
entry point ``outside-vae = "example_vae:KIND"`` of the group ``cytovae.models`` puts it behind app and verbs.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cytovae.learn import generators
from cytovae.patches import normalise
from cytovae.screen import digest_file

SQUARE = 4


class Network(nn.Module):
    def __init__(self, pixels: int, d: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(pixels, 64), nn.Tanh(), nn.Linear(64, 2 * d))
        self.decoder = nn.Sequential(nn.Linear(d, 64), nn.Tanh(), nn.Linear(64, pixels), nn.Sigmoid())


def pooled(images: np.ndarray) -> torch.Tensor:
    n, h, w, c = images.shape
    squares = normalise(images).reshape(n, h // SQUARE, SQUARE, w // SQUARE, SQUARE, c).mean(axis=(2, 4))
    return torch.from_numpy(squares.reshape(n, -1))


def train(images: np.ndarray, channels: tuple[str, ...], path: Path, steps: int = 150) -> None:
    torch.manual_seed(0)
    x = pooled(images)
    network = Network(x.shape[1])
    weights = list(network.parameters())
    first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))  # moments of Adam, written out
    for step in range(1, steps + 1):
        mean, log_variance = network.encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        difference = ((network.decoder(z) - x) ** 2).sum(dim=1).mean()
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
        for w, m, v, g in zip(
            weights, first, second, torch.autograd.grad(difference + 0.1 * divergence, weights), strict=True
        ):
            m.lerp_(g, 0.1)
            v.lerp_(g * g, 0.001)
            w.data -= 3e-3 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    about = {"channels": np.array(channels), "edge": np.array(images.shape[1])}
    np.savez(path, **{k: v.numpy() for k, v in network.state_dict().items()}, **about)


class Vae:
    name, latent_size = "outside-vae", 8

    def __init__(self, path: Path) -> None:
        with np.load(path) as kept:
            self.channels, self.patch_size_px = tuple(kept["channels"].tolist()), int(kept["edge"])
            state = {k: torch.from_numpy(kept[k]) for k in kept if k not in ("channels", "edge")}
        self.digest, self.across = digest_file(path), self.patch_size_px // SQUARE
        self.network = Network(self.across**2 * len(self.channels))
        self.network.load_state_dict(state)

    @torch.inference_mode()
    def encode(self, images: np.ndarray) -> np.ndarray:
        return self.network.encoder(pooled(images))[:, : self.latent_size].numpy()

    @torch.inference_mode()
    def decode(self, z: np.ndarray) -> np.ndarray:
        squares = self.network.decoder(torch.from_numpy(np.asarray(z, np.float32))).numpy()
        squares = squares.reshape(len(z), self.across, self.across, len(self.channels))
        return squares.repeat(SQUARE, axis=1).repeat(SQUARE, axis=2)


def make() -> Vae:
    return Vae(Path(os.environ["EXAMPLE_VAE"]))


KIND = generators.kind("A small VAE of another package", make, "It draws squares of 4 px.")
