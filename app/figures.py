"""Tables -> plotly figures; nothing here reads disk or Streamlit's state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B8A800", "#7F7F7F")
CONTROL, TREATED, PATH = "#7F7F7F", "#D55E00", "#0B8A92"
_SMALL = {"t": 34, "b": 34, "l": 8, "r": 8}


def _faint(colour: str, alpha: float = 0.16) -> str:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha})"


def _band(figure: go.Figure, x: Any, low: Any, high: Any, colour: str, name: str, **where: Any) -> None:
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
                _band(figure, x, low, high, colour, group, **where)
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
        height=90 + 215 * rows, margin=_SMALL, legend={"orientation": "h", "y": -0.12 / rows, "yanchor": "top"}
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
        margin=_SMALL,
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
            _band(figure, x, low, high, colour, name)
        figure.add_trace(
            go.Scatter(x=list(x), y=y, mode="lines+markers", name=name, line={"color": colour, "width": 2.5})
        )
    figure.update_layout(
        height=height,
        margin=_SMALL,
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
        _band(figure, table["step"], table["change_low"], table["change_high"], PATH, name, **where)
        line = {"color": PATH, "width": 2.5}
        figure.add_trace(go.Scatter(x=table["step"], y=table["change"], line=line, showlegend=False), **where)
        figure.add_hline(y=0, line={"color": CONTROL, "width": 1, "dash": "dot"}, **where)
    figure.update_layout(height=60 + 215 * rows, margin=_SMALL)
    figure.update_annotations(font_size=13)
    return figure


def lengths(null: npt.NDArray, path: float, name: str) -> go.Figure:
    """Lengths of control-to-control paths with the path's own among them."""
    figure = go.Figure(go.Histogram(x=null, nbinsx=40, marker_color=CONTROL, name="control to control"))
    figure.add_vline(x=path, line={"color": TREATED, "width": 3}, annotation_text=name, annotation_position="top")
    figure.update_layout(
        height=300,
        margin={**_SMALL, "t": 44},
        xaxis_title="length in latent space",
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


def spectrum(models: dict[str, tuple[npt.NDArray, npt.NDArray]]) -> go.Figure:
    """Energy by spatial frequency, reconstruction over original; 1 is as sharp as the real cells."""
    figure = go.Figure()
    for k, (name, (frequency, ratio)) in enumerate(models.items()):
        line = {"color": OKABE_ITO[k % len(OKABE_ITO)], "width": 2.5, "dash": "solid" if k < len(OKABE_ITO) else "dot"}
        figure.add_trace(go.Scatter(x=frequency, y=np.maximum(ratio, 1e-6), mode="lines", name=name, line=line))
    figure.add_hline(y=1, line={"color": CONTROL, "width": 1, "dash": "dot"})
    figure.update_layout(
        height=320,
        margin=_SMALL,
        xaxis_title="spatial frequency (cycles per pixel)",
        yaxis_title="energy over original",
        yaxis_type="log",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    return figure


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
        height=120 + 46 * len(names), margin=_SMALL, legend={"orientation": "h", "y": -0.2, "yanchor": "top"}
    )
    return figure


def plate(table: pd.DataFrame, rows: list[str], columns: list[int], title: str) -> go.Figure:
    """A plate as a grid of wells coloured by a value; control wells carry a C.

    Parameters
    ----------
    table : DataFrame
        ``Metadata_Well``, ``value``, ``control``, ``cells``, ``Metadata_Treatment``, ``Metadata_MoA``.
    """
    place = table["Metadata_Well"].astype(str).str.extract(r"^([A-Z]{1,2})0*(\d+)$")
    values = np.full((len(rows), len(columns)), np.nan)
    marks = np.full(values.shape, "", dtype=object)
    words = np.full(values.shape, "no cells", dtype=object)
    for letters, number, (_, well) in zip(place[0], place[1], table.iterrows(), strict=True):
        if letters not in rows or int(number) not in columns:
            continue
        at = rows.index(letters), columns.index(int(number))
        values[at] = well["value"]
        marks[at] = "C" if well["control"] else ""
        words[at] = (
            f"{well['Metadata_Treatment']} µM<br>{well['Metadata_MoA']}<br>{well['cells']} cells<br>"
            f"{title} {well['value']:.3g}"
        )
    figure = go.Figure(
        go.Heatmap(
            x=columns,
            y=rows,
            z=np.zeros(values.shape),
            colorscale=[[0, "rgba(127,127,127,0.13)"], [1, "rgba(127,127,127,0.13)"]],
            showscale=False,
            hoverinfo="skip",
            xgap=3,
            ygap=3,
        )
    )
    figure.add_trace(
        go.Heatmap(
            x=columns,
            y=rows,
            z=values,
            text=marks,
            texttemplate="%{text}",
            customdata=words,
            colorscale="Viridis",
            xgap=3,
            ygap=3,
            hovertemplate="<b>%{y}%{x:02d}</b> %{customdata}<extra></extra>",
            hoverongaps=False,
            colorbar={"title": title, "thickness": 14},
        )
    )
    figure.update_layout(
        height=110 + (40 if len(rows) <= 8 else 24) * len(rows),
        margin={**_SMALL, "t": 30},
        xaxis={"side": "top", "tickvals": columns, "showgrid": False, "zeroline": False},
        yaxis={"autorange": "reversed", "tickvals": rows, "showgrid": False},
    )
    return figure


def field(rgb: npt.NDArray[np.uint8], cells: pd.DataFrame, scale: float) -> go.Figure:
    """A field with its nuclei marked.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        The field, perhaps smaller than it was taken.
    cells : DataFrame
        ``Metadata_CenterX_px``, ``Metadata_CenterY_px`` and ``cell_id``.
    scale : float
        Pixels of the field per pixel of `rgb`.
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
    figure.update_layout(height=620, margin={"t": 4, "b": 4, "l": 4, "r": 4}, dragmode="pan")
    return figure


def training(log: pd.DataFrame) -> go.Figure:
    """Loss terms by iteration, one panel each, on logarithmic axes."""
    terms = [c for c in log.columns if c not in ("iteration", "it_per_s", "eta_s") and log[c].notna().any()]
    columns = min(3, max(len(terms), 1))
    rows = -(-max(len(terms), 1) // columns)
    figure = make_subplots(rows, columns, subplot_titles=terms, vertical_spacing=0.28 / rows)
    thin = log.iloc[:: max(1, len(log) // 1500)]
    for k, term in enumerate(terms):
        line = {"color": OKABE_ITO[k % 8], "width": 2}
        figure.add_trace(
            go.Scatter(x=thin["iteration"], y=thin[term], line=line, showlegend=False),
            row=k // columns + 1,
            col=k % columns + 1,
        )
        positive = (thin[term].dropna() > 0).all()
        figure.update_yaxes(type="log" if positive else "linear", row=k // columns + 1, col=k % columns + 1)
    figure.update_layout(height=60 + 200 * rows, margin=_SMALL)
    figure.update_annotations(font_size=13)
    return figure
