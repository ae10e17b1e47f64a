"""Steps that are killed, run out of space, may not write, or are started twice: nothing is lost, nothing left over."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import hashlib
import importlib
import json
import os
import re
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
from ..reproduce.site import timeless
from . import trial
from .inputs import CHANNELS, Material, crop_table, crops
from .trial import Attack

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.rmtree"}
_TIMES = {"training.jsonl", "hours.jsonl", "hours.csv"}
HANGS = 3600
"""Seconds after which a step, or whoever tries it, is taken to hang: machines may be busy."""
_TICKS = os.sysconf("SC_CLK_TCK")


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
        ended = once((*of_raw[:3], name, *of_raw[4:], *more), place, imports=True)
        assert ended.status == 0, ended.err
    work = {"out.screen.ingest": shared / "out.screen.ingest", "raw": raw}
    training = ("train", "a.screen", "vae", "--model", "vae", "--iterations", "3", "--batch-size", "2")
    training += ("--checkpoint-every", "1", "--pictures-every", "2")
    paper = ("reproduce", "bbbc021", "out", "--crops", "paper.npz,paper.csv", "--models", "ae", "--seeds", "1")
    paper += ("--iterations", "2", "--batch-size", "2", "--threads", "1", "--workers", "1", "--device", "cpu")
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
        Step("reproduce", paper, _paper(folder)),
    ]


def _paper(folder: Path) -> dict[str, Path]:
    """The least that the paper can be reproduced from: controls, and two mechanisms of two compounds."""
    drugs = ["DMSO"] * 8 + [drug for drug in ("taxol", "epothilone", "emetine", "anisomycin") for _ in range(4)]
    n = len(drugs)
    mechanisms = ["DMSO"] * 8 + ["Microtubule stabilizers"] * 8 + ["Protein synthesis"] * 8
    np.savez(
        folder / "paper.npz",
        images=crops(np.random.default_rng(2), n, 68),
        cell_id=np.array([f"c{i}" for i in range(n)]),
    )
    crop_table(
        folder / "paper.csv",
        n,
        plate=[f"P{1 + i % 2}" for i in range(n)],
        well=[f"{'ABCDEF'[i // 4]}{1 + i % 4:02d}" for i in range(n)],
        compound=drugs,
        concentration_uM=["0" if drug == "DMSO" else "1" for drug in drugs],
        moa=mechanisms,
    )
    return {"paper.npz": folder / "paper.npz", "paper.csv": folder / "paper.csv"}


def contents(folder: Path) -> dict[str, str]:
    """What a folder holds, by name; times that are measured or taken from files do not count."""
    held = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or path.name in _TIMES:
            continue
        if path.name in ("images.parquet", "sources.json"):
            held[name] = "its stamps differ"
        else:
            held[name] = hashlib.sha256(timeless(path)).hexdigest() if path.is_file() else "folder"
    return held


@dataclasses.dataclass(frozen=True)
class Run:
    """How a verb ended in a process of its own.

    Parameters
    ----------
    status : int
        -9: killed.
    err : str
        What stood on stderr.
    changes : int
        How many files were changed.
    seconds : float
        Of the processor.
    """

    status: int
    err: str
    changes: int
    seconds: float


def once(
    command: Sequence[str],
    folder: Path,
    *,
    after: float | None = None,
    at: int | None = None,
    before: Callable[[], Any] = lambda: None,
    imports: bool = False,
) -> Run:
    """A verb in a child process of its own, perhaps killed.

    Parameters
    ----------
    after : float, optional
        Seconds of the processor until it is killed: a moment of its work, however busy the machine is.
    at : int, optional
        The change of a file before which it is killed, from 1.
    before : callable
        Called in the child first.
    imports : bool
        Whether this process imports afterwards what the child had imported: later ones begin with all of it.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _child(command, folder, at, before, writing, imports)
    os.close(writing)
    if after is not None:
        while _spent(child) < after:
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, errors="replace") as said:
        told = json.loads(said.read() or "[0, null, []]")
    _, status, used = os.wait4(child, 0)
    ended = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    if told[1] is None:
        told[1] = f"it said nothing and ended with {ended}"
    for name in told[2]:
        with contextlib.suppress(ImportError):  # it had other arguments, or is gone
            importlib.import_module(name)
    return Run(ended, told[1], told[0], used.ru_utime + used.ru_stime)


def _spent(child: int) -> float:
    """Seconds of the processor that a child has used; without end once it is done."""
    state, *rest = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return float("inf") if state == "Z" else (int(rest[10]) + int(rest[11])) / _TICKS


def _child(
    command: Sequence[str], folder: Path, at: int | None, before: Callable[[], Any], writing: int, imports: bool
) -> None:
    """Never returns."""
    try:
        from cytovae import locks
        from cytovae.learn import embed

        locks.sweep.cache_clear()
        embed.PART_CELLS = 4  # type: ignore[misc]  # several parts of a small screen
        os.chdir(folder)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(HANGS)
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
        said = [changes, f"{ended.broke}{ended.err[-3000:]}", list(sys.modules) if imports else []]
        os.write(writing, json.dumps(said).encode())
        os._exit(ended.status)
    except BaseException:
        os.write(writing, json.dumps([0, traceback.format_exc(), []]).encode())
    finally:
        os._exit(99)


def bad(ended: Run, words: str = "") -> tuple[str, str] | None:
    """Nothing where a verb did its work, or said why not in one sentence, with these words and no hidden name."""
    said = [line for line in ended.err.splitlines() if line.startswith("cytovae: ")]
    traced = "Traceback" in ended.err
    fit = len(said) == 1 and words in said[0] and not re.search(r"\.\d+-\w{6}\.part", said[0])
    if ended.status == 0 or (ended.status == 1 and fit and not traced):
        return None
    return "traceback" if traced else "wrong", f"status {ended.status}: {ended.err[-1500:]}"


def lost(ended: Run, before: dict[str, str], folder: Path) -> tuple[str, str] | None:
    """What a verb that could not do its work took away or changed."""
    now = contents(folder)
    gone = [name for name, held in before.items() if now.get(name) != held]
    return ("wrong", f"lost {', '.join(gone[:5])}; {ended.err[-500:]}") if ended.status and gone else None


def _small_files(size: int) -> None:
    """No file of this process may grow beyond so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _pages(folder: Path) -> int:
    """Pages of 4096 bytes that the files of a folder take."""
    return sum(-(-p.stat().st_size // 4096) for p in folder.rglob("*") if not p.is_symlink() and p.is_file())


def unprivileged() -> None:
    """Take from root what lets it write anywhere (Linux' capabilities); files it owns stay readable."""
    if os.getuid() == 0:
        head, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None).capset(head, none) == 0


class Disk:
    """A file system of a few pages in memory, in this process alone; Linux, and root with the right to mount."""

    MARGIN = 2**30

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._call("unshare", 0x20000)  # CLONE_NEWNS: what is mounted is gone with this process
        self._mount(b"none", b"/", 0x44000)  # MS_REC | MS_PRIVATE
        self._mount(b"tmpfs", os.fsencode(folder), 0, b"size=%d" % self.MARGIN)

    def fill(self, pages: int, files: int) -> None:
        """Leave room for so many pages of 4096 bytes and so many files."""
        there = os.statvfs(self.folder)
        used = (there.f_blocks - there.f_bfree) * there.f_frsize // 4096
        self._limit((used + pages) * 4096, there.f_files - there.f_ffree + files)

    def free(self) -> None:
        """Leave room for all there may be."""
        self._limit(self.MARGIN, 10**6)

    def _limit(self, size: int, files: int) -> None:
        self._mount(b"tmpfs", os.fsencode(self.folder), 0x20, b"size=%d,nr_inodes=%d" % (size, files))  # MS_REMOUNT

    def _mount(self, source: bytes, target: bytes, flags: int, data: bytes | None = None) -> None:
        self._call("mount", source, target, b"tmpfs", ctypes.c_ulong(flags), data)

    def _call(self, name: str, *arguments: Any) -> None:
        if getattr(self._libc, name)(*arguments):
            raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _mounts(folder: Path) -> bool:
    """Whether a file system can be mounted; tried in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            Disk(folder)
        except (OSError, AttributeError):
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


class Steps:
    """Steps with what they leave when nobody disturbs them; each is tried when it is first asked for."""

    def __init__(self, folder: Path, material: Material, only: Sequence[str] = ()) -> None:
        self.all = [step for step in steps(folder, material) if not only or step.name in only]
        self.whole: dict[str, dict[str, str]] = {}
        self.changes: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.room: dict[str, int] = {}
        self.mounts = _mounts(folder)
        self.ways = {
            "killed": self.killed,
            "full disk" if self.mounts else "full disk (a limit on files)": self.full,
            "read only": self.closed,
            "together": self.together,
        }
        self._folder = folder

    def _try(self, step: Step) -> None:
        """Let a step run undisturbed, twice: what it imports at first counts in no trial."""
        if step.name in self.whole:
            return
        before = None
        for turn in ("first", "undisturbed"):
            place = self._folder / f"{turn} {step.name}"
            place.mkdir()
            step.lay(place)
            laid = _pages(place)
            ended = once(step.command, place, imports=turn == "first")
            assert ended.status == 0, f"{step.name}: {ended.err}"
            whole = contents(place)
            assert before in (None, whole), f"{step.name} is never the same"
            before = whole
        self.room[step.name], self.whole[step.name] = max(2, _pages(place) - laid), whole
        self.changes[step.name], self.seconds[step.name] = ended.changes, ended.seconds

    def same(self, step: Step, folder: Path) -> tuple[str, str]:
        """The step again, undisturbed; and what it left beside what it should have."""
        ended = once(step.again or step.command, folder)
        if ended.status:
            said = f"not to be repeated: status {ended.status}: {ended.err[-1500:]}"
            return "traceback" if "Traceback" in ended.err else "wrong", said
        got, whole = contents(folder), self.whole[step.name]
        if more := got.keys() - whole.keys():
            return "leftovers", ", ".join(sorted(more))
        if other := [name for name in whole if got.get(name) != whole[name]]:
            return "wrong", f"other bytes: {', '.join(other[:5])}"
        return "accepted", ""

    def again(self, ended: Run, step: Step, folder: Path) -> tuple[str, str]:
        """As `same`, after a run that may have been refused."""
        fate, said = self.same(step, folder)
        return ("refused", ended.err[-300:]) if ended.status and fate == "accepted" else (fate, said)

    def killed(self, step: Step) -> Attack:
        """Killed up to three times, at a change of a file or at any time."""
        self._try(step)

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
        """A disk of its own with little room, or where none can be mounted no file that grows; then there is room."""
        self._try(step)

        def act(rng: np.random.Generator, folder: Path) -> tuple[str, str]:
            place = folder / "disk"
            place.mkdir()
            disk = Disk(place) if self.mounts else None
            step.lay(place)
            before = contents(place)
            if disk:
                if rng.random() < 0.7:
                    pages, files = int(self.room[step.name] ** rng.uniform(0, 1)), 10**5
                else:  # a disk may also be out of files
                    pages, files = 2**16, int(self.changes[step.name] ** rng.uniform(0, 1))
                limit = f"room for {pages} pages and {files} files"
                disk.fill(pages, files)
                ended = once(step.command, place)
            else:
                size = int(2 ** rng.uniform(0, 17))
                limit = f"files of {size} bytes"
                ended = once(step.command, place, before=functools.partial(_small_files, size))
            verdict = bad(ended, "free some space") or lost(ended, before, place)
            if disk:
                disk.free()
            fate, said = verdict or self.again(ended, step, place)
            return fate, said and f"{limit}: {said}"

        how = "full disk" if self.mounts else "full disk (a limit on files)"
        return Attack(f"{how}: {step.name}", act)

    def closed(self, step: Step) -> Attack:
        """Nothing may be written; then it may."""
        self._try(step)

        def act(rng: np.random.Generator, folder: Path) -> tuple[str, str]:
            step.lay(folder)
            before = contents(folder)
            tree = [folder, *(p for p in folder.rglob("*") if not p.is_symlink())]
            some = tree if rng.random() < 0.5 else [p for p in tree if p.is_dir() and rng.random() < 0.5]
            modes = {p: p.stat().st_mode for p in tree}
            for p in some:
                p.chmod(0o555 if p.is_dir() else 0o444)
            ended = once(step.command, folder, before=unprivileged)
            for p, mode in modes.items():
                if p.exists():
                    p.chmod(mode)
            return bad(ended) or lost(ended, before, folder) or self.again(ended, step, folder)

        return Attack(f"read only: {step.name}", act)

    def together(self, step: Step) -> Attack:
        """Started twice at a time: one waits, does it too, or says who is at it."""
        self._try(step)

        def act(rng: np.random.Generator, folder: Path) -> tuple[str, str]:
            step.lay(folder)
            other = os.fork()
            if other == 0:
                time.sleep(float(rng.uniform(0, 0.5)) * self.seconds[step.name])
                fate, said = bad(once(step.command, folder), "at work on") or ("", "")
                if fate:
                    (folder / "said").write_text(said)
                os._exit(bool(fate))
            verdict = bad(once(step.command, folder), "at work on")
            _, other_ended = os.waitpid(other, 0)
            if other_ended:
                return "wrong", f"the other: {(folder / 'said').read_text()}"
            return verdict or self.same(step, folder)

        return Attack(f"together: {step.name}", act)
