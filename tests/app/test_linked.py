"""What is selected on one page is selected on all, and travels in the link; one colour a mechanism everywhere."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import expect

from app.common import colours, loaders, maps
from app.common.selection import KINDS, Selection
from app.mechanisms import figures
from app.screen import overview, wells
from cytovae import schema
from cytovae.screen import Screen, provenance, write_table

from .conftest import quiet

App = Callable[..., Any]
Tab = Callable[..., Any]


@pytest.fixture
def screen(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv(loaders.MODELS, str(tiny.models))
    return Screen.open(tiny.screen)


@pytest.mark.parametrize("level", KINDS.values())
def test_a_selection_comes_back_from_its_link(level: str) -> None:
    made = Selection(level, frozenset({"P,1/B02", "a%2Cb", "latrunculin B@1"}))
    assert Selection.of_link(made.link) == made


@pytest.mark.parametrize("text", ["", "well:", "plate:P1", "nothing"])
def test_a_link_that_selects_nothing_is_none(text: str) -> None:
    assert Selection.of_link(text) is None


@pytest.mark.parametrize("page", ["explore", "reconstructions", "profiles", "mechanisms", "screen"])
def test_every_page_says_what_the_link_selects(app: App, tiny: Any, page: str) -> None:
    test = app([tiny.screen], tiny.models, page, sel="treatment:taxol@0.3")
    assert not test.exception and not test.error
    assert any("Selected: taxol 0.3 µM** · 10 cells in 4 wells" in line.value for line in test.markdown)
    assert test.query_params["sel"] == ["treatment:taxol@0.3"] or test.query_params["sel"] == "treatment:taxol@0.3"
    test.button(key="bar-clear").click().run()
    assert "sel" not in test.query_params
    test.button(key="bar-undo").click().run()
    assert any("Selected: taxol 0.3 µM" in line.value for line in test.markdown)


def test_a_link_that_selects_what_is_not_there_says_so(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, "profiles", sel="well:P9/Z99")
    assert "P9/Z99" in test.warning[0].value and "nothing is selected" in test.warning[0].value
    assert not any("Selected" in line.value for line in test.markdown)


def test_explore_in_the_bar_leads_to_the_most_central_selected_cell(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, "profiles", sel="treatment:emetine@0.1")
    test.button(key="bar-explore").click().run()
    assert not test.exception
    assert test.selectbox(key="treatment").value == "emetine@0.1"
    assert str(test.selectbox(key="target").value).startswith("emetine0.1_")


def test_a_mechanism_has_one_colour_on_every_map_and_on_the_plate(screen: Screen) -> None:
    seen: dict[str, set[str]] = {}
    for level in ("cells", "wells", "treatments"):
        _, legend = maps.colours(screen, "linear-a", level, "pca", "mechanism")
        for line in legend["categories"]:
            seen.setdefault(line["name"], set()).add(line["colour"])
    table = overview.plate_values(screen, "Week1_P1", "mechanism", None)
    shown = wells.layout(screen, "Week1_P1", table, "mechanism", "mechanism", None)
    for name, colour in shown.keys:
        seen[name].add("" if colour == colours.CONTROL else colour)
    assert all(len(found) == 1 for found in seen.values())
    assert seen.pop("DMSO") == {""}  # the colour of the text, as a star
    assert len({colour for (colour,) in seen.values()}) == len(seen)


def test_many_names_have_colours_of_their_own_and_controls_alone_are_stars() -> None:
    many = [colours.style(k) for k in range(21)]
    assert len({colour for colour, _ in many}) == 21
    assert colours.STAR not in {mark for _, mark in many}
    assert colours.ramp([0.0, 10.0, np.nan], 0, 10) == [colours.RAMP[0], colours.RAMP[-1], colours.OTHER]


@pytest.mark.parametrize("by", ["mechanism", "treatment", "dose", "activity", "cell count", "distance", "pc1"])
def test_a_plate_is_coloured_by_what_was_asked(screen: Screen, by: str) -> None:
    table = overview.plate_values(screen, "Week1_P1", by, "linear-a")
    shown = wells.layout(screen, "Week1_P1", table, by, by, Selection("treatments", frozenset({"taxol@3"})))
    cells = loaders.cells(screen)
    mine = cells[cells[schema.PLATE] == "Week1_P1"]
    assert len(shown.squares) == mine[schema.WELL].nunique()
    chosen = {square.id.rpartition("/")[2] for square in shown.squares if square.chosen}
    assert chosen == set(mine.loc[mine[schema.TREATMENT] == "taxol@3", schema.WELL])
    for square in shown.squares:
        well = mine[mine[schema.WELL] == square.id.rpartition("/")[2]]
        assert f"{len(well)} cells" in square.hover and square.hover.startswith(well[schema.WELL].iloc[0])
        row, column = shown.rows[square.row], shown.columns[square.column]
        assert f"{row}{int(column):02d}" == well[schema.WELL].iloc[0]
    assert (shown.ramp is None) == (by in ("mechanism", "treatment", "activity"))


def test_columns_of_the_screens_own_can_be_coloured_by(tiny: Any, tmp_path: Path) -> None:
    copy = Screen.open(shutil.copytree(tiny.screen, tmp_path / "own.screen"))
    cells = copy.cells()
    cells["Metadata_cell_line"] = np.where(cells[schema.PLATE] == "Week1_P1", "MCF7", "A549")
    cells["Metadata_same"], cells["Metadata_unlike"] = "x", np.arange(len(cells))
    write_table(copy.cells_path, cells, provenance("ingest"))
    assert maps.own_columns(copy) == {"cell_line": "Metadata_cell_line"}
    of_wells = cells.drop_duplicates([schema.PLATE, schema.WELL])[[schema.PLATE, schema.WELL]]
    said = maps.valued(copy, None, of_wells, "wells", "cell_line")
    assert (said == np.where(of_wells[schema.PLATE] == "Week1_P1", "MCF7", "A549")).all()
    of_treatments = pd.DataFrame({schema.TREATMENT: ["taxol@0.3", "latrunculin B@1"]})
    assert maps.valued(copy, None, of_treatments, "treatments", "cell_line").tolist() == ["several", "MCF7"]
    assert "cell_line" in wells.choices(copy)


def test_blank_cells_are_no_points_of_the_map(tiny: Any, tmp_path: Path) -> None:
    copy = Screen.open(shutil.copytree(tiny.screen, tmp_path / "blank.screen"))
    cells = copy.cells()
    cells[schema.BLANK] = np.arange(len(cells)) < 3
    _, z = Screen.open(tiny.screen).embeddings("linear-a")
    write_table(copy.cells_path, cells, provenance("ingest"))
    made = provenance("embed", inputs={"cells": copy.cells_digest()})
    copy.write_embeddings("linear-a", cells[schema.CELL_ID].tolist(), np.asarray(z), made)
    found = maps.points(copy, "linear-a", "cells", "pca")
    assert found.table[schema.CELL_ID].tolist() == cells[schema.CELL_ID].tolist()[3:]
    np.testing.assert_array_equal(found.features, z[3:])


def test_right_calls_are_marked_in_the_confusion() -> None:
    line = {"true": ["a", "b"], "predicted": ["a", "b", "c"], "counts": [[2, 0, 1], [0, 0, 3]]}
    shown = figures.confusion(line, "NSC", {("b", "c")})
    assert list(shown.marked) == [(0, 0), (1, 1)]
    assert {(s.row, s.column): s.text for s in shown.squares} == {(0, 0): "2", (0, 2): "1", (1, 2): "3"}
    assert [s.id.split(figures.SEPARATOR) for s in shown.squares if s.chosen] == [["b", "c"]]
    dark = figures.confusion(line, "NSC", set(), dark=True)  # there few stand back, too
    light, dim = ([int(grid.ramp.colours[k][3:5], 16) for k in (0, -1)] for grid in (shown, dark))
    assert light[0] > light[1] and dim[0] < dim[1]


@pytest.mark.browser
def test_a_well_that_is_clicked_is_selected_on_every_page(tab: Tab, app_server: Callable[..., str], tiny: Any) -> None:
    page = tab(width=1366, height=1000)
    page.goto(f"{app_server([tiny.screen], tiny.models)}/screen")
    page.wait_for_selector(".grid[data-ready]")
    quiet(page)
    page.locator(".grid button[data-id='Week1_P1/C02']").click()
    page.wait_for_url(re.compile("sel=well"))
    page.locator(".grid button[data-id='Week1_P1/C02'][aria-pressed=true]").wait_for()
    quiet(page)
    expect(page.locator(".grid button[aria-pressed=true]")).to_have_count(1)
    page.wait_for_selector("text=/Selected: well Week1_P1 C02/")
    page.wait_for_selector(".cells figure[data-cell]")  # the well's cells are open
    page.get_by_text("made of cut cells").wait_for()  # and a plain sentence where it has no field
    page.get_by_role("link", name="Profiles").click()
    expect(page.locator(".scatter")).to_have_attribute("data-selected", "1")  # its treatment


@pytest.mark.browser
def test_a_confused_square_is_selected_with_its_cells_and_seen_on_the_plate(
    tab: Tab, app_server: Callable[..., str], tiny: Any, twins: Path
) -> None:
    page = tab(width=1366, height=1000)
    page.goto(f"{app_server([twins], tiny.models)}/mechanisms?rule=NSC")
    page.wait_for_selector(".grid[data-ready]")
    quiet(page)
    expect(page.locator(".grid td.mark")).to_have_count(2)  # the diagonal
    expect(page.locator("[data-testid=stAlert]")).to_have_count(1)
    expect(page.locator("[data-testid=stAlert]")).to_contain_text("The nearest neighbour has the right mechanism")
    square = page.locator(".grid tbody button").first
    said = square.get_attribute("title")
    square.press("Enter")  # by keyboard
    page.wait_for_url(re.compile("sel=treatment"))
    page.locator(".grid button[aria-pressed=true]").first.wait_for()
    quiet(page)
    assert said in page.locator(".grid button[aria-pressed=true]").evaluate_all("(all) => all.map((e) => e.title)")
    page.get_by_text("Side by side").wait_for()
    for k, label in enumerate(("Treatment", "Nearest neighbour")):
        expect(page.locator(".cells .label b").nth(k)).to_have_text(label)
    page.get_by_role("link", name="Screen").click()
    page.wait_for_url(re.compile("/screen.*sel=treatment"))
    page.locator(".grid button[data-id^='Week1_P1/'][aria-pressed=true]").first.wait_for()
