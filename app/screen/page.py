"""Screen: what is loaded, plates, refused fields, models and their training."""

from __future__ import annotations

import streamlit as st

from app.common import context, loaders
from app.common.words import plain
from app.screen import overview, sections
from app.screen.panel import PANEL
from cytovae import schema

screen, _ = context.header("What is in this screen?", model=False, panel=PANEL)
with st.container(horizontal=True, gap="large"):
    for name, count in overview.facts(screen).items():
        st.metric(name.capitalize(), f"{count:,}", width="content")
record = screen.record
size = f"{record.pixel_size_um:g} µm per pixel" if record.pixel_size_um else "pixel size unknown, so lengths are in px"
st.markdown(
    f"Channels **{plain(', '.join(record.channels))}** · patches of {record.patch_size_px} × {record.patch_size_px} "
    f"px, {size} · control **{plain(record.control)}** · embedded with "
    f"{plain(', '.join(screen.models())) or 'no model yet'}"
)
blank = int((~schema.not_blank(loaders.cells(screen))).sum())
st.caption(
    "Counts on every page are of cells that show something"
    + (f"; {blank:,} blank crops are left out. " if blank else "; there are no blank crops. ")
    + "Cells of unfinished quizzes are counted, but not shown. The control is no compound, treatment or mechanism "
    "here. The page Mechanisms counts treatments that can be scored. "
    f"Source: {plain(record.source or 'not stated')}. Licence of the images: {plain(record.licence or 'not stated')}. "
    f"{overview.citation(screen)} Folder: `{screen.path}`"
)


@st.fragment
def tabs() -> None:
    """A tab is worked out when it is opened."""
    made = context.tabs("screen-tab", list(sections.TABS))
    for tab, show in zip(made, sections.TABS.values(), strict=True):
        if tab.open:
            with tab, context.page_errors():
                show(screen)


tabs()
