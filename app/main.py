"""The page registry: what every page shares, then the page."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import context, loaders

PAGES = Path(__file__).parent / "pages"

st.set_page_config(page_title="cytovae", page_icon=":material/blur_on:", layout="wide")
page = st.navigation(
    [
        st.Page(PAGES / "explore.py", title="Explore", icon=":material/conversion_path:", default=True),
        st.Page(PAGES / "reconstructions.py", title="Reconstructions", icon=":material/compare:"),
        st.Page(PAGES / "profiles.py", title="Profiles", icon=":material/scatter_plot:"),
        st.Page(PAGES / "mechanisms.py", title="Mechanisms", icon=":material/hub:"),
        st.Page(PAGES / "quiz.py", title="Quiz", icon=":material/quiz:"),
        st.Page(PAGES / "screen.py", title="Screen", icon=":material/grid_on:"),
    ],
    position="top",
)
loaders.warm()
with context.page_errors():
    page.run()
