"""What image files hold: the sha256 of each, taken again only of those that a stamp says were touched since.

A stamp is a file's size and its times of last change, of the content and of the entry; the second is kept by the system
and cannot be set back. Only digests are compared, so a copy elsewhere, or the same files written anew, are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from cytovae.screen import digest_file

NAME, SHA256 = "name", "sha256"
_STAMP = ["size", "mtime_ns", "ctime_ns"]
COLUMNS = [NAME, *_STAMP, SHA256]
"""Columns of a table of contents."""


def take(folder: Path, names: Iterable[str], known: pd.DataFrame | None = None, threads: int = 1) -> pd.DataFrame:
    """The contents of files, one row (``COLUMNS``) for each that is there, sorted by name.

    Parameters
    ----------
    folder : Path
    names : iterable of str
        Relative to `folder`, or absolute.
    known : DataFrame, optional
        What was taken before; a file with the same stamp is not read again.
    threads : int
        Files read at the same time.
    """
    before: dict[tuple[object, ...], str] = {}
    if known is not None:
        before = {tuple(stamp): content for *stamp, content in known[COLUMNS].itertuples(index=False)}

    def row(name: str) -> tuple[str, int, int, int, str] | None:
        path = folder / name
        try:
            stat = path.stat()
            stamp = (name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            return (*stamp, before.get(stamp) or digest_file(path))
        except OSError:
            return None

    with ThreadPoolExecutor(threads) as pool:
        rows = [found for found in pool.map(row, sorted(set(names))) if found]
    return pd.DataFrame(rows, columns=COLUMNS)


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
