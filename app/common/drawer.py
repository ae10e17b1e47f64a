"""A drawer: what was clicked opens beside where it was clicked, and stays in view while the page scrolls."""

from __future__ import annotations

from typing import Any

import streamlit as st


def beside(share: float = 4.6) -> tuple[Any, Any]:
    """A wide column and the drawer beside it; on a narrow window the drawer stands above, and stays in view.

    Parameters
    ----------
    share : float
        How many times as wide the column is.
    """
    wide, narrow = st.columns([share, 1], gap="medium")
    with narrow:
        return wide, st.container(key="drawer")
