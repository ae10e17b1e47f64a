"""How quick the app is: a real server and a real Chromium, on a screen of 100,000 simulated cells.

Prints the seconds to the first picture of a warm screen, from another treatment to its pixels, between pages, and from
the end of a lasso round all cells to their gallery. Needs Chromium (``make chromium``); what else runs counts too.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from app.common import loaders
from cytovae import schema
from cytovae.config import ScreenRecord
from cytovae.learn import bundle
from cytovae.screen import Screen, provenance, write_table

ROOT = Path(__file__).resolve().parent.parent
N_CELLS, N_FEATURES, SIZE = 100_000, 64, 68
N_WELLS, N_CONTROLS = 125, 28
"""Of each of five plates; every well that is no control's holds a treatment of its own."""
FLAGS = ["--no-sandbox", "--headless", "--disable-background-networking", "--enable-unsafe-swiftshader"]
TARGETS = {"first picture": 2.0, "another path": 0.4, "another page": 1.0}


def make(folder: Path) -> tuple[Path, Path]:
    """A screen of textured cells in clusters, one per treatment, and a linear model that draws them.

    Five plates of 125 wells of 160 cells: 28 wells of controls, and one of each of 97 treatments.
    """
    rng = np.random.default_rng(0)
    number = np.arange(N_CELLS)
    well = number % N_WELLS
    kind = np.maximum(well - N_CONTROLS + 1, 0)
    compound = np.where(kind == 0, "DMSO", np.char.add("compound-", (kind // 4).astype(str)))
    dose = np.where(kind == 0, 0.0, 10.0 ** (kind % 4 - 2))
    plate = np.char.add("Week", np.char.add((1 + number // N_WELLS % 5).astype(str), "_P1"))
    table = pd.DataFrame(
        {
            schema.CELL_ID: np.char.add("cell-", number.astype(str)),
            schema.FIELD: np.char.add(plate, "/s1"),
            schema.PLATE: plate,
            schema.WELL: [f"{'ABCDEFGHIJKLMNOP'[k // 24]}{k % 24 + 1:02d}" for k in well],
            schema.SITE: 1,
            schema.REPLICATE: 1,
            schema.BATCH: [p.partition("_")[0] for p in plate],
            schema.COMPOUND: compound,
            schema.CONCENTRATION: dose,
            schema.TREATMENT: [schema.treatment_name(c, d) for c, d in zip(compound, dose, strict=True)],
            schema.MOA: np.where(kind == 0, "DMSO", np.char.add("mechanism-", (kind % 12).astype(str))),
            schema.OBJECT: number,
            schema.CENTER_Y: np.nan,
            schema.CENTER_X: np.nan,
            schema.BLANK: False,
        }
    )[list(schema.CELL_COLUMNS)]
    screen = Screen.create(folder / "large.screen", ScreenRecord("100,000 cells", ("DNA", "Tubulin", "Actin")))
    write_table(screen.cells_path, table, provenance("ingest"))
    screen.patches_path.mkdir()
    # a sparse file: places without pixels read as 0 and take no room on disk
    shape = (N_CELLS, SIZE, SIZE, 3)
    patches = np.lib.format.open_memmap(screen.patches_path / "part-00000.npy", "w+", np.uint16, shape)
    patches[:2000] = rng.integers(100, 4000, (2000, SIZE, SIZE, 3), dtype=np.uint16)
    del patches
    centres = rng.normal(0, 3, (N_WELLS - N_CONTROLS + 1, N_FEATURES))
    z = (centres[kind] + rng.normal(0, 1, (N_CELLS, N_FEATURES))).astype(np.float32)
    screen.write_embeddings(
        "linear", table[schema.CELL_ID].tolist(), z, provenance("embed", inputs={"cells": screen.cells_digest()})
    )
    components = rng.normal(0, 0.02, (N_FEATURES, SIZE * SIZE * 3)).astype(np.float32)
    config = bundle.new_config("linear", "pca", screen.record.channels, N_FEATURES, SIZE)
    arrays = {"mean": np.full(SIZE * SIZE * 3, 0.4, np.float32), "components": components}
    bundle.save(folder / "models" / "linear", arrays, config, {})
    return screen.path, folder / "models"


def serve(screen: Path, models: Path, port: int) -> subprocess.Popen[bytes]:
    """The app, healthy."""
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CYTOVAE_SCREENS": str(screen),
        "CYTOVAE_MODELS": str(models),
        "CYTOVAE_QUIZ_DB": f"sqlite:///{screen.parent / 'quiz.sqlite'}",
    }
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app" / "main.py"), f"--server.port={port}"]
    server = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1):
                return server
        except OSError:
            time.sleep(0.1)
    server.terminate()
    raise SystemExit("the app did not start")


PLAYER = """() => {
  for (const host of document.querySelectorAll('[data-testid=stBidiComponentIsolated]')) {
    const player = host.shadowRoot?.querySelector('.player'); if (player) return player.dataset.ready ?? null;
  }
  return null;
}"""


def quiet(page: Any) -> None:
    """Wait until the server has nothing more to do for the page."""
    page.wait_for_timeout(300)
    page.wait_for_function("!document.querySelector('[data-testid=stStatusWidget]')", timeout=60_000)


def measure(page: Any, url: str) -> dict[str, list[float]]:
    """Seconds by what was done, three times each."""
    found: dict[str, list[float]] = {}

    def clock(name: str, start: float) -> None:
        found.setdefault(name, []).append(time.perf_counter() - start)

    page.goto(url)
    page.wait_for_function(f"({PLAYER})() !== null", timeout=120_000)  # warms model and caches
    quiet(page)
    for k in range(3):
        start = time.perf_counter()
        page.goto(url)
        page.wait_for_function(f"({PLAYER})() !== null")
        clock("first picture", start)
        quiet(page)
        before = page.evaluate(PLAYER)
        page.get_by_role("combobox", name="Treatment").click()
        page.keyboard.type(loaders.named(f"compound-{5 + 3 * k}@1"))
        page.wait_for_timeout(400)
        start = time.perf_counter()
        page.keyboard.press("Enter")
        page.wait_for_function(f"(old) => ({PLAYER})() !== old", arg=before, polling=10)
        clock("another path", start)
        quiet(page)
        for name, sign in (
            ("Reconstructions", "What does each"),
            ("Screen", "What is in"),
            ("Explore", "What does the"),
        ):
            start = time.perf_counter()
            page.get_by_role("link", name=name).click()
            page.get_by_text(sign).wait_for()
            clock("another page", start)
            quiet(page)
    page.goto(f"{url}/profiles?level=cells")
    page.wait_for_selector(".scatter[data-ready]", timeout=120_000)
    quiet(page)
    box = page.locator("canvas.over").bounding_box()
    page.mouse.move(box["x"] + 3, box["y"] + 3)
    page.mouse.down()
    for x, y in ((1, 0), (1, 1), (0, 1), (0, 0)):
        page.mouse.move(box["x"] + 3 + x * (box["width"] - 6), box["y"] + 3 + y * (box["height"] - 6), steps=5)
    start = time.perf_counter()
    page.mouse.up()
    page.wait_for_selector(".cells figure[data-cell]", timeout=60_000)
    clock(f"lasso round {N_CELLS:,} cells to their gallery", start)
    return found


def main() -> None:
    """Print one line per measurement."""
    chromium = os.environ.get("CYTOVAE_CHROMIUM") or shutil.which("chromium")
    if not chromium:
        print("app: skipped, chromium is not on the PATH")
        return
    from playwright.sync_api import sync_playwright

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        server = serve(*make(Path(folder)), port)
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
                found = measure(browser.new_page(viewport={"width": 1440, "height": 900}), f"http://127.0.0.1:{port}")
                browser.close()
        finally:
            server.terminate()
            server.wait()
    load = os.getloadavg()[0]
    print(f"app on {N_CELLS:,} cells, {os.cpu_count()} cores, load average {load:.1f}")
    for name, seconds in found.items():
        target = f"  (wanted: under {TARGETS[name]:g} s)" if name in TARGETS else ""
        print(f"  {name:45s} median {statistics.median(seconds):6.2f} s, worst {max(seconds):6.2f} s{target}")


if __name__ == "__main__":
    main()
