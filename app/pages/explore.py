"""Explore: the path from a control cell to a treated one."""

from __future__ import annotations

import streamlit as st

from app import context, explorer, loaders
from app.components.player import player
from cytovae import schema

st.title("What does the drug do to the cell?")
with st.container(horizontal=True, vertical_alignment="bottom"):
    screen = context.choose_screen()
    model = context.choose_model(screen)
    treatment = context.choose_treatment(screen)
    target = context.choose_target(screen, model, treatment)
    control = context.choose_control(screen)
    with st.popover("Path", icon=":material/tune:"):
        steps = st.select_slider("Steps", [5, 7, 9, 11, 13, 17, 21, 31], 11, key="steps", bind="query-params")
        mode = st.selectbox("Way", ["top-features", "linear", "spherical"], key="mode", bind="query-params")
        spacing = st.selectbox("Spacing", ["count", "gain"], key="spacing", bind="query-params")

shown = explorer.view(screen, model, treatment, control, target, steps, mode, spacing)
player(*explorer.player_data(screen, shown), key="player")
