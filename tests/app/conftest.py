"""A real server, a real browser and small screens for the app's tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cytovae import schema
from cytovae.config import ScreenRecord
from cytovae.ingest.patches import write_part
from cytovae.screen import Screen, provenance, write_table

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--headless",
    "--disable-background-networking",
    "--enable-unsafe-swiftshader",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium under Playwright; tests that need it skip where it is not installed."""
    path = os.environ.get("CYTOVAE_CHROMIUM") or shutil.which("chromium")
    if not path:
        pytest.skip("chromium is not on the PATH: 'make chromium' installs it (or set CYTOVAE_CHROMIUM)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Callable[..., Any]]:
    """``tab(width, height, ...)`` opens a page of its own session; an error on any page fails the test."""
    contexts: list[Any] = []
    errors: list[str] = []

    def opened(width: int = 1440, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture(scope="session")
def app_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """``app_server(screens, models, **environment) -> url``: the app as users run it, one server per arguments."""
    running: dict[tuple[Any, ...], tuple[subprocess.Popen[bytes], str]] = {}

    def start(screens: Sequence[Path | str], models: Path | str, **environment: str) -> str:
        key = (tuple(map(str, screens)), str(models), tuple(sorted(environment.items())))
        if key not in running:
            running[key] = _serve(tmp_path_factory.mktemp("server"), screens, models, environment)
        return running[key][1]

    yield start
    for server, _ in running.values():
        server.terminate()
    for server, _ in running.values():
        server.wait(timeout=20)


def _serve(
    folder: Path, screens: Sequence[Path | str], models: Path | str, environment: dict[str, str]
) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CYTOVAE_SCREENS": os.pathsep.join(map(str, screens)),
        "CYTOVAE_MODELS": str(models),
        "CYTOVAE_QUIZ_DB": f"sqlite:///{folder / 'quiz.sqlite'}",
        **environment,
    }
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app" / "main.py")]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, f"--server.port={port}", "--server.address=127.0.0.1"],
            env=env,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/_stcore/health", timeout=1) as answer:
            if answer.read() == b"ok":
                return server, url
        time.sleep(0.1)
    server.terminate()
    raise RuntimeError(f"the app did not start: {(folder / 'server.log').read_text()[-2000:]}")


TREATMENTS = (
    ("DMSO", 0.0, "DMSO", 24),
    ("taxol", 0.3, "Microtubule stabilizers", 10),
    ("taxol", 3.0, "Microtubule stabilizers", 10),
    ("nocodazole", 1.0, "Microtubule destabilizers", 10),
    ("emetine", 0.1, "Protein synthesis", 10),
    ("latrunculin B", 1.0, "Actin disruptors", 1),
)
"""Compound, concentration (uM), mechanism and cells of the tiny screen; one treatment has a single cell."""


def cells_table(treatments: Sequence[tuple[str, float, str, int]] = TREATMENTS) -> pd.DataFrame:
    """Metadata of a small screen: two plates in two batches, a well per treatment and plate."""
    rows = []
    for t, (compound, concentration, moa, n) in enumerate(treatments):
        for i in range(n):
            plate, well = f"Week{1 + i % 2}_P{1 + i % 2}", f"{'BCDEFG'[t]}{2 + i % 4:02d}"
            name = schema.treatment_name(compound, concentration)
            rows.append(
                (f"{compound.replace(' ', '')}{concentration:g}_{i:02d}", f"{plate}/{well}/s1", plate, well, 1)
                + (1, f"Week{1 + i % 2}", compound, concentration, name, moa, i, 100.0, 100.0, False)
            )
    return pd.DataFrame(rows, columns=list(schema.CELL_COLUMNS))


def textured_patches(table: pd.DataFrame, rng: np.random.Generator, size: int = 68) -> np.ndarray:
    """Cells of noise round a nucleus whose size and texture depend on the treatment: (n, size, size, 3) uint16."""
    y, x = np.mgrid[:size, :size] - size / 2
    kinds = {name: k for k, name in enumerate(dict.fromkeys(table[schema.TREATMENT]))}
    out = np.empty((len(table), size, size, 3), np.uint16)
    for i, name in enumerate(table[schema.TREATMENT]):
        k = kinds[name]
        radius = np.hypot(x * (1 + 0.12 * k), y) / (14 + 2.5 * k)
        waves = 0.5 + 0.5 * np.sin(x * (0.15 + 0.1 * k)) * np.cos(y * (0.1 + 0.06 * k))
        planes = [
            np.exp(-(radius**4)),
            waves * np.exp(-((radius / 2) ** 2)),
            (1 - waves) * np.exp(-((radius / 2.4) ** 2)),
        ]
        noisy = np.stack(planes, -1) + 0.15 * rng.random((size, size, 3))
        out[i] = (200 + 3000 * noisy).astype(np.uint16)
    return out


def write_screen(path: Path, table: pd.DataFrame, patches: np.ndarray, **record: Any) -> Screen:
    """A screen folder of these cells."""
    names = {"name": "Tiny screen", "channels": ("DNA", "Tubulin", "Actin"), "source": "made by a test"}
    screen = Screen.create(path, ScreenRecord(**{**names, **record}))
    write_part(screen.patches_path, 0, patches)
    write_table(screen.cells_path, table, provenance("ingest"))
    return screen
