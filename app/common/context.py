"""What every page begins with: the choice of screen and model, empty states, and errors as one sentence."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import streamlit as st

from app.common import address, loaders, panels, selection
from app.common.words import begun, plain
from cytovae import schema
from cytovae.errors import CytovaeError
from cytovae.explore.targets import Start, Target
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

and start the app with `cytovae app {screen} --models models`. The folder looked into is `{folder}`.
"""


DRAWN_ON = "drawn-on"
"""Session state: the page on which the widget of each key was drawn last."""
MODEL_OF = "model-of"
"""Session state: the folder of the screen that a model was last chosen for."""
UNKNOWN = "unknown-in-link"
"""Session state: sentences about what a link names and is not there."""


NOUNS = {
    "mode": "route",
    "spacing": "kind of steps",
    "versus": "second treatment",
    "from": "treatment to start from",
    "plate-colour": "colour of the plate",
}
"""What a parameter of the address is called, where that is not its own name."""


def say_unknown() -> None:
    """Say what the link named in vain; shown once, above the page."""
    for sentence in st.session_state.pop(UNKNOWN, []):
        st.warning(plain(sentence), icon=":material/link_off:")


def linked(
    key: str, options: Sequence[str], default: str, *, free: bool = False, words: Mapping[str, str] | None = None
) -> str:
    """What a widget is to start with: what a page asked for, a link's that was opened, its own last value, the default.

    Call it before the widget of this `key`; `address.put` after it, so that the address always restores the view. A
    page asks for a value by ``st.session_state["next-<key>"]``, because a widget that is drawn cannot be set any more.

    Parameters
    ----------
    key : str
        Of the widget and of the address's parameter.
    options : sequence of str
        What can be chosen.
    default : str
        Where none is usable.
    free : bool
        Take values that are not among the options, such as cell ids; the loaders refuse those that are not there.
    words : mapping of str to str, optional
        How options are shown.
    """
    named = address.news(key)
    own = st.session_state.get(key, address.last(key))
    for value in (st.session_state.pop(f"next-{key}", None), named, own):
        if value and (free or value in options):
            break
    else:
        value = default
    if named is not None and named not in options and not free:
        shown = (words or {}).get(value, loaders.named(value) if key == "treatment" else value)
        there = f"showing {shown} instead" if value else "nothing is shown"
        sentence = f"The link names the {NOUNS.get(key, key)} {named[:80]!r}, which is not here; {there}."
        st.session_state.setdefault(UNKNOWN, []).append(sentence)
    value = str(value)  # an enum's member would be a choice of its own
    page, drawn_on = st.session_state.get(selection.PAGE), st.session_state.setdefault(DRAWN_ON, {})
    # on another page Streamlit draws the widget with its default, unless it was clicked or is told
    if st.session_state.get(key) != value or drawn_on.get(key) != page:
        st.session_state[key] = value
    drawn_on[key] = page
    return value


def choose(
    label: str,
    key: str,
    options: Sequence[str],
    *,
    words: Mapping[str, str] | None = None,
    free: bool = False,
    default: str | None = None,
    **more: Any,
) -> str:
    """A select box whose value stands in the address and outlives a change of page.

    Parameters
    ----------
    options : sequence of str
        What can be chosen.
    default : str, optional
        Where neither the session nor the link says; the first of the options where not given.
    words : mapping of str to str, optional
        How options are shown.
    free : bool
        Anything may be typed.
    **more
        For ``st.selectbox``.
    """
    default = options[0] if default is None else default
    value = linked(key, options, default, free=free, words=words)
    if free and value not in options:  # typed: a part of what one option says is that option
        alike = [option for option in options if value.lower() in (words or {}).get(option, option).lower()]
        if len(alike) == 1 and len(value) > 3:
            st.session_state[key] = value = alike[0]
    options = [*options, *([value] if value not in options else [])]
    answer = st.selectbox(
        label,
        options,
        format_func=lambda option: (words or {}).get(option, option),
        key=key,
        accept_new_options=free,
        persist_state="session",
        **more,
    )
    address.put(key, answer or default)
    return answer or default


def tabs(key: str, names: Sequence[str]) -> Sequence[Any]:
    """Tabs of which the open one stands in the address; draw only what is under one whose ``open`` is true."""
    linked(key, names, names[0])
    made = st.tabs(list(names), key=key, on_change="rerun")
    address.put(key, str(st.session_state[key]))
    address.settle_part()
    return made


@contextlib.contextmanager
def page_errors() -> Iterator[None]:
    """Show whatever goes wrong inside as one sentence; the log keeps the rest. Disk is looked at once inside."""
    try:
        with loaders.one_look():
            yield
    except CytovaeError as refused:
        st.error(plain(begun(str(refused))), icon=":material/error:")
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
        st.warning(plain(sentence), icon=":material/warning:")
    found = loaders.screens()
    if not found:
        st.markdown(NO_SCREEN)
        st.stop()
    screen = found[choose("Screen", "screen", list(found), label_visibility="collapsed")]
    if trouble := loaders.quiz_trouble(screen):
        st.warning(f"{plain(trouble)}. Cells of unfinished quizzes cannot be left out here.", icon=":material/warning:")
    if not len(loaders.cells(screen)):
        st.info(
            f"{plain(screen.name)} has no cells: every field was refused. The Screen page lists the reasons.",
            icon=":material/info:",
        )
        st.stop()
    return screen


def choose_model(screen: Screen, *, embedded: bool = True) -> str:
    """The model to show; stops the page with what to do where there is none.

    A screen that is not embedded with the model of the screen before shows the first that it is embedded with.
    """
    names = _offered(screen, [name for name in loaders.models(screen) if name in screen.models() or fits(screen, name)])
    ready = [name for name in names if name in screen.models()]
    before = st.session_state.get(MODEL_OF, str(screen.path))
    of_another = before != str(screen.path) and st.session_state.get("model", address.last("model")) not in ready
    if embedded and ready and of_another:
        st.session_state.setdefault("next-model", ready[0])
    st.session_state[MODEL_OF] = str(screen.path)
    return choose("Model", "model", names, label_visibility="collapsed")


def treatment_labels(screen: Screen) -> dict[str, str]:
    """Treatments but the controls, by mechanism, as a searchable list shows them."""
    return dict(_labels(screen))


@loaders.cached(8)
def _labels(screen: Screen) -> dict[str, str]:
    table = loaders.treatments(screen)
    table = table[table[schema.COMPOUND] != screen.record.control]
    names, moas, counts = table[schema.TREATMENT], table[schema.MOA], table[schema.N_CELLS]
    return {
        str(name): f"{loaders.named(str(name))} · {moa} · {count:,} cell{'s' * (count != 1)}"
        for name, moa, count in zip(names, moas, counts, strict=True)
    }


def choose_treatment(screen: Screen, default: str | None = None) -> str:
    """A treatment other than the control; stops the page where there is none.

    Parameters
    ----------
    default : str, optional
        The one to open with; the first of the list where not given.
    """
    labels = treatment_labels(screen)
    if not labels:
        st.info(
            f"{plain(screen.name)} holds only {plain(screen.record.control)} cells, so there is nothing to compare "
            "them with. Ingest treated wells too.",
            icon=":material/info:",
        )
        st.stop()
    return choose(
        "Treatment",
        "treatment",
        list(labels),
        words=labels,
        default=default if default in labels else None,
        on_change=lambda: st.session_state.update(target=""),  # its own usual one
    )


def choose_target(default: Target = Target.MEAN) -> str:
    """How the target cell is chosen: ``mean``, ``responding``, ``subpopulation:K`` or a cell id."""
    words = {each.value: each.words for each in Target}
    how = "pick one under Cells, or type a cell id"
    return choose("Target cell", "target", list(words), words=words, free=True, default=default, help=how)


def choose_control(start: str | None = None) -> str:
    """How the control cell is chosen: ``auto``, ``random`` or a cell id.

    Parameters
    ----------
    start : str, optional
        The treatment that the path starts from instead, by its most central cell: there is nothing to choose.
    """
    if start is not None:
        shown = f"most central cell of {loaders.named(start)}"
        st.selectbox("Start cell", [shown], disabled=True, key=f"start-of-{start}", help="see Path, Start from")
        address.put("control", address.last("control") or Start.AUTO.value)
        return Start.AUTO.value
    words = {each.value: each.words for each in Start}
    how = (
        "of the target's plate where that has enough control cells, else of its batch, else of the screen; the badge "
        "above the pictures says which. Pick one under Cells, or type a cell id"
    )
    return choose("Control cell", "control", list(words), words=words, free=True, help=how)


def choose_start(screen: Screen, treatment: str) -> str | None:
    """A treatment to start from instead of a control, or None."""
    labels = {"control": f"a {screen.record.control} cell", **treatment_labels(screen)}
    labels.pop(treatment, None)
    name = choose("Start from", "from", list(labels), words=labels)
    return None if name == "control" else name


def fitting_models(screen: Screen) -> list[str]:
    """Models made for the screen's channels and patches; stops the page with what to do where there is none."""
    return _offered(screen, [name for name in loaders.models(screen) if fits(screen, name)])


def fits(screen: Screen, model: str) -> bool:
    """Whether a model was made for the screen's channels and patch size."""
    made, record = loaders.describe(model), screen.record
    return made.get("channels") == list(record.channels) and made.get("patch_size_px") == record.patch_size_px


def _offered(screen: Screen, names: list[str]) -> list[str]:
    """Models to choose from; where there is none the page stops and says what to do."""
    if names:
        return names
    if not loaders.models(screen):
        st.markdown(NO_MODEL.format(screen=screen.path, folder=loaders.models_dir()))
        st.stop()
    st.info(
        f"None of the models in {loaders.models_dir()} was made for {screen.name}'s channels "
        f"({', '.join(screen.record.channels)}) and patches of {screen.record.patch_size_px} px; train one on it with "
        f"`cytovae train {screen.path} models/vaeplus --model vae+`, embed with it and start the app with "
        "`--models models`.",
        icon=":material/info:",
    )
    st.stop()


def counter(label: str, key: str, icon: str | None = None) -> int:
    """A button that counts, its count in the address: another draw at every press, the same one for the same link."""
    now = int(linked(key, [], "0", free=True)) if linked(key, [], "0", free=True).isdigit() else 0
    if st.button(label, icon=icon, key=f"{key}-button", width="stretch"):
        now += 1
    st.session_state[key] = str(now)
    address.put(key, str(now))
    return now


def header(
    title: str, *, model: bool = True, embedded: bool = True, panel: panels.Panel | None = None
) -> tuple[Screen, str]:
    """The head of a page: its title, its help panel, the screen and, where asked for, the model; under them what is
    selected.
    """
    selection.leave()
    with st.container(key="header"):
        words, left, right = st.columns([2.4, 1, 1], vertical_alignment="bottom")
    with words, st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.title(title, width="content", anchor=False)
        if panel is not None:
            panels.show(panel)
    with left if model else right:
        screen = choose_screen()
    name = ""
    if model:
        with right:
            name = choose_model(screen, embedded=embedded)
    if sentence := selection.sync(screen):
        st.session_state.setdefault(UNKNOWN, []).append(sentence)
    selection.bar(screen, name)
    if name and embedded and name not in screen.models():
        st.info(
            f"{plain(screen.name)} has not been embedded with {plain(name)}. Run `cytovae embed {screen.path} "
            f"{loaders.models_dir() / name}`, then reload this page, or choose another model.",
            icon=":material/info:",
        )
        st.stop()
    return screen, name
