"""Maps of cells, wells or treatments: their points with metadata and colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.common import loaders
from cytovae import schema
from cytovae.errors import ScreenError
from cytovae.explore import maps, targets
from cytovae.profiling import profiles
from cytovae.screen import Screen, read_table

KEYS = {"cells": [schema.CELL_ID], "wells": [schema.PLATE, schema.WELL], "treatments": [schema.TREATMENT]}
COLOURS = {
    "mechanism": schema.MOA,
    "compound": schema.COMPOUND,
    "concentration": schema.CONCENTRATION,
    "plate": schema.PLATE,
    "batch": schema.BATCH,
    "cluster": "cluster",
}
N_CLUSTERS = 12
MAX_COLOURS = 40
"""Eight colours by five shapes; further categories share grey."""


@dataclass(frozen=True)
class Points:
    """A map: its table (metadata, ``x``, ``y``, ``key``) and the features it was made of, row by row."""

    table: pd.DataFrame
    features: npt.NDArray[np.float32]


@loaders.cached(8)
def _features(screen: Screen, model: str, level: str) -> tuple[pd.DataFrame, npt.NDArray[np.float32]]:
    cells, z, _ = loaders.embeddings(screen, model)
    if level == "cells":
        return cells, z
    try:
        table = screen.profiles(model, level)
    except ScreenError:  # not made yet: they take a moment and are the same
        table = profiles.wells(cells, z)
        table = table if level == "wells" else profiles.treatments(table)
    values = table[schema.feature_columns(table)].to_numpy(np.float32)
    return table[[c for c in table.columns if str(c).startswith("Metadata_")]].copy(), values


def stored(screen: Screen, model: str, level: str, method: str) -> bool:
    """Is there a map made ahead?"""
    return screen.map_path(model, level, method).exists()


def key_of(table: pd.DataFrame, level: str) -> pd.Series:
    """The id of each row at a level; wells as ``plate/well``."""
    columns = [table[c].astype(str) for c in KEYS[level]]
    return columns[0] if len(columns) == 1 else columns[0] + "/" + columns[1]


@loaders.cached(12)
def points(screen: Screen, model: str, level: str, method: str) -> Points:
    """The points of a map.

    Raises
    ------
    ScreenError
        A UMAP that nobody has made; principal components are computed at once.
    """
    table, values = _features(screen, model, level)
    table = table.copy()
    if stored(screen, model, level, method):
        placed = read_table(screen.map_path(model, level, method))
        table = table.reset_index(drop=True).reset_index(names="row").merge(placed, on=KEYS[level], how="inner")
        values = values[table.pop("row").to_numpy()]
    elif method == "pca":
        if level == "cells" and len(values) > maps.MOST_CELLS:
            rows = np.sort(np.random.default_rng(0).choice(len(values), maps.MOST_CELLS, replace=False))
            table, values = table.iloc[rows].reset_index(drop=True), values[rows]
        table["x"], table["y"] = maps.compute(values, "pca").T
    else:
        raise ScreenError(f"{screen.name} has no UMAP of its {level} under {model!r}; run 'cytovae profile --umap'")
    table["key"] = key_of(table, level).to_numpy()
    return Points(table, values)


@loaders.cached(8)
def _clusters(screen: Screen, model: str, level: str, method: str) -> npt.NDArray[np.int64]:
    return maps.clusters(points(screen, model, level, method).features, N_CLUSTERS)


def colours(screen: Screen, model: str, level: str, method: str, by: str) -> tuple[npt.NDArray, dict[str, Any]]:
    """A code for every point and the legend that explains it.

    Returns
    -------
    tuple of ((n,) uint16, dict)
        Category numbers and ``categories``; or, by concentration, values scaled to 0..65535 and the ends of the scale.
    """
    table = points(screen, model, level, method).table
    if by == "cluster":
        numbers = _clusters(screen, model, level, method)
        values = pd.Series(numbers).map(lambda k: f"cluster {k + 1}")
    else:
        values = table[COLOURS[by]] if COLOURS[by] in table else pd.Series(["not stored"] * len(table))
    if by == "concentration":
        dose = np.log10(values.to_numpy(np.float64), where=values.to_numpy() > 0, out=np.full(len(values), np.nan))
        low, high = (np.nanmin(dose), np.nanmax(dose)) if np.isfinite(dose).any() else (0.0, 1.0)
        scaled = np.nan_to_num((dose - low) / max(high - low, 1e-9))
        label = "concentration (logarithmic); controls as the lowest"
        return np.rint(65535 * scaled).astype(np.uint16), {
            "low": f"{10**low:g} µM",
            "high": f"{10**high:g} µM",
            "colour_label": label,
        }
    counts = values.astype(str).value_counts()
    names = [*counts.index[:MAX_COLOURS]]
    style, control = _styles(screen, by), screen.record.control
    categories = [
        {
            "name": name,
            "count": int(counts[name]),
            "other": False,
            "style": style.get(name, k),
            "control": name == control and by in ("mechanism", "compound"),
        }
        for k, name in enumerate(names)
    ]
    if len(counts) > MAX_COLOURS:
        rest = counts.index[MAX_COLOURS:]
        categories.append({"name": f"{len(rest)} others", "count": int(counts[rest].sum()), "other": True})
    codes = values.astype(str).map({name: k for k, name in enumerate(names)}).fillna(len(names))
    return codes.to_numpy(np.uint16), {"categories": categories}


def _styles(screen: Screen, by: str) -> dict[str, int]:
    """A number for every name but the control, the same on every level of the map: names in alphabetical order."""
    column = COLOURS[by]
    cells = loaders.cells(screen)
    if column not in cells:
        return {}
    names = sorted(set(cells[column].astype(str)) - {screen.record.control})
    return {name: k % MAX_COLOURS for k, name in enumerate(names)}


def axes(shown: Points, method: str) -> tuple[str, str]:
    """What the axes of a map are, with the share of variance that principal components hold."""
    if method != "pca":
        return f"{method.upper()} 1", f"{method.upper()} 2"
    total = float(shown.features.astype(np.float64).var(axis=0).sum())
    held = [float(shown.table[axis].var(ddof=0)) / total if total > 0 else 0.0 for axis in ("x", "y")]
    first, second = (f"principal component {k + 1} ({share:.0%} of variance)" for k, share in enumerate(held))
    return first, second


def says(screen: Screen, model: str, level: str, shown: int) -> str:
    """How many points a map shows of how many there are, and why not all."""
    total = key_of(loaders.cells(screen), level).nunique()
    left = "" if shown == total else " (blank crops and what has no embedding are left out)"
    if level == "cells" and shown < schema.not_blank(loaders.embeddings(screen, model)[0]).sum():
        left = ", drawn at random"
    return f"{shown:,} of {total:,} {level}{left}"


def exemplar(screen: Screen, model: str, level: str, key: str) -> str:
    """The cell that stands for a point: itself, or the cell of the well or treatment closest to its mean."""
    if level == "cells":
        return key
    cells, z, _ = loaders.embeddings(screen, model)
    rows = np.flatnonzero((key_of(cells, level) == key).to_numpy())
    return str(cells[schema.CELL_ID].iloc[targets.closest_to_mean(z, rows)])
