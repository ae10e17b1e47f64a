"""Energy by spatial frequency, as plotly figures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from app.common.figures import CONTROL, OKABE_ITO, SMALL


def spectrum(models: dict[str, tuple[npt.NDArray, npt.NDArray]]) -> go.Figure:
    """Energy by spatial frequency, reconstruction over original; 1 is as sharp as the real cells."""
    figure = go.Figure()
    for k, (name, (frequency, ratio)) in enumerate(models.items()):
        line = {"color": OKABE_ITO[k % len(OKABE_ITO)], "width": 2.5, "dash": "solid" if k < len(OKABE_ITO) else "dot"}
        figure.add_trace(go.Scatter(x=frequency, y=np.maximum(ratio, 1e-6), mode="lines", name=name, line=line))
    figure.add_hline(y=1, line={"color": CONTROL, "width": 1, "dash": "dot"})
    figure.update_layout(
        height=320,
        margin=SMALL,
        xaxis_title="spatial frequency (cycles per pixel)",
        yaxis_title="energy over original",
        yaxis_type="log",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    return figure
