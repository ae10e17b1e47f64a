"""The Explore page in a real browser: files, the drawer, two drugs, look-alikes, the guide, and what is in view."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from .conftest import opened, quiet

pytestmark = pytest.mark.browser
Tab = Callable[..., Any]


@pytest.fixture(scope="module")
def url(app_server: Callable[..., str], tiny: Any) -> str:
    return app_server([tiny.screen], tiny.models)


def file(page: Any, form: str) -> tuple[str, bytes]:
    with page.expect_download() as caught:
        page.locator(f".files [data-form={form}]").click()
    with open(caught.value.path(), "rb") as handle:  # noqa: PTH123  (a path of Playwright's)
        return caught.value.suggested_filename, handle.read()


def test_files_show_the_channels_the_look_and_the_contrast_of_the_screen(tab: Tab, url: str) -> None:
    page = opened(tab(), f"{url}/?treatment=taxol%400.3&steps=5#look=mgc&channels=13&black=0&white=0.5_1_1")
    name, svg = file(page, "svg")
    text = svg.decode()
    assert name == "DMSO_to_taxol_0.3_µM.linear-a.svg"
    assert "DNA 0.00-0.50" in text and "Actin 0.00-1.00" in text and "not shown: Tubulin)" in text
    page.locator(".player").first.get_by_role("button", name="Grey").click()
    page.keyboard.press("3")
    page.locator(".player .frame").first.click()
    _, png = file(page, "png")
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    strip = pixels[60:180, 160:400]  # the first decoded cells
    assert (np.ptp(strip, axis=2) == 0).all() and strip.max() > 200
    _, gif = file(page, "gif")
    with Image.open(io.BytesIO(gif)) as moving:
        assert json.loads(moving.info["comment"])["config"]["treatment"] == "taxol@0.3"
    page.keyboard.press("1")
    page.locator(".files [data-form=png]").click()
    page.wait_for_selector("text=no channel is switched on")


def test_a_cell_of_the_gallery_opens_beside_it_in_view(tab: Tab, url: str) -> None:
    page = opened(tab(width=1366, height=768), f"{url}/?treatment=taxol%400.3&steps=5")
    first = page.locator(".cells figure[data-cell]").first
    expect(first).to_have_class("chosen")  # the chosen cell stands first
    cell = page.locator(".cells figure[data-cell]:not(.chosen)").first
    cell_id = cell.get_attribute("data-cell")
    cell.locator("button").click()
    button = page.get_by_role("button", name="Lead the path here")
    button.wait_for()
    quiet(page)
    shown, clicked = button.bounding_box(), cell.bounding_box()
    assert shown["x"] > clicked["x"] and 0 < shown["y"] < 768
    assert f"target={cell_id}" not in page.url
    button.click()
    page.wait_for_url(re.compile(f"target={cell_id}"))


def test_two_drugs_go_in_step(tab: Tab, url: str) -> None:
    page = opened(tab(), f"{url}/?treatment=taxol%400.3&steps=5&tab=Compare&versus=emetine%400.1#step=1")
    page.wait_for_function(
        "[...document.querySelectorAll('[data-testid=stBidiComponentIsolated]')]"
        ".filter((e) => e.shadowRoot?.querySelector('.player.compact[data-ready]')).length === 2"
    )
    players = page.locator(".player")
    for k in range(3):
        expect(players.nth(k)).to_have_attribute("data-frame", "1")
    players.nth(2).locator("input.scrub").fill("3")
    for k in range(3):
        expect(players.nth(k)).to_have_attribute("data-frame", "3")
    ends = [players.nth(k).locator("figcaption span").last.inner_text() for k in (1, 2)]
    assert "taxol 0.3 µM" in ends[0] and "emetine 0.1 µM" in ends[1]
    page.wait_for_selector("text=/have a cosine of/")
    page.wait_for_url(re.compile("versus=emetine"))


def test_a_treatment_and_its_cells_are_chosen_by_picture(tab: Tab, url: str) -> None:
    page = opened(tab(), f"{url}/?treatment=taxol%400.3&steps=5")
    page.get_by_role("button", name="by picture").click()
    picture = page.get_by_role("dialog").get_by_role("button", name=re.compile("^Protein synthesis, emetine 0.1"))
    picture.click()
    page.wait_for_url(re.compile("treatment=emetine%400.1"))
    page.get_by_role("dialog").wait_for(state="detached")
    for end, key, whose in (
        ("target cell", "target", "emetine 0.1 µM: the chosen"),
        ("control cell", "control", "DMSO "),
    ):
        page.get_by_role("button", name="by picture").click()
        shown = page.get_by_role("dialog")
        shown.get_by_role("radio", name=end).click()
        shown.get_by_text(re.compile(f"^{whose}.* cell, then the most typical")).wait_for()
        quiet(page)
        cell = shown.locator("figure:not(.chosen)").first.get_attribute("data-cell")
        shown.locator(f"figure[data-cell='{cell}'] button").click()
        page.wait_for_url(re.compile(f"{key}={cell}"))
        shown.wait_for(state="detached")


def test_a_look_alike_opens_its_path(tab: Tab, url: str) -> None:
    page = opened(tab(), f"{url}/?treatment=taxol%400.3&steps=5&tab=Looks+like")
    page.wait_for_selector("text=/The cell looks/")
    other = page.locator(".cells figure[data-cell*=emetine] button").first
    other.click()
    page.wait_for_url(re.compile("treatment=emetine.*target=emetine"))


def test_steps_of_a_straight_path_say_how_far_they_are(tab: Tab, url: str) -> None:
    page = opened(tab(), f"{url}/?treatment=taxol%400.3&steps=5&mode=linear")
    film = page.locator(".player .film").first
    expect(film.locator(".label").nth(1)).to_have_text("of the way")
    expect(film.locator(".cell.muted").nth(4)).to_have_text("100 %")
    assert film.locator(".frame").nth(4).get_attribute("title") == "100 % of the way"
    assert "feature" not in film.inner_text()


def test_the_ring_of_a_step_unlike_any_cell_is_whole_in_a_long_strip(tab: Tab, url: str) -> None:
    page = opened(tab(), f"{url}/?treatment=taxol%400.3&steps=20")
    frame = page.locator(".player .film.dense .frame").first
    assert frame.evaluate("(e) => getComputedStyle(e).overflow") == "visible"


def test_captions_of_cells_are_whole(tab: Tab, url: str) -> None:
    page = opened(tab(width=1366, height=768), f"{url}/?treatment=taxol%400.3&steps=5")
    lines = page.locator(".cells figcaption div")
    assert lines.count() > 5
    assert (
        page.locator(".cells figcaption").first.evaluate(
            "(e) => { e.lastChild.textContent = 'Week2_24361_plate_seven C10 #123'; "
            "return e.lastChild.scrollWidth <= e.lastChild.clientWidth && getComputedStyle(e.lastChild).whiteSpace; }"
        )
        == "normal"
    )


def test_the_first_visit_is_told_how_to_begin_and_the_second_is_not(tab: Tab, url: str) -> None:
    page = opened(tab(), url)
    guide = page.locator(".player .guide").first
    expect(guide).to_be_visible()
    expect(guide.locator("b")).to_have_text(["1", "2", "3"])
    guide.get_by_role("button", name="Got it").click()
    expect(guide).to_be_hidden()
    page.reload()
    page.wait_for_selector(".player[data-ready]")
    quiet(page)
    expect(page.locator(".player .guide").first).to_be_hidden()
    page.get_by_role("button", name="Guide").click()
    example = page.get_by_role("button", name=re.compile(": emetine 0.1 µM"))
    example.click()
    page.wait_for_url(re.compile("treatment=emetine"))


def test_verdict_pictures_and_cosine_are_in_view_at_1366(tab: Tab, url: str) -> None:
    page = opened(tab(width=1366, height=768), url)
    page.locator(".st-key-explore-path p").first.evaluate("(e) => { e.style.minHeight = '48px'; }")  # of two lines
    for part in (
        ".player canvas[data-role=now]",
        ".player .stage figcaption",
        ".player .transport",
        ".player .film .frame",
        ".player .film .numbers",
    ):
        box = page.locator(part).first.bounding_box()
        assert box["y"] > 0 and box["y"] + box["height"] <= 768, part
    expect(page.locator(".player .stage figure.now figcaption")).to_contain_text("cosine")
    curve, frames = page.locator(".player svg.curve").bounding_box(), page.locator(".player .frame").count()
    assert curve["width"] > frames * page.locator(".player .frame").first.bounding_box()["width"]
    wide = opened(tab(width=1920, height=1080), url)
    sizes = [p.locator(".player canvas[data-role=now]").first.bounding_box()["width"] for p in (page, wide)]
    assert sizes[1] > 1.5 * sizes[0]


def test_the_picture_comes_before_the_menus_on_a_telephone(tab: Tab, url: str) -> None:
    page = opened(tab(width=414, height=896), url)
    picture = page.locator(".player canvas[data-role=now]").first.bounding_box()
    assert picture["y"] < 400
    for name in ("Screen", "Model", "Treatment"):
        menu = page.get_by_role("combobox", name=re.compile(name)).bounding_box()
        assert picture["y"] + picture["height"] < menu["y"], name
    assert page.locator("[data-testid=stMain]").evaluate("(e) => e.scrollWidth <= e.clientWidth + 1")


FOCUSED = """() => {
  let node = document.activeElement;
  while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement;
  const style = getComputedStyle(node);
  return [node.getAttribute("aria-label") ?? node.textContent, `${style.outlineStyle} ${style.outlineWidth}`];
}"""


def test_the_page_is_walked_by_keyboard_in_the_order_it_is_read(tab: Tab, url: str) -> None:
    page = opened(tab(width=1366, height=768), f"{url}/?treatment=taxol%400.3&steps=5")
    names = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(FOCUSED)
        assert outline == "solid 2px", name
        names.append(name)
        if name.startswith("Path player"):
            page.keyboard.press("ArrowRight")
            page.wait_for_selector(".player[data-frame='1']")
            page.keyboard.press(" ")  # plays, and once more: stops
            page.wait_for_selector(".player:not([data-frame='1'])")
            page.keyboard.press(" ")
        if name == "Cells":
            break
    order = [
        "Screen",
        "Model",
        "Treatment",
        "Target cell",
        "Control cell",
        "Path player",
        "Play",
        "DNA",
        "Step of",
        "Copy",
    ]
    places = [next(i for i, name in enumerate(names) if name.startswith(word)) for word in [*order, "PNG", "Cells"]]
    assert places == sorted(places)
