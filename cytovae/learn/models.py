"""Train a model of any kind: one request, whatever kind it is of."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytovae import locks
from cytovae.errors import BusyError, ConfigError, TrainingError
from cytovae.learn import bundle as bundles
from cytovae.learn import kinds, shelf
from cytovae.learn.kinds import Run
from cytovae.learn.pool import Pool
from cytovae.learn.recipe import Preset
from cytovae.screen import Screen, foreign

CHECKPOINT = "checkpoint.safetensors"


def train(
    screen: Screen | Pool, path: Path, model: str, options: Mapping[str, Any] | None = None, run: Run | None = None
) -> bool | None:
    """Train a model on a screen and leave its bundle at `path`.

    Parameters
    ----------
    screen : Screen or Pool
        Or several screens.
    path : Path
        The bundle's folder.
    model : str
        Its kind, one of `kinds.names`.
    options : mapping, optional
        What the recipe differs in from the kind's defaults, by name.
    run : Run, optional

    Returns
    -------
    bool or None
        Whether this process speaks for the training, where there are several; None where the bundle was finished
        already and nothing was done.

    Raises
    ------
    ConfigError
        There is no such kind, or it has no such option, or is trained on one screen alone.
    TrainingError
        Training failed; or a finished bundle is there that was made otherwise: says what differs; or other files are.
    """
    run = run or Run()
    kind, options = kinds.get(model), options or {}
    if isinstance(screen, Pool) and not kind.several:
        raise ConfigError(f"models of the kind {model!r} are trained on one screen")
    recipe = kind.recipe(options)
    if said := foreign(path, "bundle", [CHECKPOINT, shelf.LOG, bundles.WEIGHTS]):
        raise TrainingError(said)
    finished = (path / bundles.CONFIG).exists() and not (run.resume and (path / CHECKPOINT).exists())
    if finished and not run.overwrite:
        if differences := differing(bundles.describe(path), screen, model, options):
            raise TrainingError(
                f"{path} is finished already and was made otherwise: {'; '.join(differences)}; name another folder, "
                "or train it again with --overwrite"
            )
        if locks.abandoned(path):  # by a training that was killed while it tidied up
            with contextlib.suppress(BusyError, OSError), locks.held(path, "training"):
                (path / CHECKPOINT).unlink(missing_ok=True)
        return None
    return kind.train(screen, path, recipe, run)


def differing(config: Mapping[str, Any], screen: Screen | Pool, model: str, options: Mapping[str, Any]) -> list[str]:
    """In what a finished bundle differs from what is asked for; an option that is not given is not asked for.

    Parameters
    ----------
    config : mapping
        Of the bundle.
    screen : Screen or Pool
    model : str
        The kind asked for.
    options : mapping
        As given.

    Returns
    -------
    list of str
        Such as "iterations 3, not 8".
    """
    if config["model"] != model:
        return [f"its model is {config['model']}, not {model}"]
    complete = kinds.get(model).recipe
    asked, plain = complete(options), complete({})
    made = complete({name: value for name, value in config.get("recipe", {}).items() if name in plain})
    named = {*options} & {*asked}
    if "recipe" in options:
        presets = [complete({"recipe": preset.value}) for preset in Preset]
        named |= {name for preset in presets for name in preset if preset[name] != plain[name]}
    found = [f"{name} {made[name]}, not {asked[name]}" for name in asked if name in named and made[name] != asked[name]]
    if config.get("data", {}).get("cells") != screen.cells_digest():
        asked_for = " + ".join(str(one.path) for one in Pool.of(screen).screens)
        found.append(f"its cells are those of {config.get('data', {}).get('screen')!r}, not of {asked_for}")
    return found


def last_words(document: Mapping[str, Any]) -> str:
    """What a training says when it ends: on how many cells it was measured, and no judgement.

    Parameters
    ----------
    document : mapping
        A bundle's configuration with its ``metrics``.
    """
    metrics, split = document["metrics"], document.get("split", {})
    if not metrics:
        return "no cell was kept out of training, so nothing was measured; look at it with 'cytovae reconstruct'"
    weaker = " of wells that were trained on (weaker than whole wells kept out)" if split.get("by") == "cells" else ""
    return (
        f"measured on {metrics['n_cells']} cells not trained on{weaker}: mse {metrics['mse']:.5f}, "
        f"ssim {metrics['ssim']:.3f}; look at its pictures with 'cytovae reconstruct' before relying on them"
    )
