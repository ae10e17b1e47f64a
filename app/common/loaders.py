"""The app's one door to disk and models: cached reads, all of them together bounded by bytes (`app.common.kept`).

What a cache hands out is shared by all sessions: read it, do not write into it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import os
import threading
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.common import kept
from cytovae import schema
from cytovae.errors import BundleError, CytovaeError, ScreenError
from cytovae.learn import sampling
from cytovae.patches import PatchStore
from cytovae.profiling import plates, study
from cytovae.screen import Screen

if TYPE_CHECKING:
    from cytovae.learn.bundle import Bundle
    from cytovae.quiz.answers import Store

F = TypeVar("F", bound=Callable[..., Any])

SCREENS = "CYTOVAE_SCREENS"
"""Environment variable: folders of screens, joined by ``os.pathsep``."""
MODELS = "CYTOVAE_MODELS"
"""Environment variable: the folder of model bundles."""
QUIZ_DB = "CYTOVAE_QUIZ_DB"
"""Environment variable: SQLAlchemy URL of the quiz's database; else a SQLite file in the user's data folder."""


def stamp_of(*paths: Path) -> tuple[int, ...]:
    """What changes when one of the files does: time of change and size; 0 where it is missing."""
    marks: list[int] = []
    for path in paths:
        try:
            seen = path.stat()
            marks += [seen.st_mtime_ns, seen.st_size]
        except OSError:
            marks += [0, 0]
    return tuple(marks)


_LOOK = threading.local()


@contextlib.contextmanager
def one_look() -> Iterator[None]:
    """What is read from disk anew at each run of a page is read once within this."""
    if getattr(_LOOK, "seen", None) is not None:
        yield
        return
    _LOOK.seen = {}
    try:
        yield
    finally:
        _LOOK.seen = None


def _seen(key: Hashable, look: Callable[[], Any]) -> Any:
    seen = getattr(_LOOK, "seen", None)
    if seen is None:
        return look()
    if key not in seen:
        seen[key] = look()
    return seen[key]


def fingerprint(screen: Screen) -> tuple[Any, ...]:
    """What a screen is to a cache: its folder, and the stamps of its artefacts and of the models at hand."""
    return cast("tuple[Any, ...]", _seen(("fingerprint", str(screen.path)), lambda: _fingerprint(screen)))


def _fingerprint(screen: Screen) -> tuple[Any, ...]:
    folder = screen.path
    made = sorted(p for room in ("embeddings", "profiles", "results", "maps") for p in (folder / room).glob("*/*"))
    patches = sorted((folder / "patches").glob("part-*.npy"))[-1:]
    models = sorted(p for end in ("config.json", "weights.safetensors") for p in models_dir().glob(f"*/{end}"))
    files = [
        folder / "screen.json",
        screen.cells_path,
        screen.fields_path,
        screen.patches_path,
        *patches,
        *made,
        *models,
    ]
    return (str(folder), tuple(map(str, files)), stamp_of(*files))


def checkpoint() -> None:
    """End the script here if whoever looks has left or has chosen something else; long work calls it now and then.

    Streamlit ends scripts when they write to the page or ask for their state, and computations do neither.
    """
    if get_script_run_ctx(suppress_warning=True) is not None:
        _ = "checkpoint" in st.session_state


_KEPT = kept.Kept(kept.budget, checkpoint)


def cached(entries: int = 16, spinner: str = "", weigh: Callable[[Any], int] = lambda value: 0) -> Callable[[F], F]:
    """Keep what a function gives for all sessions, until a screen or a file among its arguments changes; all that is
    kept together is bounded by `app.common.kept.budget`.

    Parameters
    ----------
    entries : int
        Answers kept at most; those asked for longest ago go first.
    spinner : str
        What the page says while the function works.
    weigh : callable
        Bytes of an answer that do not show in its arrays.
    """

    def decorate(work: F) -> F:
        room, signature = f"{work.__module__}.{work.__qualname__}", inspect.signature(work)

        @functools.wraps(work)
        def answer(*values: Any, **named: Any) -> Any:
            given = signature.bind(*values, **named)
            given.apply_defaults()

            def make() -> Any:
                with st.spinner(spinner) if spinner else contextlib.nullcontext():
                    return work(*values, **named)

            return _KEPT.get(room, tuple(_key(value) for value in given.arguments.values()), make, entries, weigh)

        return cast("F", answer)

    return decorate


def _key(value: Any) -> Any:
    if isinstance(value, Screen):
        return fingerprint(value)
    if isinstance(value, Path):
        return str(value), stamp_of(value)
    if isinstance(value, tuple):
        return tuple(_key(each) for each in value)
    return kept.key_of(value)


def forget() -> None:
    """Forget all answers kept."""
    _KEPT.clear()


def _open_all() -> tuple[dict[str, Screen], list[str]]:
    found: dict[str, Screen] = {}
    broken: list[str] = []
    for path in filter(None, os.environ.get(SCREENS, "").split(os.pathsep)):
        try:
            screen = Screen.open(path)
            if not screen.cells_path.exists():
                raise ScreenError(f"{path} holds no cells yet; run 'cytovae ingest' to fill it")
            cells(screen)
        except CytovaeError as refused:
            broken.append(str(refused))
            continue
        name = screen.name if screen.name not in found else f"{screen.name} ({Path(path).name})"
        found[name if name not in found else str(path)] = screen
    return found, broken


def screens() -> dict[str, Screen]:
    """The screens that open, by name, in the order they were given."""
    return cast("dict[str, Screen]", _seen("screens", _open_all)[0])


def broken_screens() -> list[str]:
    """One sentence for every screen that was given and does not open."""
    return cast("list[str]", _seen("screens", _open_all)[1])


@cached(8)
def cells(screen: Screen) -> pd.DataFrame:
    """The screen's cells; the position of a row is the row of its patch."""
    table = screen.cells()
    schema.require_columns(table, schema.CELL_COLUMNS, f"{screen.path}/cells.parquet")
    schema.require_unique(table, schema.CELL_ID, f"{screen.path}/cells.parquet")
    return table


@cached(8)
def _rows(screen: Screen) -> pd.Series:
    table = cells(screen)
    return pd.Series(np.arange(len(table)), index=pd.Index(table[schema.CELL_ID]))


def rows(screen: Screen, cell_ids: list[str]) -> npt.NDArray[np.int64]:
    """Rows of cells by id.

    Raises
    ------
    ScreenError
        A cell is not in the screen.
    """
    found = _rows(screen).reindex(cell_ids)
    if found.isna().any():
        raise ScreenError(f"{screen.name} has no cell {found.index[found.isna()][0]!r}; choose one from its gallery")
    return found.to_numpy(np.int64)


@cached(8)
def _store(screen: Screen) -> PatchStore:
    store = PatchStore(screen.patches_path)
    if len(store) != len(cells(screen)):
        raise ScreenError(
            f"{screen.path} has {len(cells(screen))} cells but {len(store)} patches; run 'cytovae ingest --overwrite'"
        )
    return store


def patches(screen: Screen, rows: npt.ArrayLike) -> npt.NDArray[np.uint16]:
    """Raw patches by row of the screen's cells; what a browser is shown of them goes through `app.common.pixels`.

    Returns
    -------
    (len(rows), H, W, C) uint16

    Raises
    ------
    ScreenError
        There are not as many patches as cells.
    """
    checkpoint()
    return _store(screen).read(rows)


def field_of(screen: Screen, row: int) -> npt.NDArray[np.uint16] | None:
    """The field (H, W, C) that a cell's patch is read from, as acquired; None where the screen keeps its patches."""
    return _store(screen).field_of(row)


def models_dir() -> Path:
    """The folder of model bundles."""
    if given := os.environ.get(MODELS):
        return Path(given)
    from cytovae.learn import bundle

    return Path(bundle.shipped_dir())


def models(screen: Screen) -> list[str]:
    """Names of the bundles at hand: the screen is embedded with the first ones; a VAE+ comes before others."""
    names = [p.parent.name for p in models_dir().glob("*/config.json")]
    embedded = set(screen.models())
    return sorted(names, key=lambda name: (name not in embedded, describe(name).get("model") != "vae+", name))


def _watched(block: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def watched(given: Any) -> Any:
        checkpoint()
        return block(given)

    return watched


@cached(8, weigh=lambda made: int((made.path / "weights.safetensors").stat().st_size))
def _bundle(config: Path, weights: Path) -> Bundle:
    from cytovae.learn import bundle

    made = bundle.load(config.parent)
    return dataclasses.replace(made, encode_block=_watched(made.encode_block), decode_block=_watched(made.decode_block))


def bundle(name: str) -> Bundle:
    """A model, ready to encode and decode; safe to use from several sessions at once.

    Raises
    ------
    BundleError
        There is no such bundle, or it cannot be used.
    """
    path = models_dir() / name
    if not (path / "config.json").exists():
        raise BundleError(f"there is no model {name!r} in {models_dir()}; 'cytovae train' makes one")
    return _bundle(path / "config.json", path / "weights.safetensors")


def describe(name: str) -> dict[str, Any]:
    """What a model is, without loading it; empty where that cannot be read."""
    return _described(models_dir() / name / "config.json")


@cached(64)
def _described(config: Path) -> dict[str, Any]:
    found = read_json(config)
    return found if isinstance(found, dict) else {}


@st.cache_resource(max_entries=1, show_spinner=False)
def warm() -> None:
    """Start loading the first model in the background, so that the first path does not wait for torch."""
    names = [name for screen in screens().values() for name in models(screen)[:1]][:1]

    def load() -> None:
        from cytovae.learn import bundle

        for name in names:
            try:
                model = bundle.load(models_dir() / name)  # into the disk's cache, and torch into memory
                model.decode(np.zeros((1, model.latent_size), np.float32))
            except (CytovaeError, OSError, ValueError):
                return  # the page that needs it says why

    threading.Thread(target=load, daemon=True, name="warm").start()


@cached(8)
def embeddings(screen: Screen, model: str) -> tuple[pd.DataFrame, npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The embedded cells of a screen.

    Returns
    -------
    tuple of (DataFrame, (n, d) float32, (n,) int64)
        The cells in the order of the embeddings, the embeddings, and the cells' patch rows.
    """
    table, values = screen.embeddings(model)
    return table, values, rows(screen, table[schema.CELL_ID].tolist())


@cached(16)
def treatments(screen: Screen) -> pd.DataFrame:
    """One row per treatment, controls included: compound, concentration (uM), MoA, number of cells that are not blank;
    by MoA.
    """
    by = [schema.TREATMENT, schema.COMPOUND, schema.CONCENTRATION, schema.MOA]
    found = cells(screen)
    found = found[schema.not_blank(found)]
    grouped = found.groupby(by, dropna=False, sort=False, observed=True)
    wells = found[[*by, schema.PLATE, schema.WELL]].drop_duplicates().groupby(by, dropna=False, sort=False)
    table = pd.DataFrame({schema.N_CELLS: grouped.size(), schema.N_WELLS: wells.size()}).reset_index()
    return table.sort_values([schema.MOA, schema.COMPOUND, schema.CONCENTRATION], ignore_index=True)


@cached(16)
def activity(screen: Screen, model: str) -> pd.DataFrame | None:
    """Which treatments are active, by treatment, as ``cytovae activity`` kept it; None where it has not been run."""
    found = study.stored_activity(screen, model)
    return None if found is None else found.set_index(schema.TREATMENT)


named = schema.words


@cached(8)
def plate_warnings(screen: Screen) -> list[plates.Warning]:
    """What makes it hard to tell each treatment's effect from its plate's, by treatment."""
    return plates.warnings(cells(screen), screen.record.control)


def doubt_words(doubt: plates.Warning) -> str:
    """A warning with its treatment's name for people."""
    return f"{named(doubt.treatment)}{doubt.words.removeprefix(doubt.treatment)}"


def plate_doubts(screen: Screen, treatment: str) -> str:
    """The warnings about one treatment as a line of text; empty where there are none."""
    return " ".join(f"{doubt_words(w)}." for w in plate_warnings(screen) if w.treatment == treatment)


def read_json(path: Path) -> Any:
    """A JSON document, or None where there is none or none that can be understood."""
    import json

    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


@st.cache_resource(max_entries=4, show_spinner=False)
def _quiz_store(url: str) -> Store:
    from cytovae.quiz import answers

    return answers.Store(url)


def quiz_store() -> Store:
    """The quiz's database.

    Raises
    ------
    QuizError
        It cannot be opened.
    """
    from cytovae.quiz import answers

    return _quiz_store(os.environ.get(QUIZ_DB) or answers.default_url())


@st.cache_data(max_entries=16, ttl=10, show_spinner=False)
def _in_play(url: str, screen: str) -> tuple[frozenset[str], str]:
    from cytovae.errors import QuizError

    dialect, _, file = url.partition(":///")
    file = file.partition("?")[0]
    named = dialect.partition("+")[0] == "sqlite" and file and not file.startswith("file:")
    if named and not Path(file).exists():
        return frozenset(), ""  # nobody has taken the quiz: looking must not make its database
    try:
        return _quiz_store(url).cells_in_play(screen), ""
    except QuizError as closed:
        return frozenset(), str(closed)


def _play(screen: Screen) -> tuple[frozenset[str], str]:
    from cytovae.quiz import answers

    url = os.environ.get(QUIZ_DB) or answers.default_url()
    return cast("tuple[frozenset[str], str]", _seen(("play", screen.name), lambda: _in_play(url, screen.name)))


def in_play(screen: Screen) -> frozenset[str]:
    """Cells that lie in quizzes not finished, at most 10 s old: no other page shows them unasked."""
    return _play(screen)[0]


def forget_play() -> None:
    """Ask the quiz's database anew which cells lie in quizzes: one has just been closed."""
    _in_play.clear()
    if getattr(_LOOK, "seen", None) is not None:
        _LOOK.seen.clear()


def quiz_trouble(screen: Screen) -> str:
    """Why it is not known which cells lie in quizzes; empty where it is."""
    return _play(screen)[1]


def trained_patches(model: str) -> npt.NDArray[np.uint64] | None:
    """Digests of the patches that a model was trained on; None where it keeps none or cannot be read."""
    from cytovae.learn import bundle

    try:
        return bundle.trained_patches(models_dir() / model)
    except BundleError:
        return None  # the page that loads it says why


@cached(32)
def held_out(screen: Screen, model: str) -> npt.NDArray[np.bool_] | None:
    """Which of the screen's cells the model was not trained on: (n,) bool; None where it does not say."""
    return sampling.unseen(describe(model), trained_patches(model), screen, cells(screen))


def trained_on(screen: Screen, model: str) -> bool:
    """Whether the model was trained on cells of this screen."""
    return sampling.trained_on(describe(model), trained_patches(model), screen, cells(screen))
