"""A real server, a real browser and small screens for the app's tests."""

from __future__ import annotations

import contextlib
import json
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
from cytovae.patches import write_part
from cytovae.screen import Screen, provenance, write_table

collect_ignore = ["watched"]  # it is put before the app in another process, and is no test

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = float(os.environ.get("CYTOVAE_PATIENCE", "1"))
"""How many times as long as usual to wait for servers and pages, where the machine has other work."""
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--headless",
    "--disable-background-networking",
    "--enable-unsafe-swiftshader",
]


WIRE = """(() => {
  const wire = window.cytovaeWire = { sent: 0, answered: false, at: performance.now() };
  window.WebSocket = class extends WebSocket {
    constructor(...where) {
      super(...where);
      this.addEventListener("message", () => { wire.answered = true; wire.at = performance.now(); });
    }
    send(...what) { wire.sent += 1; wire.answered = false; wire.at = performance.now(); super.send(...what); }
  };
})()"""
"""What a page sends to its server, and whether it was answered."""

STILL = """async (ms) => {
  await new Promise((done) => setTimeout(done, ms));  // what was clicked is sent by now
  const app = () => document.querySelector("[data-testid=stApp]")?.dataset.testScriptState;
  const still = () => cytovaeWire.answered && app() === "notRunning" && performance.now() - cytovaeWire.at > ms;
  while (!still() || document.querySelector("[data-testid=stSkeleton]")) {
    await new Promise((done) => setTimeout(done, 20));
  }
}"""


def quiet(page: Any) -> None:
    """Wait until the server has answered what the page sent, its script has ended, and nothing has come since.

    Clocks of the page itself tell the time, so a page that gets no processor is waited for.
    """
    page.evaluate(STILL, 300)


def opened(page: Any, address: str) -> Any:
    """Open an address of the Explore page, and wait for its path and all that stands beside it."""
    page.goto(address)
    page.wait_for_selector(".player[data-ready]")
    quiet(page)
    return page


def until(page: Any, holds: Callable[[], bool], what: str) -> None:
    """Wait until it holds: for what no locator can see."""
    end = time.monotonic() + 30 * PATIENCE
    while not holds():
        assert time.monotonic() < end, what
        page.wait_for_timeout(50)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium under Playwright; tests that need it skip where it is not installed."""
    path = os.environ.get("CYTOVAE_CHROMIUM") or shutil.which("chromium")
    if not path:
        pytest.skip("chromium is not on the PATH: 'make chromium' installs it (or set CYTOVAE_CHROMIUM)")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000 * PATIENCE)
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
        context.add_init_script(WIRE)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000 * PATIENCE)
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
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app" / "server.py")]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, f"--server.port={port}", "--server.address=127.0.0.1"],
            env=env,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 60 * PATIENCE
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
            cell_id = f"{compound.replace(' ', '')}{concentration:g}_{i:02d}"
            where = (cell_id, f"{plate}/{well}/s1", plate, well, 1, 1, f"Week{1 + i % 2}")
            rows.append((*where, compound, concentration, name, moa, i, 100.0, 100.0, False))
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
        noisy = np.stack(planes, -1) * rng.uniform(0.6, 1.0, 3) + 0.15 * rng.random((size, size, 3))
        out[i] = (200 + 3000 * noisy).astype(np.uint16)
    return out


def write_screen(path: Path, table: pd.DataFrame, patches: np.ndarray, **record: Any) -> Screen:
    """A screen folder of these cells."""
    names = {"name": "Tiny screen", "channels": ("DNA", "Tubulin", "Actin"), "source": "made by a test"}
    screen = Screen.create(path, ScreenRecord(**{**names, **record}))
    write_part(screen.patches_path, 0, patches)
    write_table(screen.cells_path, table, provenance("ingest"))
    return screen


class Loaded:
    """Where a screen and the models made on it lie."""

    def __init__(self, screen: Path, models: Path) -> None:
        self.screen = screen
        self.models = models


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """65 textured cells of six treatments on two plates, embedded, profiled and scored with two linear models.

    Read it only: it is shared by all tests.
    """
    from typer.testing import CliRunner

    from cytovae.cli import console, profiles  # noqa: F401  (registers its verbs)
    from cytovae.learn import bundle, embed, linear

    folder = tmp_path_factory.mktemp("tiny")
    table = cells_table()
    screen = write_screen(folder / "tiny.screen", table, textured_patches(table, np.random.default_rng(3)))
    fields = table.drop_duplicates(schema.FIELD).copy()
    fields[schema.STATUS], fields[schema.CODE], fields[schema.REASON], fields[schema.N_CELLS] = "ok", "", "", 3
    fields.loc[fields.index[0], [schema.STATUS, schema.CODE, schema.REASON]] = [
        "refused",
        "missing-file",
        "the Actin file Week1/a.tif does not exist",
    ]
    write_table(screen.fields_path, fields.reindex(columns=list(schema.FIELD_COLUMNS)), provenance("ingest"))
    for name, held_out in (("linear-a", 0.2), ("linear-b", 0.4)):
        linear.fit(screen, folder / "models" / name, linear.Recipe(held_out=held_out))
        embed.embed(screen, bundle.load(folder / "models" / name))
    paths = [str(screen.path), *(str(folder / "models" / n) for n in ("linear-a", "linear-b"))]
    for verb in ("profile", "benchmark"):
        done = CliRunner().invoke(console.app, [verb, *paths])
        assert done.exit_code == 0, done.output
    log = [{"iteration": i, "it_per_s": 2.0, "eta_s": 9.0, "pixel": 500 / i, "kl": 200 / i} for i in range(1, 40)]
    (folder / "models" / "linear-a" / "training.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    return Loaded(screen.path, folder / "models")


TWINS = (
    ("DMSO", 0.0, "DMSO", 8),
    ("taxol", 0.3, "Microtubule stabilizers", 8),
    ("epothilone", 1.0, "Microtubule stabilizers", 8),
    ("emetine", 0.1, "Protein synthesis", 8),
    ("anisomycin", 1.0, "Protein synthesis", 8),
)
"""Two compounds a mechanism."""


@pytest.fixture(scope="session")
def twins(tiny: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A screen whose mechanisms have two compounds each, embedded and scored: there is something to confuse."""
    from typer.testing import CliRunner

    from cytovae.cli import console, profiles  # noqa: F401  (registers its verbs)
    from cytovae.learn import bundle, embed

    table = cells_table(TWINS)
    patches = textured_patches(table, np.random.default_rng(5))
    made = write_screen(tmp_path_factory.mktemp("twins") / "twins.screen", table, patches, name="Twins")
    embed.embed(made, bundle.load(tiny.models / "linear-a"))
    plain = ["--summary", "mean", "--whiten", "none", "--no-baselines", "--no-figures"]
    done = CliRunner().invoke(console.app, ["benchmark", str(made.path), *plain])
    assert done.exit_code == 0, done.output
    return made.path


def drive(page: str, link: dict[str, str], timeout: float = 60) -> Any:
    """A page as a link opens it, through the entry file and without a browser."""
    from streamlit.testing.v1 import AppTest

    test = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=timeout)
    for key, value in link.items() if page == "explore" else ():
        test.query_params[key] = value
    test.run()
    if page != "explore":
        test.switch_page(f"{page}/page.py")
        for key, value in link.items():
            test.query_params[key] = value
        test.run()
    return test


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """``app(screens, models, page, **link)`` runs a page through the entry file, without a browser."""
    import streamlit as st

    monkeypatch.setenv("CYTOVAE_QUIZ_DB", f"sqlite:///{tmp_path / 'quiz.sqlite'}")

    def run(screens: Sequence[Path], models: Path, page: str = "explore", **link: str) -> Any:
        monkeypatch.setenv("CYTOVAE_SCREENS", os.pathsep.join(map(str, screens)))
        monkeypatch.setenv("CYTOVAE_MODELS", str(models))
        return drive(page, link)

    yield run
    st.cache_data.clear()
    st.cache_resource.clear()  # what the app keeps of a screen stays: it is told by the stamps of the screen's files


@pytest.fixture
def empty_screen(tmp_path: Path) -> Path:
    """A screen in which no cell was found."""
    screen = Screen.create(tmp_path / "empty.screen", ScreenRecord("Empty screen", ("DNA", "Tubulin", "Actin")))
    write_table(screen.cells_path, cells_table().iloc[:0], provenance("ingest"))
    write_part(screen.patches_path, 0, np.zeros((0, 68, 68, 3), np.uint16))
    return screen.path
