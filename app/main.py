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
st.session_state["through-main"] = True
pages = {
    title.lower(): st.Page(HERE / file, title=title, icon=icon, default=file == "explore.py")
    for file, title, icon in PAGES
}
page = st.navigation(list(pages.values()), position="top")
if (wanted := st.query_params.pop("page", None)) in pages:  # see context.require_main
    st.switch_page(pages[wanted], query_params=st.query_params.to_dict())
loaders.warm()
with context.page_errors():
    page.run()
