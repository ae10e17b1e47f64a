"""What can go wrong, as one tree.

CytovaeError
├── ConfigError        an option or a configuration key is unknown or out of range
├── TableError         a table lacks columns, repeats ids, or holds values that cannot be
├── ScreenError        a screen folder is missing, broken, or lacks an artefact
├── BusyError          another process is at work on the same screen or model
├── IngestError        raw data that cannot become a screen
│   └── ImageError     one field or crop that cannot be read; carries a short `code`
├── BundleError        a model bundle is missing, foreign, tampered with, or does not fit
├── TrainingError      training diverged or could not go on
├── SelectionError     a cell, treatment or target that is not there
├── ProfileError       profiles that cannot be made, whitened or scored
├── QuizError          a deck or an answer that cannot be
└── DependencyError    an optional package is not installed

Every message is one sentence for a person: what is wrong, what was seen, what was expected, what to do.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a full disk."""


class CytovaeError(Exception):
    """Any failure that this package foresees; its text is fit to be shown as it is."""


class ConfigError(CytovaeError):
    """An option or a configuration key is unknown or out of range."""


class TableError(CytovaeError):
    """A table lacks columns, repeats ids, or holds values that cannot be."""


class ScreenError(CytovaeError):
    """A screen folder is missing, broken, or lacks an artefact."""


class BusyError(CytovaeError):
    """Another process is at work on the same screen or model."""


class IngestError(CytovaeError):
    """Raw data that cannot become a screen."""


class ImageError(IngestError):
    """One field or crop that cannot be read.

    Parameters
    ----------
    code : str
        A short, stable word for the kind of fault, such as ``missing-file``; kept in ``fields.parquet``.
    message : str
        The sentence for a person, naming the file.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BundleError(CytovaeError):
    """A model bundle is missing, foreign, tampered with, or does not fit."""


class TrainingError(CytovaeError):
    """Training diverged or could not go on."""


class SelectionError(CytovaeError):
    """A cell, treatment or target that is not there."""


class ProfileError(CytovaeError):
    """Profiles that cannot be made, whitened or scored."""


class QuizError(CytovaeError):
    """A deck or an answer that cannot be."""


class DependencyError(CytovaeError):
    """An optional package is not installed."""


def first_line(failed: Exception) -> str:
    """What a foreign error says, fit to stand in a sentence: its first line, or its kind; at most 200 characters."""
    return ((str(failed).splitlines() or [""])[0] or type(failed).__name__)[:200]


def did_you_mean(word: str, known: Iterable[str], limit: int = 3) -> str:
    """The hint to add to a message about an unknown name.

    Parameters
    ----------
    word : str
        What was asked for.
    known : iterable of str
        What there is.
    limit : int
        How many near names to give at most.

    Returns
    -------
    str
        ``"; did you mean 'a' or 'b'?"``, or an empty string where nothing is near.

    Examples
    --------
    >>> did_you_mean("taxl@0.3", ["taxol@0.3", "emetine@1"])
    "; did you mean 'taxol@0.3'?"
    """
    names = {name.lower(): name for name in known}
    near = [names[n] for n in difflib.get_close_matches(word.lower(), list(names), n=limit, cutoff=0.6)]
    return f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
