"""Benchmark results of a screen as the Mechanisms page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from app.common import loaders, maps, pixels
from app.common.components.cells import Item
from app.common.selection import Selection
from cytovae import locks, schema
from cytovae.profiling import benchmark, figures
from cytovae.profiling.ranking import RULES
from cytovae.profiling.report import Table1, column_title, scores_of
from cytovae.screen import Screen, read_table


def results(screen: Screen) -> dict[str, dict[str, Any]]:
    """What ``cytovae benchmark`` wrote, by model; documents that cannot be understood are left out."""
    root = screen.path / "results"
    found = {}
    for path in sorted(root.glob("*/scores.json")) if root.is_dir() else []:
        document = loaders.read_json(path)
        if isinstance(document, dict) and document.get("scores"):
            found[path.parent.name] = document
    return found


def under_way(screen: Screen) -> bool:
    """Whether somebody is scoring the screen just now."""
    return locks.busy(screen.path / "results")


def table1(documents: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Table 1's layout: one row per rule and model, then baselines; accuracy in %, 95 % interval, number scored."""
    return Table1.of(score for document in documents.values() for score in scores_of(document)).frame()


def dots(documents: dict[str, dict[str, Any]], *, dark: bool = False) -> Any:
    """Table 1 as the library draws it."""
    return figures.dots((score for document in documents.values() for score in scores_of(document)), dark=dark)


def treatments_of(screen: Screen, selected: Selection) -> set[str]:
    """Treatments that have cells in a selection."""
    cells = loaders.cells(screen)
    return set(cells.loc[selected.of_cells(cells), schema.TREATMENT].astype(str))


def pick(lines: Sequence[dict[str, Any]], column: tuple[str, str], rule: str) -> dict[str, Any] | None:
    """The line of a list in ``scores.json`` that speaks of a column and a rule."""
    return next((x for x in lines if (x["summary"], x["whiten"]) == column and x["rule"] == rule), None)


def calls(screen: Screen, model: str, column: tuple[str, str], rule: str) -> pd.DataFrame:
    """One row per treatment: its mechanism, the one called, and its nearest neighbour."""
    table = read_table(screen.results_path(model) / "calls.parquet")
    return table.loc[(table["summary"] == column[0]) & (table["whiten"] == column[1]) & (table["rule"] == rule)]


def nearest(screen: Screen, model: str, column: tuple[str, str], rule: str, treatment: str) -> pd.DataFrame:
    """A treatment's nearest admissible neighbours by cosine of their profiles, nearest first, with ``cosine``."""
    (named,) = (r for r in RULES if r.name == rule)
    return benchmark.nearest(screen.profiles(model, "treatments", *column), treatment, named, screen.record.control)


def typical(
    screen: Screen, model: str, names: Sequence[str], notes: Sequence[str]
) -> tuple[pixels.Pictures, list[Item]]:
    """The typical cell of each treatment with its captions: images (n, H, W, C) and items."""
    table = loaders.treatments(screen).set_index(schema.TREATMENT)
    ids = [maps.exemplar(screen, model, "treatments", name) for name in names]
    images = pixels.of_cells(screen, loaders.rows(screen, ids))
    items = [
        Item(i, loaders.named(name), note, tag=str(table.loc[name, schema.MOA]), hover=ids[i], id=ids[i])
        for i, (name, note) in enumerate(zip(names, notes, strict=True))
    ]
    return images, items


CALLS = {
    schema.TREATMENT: "treatment",
    schema.MOA: "mechanism",
    "predicted": "called",
    "cosine": "cosine",
    "correct": "right",
    "reason": "why not scored",
}
"""How the columns of `calls` are called."""


def batch(document: dict[str, Any]) -> pd.DataFrame:
    """How often a control well's nearest control well is of its own plate or batch, and how often by chance."""
    rows = [
        {
            "profiles": column_title(x["summary"], x["whiten"]),
            "nearest control well is of the same": x["by"],
            "how often (%)": None if x["score"] is None else round(100 * x["score"], 1),
            "by chance (%)": None if x["expected"] is None else round(100 * x["expected"], 1),
            "wells": x["n_wells"],
        }
        for x in document.get("batch", [])
    ]
    return pd.DataFrame(rows)


def precision(document: dict[str, Any], column: tuple[str, str], rule: str) -> pd.DataFrame:
    """Mean average precision by mechanism: do its treatments rank each other first?"""
    lines = [x for x in document.get("map", []) if (x["summary"], x["whiten"]) == column and x["rule"] == rule]
    words = {"moa": "mechanism", "map": "mAP", "p_corrected": "p, corrected", "n_treatments": "treatments"}
    table = pd.DataFrame(lines, columns=list(words)).rename(columns=words)
    return table.sort_values("mAP", ascending=False, ignore_index=True).round(3)
