"""Fields and training curves, as plotly figures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.common.figures import OKABE_ITO, SMALL


def field(rgb: npt.NDArray[np.uint8], cells: pd.DataFrame, scale: float, height_px: int = 620) -> go.Figure:
    """A field with its nuclei marked.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        The field, perhaps smaller than it was taken.
    cells : DataFrame
        ``Metadata_CenterX_px``, ``Metadata_CenterY_px`` and ``cell_id``.
    scale : float
        Pixels of the field per pixel of `rgb`.
    height_px : int
        Of the figure.
    """
    from PIL import Image

    height, width = rgb.shape[:2]
    figure = go.Figure(
        go.Scatter(
            x=cells["Metadata_CenterX_px"] / scale,
            y=cells["Metadata_CenterY_px"] / scale,
            mode="markers",
            marker={"symbol": "circle-open", "size": 15, "color": "#ffffff", "line": {"width": 1.6}},
            customdata=cells[["cell_id"]],
            hovertemplate="%{customdata[0]}<extra></extra>",
            showlegend=False,
        )
    )
    figure.add_layout_image(
        source=Image.fromarray(rgb),
        xref="x",
        yref="y",
        x=0,
        y=0,
        sizex=width,
        sizey=height,
        layer="below",
        sizing="stretch",
    )
    figure.update_xaxes(range=[0, width], visible=False, constrain="domain")
    figure.update_yaxes(range=[height, 0], visible=False, scaleanchor="x", constrain="domain")
    figure.update_layout(height=height_px, margin={"t": 4, "b": 4, "l": 4, "r": 4}, dragmode="pan")
    return figure


def _panels(titles: list[str]) -> go.Figure:
    """Empty panels, three a row, over iterations."""
    columns = min(3, max(len(titles), 1))
    rows = -(-max(len(titles), 1) // columns)
    figure = make_subplots(rows, columns, subplot_titles=titles, vertical_spacing=0.28 / rows)
    figure.update_layout(height=80 + 210 * rows, margin=SMALL)
    figure.update_xaxes(title_text="iteration", title_standoff=4, title_font_size=11)
    figure.update_annotations(font_size=13)
    return figure


def _panel(k: int) -> dict[str, int]:
    return {"row": k // 3 + 1, "col": k % 3 + 1}


def training(log: pd.DataFrame) -> go.Figure:
    """Loss terms by iteration, one panel each, on logarithmic axes."""
    terms = [c for c in log.columns if c not in ("iteration", "it_per_s", "eta_s") and log[c].notna().any()]
    figure = _panels(terms)
    thin = log.iloc[:: max(1, len(log) // 1500)]
    for k, term in enumerate(terms):
        line = {"color": OKABE_ITO[k % 8], "width": 2}
        figure.add_trace(go.Scatter(x=thin["iteration"], y=thin[term], line=line, showlegend=False), **_panel(k))
        positive = (thin[term].dropna() > 0).all()
        figure.update_yaxes(type="log" if positive else "linear", **_panel(k))
    figure.update_yaxes(title_text="loss, mean a cell", title_standoff=4, title_font_size=11)
    return figure


def snapshots(table: pd.DataFrame, words: dict[str, str]) -> go.Figure:
    """Measures of cells kept out of training by iteration, one panel each; a dotted line where 1 is as the original.

    Parameters
    ----------
    table : DataFrame
        ``iteration`` and a column per measure; ``coherence`` holds lists, one number per size of detail.
    words : dict
        The title of each measure.
    """
    shown = [name for name in words if name in table]
    figure = _panels([words[name] for name in shown])
    for k, name in enumerate(shown):
        lines = {"": table[name]}
        if name == "coherence":
            sizes = pd.DataFrame([v if isinstance(v, list) else [] for v in table[name]])
            lines = {f"size {j + 1} of {sizes.shape[1]}: ": sizes[j] for j in range(sizes.shape[1])}
        for j, (label, values) in enumerate(lines.items()):
            figure.add_trace(
                go.Scatter(
                    x=table["iteration"],
                    y=values,
                    mode="lines+markers",
                    line={"color": OKABE_ITO[j % 8], "width": 2},
                    marker={"size": 5},
                    hovertemplate=f"{label}%{{y:.4g}} at iteration %{{x}}<extra></extra>",
                    showlegend=False,
                ),
                **_panel(k),
            )
        if name.endswith("_ratio"):
            figure.add_hline(y=1, line={"dash": "dot", "width": 1, "color": OKABE_ITO[7]}, **_panel(k))
    return figure
