"""Colours and margins that the plotly figures of every page share."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B8A800", "#7F7F7F")
CONTROL, TREATED, PATH = "#7F7F7F", "#D55E00", "#0B8A92"
SMALL = {"t": 34, "b": 34, "l": 8, "r": 8}


def _faint(colour: str, alpha: float = 0.16) -> str:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha})"


def explained(figure: go.Figure, key: str, means: str, *, title: str = "", **more: Any) -> None:
    """Draw a figure with its one plain sentence: read out by screen readers, and under (?) beside a title.

    Parameters
    ----------
    figure : Figure
    key : str
        Of the chart.
    means : str
        What is drawn and how to read it.
    title : str
        Above the figure; none where a heading with the sentence stands there already.
    **more
        For ``st.plotly_chart``.
    """
    if title:
        st.markdown(f"**{title}**", help=means)
    st.plotly_chart(figure, key=key, alt=means, **more)


def band(figure: go.Figure, x: Any, low: Any, high: Any, colour: str, name: str, **where: Any) -> None:
    """Add the band between `low` and `high` to a figure."""
    x, low, high = (np.asarray(v, dtype=float) for v in (x, low, high))
    figure.add_trace(
        go.Scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([high, low[::-1]]),
            mode="lines",
            fill="toself",
            fillcolor=_faint(colour),
            line={"width": 0},
            hoverinfo="skip",
            name=name,
            showlegend=False,
        ),
        **where,
    )
