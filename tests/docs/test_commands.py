"""Commands of README and pages: a block marked ``run`` is carried out, any other ``cytovae`` line must be one there is.

Blocks of a page are run in order, in a folder with a small screen; where a page trains, it trains two iterations.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from cytovae.cli import verbs

from .conftest import PAGES, ROOT, blocks, cytovae

SHELLS = ("sh", "bash", "console")
PLACEHOLDER = re.compile(r"[\[\]|<>]|\.\.\.")
RUN = [page for page in PAGES if any(block.run for block in blocks(page))]


def commands(text: str) -> list[list[str]]:
    """The ``cytovae`` commands of a block, as words; other lines are not ours to try."""
    joined = re.sub(r"\\\n", " ", text)
    lines = [re.sub(r"^(srun|\$) ", "", line.strip()) for line in joined.splitlines()]
    return [
        shlex.split(line, comments=True)[1:]
        for line in lines
        if line.startswith("cytovae ") and not PLACEHOLDER.search(line.split(" #")[0])
    ]


def short(words: list[str]) -> list[str]:
    """The same command with two iterations where it trains."""
    if words[0] != "train":
        return words
    at = words.index("--iterations")
    return [*words[: at + 1], "2", *words[at + 2 :], "--batch-size", "4", "--pictures-every", "0", "--threads", "1"]


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_to_run_runs(page: Path, here: Path) -> None:
    names: dict[str, object] = {}
    for block in blocks(page):
        if not block.run:
            continue
        if block.language == "python":
            exec(compile(block.text, str(page), "exec"), names)
            continue
        assert commands(block.text), f"nothing to run in {block.text!r}"
        for words in commands(block.text):
            cytovae(*short(words))


def unknown(words: list[str]) -> str:
    """What is wrong with a command, without carrying it out; empty where nothing is."""
    command: Any = typer.main.get_command(verbs.app)
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            return f"there is no verb {' '.join(words[:1])!r}"
        command, words = command.commands[words[0]], words[1:]
    if words == ["--help"]:
        return ""
    try:
        command.make_context(command.name, list(words))
    except Exception as wrong:
        return str(getattr(wrong, "message", wrong))
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_on_a_page_is_one_there_is(page: Path) -> None:
    for block in blocks(page):
        if block.language in SHELLS:
            for words in commands(block.text):
                assert unknown(words) == "", f"cytovae {' '.join(words)}"


def test_a_command_that_is_not_there_is_seen() -> None:
    assert unknown(["train", "my.screen", "models/mine", "--model", "vae+"]) == ""
    assert "no-such" in unknown(["train", "my.screen", "models/mine", "--model", "vae+", "--no-such"])
    assert "paint" in unknown(["paint", "my.screen"])


def test_the_pages_cover_the_main_verbs() -> None:
    ran = {words[0] for page in RUN for block in blocks(page) if block.run for words in commands(block.text)}
    assert ran >= {"ingest", "info", "train", "embed", "profile", "benchmark", "interpolate", "reconstruct", "export"}
