"""Curves, bars and differences along a path, as plotly figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.common.figures import CONTROL, PATH, SMALL, TREATED, band


def curves(steps: pd.DataFrame, spread: pd.DataFrame, ranked: pd.DataFrame, columns: int = 3, n: int = 6) -> go.Figure:
    """The measurements that change most along a path, each over the range of control and of treated cells.

    Parameters
    ----------
    steps, spread, ranked : DataFrame
        Of `cytovae.explore.morphology.Along`.
    """
    top = ranked.dropna(subset=["change_sd"]).head(n)
    rows = -(-max(len(top), 1) // columns)
    figure = make_subplots(rows, columns, subplot_titles=list(top["label"]), vertical_spacing=0.3 / rows)
    x = np.arange(len(steps))
    for k, name in enumerate(top["measure"]):
        where = {"row": k // columns + 1, "col": k % columns + 1}
        for group, colour in (("control", CONTROL), ("treated", TREATED)):
            if f"{group}_p05" in spread:
                low, high = (np.full(len(x), spread.loc[name, f"{group}_{q}"]) for q in ("p05", "p95"))
                band(figure, x, low, high, colour, group, **where)
        figure.add_trace(
            go.Scatter(
                x=x,
                y=steps[name],
                mode="lines+markers",
                line={"color": PATH, "width": 2.5},
                marker={"size": 5},
                showlegend=False,
                hovertemplate="step %{x}: %{y:.3g}<extra></extra>",
            ),
            **where,
        )
    for label, colour, symbol in (
        ("this path", PATH, "circle"),
        ("control cells, 5 to 95 %", CONTROL, "square"),
        ("treated cells, 5 to 95 %", TREATED, "square"),
    ):
        marker = {"color": colour, "size": 10, "symbol": symbol, "opacity": 1 if symbol == "circle" else 0.4}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=label))
    figure.update_layout(
        height=90 + 215 * rows, margin=SMALL, legend={"orientation": "h", "y": -0.12 / rows, "yanchor": "top"}
    )
    figure.update_annotations(font_size=13)
    figure.update_xaxes(title=None, dtick=max(1, len(x) // 6))
    return figure


def changes(ranked: pd.DataFrame) -> go.Figure:
    """How much each measurement changes from start to end, in standard deviations of the controls."""
    table = ranked.dropna(subset=["change_sd"]).iloc[::-1]
    figure = go.Figure(
        go.Bar(
            x=table["change_sd"],
            y=table["label"],
            orientation="h",
            marker_color=PATH,
            name="this path",
            hovertemplate="%{y}: %{x:.2f} s.d.<extra></extra>",
        )
    )
    if "expected_sd" in table:
        figure.add_trace(
            go.Scatter(
                x=table["expected_sd"],
                y=table["label"],
                mode="markers",
                name="treated minus control, means",
                marker={"color": TREATED, "symbol": "diamond", "size": 9},
                hovertemplate="populations: %{x:.2f} s.d.<extra></extra>",
            )
        )
    figure.update_layout(
        height=80 + 21 * len(table),
        margin=SMALL,
        bargap=0.35,
        xaxis_title="change in s.d. of control cells",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    return figure


def lines(
    x: Sequence[Any], series: Sequence[tuple[str, Any, Any, Any, str]], x_title: str, y_title: str, height: int = 300
) -> go.Figure:
    """Curves with bands: ``(name, y, low, high, colour)`` each; low and high may be None."""
    figure = go.Figure()
    for name, y, low, high, colour in series:
        if low is not None:
            band(figure, x, low, high, colour, name)
        figure.add_trace(
            go.Scatter(x=list(x), y=y, mode="lines+markers", name=name, line={"color": colour, "width": 2.5})
        )
    figure.update_layout(
        height=height,
        margin=SMALL,
        xaxis_title=x_title,
        yaxis_title=y_title,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    return figure


def population_curves(curves: pd.DataFrame, labels: dict[str, str], columns: int = 3, n: int = 6) -> go.Figure:
    """The mean change of the measurements that change most surely over many pairs, with 95 % intervals."""
    last = curves[curves["step"] == curves["step"].max()].set_index("measure")
    half = ((last["change_high"] - last["change_low"]) / 2).replace(0, np.nan)
    top = (last["change"].abs() / half).sort_values(ascending=False).index[:n]
    rows = -(-max(len(top), 1) // columns)
    figure = make_subplots(rows, columns, subplot_titles=[labels.get(m, m) for m in top], vertical_spacing=0.3 / rows)
    for k, name in enumerate(top):
        where = {"row": k // columns + 1, "col": k % columns + 1}
        table = curves[curves["measure"] == name]
        band(figure, table["step"], table["change_low"], table["change_high"], PATH, name, **where)
        line = {"color": PATH, "width": 2.5}
        figure.add_trace(go.Scatter(x=table["step"], y=table["change"], line=line, showlegend=False), **where)
        figure.add_hline(y=0, line={"color": CONTROL, "width": 1, "dash": "dot"}, **where)
    figure.update_layout(height=60 + 215 * rows, margin=SMALL)
    figure.update_annotations(font_size=13)
    return figure


def lengths(null: npt.NDArray, path: float, name: str) -> go.Figure:
    """Lengths of control-to-control paths with the path's own among them."""
    figure = go.Figure(go.Histogram(x=null, nbinsx=40, marker_color=CONTROL, name="control to control"))
    figure.add_vline(x=path, line={"color": TREATED, "width": 3}, annotation_text=name, annotation_position="top")
    figure.update_layout(
        height=300,
        margin={**SMALL, "t": 44},
        xaxis_title="difference of the two cells (length of the route)",
        yaxis_title="paths",
        bargap=0.04,
        showlegend=False,
    )
    return figure


def diverging(difference: npt.NDArray, low: npt.NDArray, high: npt.NDArray) -> npt.NDArray[np.uint8]:
    """A signed image in blue, white and red; grey where the interval holds 0.

    Parameters
    ----------
    difference, low, high : (H, W)

    Returns
    -------
    (H, W, 3) uint8
    """
    top = max(float(np.abs(difference).max()), 1e-9)
    t = np.clip(difference / top, -1, 1)[..., None]
    red, blue = np.array([178, 24, 43.0]), np.array([33, 102, 172.0])
    white = np.array([247.0, 247, 247])
    out = np.where(t >= 0, white + (red - white) * t, white + (blue - white) * -t)
    unsure = ((low <= 0) & (high >= 0))[..., None]
    return np.asarray(np.where(unsure, 205.0, out), dtype=np.uint8)
