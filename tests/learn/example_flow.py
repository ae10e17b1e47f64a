"""A sampler by flow matching, as small as can be: NumPy alone.

Cells are projected on principal components; a velocity field carries Gaussian noise (t = 0) to them (t = 1). It is
linear in random features, so that matching it to straight lines from noise to cells (Lipman et al. 2023) is one least
squares. An embedding is the noise that a cell comes from: the field followed backwards. To decode is to follow it.

``EXAMPLE_FLOW`` names the file that `train` writes; ``example_flow:make`` and the entry point
``flow = "example_flow:KIND"`` use it as the VAE beside it is used.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from cytovae.learn import generators
from cytovae.patches import normalise
from cytovae.screen import digest_file

STEPS = 40


def features(x: np.ndarray, t: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, m): 1, x, t, t x, and random waves of x and t."""
    one = np.ones_like(t)
    return np.hstack([one, x, t, t * x, np.tanh(np.hstack([x, t]) @ w + b)])


def train(images: np.ndarray, channels: tuple[str, ...], path: Path, d: int = 6, waves: int = 64) -> None:
    rng = np.random.default_rng(0)
    pixels = normalise(images).reshape(len(images), -1).astype(np.float64)
    mean = pixels.mean(axis=0)
    u, s, axes = np.linalg.svd(pixels - mean, full_matrices=False)
    scale = s[:d] / np.sqrt(len(images))
    cells = np.repeat(u[:, :d] * np.sqrt(len(images)), 40, axis=0)  # (n, d), each component of variance 1
    noise, t = rng.normal(size=cells.shape), rng.random((len(cells), 1))
    w, b = rng.normal(size=(d + 1, waves)) / np.sqrt(d), rng.normal(size=waves)
    seen = features((1 - t) * noise + t * cells, t, w, b)
    field = np.linalg.solve(seen.T @ seen + np.eye(seen.shape[1]), seen.T @ (cells - noise))  # (m, d)
    about = {"channels": np.array(channels), "edge": np.array(images.shape[1])}
    np.savez(path, mean=mean, axes=axes[:d], scale=scale, w=w, b=b, field=field, **about)


class Flow:
    name = "flow"

    def __init__(self, path: Path) -> None:
        with np.load(path) as kept:
            self.channels, self.patch_size_px = tuple(kept["channels"].tolist()), int(kept["edge"])
            self.parts = {k: kept[k] for k in ("mean", "axes", "scale", "w", "b", "field")}
        self.digest, self.latent_size = digest_file(path), len(self.parts["axes"])

    def velocity(self, x: np.ndarray, t: float) -> np.ndarray:
        p = self.parts
        return features(x, np.full((len(x), 1), t), p["w"], p["b"]) @ p["field"]

    def carried(self, x: np.ndarray, t: float, step: float) -> np.ndarray:
        """Along the field by the Runge-Kutta method of fourth order, `STEPS` steps."""
        for _ in range(STEPS):
            k1 = self.velocity(x, t)
            k2 = self.velocity(x + step / 2 * k1, t + step / 2)
            k3 = self.velocity(x + step / 2 * k2, t + step / 2)
            k4 = self.velocity(x + step * k3, t + step)
            x, t = x + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4), t + step
        return x

    def encode(self, images: np.ndarray) -> np.ndarray:
        p = self.parts
        pixels = normalise(images).reshape(len(images), -1)
        return self.carried((pixels - p["mean"]) @ p["axes"].T / p["scale"], 1.0, -1 / STEPS)

    def decode(self, z: np.ndarray) -> np.ndarray:
        p = self.parts
        pixels = self.carried(np.asarray(z, np.float64), 0.0, 1 / STEPS) * p["scale"] @ p["axes"] + p["mean"]
        return pixels.reshape(len(z), self.patch_size_px, self.patch_size_px, len(self.channels))


def make() -> Flow:
    return Flow(Path(os.environ["EXAMPLE_FLOW"]))


KIND = generators.kind("A sampler by flow matching", make, "It draws what a few principal components can hold.")
