"""Maps of cells, wells or treatments: their points with metadata and colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.common import colours as colouring
from app.common import loaders
from cytovae import schema
from cytovae.errors import ScreenError
from cytovae.explore import maps, targets
from cytovae.profiling import profiles
from cytovae.screen import Screen, read_table

KEYS = {
    "cells": [schema.CELL_ID],
    "wells": [schema.PLATE, schema.WELL],
    "treatments": [schema.TREATMENT],
    "mechanisms": [schema.MOA],
}
"""What can be selected, and the columns that name it; all but mechanisms are drawn as points."""
COLOURS = {
    "mechanism": schema.MOA,
    "treatment": schema.TREATMENT,
    "compound": schema.COMPOUND,
    "dose": schema.CONCENTRATION,
    "activity": schema.TREATMENT,
    "cell count": schema.N_CELLS,
    "plate": schema.PLATE,
    "batch": schema.BATCH,
    "cluster": "cluster",
}
"""What points can be coloured by, and the column that says it; beside these, `own_columns`."""
N_CLUSTERS = 12
MAX_COLOURS = 40
"""Further categories share grey."""


@dataclass(frozen=True)
class Points:
    """A map: its table (metadata, ``x``, ``y``, ``key``) and the features it was made of, row by row."""

    table: pd.DataFrame
    features: npt.NDArray[np.float32]


@loaders.cached(8)
def _features(screen: Screen, model: str, level: str) -> tuple[pd.DataFrame, npt.NDArray[np.float32]]:
    cells, z, _ = loaders.embeddings(screen, model)
    if level == "cells":  # what is blank is no cell, as in the profiles
        rows = np.flatnonzero(schema.not_blank(cells))
        return (cells, z) if len(rows) == len(cells) else (cells.iloc[rows].reset_index(drop=True), z[rows])
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


@loaders.cached(8)
def own_columns(screen: Screen) -> dict[str, str]:
    """Columns of the screen's own, such as the cell line: name -> column; none that says one thing, or another of
    every cell.
    """
    cells = loaders.cells(screen)
    own = schema.own_columns(cells)
    return {str(c).removeprefix("Metadata_"): c for c in own if 1 < cells[c].nunique() < max(len(cells) // 2, 3)}


def valued(screen: Screen, model: str | None, table: pd.DataFrame, level: str, by: str) -> pd.Series:
    """What each row of a table of a level is coloured or sorted by: words, or numbers.

    Parameters
    ----------
    model : str or None
        Whose activity is meant.
    by : str
        Of `COLOURS` but ``cluster``, or of `own_columns`. A well or treatment whose cells differ says ``several``.
    """
    keys, cells = key_of(table, level), loaders.cells(screen)
    if by == "activity":
        known = loaders.activity(screen, model) if model else None
        if known is None:
            return pd.Series("not tested", index=table.index)
        active, inactive, untested = colouring.ACTIVITY
        words = np.where(known["reason"] != "", untested, np.where(known["active"], active, inactive))
        said = pd.Series(words, index=known.index)
        control = table[schema.COMPOUND] == screen.record.control
        found: pd.Series = table[schema.TREATMENT].map(said).fillna(untested).mask(control, screen.record.control)
        return found
    if by == "cell count":
        level = "wells" if level == "cells" else level
        shown = cells[schema.not_blank(cells)]
        return key_of(table, level).map(key_of(shown, level).value_counts()).fillna(0).astype(int)
    column = COLOURS.get(by) or own_columns(screen).get(by, "")
    if by in COLOURS and column in table:
        return table[column]
    if column not in cells:
        return pd.Series("not stored", index=table.index)
    of = cells.groupby(key_of(cells, level), observed=True)[column]
    said = keys.map(of.first().astype(object).where(of.nunique(dropna=False) < 2, "several"))
    return said.infer_objects()  # numbers where no row says several


def colours(screen: Screen, model: str, level: str, method: str, by: str) -> tuple[npt.NDArray, dict[str, Any]]:
    """A code for every point and the legend that explains it.

    Returns
    -------
    tuple of ((n,) uint16, dict)
        Category numbers and ``categories``; or, by a number, values scaled to 0..65535 and the ends of the scale.
    """
    table = points(screen, model, level, method).table
    if by == "cluster":
        numbers = _clusters(screen, model, level, method)
        values = pd.Series(numbers).map(lambda k: f"cluster {k + 1:02d}")
    else:
        values = valued(screen, model, table, level, by)
    if pd.api.types.is_numeric_dtype(values) and (by in ("dose", "cell count") or values.nunique() > 12):
        number, unit = values.to_numpy(np.float64), ""
        label = by
        if by == "dose":
            label, unit = "dose (logarithmic); controls as the lowest", " µM"
            number = np.log10(number, where=number > 0, out=np.full(len(number), np.nan))
        low, high = (np.nanmin(number), np.nanmax(number)) if np.isfinite(number).any() else (0.0, 1.0)
        scaled = np.nan_to_num((number - low) / max(high - low, 1e-9))
        ends = (10**low, 10**high) if by == "dose" else (low, high)
        return np.rint(65535 * scaled).astype(np.uint16), {
            "low": f"{ends[0]:g}{unit}",
            "high": f"{ends[1]:g}{unit}",
            "colour_label": label,
            "ramp": list(colouring.RAMP),
        }
    counts = values.astype(str).value_counts()
    names = [*counts.index[:MAX_COLOURS]]
    style = styles(screen, by)
    categories = []
    for k, name in enumerate(names):
        colour, shape = style.get(name) or colouring.style(k)
        star = shape == colouring.STAR
        shown = loaders.named(name) if by == "treatment" else name
        own = {"colour": "" if star else colour, "shape": shape}
        categories.append({"name": shown, "count": int(counts[name]), **own})
    if len(counts) > MAX_COLOURS:
        rest = counts.index[MAX_COLOURS:]
        words = f"{len(rest)} others, each in grey"
        categories.append({"name": words, "count": int(counts[rest].sum()), "colour": colouring.OTHER, "shape": 0})
    codes = values.astype(str).map({name: k for k, name in enumerate(names)}).fillna(len(names))
    return codes.to_numpy(np.uint16), {"categories": categories}


def styles(screen: Screen, by: str) -> dict[str, tuple[str, int]]:
    """Colour and mark of every name, the same on every level and page."""
    if by == "activity":
        found = {name: (colour, 0) for name, colour in colouring.ACTIVITY.items()}
        return found | {screen.record.control: (colouring.CONTROL, colouring.STAR)}
    column = COLOURS.get(by) or own_columns(screen).get(by, "")
    return colouring.styles(screen, column) if column in loaders.cells(screen) else {}


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
