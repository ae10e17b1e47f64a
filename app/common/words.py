"""Words from data, in places where Streamlit reads Markdown."""

from __future__ import annotations

import re

SIGNS = re.compile(r"[\\`*_~\[\]<>$|&#]|:(?=[\w/])|^[-+=]|(?<=^\d)[.)]")
"""Everywhere, and what makes a list or a heading of a line that begins with it."""

ARROWS = re.compile(r"(?<!\S)(<->|->|<-|--|>=|<=|~=)(?!\S)")
"""What Streamlit draws as an arrow, a dash or a sign of its own where it stands alone."""
JOINER = "\N{WORD JOINER}"


def plain(words: object) -> str:
    r"""Words that somebody chose (a compound, a plate, a rater), to be shown as they are where Markdown is read.

    Examples
    --------
    >>> plain("a*b")
    'a\\*b'
    """
    kept = ARROWS.sub(lambda sign: sign[0][0] + JOINER + sign[0][1:], str(words))  # is not seen
    return SIGNS.sub(r"\\\g<0>", kept)


def begun(sentence: str) -> str:
    """A sentence with a capital letter, unless it begins with a name.

    Examples
    --------
    >>> begun("no channel is switched on"), begun("bbbc021-ae has no card"), begun("/data/a.screen is locked")
    ('No channel is switched on', 'bbbc021-ae has no card', '/data/a.screen is locked')
    """
    return sentence[:1].upper() + sentence[1:] if sentence.split(" ")[0].isalpha() else sentence
