"""The door of the app, where it was started with ``--auth``: who is logged in, and what they may see."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st

from app.common import context
from app.common.components import link
from cytovae import access

AUTH = "CYTOVAE_AUTH"
"""Environment variable: the file that says who may come in; without it the app has no login."""

LEAVES = "login-leaves"
"""Session state: whether who was logged in is logging out."""


def _asked() -> access.Access | None:
    """Who may come in, read anew at every run: whoever is taken off the list is out at the next click."""
    path = os.environ.get(AUTH)
    return access.read(Path(path)) if path else None


def demand() -> None:
    """Go on only for those who may come in; others see how to log in and nothing else."""
    with context.page_errors():  # a fault of the list opens the app to nobody
        allowed = _asked()
        if allowed is None:
            return
        if st.user.is_logged_in and allowed.admits(st.user.to_dict()):
            link.come_back()
            return
        with st.container(horizontal_alignment="center"):
            _door()
    st.stop()


def _door() -> None:
    st.title("cytovae", width="content", anchor=False)
    if not st.user.is_logged_in:
        if not st.session_state.get(LEAVES):
            link.keep_way()  # the provider sends everybody back to the first page
        st.markdown("Please log in. The page that you asked for opens afterwards.", width="content")
        st.button("Log in", type="primary", icon=":material/login:", on_click=st.login)
        return
    st.text(f"You are logged in as {st.user.get('email') or 'somebody without an address'}.", width="content")
    st.error(
        "This address may not open this app. Ask whoever runs it to add you, or log in with another.",
        icon=":material/block:",
    )
    st.button("Log out", icon=":material/logout:", on_click=_leave)


def _leave() -> None:
    """Log out; whoever logs in next at this window is not led to where this person was."""
    st.session_state[LEAVES] = True
    st.logout()


def sees_all_raters() -> bool:
    """Whether who looks may see the answers of all raters: everybody where there is no login."""
    allowed = _asked()
    return allowed is None or allowed.sees_all_raters(st.user.to_dict())


def foot() -> None:
    """Who is logged in, and the way out; nothing where there is no login."""
    if not os.environ.get(AUTH):
        return
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        st.caption(f"Logged in as `{st.user.get('email')}`", width="content")
        st.button("Log out", type="tertiary", icon=":material/logout:", on_click=_leave)
