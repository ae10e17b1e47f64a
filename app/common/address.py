"""The page's address: it holds every choice, so that a link restores the view and the browser's Back undoes a choice.

The server's choices are its query, written once a run: one choice, one step for Back. What the browser shows without
the server (step, channels, look, contrast) follows the ``#`` and is written by the browser, never as a step for Back.
"""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

from app.common.components.link import complete

CHOSEN = "address-chosen"
"""Session state: choices of the present run, by key."""
WHOLE = "address-whole"
"""Session state: whether the whole page runs, or a fragment alone."""
EVER = "address-ever"
"""Session state: the last choice of every key, whichever page it was made on."""
LEFT, SEEN = "address-left", "address-seen"
"""Session state: the choices that this session last put into the address, and what the address said before."""


def news(key: str) -> str | None:
    """What the address says and this session did not put there: a link was opened, or Back or Forward pressed."""
    says = st.query_params.get(key)
    known = [st.session_state.get(which, {}).get(key) for which in (LEFT, SEEN)]
    return None if says in known else says


def lost(key: str) -> bool:
    """Whether this session put a choice into the address and it is gone from it, as after Back; not on a new page."""
    says, left = st.query_params.to_dict(), st.session_state.get(LEFT, {})
    return key in left and key not in says and bool(says.keys() & left.keys())


def begin() -> None:
    """A run of the whole page begins."""
    st.session_state[CHOSEN], st.session_state[WHOLE] = {}, True


def put(key: str, value: str) -> None:
    """A choice of the page that is being drawn."""
    st.session_state.setdefault(CHOSEN, {})[key] = value
    st.session_state.setdefault(EVER, {})[key] = value


def last(key: str) -> str | None:
    """The last choice of a key, on this page or another."""
    value: str | None = st.session_state.get(EVER, {}).get(key)
    return value


def settle() -> None:
    """Write the choices of a whole run; those of other pages leave the address."""
    st.session_state[WHOLE] = False
    opens = LEFT not in st.session_state
    wanted = _merged(st.session_state.pop(CHOSEN, {}))
    # a session's first view completes the address that it was opened by; a write would be a step for Back
    complete(urlencode(wanted) if opens else "", key="address")
    if opens:
        st.session_state[SEEN] = st.query_params.to_dict()
    else:
        _write(wanted)


def settle_part() -> None:
    """Write the choices of a fragment that runs alone; those of the page around it stay."""
    if not st.session_state.get(WHOLE):
        _write(_merged({**st.session_state.get(LEFT, {}), **st.session_state.pop(CHOSEN, {})}))


def _merged(chosen: dict[str, str]) -> dict[str, str]:
    """The choices with what else stands in the address and is no page's choice."""
    if not chosen:
        return st.query_params.to_dict()
    others = {k: v for k, v in st.query_params.to_dict().items() if k not in st.session_state.get(LEFT, {})}
    st.session_state[LEFT] = chosen
    return {**others, **chosen}


def _write(wanted: dict[str, str]) -> None:
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)
    st.session_state[SEEN] = wanted
