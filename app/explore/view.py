"""Choices on the Explore page -> a path with its evidence: the loaders joined with ``cytovae.explore``, cached."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st

from app.common import loaders
from cytovae import schema
from cytovae.errors import SelectionError
from cytovae.explore import evidence, morphology, paths, study, targets
from cytovae.explore.study import Drawn, Material, Request
from cytovae.screen import Screen

STEPS = [str(n) for n in (study.STEPS, 5, 7, 15, 20, 30)]
"""What the page offers; the first is the default."""


@dataclass(frozen=True)
class View:
    """A path as the page shows it.

    Parameters
    ----------
    study : Drawn
    request : Request
    real : (2, H, W, C) float32
        The two cells at the ends as the model saw them, range [0, 1].
    near : (k, H, W, C) float32
        The nearest real cell of each step.
    cells : DataFrame
        The embedded cells, in the order of the embeddings.
    """

    study: Drawn
    request: Request
    real: npt.NDArray[np.float32]
    near: npt.NDArray[np.float32]
    cells: pd.DataFrame


@st.cache_resource(max_entries=4, show_spinner=False)
def _material(path: str, model: str, stamp: Any) -> Material:
    screen = Screen.open(path)
    return Material.of(
        screen, loaders.bundle(model), functools.partial(loaders.patches, screen), loaders.embeddings(screen, model)
    )


def material(screen: Screen, model: str) -> Material:
    """The screen as the model sees it."""
    return _material(str(screen.path), model, _stamp(screen, model))


@st.cache_resource(max_entries=48, show_spinner=False)
def _view(path: str, model: str, request: Request, stamp: Any) -> View:
    made = material(Screen.open(path), model)
    drawn = study.draw(made, request)
    assert drawn.real is not None and drawn.near is not None
    return View(drawn, request, drawn.real, drawn.near, made.cells)


def view(screen: Screen, model: str, request: Request) -> View:
    """The path that was asked for with everything that stands beside it.

    Raises
    ------
    SelectionError, ConfigError, BundleError, ScreenError
        A choice that is not there, or a model that does not fit.
    """
    return _view(str(screen.path), model, request, _stamp(screen, model))


def _stamp(screen: Screen, model: str) -> Any:
    return loaders.embeddings_stamp(screen, model), loaders.bundle_stamp(model)


@st.cache_resource(max_entries=64, show_spinner="Looking for groups among the treatment's cells")
def _subpopulations(path: str, model: str, request: Request, stamp: Any) -> targets.Subpopulations:
    return study.subpopulations(material(Screen.open(path), model), request)


def subpopulations(screen: Screen, model: str, request: Request) -> targets.Subpopulations:
    """The groups that the cells of a request's treatment fall into."""
    return _subpopulations(str(screen.path), model, request, _stamp(screen, model))


@st.cache_resource(max_entries=32, show_spinner="Measuring the path")
def _along(path: str, model: str, request: Request, stamp: Any) -> morphology.Along:
    screen = Screen.open(path)
    return study.along(material(screen, model), view(screen, model, request).study)


def along(screen: Screen, model: str, request: Request) -> morphology.Along:
    """The path's measurements beside decoded cells of the populations at its ends."""
    return _along(str(screen.path), model, request, _stamp(screen, model))


@st.cache_resource(max_entries=16, show_spinner="Drawing the paths of many cells")
def _population(path: str, model: str, request: Request, n: int, stamp: Any) -> study.Population:
    return study.population(material(Screen.open(path), model), request, n)


def population(screen: Screen, model: str, request: Request, n: int) -> study.Population:
    """The same path for n pairs of cells."""
    return _population(str(screen.path), model, request, n, _stamp(screen, model))


@st.cache_resource(max_entries=16, show_spinner=False)
def _null_path(path: str, model: str, request: Request, stamp: Any) -> paths.Path | None:
    screen = Screen.open(path)
    null = view(screen, model, request).study.null
    return None if null is None else study.null_path(material(screen, model), request, null)


def null_path(screen: Screen, model: str, request: Request) -> paths.Path | None:
    """A control-to-control path of middle length, drawn as the request's own path is; None where there is none."""
    return _null_path(str(screen.path), model, request, _stamp(screen, model))


def doses(shown: View) -> str:
    """The compound of the view's treatment, if it has several doses.

    Raises
    ------
    SelectionError
        There is one dose.
    """
    compound = schema.parse_treatment(shown.request.treatment or "")[0]
    found = targets.dose_series(shown.cells, compound)
    if len(found) < 2:
        raise SelectionError(
            f"{compound} was used at one concentration ({found[0].concentration:g} uM); choose a compound with several "
            "to see a dose series"
        )
    return compound


def describe(cells: pd.DataFrame, row: int) -> str:
    """A cell in one line: treatment, plate and well."""
    cell = cells.iloc[row]
    return f"{cell[schema.TREATMENT]} µM · {cell[schema.PLATE]} {cell[schema.WELL]}"


def near(screen: Screen, shown: View) -> npt.NDArray[np.float32]:
    """The nearest real cell of each step, black where it lies in an unfinished quiz."""
    return _veiled(screen, shown.study.evidence.nearest_ids[:, 0], shown.near)


def ends(screen: Screen, shown: View) -> npt.NDArray[np.float32]:
    """The real cells at the path's two ends, black where they lie in an unfinished quiz."""
    return _veiled(screen, [shown.study.start.cell_id, shown.study.end.cell_id], shown.real)


def _veiled(screen: Screen, ids: npt.ArrayLike, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Images of cells, those of unfinished quizzes black."""
    hidden = np.isin(ids, list(loaders.in_play(screen)))
    return np.where(hidden[:, None, None, None], np.float32(0), images)


def player_data(screen: Screen, shown: View) -> tuple[dict[str, Any], npt.NDArray[np.float32]]:
    """What the path player takes: captions; and the start, the frames, the end, then the nearest real cells."""
    path, support = shown.study.path, shown.study.evidence
    moas, k = shown.cells[schema.MOA].to_numpy(), shown.study.path.steps
    frames = [
        {
            "label": "" if path.by_features else path.captions[i],
            "n_features": int(path.n_features[i]),
            "cosine": float(path.cosine[i]),
            "cosine_reencoded": float(path.cosine_reencoded[i]),
            "off": bool(support.off_data[i]),
            "why": f"off the data: farther from any real cell than {support.support_percentile[i]:.0f} % "
            "of real cells are from each other",
            "nearest": {
                "image": k + 2 + i,
                "cell_id": str(support.nearest_ids[i, 0]),
                "treatment": str(support.nearest_treatments[i, 0]),
                "moa": str(moas[support.nearest_rows[i, 0]]),
                "distance": float(support.nearest_distances[i, 0]),
            },
        }
        for i in range(k)
    ]
    both = [(shown.study.start, ""), (shown.study.end, "")]
    control = screen.record.control
    source = "target" if shown.request.reverse else "start"
    for j, (choice, _) in enumerate(both):
        untreated = shown.cells[schema.COMPOUND].iloc[choice.row] == control
        kind = "control" if untreated else ("start" if (j == 0) == (source == "start") else "target")
        hidden = " (black: in an unfinished quiz)" if choice.cell_id in loaders.in_play(screen) else ""
        both[j] = (choice, f"Real {kind} cell{hidden}")
    words = [{"title": title, "text": describe(shown.cells, choice.row)} for choice, title in both]
    header = {
        "channels": list(screen.record.channels),
        "pixel_size_um": screen.record.pixel_size_um,
        "n_features": int(path.z.shape[1]),
        "control": words[0],
        "target": words[1],
        "frames": frames,
    }
    real = ends(screen, shown)
    return header, np.concatenate([real[:1], path.frames, real[1:], near(screen, shown)])


def verdict(shown: View) -> list[tuple[str, str, str]]:
    """How far the path can be believed: name, figure, and what it means."""
    support, path = shown.study.evidence, shown.study.path
    off = int(support.off_data.sum())
    said = [
        (
            "Steps off the data",
            f"{off} of {path.steps}",
            f"A step is off the data where no real cell is nearer than {evidence.OFF_DATA_PERCENTILE:g} % of real "
            f"cells are to "
            "their nearest neighbour: what is drawn there is the model's guess.",
        )
    ]
    if support.length_percentile is not None:
        said.append(
            (
                "Longer than null paths",
                f"{support.length_percentile:.0f} %",
                "Share of paths from one control cell to another that are shorter. Below about 95 % the two cells "
                "differ no "
                "more than controls do.",
            )
        )
    if support.typicality is not None and np.isfinite(support.typicality):
        said.append(
            (
                "Typical of the treatment",
                f"{support.typicality:.2f}",
                "Cosine between this pair's difference and the difference of the two populations' means: near 1 the "
                "pair shows "
                "what the treatment does, near 0 it shows two individuals.",
            )
        )
    if support.gap_closed is not None and np.isfinite(support.gap_closed).all():
        half = int(path.n_features[np.argmax(support.gap_closed >= 0.5)])
        said.append(
            (
                "Half of the gap",
                f"{half} of {path.z.shape[1]}",
                "Features that have moved when half of the distance between the two populations is closed. Few: the "
                "first steps "
                "hold what the treatment does.",
            )
        )
    return said
