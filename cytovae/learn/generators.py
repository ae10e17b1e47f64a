"""A generator of another package behind the whole product: imported, called, and its answers checked.

For one path it is named on the command line, ``package.module:factory``. For the app and every other verb its package
makes it a kind of model with `kind` and an entry point of the group ``cytovae.models``; a bundle never names code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cytovae.errors import BundleError, ConfigError
from cytovae.explore.generator import Generator, require_fit
from cytovae.learn import bundle as bundles
from cytovae.learn import shelf
from cytovae.learn.kinds import Coder, Kind, Run
from cytovae.patches import Floats
from cytovae.screen import Screen, digest_file

PARTS = ("name", "patch_size_px", "channels", "latent_size", "encode", "decode")


@dataclasses.dataclass(frozen=True)
class Outside:
    """A generator of another package, with what provenance asks for.

    Parameters
    ----------
    made : Generator
        As its factory gave it.
    model : str
        Where it comes from: ``package.module:factory``.
    digest : str
        Its own ``digest`` where it has one (say, of its weights), else that of the file its factory stands in.
    """

    made: Generator
    model: str
    digest: str

    @property
    def name(self) -> str:
        return str(self.made.name)

    @property
    def patch_size_px(self) -> int:
        return int(self.made.patch_size_px)

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(self.made.channels)

    @property
    def latent_size(self) -> int:
        return int(self.made.latent_size)

    def encode(self, images: npt.NDArray) -> Floats:
        """Embeddings (n, d) float32, checked."""
        return self._checked(self.made.encode(images), (len(images), self.latent_size), "encode")

    def decode(self, z: Floats) -> Floats:
        """Images (n, H, W, C) float32, checked."""
        size = self.patch_size_px
        return self._checked(self.made.decode(z), (len(z), size, size, len(self.channels)), "decode")

    def _checked(self, given: Any, shape: tuple[int, ...], what: str) -> Floats:
        values = np.asarray(given, dtype=np.float32)
        if values.shape != shape:
            raise BundleError(f"{what} of the generator {self.model} gives the shape {values.shape}, not {shape}")
        if not np.isfinite(values).all():
            raise BundleError(f"{what} of the generator {self.model} gives values that are not numbers")
        return values


def load(named: str) -> Outside:
    """What a factory gives.

    Parameters
    ----------
    named : str
        ``package.module:factory``; the factory takes no argument and returns a `Generator`.

    Raises
    ------
    BundleError
        It cannot be imported, or what it gives is no generator: says what is missing.
    """
    module, colon, factory = named.partition(":")
    if not (colon and module and factory):
        raise BundleError(f"a generator is written package.module:factory, not {named!r}")
    try:
        make = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as absent:
        raise BundleError(f"the generator {named!r} cannot be loaded: {absent}") from None
    if not callable(make):
        raise BundleError(f"the generator {named!r} is a {type(make).__name__}, not a function to call")
    return _outside(make, named)


def _outside(make: Callable[[], Any], named: str) -> Outside:
    made = make()
    if missing := [part for part in PARTS if not hasattr(made, part)]:
        raise BundleError(f"what {named!r} gives is no generator: it has no {', '.join(missing)}")
    return Outside(made, named, str(getattr(made, "digest", "")) or _source_digest(make))


def _source_digest(make: Callable[[], Any]) -> str:
    try:
        return digest_file(Path(inspect.getfile(make)))
    except (TypeError, OSError):
        return hashlib.sha256(repr(make).encode()).hexdigest()


def open_model(named: str, models_dir: str | Path | None = None, device: str = "cpu") -> bundles.Bundle | Outside:
    """A bundle by its name or folder, or a generator by ``package.module:factory``."""
    if ":" in named and not Path(named).exists():
        return load(named)
    return bundles.load(shelf.locate(named, models_dir), device=device)


def kind(title: str, factory: Callable[[], Generator], limits: str = "") -> Kind:
    """A generator as a kind of model, for its package's entry point: then app and verbs use it like any other.

    ``cytovae train SCREEN models/NAME --model KIND`` trains nothing: it sees that the generator fits the screen and
    leaves a bundle that stands for it. Which cells it was trained on is not known, so none counts as unseen and nothing
    is measured (`cytovae reconstruct --split all` does).

    Parameters
    ----------
    title : str
        What its card calls it.
    factory : callable
        Gives the generator.
    limits : str
        A sentence about it for the card.
    """
    named = f"{factory.__module__}:{factory.__qualname__}"

    def recipe(options: Mapping[str, Any]) -> dict[str, Any]:
        if given := [name for name in options if name != "digest"]:
            raise ConfigError(f"a generator of another package has no option {given[0]!r}: nothing is trained here")
        return {"digest": _outside(factory, named).digest}

    def adopt(screen: Screen, path: Path, recipe: dict[str, Any], run: Run) -> bool:
        from cytovae.learn import kinds

        generator = _outside(factory, named)
        require_fit(generator, screen.record.channels, screen.record.patch_size_px)
        model = next(name for name in kinds.names() if kinds.entries()[name].load() is made)
        config = bundles.new_config(
            path.resolve().name,
            model,
            generator.channels,
            generator.latent_size,
            generator.patch_size_px,
            recipe=recipe,
            split={"by": "elsewhere"},
            data={"cells": screen.cells_digest(), "screen": screen.name},
        )
        bundles.save(path, {"stands_for": np.frombuffer(generator.digest.encode(), np.uint8)}, config, {})
        return True

    def ready(arrays: dict[str, npt.NDArray], config: dict[str, Any], device: str) -> tuple[Coder, Coder]:
        generator = _outside(factory, named)
        if (was := arrays["stands_for"].tobytes().decode()) != generator.digest:
            raise BundleError(
                f"{config['name']} stands for {named} as it was ({was[:12]}), and that is another now "
                f"({generator.digest[:12]}); make the bundle again with 'cytovae train --overwrite'"
            )
        return generator.encode, generator.decode

    made = Kind(title, recipe, adopt, ready, lambda recipe: limits or "Made by another package.")
    return made
