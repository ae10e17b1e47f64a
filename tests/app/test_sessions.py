"""Sessions on the real server that name other files, leave, or read slowly: Streamlit's messages without a browser."""

from __future__ import annotations

import ast
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from app.registry import PAGES
from benchmarks.load import VERDICT, Visitor

from .conftest import ROOT, Loaded, _serve
from .test_quiz_load import Session

HERE = Path(__file__).parent


class Watched:
    """A server that writes down which files it opens, and whose models can be made slow."""

    def __init__(self, folder: Path, tiny: Loaded) -> None:
        self.home, self.opened, self.slow = folder / "home", folder / "opened", folder / "slow"
        self.screen, self.models, self.outside = folder / "a.screen", folder / "models", folder / "outside"
        shutil.copytree(tiny.screen, self.screen)
        shutil.copytree(tiny.models, self.models)
        shutil.copytree(tiny.screen, self.outside / "b.screen")
        shutil.copytree(tiny.models / "linear-a", self.outside / "linear-c")
        (self.models / "linked").symlink_to(self.outside)  # a folder of bundles is no bundle
        self.home.mkdir()
        more = {"WATCHED_FILES": str(self.opened), "WATCHED_SLOW": str(self.slow), "HOME": str(self.home)}
        more["PYTHONPATH"] = os.pathsep.join((str(HERE / "watched"), str(ROOT)))
        self.process, url = _serve(folder / "home", [self.screen], self.models, more)
        self.address = url.replace("http://", "ws://") + "/_stcore/stream"

    def files(self) -> set[tuple[str, str]]:
        lines = [line.split(" ", 1) for line in self.opened.read_text().splitlines()]
        return {(how, ast.literal_eval(name)) for how, name in lines}

    def blocks(self) -> int:
        return self.slow.stat().st_size


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, tiny: Loaded) -> Iterator[Watched]:
    made = Watched(tmp_path_factory.mktemp("watched"), tiny)
    yield made
    made.process.terminate()
    made.process.wait(timeout=20)


def visit(watched: Watched, page: str, **link: str) -> str:
    session = Session(watched.address, urlencode(link))
    _, words = session.run(page=page)
    session.close()
    return words


def test_names_that_lead_elsewhere_open_no_file_outside_the_folders_given(watched: Watched) -> None:
    assert "drug" in visit(watched, "")  # what any session opens
    up = "../" * 12
    names = [
        f"{up}{watched.outside}/b.screen",
        f"../{watched.outside.name}/b.screen",
        str(watched.outside / "b.screen"),
        f"{watched.screen}/../{watched.outside.name}/b.screen",
        "..%2f" * 12 + "etc/passwd",
        f"{up}etc/passwd",
        "nul\0nul",
        "~/x",
        "linked/linear-c",
        f"../{watched.outside.name}/linear-c",
    ]
    for key in ("screen", "model", "treatment", "target", "field", "plate", "deck", "cells"):
        page = {"field": "screen", "plate": "screen", "deck": "quiz"}.get(key, "")
        for name in names if key in ("screen", "model") else names[4:7]:
            assert "did not foresee" not in visit(watched, page, **{key: name}), (key, name)
    seen = watched.files()
    assert any(str(watched.screen) in name for _, name in seen)  # it does write them down
    assert not [name for _, name in seen if name.startswith(str(watched.outside)) or name == "/etc/passwd"]


SYSTEM = [Path("/", name) for name in ("dev", "etc", "lib", "lib64", "proc", "sys", "usr")]


def test_no_file_is_written_or_read_outside_the_folders_stated(watched: Watched) -> None:
    """What Python opens, lists or changes is seen; parquet and weights are read by libraries that do not say so."""
    for entry in PAGES:
        assert "did not foresee" not in visit(watched, entry.name)
    code = [ROOT / "app", ROOT / "cytovae", HERE / "watched", Path(sys.prefix), Path(sys.base_prefix)]
    own = [watched.home, watched.slow, Path("/dev"), Path("/proc")]
    allowed = {"w": own, "r": [*own, *code, *SYSTEM, watched.screen, watched.models]}
    looked_through = [*map(Path, sys.path), ROOT, ROOT / "pyproject.toml"]  # where modules may lie; what tools look for
    odd, seen = [], watched.files()
    for how, name in seen:
        path = Path(name)
        if how == "r" and path in looked_through:
            continue
        compiled = path.suffix == ".pyc" or "__pycache__" in path.parts
        if not any(place.resolve() in (path, *path.parents) for place in allowed["r" if compiled else how]):
            odd.append((how, name))
    assert not odd
    assert {how for how, name in seen if name.startswith(str(watched.home))} == {"r", "w"}  # it does see both


def test_the_pictures_of_a_path_come_before_its_verdict(watched: Watched) -> None:
    session = Visitor(watched.address, "")
    for treatment in ("taxol@0.3", "nocodazole@1"):
        pictures, verdict, words = session.change({"treatment": treatment, "steps": "7"})
        assert 0 < pictures < verdict
        assert words.index("Comparing this path") < words.index(VERDICT)
    _, _, words = session.change({"treatment": "taxol@0.3", "steps": "7"})  # what has been seen comes at once
    assert VERDICT in words
    session.close()


@pytest.mark.parametrize("leaves", [True, False])
def test_work_ends_when_whoever_asked_for_it_leaves_or_chooses_something_else(watched: Watched, leaves: bool) -> None:
    """The frames of the path alone are 15 blocks of two, half a second each."""
    watched.slow.write_text("")
    session = Session(watched.address, "treatment=emetine@0.1&steps=30" if leaves else "treatment=taxol@3&steps=30")
    try:
        session.send()
        end = time.monotonic() + 120
        while watched.blocks() < 2:  # it is at work
            assert time.monotonic() < end
            time.sleep(0.05)
        if leaves:
            session.close()
        else:
            session.send(page="quiz")
        time.sleep(9)
        assert watched.blocks() < 15
    finally:
        watched.slow.unlink()
        session.close()


def test_who_reads_nothing_holds_nobody_up(watched: Watched) -> None:
    slow = [Session(watched.address, "", max_queue=1) for _ in range(4)]
    for session in slow:
        session.send()  # and never reads
    assert "drug" in visit(watched, "")
    for session in slow:
        session.close()
