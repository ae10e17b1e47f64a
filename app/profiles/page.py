"""Profiles: a map of cells, wells or treatments; lasso, look, and take cells to Explore."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app.common import context, drawer, filters, loaders, maps, selection
from app.common.words import plain
from app.profiles import picks
from app.profiles.panel import PANEL
from app.profiles.scatter import scatter

screen, model = context.header("Which cells are alike?", panel=PANEL)
MAP = "Points that lie close look alike to the model; on a UMAP, distances between far groups mean nothing."
one, two, three, four = st.container(key="menus").columns([1, 1.1, 1, 1.7])
with one:
    level = context.choose("Points are", "level", ["treatments", "wells", "cells"])
with two:
    words = {"pca": "principal components", "umap": "UMAP"}
    first = "umap" if maps.stored(screen, model, level, "umap") else "pca"
    method = context.choose("Map", "map", sorted(words, key=lambda m: m != first), words=words, help=MAP)
with three:
    by = context.choose("Colour", "colour", [*maps.COLOURS, *maps.own_columns(screen)])
with four:
    picks.by_name(screen, level)
wanted = filters.only(screen, "profiles-only")


def names_of(points: maps.Points, level: str) -> list[str] | None:
    """What the points are called on the page; cells have no names of their own."""
    keys = points.table["key"].tolist()
    return None if level == "cells" else [loaders.named(key) for key in keys] if level == "treatments" else keys


@st.fragment
def explore_map() -> None:
    """The map, what is open, and the gallery of what is selected."""
    with context.page_errors():
        if st.session_state.get("go"):
            st.rerun()
        points = maps.points(screen, model, level, method)
        codes, legend = maps.colours(screen, model, level, method, by)
        says, axes = maps.says(screen, model, level, len(codes)), maps.axes(points, method)
        if wanted:
            rows = filters.kept(screen, points.table, level, wanted)
            points, codes = maps.Points(points.table[rows].reset_index(drop=True), points.features[rows]), codes[rows]
            says = f"{len(codes):,} {level} of {says}: {', '.join(wanted)}"
        if not len(codes):
            st.info(f"None of the {level} is {plain(' or '.join(wanted))}.", icon=":material/info:")
            return
        cells = loaders.embeddings(screen, model)[0]
        picked = selection.current()
        chosen = picked.mask(cells, points.table, level) if picked else np.zeros(len(codes), bool)
        paths, path_says = picks.trail(screen, model, points, level)
        header = {
            **legend,
            "map": f"{screen.name}/{model}/{level}/{method}/{wanted}",
            "colour": f"{screen.name}/{model}/{level}/{by}",
            "says": says,
            "axes": axes,
            "paths": paths,
            "path_says": path_says,
            "names": names_of(points, level),
        }
        wide, beside = drawer.beside()
        with wide:
            event = scatter(points.table[["x", "y"]].to_numpy(), codes, chosen, header, key="map-points")
            picks.take(event, points, codes, level)
            if selection.current() is not picked:
                st.rerun()
            picks.gallery(screen, model)
        with beside:
            if not (st.session_state.get(selection.OPENED) or st.session_state.get(selection.HOVERED)):
                st.caption("Rest on a point to see its cell; click to keep it here.")
            picks.one(screen, model, selection.OPENED, "Opened", buttons=True)
            picks.one(screen, model, selection.HOVERED, "Under the pointer", buttons=False)


if method == "umap" and not maps.stored(screen, model, level, "umap"):
    picks.offer_umap(screen, model, level)
else:
    explore_map()
