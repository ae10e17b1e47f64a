"""Screen: what is loaded, plates, refused fields, models and their training."""

from __future__ import annotations

import streamlit as st

from app.common import context
from app.screen import overview, sections

screen, _ = context.header("What is in this screen?", model=False)
with st.container(horizontal=True, gap="large"):
    for name, count in overview.facts(screen).items():
        st.metric(name.capitalize(), f"{count:,}", width="content")
record = screen.record
size = f"{record.pixel_size_um:g} µm per pixel" if record.pixel_size_um else "pixel size unknown, so lengths are in px"
st.markdown(
    f"Channels **{', '.join(record.channels)}** · patches of {record.patch_size_px} × {record.patch_size_px} px, "
    f"{size} · "
    f"control **{record.control}** · embedded with {', '.join(screen.models()) or 'no model yet'}"
)
st.caption(
    f"Source: {record.source or 'not stated'}. Licence of the images: {record.licence or 'not stated'}. "
    f"{overview.citation(screen)} Folder: `{screen.path}`"
)


@st.fragment
def tabs() -> None:
    """A tab is worked out when it is opened."""
    made = st.tabs(list(sections.TABS), key="screen-tab", on_change="rerun")
    for tab, show in zip(made, sections.TABS.values(), strict=True):
        if tab.open:
            with tab, context.page_errors():
                show(screen)


tabs()
