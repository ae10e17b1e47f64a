"""Locks: one at a time, held by no dead process, told apart from those of other machines."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cytovae import locks
from cytovae.errors import BusyError

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture(autouse=True)
def anew() -> None:
    locks.sweep.cache_clear()


def lock_of(pid: int, machine: str | None = None) -> str:
    """The text of a lock as process `pid` of this or another machine would write it."""
    started = locks._start_of(pid)
    machine = machine or locks._machine()
    return json.dumps({"host": "there", "machine": machine, "pid": pid, "started": started, "since": "noon"})


@pytest.fixture
def sleeper():
    process = subprocess.Popen(SLEEPER)
    yield process
    process.kill()
    process.wait()


def test_the_living_keep_their_lock_and_are_named(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    (tmp_path / ".a.lock").write_text(lock_of(sleeper.pid))
    with pytest.raises(BusyError, match=rf"another ingest is at work on .*: process {sleeper.pid} on there since noon"):
        locks.held(tmp_path / "a", "ingest").__enter__()
    with locks.held(tmp_path / "b", "ingest"), pytest.raises(BusyError, match=f"process {os.getpid()}"):
        locks.held(tmp_path / "b", "ingest").__enter__()
    assert [locks.busy(tmp_path / name) for name in "abc"] == [True, False, False]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".a.lock"]


@pytest.mark.parametrize("how", ["killed", "number used again", "says nothing"])
def test_the_dead_hold_nothing(tmp_path: Path, sleeper: subprocess.Popen[bytes], how: str) -> None:
    text = lock_of(sleeper.pid)
    if how == "killed":
        sleeper.kill()
        sleeper.wait()
    text = {"number used again": text.replace('"started": "', '"started": "0'), "says nothing": ""}.get(how, text)
    (tmp_path / ".a.lock").write_text(text)
    assert not locks.busy(tmp_path / "a")
    os.utime(tmp_path / ".a.lock", (0, 0))
    with locks.held(tmp_path / "a", "ingest"):
        assert json.loads((tmp_path / ".a.lock").read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_of_another_machine_nothing_is_known(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    lock = tmp_path / ".a.lock"
    lock.write_text(lock_of(sleeper.pid, machine="ffffff"))
    sleeper.kill()
    sleeper.wait()
    with pytest.raises(BusyError, match=f"if nothing is at work there any more, delete {lock}"):
        locks.held(tmp_path / "a", "ingest").__enter__()


def _rush(folder: Path, seconds: float) -> int:
    """How often this process found itself alone; a file that is there already tells that it was not."""
    entered, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with locks.held(folder / "a", "ingest"):
                (folder / "inside").touch(exist_ok=False)
                (folder / "inside").unlink()
                entered += 1
        except BusyError:
            pass
        if entered % 3 == 2:  # as one who died would leave it
            (folder / ".dead").write_text("{}")
            with contextlib.suppress(FileExistsError):
                os.link(folder / ".dead", folder / ".a.lock")
    return entered


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_of_many_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr(locks.os, "link", refuse)
        for _ in range(3):
            with locks.held(tmp_path / "a", "ingest"), pytest.raises(BusyError):
                locks.held(tmp_path / "a", "ingest").__enter__()
        assert not list(tmp_path.iterdir())
        return
    with multiprocessing.get_context("fork").Pool(4) as pool:
        entered = pool.starmap(_rush, [(tmp_path, 1.0)] * 4)
    assert sum(entered) > 20


def test_what_the_dead_left_is_cleared_away_and_nothing_else(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    machine, gone = locks._machine(), subprocess.Popen(SLEEPER)
    gone.kill()
    gone.wait()
    stays = [f".a.{sleeper.pid}-{machine}.part", f".a.{gone.pid}-ffffff.part", ".a.7.part", "a.part", ".hidden.txt"]
    goes = [f".a.{gone.pid}-{machine}.part", f".c.{gone.pid}-{machine}.old"]
    for name in [*stays, *goes, "c"]:
        (tmp_path / name).write_text("x")
    (tmp_path / f".f.{gone.pid}-{machine}.part").mkdir()
    (tmp_path / f".b.{gone.pid}-{machine}.old").mkdir()
    locks.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*stays, "b", "c"])


def test_nothing_can_be_kept_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        locks.held(tmp_path / "file" / "a", "ingest").__enter__()


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_text", refused)
    with pytest.raises(PermissionError) as said, locks.held(tmp_path / "a", "ingest"):
        pass
    assert said.value.filename == str(tmp_path)


def test_whoever_is_killed_while_taking_over_the_lock_of_the_dead_leaves_a_lock(tmp_path: Path) -> None:
    def die(changes: int) -> None:
        """In another process, after so many files were removed or renamed, or at work."""
        child = os.fork()
        if child == 0:

            def counted(change: Callable[..., Any]) -> Callable[..., Any]:
                def done(*words: Any, **more: Any) -> Any:
                    nonlocal changes
                    made, changes = change(*words, **more), changes - 1
                    return os._exit(0) if not changes else made

                return done

            Path.unlink, Path.replace = counted(Path.unlink), counted(Path.replace)  # type: ignore[method-assign]
            with locks.held(tmp_path / "a", "ingest"):
                os._exit(0)
        os.waitpid(child, 0)

    for changes in (1000, 1, 2, 3, 4, 5):
        die(changes)
        assert locks.abandoned(tmp_path / "a")
    with locks.held(tmp_path / "a", "ingest"):
        assert not locks.abandoned(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_one_stands_in_is_locked_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.screen" / "maps").mkdir(parents=True)
    for at, path in (("a.screen", "."), ("a.screen/maps", "..")):
        monkeypatch.chdir(tmp_path / at)
        with locks.held(Path(path), "append"):
            assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [".a.screen.lock"]
            assert locks.busy(tmp_path / "a.screen")
        assert locks.beside(Path(path)).parent == tmp_path
