"""Confusion and accuracies, as plotly figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.common.figures import OKABE_ITO, SMALL


def confusion(line: dict[str, Any]) -> go.Figure:
    """Mechanisms by the mechanism of the nearest neighbour, in treatments; every square can be clicked.

    Parameters
    ----------
    line : dict
        Of ``confusion`` in ``scores.json``. A point's ``customdata`` is (true, predicted).
    """
    true, predicted, counts = line["true"], line["predicted"], np.array(line["counts"])
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    at = [(r, c) for r in range(len(true)) for c in range(len(predicted)) if counts[r, c]]
    figure = go.Figure(
        go.Heatmap(
            x=predicted,
            y=true,
            z=np.where(counts > 0, share, np.nan),
            text=np.where(counts > 0, counts.astype(str), ""),
            texttemplate="%{text}",
            textfont={"color": "#17212B", "size": 13},
            colorscale=[[0, "#DDF0F1"], [1, "#4FB3B9"]],
            zmin=0,
            zmax=1,
            showscale=False,
            hoverinfo="skip",
            xgap=2,
            ygap=2,
        )
    )
    figure.add_trace(  # a heatmap cannot be clicked: these invisible marks can
        go.Scatter(
            x=[predicted[c] for _, c in at],
            y=[true[r] for r, _ in at],
            mode="markers",
            customdata=[[true[r], predicted[c]] for r, c in at],
            text=[str(counts[r, c]) for r, c in at],
            marker={"symbol": "square", "size": 30, "color": "rgba(0,0,0,0.002)"},
            selected={"marker": {"color": "rgba(213,94,0,0.35)"}},
            unselected={"marker": {"opacity": 1}},
            hovertemplate="%{y}<br>called %{x}: %{text}<extra></extra>",
        )
    )
    figure.update_layout(
        height=150 + 32 * len(true),
        margin={"t": 10, "b": 10, "l": 8, "r": 8},
        xaxis={"categoryorder": "array", "categoryarray": predicted, "tickangle": -40, "title": "nearest neighbour"},
        yaxis={"categoryorder": "array", "categoryarray": true[::-1], "title": None},
        clickmode="event+select",
        dragmode=False,
    )
    return figure


def scores(lines: list[tuple[str, dict[str, Any]]], title_of: Any) -> go.Figure:
    """Accuracies with 95 % intervals: one panel per rule, a row per model or baseline, a colour per column of
    Table 1.
    """
    names = list(dict.fromkeys(name for name, _ in lines))
    columns = list(dict.fromkeys((x["summary"], x["whiten"]) for _, x in lines))
    rules = list(dict.fromkeys(x["rule"] for _, x in lines))
    figure = make_subplots(1, len(rules), shared_yaxes=True, subplot_titles=rules, horizontal_spacing=0.04)
    symbols = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")
    for k, column in enumerate(columns):
        for r, rule in enumerate(rules):
            mine = [
                (names.index(n), x)
                for n, x in lines
                if x["rule"] == rule and (x["summary"], x["whiten"]) == column and x["accuracy"] is not None
            ]
            y = [row + (k - (len(columns) - 1) / 2) * 0.72 / max(len(columns), 1) for row, _ in mine]
            value = np.array([100 * x["accuracy"] for _, x in mine])
            ends = np.array([[100 * v for v in (x["ci95"] or (x["accuracy"],) * 2)] for _, x in mine]).reshape(-1, 2)
            figure.add_trace(
                go.Scatter(
                    x=value,
                    y=y,
                    mode="markers",
                    name=title_of(*column),
                    legendgroup=str(k),
                    showlegend=r == 0,
                    marker={"size": 9, "color": OKABE_ITO[k % 8], "symbol": symbols[k % 6]},
                    error_x={
                        "type": "data",
                        "symmetric": False,
                        "array": ends[:, 1] - value,
                        "arrayminus": value - ends[:, 0],
                        "thickness": 1.4,
                        "width": 0,
                    },
                    hovertemplate="%{x:.1f} %<extra>" + title_of(*column) + "</extra>",
                ),
                row=1,
                col=r + 1,
            )
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.5, -0.5])
    figure.update_xaxes(range=[0, 101], title="accuracy (%)")
    figure.update_layout(
        height=120 + 46 * len(names), margin=SMALL, legend={"orientation": "h", "y": -0.2, "yanchor": "top"}
    )
    return figure
