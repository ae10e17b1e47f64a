"""Buttons that make files of what is on the screen: the browser says how it shows it, and saves what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from app.common.components.message import read

_mount = st.components.v2.component(
    "cytovae.files",
    html='<div class="cv files" role="group" aria-label="Download"></div>',
    css=read("shared.css") + ".files { container-type: normal; display: flex; flex-wrap: wrap; gap: 0.35rem; }",
    js=read("element.js", "files.js"),
)

Make = Callable[[str, Mapping[str, Any]], tuple[str, str, bytes]]
"""A form and the browser's view (`view_of` reads it) -> the file's name, its media type and its content."""


def files(forms: Mapping[str, str], make: Make, key: str) -> None:
    """Show a button per form; a file is made when its button is pressed. Call it inside a fragment.

    Parameters
    ----------
    forms : mapping of str to str
        What can be made -> what it is, shown on hover.
    make : callable
    key : str
        Of the widget.
    """
    wish = f"{key}-asked"

    def ask() -> None:
        st.session_state[wish] = st.session_state[key]["asked"]

    header: dict[str, Any] = {"forms": dict(forms)}
    content = b""
    if asked := st.session_state.pop(wish, None):
        header["number"] = asked.get("number")  # the answer is saved once, and the button is free again
        if asked.get("form") in forms:
            try:
                header["name"], header["mime"], content = make(asked["form"], asked.get("view") or {})
            except Exception:
                _mount(key=key, data=_frame(header, b""), on_asked_change=ask)
                raise
    _mount(key=key, data=_frame(header, content), on_asked_change=ask)


def _frame(header: Mapping[str, Any], content: bytes) -> bytes:
    """Length of the header (u32, little-endian), the header as JSON, the content."""
    head = json.dumps(header).encode()
    return len(head).to_bytes(4, "little") + head + content
