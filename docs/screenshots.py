"""Make the pictures of the README: every page, small, from a running app.

    python docs/screenshots.py SCREEN... [--models DIR] [--out docs]

Starts the app on the screens, opens each page in Chromium and writes WebP files of less than 200 kB each.
"""

from __future__ import annotations

import argparse
import io
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from app.registry import PAGES
from cytovae.cli import apps

WIDTH, HEIGHT, SMALL = 1440, 1000, 960
LIMIT_BYTES = 200_000
FLAGS = ["--no-sandbox", "--headless", "--disable-background-networking", "--enable-unsafe-swiftshader"]
DARK = ("explore", "screen")
NEEDED = {
    "explore": ".player[data-ready]",
    "reconstructions": ".cells[data-ready]",
    "profiles": ".scatter[data-ready]",
    "screen": ".grid[data-ready]",
}
"""What must be there before the picture is taken; a title on the other pages."""


def small(picture: bytes) -> bytes:
    """A WebP of `SMALL` px width, as good as fits into `LIMIT_BYTES`."""
    with Image.open(io.BytesIO(picture)) as opened:
        image = opened.convert("RGB")
    image = image.resize((SMALL, round(image.height * SMALL / image.width)), Image.Resampling.LANCZOS)
    for quality in (90, 80, 70, 55):
        out = io.BytesIO()
        image.save(out, format="WEBP", quality=quality, method=6)
        if out.tell() < LIMIT_BYTES:
            break
    return out.getvalue()


def settle(page: Any) -> None:
    """Wait until the page has everything."""
    page.wait_for_timeout(1500)
    page.wait_for_function("!document.querySelector('[data-testid=stStatusWidget]')", timeout=120_000)
    page.wait_for_timeout(800)


def lasso(page: Any) -> None:
    """Select most of the map, so that the gallery shows."""
    box = page.locator("canvas.over").bounding_box()
    x, y, a, b = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"] / 2.5, box["height"] / 3
    page.mouse.move(x - a, y - b)
    page.mouse.down()
    for right, down in ((1, -1), (1, 1), (-1, 1), (-1, -1)):
        page.mouse.move(x + right * a, y + down * b, steps=6)
    page.mouse.up()
    settle(page)


def main() -> None:
    """Read the arguments, start the app, write the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("screens", nargs="+", type=Path)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--link", default="", help="query of the Explore page, such as 'treatment=taxol%%400.3'")
    given = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not on the PATH: 'make chromium' installs it")
    from playwright.sync_api import sync_playwright

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = apps.start_app(given.screens, given.models, "127.0.0.1", port)
    url = f"http://127.0.0.1:{port}"
    try:
        apps.wait_healthy(server, url)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            for name in (entry.name for entry in PAGES):
                scheme = "dark" if name in DARK else "light"
                context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
                page = context.new_page()
                page.goto(f"{url}/{name}" + (f"?{given.link}" if name == "explore" and given.link else ""))
                page.wait_for_selector(NEEDED.get(name, "h1"), timeout=120_000)
                settle(page)
                if name == "explore":
                    for _ in range(3):
                        page.keyboard.press("ArrowRight")
                if name == "profiles":
                    page.set_viewport_size({"width": WIDTH, "height": 1500})
                    settle(page)
                    lasso(page)
                picture = small(page.screenshot())
                (given.out / f"{name}.webp").write_bytes(picture)
                print(f"{given.out / name}.webp: {len(picture) / 1000:.0f} kB")
                context.close()
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
