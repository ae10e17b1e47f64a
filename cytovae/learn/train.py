"""The training loop: two balanced batches, one forward pass, three groups of weights, whole checkpoints."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from cytovae import config as configs
from cytovae.errors import ConfigError, TrainingError
from cytovae.ingest.patches import PatchStore
from cytovae.learn import bundle as bundles
from cytovae.learn import sampling
from cytovae.nets import autoencoders, blocks, losses
from cytovae.screen import Screen, whole_file

RATES = {"paper": (1e-3, 1e-2), "implementation": (1e-2, 1e-3)}
CHECKPOINT = "checkpoint.safetensors"
LOG = "training.jsonl"
LOG_EVERY = 10


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained; it travels inside its bundle.

    Parameters
    ----------
    model : str
        ``ae``, ``vae`` or ``vae+``.
    iterations, batch_size : int
        Steps, and patches in each of the two mini-batches of a step.
    period : int
        T of the progressive schedule, in iterations.
    seed : int
        Of weights, batches and posterior noise.
    rates : str
        ``paper``: Adam 0.001 and SGD 0.01; ``implementation``: the public implementation's, the other way round.
    decay : float
        Every kernel is multiplied by 1 - decay after each step.
    augment : bool
        Flips and quarter turns.
    held_out : float
        Share of wells kept out.
    """

    model: str
    iterations: int = 40_000
    batch_size: int = 104
    period: int = 2_500
    seed: int = 0
    rates: str = "paper"
    decay: float = 1e-4
    augment: bool = True
    held_out: float = sampling.HELD_OUT_SHARE

    def __post_init__(self) -> None:
        autoencoders.objective(self.model)
        for name in ("iterations", "batch_size", "period"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is at least 1, not {getattr(self, name)}")
        if self.batch_size < 2:
            raise ConfigError(f"batch norm needs a batch of at least 2 patches, not {self.batch_size}")
        if self.rates not in RATES:
            raise ConfigError(f"rates is one of {', '.join(RATES)}, not {self.rates!r}")
        if not 0 <= self.held_out < 1:
            raise ConfigError(f"held_out is a share from 0 to below 1, not {self.held_out}")


def keep_memory() -> None:
    """Tell glibc's allocator to keep freed memory: saves a million page faults a step; elsewhere nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


class Trainer:
    """Networks, optimizers and the iteration they have come to.

    Parameters
    ----------
    recipe : Recipe
    channels : int
        Of the image.
    """

    def __init__(self, recipe: Recipe, channels: int) -> None:
        self.recipe = recipe
        self.objective = autoencoders.objective(recipe.model)
        self.nets = autoencoders.Networks(channels, self.objective.similarity)
        self.nets.initialise(torch.Generator().manual_seed(recipe.seed))
        self.nets.to(memory_format=torch.channels_last)
        adam_rate, sgd_rate = RATES[recipe.rates]
        self.adam = torch.optim.Adam(
            self.nets.autoencoder_parameters(), lr=adam_rate, betas=(0.9, 0.999), eps=1e-7, foreach=True
        )
        self.sgd = (
            torch.optim.SGD(self.nets.discriminator_parameters(), lr=sgd_rate, momentum=0.9, foreach=True)
            if self.objective.similarity
            else None
        )
        self.iteration = 0

    def step(self, b1: Tensor, b2: Tensor, noise: Tensor) -> dict[str, float]:
        """One iteration: losses, then all weights at once, then the running averages.

        Parameters
        ----------
        b1, b2 : (n, C, 68, 68) tensor
        noise : (n, 256) tensor

        Returns
        -------
        dict of str to float
            The loss terms by name, unweighted.

        Raises
        ------
        TrainingError
            A term is not finite; no weight has been touched.
        """
        schedule = losses.gammas(self.iteration, self.recipe.period) if self.objective.similarity else ()
        weights = [gamma for gamma in schedule if gamma > 0]
        found = autoencoders.training_step(self.nets, b1, b2, noise, self.objective.beta, weights)
        values = dict(zip(found.terms, torch.stack([t.detach() for t in found.terms.values()]).tolist(), strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(f"training diverged at iteration {self.iteration}: the {name} term is {value}")
        for p, g in zip(self.nets.autoencoder_parameters(), found.autoencoder_gradients, strict=True):
            p.grad = g
        self.adam.step()
        if self.sgd is not None:
            for p, g in zip(self.nets.discriminator_parameters(), found.discriminator_gradients, strict=True):
                p.grad = g
            self.sgd.step()
        with torch.no_grad():
            torch._foreach_mul_(blocks.kernels(self.nets), 1.0 - self.recipe.decay)
        self.nets.track(found.moments)
        self.iteration += 1
        return values

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """By name."""
        return {"adam": self.adam} if self.sgd is None else {"adam": self.adam, "sgd": self.sgd}

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, as flat tensors."""
        flat = {f"nets.{name}": t.detach().contiguous() for name, t in self.nets.state_dict().items()}
        for name, optimizer in self.optimizers().items():
            for index, slots in optimizer.state_dict()["state"].items():
                for slot, value in slots.items():
                    flat[f"{name}.{index}.{slot}"] = torch.as_tensor(value).contiguous()
        return flat

    def load_state(self, flat: dict[str, Tensor], iteration: int) -> None:
        """Take up the state of `state` again."""
        self.nets.load_state_dict({k.removeprefix("nets."): v for k, v in flat.items() if k.startswith("nets.")})
        self.nets.to(memory_format=torch.channels_last)
        for name, optimizer in self.optimizers().items():
            slots: dict[int, dict[str, Tensor]] = {}
            for key, value in flat.items():
                if key.startswith(f"{name}."):
                    _, index, slot = key.split(".")
                    slots.setdefault(int(index), {})[slot] = value
            optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
        self.iteration = iteration


def write_checkpoint(path: Path, trainer: Trainer, header: dict[str, str]) -> None:
    """Write a checkpoint, whole.

    Raises
    ------
    TrainingError
        It could not be written (a full disk); the one before is intact.
    """
    try:
        with whole_file(path) as beside:
            safetensors.torch.save_file(
                trainer.state(), beside, metadata={**header, "iteration": str(trainer.iteration)}
            )
    except (OSError, safetensors.SafetensorError) as failed:
        kept = f"the one before it, {path}, is intact" if path.exists() else "there is none before it"
        raise TrainingError(
            f"the checkpoint of iteration {trainer.iteration} could not be written ({failed}); {kept}; "
            "free some space and run again with --resume"
        ) from None


def draws(recipe: Recipe, iteration: int) -> np.random.Generator:
    """The randomness of one iteration: a function of seed and iteration, so a resumed run needs no state of it."""
    return np.random.default_rng([recipe.seed, iteration])


def to_tensor(images: Any) -> Tensor:
    """``(n, H, W, C)`` array as ``(n, C, H, W)`` tensor in channels-last memory, without a copy."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def train(
    screen: Screen,
    path: Path,
    recipe: Recipe,
    *,
    resume: bool = False,
    checkpoint_every: int = 200,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Train a model on a screen and leave its bundle at `path`.

    Parameters
    ----------
    screen : Screen
    path : Path
        The bundle's folder; while training it holds the log and the last checkpoint.
    recipe : Recipe
    resume : bool
        Go on from the last checkpoint.
    checkpoint_every : int
        Iterations between checkpoints.
    progress : callable, optional
        Told (done, total) iterations.
    say : callable, optional
        Told a line with every loss term now and then.

    Raises
    ------
    TrainingError
        Training diverged, or there is a checkpoint and `resume` is not set, or it is of another recipe.
    """
    keep_memory()
    cells = screen.cells()
    store = PatchStore(screen.patches_path)
    held_out = sampling.held_out_wells(cells, recipe.held_out)
    rows = sampling.training_rows(cells, held_out)
    sampler = sampling.TreatmentSampler(
        store, rows, cells["Metadata_Treatment"].iloc[rows].to_list(), augment=recipe.augment
    )
    trainer = Trainer(recipe, channels=len(screen.record.channels))
    header = {"recipe": json.dumps(configs.to_dict(recipe), sort_keys=True), "cells": screen.cells_digest()}
    checkpoint = path / CHECKPOINT
    if checkpoint.exists():
        if not resume:
            raise TrainingError(f"{path} holds an unfinished training; go on with --resume or give another folder")
        with safetensors.safe_open(checkpoint, "pt") as handle:
            found = handle.metadata()
        for key, wanted in header.items():
            if found.get(key) != wanted:
                raise TrainingError(f"the checkpoint in {path} is of other {key}: {found.get(key)}, not {wanted}")
        trainer.load_state(safetensors.torch.load_file(checkpoint), int(found["iteration"]))
    path.mkdir(parents=True, exist_ok=True)

    started, first = time.monotonic(), trainer.iteration
    with (path / LOG).open("a") as log:
        while trainer.iteration < recipe.iterations:
            rng = draws(recipe, trainer.iteration)
            b1 = to_tensor(sampler.draw(recipe.batch_size, rng))  # (n, C, 68, 68)
            b2 = to_tensor(sampler.draw(recipe.batch_size, rng))
            noise = torch.from_numpy(rng.standard_normal((recipe.batch_size, blocks.LATENT_SIZE), dtype=np.float32))
            try:
                terms = trainer.step(b1, b2, noise)
            except TrainingError as diverged:
                last = f"the last good checkpoint is {checkpoint}" if checkpoint.exists() else "there is no checkpoint"
                raise TrainingError(f"{diverged}; {last}") from None
            done = trainer.iteration
            if done % LOG_EVERY == 0 or done == recipe.iterations:
                rate = (done - first) / (time.monotonic() - started)
                eta = (recipe.iterations - done) / rate
                line = {"iteration": done, "it_per_s": round(rate, 4), "eta_s": round(eta, 1), **terms}
                log.write(json.dumps(line) + "\n")
                log.flush()
                if done % (10 * LOG_EVERY) == 0:
                    say(" ".join(f"{k} {v:.6g}" for k, v in line.items()))
            if progress is not None:
                progress(done, recipe.iterations)
            if done % checkpoint_every == 0 or done == recipe.iterations:
                write_checkpoint(checkpoint, trainer, header)
    bundles.save(path, screen, recipe_dict=configs.to_dict(recipe), nets=trainer.nets, held_out=held_out, rows=rows)
    checkpoint.unlink()
