"""Steps that are killed, run out of space, may not write, or are started twice: nothing is lost, nothing left over."""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..ingest.drawn import write_raw
from . import trial
from .inputs import CHANNELS, Material
from .trial import Attack

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.rmtree"}


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of the product.

    Parameters
    ----------
    name : str
    command : sequence of str
        Run in a folder with the inputs.
    again : sequence of str
        What a person types after it was stopped.
    inputs : mapping of str to Path
        Copied (or for raw data linked) under these names beforehand.
    links : tuple of str
        Which of the inputs are only read, and linked.
    """

    name: str
    command: tuple[str, ...]
    inputs: dict[str, Path]
    again: tuple[str, ...] = ()
    links: tuple[str, ...] = ()

    def lay(self, folder: Path) -> None:
        """Put the inputs into a folder."""
        for name, source in self.inputs.items():
            if name in self.links:
                (folder / name).symlink_to(source)
            elif source.is_dir():
                shutil.copytree(source, folder / name)
            else:
                shutil.copy2(source, folder / name)


def steps(folder: Path, material: Material) -> list[Step]:
    """Every step that writes."""
    raw = write_raw(folder / "raw", plates=("Week1_001",), sites=2, count=4).folder
    base = folder / "material"
    crops = {"cells.npz": base / "cells.npz", "table.csv": base / "table.csv"}
    screen, made = {"a.screen": material.screen}, {"a.screen": material.screen, "pca": material.bundle}
    bare = folder / "bare.screen"
    shutil.copytree(material.screen, bare)
    for room in ("embeddings", "profiles", "maps", "results"):
        shutil.rmtree(bare / room, ignore_errors=True)
    values = np.random.default_rng(1).normal(size=(12, 3)).astype(np.float32)
    np.savez(folder / "other.npz", cell_id=np.array([f"c{i}" for i in range(12)]), embeddings=values)
    of_raw = ("ingest", "bbbc021", "raw", "out.screen", "--workers", "1")
    of_crops = ("ingest", "crops", "out.screen", "--images", "cells.npz", "--table", "table.csv")
    grown, shared = folder / "grown", folder / "shared"
    later = write_raw(folder / "later", plates=("Week3_003",), wells=("B02", "B03"), count=3).folder
    for place in (grown, shared):
        place.mkdir()
        (place / "raw").symlink_to(raw)
    begun = [("a.screen", grown, ())] + [("out.screen", shared, ("--shard", f"{k}/2")) for k in (1, 2)]
    for name, place, more in begun:
        status, err, _, _ = once((*of_raw[:3], name, *of_raw[4:], *more), place)
        assert status == 0, err
    work = {"out.screen.ingest": shared / "out.screen.ingest", "raw": raw}
    training = ("train", "a.screen", "vae", "--model", "vae", "--iterations", "3", "--batch-size", "2")
    training += ("--checkpoint-every", "1", "--pictures-every", "2")
    return [
        Step("ingest fields", of_raw, {"raw": raw}, links=("raw",)),
        Step("ingest on demand", (*of_raw, "--patches", "on-demand"), {"raw": raw}, links=("raw",)),
        Step("ingest crops", (*of_crops, "--channels", CHANNELS, "--patch-size-px", "36", "--rescale", "none"), crops),
        Step(
            "append",
            ("append", "a.screen", "later"),
            {"a.screen": grown / "a.screen", "raw": raw, "later": later},
            links=("raw", "later"),
        ),
        Step("merge", ("merge", "out.screen"), work, links=("raw",)),
        Step("embed", ("embed", "a.screen", "pca"), {"a.screen": bare, "pca": material.bundle}),
        Step("embed again", ("embed", "a.screen", "pca", "--overwrite"), made),
        Step(
            "import",
            ("import", "embeddings", "a.screen", "e.npz", "--name", "e"),
            screen | {"e.npz": folder / "other.npz"},
        ),
        Step("profile", ("profile", "a.screen", "pca", "--overwrite"), made),
        Step("activity", ("activity", "a.screen", "pca"), made),
        Step("export", ("export", "a.screen", "crops", "--to", "crops"), screen),
        Step("benchmark", ("benchmark", "a.screen", "pca", "--no-figures"), made),
        Step("train", training, {"a.screen": bare}, again=(*training, "--resume")),
    ]


def contents(folder: Path) -> dict[str, str]:
    """What a folder holds, by name; times that are measured or taken from files do not count."""
    held = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or name.endswith("training.jsonl"):
            continue
        if path.name in ("images.parquet", "sources.json"):
            held[name] = "its stamps differ"
        else:
            held[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return held


def once(
    command: Sequence[str],
    folder: Path,
    *,
    after: float | None = None,
    at: int | None = None,
    before: Callable[[], Any] = lambda: None,
) -> tuple[int, str, int, float]:
    """A verb in a child process of its own, perhaps killed.

    Parameters
    ----------
    after : float, optional
        Seconds until it is killed.
    at : int, optional
        The change of a file before which it is killed, from 1.
    before : callable
        Called in the child first.

    Returns
    -------
    tuple of (int, str, int, float)
        Status (-9: killed), what stood on stderr, how many files were changed, seconds.
    """
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(command, folder, at, before, writing)
    os.close(writing)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, errors="replace") as said:
        text = said.read()
    _, status = os.waitpid(child, 0)
    count, _, err = text.partition("\n")
    ended = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return ended, err, int(count or 0), time.monotonic() - started


def _child(command: Sequence[str], folder: Path, at: int | None, before: Callable[[], Any], writing: int) -> None:
    """Never returns."""
    try:
        from cytovae import locks
        from cytovae.learn import embed

        locks.sweep.cache_clear()
        embed.PART_CELLS = 4  # type: ignore[misc]  # several parts of a small screen
        os.chdir(folder)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(300)
        changes = 0

        def seen(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal changes
            opened = event == "open" and isinstance(arguments[1], str) and arguments[1][:1] in "wxa"
            if opened or event in _CHANGES:
                changes += 1
                if changes == at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(seen)
        before()
        ended = trial.verb(*command)
        os.write(writing, f"{changes}\n{ended.broke}{ended.err[-3000:]}".encode())
        os._exit(ended.status)
    except BaseException:
        os.write(writing, f"0\n{traceback.format_exc()}".encode())
    finally:
        os._exit(99)


def one_sentence(status: int, err: str) -> str:
    """Nothing, or what is wrong with the end of a verb that could not do its work."""
    said = [line for line in err.splitlines() if line.startswith("cytovae: ")]
    return "" if status == 1 and len(said) == 1 and "Traceback" not in err else f"status {status}: {err[-1500:]}"


def unprivileged() -> None:
    """Take from root what lets it write anywhere (Linux' capabilities); files it owns stay readable."""
    if os.getuid() == 0:
        head, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None).capset(head, none) == 0


class Steps:
    """Steps with what they leave when nobody disturbs them."""

    def __init__(self, folder: Path, material: Material, only: Sequence[str] = ()) -> None:
        self.all = [step for step in steps(folder, material) if not only or step.name in only]
        self.whole: dict[str, dict[str, str]] = {}
        self.changes: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        for step in self.all:
            place = folder / f"undisturbed {step.name}"
            place.mkdir()
            step.lay(place)
            status, err, self.changes[step.name], self.seconds[step.name] = once(step.command, place)
            assert status == 0, f"{step.name}: {err}"
            self.whole[step.name] = contents(place)

    def same(self, step: Step, folder: Path) -> tuple[str, str]:
        """The step again, undisturbed; and what it left beside what it should have."""
        status, err, _, _ = once(step.again or step.command, folder)
        if status:
            return (
                "traceback" if "Traceback" in err else "wrong"
            ), f"not to be repeated: status {status}: {err[-1500:]}"
        got, whole = contents(folder), self.whole[step.name]
        if more := got.keys() - whole.keys():
            return "leftovers", ", ".join(sorted(more))
        if other := [name for name in whole if got.get(name) != whole[name]]:
            return "wrong", f"other bytes: {', '.join(other[:5])}"
        return "accepted", ""

    def killed(self, step: Step) -> Attack:
        """Killed up to three times, at a change of a file or at any time."""

        def act(rng: np.random.Generator, folder: Path) -> tuple[str, str]:
            step.lay(folder)
            for turn in range(int(rng.integers(1, 4))):
                command = step.command if not turn else step.again or step.command
                if rng.random() < 0.7:
                    once(command, folder, at=int(rng.integers(1, self.changes[step.name] + 1)))
                else:
                    once(command, folder, after=float(rng.uniform(0, self.seconds[step.name])))
            return self.same(step, folder)

        return Attack(f"killed: {step.name}", act)

    def full(self, step: Step) -> Attack:
        """No file may grow beyond a limit, as where a disk is full; then there is space again."""

        def act(rng: np.random.Generator, folder: Path) -> tuple[str, str]:
            step.lay(folder)
            before = contents(folder)
            limit = int(2 ** rng.uniform(0, 17))

            def little() -> None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

            status, err, _, _ = once(step.command, folder, before=little)
            if status and (odd := one_sentence(status, err)):
                return ("traceback" if "Traceback" in err else "wrong"), f"limit {limit}: {odd}"
            if status and (lost := [name for name in before if contents(folder).get(name) != before[name]]):
                return "wrong", f"limit {limit}: lost {', '.join(lost[:5])}"
            fate, said = self.same(step, folder)
            return ("refused" if status and fate == "accepted" else fate), said and f"limit {limit}: {said}"

        return Attack(f"disk full: {step.name}", act)

    def closed(self, step: Step) -> Attack:
        """Nothing may be written; then it may."""

        def act(rng: np.random.Generator, folder: Path) -> tuple[str, str]:
            step.lay(folder)
            before = contents(folder)
            tree = [folder, *(p for p in folder.rglob("*") if not p.is_symlink())]
            some = tree if rng.random() < 0.5 else [p for p in tree if p.is_dir() and rng.random() < 0.5]
            modes = {p: p.stat().st_mode for p in tree}
            for p in some:
                p.chmod(0o555 if p.is_dir() else 0o444)
            status, err, _, _ = once(step.command, folder, before=unprivileged)
            for p, mode in modes.items():
                if p.exists():
                    p.chmod(mode)
            if status and (odd := one_sentence(status, err)):
                return ("traceback" if "Traceback" in err else "wrong"), odd
            if status and (lost := [name for name in before if contents(folder).get(name) != before[name]]):
                return "wrong", f"lost {', '.join(lost[:5])}"
            fate, said = self.same(step, folder)
            return ("refused" if status and fate == "accepted" else fate), said

        return Attack(f"read only: {step.name}", act)

    def together(self, step: Step) -> Attack:
        """Started twice at a time: one waits, does it too, or says who is at it."""

        def act(rng: np.random.Generator, folder: Path) -> tuple[str, str]:
            step.lay(folder)
            other = os.fork()
            if other == 0:
                time.sleep(float(rng.uniform(0, 0.5)) * self.seconds[step.name])
                status, err, _, _ = once(step.command, folder)
                bad = status and (one_sentence(status, err) or "at work on" not in err)
                if bad:
                    (folder / "said").write_text(f"{status}: {err}")
                os._exit(bool(bad))
            status, err, _, _ = once(step.command, folder)
            _, ended = os.waitpid(other, 0)
            if status and (odd := one_sentence(status, err) or ("" if "at work on" in err else err)):
                return ("traceback" if "Traceback" in err else "wrong"), odd
            if ended:
                return "wrong", (folder / "said").read_text()
            return self.same(step, folder)

        return Attack(f"together: {step.name}", act)
