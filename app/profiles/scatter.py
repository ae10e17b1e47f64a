"""A map of points drawn by the browser: lasso, hover, click and a searchable legend; 100,000 points stay quick."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import streamlit as st

from app.common.components.message import read

_mount = st.components.v2.component(
    "cytovae.scatter",
    html=read("scatter.html", beside=__file__),
    css=read("shared.css", "scatter.css", beside=__file__),
    js=read("element.js", "scatter.js", beside=__file__),
)


@dataclass(frozen=True)
class Event:
    """What someone did on the map.

    Parameters
    ----------
    hovered, opened : int or None
        A point that the pointer rests on, and one that was clicked.
    polygon : (v, 2) float64 or None
        A lasso in map units; empty where the selection was cleared.
    hidden : tuple of int
        Categories that were hidden when the lasso was drawn.
    """

    hovered: int | None = None
    opened: int | None = None
    polygon: npt.NDArray[np.float64] | None = None
    hidden: tuple[int, ...] = ()


def scatter(
    xy: npt.NDArray,
    codes: npt.NDArray,
    selected: npt.NDArray[np.bool_],
    header: dict[str, Any],
    key: str,
) -> Event:
    """Show a map; returns what was just done on it.

    Parameters
    ----------
    xy : (n, 2)
    codes : (n,)
        Category numbers, or values scaled to 0..65535 where the header has no ``categories``.
    selected : (n,) bool
    header : dict
        ``map`` (changes when the places do), ``colour`` (changes when the colours do), ``says`` (how many points of
        how many), ``categories`` (``name``, ``count``, ``other``) or ``low``, ``high``, ``colour_label``; optionally
        ``names`` per point.
    key : str
    """
    body = (
        np.ascontiguousarray(xy, "<f4").tobytes()
        + np.ascontiguousarray(codes, "<u2").tobytes()
        + np.ascontiguousarray(selected, np.uint8).tobytes()
    )
    head = {**header, "n": len(xy)}
    head["id"] = hashlib.sha256(json.dumps(head, sort_keys=True).encode() + body).hexdigest()[:16]
    text = json.dumps(head).encode()
    text += b" " * (-(len(text) + 4) % 4)
    data = len(text).to_bytes(4, "little") + text + body
    result = _mount(
        key=key,
        data=data,
        on_hovered_change=lambda: None,
        on_opened_change=lambda: None,
        on_lasso_change=lambda: None,
    )
    return _event(result, header["map"], len(xy))


def _event(result: Any, shown: str, n: int) -> Event:
    """A browser's message, taken for what it is: nothing in it is trusted, and what speaks of another map is
    dropped.
    """
    points: dict[str, int | None] = {}
    for name in ("hovered", "opened"):
        value = result.get(name) or {}
        point = value.get("point") if value.get("map") == shown else None
        points[name] = int(point) if isinstance(point, int) and 0 <= point < n else None
    drawn = result.get("lasso") or {}
    polygon = None
    if "polygon" in drawn and drawn.get("map", shown) == shown:
        polygon = np.array(drawn["polygon"], dtype=np.float64).reshape(-1, 2)[:2000]
    hidden = tuple(int(k) for k in drawn.get("hidden", ()))
    return Event(points["hovered"], points["opened"], polygon, hidden)
