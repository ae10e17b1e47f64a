"""A mechanism by dose in one figure, to look at and to take along."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import streamlit as st

from app.common import address, context, loaders, pixels, selection
from app.common.words import plain
from cytovae import schema
from cytovae.explore import montage, render
from cytovae.screen import Screen


def slide(screen: Screen) -> None:
    """The montage of a mechanism."""
    models = [name for name in loaders.models(screen) if name in screen.models()]
    if not models:
        st.info("Typical cells are found by embeddings: run 'cytovae embed' first.", icon=":material/info:")
        return
    table = loaders.treatments(screen)
    names = sorted(table.loc[table[schema.COMPOUND] != screen.record.control, schema.MOA].astype(str).unique())
    if not names:
        st.info(plain(f"{screen.name} holds only {screen.record.control} cells."), icon=":material/info:")
        return
    now = selection.current()
    wanted = next(iter(now.keys)) if now is not None and now.level == "mechanisms" else names[0]
    one, two, three, four = st.columns([1.4, 1, 0.9, 0.7])
    with one:
        default = wanted if wanted in names else names[0]
        mechanism = context.choose("Mechanism", "slide-mechanism", names, default=default)
    with two:
        model = context.choose("Model", "slide-model", models)
    with three:
        words = {str(look): look.words for look in render.Look}
        look = render.Look(context.choose("Look", "slide-look", list(words), words=words))
    address.settle_part()
    gamma = four.number_input("Gamma", 0.3, 2.0, 1.0, 0.1, key="slide-gamma")
    says = f"{mechanism}: at each dose the typical and the most changed cell"
    st.image(_drawn(screen, model, mechanism, look, gamma, montage.Form.PNG), alt=says)
    st.caption(
        "Each dose with its typical cell, the one nearest to the mean of the treatment's cells, and its most changed "
        "one, which lies farthest from the controls in the treatment's own direction. All pictures have one contrast."
    )
    with st.container(horizontal=True, gap="small"):
        for form in montage.Form:
            st.download_button(
                form.upper(),
                functools.partial(_drawn, screen, model, mechanism, look, gamma, form),
                f"{mechanism.replace(' ', '_').replace('/', '_')}.{form}",
                icon=":material/download:",
                key=f"slide-{form}",
                on_click="ignore",
            )


def _drawn(screen: Screen, model: str, mechanism: str, look: render.Look, gamma: float, form: montage.Form) -> bytes:
    """The figure as a file; cells of unfinished quizzes are black in it."""
    cells, z, _ = loaders.embeddings(screen, model)
    chosen = montage.choose(cells, z, mechanism, screen.record.control)

    def pictures(ids: list[str]) -> npt.NDArray[np.float32]:
        return pixels.of_cells(screen, loaders.rows(screen, ids)).images

    made = montage.record(screen, model, mechanism, look, gamma)
    record = screen.record
    return montage.figure(chosen, pictures, record.channels, record.pixel_size_um, form, look, gamma, made)
