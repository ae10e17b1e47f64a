"""What all verbs share: the typer app, progress on stderr, results on stdout, errors as one sentence."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import typer

from cytovae.schema import Progress

app = typer.Typer(
    name="cytovae",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="See what a drug does to a cell.",
)
ingest_app = typer.Typer(no_args_is_help=True, help="Raw fields or crops -> a screen of cells.")
fetch_app = typer.Typer(no_args_is_help=True, help="Public data sets, resumable and checked.")
app.add_typer(ingest_app, name="ingest")
app.add_typer(fetch_app, name="fetch")


def where(workers: int | None, cluster: str | None) -> int | str:
    """Where work is done: a number of processes, or a cluster."""
    from cytovae.cluster import cores

    if workers and cluster is not None:
        raise typer.BadParameter("processes here or a cluster, not both", param_hint="--cluster")
    return cluster if cluster is not None else workers or cores()


@contextlib.contextmanager
def progress(label: str) -> Iterator[Progress]:
    """A progress line with n / N and the time left, on stderr; yields the callback to hand to the work."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def say(text: str) -> None:
    """A line for the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


def already(what: object) -> None:
    """Say that there was nothing to do."""
    say(f"{what} is already there; --overwrite makes it again")


def emit(document: dict[str, Any], as_json: bool, text: str = "") -> None:
    """The result of a verb on stdout: exactly one JSON document with ``--json``, else `text`."""
    if as_json:
        print(json.dumps(document, allow_nan=False))
    elif text:
        print(text)
