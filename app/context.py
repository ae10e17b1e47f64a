"""What every page begins with: the choice of screen and model, empty states, and errors as one sentence."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import streamlit as st

from app import loaders
from cytovae import schema
from cytovae.errors import CytovaeError
from cytovae.screen import Screen

LOG = logging.getLogger("cytovae.app")

NO_SCREEN = """
#### No screen is open yet

A *screen* is a folder of single-cell images with their treatments. To look around without any data of your own, type

```
cytovae demo
```

It simulates a small screen, embeds it with the models that come along, and opens this app on it. With images at hand:

```
cytovae ingest bbbc021 RAW_DIR my.screen     # or: ingest loaddata, ingest crops
cytovae embed my.screen MODEL
cytovae app my.screen
```
"""

NO_MODEL = """
#### No model is at hand

A *model* turns a cell into 256 numbers and those numbers back into a cell. Train one on this screen with

```
cytovae train {screen} models/vaeplus --model vae+
cytovae embed {screen} models/vaeplus
```

and start the app with `--models models`. The folder looked into is `{folder}`.
"""


@contextlib.contextmanager
def page_errors() -> Iterator[None]:
    """Show whatever goes wrong inside as one sentence; the log keeps the rest."""
    try:
        yield
    except CytovaeError as refused:
        st.error(str(refused), icon=":material/error:")
    except Exception as failed:
        LOG.exception("a page failed")
        st.error(
            f"This page met something it did not foresee ({type(failed).__name__}); the server's log has the details. "
            "Choose another cell or model, or reload the page.",
            icon=":material/error:",
        )


def choose_screen() -> Screen:
    """The screen to show; stops the page with what to do where there is none."""
    for sentence in loaders.broken_screens():
        st.warning(sentence, icon=":material/warning:")
    found = loaders.screens()
    if not found:
        st.markdown(NO_SCREEN)
        st.stop()
    name = st.selectbox("Screen", list(found), key="screen", bind="query-params", persist_state="session")
    screen = found[name if name in found else next(iter(found))]
    if not len(loaders.cells(screen)):
        st.info(
            f"{screen.name} has no cells: every field was refused, or it was made from an empty table. "
            "The Screen page lists the reasons.",
            icon=":material/info:",
        )
        st.stop()
    return screen


def choose_model(screen: Screen, *, embedded: bool = True) -> str:
    """The model to show; stops the page with what to do where there is none, or none that the screen knows."""
    names = loaders.models(screen)
    if not names:
        st.markdown(NO_MODEL.format(screen=screen.path, folder=loaders.models_dir()))
        st.stop()
    name = st.selectbox("Model", names, key="model", bind="query-params", persist_state="session")
    name = name if name in names else names[0]
    if embedded and name not in screen.models():
        st.info(
            f"{screen.name} has not been embedded with {name}. Run `cytovae embed {screen.path} "
            f"{loaders.models_dir() / name}`, then reload this page.",
            icon=":material/info:",
        )
        st.stop()
    return name


def treatment_labels(screen: Screen) -> dict[str, str]:
    """Treatments but the controls, by mechanism, as a searchable list shows them."""
    table = loaders.treatments(screen)
    table = table[table[schema.COMPOUND] != screen.record.control]
    names, moas, counts = table[schema.TREATMENT], table[schema.MOA], table[schema.N_CELLS]
    return {
        str(name): f"{name} µM · {moa} · {count:,} cell{'s' * (count != 1)}"
        for name, moa, count in zip(names, moas, counts, strict=True)
    }


def choose_treatment(screen: Screen) -> str:
    """A treatment other than the control; stops the page where there is none."""
    labels = treatment_labels(screen)
    if not labels:
        st.info(
            f"{screen.name} holds only {screen.record.control} cells, so there is nothing to compare them with. "
            "Ingest treated wells too.",
            icon=":material/info:",
        )
        st.stop()
    name = st.selectbox(
        "Treatment", list(labels), format_func=labels.get, key="treatment", bind="query-params", persist_state="session"
    )
    return name if name in labels else next(iter(labels))


def choose_target(screen: Screen, model: str, treatment: str) -> str:
    """How the target cell is chosen: ``mean``, ``subpopulation:K`` or a cell id."""
    return st.selectbox("Target cell", ["mean"], key="target", accept_new_options=True)


def choose_control(screen: Screen) -> str:
    """How the control cell is chosen: ``plate``, ``screen`` or a cell id."""
    return st.selectbox("Control cell", ["plate", "screen"], key="control", accept_new_options=True)
