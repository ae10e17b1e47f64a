"""The training loop: two balanced batches, one forward pass, three groups of weights, whole checkpoints.

Every iteration draws its randomness from seed and iteration alone, so a run that was killed and goes on from its last
checkpoint ends in the same weights as one that was not.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from cytovae import config as configs
from cytovae import locks, schema
from cytovae.errors import ConfigError, DependencyError, TrainingError
from cytovae.learn import bundle as bundles
from cytovae.learn import measures, sampling
from cytovae.learn import reconstruct as reconstructions
from cytovae.learn.networks import arrays_of
from cytovae.learn.pool import Pool
from cytovae.learn.recipe import Precision, Preset, Rates
from cytovae.nets import autoencoders, blocks, losses
from cytovae.screen import Screen, whole_file

if TYPE_CHECKING:
    from lightning_fabric import Fabric

RECIPES: dict[str, dict[str, Any]] = {
    Preset.PAPER: {},
    Preset.BEST: {
        "recipe": "best",
        "decoder_margin_px": 6,
        "average_cells": 32_000,
        "moments_batches": 30,
        "anneal": 0.125,
        "anneal_pixels": 30.0,
        "anneal_frame": 8.0,
    },
}
"""What a recipe sets beside what every training may choose: the paper's nothing, the best whatever docs/recipes.md
measured to help."""
RATES = {Rates.PAPER: (1e-3, 1e-2), Rates.IMPLEMENTATION: (1e-2, 1e-3)}
CHECKPOINT = "checkpoint.safetensors"
LOG = "training.jsonl"
SAMPLES = "samples"
SNAPSHOTS = "snapshots.jsonl"
SNAPSHOT_CELLS = 500
N_SAMPLES = 10
LOG_EVERY = 10
SAY_EVERY = 100
MOMENTS_BATCH = 104


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
    precision : str
        ``32-true``, or ``bf16-mixed`` for GPUs.
    decoder_margin_px, discriminator_margin_px : int
        See `cytovae.nets.blocks.Decoder` and `Discriminator`; 0 as in the paper.
    beta : float or None
        Weight of the KL term; the model's own (METHOD.md) where None.
    average_cells : int
        The weights of encoder and decoder that leave the training are a running average over about so many cells
        seen; 0: the last ones.
    moments_batches : int
        Batch-norm moments of the finished model are taken anew over so many balanced batches; 0: the running averages.
    anneal : float
        Share of the iterations, at the end, over which both rates fall in a straight line towards 0; weights are
        averaged over these iterations alone.
    anneal_pixels : float
        Weight of the pixel term over these iterations, where there is a discriminator.
    anneal_frame : float
        How many times more the outer `measures.FRAME_PX` pixels weigh in it than the others.
    half_size : bool
        The bundle keeps its kernels in half precision (11 bits); its measures are of what it keeps. Training and
        checkpoints stay in single precision.
    recipe : str
        What the options above came from: ``paper`` or ``best``; a card says it.
    validation : float
        Share of wells kept out beside `held_out`, to choose between recipes on.
    """

    model: str
    iterations: int = 40_000
    batch_size: int = 104
    period: int = 2_500
    seed: int = 0
    rates: str = Rates.PAPER.value
    decay: float = 1e-4
    augment: bool = True
    held_out: float = sampling.HELD_OUT_SHARE
    precision: str = Precision.SINGLE.value
    decoder_margin_px: int = 0
    discriminator_margin_px: int = 0
    beta: float | None = None
    average_cells: int = 0
    moments_batches: int = 0
    validation: float = 0.0
    anneal: float = 0.0
    anneal_pixels: float = 1.0
    anneal_frame: float = 1.0
    half_size: bool = False
    recipe: str = "paper"

    def __post_init__(self) -> None:
        autoencoders.objective(self.model)
        for name in ("iterations", "batch_size", "period"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is at least 1, not {getattr(self, name)}")
        if self.batch_size < 2:
            raise ConfigError(f"batch norm needs a batch of at least 2 patches, not {self.batch_size}")
        if self.rates not in list(Rates):
            raise ConfigError(f"rates is one of {', '.join(Rates)}, not {self.rates!r}")
        if not 0 <= self.held_out < 1:
            raise ConfigError(f"held_out is a share from 0 to below 1, not {self.held_out}")
        if not 0 <= self.validation < 1 - self.held_out:
            raise ConfigError(f"validation is a share from 0 to what held_out leaves, not {self.validation}")
        if not 0 <= self.anneal < 1:
            raise ConfigError(f"anneal is a share from 0 to below 1, not {self.anneal}")
        for name in ("anneal_pixels", "anneal_frame"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is above 0, not {getattr(self, name)}")
        for name in ("average_cells", "moments_batches"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is at least 0, not {getattr(self, name)}")
        if self.average_cells and not self.moments_batches:
            raise ConfigError("averaged weights need batch-norm moments of their own; set moments_batches")
        if self.precision not in list(Precision):
            raise ConfigError(f"precision is one of {', '.join(Precision)}, not {self.precision!r}")


def preset(name: str) -> dict[str, Any]:
    """What a recipe sets of `Recipe`: ``paper``, or ``best``.

    Raises
    ------
    ConfigError
        There is no such recipe.
    """
    if name not in list(Preset):
        raise ConfigError(f"recipe is one of {', '.join(Preset)}, not {name!r}")
    return RECIPES[Preset(name)]


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where a training runs; it changes no number beyond rounding.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` (or another accelerator that lightning-fabric knows).
    devices, nodes : int
        Processes on each machine, and machines; each process takes an equal part of every mini-batch.
    threads : int
        Of the CPU; 0 leaves the choice to torch.
    """

    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    threads: int = 0

    def fabric(self, precision: str) -> Fabric:
        """lightning-fabric for this machine.

        Raises
        ------
        ConfigError
            The machine has no such device, or not so many of them.
        """
        from lightning_fabric import Fabric
        from lightning_fabric.utilities.exceptions import MisconfigurationException

        for name in ("devices", "nodes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is at least 1, not {getattr(self, name)}")
        alone = self.devices * self.nodes == 1
        kind, numbered, number = self.device.partition(":")
        if numbered and (kind not in ("cuda", "gpu") or not number.isdecimal() or not alone):
            raise ConfigError(f"{self.device!r} names no single GPU; give cuda:N alone, or cuda with --devices")
        try:
            return Fabric(
                accelerator=kind,
                devices=[int(number)] if numbered else self.devices,
                num_nodes=self.nodes,
                strategy="auto" if alone else "ddp",
                precision=precision,  # type: ignore[arg-type]
            )
        except (ValueError, RuntimeError, ImportError, MisconfigurationException) as unfit:
            asked = f"{self.device} x {self.devices}" if self.devices > 1 else self.device
            reason = str(unfit).strip().splitlines()[0]
            raise ConfigError(f"this machine cannot train on {asked}: {reason} Use auto or cpu") from None


def keep_memory() -> None:
    """Tell glibc's allocator to keep freed memory: saves a million page faults a step; elsewhere nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


class _Average(torch.autograd.Function):
    """The mean of a tensor over the processes; its gradient is the mean of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return average(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return average(gradient)


def average(x: Tensor) -> Tensor:
    """The mean of a tensor over the processes of the training."""
    total = x.detach().clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def networks(
    recipe: Recipe, channels: int, patch_px: int = configs.PATCH_SIZE_PX, similarity: bool | None = None
) -> autoencoders.Networks:
    """The networks of a recipe, not yet initialised.

    Parameters
    ----------
    recipe : Recipe
    channels : int
        Of the image.
    patch_px : int
        Edge of a patch.
    similarity : bool, optional
        Whether there is a discriminator; as the model's objective says where None.
    """
    return autoencoders.Networks(
        channels,
        autoencoders.objective(recipe.model).similarity if similarity is None else similarity,
        patch_px,
        recipe.decoder_margin_px,
        recipe.discriminator_margin_px,
    )


class Trainer:
    """Networks, optimizers and the iteration they have come to.

    Parameters
    ----------
    recipe : Recipe
    channels : int
        Of the image.
    fabric : Fabric, optional
        Device, precision and other processes; without it the CPU, alone.
    patch_px : int
        Edge of a patch.
    """

    def __init__(
        self, recipe: Recipe, channels: int, fabric: Fabric | None = None, patch_px: int = configs.PATCH_SIZE_PX
    ) -> None:
        self.recipe = recipe
        self.fabric = fabric
        self.patch_px = patch_px
        self.objective = autoencoders.objective(recipe.model)
        self.beta = self.objective.beta if recipe.beta is None else recipe.beta
        self.nets = networks(recipe, channels, patch_px)
        self.nets.initialise(torch.Generator().manual_seed(recipe.seed))
        if fabric is not None:
            self.nets.to(fabric.device)
            if fabric.world_size > 1:
                for norm in self.nets.norms():
                    norm.reduce = lambda x: _Average.apply(x)  # type: ignore[no-untyped-call]
        autoencoders.channels_last(self.nets)
        adam_rate, sgd_rate = RATES[Rates(recipe.rates)]
        self.adam = torch.optim.Adam(
            self.nets.autoencoder_parameters(), lr=adam_rate, betas=(0.9, 0.999), eps=1e-7, foreach=True
        )
        self.sgd = (
            torch.optim.SGD(self.nets.discriminator_parameters(), lr=sgd_rate, momentum=0.9, foreach=True)
            if self.objective.similarity
            else None
        )
        self.iteration = 0
        self.averages = [p.detach().clone() for p in self.averaged()]

    def since_annealing(self) -> int:
        """Iterations since the rates began to fall (all of them where they never do); negative before."""
        return self.iteration - round(self.recipe.iterations * (1 - self.recipe.anneal)) * bool(self.recipe.anneal)

    def set_rates(self) -> None:
        """The learning rates of the next step."""
        fallen = max(0, self.since_annealing()) / (self.recipe.iterations * self.recipe.anneal or math.inf)
        for optimizer, rate in zip(self.optimizers().values(), RATES[Rates(self.recipe.rates)], strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate * (1.0 - fallen)

    def pixel_weights(self, x: Tensor) -> Tensor | None:
        """Weights (H, W) of the pixels in the next step's pixel term; None where each is 1.

        Without a discriminator the pixel term is all there is beside the KL term, and weighs what it weighs.
        """
        recipe, edge = self.recipe, measures.FRAME_PX
        if not self.objective.similarity or not recipe.anneal or self.since_annealing() < 0:
            return None
        if recipe.anneal_pixels == recipe.anneal_frame == 1.0:
            return None
        weights = torch.full(x.shape[2:], recipe.anneal_pixels * recipe.anneal_frame, device=x.device)
        weights[edge:-edge, edge:-edge] = recipe.anneal_pixels
        return weights

    def averaged(self) -> list[torch.nn.Parameter]:
        """The weights that are averaged: none, or encoder's and decoder's."""
        return self.nets.autoencoder_parameters() if self.recipe.average_cells else []

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
        with self.fabric.autocast() if self.fabric else contextlib.nullcontext():
            found = autoencoders.training_step(self.nets, b1, b2, noise, self.beta, weights, self.pixel_weights(b1))
        terms = torch.stack([t.detach().float() for t in found.terms.values()])
        gradients = [*found.autoencoder_gradients, *found.discriminator_gradients]
        if self.fabric and self.fabric.world_size > 1:
            terms = average(terms)
            flat = torch.split(average(torch.cat([g.flatten() for g in gradients])), [g.numel() for g in gradients])
            gradients = [part.view_as(g) for part, g in zip(flat, gradients, strict=True)]
        values = dict(zip(found.terms, terms.tolist(), strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(f"training diverged at iteration {self.iteration}: the {name} term is {value}")
        parameters = [*self.nets.autoencoder_parameters(), *self.nets.discriminator_parameters()]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self.set_rates()
        if self.averages and not self.since_annealing():
            torch._foreach_copy_(self.averages, [p.detach() for p in self.averaged()])
        for optimizer in self.optimizers().values():
            optimizer.step()
        with torch.no_grad():
            torch._foreach_mul_([*blocks.kernels(self.nets)], 1.0 - self.recipe.decay)
            if self.averages:
                torch._foreach_lerp_(self.averages, [*self.averaged()], self.share_of_the_last())
        self.nets.track(found.moments)
        self.iteration += 1
        return values

    def share_of_the_last(self) -> float:
        """How much of the newest weights enters their average: one part in as many as there are steps, at most.

        The first steps weigh alike, so that the average does not remember the weights' start.
        """
        remembered = math.exp(-self.recipe.batch_size / self.recipe.average_cells)
        seen = max(0, self.since_annealing())
        return 1.0 - min(remembered, (seen + 1) / (seen + 10))

    @torch.no_grad()
    def finished(self, batches: Batches) -> autoencoders.Networks:
        """Encoder and decoder as they leave the training: averaged weights, moments of their own.

        Parameters
        ----------
        batches : Batches
            Where the moments' patches come from; their randomness depends on the seed alone.
        """
        nets = networks(self.recipe, self.nets.decoder.channels, self.patch_px, similarity=False)
        nets.to(self.nets.encoder.head.device)
        nets.load_state_dict({k: v for k, v in self.nets.state_dict().items() if not k.startswith("discriminator.")})
        for parameter, average_of_it in zip(nets.autoencoder_parameters(), self.averages, strict=False):
            parameter.copy_(average_of_it)
        autoencoders.channels_last(nets)
        if self.recipe.moments_batches:
            found = []
            for number in range(self.recipe.moments_batches):
                x, noise = (tensor.to(nets.encoder.head.device) for tensor in batches.draw_for_moments(number))
                mean, logvar, encoder_moments = nets.encoder(x)
                _, decoder_moments = nets.decoder(mean + torch.exp(0.5 * logvar) * noise)
                found.append([*encoder_moments, *decoder_moments])
            for norm, over_batches in zip(nets.norms(), zip(*found, strict=True), strict=True):
                pooled = blocks.pooled(over_batches)
                norm.running_mean.copy_(pooled.mean)
                norm.running_var.copy_(pooled.var)
        return nets

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """By name."""
        return {"adam": self.adam} if self.sgd is None else {"adam": self.adam, "sgd": self.sgd}

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, as flat tensors."""
        flat = {f"nets.{name}": t.detach().contiguous() for name, t in self.nets.state_dict().items()}
        flat |= {f"average.{index}": t.contiguous() for index, t in enumerate(self.averages)}
        for name, optimizer in self.optimizers().items():
            for index, slots in optimizer.state_dict()["state"].items():
                for slot, value in slots.items():
                    flat[f"{name}.{index}.{slot}"] = torch.as_tensor(value).contiguous()
        return flat

    def load_state(self, flat: dict[str, Tensor], iteration: int) -> None:
        """Take up the state of `state` again."""
        self.nets.load_state_dict({k.removeprefix("nets."): v for k, v in flat.items() if k.startswith("nets.")})
        autoencoders.channels_last(self.nets)
        for number, average_of_it in enumerate(self.averages):
            average_of_it.copy_(flat[f"average.{number}"])
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
        A weight is not finite, or the file could not be written (a full disk); the checkpoint before is intact.
    """
    kept = f"the one before it, {path}, is intact" if path.exists() else "there is none before it"
    state = trainer.state()
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise TrainingError(f"training diverged by iteration {trainer.iteration}: {name} is not finite; {kept}")
    try:
        with whole_file(path) as beside:
            # save_file writes under a name of its own, which a kill would leave
            beside.write_bytes(safetensors.torch.save(state, {**header, "iteration": str(trainer.iteration)}))
    except (OSError, safetensors.SafetensorError) as failed:
        raise TrainingError(
            f"the checkpoint of iteration {trainer.iteration} could not be written ({failed}); {kept}; "
            "free some space and run again with --resume"
        ) from None


def read_checkpoint(path: Path, trainer: Trainer, header: dict[str, str]) -> None:
    """Take up a checkpoint.

    Raises
    ------
    TrainingError
        It cannot be read, or belongs to another recipe or other cells.
    """
    try:
        with safetensors.safe_open(path, "pt") as handle:
            found = handle.metadata() or {}
        state = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as broken:
        raise TrainingError(f"the checkpoint {path} cannot be read: {broken}; start again with --overwrite") from None
    for key, wanted in header.items():
        if found.get(key) != wanted:
            raise TrainingError(
                f"the checkpoint {path} is of another {key} ({found.get(key)}) than asked for ({wanted}); "
                "give the same options, or start again with --overwrite"
            )
    trainer.load_state(state, int(found["iteration"]))


class Batches:
    """The mini-batches of every iteration, drawn one iteration ahead in a thread.

    Parameters
    ----------
    sampler : TreatmentSampler
    recipe : Recipe
    rank, world : int
        Which equal part of every mini-batch this process takes.
    """

    def __init__(self, sampler: sampling.TreatmentSampler, recipe: Recipe, rank: int = 0, world: int = 1) -> None:
        if recipe.batch_size % world:
            raise ConfigError(f"a batch of {recipe.batch_size} cannot be shared out equally over {world} processes")
        self.sampler = sampler
        self.recipe = recipe
        size = recipe.batch_size // world
        self.part = slice(rank * size, (rank + 1) * size)

    def draw(self, iteration: int) -> tuple[Tensor, Tensor, Tensor]:
        """B1, B2 and the posterior's noise.

        Parameters
        ----------
        iteration : int
            With the seed, all that the randomness depends on.

        Returns
        -------
        tuple of ((n, C, 68, 68) tensor, (n, C, 68, 68) tensor, (n, 256) tensor)
        """
        rng = np.random.default_rng([self.recipe.seed, iteration])
        size = self.recipe.batch_size
        b1, b2 = (to_tensor(self.sampler.draw(size, rng, self.part)) for _ in range(2))
        noise = rng.standard_normal((size, blocks.LATENT_SIZE), dtype=np.float32)[self.part]
        return b1, b2, torch.from_numpy(noise)

    def draw_for_moments(self, number: int) -> tuple[Tensor, Tensor]:
        """A balanced batch of `MOMENTS_BATCH` cells and posterior noise, to take batch-norm moments over.

        Parameters
        ----------
        number : int
            With the seed, all that the randomness depends on.

        Returns
        -------
        tuple of ((n, C, 68, 68) tensor, (n, 256) tensor)
        """
        rng = np.random.default_rng([self.recipe.seed, number, MOMENTS_BATCH])
        x = to_tensor(self.sampler.draw(MOMENTS_BATCH, rng))
        noise = rng.standard_normal((MOMENTS_BATCH, blocks.LATENT_SIZE), dtype=np.float32)
        return x, torch.from_numpy(noise)

    def ahead(self, first: int, stop: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The batches of iterations `first` to `stop` - 1."""
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            coming = thread.submit(self.draw, first)
            for iteration in range(first, stop):
                now = coming.result()
                if iteration + 1 < stop:
                    coming = thread.submit(self.draw, iteration + 1)
                yield now


def to_tensor(images: npt.NDArray[np.float32]) -> Tensor:
    """``(n, H, W, C)`` array as ``(n, C, H, W)`` tensor in channels-last memory, without a copy."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


class Log:
    """The JSON-lines log, one object per line: iteration, it_per_s, eta_s and every loss term by name.

    Parameters
    ----------
    path : Path
    iteration : int
        Of the checkpoint that is gone on from: later lines, and a half-written last one, are cut off.
    tensorboard : bool
        Whether the same goes to TensorBoard events in the folder.

    Raises
    ------
    DependencyError
        TensorBoard is asked for and not installed.
    """

    def __init__(self, path: Path, iteration: int, tensorboard: bool = False) -> None:
        kept = []
        for line in path.read_text().splitlines() if path.exists() else []:
            with contextlib.suppress(json.JSONDecodeError):
                if json.loads(line)["iteration"] <= iteration:
                    kept.append(line + "\n")
        with whole_file(path) as beside:
            beside.write_text("".join(kept))
        self.path = path
        self.events: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise DependencyError("tensorboard is not installed; pip install 'cytovae[tensorboard]'") from None
            self.events = SummaryWriter(str(path.parent / "tensorboard"), purge_step=iteration + 1)

    def write(self, line: dict[str, float]) -> None:
        """Add one line."""
        with self.path.open("a") as handle:
            handle.write(json.dumps(line) + "\n")
        if self.events is not None:
            for name, value in line.items():
                if name != "iteration":
                    self.events.add_scalar(name, value, int(line["iteration"]))
            self.events.flush()

    def close(self) -> None:
        """Close the TensorBoard events."""
        if self.events is not None:
            self.events.close()


def train(
    screen: Screen | Pool,
    path: Path,
    recipe: Recipe,
    *,
    machine: Machine | None = None,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_every: int = 200,
    pictures_every: int = 1000,
    tensorboard: bool = False,
    progress: schema.Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> bool:
    """Train a model on a screen and leave its bundle at `path`.

    Parameters
    ----------
    screen : Screen or Pool
    path : Path
        The bundle's folder; while training it holds log, pictures and the last checkpoint.
    recipe : Recipe
    machine : Machine, optional
        The CPU or GPU there is, alone, where None.
    resume : bool
        Go on from the last checkpoint, if there is one.
    overwrite : bool
        Throw away an unfinished training.
    checkpoint_every, pictures_every : int
        Iterations between checkpoints, and between pictures of held-out cells (0: none).
    tensorboard : bool
        Write TensorBoard events as well.
    progress : callable, optional
        Told (done, total) iterations.
    say : callable, optional
        Told a line with every loss term now and then.

    Returns
    -------
    bool
        Whether this is the first of the training's processes: the one that speaks for all.

    Raises
    ------
    TrainingError
        Training diverged, or there is an unfinished training and neither `resume` nor `overwrite` is set, or its
        checkpoint is of another recipe, or the screen's patches are not of the networks' size.
    """
    try:
        blocks.stem_size(screen.record.patch_size_px)
    except ConfigError as unfit:
        raise TrainingError(
            f"{screen.path}: {unfit}; ingest with another --patch-size-px, or train --model pca"
        ) from None
    keep_memory()
    machine = machine or Machine()
    if machine.threads:
        torch.set_num_threads(machine.threads)
    fabric = machine.fabric(recipe.precision)
    fabric.launch()
    first_process = fabric.global_rank == 0

    pool = Pool.of(screen)
    cells = pool.cells()
    split = pool.split(recipe.held_out, recipe.validation)
    rows, watched = split.training_rows(cells), split.watched_rows(cells)
    sampler = sampling.TreatmentSampler(
        pool.store(), rows, cells[schema.TREATMENT].iloc[rows].to_list(), augment=recipe.augment
    )
    batches = Batches(sampler, recipe, fabric.global_rank, fabric.world_size)
    trainer = Trainer(recipe, len(screen.record.channels), fabric, screen.record.patch_size_px)
    header = {"recipe": json.dumps(configs.to_dict(recipe), sort_keys=True), "cells": pool.cells_digest()}
    with locks.held(path, "training") if first_process else contextlib.nullcontext():
        checkpoint = path / CHECKPOINT
        if checkpoint.exists() and resume:
            read_checkpoint(checkpoint, trainer, header)
        elif checkpoint.exists() and not overwrite:
            raise TrainingError(
                f"{path} holds an unfinished training; go on with --resume or start again with --overwrite"
            )
        fabric.barrier()
        if first_process and not trainer.iteration:
            checkpoint.unlink(missing_ok=True)
            shutil.rmtree(path / SAMPLES, ignore_errors=True)
            (path / SNAPSHOTS).unlink(missing_ok=True)
        path.mkdir(parents=True, exist_ok=True)
        log = Log(path / LOG, trainer.iteration, tensorboard) if first_process else None

        started, first = time.monotonic(), trainer.iteration
        for batch in batches.ahead(first, recipe.iterations):
            b1, b2, noise = (tensor.to(fabric.device, non_blocking=True) for tensor in batch)
            try:
                terms = trainer.step(b1, b2, noise)
            except TrainingError as diverged:
                last = f"the last good checkpoint is {checkpoint}" if checkpoint.exists() else "there is no checkpoint"
                raise TrainingError(f"{diverged}; {last}") from None
            done = trainer.iteration
            last_one = done == recipe.iterations
            if log is None:
                continue
            if done % LOG_EVERY == 0 or last_one:
                rate = (done - first) / (time.monotonic() - started)
                left_s = (recipe.iterations - done) / rate
                line = {"iteration": done, "it_per_s": round(rate, 4), "eta_s": round(left_s, 1), **terms}
                log.write(line)
                if done % SAY_EVERY == 0 or last_one:
                    say(" ".join(f"{name} {value:.6g}" for name, value in line.items()))
            if progress is not None:
                progress(done, recipe.iterations)
            # pictures first: whoever goes on from a checkpoint does not come to those of its own iteration again
            if len(watched) and pictures_every and (done % pictures_every == 0 or last_one):
                snapshot(path, pool, watched, trainer.finished(batches), done)
            if done % checkpoint_every == 0 or last_one:
                write_checkpoint(checkpoint, trainer, header)
        if log is not None:
            log.close()
            export(trainer, pool, path, trainer.finished(batches))
            checkpoint.unlink(missing_ok=True)
    fabric.barrier()
    return first_process


def snapshot(
    path: Path, screen: Screen | Pool, rows: npt.NDArray[np.int64], nets: autoencoders.Networks, iteration: int
) -> None:
    """A picture of the same kept-out cells every time, above their reconstructions, and a line of measures.

    Parameters
    ----------
    path : Path
        The bundle's folder.
    screen : Screen or Pool
    rows : (n,) int
        Of cells that are not trained on (`sampling.Split.watched_rows`).
    nets : Networks
        As they would leave the training now.
    iteration : int
    """
    rows = reconstructions.some_of_each(screen.cells(), rows, SNAPSHOT_CELLS)
    original = sampling.normalise(Pool.of(screen).store().read(rows))
    folded = autoencoders.Folded(nets)
    device = nets.encoder.head.device
    made = np.concatenate(
        [
            folded.decode(folded.encode(to_tensor(part).to(device))).permute(0, 2, 3, 1).cpu().numpy()
            for part in np.array_split(original, -(-len(original) // 32))
        ]
    )
    strips = [("original", original[:N_SAMPLES]), ("reconstruction", made[:N_SAMPLES])]
    reconstructions.write_sheet(path / SAMPLES / f"{iteration:06d}.png", strips)
    if len(rows) < 2:
        return
    line = json.dumps({"iteration": iteration, **measures.measure(original, made)})
    before = (path / SNAPSHOTS).read_text().splitlines() if (path / SNAPSHOTS).exists() else []
    kept = [text for text in before if json.loads(text)["iteration"] < iteration]
    with whole_file(path / SNAPSHOTS) as beside:
        beside.write_text("".join(text + "\n" for text in [*kept, line]))


def export(trainer: Trainer, screen: Screen | Pool, path: Path, nets: autoencoders.Networks) -> None:
    """Write the bundle of a training as far as it has come, and measure it on cells that it did not see.

    Parameters
    ----------
    trainer : Trainer
    screen : Screen or Pool
        What it was trained on.
    path : Path
        Of the bundle.
    nets : Networks
        What `Trainer.finished` gives.
    """
    recipe, pool = trainer.recipe, Pool.of(screen)
    rows = pool.split(recipe.held_out, recipe.validation).training_rows(pool.cells())
    config = bundles.new_config(
        path.resolve().name,
        recipe.model,
        screen.record.channels,
        blocks.LATENT_SIZE,
        screen.record.patch_size_px,
        recipe={**configs.to_dict(recipe), "iterations": trainer.iteration},
        split=pool.split_record(recipe.held_out, recipe.validation),
        data=pool.data_record(rows),
    )
    arrays = arrays_of(nets)
    if recipe.half_size:
        arrays = {name: array.astype(np.float16) if array.ndim > 1 else array for name, array in arrays.items()}
    reconstructions.save_measured(screen, path, arrays, config, sampling.digests(pool.store(), rows))
