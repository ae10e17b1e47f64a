"""The quiz in a real browser: keys to the database, links, two people at once, and everything the browser receives."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect
from scipy import stats

from cytovae.quiz import score
from cytovae.quiz.answers import Store

from .conftest import quiet

pytestmark = pytest.mark.browser
Tab = Callable[..., Any]

PIXELS = """(canvas) =>
  Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)"""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('quiz') / 'quiz.sqlite'}"


@pytest.fixture(scope="module")
def url(app_server: Callable[..., str], tiny: Any, database: str) -> str:
    return app_server([tiny.screen], tiny.models, CYTOVAE_QUIZ_DB=database)


@pytest.fixture
def store(database: str) -> Any:
    made = Store(database)
    yield made
    made.close()


def begin(page: Any, url: str, rater: str, n_each: int = 5) -> str:
    """From the start page to the first card; the deck's token."""
    page.goto(f"{url}/quiz")
    page.get_by_label("Your name or an alias").fill(rater)
    page.get_by_role("radio", name=f"{n_each} + {n_each}", exact=True).click()
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_role("button", name="Yes, keep it").click()  # nobody of this name has been asked
    wait_for(page, 0)
    return str(re.search(r"deck=([\w-]+)", page.url)[1])  # type: ignore[index]


def wait_for(page: Any, position: int) -> None:
    """Wait for a card and for the moment from which an answer counts."""
    page.wait_for_selector(f'.quiz[data-position="{position}"]:not(.waiting)')
    page.wait_for_timeout(280)


def canvas(page: Any) -> np.ndarray:
    """The pixels on the canvas, (68, 68, 3)."""
    return np.array(page.locator(".quiz canvas").evaluate(PIXELS), np.uint8).reshape(68, 68, 4)[:, :, :3]


def test_a_whole_quiz_by_keyboard_lands_in_the_database(tab: Tab, url: str, store: Store) -> None:
    page = tab(1280, 800)
    token = begin(page, url, "Ada")
    said = [True, False, False, True, True, False, True, False, False, False]
    drawn = []
    for position, real in enumerate(said):
        wait_for(page, position)
        expect(page.locator(".quiz .count")).to_have_text(f"Card {position + 1} of 10")
        drawn.append(canvas(page))
        page.keyboard.press("r" if real else "s")
        if position < 9:
            page.wait_for_selector(f'.quiz[data-position="{position + 1}"]')
            assert store.state(token).n_answered == position + 1  # saved before the next card shows
    page.get_by_text("synthetic cells for real").wait_for()
    calls, pictures = store.result(token)
    assert calls["called_real"].tolist() == said
    assert calls["rater"].unique().tolist() == ["Ada"]
    assert calls["seconds"].between(0.25, 30).all()
    assert (np.array(drawn) == pictures).all()  # the canvas shows the very picture that was dealt
    got = score.score(calls)
    expect(page.locator("h1")).to_contain_text(f"You took {got.fooled.k} of 5 synthetic cells for real")
    assert "40.7" not in page.url


def test_mouse_answers_too_and_a_held_or_hasty_key_does_not(tab: Tab, url: str, store: Store) -> None:
    page = tab(1280, 800)
    token = begin(page, url, "Bea")
    page.evaluate(HASTY)
    page.locator(".quiz").get_by_role("button", name="Synthetic").click()
    wait_for(page, 1)
    assert page.evaluate("window.hasty") == 1
    page.keyboard.down("s")
    for _ in range(5):
        page.keyboard.down("s")  # Playwright marks these as repeats
        page.wait_for_timeout(60)
    page.keyboard.up("s")
    wait_for(page, 2)
    for key in ("x", "Enter", "Shift"):
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert store.state(token).n_answered == 2


HASTY = """() => {
  const root = [...document.querySelectorAll("*")].map((n) => n.shadowRoot?.querySelector(".quiz")).find(Boolean);
  window.hasty = 0;
  new MutationObserver(() => {
    if (root.dataset.position !== "1" || window.hasty) return;
    window.hasty = 1;
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "r", bubbles: true, composed: true }));
  }).observe(root, { attributes: true });
}"""
"""Presses R in the very moment the second card shows."""


def test_channel_look_and_pixel_keys_change_what_is_drawn_and_answer_nothing(tab: Tab, url: str, store: Store) -> None:
    page = tab(1280, 800)
    token = begin(page, url, "Cleo")
    whole = canvas(page)
    page.keyboard.press("2")
    without = canvas(page)
    assert (without[:, :, 1] == 0).all()
    assert (without[:, :, [0, 2]] == whole[:, :, [0, 2]]).all()
    page.keyboard.press("2")
    page.keyboard.press("l")
    magenta = canvas(page)
    values = (
        whole[:, :, 0, None] * [1, 0, 1.0] + whole[:, :, 1, None] * [0, 1, 0.0] + whole[:, :, 2, None] * [0, 1, 1.0]
    )
    dimmed = values / np.maximum(values.max(axis=2, keepdims=True) / 255, 1)  # no sum is cut off at white
    assert (values > 255).any() and np.abs(magenta - dimmed).max() <= 1
    page.keyboard.press("l")
    grey = canvas(page)
    assert (grey[:, :, 0] == grey[:, :, 1]).all()
    assert np.abs(grey[:, :, 0].astype(float) - whole.mean(axis=2)).max() <= 2
    page.keyboard.press("l")
    assert (canvas(page) == whole).all()
    page.keyboard.press("p")
    expect(page.locator(".quiz canvas")).to_have_class(re.compile("crisp"))
    assert store.state(token).n_answered == 0


def test_whether_a_name_may_be_kept_is_asked_in_view_and_can_be_left_open(tab: Tab, url: str, store: Store) -> None:
    page = tab(1366, 768)
    page.goto(f"{url}/quiz")
    page.get_by_label("Your name or an alias").fill("Ines")
    page.get_by_role("radio", name="5 + 5", exact=True).click()
    for leave in (True, False):
        page.get_by_role("button", name="Start", exact=True).click()
        asked = page.get_by_role("dialog", name="May this name be kept?")
        box = asked.get_by_role("button", name="No, give me an alias").bounding_box()
        assert 0 < box["y"] < box["y"] + box["height"] < 768
        if leave:
            page.keyboard.press("Escape")
            asked.wait_for(state="detached")
            quiet(page)
            assert "deck=" not in page.url
    asked.get_by_role("button", name="No, give me an alias").click()
    wait_for(page, 0)
    assert not store.may_keep("Ines")


def test_pause_and_the_link_on_another_machine(tab: Tab, url: str, store: Store) -> None:
    page = tab(1280, 800)
    token = begin(page, url, "Dan")
    page.keyboard.press("r")
    wait_for(page, 1)
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("Paused at card 2 of 10").wait_for()
    link = page.locator("[data-testid=stCode]").first.inner_text().strip()
    assert link == f"{url}/quiz?deck={token}"
    other = tab(420, 900)
    other.goto(link)
    wait_for(other, 1)
    assert (canvas(other) == store.card(token).picture).all()
    other.keyboard.press("s")
    wait_for(other, 2)
    assert store.state(token).n_answered == 2


def test_two_people_at_once_keep_to_their_own_decks(tab: Tab, url: str, store: Store) -> None:
    one, two = tab(1280, 800), tab(1280, 800)
    first, second = begin(one, url, "Eve"), begin(two, url, "Fay")
    assert first != second
    for position in range(10):
        for page, key in ((one, "r"), (two, "s")):
            wait_for(page, position)
            page.keyboard.press(key)
    for page in (one, two):
        page.get_by_text("synthetic cells for real").wait_for()
    assert store.result(first)[0]["called_real"].all()
    assert not store.result(second)[0]["called_real"].any()


def test_the_whole_card_fits_the_window(tab: Tab, url: str) -> None:
    page = tab(1280, 800)
    begin(page, url, "Gus")
    for width, height, scheme in ((1280, 800, "light"), (1440, 900, "dark"), (420, 900, "light")):
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(400)
        image = page.locator(".quiz canvas").bounding_box()
        assert image["width"] == pytest.approx(image["height"], abs=1)
        assert image["width"] >= 340
        for selector in (".quiz .count", ".quiz canvas", ".quiz .answers", ".quiz .view", "button:has-text('Pause')"):
            box = page.locator(selector).first.bounding_box()
            assert box["x"] >= 0
            assert box["y"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= height


class Received:
    """Everything that reaches a browser: addresses with sizes, websocket frames, and the DOM when asked."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.frames: list[bytes] = []
        self.requests: list[str] = []
        page.on("websocket", lambda ws: ws.on("framereceived", self._frame))
        page.on("request", lambda request: self.requests.append(request.url))

    def _frame(self, payload: bytes | str) -> None:
        self.frames.append(payload if isinstance(payload, bytes) else payload.encode())

    def take(self) -> tuple[list[bytes], list[str]]:
        """What came since the last time."""
        quiet(self.page)
        got = self.frames, self.requests
        self.frames, self.requests = [], []
        return got


def test_nothing_the_browser_receives_tells_the_truth(tab: Tab, url: str, store: Store) -> None:
    n = 20
    page = tab(1280, 800)
    received = Received(page)
    token = begin(page, url, "Hal", n // 2)
    page.keyboard.press("s")  # the first card comes with the change of page
    wait_for(page, 1)
    received.take()
    frames: list[list[bytes]] = []
    addresses: list[str] = []
    doms: list[str] = []
    for position in range(1, n - 1):
        page.keyboard.press("r" if position % 2 else "s")
        wait_for(page, position + 1)
        got, asked = received.take()
        frames.append(got)
        addresses += asked
        doms.append(page.evaluate(WHOLE_DOM))
    page.keyboard.press("r")
    page.get_by_text("synthetic cells for real").wait_for()
    calls, _ = store.result(token)
    truth = calls["synthetic"].to_numpy()[2:n]
    assert 6 <= truth.sum() <= 10  # both kinds are among the cards that were watched

    # addresses: a card is fetched by none
    assert addresses == []

    # websocket: the same number of frames of the same sizes for every card
    sizes = [sorted(map(len, batch)) for batch in frames]
    assert all(size == sizes[0] for size in sizes), sizes

    # ... in which no cell, treatment or mechanism is named
    secret = {str(v) for c in ("cell_id", "Metadata_Treatment", "Metadata_MoA") for v in calls[c].unique()} - {"DMSO"}
    everything = b"".join(b"".join(batch) for batch in frames)
    assert not [name for name in secret if name.encode() in everything]

    # ... whose card is noise until it is drawn: no pattern in its bytes, nothing to compress
    cards = [max(batch, key=len) for batch in frames]
    bodies = [card[card.rindex(b"DNA\nTubulin\nActin") + 17 :][: 68 * 68 * 3] for card in cards]
    assert {len(body) for body in bodies} == {68 * 68 * 3}
    for body in bodies:
        assert stats.chisquare(np.bincount(np.frombuffer(body, np.uint8), minlength=256)).pvalue > 1e-6
        assert len(zlib.compress(body, 9)) > len(body)
    packed = [len(zlib.compress(card, 9)) for card in cards]
    assert max(packed) - min(packed) < 0.005 * min(packed)

    # what the browser keeps, and what the server tells about itself
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, history.state])")
    assert not re.search(r"synthetic|real|treatment", kept, re.IGNORECASE)
    assert set(re.findall(r"[?&](\w+)=", page.url)) <= {"deck", "screen", "model"}
    metrics = page.request.get(f"{url}/_stcore/metrics").text()
    assert not re.search(r"synthetic|reconstruct|decode|encode", metrics)

    # DOM: the same for every card, but for its number
    numbered = r"(Card |data-position=|aria-valuenow=|width: )[\d.]+"
    assert len({re.sub(numbered, r"\1#", dom) for dom in doms}) == 1
    assert not [name for name in secret if any(name in dom for dom in doms)]


WHOLE_DOM = """() => {
  const write = (node) => {
    if (node.nodeType === 3) return node.textContent;
    if (node.nodeType !== 1 || ["SCRIPT", "STYLE", "LINK"].includes(node.tagName)) return "";
    const marks = [...node.attributes].map((a) => `${a.name}=${a.value}`).sort().join(" ");
    const inside = [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes].map(write).join("");
    return `<${node.tagName} ${marks}>${inside}`;
  };
  return write(document.querySelector("[data-testid=stMain]"));
}"""


def test_csv_of_all_raters_holds_finished_decks_alone(tab: Tab, url: str, store: Store, tmp_path: Path) -> None:
    page = tab(1280, 800)
    token = begin(page, url, "Kim unfinished")
    page.keyboard.press("r")
    wait_for(page, 1)
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("tab", name="All raters").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="All calls (CSV)").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert "Kim unfinished" not in text
    assert token not in text
    assert text.startswith("deck,rater,expertise,screen,model")
