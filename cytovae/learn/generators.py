"""A generator from anywhere: ``package.module:factory``, imported, called and checked before it is used."""

from __future__ import annotations

import importlib
from pathlib import Path

from cytovae.errors import BundleError
from cytovae.explore.generator import Generator
from cytovae.learn import bundle as bundles
from cytovae.learn import shelf

PARTS = ("name", "patch_size_px", "channels", "latent_size", "encode", "decode")


def load(named: str) -> Generator:
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
    made = make()
    if missing := [part for part in PARTS if not hasattr(made, part)]:
        raise BundleError(f"what {named!r} gives is no generator: it has no {', '.join(missing)}")
    found: Generator = made
    return found


def open_model(named: str, models_dir: str | Path | None = None, device: str = "cpu") -> Generator:
    """A bundle by its name or folder, or a generator by ``package.module:factory``."""
    if ":" in named and not Path(named).exists():
        return load(named)
    return bundles.load(shelf.locate(named, models_dir), device=device)
