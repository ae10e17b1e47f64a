"""What image files hold: the sha256 of each, taken again only of those that a stamp says were touched since.

A stamp is a file's size and its times of last change, of the content and of the entry; the second is kept by the system
and cannot be set back. Only digests are compared, so a copy elsewhere, or the same files written anew, are the same.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from cytovae.schema import Progress
from cytovae.screen import digest_file

NAME, SHA256 = "name", "sha256"
STAMP = ["size", "mtime_ns", "ctime_ns"]
COLUMNS = [NAME, *STAMP, SHA256]
"""Columns of a table of contents."""


_SAVE_EVERY_S = 10.0


def take(
    folder: Path,
    names: Iterable[str],
    known: pd.DataFrame | None = None,
    threads: int = 1,
    *,
    progress: Progress | None = None,
    save: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """The contents of files, one row (``COLUMNS``) for each that is there, sorted by name.

    Parameters
    ----------
    folder : Path
    names : iterable of str
        Relative to `folder`, or absolute; "" stands for no file.
    known : DataFrame, optional
        What was taken before; a file with the same stamp is not read again.
    threads : int
        Files read at the same time.
    progress : callable, optional
        Called with files read and files to read in all; never where none has to be read.
    save : callable, optional
        Called now and then with all that is known by then, `known` of a run that goes on with this one.
    """
    found = (
        {} if known is None else {tuple(stamp): content for *stamp, content in known[COLUMNS].itertuples(index=False)}
    )
    stamps = [(name, *at) for name in sorted({*names} - {""}) if (at := stamp_of(folder / name))]
    unread = [stamp for stamp in stamps if stamp not in found]
    saved = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        read = pool.map(lambda stamp: _digest_or_none(folder / stamp[0]), unread)
        for done, (stamp, content) in enumerate(zip(unread, read, strict=True), 1):
            if content is not None:
                found[stamp] = content
            if progress:
                progress(done, len(unread))
            if save and time.monotonic() - saved > _SAVE_EVERY_S:
                save(_table(found, found))
                saved = time.monotonic()
    return _table(stamps, found)


def stamp_of(path: Path) -> tuple[int, int, int] | None:
    """The stamp of a file, or of a folder with all files below it, such as an OME-Zarr image; None of nothing."""
    try:
        stats = [p.stat() for p in _files(path)]
    except OSError:
        return None
    if not stats:
        return None
    return sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats), max(s.st_ctime_ns for s in stats)


def digest_of(path: Path) -> str:
    """The sha256 of a file; of a folder that over the names and contents of the files below it."""
    if not path.is_dir():
        return digest_file(path)
    lines = "".join(f"{p.relative_to(path).as_posix()}\t{digest_file(p)}\n" for p in _files(path))
    return hashlib.sha256(lines.encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _digest_or_none(path: Path) -> str | None:
    try:
        return digest_of(path)
    except OSError:
        return None


def _table(stamps: Iterable[tuple[Any, ...]], found: Mapping[tuple[Any, ...], str]) -> pd.DataFrame:
    return pd.DataFrame([(*stamp, found[stamp]) for stamp in stamps if stamp in found], columns=COLUMNS)


def digest(contents: pd.DataFrame) -> str:
    """A sha256 over names and contents; stamps do not count."""
    lines = (f"{name}\t{content}\n" for name, content in contents[[NAME, SHA256]].itertuples(index=False))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def difference(before: pd.DataFrame, now: pd.DataFrame) -> str:
    """In words, how contents differ: how many files were changed, lost or added, and the first of each.

    Examples
    --------
    >>> before = pd.DataFrame({"name": ["a.tif", "b.tif"], "sha256": ["1", "2"]})
    >>> difference(before, before.assign(sha256=["1", "3"]))
    '1 image file changed (b.tif)'
    """
    old, new = (dict(zip(table[NAME], table[SHA256], strict=True)) for table in (before, now))
    groups = {
        "changed": [name for name in new if name in old and new[name] != old[name]],
        "lost": [name for name in old if name not in new],
        "added": [name for name in new if name not in old],
    }
    return ", ".join(
        f"{len(names)} image file{'s' * (len(names) > 1)} {what} ({names[0]}{', ...' * (len(names) > 1)})"
        for what, names in groups.items()
        if names
    )
