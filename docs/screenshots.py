"""Make the pictures of the README and of the tour: every page, small, from a running app.

    python docs/screenshots.py SCREEN... [--models DIR] [--out docs] [--only NAME...]

Starts the app on the screens, opens each page in Chromium and writes WebP files of less than 200 kB each.
"""

from __future__ import annotations

import argparse
import io
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from cytovae.cli import apps

WIDTH, HEIGHT, SMALL = 1440, 1000, 960
LIMIT_BYTES = 200_000
FLAGS = ["--no-sandbox", "--headless", "--disable-background-networking", "--enable-unsafe-swiftshader"]
NEEDED = {
    "explore": ".player[data-ready]",
    "reconstructions": ".cells[data-ready]",
    "profiles": ".scatter[data-ready]",
    "screen": ".grid[data-ready]",
}
"""What must be there before the picture is taken; a title on the other pages."""


def small(picture: bytes) -> bytes:
    """A WebP of at most `SMALL` px width, as good as fits into `LIMIT_BYTES`."""
    with Image.open(io.BytesIO(picture)) as opened:
        image = opened.convert("RGB")
    width = min(SMALL, image.width)
    image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
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
    page.set_viewport_size({"width": WIDTH, "height": 1500})
    settle(page)
    box = page.locator("canvas.over").bounding_box()
    x, y, a, b = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"] / 2.5, box["height"] / 3
    page.mouse.move(x - a, y - b)
    page.mouse.down()
    for right, down in ((1, -1), (1, 1), (-1, 1), (-1, -1)):
        page.mouse.move(x + right * a, y + down * b, steps=6)
    page.mouse.up()
    page.locator(".cells figure").first.wait_for()
    settle(page)


def steps(page: Any) -> None:
    """Go to the path's fourth step."""
    for _ in range(3):
        page.keyboard.press("ArrowRight")


def by_picture(page: Any) -> None:
    """Open the pictures to choose by."""
    page.get_by_role("button", name="by picture").click()
    page.locator("[role=dialog] .cells[data-ready]").wait_for()
    settle(page)


def under(page: Any) -> None:
    """What stands under the path."""
    page.evaluate(
        "document.querySelector('[data-testid=stTabs]').scrollIntoView(); "
        "document.querySelector('[data-testid=stMain]').scrollBy(0, -70)"
    )
    page.wait_for_timeout(800)


def nothing(_: Any) -> None:
    """The page as it opens."""


@dataclass(frozen=True)
class Shot:
    """One picture: its file, the page, what its address says, the window, and what is done before it is taken."""

    file: str
    page: str
    link: str = ""
    width: int = WIDTH
    height: int = HEIGHT
    dark: bool = False
    act: Callable[[Any], None] = nothing


SHOTS = (
    Shot("explore", "explore", dark=True, act=steps),
    Shot("reconstructions", "reconstructions"),
    Shot("profiles", "profiles", act=lasso),
    Shot("mechanisms", "mechanisms"),
    Shot("quiz", "quiz"),
    Shot("screen", "screen", dark=True),
    Shot("tour/laptop", "explore", width=1366, height=768, act=steps),
    Shot("tour/laptop-dark", "explore", width=1366, height=768, dark=True, act=steps),
    Shot("tour/desk", "explore", width=1920, height=1080, act=steps),
    Shot("tour/telephone", "explore", width=414, height=896, act=steps),
    Shot("tour/telephone-dark", "explore", width=414, height=896, dark=True, act=steps),
    Shot("tour/by-picture", "explore", height=900, act=by_picture),
    Shot("tour/cells", "explore", "tab=Cells", height=760, act=under),
    Shot("tour/changed", "explore", "tab=What+changed", height=1000, act=under),
    Shot("tour/compare", "explore", "tab=Compare", height=1000, act=under),
    Shot("tour/looks-like", "explore", "tab=Looks+like", height=560, act=under),
    Shot("tour/mechanisms-dark", "mechanisms", dark=True),
)
"""The README's, then the tour's."""


def main() -> None:
    """Read the arguments, start the app, write the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("screens", nargs="+", type=Path)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--link", default="", help="query of the Explore page, such as 'treatment=taxol%%400.3'")
    parser.add_argument("--only", nargs="*", help="files to make, without their ending")
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
            for shot in SHOTS:
                if given.only and shot.file not in given.only:
                    continue
                context = browser.new_context(
                    viewport={"width": shot.width, "height": shot.height},
                    color_scheme="dark" if shot.dark else "light",
                )
                page = context.new_page()
                page.set_default_timeout(120_000)
                page.add_init_script("localStorage.setItem('cytovae-guided', '1')")
                link = "&".join(filter(None, [given.link if shot.page == "explore" else "", shot.link]))
                page.goto(f"{url}/{shot.page}" + (f"?{link}" if link else ""))
                page.wait_for_selector(NEEDED.get(shot.page, "h1"))
                settle(page)
                shot.act(page)
                picture = small(page.screenshot())
                file = given.out / f"{shot.file}.webp"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(picture)
                print(f"{file}: {len(picture) / 1000:.0f} kB", flush=True)
                context.close()
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
