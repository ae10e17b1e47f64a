"""Profiles: a map of cells, wells or treatments; lasso, look, and take cells to Explore."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app.common import context, loaders, maps, selection
from app.profiles import picks
from app.profiles.scatter import scatter

selection.leave()
screen, model = context.header("Which cells are alike?")
one, two, three = st.columns(3)
with one:
    level = context.choose("Points are", "level", ["treatments", "wells", "cells"])
with two:
    words = {"pca": "principal components", "umap": "UMAP"}
    first = "umap" if maps.stored(screen, model, level, "umap") else "pca"
    method = context.choose("Map", "map", sorted(words, key=lambda m: m != first), words=words)
with three:
    by = context.choose("Colour", "colour", list(maps.COLOURS))


@st.fragment
def explore_map() -> None:
    """The map, what is open, and the gallery of what is selected."""
    with context.page_errors():
        if st.session_state.get("go"):
            st.rerun()
        points = maps.points(screen, model, level, method)
        codes, legend = maps.colours(screen, model, level, method, by)
        cells = loaders.embeddings(screen, model)[0]
        picked = selection.current()
        chosen = picked.mask(cells, points.table, level) if picked else np.zeros(len(codes), bool)
        header = {
            **legend,
            "map": f"{screen.name}/{model}/{level}/{method}",
            "colour": f"{screen.name}/{model}/{level}/{by}",
            "says": maps.says(screen, model, level, len(codes)),
            "axes": maps.axes(points, method),
            "paths": picks.trail(screen, model, points),
            "names": points.table["key"].tolist() if level != "cells" else None,
        }
        plane, aside = st.columns([4.6, 1], gap="medium")
        with plane:
            event = scatter(points.table[["x", "y"]].to_numpy(), codes, chosen, header, key="map-points")
        had = picked
        picks.take(event, points, codes, level)
        if selection.current() is not had:
            st.rerun(scope="fragment")
        with aside:
            if not (st.session_state.get(selection.OPENED) or st.session_state.get(selection.HOVERED)):
                st.caption("Rest on a point to see its cell; click to keep it here.")
            picks.one(screen, model, selection.OPENED, "Opened", buttons=True)
            picks.one(screen, model, selection.HOVERED, "Under the pointer", buttons=False)
        picks.gallery(screen, model)


if method == "umap" and not maps.stored(screen, model, level, "umap"):
    picks.offer_umap(screen, model, level)
else:
    explore_map()
