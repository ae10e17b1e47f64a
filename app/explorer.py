"""Choices on the Explore page -> a path with its evidence: joins the loaders with ``cytovae.explore``, once per choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st

from app import loaders
from cytovae import schema
from cytovae.errors import SelectionError
from cytovae.explore import evidence, paths, targets
from cytovae.explore.generator import normalise, require_fit
from cytovae.screen import Screen

SEED = 2025
"""Of everything the app draws at random, so that a link shows the same to everyone."""
N_NULL = 400


@dataclass(frozen=True)
class View:
    """A path as the page shows it.

    Parameters
    ----------
    path : paths.Path
    evidence : evidence.Evidence
    control, target : targets.Choice
    real : (2, H, W, C) float32
        The two cells at the ends as the model saw them, range [0, 1].
    near : (k, H, W, C) float32
        The nearest real cell of each step.
    cells : DataFrame
        The embedded cells, in the order of the embeddings.
    """

    path: paths.Path
    evidence: evidence.Evidence
    control: targets.Choice
    target: targets.Choice
    real: npt.NDArray[np.float32]
    near: npt.NDArray[np.float32]
    cells: pd.DataFrame


@st.cache_resource(max_entries=4, show_spinner=False)
def _ground(path: str, model: str, stamp: tuple[int, ...]) -> tuple[evidence.Ground, npt.NDArray[np.float64]]:
    screen = Screen.open(path)
    cells, z, _ = loaders.embeddings(screen, model)
    rng = np.random.default_rng(SEED)
    ground = evidence.Ground(cells, z, rng)
    try:
        starts, ends = targets.null_pairs(cells, screen.record.control, N_NULL, rng)
        return ground, evidence.null_lengths(z, starts, ends)
    except SelectionError:  # too few controls for a null: the page says so
        return ground, np.zeros(0)


def ground(screen: Screen, model: str) -> tuple[evidence.Ground, npt.NDArray[np.float64]]:
    """The real cells as the model sees them, and the lengths of control-to-control paths."""
    return _ground(str(screen.path), model, loaders.embeddings_stamp(screen, model))


def choose_target(screen: Screen, model: str, treatment: str, how: str) -> targets.Choice:
    """The cell that `how` names: ``mean``, ``subpopulation:K`` or a cell id."""
    cells, z, _ = loaders.embeddings(screen, model)
    if how.startswith("subpopulation:"):
        groups = subpopulations(screen, model, treatment).groups
        wanted = how.partition(":")[2]
        for group in groups:
            if str(group.number) == wanted:
                return group.exemplar
        raise SelectionError(
            f"{treatment} has {len(groups)} subpopulations, not a number {wanted}; choose another target"
        )
    if how != "mean":
        return targets.by_hand(cells, how)
    rows = targets.rows_of(cells, treatment)
    if len(rows) == 1:
        return targets.Choice(
            int(rows[0]), str(cells[schema.CELL_ID].iloc[rows[0]]), f"the only cell of {treatment}", 1
        )
    return targets.treated(cells, z, treatment)


def choose_control(screen: Screen, model: str, how: str, target: targets.Choice) -> targets.Choice:
    """The cell that `how` names: ``plate`` (typical control of the target's plate), ``screen`` or a cell id."""
    cells, z, _ = loaders.embeddings(screen, model)
    if how in ("plate", "screen"):
        return targets.typical_control(cells, z, screen.record.control, target.row if how == "plate" else None)
    return targets.by_hand(cells, how)


@st.cache_resource(max_entries=64, show_spinner=False)
def _subpopulations(path: str, model: str, treatment: str, stamp: tuple[int, ...]) -> targets.Subpopulations:
    cells, z, _ = loaders.embeddings(Screen.open(path), model)
    return targets.subpopulations(cells, z, treatment, np.random.default_rng(SEED))


def subpopulations(screen: Screen, model: str, treatment: str) -> targets.Subpopulations:
    """The groups that a treatment's cells fall into."""
    return _subpopulations(str(screen.path), model, treatment, loaders.embeddings_stamp(screen, model))


@st.cache_resource(max_entries=48, show_spinner=False)
def _view(
    path: str, model: str, treatment: str, control: str, target: str, steps: int, mode: str, spacing: str, stamp: Any
) -> View:
    screen = Screen.open(path)
    cells, z, patch_rows = loaders.embeddings(screen, model)
    generator = loaders.bundle(model)
    require_fit(generator, screen.record.channels, screen.record.patch_size_px, z.shape[1])
    end = choose_target(screen, model, treatment, target)
    start = choose_control(screen, model, control, end)
    drawn = paths.interpolate(
        z[start.row], z[end.row], generator.decode, generator.encode, steps, mode, spacing, start.cell_id, end.cell_id
    )
    known, null = ground(screen, model)
    near_controls, _ = targets.controls_near(cells, screen.record.control, end.row)
    peers = np.flatnonzero((cells[schema.TREATMENT] == cells[schema.TREATMENT].iloc[end.row]).to_numpy())
    support = evidence.assess(drawn, known, z[near_controls], z[peers], null)
    shown = patch_rows[np.concatenate([[start.row, end.row], support.nearest_rows[:, 0]])]
    images = normalise(loaders.patches(screen, shown))
    return View(drawn, support, start, end, images[:2], images[2:], cells)


def view(
    screen: Screen, model: str, treatment: str, control: str, target: str, steps: int, mode: str, spacing: str
) -> View:
    """The path between two cells with everything that stands beside it.

    Raises
    ------
    SelectionError, BundleError, ScreenError
        A choice that is not there, or a model that does not fit.
    """
    stamp = loaders.embeddings_stamp(screen, model)
    return _view(str(screen.path), model, treatment, control, target, steps, mode, spacing, stamp)


def describe(cells: pd.DataFrame, row: int) -> str:
    """A cell in one line: treatment, plate and well, id."""
    cell = cells.iloc[row]
    return f"{cell[schema.TREATMENT]} µM · {cell[schema.PLATE]} {cell[schema.WELL]}"


def player_data(screen: Screen, shown: View) -> tuple[dict[str, Any], npt.NDArray[np.float32]]:
    """What the path player takes: captions, and the real control, the frames, the real target, the nearest real cells."""
    k, support, path = shown.path.steps, shown.evidence, shown.path
    moas = shown.cells[schema.MOA].to_numpy()
    frames = [
        {
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
    header = {
        "channels": list(screen.record.channels),
        "pixel_size_um": screen.record.pixel_size_um,
        "n_features": int(path.z.shape[1]),
        "control": {"title": "Real control cell", "text": describe(shown.cells, shown.control.row)},
        "target": {"title": "Real target cell", "text": describe(shown.cells, shown.target.row)},
        "frames": frames,
    }
    return header, np.concatenate([shown.real[:1], path.frames, shown.real[1:], shown.near])


def verdict(screen: Screen, shown: View) -> str:
    """How far the path can be believed, in words."""
    support = shown.evidence
    said = [
        f"Target: {shown.target.how} ({shown.target.n_cells:,} cells). Control: {shown.control.how}.",
        f"{support.summary[:1].upper()}{support.summary[1:]}.",
    ]
    if support.gap_closed is not None and np.isfinite(support.gap_closed[-1]):
        said.append(
            f"The whole path closes {100 * support.gap_closed[-1]:.0f} % of the gap between the two populations."
        )
    if support.length_percentile is None:
        said.append(f"There are too few {screen.record.control} cells to say how long a path without meaning is.")
    else:
        said.append(f"It is longer than {support.length_percentile:.0f} % of paths from one control cell to another.")
    return " ".join(said)
