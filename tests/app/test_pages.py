"""Every page through the entry file: on a good screen, and on those that teach or refuse."""

from __future__ import annotations

import ast
import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import registry
from app.common import galleries, loaders
from app.common.selection import Selection
from app.explore import view
from app.reconstructions import compare
from cytovae import locks, schema
from cytovae.explore import study
from cytovae.explore.study import Level, Request
from cytovae.profiling import study as profiling
from cytovae.schema import Check
from cytovae.screen import Screen

PAGES = tuple(entry.name for entry in registry.PAGES if entry.name != "quiz")
"""The quiz has tests of its own."""
ROOT = Path(__file__).resolve().parents[2]
App = Callable[..., Any]


def words(test: Any) -> str:
    """Everything a page says, as it is read: without what escapes the signs of Markdown."""
    kinds = (test.title, test.markdown, test.caption, test.info, test.warning, test.error, test.success, test.metric)
    return "\n".join(f"{getattr(e, 'label', '')} {e.value}" for kind in kinds for e in kind).replace("\\", "")


def sound(test: Any) -> None:
    """No traceback, no error, no page that failed."""
    assert not test.exception, test.exception[0].value
    assert not test.error, test.error[0].value


@pytest.mark.parametrize("page", PAGES)
def test_page_shows_without_an_error(app: App, tiny: Any, page: str) -> None:
    test = app([tiny.screen], tiny.models, page)
    sound(test)
    assert len(test.title) == 1
    assert test.selectbox(key="screen").value == "Tiny screen"


@pytest.mark.parametrize("page", PAGES)
def test_no_screen_teaches_how_to_get_one(app: App, tiny: Any, page: str) -> None:
    test = app([], tiny.models, page)
    sound(test)
    assert "cytovae demo" in words(test)


@pytest.mark.parametrize("page", PAGES)
def test_broken_screen_is_one_sentence_and_the_good_one_still_opens(
    app: App, tiny: Any, tmp_path: Path, page: str
) -> None:
    broken = tmp_path / "broken.screen"
    broken.mkdir()
    (broken / "screen.json").write_text("{not json")
    test = app([broken, tiny.screen], tiny.models, page)
    sound(test)
    assert "cannot be understood" in test.warning[0].value
    assert test.selectbox(key="screen").options == ["Tiny screen"]


@pytest.mark.parametrize("page", PAGES)
def test_screen_without_cells_says_so(app: App, tiny: Any, tmp_path: Path, page: str, empty_screen: Path) -> None:
    test = app([empty_screen], tiny.models, page)
    assert not test.exception
    assert "no cells" in words(test)


@pytest.mark.parametrize("page", ["explore", "profiles", "mechanisms"])
def test_screen_that_is_not_embedded_names_the_command(app: App, tiny: Any, tmp_path: Path, page: str) -> None:
    bare = tmp_path / "bare.screen"
    shutil.copytree(tiny.screen, bare, ignore=shutil.ignore_patterns("embeddings", "profiles", "results", "maps"))
    test = app([bare], tiny.models, page)
    sound(test)
    assert "cytovae embed" in words(test)


@pytest.mark.parametrize("page", ["explore", "reconstructions", "profiles"])
def test_no_model_names_the_command(app: App, tiny: Any, tmp_path: Path, page: str) -> None:
    test = app([tiny.screen], tmp_path, page)
    sound(test)
    assert "cytovae train" in words(test)


def test_mechanisms_without_scores_name_the_command(app: App, tiny: Any, tmp_path: Path) -> None:
    bare = tmp_path / "bare.screen"
    shutil.copytree(tiny.screen, bare, ignore=shutil.ignore_patterns("results"))
    test = app([bare], tiny.models, "mechanisms")
    sound(test)
    assert "cytovae benchmark" in words(test)
    with locks.held(bare / "results", "scoring"):
        test.run()
        assert "being scored" in words(test) and "cytovae benchmark" not in words(test)


def test_tampered_model_is_refused_in_one_sentence(app: App, tiny: Any, tmp_path: Path) -> None:
    shutil.copytree(tiny.models / "linear-a", tmp_path / "models" / "linear-a")
    weights = tmp_path / "models" / "linear-a" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    test = app([tiny.screen], tmp_path / "models")
    assert not test.exception
    assert len(test.error) == 1
    assert "is not the file its bundle was made with" in test.error[0].value


def short(tiny: Any, cell_id: str) -> str:
    """Plate, well and number of a cell of the tiny screen."""
    cells = Screen.open(tiny.screen).cells()
    return galleries.short(cells[cells[schema.CELL_ID] == cell_id].iloc[0])


def test_link_restores_the_view(app: App, tiny: Any) -> None:
    link = {"treatment": "emetine@0.1", "model": "linear-b", "steps": "5", "mode": "linear"}
    test = app([tiny.screen], tiny.models, **link)
    sound(test)
    for key, value in link.items():
        assert test.selectbox(key=key).value == value
    assert "closest to the mean of emetine 0.1 µM" in words(test)


def test_link_to_what_is_not_there_falls_back(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, treatment="taxol@99", model="nobody", steps="7000")
    sound(test)
    assert test.selectbox(key="steps").value == str(study.STEPS)


def test_unknown_cell_is_said_in_one_sentence_and_the_page_stays(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, treatment="emetine@0.1", target="no-such-cell")
    sound(test)
    assert len(test.warning) == 1
    assert "no-such-cell" in test.warning[0].value
    assert "Showing the most central cell instead" in test.warning[0].value
    assert test.metric  # the path of the usual cells is there
    assert test.selectbox(key="target").value == "mean"  # and the menu says so


def test_an_unknown_control_leaves_the_target_alone(app: App, tiny: Any) -> None:
    link = {"treatment": "taxol@0.3", "target": "taxol0.3_03", "control": "zzz", "mode": "foo"}
    test = app([tiny.screen], tiny.models, **link)
    sound(test)
    unknown, instead = (each.value for each in test.warning)
    assert "names the route 'foo'" in unknown and "zzz" in instead and "central cell instead" in instead
    assert test.selectbox(key="target").value == "taxol0.3_03"
    assert test.selectbox(key="control").value == "auto"
    assert f"End: {short(tiny, 'taxol0.3_03')}" in words(test)


def test_a_part_of_what_a_menu_says_is_that_choice(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, treatment="taxol@0.3", target="respond")
    sound(test)
    assert test.selectbox(key="target").value == "responding"


def test_a_start_from_another_treatment_leaves_no_control_to_choose(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, treatment="taxol@0.3", control="random", **{"from": "emetine@0.1"})
    sound(test)
    start = next(box for box in test.selectbox if box.label == "Start cell")
    assert start.disabled and start.value == "most central cell of emetine 0.1 µM"


def test_another_screen_opens_with_a_model_that_it_is_embedded_with(app: App, tiny: Any, twins: Path) -> None:
    test = app([tiny.screen, twins], tiny.models, screen="Tiny screen", model="linear-b")
    sound(test)
    test.selectbox(key="screen").set_value("Twins").run()
    sound(test)
    assert (test.selectbox(key="model").value, test.query_params["screen"]) == ("linear-a", "Twins")
    assert test.metric
    test.selectbox(key="model").set_value("linear-b").run()  # asked for by name, it is said what is missing
    assert "has not been embedded with linear-b" in test.info[0].value


def test_link_that_names_what_is_not_there_says_so(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, treatment="taxol@99", model="nobody", screen="Elsewhere")
    sound(test)
    said = " ".join(w.value for w in test.warning)
    for name in ("'taxol@99'", "'nobody'", "'Elsewhere'"):
        assert name in said
    good = app([tiny.screen], tiny.models, treatment="emetine@0.1", model="linear-b")
    assert not good.warning


def test_verdict_and_where_the_cells_are_from_stand_above_the_path(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, treatment="taxol@0.3")
    sound(test)
    screen = loaders.screens()["Tiny screen"]
    drawn = view.view(screen, "linear-a", Request(treatment="taxol@0.3")).study
    assert drawn.verdict.level == "unknown"
    assert drawn.verdict.sentence.startswith("Too few control wells") and drawn.verdict.sentence in words(test)
    assert f"{drawn.relation.value}]" in words(test)


def test_page_opens_with_a_treatment_that_shows_something(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models)
    sound(test)
    screen = loaders.screens()["Tiny screen"]
    levels = {
        str(name): view.view(screen, "linear-a", Request(treatment=str(name))).study.verdict.level
        for name in loaders.treatments(screen)[schema.TREATMENT]
        if name != "DMSO@0"
    }
    opened = test.selectbox(key="treatment").value
    assert levels[opened] == Level.SHOWN or Level.SHOWN not in levels.values()


def test_another_treatment_resets_the_target(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, treatment="taxol@0.3", target="taxol0.3_03")
    sound(test)
    assert f"End: {short(tiny, 'taxol0.3_03')}" in words(test)
    test.selectbox(key="treatment").set_value("emetine@0.1").run()
    sound(test)
    assert test.selectbox(key="target").value == "mean"


def test_treatment_of_one_cell_has_a_path(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, treatment="latrunculin B@1")
    sound(test)
    assert f"End: {short(tiny, 'latrunculinB1_00')}" in words(test)


def test_controls_are_not_offered_as_a_treatment(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models)
    options = test.selectbox(key="treatment").options
    assert len(options) == 5
    assert not any("DMSO" in option for option in options)
    assert "taxol 0.3 µM · Microtubule stabilizers · 10 cells" in options


@pytest.mark.parametrize(
    "name", ["What changed", "Compare", "Looks like", "Population", "Dose series", "Control to control", "Cells"]
)
def test_every_tab_of_explore_shows(app: App, tiny: Any, name: str) -> None:
    test = app([tiny.screen], tiny.models, treatment="taxol@0.3", steps="5")
    test.session_state["tab"] = name
    test.run()
    sound(test)


def test_what_changed_shows_brightness_as_acquired_beside_the_shares(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, treatment="taxol@0.3", steps="5", tab="What changed")
    sound(test)
    screen = loaders.screens()["Tiny screen"]
    raw = view.raw_intensity(screen, "linear-a", Request(treatment="taxol@0.3", steps=5))
    shown = next(frame.value for frame in test.dataframe if "n, end" in frame.value)
    assert shown["n, end"].tolist() == raw["n_end"].tolist()
    assert shown["cell at the end, grey levels"].tolist() == raw["end_grey"].round().tolist()
    sentences = ("do so too:", "do so less:", "do not:", "whether they do so:", "Nothing measured changes")
    assert any(each in words(test) for each in sentences)


@pytest.mark.parametrize("name", ["Plates", "Refused fields", "A field", "Evidence tried", "Model cards", "Training"])
def test_every_tab_of_the_screen_shows(app: App, tiny: Any, name: str) -> None:
    test = app([tiny.screen], tiny.models, "screen")
    test.session_state["screen-tab"] = name
    test.run()
    assert not test.exception
    said = words(test) + " ".join(str(frame.value) for frame in test.dataframe)
    expected = {"Refused fields": "missing-file", "A field": "made of cut cells", "Training": "iteration 39"}
    assert expected.get(name, "") in said


def test_audit_of_the_evidence_is_shown_where_it_was_kept(app: App, tiny: Any, tmp_path: Path) -> None:
    copy = tmp_path / "audited.screen"
    shutil.copytree(tiny.screen, copy)
    rows = [Check("map_false_positives", 0.05, 0.048, (0.03, 0.07), 400, True).to_dict()]
    rows.append(Check("null_paths", 0.05, 0.2, (0.1, 0.3), 60, False, "wells").to_dict())
    del rows[0]["tried"]  # as kept before
    (copy / "results" / "linear-a" / "audit.json").write_text(json.dumps({"checks": rows}))
    test = app([copy], tiny.models, "screen")
    test.session_state["screen-tab"] = "Evidence tried"
    test.run()
    sound(test)
    assert "1 of 2 checks came out as they should" in words(test)
    table = next(frame.value for frame in test.dataframe if "trials" in frame.value)
    assert table["trials"].tolist() == [400, 60]
    assert table["what was tried"].tolist() == ["map false positives", "null paths (wells)"]


def test_activity_stands_at_the_head_of_explore_and_mechanisms(app: App, tiny: Any, tmp_path: Path) -> None:
    copy = tmp_path / "active.screen"
    shutil.copytree(tiny.screen, copy)
    assert "cytovae activity" in words(app([copy], tiny.models, "mechanisms", model="linear-a"))
    table, _ = profiling.measure_activity(Screen.open(copy), "linear-a")
    n = int(table["active"].sum())
    assert f"{n} of the {(table['reason'] == '').sum()} treatments that could be tested are active" in words(
        app([copy], tiny.models, "mechanisms", model="linear-a")
    )
    row = table.set_index(schema.TREATMENT).loc["taxol@0.3"]
    said = words(app([copy], tiny.models, treatment="taxol@0.3", model="linear-a"))
    assert f"p {row['p_corrected']:.2g}, {row['n_units']} {row['unit']}" in said
    assert row["unit"] == "cells" and f"of {row['n_wells']} well" in said
    assert "what sets a well apart counts as the treatment's" in said


def test_dose_series_of_one_dose_is_refused_in_one_sentence(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, treatment="emetine@0.1", steps="5")
    test.session_state["tab"] = "Dose series"
    test.run()
    assert not test.exception
    assert "one concentration" in test.error[0].value


@pytest.mark.parametrize("level", ["cells", "wells", "treatments"])
def test_profiles_state_how_many_points_they_show(app: App, tiny: Any, level: str) -> None:
    from app.common import loaders, maps

    test = app([tiny.screen], tiny.models, "profiles", level=level)
    sound(test)
    screen = loaders.screens()["Tiny screen"]
    shown = maps.points(screen, "linear-a", level, "pca").table
    assert len(shown) == {"cells": 65, "wells": 24, "treatments": 6}[level] or level == "wells"
    assert np.isfinite(shown[["x", "y"]].to_numpy()).all()


def test_map_of_too_many_cells_shows_some_drawn_at_random_and_says_so(
    app: App, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.common import loaders, maps
    from cytovae.explore import maps as explored

    copy = tmp_path / "copy.screen"
    shutil.copytree(tiny.screen, copy, ignore=shutil.ignore_patterns("maps"))
    monkeypatch.setattr(explored, "MOST_CELLS", 30)
    sound(app([copy], tiny.models, "profiles", level="cells"))
    (screen,) = loaders.screens().values()
    shown = maps.points(screen, "linear-a", "cells", "pca")
    assert len(shown.table) == len(shown.features) == 30 and shown.table[schema.CELL_ID].is_unique
    assert maps.says(screen, "linear-a", "cells", 30) == f"30 of {len(screen.cells())} cells, drawn at random"
    assert maps.says(screen, "linear-a", "treatments", 6) == "6 of 6 treatments"


def test_umap_that_nobody_made_is_offered(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, "profiles", map="umap")
    sound(test)
    assert "--umap" in words(test)
    assert any(button.label == "Make it now" for button in test.button)


def test_table_of_mechanisms_names_every_model_and_the_number_scored(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, "mechanisms")
    table = next(frame.value for frame in test.dataframe if "model" in frame.value)
    assert {"linear-a", "linear-b"} <= set(table["model"])
    assert table["scored"].str.contains(" of ").all()
    assert set(table["rule"]) == {"NSC", "NSCB"}


def test_reconstructions_of_cells_picked_by_hand(app: App, tiny: Any) -> None:
    ids = Screen.open(tiny.screen).cells()[schema.CELL_ID].iloc[[3, 11]].tolist()
    test = app([tiny.screen], tiny.models, "reconstructions", cells="picked")
    assert not test.error and any("Type cell ids" in i.value for i in test.info)
    test.text_input(key="ids").set_value(" ".join(ids)).run()
    assert not test.error and not test.info
    test.text_input(key="ids").set_value(f"{ids[0]} no-such-cell").run()  # a mistyped id never blanks the page
    assert not test.error and "no cell 'no-such-cell'" in test.warning[0].value
    assert any("Click a cell to open it beside" in line.value for line in test.caption)
    test.text_input(key="ids").set_value("no-such-cell").run()
    assert not test.error and test.dataframe  # the measures over many cells stay


def test_reconstructions_of_what_is_selected(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, "reconstructions", cells="selected")
    assert any("Nothing is selected" in i.value for i in test.info)
    test = app([tiny.screen], tiny.models, "reconstructions", cells="selected", sel="treatment:emetine@0.1")
    sound(test)
    assert not test.info
    screen = loaders.screens()["Tiny screen"]
    rows = compare.picked(screen, Selection("treatments", frozenset({"emetine@0.1"})), 8, 0)
    assert len(rows) == 8 and set(loaders.cells(screen)[schema.TREATMENT].iloc[rows]) == {"emetine@0.1"}


def test_reconstructions_measure_every_model(app: App, tiny: Any) -> None:
    test = app([tiny.screen], tiny.models, "reconstructions")
    table = test.dataframe[0].value
    assert list(table["model"]) == ["linear-a", "linear-b"]
    assert (table["ssim"] < 1).all() and (table["mse"] > 0).all()


def test_another_draw_shows_other_cells_and_the_link_the_same(app: App, tiny: Any) -> None:
    from app.common import loaders
    from app.reconstructions import compare

    test = app([tiny.screen], tiny.models, "reconstructions")
    test.button(key="draw-button").click().run()
    sound(test)
    assert test.query_params["draw"] == "1"
    screen = loaders.screens()["Tiny screen"]
    first, again, other = (compare.draw(screen, "linear-a", "treatment", "DMSO@0", 6, number) for number in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


def test_held_out_cells_lie_in_wells_the_model_did_not_see(app: App, tiny: Any) -> None:
    from app.common import loaders
    from app.reconstructions import compare

    app([tiny.screen], tiny.models, "reconstructions")
    screen = loaders.screens()["Tiny screen"]
    held_out = set(loaders.bundle("linear-b").config["split"]["held_out_wells"])
    rows = compare.draw(screen, "linear-b", "each", "", 12, 0)
    cells = loaders.cells(screen).iloc[rows]
    assert set(cells[schema.PLATE] + "/" + cells[schema.WELL]) <= held_out


def test_every_page_is_in_the_one_list_of_pages() -> None:
    """Its folder, its address, the contract that keeps pages apart: what is forgotten fails here."""
    folders = {path.parent.name for path in (ROOT / "app").glob("*/page.py")}
    names = [entry.name for entry in registry.PAGES]
    assert sorted(names) == sorted(folders)
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (apart,) = (c for c in contracts if c["type"] == "independence" and c["modules"][0].startswith("app."))
    assert sorted(apart["modules"]) == sorted(f"app.{name}" for name in names)
    assert not (ROOT / "app" / "pages").exists()  # Streamlit would take it for its own kind of pages


@pytest.mark.parametrize("entry", registry.PAGES, ids=lambda entry: entry.name)
def test_a_page_holds_no_bare_string_which_streamlit_would_print(entry: registry.Entry) -> None:
    _, *after = ast.parse(entry.file.read_text()).body  # the first is the docstring
    assert [n.lineno for n in after if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)] == []
