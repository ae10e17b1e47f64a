"""Every page in both themes, at a desk and on a phone: nothing that axe-core calls serious or critical."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.registry import PAGES
from tests.app.conftest import Loaded, quiet

KNOWN: dict[str, str] = {}
"""Faults of Streamlit's own elements: part of the element's HTML -> why it stays."""


def faults(page: Any) -> list[str]:
    """What axe finds, our own and Streamlit's but for the known."""
    Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe

    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{each['id']}: {node['html'][:160]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
        if not any(part in node["html"] for part in KNOWN)
    ]


@pytest.mark.parametrize(("theme", "width"), [("light", 1366), ("dark", 414)])
def test_nothing_serious_on_any_page(
    tab: Callable[..., Any], app_server: Callable[..., str], tiny: Loaded, theme: str, width: int
) -> None:
    url = app_server([tiny.screen], tiny.models)
    page = tab(width, 3600, color_scheme=theme)  # what is scrolled out of sight is not judged
    page.set_default_timeout(60_000)
    found = {}
    for entry in PAGES:
        page.goto(f"{url}/{entry.name}")
        page.wait_for_selector("h1")
        quiet(page)
        if said := faults(page):
            found[entry.name] = said
    assert not found
