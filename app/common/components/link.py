"""A button that copies the address of the view."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from app.common.components.message import read

_HTML = '<div class="cv"><button type="button" class="copy">Copy link</button></div>'
_CSS = ".cv { container-type: normal; width: max-content; }"
_JS = """
export default function (component) {
  const button = component.parentElement.querySelector(".copy");
  button.onclick = async () => {
    const url = new URL(window.location.href);
    url.search = new URLSearchParams(component.data).toString();
    button.dataset.link = url.href;
    let done = true;
    try { await navigator.clipboard.writeText(url.href); } catch { done = false; }
    if (!done) window.prompt("Copy this address", url.href);
    if (done) { button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy link"; }, 1400); }
  };
}
"""
_mount = st.components.v2.component("cytovae.link", html=_HTML, css=read("shared.css") + _CSS, js=_JS)


def copy_link(parameters: Mapping[str, str], key: str) -> None:
    """Show the button; the address it copies carries every parameter, defaults included."""
    _mount(key=key, data=dict(parameters), width="content")
