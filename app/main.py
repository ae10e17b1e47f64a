"""The entry file: what every page shares, then the page."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.common import address, collector, context, loaders, login, selection
from app.registry import PAGES

st.set_page_config(page_title="cytovae", page_icon=str(Path(__file__).with_name("icon.png")), layout="wide")
st.html(Path(__file__).with_name("style.css"))
first, *others = PAGES
page = st.navigation(
    [
        # the first page has the address without a name; under its name it opens too
        st.Page(first.file, title=first.title, icon=first.icon, url_path="home", default=True),
        *(st.Page(entry.file, title=entry.title, icon=entry.icon, url_path=entry.name) for entry in others),
        st.Page(first.file, title=first.title, icon=first.icon, url_path=first.name, visibility="hidden"),
    ],
    position="top",
)
login.demand()
loaders.warm()
st.session_state[selection.PAGE] = page.url_path
above = st.container(key="above")
address.begin()
try:
    with context.page_errors():
        page.run()
finally:  # a page may stop early
    login.foot()
    with above:
        context.say_unknown()
    address.settle()
    collector.settle()
