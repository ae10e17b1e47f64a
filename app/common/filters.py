"""Show only some: by the screen's own columns, such as the cell line or the time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st

from app.common import loaders, maps
from cytovae.screen import Screen

MOST_VALUES = 60
"""A column of more values is not offered."""


def options(screen: Screen) -> list[str]:
    """What can be asked for, as ``name: value``."""
    cells = loaders.cells(screen)
    return [
        f"{name}: {value}"
        for name, column in maps.own_columns(screen).items()
        if cells[column].nunique() <= MOST_VALUES
        for value in sorted(cells[column].dropna().astype(str).unique())
    ]


def only(screen: Screen, key: str) -> list[str]:
    """What is asked for; nothing is drawn where the screen has no columns of its own."""
    there = options(screen)
    return st.multiselect("Show only", there, key=key, persist_state="session") if there else []


def kept(screen: Screen, table: pd.DataFrame, level: str, chosen: list[str]) -> npt.NDArray[np.bool_]:
    """Rows of a table of a level that were asked for: any of the values of a column, in every column that is named.

    A well or treatment is kept where all its cells have one of the values.

    Returns
    -------
    (n,) bool
    """
    wanted: dict[str, set[str]] = {}
    for line in chosen:
        name, _, value = line.partition(": ")
        wanted.setdefault(name, set()).add(value)
    rows = np.ones(len(table), dtype=bool)
    for name, values in wanted.items():
        rows &= maps.valued(screen, None, table, level, name).astype(str).isin(values).to_numpy()
    return rows
