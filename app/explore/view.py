"""Choices on the Explore page -> a path with its evidence: the loaders joined with ``cytovae.explore``, cached."""

from __future__ import annotations

import dataclasses
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
from cytovae.explore.generator import require_fit
from cytovae.explore.study import Request, Study
from cytovae.learn.bundle import Bundle
from cytovae.patches import normalise
from cytovae.screen import Screen

SEED = 2025
"""Of everything the app draws at random, so that a link shows the same to everyone."""
N_SPREAD = 24
"""Control cells, and treated cells, that are measured beside a path."""


WAYS = {
    "top-features": "features in order of difference",
    "linear": "straight, all features together",
    "spherical": "along an arc",
}
SPACINGS = {"count": "changes equally much", "gain": "gains equally in cosine"}


@dataclass(frozen=True)
class View:
    """A path as the page shows it.

    Parameters
    ----------
    study : Study
    request : Request
    real : (2, H, W, C) float32
        The two cells at the ends as the model saw them, range [0, 1].
    near : (k, H, W, C) float32
        The nearest real cell of each step.
    cells : DataFrame
        The embedded cells, in the order of the embeddings.
    """

    study: Study
    request: Request
    real: npt.NDArray[np.float32]
    near: npt.NDArray[np.float32]
    cells: pd.DataFrame


def rng() -> np.random.Generator:
    """A fresh generator: what is drawn does not depend on what was drawn before."""
    return np.random.default_rng(SEED)


def _open(path: str, model: str) -> tuple[Screen, pd.DataFrame, npt.NDArray[np.float32], Bundle]:
    screen = Screen.open(path)
    cells, z, _ = loaders.embeddings(screen, model)
    generator = loaders.bundle(model)
    require_fit(generator, screen.record.channels, screen.record.patch_size_px, z.shape[1])
    return screen, cells, z, generator


@st.cache_resource(max_entries=4, show_spinner=False)
def _ground(path: str, model: str, stamp: Any) -> evidence.Ground:
    cells, z, _ = loaders.embeddings(Screen.open(path), model)
    return evidence.Ground(cells, z, rng())


def ground(screen: Screen, model: str) -> evidence.Ground:
    """The real cells as the model sees them, searchable."""
    return _ground(str(screen.path), model, loaders.embeddings_stamp(screen, model))


@st.cache_resource(max_entries=4, show_spinner=False)
def _null_lengths(path: str, model: str, stamp: Any) -> npt.NDArray[np.float64] | None:
    screen = Screen.open(path)
    cells, z, _ = loaders.embeddings(screen, model)
    try:
        return study.null_lengths(cells, z, screen.record.control, rng())
    except SelectionError:  # the study says why
        return None


@st.cache_resource(max_entries=48, show_spinner=False)
def _view(path: str, model: str, request: Request, stamp: Any) -> View:
    screen, cells, z, generator = _open(path, model)
    if request.treatment is not None and request.target == "mean":
        rows = targets.rows_of(cells, request.treatment)
        if len(rows) == 1:  # a single cell stands for itself
            request = dataclasses.replace(request, target=str(cells[schema.CELL_ID].iloc[rows[0]]))
    known, nulls = ground(screen, model), _null_lengths(path, model, loaders.embeddings_stamp(screen, model))
    drawn = study.draw(cells, z, generator, screen.record.control, request, rng(), known, nulls)
    patch_rows = loaders.embeddings(screen, model)[2]
    shown = patch_rows[np.concatenate([[drawn.start.row, drawn.end.row], drawn.evidence.nearest_rows[:, 0]])]
    images = normalise(loaders.patches(screen, shown))
    return View(drawn, request, images[:2], images[2:], cells)


def view(screen: Screen, model: str, request: Request) -> View:
    """The path that was asked for with everything that stands beside it.

    Raises
    ------
    SelectionError, ConfigError, BundleError, ScreenError
        A choice that is not there, or a model that does not fit.
    """
    return _view(str(screen.path), model, request, loaders.embeddings_stamp(screen, model))


@st.cache_resource(max_entries=64, show_spinner="Looking for groups among the treatment's cells")
def _subpopulations(path: str, model: str, treatment: str, stamp: Any) -> targets.Subpopulations:
    cells, z, _ = loaders.embeddings(Screen.open(path), model)
    return targets.subpopulations(cells, z, treatment, rng())


def subpopulations(screen: Screen, model: str, treatment: str) -> targets.Subpopulations:
    """The groups that a treatment's cells fall into."""
    return _subpopulations(str(screen.path), model, treatment, loaders.embeddings_stamp(screen, model))


@st.cache_data(max_entries=64, show_spinner="Measuring decoded cells")
def _measured(path: str, model: str, rows: tuple[int, ...], stamp: Any) -> pd.DataFrame:
    screen, _, z, generator = _open(path, model)
    images = generator.decode(np.asarray(z[list(rows)]))
    return morphology.measure(images, screen.record.channels, screen.record.pixel_size_um)


def some(rows: npt.NDArray[np.int64]) -> tuple[int, ...]:
    """At most `N_SPREAD` of the rows, drawn at random, sorted."""
    few = rows if len(rows) <= N_SPREAD else rng().choice(rows, N_SPREAD, replace=False)
    return tuple(sorted(int(row) for row in few))


@st.cache_resource(max_entries=32, show_spinner="Measuring the path")
def _along(path: str, model: str, request: Request, stamp: Any) -> morphology.Along:
    screen = Screen.open(path)
    shown = view(screen, model, request)
    start, end = (_measured(path, model, some(r), stamp) for r in (shown.study.start_rows, shown.study.end_rows))
    record = screen.record
    return morphology.along(shown.study.path.frames, record.channels, start, end, record.pixel_size_um)


def along(screen: Screen, model: str, request: Request) -> morphology.Along:
    """The path's measurements beside decoded cells of the populations at its ends."""
    return _along(str(screen.path), model, request, loaders.embeddings_stamp(screen, model))


@st.cache_resource(max_entries=16, show_spinner="Drawing the paths of many cells")
def _population(path: str, model: str, request: Request, n: int, stamp: Any) -> study.Population:
    screen, cells, z, generator = _open(path, model)
    px = screen.record.pixel_size_um
    return study.population(cells, z, generator, screen.record.control, request, n, px, rng())


def population(screen: Screen, model: str, request: Request, n: int) -> study.Population:
    """The same path for n pairs of cells."""
    return _population(str(screen.path), model, request, n, loaders.embeddings_stamp(screen, model))


@dataclass(frozen=True)
class Null:
    """Paths from one control cell to another: what a path changes where there is nothing to change.

    Parameters
    ----------
    lengths : (q,) float64
        Of q such paths.
    path : paths.Path
        One of middle length, decoded.
    """

    lengths: npt.NDArray[np.float64]
    path: paths.Path


@st.cache_resource(max_entries=16, show_spinner=False)
def _null(path: str, model: str, steps: int, mode: str, spacing: str, stamp: Any) -> Null:
    screen, cells, z, generator = _open(path, model)
    starts, ends = targets.null_pairs(cells, screen.record.control, study.N_NULL, rng(), embeddings=z)
    lengths = evidence.null_lengths(z, starts, ends)
    middle = int(np.argsort(lengths)[len(lengths) // 2])
    a, b = int(starts[middle]), int(ends[middle])
    ids = cells[schema.CELL_ID]
    drawn = paths.interpolate(
        z[a], z[b], generator.decode, generator.encode, steps, mode, spacing, str(ids.iloc[a]), str(ids.iloc[b])
    )
    return Null(lengths, drawn)


def null(screen: Screen, model: str, request: Request) -> Null:
    """Control-to-control paths, drawn as the request's own path is."""
    stamp = loaders.embeddings_stamp(screen, model)
    return _null(str(screen.path), model, request.steps, request.mode, request.spacing, stamp)


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
            "label": path.labels[i] if path.labels else "",
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
    ends = [(shown.study.start, "Real cell at the start"), (shown.study.end, "Real cell at the end")]
    control = screen.record.control
    for j, (choice, _) in enumerate(ends):
        kind = "control" if shown.cells[schema.COMPOUND].iloc[choice.row] == control else "target"
        hidden = " (black: in an unfinished quiz)" if choice.cell_id in loaders.in_play(screen) else ""
        ends[j] = (choice, f"Real {kind} cell{hidden}")
    words = [{"title": title, "text": describe(shown.cells, choice.row)} for choice, title in ends]
    header = {
        "channels": list(screen.record.channels),
        "pixel_size_um": screen.record.pixel_size_um,
        "n_features": int(path.z.shape[1]),
        "control": words[0],
        "target": words[1],
        "frames": frames,
    }
    real = _veiled(screen, [choice.cell_id for choice, _ in ends], shown.real)
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
