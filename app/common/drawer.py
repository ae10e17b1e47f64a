"""A drawer: what was clicked opens beside where it was clicked, and stays in view while the page scrolls."""

from __future__ import annotations

from typing import Any

import streamlit as st

_STYLE = """
<style>
[data-testid="stColumn"]:has(.st-key-drawer):not(:has([data-testid="stColumn"] .st-key-drawer)) {
  position: sticky; top: 4rem; align-self: flex-start; }
@media (max-width: 640px) {
  [data-testid="stColumn"]:has(.st-key-drawer):not(:has([data-testid="stColumn"] .st-key-drawer)) {
    order: -1; z-index: 20; backdrop-filter: blur(16px); border-radius: 8px; max-height: 60vh; overflow-y: auto; }
}
</style>
"""


def beside(share: float = 4.6) -> tuple[Any, Any]:
    """A wide column and the drawer beside it; on a narrow window the drawer stands above, and stays in view.

    Parameters
    ----------
    share : float
        How many times as wide the column is.
    """
    st.html(_STYLE)
    wide, narrow = st.columns([share, 1], gap="medium")
    with narrow:
        return wide, st.container(key="drawer")
