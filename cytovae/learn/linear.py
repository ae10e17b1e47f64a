"""The linear baseline as a kind of model: principal components of the normalised pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cytovae import config as configs
from cytovae.errors import ConfigError, TrainingError
from cytovae.learn import bundle as bundles
from cytovae.learn import reconstruct, sampling
from cytovae.learn.kinds import Coder, Floats, Kind, Run
from cytovae.learn.pool import Pool
from cytovae.patches import normalise
from cytovae.schema import Progress
from cytovae.screen import Screen

MOST_CELLS = 10_000


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the components are found.

    Parameters
    ----------
    model : str
        ``pca``.
    seed : int
        Of the randomised solver, and of the choice of cells where there are more than `MOST_CELLS`.
    held_out : float
        Share of wells kept out, as for the networks.
    most_components : int
        There are no more than this, nor than cells less one.
    """

    model: str = "pca"
    seed: int = 0
    held_out: float = sampling.HELD_OUT_SHARE
    most_components: int = 256

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ConfigError(f"held_out is a share from 0 to below 1, not {self.held_out}")
        if self.most_components < 1:
            raise ConfigError(f"most_components is at least 1, not {self.most_components}")


def fit(screen: Screen | Pool, path: Path, recipe: Recipe | None = None, progress: Progress | None = None) -> None:
    """Fit principal components on a screen's training cells and leave a bundle at `path`.

    Parameters
    ----------
    screen : Screen or Pool
    path : Path
        The bundle's folder.
    recipe : Recipe, optional
    progress : callable, optional
        Told (done, total) stages.

    Raises
    ------
    TrainingError
        There are fewer than two cells.
    """
    from sklearn.decomposition import PCA

    recipe = recipe or Recipe()
    pool = Pool.of(screen)
    cells, store = pool.cells(), pool.store()
    rows = pool.split(recipe.held_out).training_rows(cells)
    if len(rows) < 2:
        raise TrainingError(f"principal components need at least 2 cells, not {len(rows)}")
    if len(rows) > MOST_CELLS:
        rows = np.sort(np.random.default_rng(recipe.seed).choice(rows, MOST_CELLS, replace=False))
    pixels = normalise(store.read(rows)).reshape(len(rows), -1)
    size = min(recipe.most_components, len(rows) - 1, pixels.shape[1])
    found = PCA(size, svd_solver="randomized", random_state=recipe.seed).fit(pixels)
    if progress is not None:
        progress(1, 2)
    config = bundles.new_config(
        path.resolve().name,
        recipe.model,
        screen.record.channels,
        size,
        screen.record.patch_size_px,
        recipe=configs.to_dict(recipe),
        split=pool.split_record(recipe.held_out),
        data=pool.data_record(rows),
    )
    arrays = {"mean": found.mean_.astype(np.float32), "components": found.components_.astype(np.float32)}
    reconstruct.save_measured(screen, path, arrays, config, sampling.digests(store, rows))
    if progress is not None:
        progress(2, 2)


def load(arrays: dict[str, npt.NDArray], config: dict[str, Any], device: str) -> tuple[Coder, Coder]:
    """Projection on the components, and back; on the CPU whatever the device."""
    mean, components = arrays["mean"], arrays["components"]  # (H*W*C,), (d, H*W*C)
    size, channels = config["patch_size_px"], len(config["channels"])
    if mean.shape != (size * size * channels,) or components.shape != (config["latent_size"], len(mean)):
        raise ValueError(f"a mean of {mean.shape} and components of {components.shape}")

    def encode(x: Floats) -> Floats:
        return np.asarray((x.reshape(len(x), -1) - mean) @ components.T, dtype=np.float32)

    def decode(z: Floats) -> Floats:
        return np.asarray(z @ components + mean, dtype=np.float32).reshape(-1, size, size, channels)

    return encode, decode


def _recipe(options: Mapping[str, Any]) -> dict[str, Any]:
    return configs.to_dict(configs.from_dict(Recipe, {**options, "model": "pca"}))


def _train(screen: Screen | Pool, path: Path, recipe: dict[str, Any], run: Run) -> bool:
    fit(screen, path, configs.from_dict(Recipe, recipe), run.progress)
    return True


PCA = Kind("PCA", _recipe, _train, load, lambda recipe: "A baseline: linear in the pixels.", several=True)
