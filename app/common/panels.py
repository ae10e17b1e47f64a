"""The help panel of a page: its terms in plain sentences beside a small drawing."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st


@dataclass(frozen=True)
class Panel:
    """What a page's terms mean.

    Parameters
    ----------
    drawing : str
        The inside of an SVG of 360 x 110; the ink is ``currentColor``.
    says : str
        What the drawing shows, for those who hear it.
    terms : mapping of str to str
        Each with one plain sentence or two.
    """

    drawing: str
    says: str
    terms: Mapping[str, str]


def show(panel: Panel) -> None:
    """A button that opens the panel."""
    ink = "#E6EDF0" if st.context.theme.type == "dark" else "#17212B"
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 360 110" width="540" height="165" fill="none" '
        f'color="{ink}" stroke="{ink}" font-size="11" font-family="sans-serif">{panel.drawing}</svg>'
    )
    picture = base64.b64encode(svg.encode()).decode()
    with st.popover("What does this page show?", icon=":material/help:", width="content"):
        st.html(f'<img src="data:image/svg+xml;base64,{picture}" alt="{panel.says}" style="max-width:100%">')
        st.markdown("\n\n".join(f"**{term}**: {words}" for term, words in panel.terms.items()))


def text(x: int, y: int, words: str) -> str:
    """A line of text in a drawing, centred."""
    return f'<text x="{x}" y="{y}" text-anchor="middle" fill="currentColor" stroke="none">{words}</text>'


def arrow(x: int, y: int, to: int) -> str:
    """An arrow to the right."""
    return f'<path d="M{x} {y}H{to}m-6 -4l6 4l-6 4"/>'
