"""The registry of kinds of model: who trains one and who loads it, by the name that ``--model`` takes.

A kind is one file with a `Kind` in it and one entry in `OWN`. Another package adds one by an entry point::

    [project.entry-points."cytovae.models"]
    flow = "my_package.flow:KIND"

Bundles, verbs and app know kinds by this registry alone. Nothing is imported before a kind is asked for.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cytovae.errors import ConfigError, did_you_mean
from cytovae.schema import Progress

GROUP = "cytovae.models"
"""Entry points of this group are kinds of other packages."""

OWN = {
    "ae": "cytovae.learn.networks:AE",
    "vae": "cytovae.learn.networks:VAE",
    "vae+": "cytovae.learn.networks:VAE_PLUS",
    "pca": "cytovae.learn.linear:PCA",
}
"""The kinds of this package, each by name and where it stands."""

Floats = npt.NDArray[np.float32]
Coder = Callable[[Floats], Floats]
"""Normalised patches (n, H, W, C) -> embeddings (n, d), or back; n is small."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Where and how a training runs; nothing here changes a number beyond rounding.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    devices, nodes : int
        Processes on each machine, and machines.
    threads : int
        Of the CPU; 0 leaves the choice to the library.
    checkpoint_every, pictures_every : int
        Iterations between checkpoints, and between pictures of held-out cells (0: none).
    tensorboard : bool
        Write TensorBoard events as well.
    resume, overwrite : bool
        Go on from the last checkpoint; throw away what is there.
    progress : callable, optional
        Told (done, total).
    say : callable
        Told a line now and then.
    """

    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    threads: int = 0
    checkpoint_every: int = 200
    pictures_every: int = 1000
    tensorboard: bool = False
    resume: bool = False
    overwrite: bool = False
    progress: Progress | None = None
    say: Callable[[str], None] = lambda text: None


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of model.

    Parameters
    ----------
    title : str
        What its card calls it, such as "A variational autoencoder (VAE)".
    recipe : callable
        Options as given -> the whole recipe as JSON types, with every default; it travels inside the bundle. Options
        that the kind does not have are a `ConfigError`.
    train : callable
        (screen, folder, recipe, run) -> whether this process speaks for the training; it leaves a bundle in the folder
        by `cytovae.learn.bundle.save`.
    load : callable
        (weights by name, configuration, device) -> encoder and decoder, which any number of threads may share.
    limits : callable
        Recipe -> a sentence about the training for the card.
    several : bool
        Whether `train` takes a `cytovae.learn.pool.Pool` of several screens, too.
    """

    title: str
    recipe: Callable[[Mapping[str, Any]], dict[str, Any]]
    train: Callable[[Any, Path, dict[str, Any], Run], bool]
    load: Callable[[dict[str, npt.NDArray], dict[str, Any], str], tuple[Coder, Coder]]
    limits: Callable[[dict[str, Any]], str]
    several: bool = False


def entries() -> dict[str, importlib.metadata.EntryPoint]:
    """Every kind there is: this package's, then those of other packages; a name of ours cannot be taken."""
    others = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
    own = {name: importlib.metadata.EntryPoint(name, value, GROUP) for name, value in OWN.items()}
    return own | {name: point for name, point in sorted(others.items()) if name not in own}


def names() -> list[str]:
    """What ``--model`` takes."""
    return list(entries())


def get(name: str) -> Kind:
    """A kind by its name.

    Raises
    ------
    ConfigError
        There is no such kind, or the package that brings it cannot be imported or brings something else.
    """
    known = entries()
    if name not in known:
        raise ConfigError(f"there is no model {name!r}; it is one of {', '.join(known)}{did_you_mean(name, known)}")
    point = known[name]
    try:
        found = point.load()
    except (ImportError, AttributeError) as absent:
        raise ConfigError(f"the model {name!r} ({point.value}) cannot be loaded: {absent}") from None
    if not isinstance(found, Kind):
        raise ConfigError(f"the model {name!r} ({point.value}) is a {type(found).__name__}, not a cytovae Kind")
    return found
