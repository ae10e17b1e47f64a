"""The cell that was clicked on the Reconstructions page."""

from __future__ import annotations

import streamlit as st

from app.common import loaders, selection
from app.common.components.cells import cells
from app.common.words import plain
from app.reconstructions import compare
from cytovae import schema
from cytovae.screen import Screen


def opened(screen: Screen, models: dict[str, str], cell_id: str) -> None:
    """A cell large, with what each model makes of it, and the way to its path."""
    cell = loaders.cells(screen).iloc[loaders.rows(screen, [cell_id])[0]]
    st.markdown(f"**{plain(loaders.named(str(cell[schema.TREATMENT])))}** · {plain(cell[schema.MOA])}")
    st.caption(plain(f"{cell[schema.PLATE]} {cell[schema.WELL]} · {cell_id}"))
    images, lines = compare.large(screen, models, cell_id)
    cells(screen.record, images, lines, "large-cell", size_px=150, most_px=230, controls=False)
    if screen.models():
        st.button(
            "Explore its path",
            icon=":material/conversion_path:",
            key="large-explore",
            on_click=selection.use,
            args=(screen, "target", cell_id),
            width="stretch",
        )
    st.button(
        "Close",
        icon=":material/close:",
        key="large-close",
        on_click=lambda: st.session_state.pop("large", None),
        width="stretch",
    )
