"""The page registry: what every page shares, then the page."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import context, loaders

HERE = Path(__file__).parent / "pages"
PAGES = (
    ("explore.py", "Explore", ":material/conversion_path:"),
    ("reconstructions.py", "Reconstructions", ":material/compare:"),
    ("profiles.py", "Profiles", ":material/scatter_plot:"),
    ("mechanisms.py", "Mechanisms", ":material/hub:"),
    ("quiz.py", "Quiz", ":material/quiz:"),
    ("screen.py", "Screen", ":material/grid_on:"),
)

st.set_page_config(page_title="cytovae", page_icon=str(Path(__file__).with_name("icon.png")), layout="wide")
page = st.navigation(
    [
        st.Page(HERE / file, title=title, icon=icon, default=file == "explore.py")
        for file, title, icon in PAGES
        if (HERE / file).exists()
    ],
    position="top",
)
loaders.warm()
with context.page_errors():
    page.run()
