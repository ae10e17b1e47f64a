"""The browser's side of the address: completed when a session opens, copied by a button, kept through a login."""

from __future__ import annotations

import streamlit as st

from app.common.components.message import read

_BUTTON = '<div class="cv"><button type="button" class="copy">Copy link</button></div>'
_NARROW = ".cv { container-type: normal; width: max-content; }"
_copy = st.components.v2.component("cytovae.link", html=_BUTTON, css=read("shared.css") + _NARROW, js=read("link.js"))
_complete = st.components.v2.component("cytovae.address", html="<i hidden></i>", js=read("address.js"))
_way = st.components.v2.component("cytovae.way", html="<i hidden></i>", js=read("way.js"))


def copy_link(key: str) -> None:
    """Show a button that copies the page's address."""
    _copy(key=key, width="content")


def complete(query: str, key: str) -> None:
    """Put a query in place of the present address's, without a step for the browser's Back; nothing where empty."""
    _complete(key=key, data=query, height=1)


def keep_way() -> None:
    """Let the browser's tab remember the present address until `come_back`, for a quarter of an hour."""
    _tab(back=False)


def come_back() -> None:
    """Go where the browser's tab was at `keep_way`; nowhere where it was not, and to no other site."""
    _tab(back=True)


def _tab(back: bool) -> None:
    base = (st.get_option("server.baseUrlPath") or "").strip("/")
    with st.container(key="way"):
        _way(key="way-component", data={"base": f"/{base}/" if base else "/", "back": back}, height=1)
