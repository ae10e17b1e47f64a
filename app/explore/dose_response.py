"""The panel that shows how a compound's effect grows with its dose."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from app.common import loaders
from app.common.figures import CONTROL, PATH, SMALL, TREATED, explained
from app.common.words import begun, plain
from app.explore import view
from cytovae.errors import SelectionError
from cytovae.explore import doses, study
from cytovae.screen import Screen


@loaders.cached(16)
def response(screen: Screen, model: str, compound: str) -> doses.DoseResponse:
    """How a compound's effect grows with its dose."""
    return study.dose_response(view.material(screen, model), compound)


def panel(screen: Screen, model: str, compound: str) -> None:
    """Where the cells of each concentration lie between the controls and the highest one."""
    try:
        found = response(screen, model, compound)
    except SelectionError as few:
        st.markdown("**Dose–response**")
        st.caption(f"{plain(few)}.")
        return
    means = (
        "How far the cells of each concentration have gone from the controls (0) towards the highest concentration (1)."
    )
    explained(figure(found), "dose-response", means, title="Dose–response")
    said = plain(found.curve.sentence if found.curve else f"No curve is drawn: {found.reason}")
    caution = f" {begun(found.caution)}." if found.caution else ""
    st.caption(
        f"{said[:1].upper()}{said[1:]}. {plain(found.scale)}.{caution} Small dots are wells; bars are 95 % intervals "
        "over wells, over cells where there is one well, of the dose, the controls and the highest dose."
    )


def figure(found: doses.DoseResponse) -> go.Figure:
    """Wells, means with intervals, and the curve where there is one, over the logarithm of the concentration."""
    table, wells = found.doses, found.wells
    drawn = go.Figure()
    if found.curve is not None:
        x = np.geomspace(table["concentration"].min(), table["concentration"].max(), 80)
        drawn.add_trace(go.Scatter(x=x, y=found.curve.at(x), name="Hill curve", line={"color": PATH, "width": 2.5}))
    dots = {"color": TREATED, "size": 6, "opacity": 0.5}
    drawn.add_trace(go.Scatter(x=wells["concentration"], y=wells["mean"], mode="markers", name="wells", marker=dots))
    bars = {
        "type": "data",
        "symmetric": False,
        "array": table["high"] - table["mean"],
        "arrayminus": table["mean"] - table["low"],
    }
    drawn.add_trace(
        go.Scatter(
            x=table["concentration"],
            y=table["mean"],
            error_y=bars,
            mode="markers",
            name="mean",
            marker={"color": TREATED, "size": 10},
            customdata=table[["n_cells", "n_wells"]],
            hovertemplate="%{x} µM: %{y:.2f}<br>%{customdata[0]} cells of %{customdata[1]} wells<extra></extra>",
        )
    )
    drawn.add_hline(y=0, line={"color": CONTROL, "width": 1, "dash": "dot"})
    given = table["concentration"].tolist()
    drawn.update_xaxes(type="log", title="concentration (µM)", tickvals=given, ticktext=[f"{c:g}" for c in given])
    low, high = min(-0.3, float(wells["mean"].min()) - 0.1), max(1.3, float(wells["mean"].max()) + 0.1)
    drawn.update_yaxes(title="place from controls to highest dose", range=[low, high])
    drawn.update_layout(height=320, margin=SMALL, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return drawn
