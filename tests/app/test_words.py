from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from app.common.words import ARROWS, JOINER, plain


@pytest.mark.parametrize(
    "name",
    [
        *("a*b_c$d$[x](http://y)", "_x_ *y* <b>z</b> &amp; `q` # h | ~~s~~", "- minus", "+ plus", "# head", "1. one"),
        *("back\\slash", "![p](q)", "> said", "=", "2-deoxy-D-glucose", "µ – é", "a -> b <- c", "-- x >= 3"),
    ],
)
def test_a_name_is_shown_as_it_is(name: str) -> None:
    read = MarkdownIt("commonmark").enable("strikethrough").parse(plain(name))
    assert [token.type for token in read] == ["paragraph_open", "inline", "paragraph_close"]
    assert {token.type for token in read[1].children or []} <= {"text", "text_special"}
    shown = "".join(token.content for token in read[1].children or [])
    assert not ARROWS.search(shown) and shown.replace(JOINER, "") == name


@pytest.mark.parametrize("directive", [":red[r]", ":material/check:", ":smile:", "$e$"])
def test_signs_of_streamlits_own_are_escaped(directive: str) -> None:
    assert plain(directive).startswith("\\")
