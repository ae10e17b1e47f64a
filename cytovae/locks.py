"""Who is at work on what: locks that no dead process holds, and names of half-written files that tell whose they are.

A lock is a small file with machine, process and start of its holder. It is made by a hard link or by exclusive
creation, which one of several processes achieves on network file systems too; ``flock`` only helps where it works. A
process that is gone, by its number and the time it started, holds nothing; of one on another machine nothing can be
known, so its lock stands until a person removes it.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import functools
import glob
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from cytovae.errors import BusyError

_TRIES = 50
_BEING_MADE_S = 10.0  # where there are no hard links, a lock is empty for a moment
_HALF = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)-(?P<machine>[0-9a-f]{6})\.(?P<kind>part|old)", re.DOTALL)


@contextlib.contextmanager
def held(path: Path, work: str, share: str = "") -> Iterator[None]:
    """Keep others from the same work on a path while the block runs.

    Parameters
    ----------
    path : Path
        What is made; the lock lies beside it.
    work : str
        What the work is called in a message, such as ``ingest``.
    share : str
        Where it is one of several shares of the work: which, such as ``1-of-3``. Shares keep one another from nothing,
        but from the whole, and the whole keeps from all of them.

    Raises
    ------
    BusyError
        Another process is at it, here or on another machine; says which and since when.
    """
    path = named(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    whole = _lock(path)
    lock = path.with_name(f".{path.name}.{share}.lock") if share else whole
    now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    mine = json.dumps({"host": socket.gethostname(), "machine": _machine(), "pid": os.getpid()} | _life(now))
    for _ in range(_TRIES):
        try:
            if _made(lock, mine):
                break
        except OSError as failed:  # under a name that nobody knows
            raise OSError(failed.errno, failed.strerror, str(path.parent)) from None
        with contextlib.suppress(FileNotFoundError):  # ended just now
            there = _refuse(lock, path, work)
            if not there and time.time() - lock.stat().st_mtime < _BEING_MADE_S:
                time.sleep(0.02)
                continue
            if _taken_over(lock, there, mine):
                break
    else:
        raise BusyError(f"the lock {lock} cannot be had: others take it again and again; try later")
    try:
        for other in [whole] if share else path.parent.glob(f".{glob.escape(path.name)}.*-of-*.lock"):
            with contextlib.suppress(FileNotFoundError):
                _refuse(other, path, work)
        yield
    finally:
        lock.unlink(missing_ok=True)


def busy(path: Path) -> bool:
    """Whether somebody is at work on a path."""
    try:
        return _holder(_lock(path).read_text(errors="replace")) is not None
    except OSError:
        return False


def abandoned(path: Path) -> bool:
    """Whether a process that is gone left its lock on a path; what else it left there is for who made it to clear."""
    try:
        return _holder(_lock(path).read_text(errors="replace")) is None
    except OSError:
        return False


def _refuse(lock: Path, path: Path, work: str) -> str:
    """Refuse a lock that somebody holds; the text of one that nobody does."""
    there = lock.read_text(errors="replace")
    if holder := _holder(there):
        raise BusyError(
            f"another {work} is at work on {path}: process {holder['pid']} on {holder['host']} since "
            f"{holder['since']}; wait for it or stop it"
            + ("" if holder["machine"] == _machine() else f", and if nothing is at work there any more, delete {lock}")
        )
    return there


def beside(path: Path, kind: str = "part") -> Path:
    """The hidden name beside `path` under which this process writes (``part``) or puts aside (``old``)."""
    path = named(path)
    return path.with_name(f".{path.name}.{os.getpid()}-{_machine()}.{kind}")


def half_written(name: str) -> bool:
    """Whether a file or folder has a name that `beside` gives."""
    return _HALF.fullmatch(name) is not None


def named(path: Path) -> Path:
    """A path that ends with a name, for what lies beside it: ``.`` and ``..`` become what they stand for."""
    return path if path.name not in ("", "..") else path.resolve()


def _lock(path: Path) -> Path:
    path = named(path)
    return path.with_name(f".{path.name}.lock")


@functools.lru_cache(maxsize=1024)
def sweep(folder: Path) -> None:
    """Clear away what processes of this machine that are gone left half-written in a folder; looked at once.

    What was put aside for something new that never came is put back.
    """
    for left in folder.glob(".*-??????.*"):
        found = _HALF.fullmatch(left.name)
        if not found or found["machine"] != _machine() or _start_of(int(found["pid"])) is not None:
            continue
        with contextlib.suppress(OSError):
            if found["kind"] == "old" and not (folder / found["name"]).exists():
                left.replace(folder / found["name"])
            elif left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def _made(lock: Path, text: str) -> bool:
    """Whether the lock is ours now; it appears with its text in it or not at all, where there are hard links."""
    half = beside(lock)
    try:
        half.write_text(text)
        try:
            os.link(half, lock)
        except FileExistsError:
            return False
        except OSError:  # no hard links here
            half.rename(_only(lock))
        return True
    except FileExistsError:
        return False
    finally:
        half.unlink(missing_ok=True)


def _only(lock: Path) -> Path:
    """The lock's path, once this process alone has made the file."""
    lock.touch(exist_ok=False)
    return lock


def _taken_over(lock: Path, text: str, mine: str) -> bool:
    """Whether a lock that nobody holds is ours now, unless it has become another one meanwhile.

    There is a lock at every moment: whoever is killed here leaves one, and so the sign that something is to be cleared.
    """
    half = beside(lock)
    half.write_text(mine)
    try:
        with lock.open() as handle:
            with contextlib.suppress(OSError):  # some network file systems have no flock
                fcntl.flock(handle, fcntl.LOCK_EX)
            if handle.read() != text or not os.path.samestat(os.fstat(handle.fileno()), lock.stat()):
                return False
            half.replace(lock)
            return True
    finally:
        half.unlink(missing_ok=True)


def _holder(text: str) -> dict[str, object] | None:
    """Who holds a lock with this text; None where nobody does: its process is gone, or it says nothing."""
    try:
        said = json.loads(text)
        holder = {key: said[key] for key in ("host", "machine", "pid", "started", "since")}
        gone = holder["machine"] == _machine() and _start_of(int(holder["pid"])) != holder["started"]
    except (ValueError, KeyError, TypeError):
        return None
    return None if gone else holder


def _life(now: str) -> dict[str, str | None]:
    return {"started": _start_of(os.getpid()), "since": now}


@functools.cache
def _machine() -> str:
    """Tells this machine, and this container on it, from others: six hexadecimal digits."""
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:6]


def _start_of(pid: int) -> str | None:
    """When a process of this machine started, as text that no later process of the same number has; None if gone."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else f"{_boot()} {rest[18]}"
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    try:  # no /proc: the number alone has to do
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "running"


@functools.cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
