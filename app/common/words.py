"""Words from data, in places where Streamlit reads Markdown."""

from __future__ import annotations

import re

SIGNS = re.compile(r"[\\`*_~\[\]<>$|&#]|:(?=[\w/])|^[-+=]|(?<=^\d)[.)]")
"""Everywhere, and what makes a list or a heading of a line that begins with it."""


def plain(words: object) -> str:
    r"""Words that somebody chose (a compound, a plate, a rater), to be shown as they are where Markdown is read.

    Examples
    --------
    >>> plain("a*b")
    'a\\*b'
    """
    return SIGNS.sub(r"\\\g<0>", str(words))
