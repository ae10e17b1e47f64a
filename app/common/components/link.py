"""The browser's side of the address: it is completed when a session opens, and copied by a button."""

from __future__ import annotations

import streamlit as st

from app.common.components.message import read

_BUTTON = '<div class="cv"><button type="button" class="copy">Copy link</button></div>'
_NARROW = ".cv { container-type: normal; width: max-content; }"
_copy = st.components.v2.component("cytovae.link", html=_BUTTON, css=read("shared.css") + _NARROW, js=read("link.js"))
_complete = st.components.v2.component("cytovae.address", html="<i hidden></i>", js=read("address.js"))


def copy_link(key: str) -> None:
    """Show a button that copies the page's address."""
    _copy(key=key, width="content")


def complete(query: str, key: str) -> None:
    """Put a query in place of the present address's, without a step for the browser's Back; nothing where empty."""
    _complete(key=key, data=query, height=1)
