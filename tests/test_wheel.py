"""The wheel alone: installed into an empty environment, away from the clone, it runs the demo."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("cytovae-*.whl"))


def test_wheel_holds_the_app_and_every_shipped_bundle(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "cytovae/_shipped/app/main.py" in names
    assert "cytovae/_shipped/app/.streamlit/config.toml" in names
    for bundle in (p.parent.name for p in (ROOT / "models").glob("*/weights.safetensors")):
        assert f"cytovae/_shipped/models/{bundle}/weights.safetensors" in names


def test_wheel_says_its_licences_and_that_it_is_typed(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (place,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    told = archive.read(place).decode()
    assert "License-Expression: BSD-3-Clause AND CC-BY-NC-SA-3.0" in told
    for file in ("LICENSE", "models/LICENSE"):
        assert f"License-File: {file}" in told
        assert f"{Path(place).parent}/licenses/{file}" in archive.namelist()
    assert "cytovae/py.typed" in archive.namelist()


def test_sdist_holds_what_building_and_testing_takes_and_both_pass_the_index_checks(
    wheel: Path, tmp_path: Path
) -> None:
    build = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (sdist,) = tmp_path.glob("cytovae-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {
        "docs/conf.py",
        "tests/conftest.py",
        "conftest.py",
        "models/LICENSE",
        ".ci/lock.py",
        "compose.yaml",
    }
    assert not [name for name in names if name.startswith((".git/", ".venv", "data/"))]
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", sdist, wheel], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def closure(wheel: Path) -> set[str]:
    """The distributions that a wheel asks for, and those that these ask for."""
    told = zipfile.ZipFile(wheel).read(next(n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("METADATA")))
    waiting = [(Requirement(line), "") for line in Parser().parsestr(told.decode()).get_all("Requires-Dist", [])]
    found: set[tuple[str, str]] = set()
    while waiting:
        asked, extra = waiting.pop()
        if asked.marker and not asked.marker.evaluate({"extra": extra}):
            continue
        for wanted in {"", *asked.extras}:
            if (asked.name, wanted) not in found:
                found.add((asked.name, wanted))
                waiting += [(Requirement(line), wanted) for line in metadata.requires(asked.name) or []]
    return {name for name, _ in found}


def environment_of(wheel: Path, folder: Path) -> Path:
    """A new environment with the wheel and what it asks for, and nothing else of this one; its programs.

    What is here already is linked, not installed a second time; pip says whether the versions are those asked for.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    place = Path(next(folder.glob("lib/python*/site-packages")))
    for name in closure(wheel):
        one = metadata.distribution(name)
        tops = {Path(file).parts[0] for file in one.files or []} - {"..", "__pycache__"}
        for top in tops:
            if not (place / top).exists():
                (place / top).symlink_to(one.locate_file(top))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True, capture_output=True)
    checked = subprocess.run([*pip, "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    return folder / "bin"


@pytest.mark.slow
def test_wheel_alone_runs_the_demo_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "VIRTUAL_ENV", "CYTOVAE"))}
    binaries = environment_of(wheel, tmp_path / "venv")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # a smaller screen than the demo's own, which goes on with what is there
    few = {"treatments": 24, "wells": 1, "weeks": 2, "controls": 2, "cells": 7, "width": 320, "height": 256}
    drawing = [binaries / "cytovae", "phantom", "demo/phantom.raw", *(f"--{k}={v}" for k, v in few.items())]
    subprocess.run(drawing, cwd=elsewhere, env=environment, check=True, capture_output=True)
    port = free_port()
    server = subprocess.Popen(
        [binaries / "cytovae", "demo", "--dir", "demo", "--port", str(port), "--no-browser"],
        cwd=elsewhere,
        env=environment,
    )
    try:
        answer = b""
        for _ in range(400):
            assert server.poll() is None, f"the demo ended with status {server.returncode}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as reply:
                    answer = reply.read()
                break
            except OSError:
                time.sleep(1)
        assert answer == b"ok"
    finally:
        server.terminate()
        server.wait(30)
    info = subprocess.run(
        [binaries / "cytovae", "info", "demo/phantom.screen", "--json"],
        cwd=elsewhere,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(info.stdout)
