"""The evidence tried on a user's own screen: every check on one screen and model, and the file that keeps them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cytovae.errors import SelectionError
from cytovae.explore import audit as explore
from cytovae.explore.generator import Generator
from cytovae.explore.study import Material
from cytovae.profiling import audit as profiling
from cytovae.schema import Check
from cytovae.screen import Screen, provenance, write_json

FILE = "audit.json"
"""In the screen's folder of results of the model."""


def audit(
    screen: Screen, model: Generator, seed: int = 0, done: Callable[[int, int], None] = lambda done, of: None
) -> dict[str, Any]:
    """Try the evidence on a screen, and keep what came out with the screen's results.

    Parameters
    ----------
    screen : Screen
        Embedded with the model.
    model : Generator
    seed : int
        Of all randomness.
    done : callable
        Called with (done, total) as checks end.

    Returns
    -------
    dict
        ``checks``: a row each (`cytovae.schema.Check`); ``skipped``: name and reason of those that the screen has too
        few cells or wells for; ``provenance``.

    Raises
    ------
    ScreenError, BundleError
        The screen is not embedded with the model, or the two do not fit.
    """
    material = Material.of(screen, model)
    checks: list[Check] = []
    skipped: list[dict[str, str]] = []
    for number, check in enumerate(explore.CHECKS):
        try:
            checks.append(check(material, np.random.default_rng([seed, number])))
        except SelectionError as few:
            skipped.append({"name": check.__name__, "reason": str(few)})
        done(number + 1, len(explore.CHECKS))
    cells, embeddings = screen.embeddings(model.name)
    tried, left_out = profiling.checks(cells, embeddings, screen.record.control, seed)
    checks += tried
    skipped += [{"name": name, "reason": reason} for name, reason in left_out.items()]
    document = {
        "checks": [check.to_dict() for check in checks],
        "skipped": skipped,
        "provenance": provenance(
            "audit", config={"screen": screen.name, "bundle": model.name}, inputs=material.digests, seed=seed
        ),
    }
    write_json(screen.results_path(model.name) / FILE, document)
    return document
