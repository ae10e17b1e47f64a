"""Explore: the path from a control cell to a treated one."""

from __future__ import annotations

import streamlit as st

from app import context, explore_tabs, explorer
from app.components.link import copy_link
from app.components.player import player

screen, model = context.header("What does the drug do to the cell?")
one, two, three, four = st.columns([2.1, 1.4, 1.4, 0.55], vertical_alignment="bottom")
with one:
    treatment = context.choose_treatment(screen)
with two:
    target = context.choose_target()
with three:
    control = context.choose_control()
with four, st.popover("Path", icon=":material/tune:", width="stretch"):
    steps = int(context.choose("Steps", "steps", ["11", "5", "7", "9", "13", "17", "21", "31"]))
    mode = context.choose("Way", "mode", ["top-features", "linear", "spherical"])
    spacing = context.choose("Spacing", "spacing", ["count", "gain"])

shown = explorer.view(screen, model, treatment, control, target, steps, mode, spacing)
player(*explorer.player_data(screen, shown), key="player")
st.caption(explorer.verdict(screen, shown))
with st.container(horizontal=True, vertical_alignment="center", gap="small"):
    names = ("screen", "model", "treatment", "target", "control", "steps", "mode", "spacing")
    values = (screen.name, model, treatment, target, control, str(steps), mode, spacing)
    copy_link(dict(zip(names, values, strict=True)), key="link")
    explore_tabs.downloads(screen, model, treatment, shown)

TABS = {"Cells": explore_tabs.cells, "Figure": explore_tabs.figure}
for tab, show in zip(st.tabs(list(TABS), key="tab", on_change="rerun"), TABS.values(), strict=True):
    if tab.open:
        with tab, context.page_errors():
            show(screen, model, treatment, shown)
