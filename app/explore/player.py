"""The path player: every frame goes to the browser once; scrubbing, channels and contrast happen there."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.common.components.message import pack, read
from app.common.pixels import Pictures

_mount = st.components.v2.component(
    "cytovae.player",
    html=read("player.html", beside=__file__),
    css=read("shared.css", "player.css", beside=__file__),
    js=read("element.js", "pixels.js", "player.js", beside=__file__),
)


_beside = st.components.v2.component(
    "cytovae.evidence", html="<i hidden></i>", js=read("element.js", "pixels.js", "evidence.js", beside=__file__)
)


def player(header: dict[str, Any], images: Pictures, key: str, *, kept: bool = False) -> None:
    """Show a path.

    Parameters
    ----------
    header : dict
        ``channels``, ``pixel_size_um``, ``n_features``, ``along`` (what the words under the frames are), ``control``
        and ``target`` (``title``, ``text``) and ``frames``: per step ``label`` (empty where features are counted),
        ``n_features``, ``cosine``, ``cosine_reencoded``, ``off``, ``why``, ``odd`` and ``nearest`` (``image``,
        ``cell_id``, ``treatment``, ``moa``, ``distance``). With ``waits``, the last four come by `evidence` of the
        same ``path``.
    images : Pictures
        The real control, the frames, the real target, then the nearest real cells where they are there.
    key : str
        Of the widget.
    kept : bool
        Its step stands in the address and outlives a change of path; of one player a page.
    """
    _mount(key=key, data=pack({"can_split": True, "kept": kept, **header}, images.images))


def evidence(header: dict[str, Any], images: Pictures, key: str) -> None:
    """Tell the player whose header says ``waits`` what stands beside its path.

    Parameters
    ----------
    header : dict
        ``path``, as the player's; ``frames`` with what its own lack: ``off``, ``why``, ``odd`` and ``nearest``.
    images : Pictures
        The nearest real cells.
    """
    _beside(key=key, data=pack(header, images.images), height=1)
