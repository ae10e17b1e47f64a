"""The Profiles page: selecting by name, counts of a selection, the trail of a path, own columns; the drawer."""

from __future__ import annotations

import json
import shutil
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from app.common import loaders, maps, selection
from app.profiles import scatter
from cytovae import schema
from cytovae.profiling import enrichment
from cytovae.screen import Screen, provenance, write_table

from .conftest import quiet

App = Callable[..., Any]
Tab = Callable[..., Any]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The headers of the maps that the page has shown."""
    seen: list[dict[str, Any]] = []

    def mount(*, data: bytes, **_: Any) -> Any:
        size = int.from_bytes(data[:4], "little")
        header = json.loads(data[4 : 4 + size])
        body = data[4 + size :]
        header["xy"] = np.frombuffer(body[: 8 * header["n"]], "<f4").reshape(-1, 2)
        header["selected"] = np.frombuffer(body[10 * header["n"] :], np.uint8)
        seen.append(header)
        return types.SimpleNamespace(get=lambda name: None)

    monkeypatch.setattr(scatter, "_mount", mount)
    return seen


def test_a_name_from_the_list_selects_what_a_lasso_round_its_point_would(
    app: App, tiny: Any, shown: list[dict[str, Any]]
) -> None:
    test = app([tiny.screen], tiny.models, "profiles")
    test.multiselect(key="by-name-treatments").set_value(["emetine@0.1", "taxol@3"]).run()
    assert not test.exception and not test.error
    past = test.session_state[selection.SELECTIONS]
    assert past[-1] == selection.Selection("treatments", frozenset({"emetine@0.1", "taxol@3"}))
    chosen = [name for name, on in zip(shown[-1]["names"], shown[-1]["selected"], strict=True) if on]
    assert chosen == ["emetine 0.1 µM", "taxol 3 µM"]
    cells = Screen.open(tiny.screen).cells()
    found = enrichment.of_selection(cells, past[-1].of_cells(cells))
    table = next(frame.value for frame in test.dataframe if "times chance" in frame.value)
    assert table["mechanism"].tolist() == found["moa"].tolist()
    assert table["selected cells"].tolist() == found["n_selected"].tolist() == [10, 10]
    np.testing.assert_allclose(table["p"], found["p"])
    test.button(key="bar-clear").click().run()
    assert test.multiselect(key="by-name-treatments").value == []


@pytest.mark.parametrize("level", ["treatments", "wells", "cells"])
def test_the_trail_begins_and_ends_at_the_points_of_its_own_ends(
    app: App, tiny: Any, shown: list[dict[str, Any]], level: str
) -> None:
    screen = Screen.open(tiny.screen)
    cells, z = screen.embeddings("linear-a")
    ends = [int(np.flatnonzero(cells[schema.TREATMENT] == name)[2]) for name in ("DMSO@0", "taxol@3")]
    path = z[ends[0]] + np.linspace(0, 1, 6)[:, None] * (z[ends[1]] - z[ends[0]])
    test = app([tiny.screen], tiny.models, "profiles", level=level, model="linear-a")
    ids = cells[schema.CELL_ID].iloc[ends].tolist()
    test.session_state[selection.PATH] = (str(screen.path), "linear-a", path, *ids)
    test.run()
    assert not test.exception and not test.error
    (trail,) = shown[-1]["paths"]
    assert len(trail) == 6
    assert shown[-1]["path_says"].startswith("last path on Explore, DMSO to taxol 3 µM")
    points = maps.points(loaders.screens()["Tiny screen"], "linear-a", level, "pca").table
    for step, row in ((trail[0], ends[0]), (trail[-1], ends[1])):
        own = points[points["key"] == maps.key_of(cells.iloc[[row]], level).iloc[0]]
        np.testing.assert_allclose(step, own[["x", "y"]].to_numpy()[0], atol=1e-4)


def test_a_column_of_the_screens_own_colours_and_filters(
    app: App, tiny: Any, tmp_path: Path, shown: list[dict[str, Any]]
) -> None:
    copy = Screen.open(shutil.copytree(tiny.screen, tmp_path / "own.screen", ignore=shutil.ignore_patterns("maps")))
    cells = copy.cells()
    cells["Metadata_cell_line"] = np.where(cells[schema.PLATE] == "Week1_P1", "MCF7", "A549")
    write_table(copy.cells_path, cells, provenance("ingest"))
    _, z = Screen.open(tiny.screen).embeddings("linear-a")
    made = provenance("embed", inputs={"cells": copy.cells_digest()})
    copy.write_embeddings("linear-a", cells[schema.CELL_ID].tolist(), np.asarray(z), made)
    shutil.rmtree(copy.path / "profiles")
    test = app([copy.path], tiny.models, "profiles", level="wells", colour="cell_line", model="linear-a")
    assert not test.exception and not test.error
    assert {line["name"] for line in shown[-1]["categories"]} == {"MCF7", "A549"}
    test.multiselect(key="profiles-only").set_value(["cell_line: MCF7"]).run()
    assert not test.exception and not test.error
    assert {name.split("/")[0] for name in shown[-1]["names"]} == {"Week1_P1"}
    assert "cell_line: MCF7" in shown[-1]["says"]


@pytest.mark.browser
@pytest.mark.parametrize(("width", "height"), [(1366, 768), (414, 896)])
def test_a_cell_that_is_clicked_opens_in_sight_beside_the_others(
    tab: Tab, app_server: Callable[..., str], tiny: Any, width: int, height: int
) -> None:
    page = tab(width=width, height=height)
    page.goto(f"{app_server([tiny.screen], tiny.models)}/reconstructions")
    page.wait_for_selector(".cells[data-ready]")
    quiet(page)
    cell = page.locator(".cells figure[data-cell]").nth(2)
    cell_id = cell.get_attribute("data-cell")
    cell.locator("button").click()
    page.wait_for_selector(".st-key-drawer canvas")
    quiet(page)
    expect(page.locator(".st-key-drawer")).to_contain_text(cell_id)
    place = page.locator(".st-key-drawer canvas").first.bounding_box()
    assert place["y"] >= 0 and place["y"] + place["height"] <= height  # in sight without scrolling
    page.get_by_role("button", name="Close").click()
    page.locator(".st-key-drawer").wait_for(state="detached")


@pytest.mark.browser
def test_a_tooltip_lies_whole_inside_the_map(tab: Tab, app_server: Callable[..., str], tiny: Any) -> None:
    page = tab(width=414, height=896)
    page.goto(f"{app_server([tiny.screen], tiny.models)}/profiles?level=treatments")
    page.wait_for_selector(".scatter[data-ready]")
    quiet(page)
    inside = page.evaluate(
        """() => {
          const hosts = [...document.querySelectorAll("[data-testid=stBidiComponentIsolated]")];
          const root = hosts.map((h) => h.shadowRoot).find((r) => r.querySelector(".scatter"));
          const over = root.querySelector("canvas.over"), tip = root.querySelector(".tip");
          const box = over.getBoundingClientRect(), seen = [];
          for (let x = 1; x < box.width; x += 3) for (let y = 1; y < box.height; y += 3) {
            const at = { clientX: box.left + x, clientY: box.top + y, bubbles: true };
            over.dispatchEvent(new PointerEvent("pointermove", at));
            if (getComputedStyle(tip).display !== "block") continue;
            const t = tip.getBoundingClientRect(), across = t.left >= box.left - 1 && t.right <= box.right + 1;
            seen.push(across && t.top >= box.top - 1 && t.bottom <= box.bottom + 1);
          }
          return seen;
        }"""
    )
    assert len(inside) > 20 and all(inside)
