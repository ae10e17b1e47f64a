"""What a screen holds, for the Screen page: plates, refused fields, fields with their nuclei, models, training logs."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.common import loaders, maps
from cytovae import images, schema
from cytovae.errors import CytovaeError, ScreenError
from cytovae.profiling import plates, profiles
from cytovae.screen import Screen

RAW = "CYTOVAE_RAW"
"""Environment variable: folders of raw fields, joined by ``os.pathsep``."""
MEASURES = {
    "mse": "mean squared error",
    "ssim": "structural similarity",
    "sharpness_ratio": "fine detail, reconstruction / original",
    "frechet": "Fréchet distance",
    "frame_ratio": "squared error, border / inside",
    "readable_px": "smallest detail to be read, px",
    "coherence": "coherence by size of detail",
}
"""What is shown of a training's snapshots, where their file holds it."""
LIVE_S = 120
"""A training log that grew less than so long ago is a training that runs."""
CITATIONS = {
    "bbbc021": "Caie et al., Molecular Cancer Therapeutics 2010; Ljosa, Sokolnicki and Carpenter, Nature Methods "
    "2012: image set "
    "BBBC021v1, Broad Bioimage Benchmark Collection."
}


def citation(screen: Screen) -> str:
    """How to cite the images, where that is known."""
    source = screen.record.source.lower()
    return next((text for name, text in CITATIONS.items() if name in source), "")


def facts(screen: Screen) -> dict[str, int]:
    """Counts of what the screen holds, of cells that are not blank.

    Compounds, treatments and mechanisms are those of other wells than the control's, as ``cytovae info`` counts them.
    """
    cells = loaders.cells(screen)
    cells = cells[schema.not_blank(cells)]
    wells = cells[[schema.PLATE, schema.WELL]].drop_duplicates()
    treated = cells[cells[schema.COMPOUND] != screen.record.control]
    treated = treated.assign(**{schema.MOA: treated[schema.MOA].where(treated[schema.MOA] != schema.UNKNOWN_MOA)})
    columns = {"compounds": schema.COMPOUND, "treatments": schema.TREATMENT, "mechanisms": schema.MOA}
    return {
        "cells": len(cells),
        **{name: int(treated[column].nunique()) for name, column in columns.items()},
        "plates": int(cells[schema.PLATE].nunique()),
        "wells": len(wells),
        "batches": int(cells[schema.BATCH].nunique()),
    }


@loaders.cached(8)
def fields(screen: Screen) -> pd.DataFrame | None:
    """The table of fields, or None for a screen without one."""
    return screen.fields() if screen.fields_path.exists() else None


def grid_of(wells: pd.Series) -> tuple[list[str], list[int]]:
    """Rows and columns of the smallest usual plate that holds the wells: 8 x 12, 16 x 24 or 32 x 48."""
    at = places(wells).max() + 1
    rows, columns = at["row"], at["column"]
    n_rows, n_columns = next((s for s in ((8, 12), (16, 24), (32, 48)) if rows <= s[0] and columns <= s[1]), (32, 48))
    return [_letters(r) for r in range(1, n_rows + 1)], list(range(1, n_columns + 1))


def _number(letters: Any) -> float:
    if not isinstance(letters, str):
        return np.nan
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - 64
    return number


def _letters(number: int) -> str:
    return chr(64 + number) if number <= 26 else "A" + chr(64 + number - 26)


def places(wells: pd.Series) -> pd.DataFrame:
    """``row`` and ``column`` of each well, from 0; -1 where its name does not say."""
    found = wells.astype(str).str.extract(r"^([A-Z]{1,2})0*(\d+)$")
    row, column = found[0].map(_number), pd.to_numeric(found[1])
    return pd.DataFrame({"row": row, "column": column}).fillna(0).astype(int) - 1


def plate_values(screen: Screen, plate: str, by: str, model: str | None) -> pd.DataFrame:
    """One row per well of a plate: its metadata, ``cells`` (not blank) and ``value``.

    Parameters
    ----------
    by : str
        What `app.common.maps.valued` knows; or ``distance`` (Euclidean, of the well's profile to the mean of the
        plate's control wells), or ``pc1``, ``pc2`` (the map of wells).
    """
    cells = loaders.cells(screen)
    mine = cells[cells[schema.PLATE] == plate]
    of = [schema.PLATE, schema.WELL, schema.TREATMENT, schema.COMPOUND, schema.CONCENTRATION, schema.MOA]
    shown = pd.Series(schema.not_blank(mine), index=mine.index)
    table = shown.groupby([mine[c] for c in of], dropna=False, observed=True).sum().rename("cells").reset_index()
    if by not in ("distance", "pc1", "pc2"):
        table["value"] = maps.valued(screen, model, table, "wells", by)
        return table
    assert model is not None
    points = maps.points(screen, model, "wells", "pca")
    here = (points.table[schema.PLATE] == plate).to_numpy()
    wells, values = points.table.loc[here], points.features[here]
    if by == "distance":
        if not (wells[schema.COMPOUND] == screen.record.control).any():
            raise ScreenError(f"plate {plate} has no {screen.record.control} wells to measure a distance from")
        score = profiles.distance_to_controls(values, (wells[schema.COMPOUND] == screen.record.control).to_numpy())
    else:
        score = wells["x" if by == "pc1" else "y"].to_numpy()
    return table.merge(
        pd.DataFrame({schema.WELL: wells[schema.WELL].to_numpy(), "value": score}), on=schema.WELL, how="left"
    )


@dataclass(frozen=True)
class Layout:
    """How many treatments there are to warn of, and what cannot be asked of this screen.

    Parameters
    ----------
    n_treatments : int
        Other than the control, with cells that are not blank.
    n_plates, n_batches : int
        Of those cells and of the control's.
    n_wells, n_placed : int
        Wells, and those whose names say where on the plate they lie.
    """

    n_treatments: int
    n_plates: int
    n_batches: int
    n_wells: int
    n_placed: int


@loaders.cached(8)
def layout(screen: Screen) -> Layout:
    """What the warnings about plates rest on."""
    cells = loaders.cells(screen)
    cells = cells[schema.not_blank(cells)]
    treated = cells.loc[cells[schema.COMPOUND] != screen.record.control, schema.TREATMENT]
    wells = cells[[schema.PLATE, schema.WELL]].drop_duplicates()
    return Layout(
        n_treatments=int(treated.nunique()),
        n_plates=int(cells[schema.PLATE].nunique()),
        n_batches=int(cells[schema.BATCH].nunique()),
        n_wells=len(wells),
        n_placed=sum(plates.place(str(well)) is not None for well in wells[schema.WELL]),
    )


@loaders.cached(16, spinner="The control wells are dealt out anew…")
def position_effects(screen: Screen, model: str) -> list[dict[str, Any]]:
    """Whether control wells differ by row or column, as `cytovae.profiling.plates.position_effects` measures it."""
    points = maps.points(screen, model, "wells", "pca")
    named = points.table[[schema.PLATE, schema.WELL, schema.COMPOUND]].reset_index(drop=True)
    features = pd.DataFrame(points.features, columns=schema.feature_names(points.features.shape[1]))
    wells = pd.concat([named, features], axis=1)
    return plates.position_effects(wells, np.random.default_rng(0), screen.record.control)


def position_words(line: dict[str, Any]) -> str:
    """What one of the `position_effects` says, with how many wells it rests on."""
    by, n = line["by"], line["n_wells"]
    if line["expected"] > 1 - 1e-6:
        return f"By {by}: cannot be told, as no two of the {n} control wells share a {by}."
    found = "differ" if line["p"] < 0.05 else "are not seen to differ"
    return (
        f"By {by}: {n} control wells {found}. {line['share']:.1%} of the variance about their plates' means lies "
        f"between {by}s; {line['expected']:.1%} would by chance (p {line['p']:.2g})."
    )


def raw_folder(screen: Screen, files: list[str]) -> Path | None:
    """Where the raw files of a field lie: in a folder of ``CYTOVAE_RAW``, or in ``<name>.raw`` or ``raw`` by
    the screen.
    """
    given = [Path(p) for p in os.environ.get(RAW, "").split(os.pathsep) if p]
    beside = [screen.path.with_suffix(".raw"), screen.path.parent / "raw", screen.path / "raw", screen.path.parent]
    return next((folder for folder in [*given, *beside] if all((folder / file).is_file() for file in files)), None)


@dataclass(frozen=True)
class Field:
    """One field: (H, W, C) uint16 and its cells."""

    pixels: npt.NDArray[np.uint16]
    cells: pd.DataFrame


@loaders.cached(6)
def _pixels(channels: tuple[str, ...], files: tuple[Path, ...]) -> npt.NDArray[np.uint16]:
    return images.read_field(dict(zip(channels, files, strict=True)))


def no_fields(screen: Screen, table: pd.DataFrame) -> str:
    """Why there are no fields to look at, as a screen of cut cells has none; empty where there are."""
    columns = [f"path_{c}" for c in screen.record.channels]
    if set(columns) <= set(table.columns) and table[columns].notna().all(axis=1).any():
        return ""
    return f"{screen.name} was made of cut cells, so there are no fields to look at."


def field(screen: Screen, name: str) -> Field:
    """A field's pixels and the nuclei that were found in it.

    Raises
    ------
    ScreenError
        The raw files are not at hand.
    """
    cells = loaders.cells(screen)
    mine = np.flatnonzero((cells[schema.FIELD] == name).to_numpy())
    pixels = loaders.field_of(screen, int(mine[0])) if len(mine) else None
    if pixels is not None:  # the screen knows where its fields lie
        return Field(pixels, cells.iloc[mine])
    table = fields(screen)
    row = None if table is None else table[table[schema.FIELD] == name].iloc[0]
    columns = [f"path_{c}" for c in screen.record.channels]
    if row is None or any(c not in row or not isinstance(row[c], str) or not row[c] for c in columns):
        raise ScreenError(f"{screen.name} was made of cut cells, so there are no fields to look at")
    files = [str(row[c]) for c in columns]
    if any(images.BETWEEN_FILES in file for file in files):
        said = "has z-stacks of several files, which are shown only where it was made with --patches on-demand"
        raise ScreenError(f"{screen.name} {said}")
    folder = raw_folder(screen, files)
    if folder is None:
        raise ScreenError(
            f"the raw files of {name} are not beside {screen.path}; set {RAW} to their folder and start the app again"
        )
    return Field(_pixels(screen.record.channels, tuple(folder / file for file in files)), cells.iloc[mine])


def audit(screen: Screen, model: str) -> list[schema.Check]:
    """The checks that ``cytovae audit`` kept of a model; none where it has not been run or cannot be understood."""
    found = loaders.read_json(screen.results_path(model) / "audit.json")
    try:
        return [schema.Check(**{**row, "ci95": tuple(row["ci95"])}) for row in found["checks"]]
    except (KeyError, TypeError):
        return []


def card(name: str) -> str:
    """A model's card without the facts that head it for a hub and without its title, or an empty string."""
    path = loaders.models_dir() / name / "README.md"
    try:
        return re.sub(r"\A(---\n(?s:.*?)\n---\n)?\s*(# .*\n+)?", "", path.read_text(encoding="utf-8"))
    except OSError:
        return ""


def logs() -> dict[str, Path]:
    """Training logs among the models, by name; a model whose training has not ended has one too."""
    folder = loaders.models_dir()
    return {p.parent.name: p for p in sorted(folder.glob("*/training.jsonl"))} if folder.is_dir() else {}


def runs(path: Path) -> bool:
    """Does a training write this log now?"""
    try:
        return time.time() - path.stat().st_mtime < LIVE_S
    except OSError:
        return False


@loaders.cached(16)
def _log(path: Path) -> pd.DataFrame:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:  # the last line of a training that is writing it
            continue
    return pd.DataFrame([line for line in lines if isinstance(line, dict) and "iteration" in line])


def log(path: Path) -> pd.DataFrame:
    """A training log: one row per line, ``iteration`` and a column per loss."""
    try:
        return _log(path)
    except OSError as gone:
        raise CytovaeError(f"the training log {path} cannot be read: {gone.strerror}") from None


def snapshots(folder: Path) -> pd.DataFrame:
    """What a training measured on its way on cells kept out of it, one row per snapshot; empty where it did not.

    Returns
    -------
    DataFrame
        ``iteration``, ``n_cells`` (missing where not stated) and those of `MEASURES` that were written; a cell of
        ``coherence`` is a list of floats, one per size of detail, the coarsest first.
    """
    path = folder / "snapshots.jsonl"
    table = log(path) if path.is_file() else pd.DataFrame()
    table = table.reindex(columns=["iteration", "n_cells", *(name for name in MEASURES if name in table)])
    for name in table.columns.drop("coherence", errors="ignore"):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    return table.dropna(subset="iteration").dropna(axis="columns", how="all").reset_index(drop=True)


def samples(folder: Path) -> dict[int, Path]:
    """Pictures of reconstructions that a training left on its way, by iteration."""
    found = {int(p.stem): p for p in (folder / "samples").glob("*.png") if p.stem.isdecimal()}
    return dict(sorted(found.items()))


def n_cells_words(table: pd.DataFrame) -> str:
    """How many cells the `snapshots` rest on."""
    known = table["n_cells"].dropna().astype(int) if "n_cells" in table else pd.Series(dtype=int)
    if len(known) < len(table):
        return "a number of cells that is not stated for all of them"
    low, high = known.min(), known.max()
    return f"{low:,} cells each" if low == high else f"{low:,} to {high:,} cells each"
