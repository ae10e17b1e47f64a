"""A kind of model of another package, in one file: any patch size, a latent size of its own.

It keeps the means of squares of pixels, and draws each square in its mean: small enough to read, complete enough to go
through every verb. A package declares it by the entry point ``squares = "example_kind:KIND"``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cytovae import config as configs
from cytovae.errors import ConfigError
from cytovae.learn import bundle as bundles
from cytovae.learn import reconstruct, sampling
from cytovae.learn.kinds import Coder, Floats, Kind, Run
from cytovae.patches import PatchStore
from cytovae.screen import Screen


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The edge of a square (px), and the share of wells kept out."""

    square_px: int = 4
    held_out: float = 0.15

    def __post_init__(self) -> None:
        if self.square_px < 1:
            raise ConfigError(f"square_px is at least 1, not {self.square_px}")


def recipe(options: Mapping[str, Any]) -> dict[str, Any]:
    return configs.to_dict(configs.from_dict(Recipe, dict(options)))


def train(screen: Screen, path: Path, recipe: dict[str, Any], run: Run) -> bool:
    cells, size, square = screen.cells(), screen.record.patch_size_px, recipe["square_px"]
    if size % square:
        raise ConfigError(f"patches of {size} px cannot be cut into squares of {square} px")
    split = sampling.split(cells, recipe["held_out"])
    rows = split.training_rows(cells)
    count = (size // square) ** 2 * len(screen.record.channels)
    config = bundles.new_config(
        path.resolve().name,
        "squares",
        screen.record.channels,
        count,
        size,
        recipe=recipe,
        split=sampling.split_record(cells, split, recipe["held_out"]),
        data=sampling.data_record(screen, cells, rows),
    )
    weights = {"scale": np.ones(1, np.float32)}
    digests = sampling.digests(PatchStore(screen.patches_path), rows)
    reconstruct.save_measured(screen, path, weights, config, digests)
    return True


def load(arrays: dict[str, npt.NDArray], config: dict[str, Any], device: str) -> tuple[Coder, Coder]:
    size, square, channels = config["patch_size_px"], config["recipe"]["square_px"], len(config["channels"])
    across, scale = size // square, arrays["scale"][0]

    def encode(x: Floats) -> Floats:
        squares = x.reshape(len(x), across, square, across, square, channels).mean(axis=(2, 4))
        return np.asarray(squares.reshape(len(x), -1) * scale, dtype=np.float32)

    def decode(z: Floats) -> Floats:
        squares = (z / scale).reshape(len(z), across, across, channels)
        return np.asarray(squares.repeat(square, axis=1).repeat(square, axis=2), dtype=np.float32)

    return encode, decode


KIND = Kind("Means of squares", recipe, train, load, lambda recipe: f"Squares of {recipe['square_px']} px; for tests.")
