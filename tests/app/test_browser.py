"""The app in a real browser: the path player, the map, links, downloads, and two people at once."""

from __future__ import annotations

import csv
import io
import json
import re
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import expect

from app.common import galleries
from app.registry import PAGES
from cytovae import schema
from cytovae.screen import Screen

from .conftest import quiet

pytestmark = pytest.mark.browser
Tab = Callable[..., Any]

PIXELS = """(canvas) => {
  const d = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data, sums = [0, 0, 0];
  for (let i = 0; i < d.length; i += 4) for (let c = 0; c < 3; c++) sums[c] += d[i + c];
  return sums;
}"""


@pytest.fixture(scope="module")
def url(app_server: Callable[..., str], tiny: Any) -> str:
    return app_server([tiny.screen], tiny.models)


@pytest.fixture
def explore(tab: Tab, url: str) -> Any:
    """The Explore page with its first path on screen."""
    page = tab()
    page.goto(f"{url}/?treatment=taxol%400.3&steps=7")
    page.wait_for_selector(".player[data-ready]")
    quiet(page)
    return page


def big(page: Any) -> list[float]:
    """Sums of red, green and blue of the large picture of the path."""
    return page.locator(".player canvas[data-role=now]").first.evaluate(PIXELS)


def frame(page: Any) -> int:
    return int(page.locator(".player").first.get_attribute("data-frame"))


def sent(page: Any) -> int:
    """Messages that the page has sent to the server."""
    return int(page.evaluate("cytovaeWire.sent"))


def at_frame(page: Any, step: int) -> None:
    """The path's player has come to this step."""
    expect(page.locator(".player").first).to_have_attribute("data-frame", str(step))


def choose(page: Any, menu: str, words: str) -> None:
    """Write a word into a menu and take what it finds."""
    page.get_by_role("combobox", name=re.compile(menu)).click()
    page.keyboard.type(words)
    option = page.get_by_role("option")
    expect(option).to_have_count(1)
    option.click()


def test_arrow_keys_and_scrubbing_change_the_picture_without_the_server(explore: Any) -> None:
    page = explore
    before = sent(page)
    seen = {0: big(page)}
    for step in (1, 2, 3):
        page.keyboard.press("ArrowRight")
        at_frame(page, step)
        seen[step] = big(page)
    assert len({tuple(v) for v in seen.values()}) == 4
    page.keyboard.press("ArrowLeft")
    at_frame(page, 2)
    assert big(page) == seen[2]
    page.locator(".player input.scrub").first.fill("6")
    at_frame(page, 6)
    expect(page.locator(".player .stage").first).to_contain_text("Decoded end")
    page.locator(".player .frame").nth(3).click()
    at_frame(page, 3)
    assert big(page) == seen[3]
    page.wait_for_timeout(300)
    assert sent(page) == before


def test_play_moves_and_pauses(explore: Any) -> None:
    page = explore
    page.locator(".player .play").first.click()
    page.wait_for_function(
        "Number(document.querySelector('[data-testid=stBidiComponentIsolated]').shadowRoot"
        ".querySelector('.player').dataset.frame) >= 3"
    )
    page.locator(".player .play").first.click()
    at = frame(page)
    page.wait_for_timeout(700)
    assert frame(page) == at


def test_channel_keys_take_their_colour_out_of_every_picture(explore: Any) -> None:
    page = explore
    before = sent(page)
    red, green, blue = big(page)
    assert min(red, green, blue) > 0
    page.keyboard.press("1")
    assert big(page) == [0, green, blue]
    page.keyboard.press("2")
    assert big(page) == [0, 0, blue]
    assert page.locator(".cells canvas").first.evaluate(PIXELS)[:2] == [0, 0]
    page.keyboard.press("1")
    page.keyboard.press("2")
    assert big(page) == [red, green, blue]
    page.wait_for_timeout(300)
    assert sent(page) == before


def test_typing_a_digit_into_a_field_is_no_channel_key(explore: Any) -> None:
    page = explore
    before = big(page)
    page.get_by_role("combobox", name=re.compile("Target cell")).click()
    page.keyboard.type("123")
    assert big(page) == before


def test_looks_contrast_gamma_and_side_by_side(explore: Any) -> None:
    page = explore
    before = big(page)
    player = page.locator(".player").first
    player.get_by_role("button", name="Grey").click()
    red, green, blue = big(page)
    assert red == green == blue
    player.get_by_role("button", name="MGC").click()
    assert big(page) != before
    player.get_by_role("button", name="RGB").click()
    player.get_by_text("Contrast", exact=True).click()
    player.locator("[data-view=gamma]").fill("0.5")
    assert sum(big(page)) > sum(before)
    player.locator("[data-view=hi]").nth(1).fill("0.5")
    red, green, blue = big(page)
    assert green > before[1]
    expect(player.locator(".contrast output").nth(3)).to_have_text("0.50")
    player.get_by_role("button", name="Reset").click()
    assert big(page) == before
    player.get_by_role("button", name="Side by side").click()
    expect(player.locator(".stage figcaption b")).to_have_count(12)  # control, decoded, target; all channels, then each
    captions = player.locator(".stage figcaption b").all_inner_texts()
    assert captions[1:4] == captions[5:8] == captions[9:] == ["DNA", "Tubulin", "Actin"]


def test_strip_shows_both_ends_real_both_cosines_and_the_nearest_cell(explore: Any) -> None:
    player = explore.locator(".player").first
    expect(player.locator("canvas[data-role=end]")).to_have_count(2)
    expect(player.locator("canvas[data-role=frame]")).to_have_count(7)
    expect(player.locator("canvas[data-role=near]")).to_have_count(7)
    numbers = player.locator(".film .numbers").all_inner_texts()
    assert len(numbers) == 7
    assert numbers[-1].split()[0] == "1.00"
    expect(player.locator(".near .name").first).not_to_be_empty()
    expect(player.locator(".stage .bar span").first).to_have_text("20 px")


def test_strip_of_many_steps_follows_the_present_one(tab: Tab, url: str) -> None:
    page = tab(width=1366, height=768)
    page.goto(f"{url}/?treatment=taxol%400.3&steps=30")
    page.wait_for_selector(".player[data-ready]")
    quiet(page)
    expect(page.locator(".player canvas[data-role=frame]")).to_have_count(30)
    page.locator(".player input.scrub").first.fill("29")
    at_frame(page, 29)
    film, now = (
        page.locator(".player .scroller").first.bounding_box(),
        page.locator(".player .frame.now").bounding_box(),
    )
    assert film["x"] - 1 <= now["x"] and now["x"] + now["width"] <= film["x"] + film["width"] + 1
    page.locator(".player input.scrub").first.fill("0")
    at_frame(page, 0)
    now = page.locator(".player .frame.now").bounding_box()
    assert film["x"] - 1 <= now["x"]


def test_magenta_green_and_cyan_together_keep_their_hue(explore: Any) -> None:
    player = explore.locator(".player").first
    player.get_by_role("button", name="MGC").click()
    clipped = """(canvas) => {
      const d = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data; let n = 0;
      for (let i = 0; i < d.length; i += 4) n += [0, 1, 2].filter((c) => d[i + c] === 255).length > 1;
      return n / (d.length / 4);
    }"""
    shares = player.locator("canvas[data-role=end]").evaluate_all(f"(all) => all.map({clipped})")
    assert max(shares) < 0.002


def test_space_plays_wherever_the_focus_is_not_in_a_field(explore: Any) -> None:
    page = explore
    page.mouse.move(5, 300)
    page.keyboard.press("Space")
    page.wait_for_function(
        "Number(document.querySelector('[data-testid=stBidiComponentIsolated]').shadowRoot"
        ".querySelector('.player').dataset.frame) >= 2"
    )
    expect(page.locator(".player .play").first).to_have_attribute("aria-label", "Pause")
    page.keyboard.press("Space")
    expect(page.locator(".player .play").first).to_have_attribute("aria-label", "Play")


def test_every_picture_button_and_slider_says_what_it_is(explore: Any) -> None:
    page = explore
    silent = "(all) => all.filter((e) => !e.getAttribute('aria-label') || e.getAttribute('role') !== 'img').length"
    for part in (".player", ".cells"):
        assert page.locator(f"{part} canvas").count() > 0
        assert page.locator(f"{part} canvas").evaluate_all(silent) == 0
    names = page.locator(".cells .pick").evaluate_all("(all) => all.map((e) => e.getAttribute('aria-label'))")
    assert len(set(names)) == len(names) > 5
    page.keyboard.press("ArrowRight")
    said = re.compile(r"^step 1 of 6, .+, cosine -?\d\.\d\d$")
    expect(page.locator(".player input.scrub").first).to_have_attribute("aria-valuetext", said)


def test_another_treatment_shows_another_path(explore: Any) -> None:
    page = explore
    player = page.locator(".player").first
    first = player.get_attribute("data-ready")
    page.get_by_role("combobox", name=re.compile("Treatment")).click()
    page.keyboard.type("emetine")
    expect(page.get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(player).not_to_have_attribute("data-ready", first)
    page.wait_for_url(re.compile("treatment=emetine"))
    expect(page.locator(".player .stage").first).to_contain_text("emetine 0.1 µM")


def test_click_on_a_cell_makes_it_the_target_and_the_link_keeps_it(explore: Any, tab: Tab) -> None:
    page = explore
    cell = page.locator(".cells figure[data-cell]:not(.chosen)").first
    cell_id = cell.get_attribute("data-cell")
    cell.locator("button").click()
    page.get_by_role("button", name="Lead the path here").click()
    page.wait_for_url(re.compile("target=" + cell_id))
    quiet(page)
    page.locator(".copy").click()
    expect(page.locator(".copy")).to_have_attribute("data-link", re.compile("target=" + cell_id))
    link = page.locator(".copy").get_attribute("data-link")
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(link).query)
    assert query["target"] == [cell_id] and query["treatment"] == ["taxol@0.3"] and query["steps"] == ["7"]
    other = tab()
    other.goto(link)
    shown = page.locator(".player").first.get_attribute("data-ready")
    expect(other.locator(".player").first).to_have_attribute("data-ready", shown)


def test_downloads_are_the_files_they_claim_to_be(explore: Any) -> None:
    page, found = explore, {}
    for label in ("GIF", "PNG", "SVG", "CSV", "HTML"):
        with page.expect_download() as caught:
            page.locator(f".files [data-form={label.lower()}]").click()
        assert caught.value.suggested_filename.endswith("." + label.lower())
        with open(caught.value.path(), "rb") as handle:  # noqa: PTH123  (a path of Playwright's)
            found[label] = handle.read()
    with Image.open(io.BytesIO(found["GIF"])) as moving:
        assert moving.n_frames == 2 * (7 + 2) - 2  # the real cells at both ends too, there and back
    with Image.open(io.BytesIO(found["PNG"])) as strip:
        assert json.loads(strip.info["cytovae"])["config"]["treatment"] == "taxol@0.3"
    assert found["SVG"].lstrip().startswith(b"<svg") and b"image-rendering:pixelated" in found["SVG"]
    rows = list(csv.DictReader(io.StringIO(found["CSV"].decode())))
    assert [row["step"] for row in rows] == [str(k) for k in range(7)]
    assert found["HTML"].count(b"<button") == 7 and b"http" not in found["HTML"].replace(b"http://www.w3.org", b"")
    assert float(rows[-1]["cosine"]) == pytest.approx(1.0)


def lasso(page: Any, part: float = 1.0) -> None:
    """Draw a frame on the map; `part` of its half height and width."""
    box = page.locator("canvas.over").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    a, b = part * (box["width"] / 2 - 3), part * (box["height"] / 2 - 3)
    page.mouse.move(x - a, y - b)
    page.mouse.down()
    for right, down in ((1, -1), (1, 1), (-1, 1), (-1, -1)):
        page.mouse.move(x + right * a, y + down * b, steps=8)
    page.mouse.up()


def test_lasso_gallery_target(tab: Tab, url: str, tiny: Any) -> None:
    page = tab()
    page.goto(f"{url}/profiles?level=cells")
    page.wait_for_selector(".scatter[data-ready]")
    quiet(page)
    lasso(page)
    page.wait_for_selector(".cells figure[data-cell]")
    quiet(page)
    said = page.get_by_text(re.compile(r"^\d+ cells selected$"))
    chosen = said.inner_text()
    number = chosen.split()[0]
    assert int(number) > 0
    expect(page.locator(".scatter")).to_have_attribute("data-selected", number)
    # the selection outlives a change of level and of model, by id
    choose(page, "Model", "linear-b")
    page.wait_for_url(re.compile("model=linear-b"))
    quiet(page)
    expect(page.locator(".scatter")).to_have_attribute("data-selected", number)
    expect(said).to_have_text(chosen)
    cell = page.locator(".cells figure[data-cell*=emetine], .cells figure[data-cell*=taxol]").first
    cell_id = cell.get_attribute("data-cell")
    cell.locator("button").click()
    page.get_by_role("button", name="Use as target").click()
    page.wait_for_selector(".player[data-ready]")
    page.wait_for_url(re.compile(f"target={cell_id}"))
    cells = Screen.open(tiny.screen).cells()
    name = galleries.short(cells[cells[schema.CELL_ID] == cell_id].iloc[0])
    expect(page.locator("[data-testid=stMain]")).to_contain_text(f"End: {name}")


def test_hover_shows_the_cell_and_undo_takes_a_selection_back(tab: Tab, url: str) -> None:
    page = tab()
    page.goto(f"{url}/profiles?level=treatments")
    page.wait_for_selector(".scatter[data-ready]")
    quiet(page)
    lasso(page)
    page.wait_for_selector("text=/6 treatments, 65 cells selected/")
    page.get_by_role("button", name="Clear selection").click()
    page.wait_for_selector("text=Draw a lasso round points")
    expect(page.locator(".scatter")).to_have_attribute("data-selected", "0")
    page.get_by_role("button", name="Undo").click()
    page.wait_for_selector("text=/6 treatments, 65 cells selected/")
    expect(page.locator(".scatter")).to_have_attribute("data-selected", "6")
    quiet(page)
    box = page.locator("canvas.over").bounding_box()
    tip = page.locator(".tip")
    for k in range(0, int(box["width"]), 6):  # look for a point
        for row in range(8, int(box["height"]), 24):
            page.mouse.move(box["x"] + k, box["y"] + row)
            if tip.evaluate("(e) => getComputedStyle(e).display") == "block":
                break
        else:
            continue
        break
    name = tip.inner_text()
    page.wait_for_selector(f"text=Under the pointer: typical cell of {name}")


def test_search_on_the_map_opens_a_point_or_says_no_match(tab: Tab, url: str) -> None:
    page = tab()
    page.goto(f"{url}/profiles?level=treatments")
    page.wait_for_selector(".scatter[data-ready]")
    quiet(page)
    expect(page.locator(".scatter .across")).to_contain_text("of variance")
    page.locator(".scatter .find").fill("nothing like it")
    expect(page.locator(".legend-list")).to_have_text("no match")
    page.locator(".scatter .find").fill("emetine")
    page.locator(".legend-list .hit").first.click()
    page.wait_for_selector("text=Opened: typical cell of emetine 0.1 µM")


def test_pages_open_by_their_address_on_a_fresh_server(tab: Tab, app_server: Callable[..., str], tiny: Any) -> None:
    fresh = app_server([tiny.screen], tiny.models, CYTOVAE_FRESH="1")
    for entry in PAGES:
        page = tab(color_scheme="dark")
        visited: list[str] = []
        page.on("framenavigated", lambda frame, seen=visited: seen.append(frame.url))
        page.goto(f"{fresh}/{entry.name}?model=linear-b")
        page.wait_for_selector("h1")
        quiet(page)
        expect(page.get_by_role("link", name="Reconstructions")).to_have_count(1)
        assert not page.get_by_text("Page not found").count()
        assert {urllib.parse.urlsplit(address).path for address in visited} == {f"/{entry.name}"}  # no detour
        page.wait_for_url(re.compile("model=linear-b"))
        # the theme beside main.py applies, wherever the server was started
        expect(page.locator(".stApp")).to_have_css("background-color", "rgb(14, 19, 23)")
        page.close()


def test_two_people_do_not_share_their_choices(tab: Tab, url: str) -> None:
    one, two = tab(), tab(width=420)
    one.goto(f"{url}/?treatment=taxol%400.3")
    two.goto(f"{url}/?treatment=emetine%400.1&model=linear-b")
    for page in (one, two):
        page.wait_for_selector(".player[data-ready]")
        quiet(page)
    one.keyboard.press("1")
    assert big(one)[0] == 0
    assert big(two)[0] > 0
    one.goto(f"{url}/profiles?level=cells")
    one.wait_for_selector(".scatter[data-ready]")
    quiet(one)
    lasso(one)
    one.wait_for_selector("text=/cells selected/")
    two.goto(f"{url}/profiles?level=cells")
    two.wait_for_selector(".scatter[data-ready]")
    quiet(two)
    expect(two.locator(".scatter")).to_have_attribute("data-selected", "0")


def test_page_asks_nothing_of_the_internet(tab: Tab, url: str) -> None:
    page, asked = tab(), []
    page.on("request", lambda request: asked.append(request.url))
    for name in ("", "reconstructions", "profiles", "mechanisms", "screen"):
        page.goto(f"{url}/{name}")
        page.wait_for_selector("h1")
        quiet(page)
    foreign = [a for a in asked if not a.startswith((url, "data:", "blob:", url.replace("http", "ws")))]
    assert not foreign


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (420, "dark")])
def test_no_page_is_wider_than_the_window(tab: Tab, url: str, width: int, scheme: str) -> None:
    page = tab(width=width, color_scheme=scheme)
    for name in ("", "profiles", "screen"):
        page.goto(f"{url}/{name}")
        page.wait_for_selector("h1")
        quiet(page)
        main = page.locator("[data-testid=stMain]")
        assert main.evaluate("(e) => e.scrollWidth <= e.clientWidth + 1"), name
