"""The demo: a simulated screen, embedded, profiled and scored with the shipped models, each step the library's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from cytovae import locks, schema
from cytovae.cluster import cores
from cytovae.config import ScreenRecord
from cytovae.patches import PatchStore
from cytovae.screen import Screen, digest_file, read_provenance

NAME = "Phantom (simulated)"
MAP_CELLS = 100_000
"""Cells on a map at most."""

Tasks = Callable[[str], contextlib.AbstractContextManager[schema.Progress]]
"""Opens a progress line by its label."""


@contextlib.contextmanager
def unwatched(label: str) -> Iterator[schema.Progress]:
    """No progress line."""
    yield lambda done, total: None


def models_of(folder: Path) -> list[str]:
    """Names of the shipped models of the simulated screen, the VAE+ first."""
    return sorted((path.parent.name for path in folder.glob("phantom-*/config.json")), reverse=True)


def prepare(folder: Path, models: Path, tasks: Tasks = unwatched) -> Screen:
    """The simulated screen, embedded and profiled with the shipped models; what is finished already is left alone.

    Parameters
    ----------
    folder : Path
        Where raw fields and screen are made and kept.
    models : Path
        Of the bundles.
    tasks : callable
        Where progress is told.
    """
    from cytovae.ingest import assembly, layouts
    from cytovae.phantom import screen as phantom
    from cytovae.profiling import study
    from cytovae.profiling.profiles import Summary
    from cytovae.profiling.whiten import Options, Whitening

    raw, path = folder / "phantom.raw", folder / "phantom.screen"
    if not (raw / phantom.RECORD).exists():
        with tasks("drawing fields") as progress:
            phantom.write(raw, phantom.PhantomOptions(), None, progress)
    if not (path / "cells.parquet").exists():
        layout = layouts.bbbc021.read(raw)
        source, licence = layouts.bbbc021.origin(raw)
        record = ScreenRecord(name=NAME, channels=layout.channels, source=source, licence=licence)
        with tasks("fields") as progress:
            assembly.ingest_fields(layout, raw, path, record, workers=cores(), progress=progress)
    screen, names = Screen.open(path), models_of(models)
    waiting = [name for name in names if not _embedded(screen, models / name)]
    if waiting:  # torch is loaded only here
        from cytovae.learn import bundle, embed

        for name in waiting:
            with tasks(f"embed with {name}") as progress:
                embed.embed(screen, bundle.load(models / name), progress)
    for name in names:
        study.profile(screen, name, Summary.mean, Options(Whitening.none), tasks=tasks)
        study.measure_activity(screen, name, tasks=tasks)
    _map(screen, names, "pca")
    return screen


def deepen(
    screen: Screen, models: Path, tasks: Tasks = unwatched, say: Callable[[str], None] = lambda text: None
) -> None:
    """What takes longer and the app shows when it is there: every score, and UMAPs; what is up to date is left alone.

    Parameters
    ----------
    screen : Screen
        What `prepare` made.
    models : Path
        Of the bundles.
    tasks, say : callable
        Where progress is told, and a line at a time what a person should know.
    """
    from cytovae.profiling import study
    from cytovae.profiling.profiles import Summary
    from cytovae.profiling.whiten import FewControls, Whitening

    names = models_of(models)
    if not all((screen.results_path(name) / "scores.json").exists() for name in names):
        say("scoring the models against the known mechanisms; the app shows it when it is done")
    columns = study.columns(list(Summary), list(Whitening), None, FewControls.error)
    scoring = study.Benchmark(columns, strict=False, figures=True, tasks=tasks)
    with locks.held(screen.path / "results", "scoring"):  # the app says so meanwhile
        scoring.of_models([screen], names, PatchStore)
    _map(screen, names, "umap", say)


def _embedded(screen: Screen, bundle: Path) -> bool:
    """Whether the screen is embedded with these very weights."""
    index = screen.embeddings_path(bundle.name) / "index.parquet"
    return index.exists() and read_provenance(index)["inputs"].get("weights") == digest_file(
        bundle / "weights.safetensors"
    )


def _map(screen: Screen, names: list[str], method: str, say: Callable[[str], None] = lambda text: None) -> None:
    from cytovae.explore import maps

    for name in names:
        maps.store(screen, name, [method], MAP_CELLS, say=say)
