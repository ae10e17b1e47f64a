"""The address of the Explore page in a real browser: it holds the whole view, and Back steps through choices."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from .conftest import opened, quiet, until

pytestmark = pytest.mark.browser
Tab = Callable[..., Any]


@pytest.fixture(scope="module")
def url(app_server: Callable[..., str], tiny: Any) -> str:
    return app_server([tiny.screen], tiny.models)


def said(page: Any) -> tuple[dict[str, str], dict[str, str]]:
    """The two parts of the address: the server's choices, and the browser's view."""
    parts = urllib.parse.urlsplit(page.url)
    query, view = (dict(urllib.parse.parse_qsl(part)) for part in (parts.query, parts.fragment))
    return query, view


def pick(page: Any, menu: str, words: str, said: str) -> None:
    """Choose in a menu, until the address says it."""
    page.get_by_role("combobox", name=re.compile(menu)).click()
    page.get_by_role("option", name=re.compile(words)).first.click()
    page.wait_for_url(re.compile(said))
    quiet(page)


def back(page: Any, said: str) -> None:
    """Press Back, until the menu of treatments says it."""
    page.go_back()
    page.wait_for_function(
        "(words) => [...document.querySelectorAll('[role=combobox]')].some((e) => e.value.includes(words))", arg=said
    )
    quiet(page)


def chosen(page: Any) -> str:
    """What the menu of treatments shows."""
    return str(page.get_by_role("combobox", name=re.compile("Treatment")).input_value())


def test_address_holds_the_whole_view_defaults_included(tab: Tab, url: str) -> None:
    page = opened(tab(), url)
    query, view = said(page)
    keys = ["screen", "model", "treatment", "target", "steps", "mode", "spacing", "from", "direction", "control", "tab"]
    until(page, lambda: "step" in said(page)[1], "the address holds the view")
    query, view = said(page)
    assert list(query) == keys
    assert view["step"] == "0" and view["look"] == "rgb" and view["channels"] == "123" and view["white"] == "1"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("1")
    page.locator(".player").first.get_by_role("button", name="MGC").click()
    page.locator(".player .more summary").click()
    page.locator(".player [data-view=hi]").first.fill("0.5")
    page.get_by_role("tab", name="Control to control").click()
    page.wait_for_url(re.compile(r"tab=Control"))
    quiet(page)
    held = {"step": "2", "look": "mgc", "channels": "23", "white": "0.5_1_1"}
    until(page, lambda: held.items() <= said(page)[1].items(), f"the address holds the view: {held}")
    assert said(page)[0]["tab"] == "Control to control"
    other = opened(tab(), page.url)
    pixels = "(canvas) => canvas.toDataURL()"
    mine, theirs = (p.locator(".player canvas[data-role=now]").first.evaluate(pixels) for p in (page, other))
    assert mine == theirs
    expect(other.get_by_role("tab", name="Control to control")).to_have_attribute("aria-selected", "true")
    until(page, lambda: said(other) == said(page), "both have the same address")


def test_what_a_link_chose_stays_on_the_next_page_and_the_one_after(tab: Tab, url: str) -> None:
    page = opened(tab(), f"{url}/explore?model=linear-b&treatment=emetine%400.1")
    page.get_by_role("link", name="Profiles").click()
    page.wait_for_url(re.compile("/profiles.*model="))
    quiet(page)
    assert said(page)[0]["model"] == "linear-b"
    page.get_by_role("link", name="Explore").click()
    page.wait_for_url(re.compile("model=linear-b&treatment=emetine"))
    page.wait_for_selector(".player[data-ready]")
    assert "emetine" in chosen(page)


def test_back_steps_through_choices_and_then_leaves(tab: Tab, url: str) -> None:
    page = tab()
    page.goto("about:blank")
    page.goto(f"{url}/?treatment=taxol%400.3")
    page.wait_for_selector(".player[data-ready]")
    quiet(page)
    pick(page, "Treatment", "emetine", "treatment=emetine")
    page.locator(".player .frame").nth(1).click()
    pick(page, "Target cell", "drawn at random", "target=random")
    pick(page, "Treatment", "nocodazole", "treatment=nocodazole.*target=mean")
    before = page.locator(".player").first.get_attribute("data-ready")
    back(page, "emetine")
    assert said(page)[0]["target"] == "random"
    expect(page.locator(".player").first).not_to_have_attribute("data-ready", before)
    back(page, "most central cell of the treatment")
    until(page, lambda: said(page)[1]["step"] == "1", "the step that was looked at is back")
    assert said(page)[0]["treatment"] == "emetine@0.1"
    back(page, "taxol 0.3")
    expect(page.locator(".player .stage").first).to_contain_text("taxol 0.3 µM")
    page.go_forward()
    page.wait_for_url(re.compile("treatment=emetine"))
    quiet(page)
    assert "emetine" in chosen(page)
    back(page, "taxol 0.3")
    page.go_back()
    page.wait_for_url("about:blank")


def test_another_page_is_one_step_for_back(tab: Tab, url: str) -> None:
    page = opened(tab(), f"{url}/?treatment=emetine%400.1")
    page.get_by_role("link", name="Profiles").click()
    page.wait_for_selector(".scatter[data-ready]")
    quiet(page)
    assert "treatment" not in said(page)[0] and said(page)[0]["level"] == "treatments"
    back(page, "emetine")
    expect(page.locator(".player")).to_have_count(1)
