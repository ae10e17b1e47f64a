"""Verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytovae.cli import console


@console.app.command()
def train(
    screen: Path,
    bundle: Path,
    model: Annotated[str, typer.Option(help="ae, vae or vae+.")] = "vae+",
    iterations: int = 40_000,
    batch_size: int = 104,
    period: int = 2_500,
    seed: int = 0,
    threads: int = 0,
    resume: bool = False,
) -> None:
    """Train a model on a screen."""
    import torch

    from cytovae.learn.train import Recipe
    from cytovae.learn.train import train as run
    from cytovae.screen import Screen

    if threads:
        torch.set_num_threads(threads)
    recipe = Recipe(model=model, iterations=iterations, batch_size=batch_size, period=period, seed=seed)
    run(Screen.open(screen), bundle, recipe, resume=resume, say=console.say)
