"""One trial after the other, each in a child process that may die of it, and what became of them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

SECONDS = 120
"""A trial that takes longer hangs."""
MEMORY = 2 * 2**30
"""Bytes that a trial may ask for beyond what the process had."""
FATES = ("refused", "accepted", "traceback", "wrong", "hung", "leftovers")


@dataclasses.dataclass
class Ended:
    """How a verb ended."""

    status: int
    out: str
    err: str
    broke: str = ""  # the traceback, where there was one


def warm() -> None:
    """Put the verbs together once and not in every trial; that is two thirds of the time of a refusal."""
    import typer.main

    from cytovae.cli import console, verbs  # noqa: F401

    typer.main.get_command = functools.cache(typer.main.get_command)
    typer.main.get_command(console.app)


def verb(*words: object) -> Ended:
    """A verb as the command line runs it, in this process."""
    from cytovae.cli import verbs

    out, err, before, broke = io.StringIO(), io.StringIO(), sys.argv, ""
    sys.argv = ["cytovae", *map(str, words)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            verbs.run()
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        except BaseException:
            status, broke = 1, traceback.format_exc()
        finally:
            sys.argv = before
    return Ended(status, out.getvalue(), err.getvalue(), broke)


def judge(ended: Ended) -> tuple[str, str]:
    """The fate of a verb and what is to be said of it: one sentence after ``cytovae:``, or a usage of typer's."""
    said = [line for line in ended.err.splitlines() if line.startswith("cytovae: ")]
    if ended.broke or "Traceback" in ended.err:
        return "traceback", ended.broke or ended.err[-2000:]
    if ended.status == 0:
        return "accepted", ""
    if ended.status == 2 and (said or "Usage:" in ended.err):
        return "refused", (said or ["usage"])[-1]
    if ended.status == 1 and len(said) == 1 and len(said[0]) < 5000:
        return "refused", said[0]
    return "wrong", f"status {ended.status} without its one sentence: {ended.err[-300:]!r}"


@dataclasses.dataclass
class Attack:
    """A way to break something.

    Parameters
    ----------
    name : str
    act : callable
        (rng, folder) -> fate and what is to be said; the folder is its own and empty, and the working directory.
    memory : int
        Bytes that a trial may ask for beyond what the process had.
    """

    name: str
    act: Callable[[np.random.Generator, Path], tuple[str, str]]
    memory: int = MEMORY


@dataclasses.dataclass
class Row:
    """What became of the trials of one attack."""

    name: str
    all: list[tuple[int, str, str]] = dataclasses.field(default_factory=list)  # seed, fate, what was seen

    @property
    def bad(self) -> list[tuple[int, str, str]]:
        return [one for one in self.all if one[1] not in ("refused", "accepted")]

    @property
    def counts(self) -> dict[str, int]:
        fates = [fate for _, fate, _ in self.all]
        return {fate: fates.count(fate) for fate in FATES}

    @property
    def tried(self) -> int:
        return len(self.all)

    def add(self, seed: int, fate: str, said: str) -> None:
        self.all.append((seed, fate, said))


def run(attack: Attack, seeds: Sequence[int], folder: Path, seconds: int = SECONDS) -> Row:
    """Try an attack with every seed. A child does one after the other; where one kills it, another goes on."""
    row, todo = Row(attack.name), list(seeds)
    while todo:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _work(attack, todo, folder, seconds, writing)
        os.close(writing)
        with os.fdopen(reading) as lines:
            for line in lines:
                seed, fate, said = json.loads(line)
                row.add(seed, fate, said)
                todo.remove(seed)
        _, status = os.waitpid(child, 0)
        if todo and status:
            hung = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
            row.add(todo.pop(0), "hung" if hung else "traceback", f"ended the process: {status}")
    return row


def _work(attack: Attack, seeds: list[int], folder: Path, seconds: int, writing: int) -> None:
    """Never returns."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + attack.memory,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, whatever it is doing
        for seed in seeds:
            place = folder / f"{attack.name.replace(' ', '-').replace('/', '-')}-{seed}"
            place.mkdir()
            os.chdir(place)
            signal.alarm(seconds)
            try:
                fate, said = attack.act(np.random.default_rng(seed), place)
            except BaseException:
                fate, said = "traceback", traceback.format_exc()
            signal.alarm(0)
            os.chdir(folder)
            shutil.rmtree(place, ignore_errors=True)
            os.write(writing, (json.dumps([seed, fate, said[-3000:]]) + "\n").encode())
    finally:
        os._exit(0)


def left(folder: Path, *expected: str) -> str:
    """What lies in a folder beside what is expected there, hidden files too."""
    there = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))
    return ", ".join(name for name in there if name.split("/")[0] not in expected or Path(name).name.startswith("."))


def table(rows: list[Row], seconds: float) -> str:
    """What, how many, and what became of them, as Markdown."""
    heads = ["what", "tried", *FATES]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in rows:
        lines.append(f"| {row.name} | {row.tried:,} | " + " | ".join(f"{row.counts[f]:,}" for f in FATES) + " |")
    total = {f: sum(row.counts[f] for row in rows) for f in FATES}
    lines.append(f"| all | {sum(total.values()):,} | " + " | ".join(f"{n:,}" for n in total.values()) + " |")
    return "\n".join(lines) + f"\n\n{time.strftime('%Y-%m-%d')}, {seconds:,.0f} s of a processor\n"
