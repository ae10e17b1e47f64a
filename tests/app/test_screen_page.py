"""The Screen page: whether an effect could be the plate's, and what a training looked like on its way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from app.common import loaders, pixels
from app.common.words import plain
from app.screen import overview
from cytovae import schema
from cytovae.config import ScreenRecord
from cytovae.patches import write_part
from cytovae.screen import Screen, provenance, write_table

App = Callable[..., Any]


def opened(app: App, screen: Path, models: Path, tab: str) -> Any:
    """The Screen page with one of its tabs open."""
    test = app([screen], models, "screen")
    test.session_state["screen-tab"] = tab
    test.run()
    assert not test.exception and not test.error
    return test


def words(test: Any) -> str:
    return "\n".join(e.value for kind in (test.markdown, test.caption, test.info) for e in kind)


def laid_out(wells: list[tuple[str, str, str, str, int]]) -> pd.DataFrame:
    """Cells of wells: compound, batch, plate, well and number of cells."""
    rows = []
    for compound, batch, plate, well, n in wells:
        dose = float(compound != "DMSO")
        what = (batch, compound, dose, schema.treatment_name(compound, dose), compound)
        for k in range(n):
            where = (f"{plate}_{well}_{k}", f"{plate}/{well}/s1", plate, well, 1, 1)
            rows.append((*where, *what, k, 100.0, 100.0, False))
    return pd.DataFrame(rows, columns=list(schema.CELL_COLUMNS))


def written(path: Path, table: pd.DataFrame) -> Screen:
    """A screen of these cells, all grey."""
    screen = Screen.create(path, ScreenRecord("Laid out", ("DNA", "Tubulin", "Actin")))
    write_part(screen.patches_path, 0, np.ones((len(table), 68, 68, 3), np.uint16))
    write_table(screen.cells_path, table, provenance("ingest"))
    return screen


CONTROLS = [("DMSO", f"W{p // 2}", f"P{p}", f"{row}03", 7) for p in range(3) for row in "BCD"]
"""Three control wells on each of P0 and P1 (batch W0) and P2 (batch W1)."""


@pytest.fixture
def doubtful(tmp_path: Path) -> Path:
    """One treatment free of doubt and one for each doubt; P3 has a single control well of two cells."""
    fine = [("fine", "W0", "P0", "C05", 2), ("fine", "W1", "P2", "C05", 2)]
    plate = [("plated", "W0", "P0", "D05", 2), ("plated", "W0", "P0", "D06", 2)]
    batch = [("batched", "W0", "P0", "E05", 2), ("batched", "W0", "P1", "E05", 2)]
    edge = [("edged", "W0", "P0", "A05", 2), ("edged", "W1", "P2", "F12", 2)]
    poor = [("poor", "W0", "P0", "F05", 2), ("poor", "W1", "P3", "F05", 2), ("DMSO", "W1", "P3", "C05", 2)]
    table = laid_out([*CONTROLS, *fine, *plate, *batch, *edge, *poor])
    return written(tmp_path / "s.screen", table).path


def test_every_doubt_about_the_plate_is_counted_of_all_treatments(app: App, tiny: Any, doubtful: Path) -> None:
    test = opened(app, doubtful, tiny.models, "Is it the plate?")
    said = words(test)
    for doubt in (
        "lie on one plate alone",
        "all of one batch",
        "at the edge of the plate",
        "fewer than 3 control wells",
    ):
        assert any("**1 of 5** treatments" in line and doubt in line for line in said.splitlines()), doubt
    table = test.dataframe[0].value
    assert dict(zip(table["treatment"], table["doubt"], strict=True)) == {
        "plated 1 µM": "one plate",
        "batched 1 µM": "one batch",
        "edged 1 µM": "edge",
        "poor 1 µM": "few controls",
    }
    assert all(line.startswith(name) for name, line in zip(table["treatment"], table.iloc[:, 2], strict=True))
    assert "cytovae embed" in said  # rows and columns are compared by embeddings


def test_a_screen_of_one_plate_says_that_it_holds_for_all(app: App, tiny: Any, tmp_path: Path) -> None:
    table = laid_out([*CONTROLS[:3], ("fine", "W0", "P0", "C05", 2), ("odd", "W0", "P0", "centre", 2)])
    screen = written(tmp_path / "one.screen", table)
    said = words(opened(app, screen.path, tiny.models, "Is it the plate?"))
    assert "The whole screen is one plate" in said
    assert "1 of 5 wells have names that do not say where" in said
    assert "on one plate alone" not in said and "batch" not in said
    assert "**0 of 2** treatments have all their wells at the edge" in said


def controls_by_row(folder: Path, shift: float) -> Screen:
    """Control wells in six rows of three plates, their embeddings moved on by `shift` from row to row."""
    rng = np.random.default_rng(1)
    wells = [
        ("DMSO", "W0", f"P{p}", f"{row}{column:02d}", 2)
        for p in range(3)
        for row in "BCDEFG"
        for column in rng.choice(np.arange(2, 12), 2, replace=False)
    ]
    table = laid_out(wells)
    screen = written(folder / "rows.screen", table)
    z = rng.normal(size=(len(table), 4)).astype(np.float32)
    z[:, 0] += shift * table[schema.WELL].str[0].map(ord).to_numpy() - shift * ord("B")
    made = provenance("embed", inputs={"cells": screen.cells_digest()})
    screen.write_embeddings("m", table[schema.CELL_ID].tolist(), z, made)
    return screen


@pytest.mark.parametrize(("shift", "found"), [(1.5, "differ."), (0.0, "are not seen to differ.")])
def test_controls_that_differ_by_row_are_said_to(app: App, tiny: Any, tmp_path: Path, shift: float, found: str) -> None:
    screen = controls_by_row(tmp_path, shift)
    said = words(opened(app, screen.path, tiny.models, "Is it the plate?"))
    assert f"By row: 36 control wells {found}" in said
    assert "By column: 36 control wells are not seen to differ." in said


def test_what_no_two_wells_share_cannot_be_told() -> None:
    line = {"by": "column", "share": 1.0, "expected": 1.0, "p": 1.0, "n_wells": 8}
    assert (
        overview.position_words(line) == "By column: cannot be told, as no two of the 8 control wells share a column."
    )


def test_the_doubt_stands_where_a_treatment_is_chosen(app: App, tiny: Any) -> None:
    screen = Screen.open(tiny.screen)
    doubts = loaders.plate_doubts(screen, "latrunculin B@1")
    assert doubts.startswith("latrunculin B 1 µM lies on one plate (Week1_P1)") and doubts.endswith(".")
    test = app([tiny.screen], tiny.models, treatment="latrunculin B@1", steps="5")
    assert any(caption.value.startswith("L" + plain(doubts[1:])) for caption in test.caption)
    assert loaders.plate_doubts(screen, "DMSO@0") == ""


@pytest.fixture
def trained(tiny: Any, tmp_path: Path) -> Path:
    """A folder of models: one has snapshots, the first without the newer measures, and two pictures; one has not."""
    folder = tmp_path / "models"
    shutil.copytree(tiny.models / "linear-a", folder / "watched")
    shutil.copytree(tiny.models / "linear-a", folder / "unwatched")
    old = {"iteration": 400, "n_cells": 300, "mse": 0.02, "ssim": 0.4, "sharpness_ratio": 0.5, "frechet": 9.0}
    new = {"iteration": 800, "n_cells": 500, "mse": 0.01, "ssim": 0.5, "sharpness_ratio": 0.9, "frechet": 5.0}
    new |= {"frame_ratio": 1.2, "coherence": [0.9, 0.6, 0.2], "readable_px": None, "frechet_features": "a network"}
    lines = [json.dumps(old), json.dumps(new), '{"iteration": 1200, "ms']
    (folder / "watched" / "snapshots.jsonl").write_text("\n".join(lines))
    samples = folder / "watched" / "samples"
    samples.mkdir()
    for iteration in (400, 800):
        Image.new("RGB", (30, 20), (iteration // 4, 0, 0)).save(samples / f"{iteration:06d}.png")
    return folder


def curves(test: Any) -> list[dict[str, Any]]:
    """The lines of the figure of snapshots, where there is one."""
    figures = [json.loads(chart.proto.spec) for chart in test.get("plotly_chart")]
    return [line for figure in figures[1:] for line in figure["data"]]


def choose(test: Any, name: str) -> None:
    test.selectbox(key="log").set_value(name).run()
    assert not test.exception and not test.error


def test_snapshots_and_pictures_of_the_chosen_training_are_shown(app: App, tiny: Any, trained: Path) -> None:
    test = opened(app, tiny.screen, trained, "Training")
    choose(test, "unwatched")
    assert not curves(test) and not test.get("image") and "snapshots" not in words(test)
    choose(test, "watched")
    assert len(curves(test)) == 4 + 1 + 3  # mse to frechet, frame, three sizes of coherence; no smallest detail
    assert "2 snapshots of 300 to 500 cells each" in words(test)
    assert "at iteration 800." in words(test)
    assert len(test.get("image")) == 1
    test.select_slider(key="samples-watched").set_value(400).run()
    assert not test.exception and "at iteration 400." in words(test)


def test_measures_that_older_snapshots_lack_are_gaps(trained: Path) -> None:
    table = overview.snapshots(trained / "watched")
    assert table["iteration"].tolist() == [400, 800]
    assert np.isnan(table["frame_ratio"][0]) and table["frame_ratio"][1] == 1.2
    assert "readable_px" not in table
    assert overview.snapshots(trained / "unwatched").empty


def test_no_picture_of_a_training_is_shown_while_a_quiz_is_unfinished_or_unknown(
    app: App, tiny: Any, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = overview.samples(trained / "watched")[800]
    test = opened(app, tiny.screen, trained, "Training")
    choose(test, "watched")
    shown = pixels.of_sheet(sheet)
    assert shown is not None and shown.shape == (20, 30, 3) and (shown == [200, 0, 0]).all()
    for name, answer in (("in_play", frozenset({"any cell"})), ("quiz_trouble", "the database is closed")):
        with monkeypatch.context() as quiz:
            quiz.setattr(loaders, name, lambda _, answer=answer: answer)
            test.run()
            assert not test.get("image")
            assert "not shown while a quiz is unfinished" in words(test)
            assert pixels.of_sheet(sheet) is None
            assert curves(test)  # numbers show nobody
    test.run()
    assert len(test.get("image")) == 1


def test_a_picture_that_is_none_is_one_sentence(app: App, tiny: Any, trained: Path) -> None:
    overview.samples(trained / "watched")[800].write_bytes(b"no picture at all")
    test = app([tiny.screen], trained, "screen")
    test.session_state["screen-tab"] = "Training"
    test.run()
    test.selectbox(key="log").set_value("watched").run()
    assert not test.exception
    assert "cannot be read" in test.error[0].value


def test_a_mechanism_by_dose_is_drawn_and_can_be_taken_along(app: App, tiny: Any) -> None:
    test = opened(app, tiny.screen, tiny.models, "Montage")
    assert "Actin disruptors" in test.selectbox(key="slide-mechanism").options
    assert len(test.get("image") + test.get("imgs")) == 1
    labels = {button.proto.label for button in test.get("download_button")}
    assert {"PNG", "SVG", "PDF"} <= labels


def test_a_field_that_cannot_be_read_is_a_sentence(app: App, tiny: Any, tmp_path: Path) -> None:
    copy = Screen.open(shutil.copytree(tiny.screen, tmp_path / "raw.screen"))
    fields = copy.fields()
    for channel in copy.record.channels:
        fields[f"path_{channel}"] = "stack.npy"
    write_table(copy.fields_path, fields, provenance("ingest"))
    np.save(copy.path / "stack.npy", np.zeros((3, 20, 20), np.uint16))  # a z-stack, beside the screen's own files
    raw = tmp_path / "raw"
    raw.mkdir()
    shutil.move(copy.path / "stack.npy", raw / "stack.npy")
    said = words(opened(app, copy.path, tiny.models, "A field"))
    assert "This field cannot be shown" in said and "(3, 20, 20)" in said


def test_info_and_the_screen_page_count_the_same_treatments_and_mechanisms(app: App, tiny: Any) -> None:
    from cytovae.ingest import inventory

    held = inventory.take(Screen.open(tiny.screen))
    shown = {metric.label: metric.value for metric in opened(app, tiny.screen, tiny.models, "Plates").metric}
    assert shown["Treatments"] == str(held["treatments"]) == "5"  # and the control
    assert shown["Mechanisms"] == str(len(held["mechanisms"]))


def test_a_model_of_other_channels_is_never_advised(app: App, tiny: Any, tmp_path: Path) -> None:
    screen = Screen.create(tmp_path / "two.screen", ScreenRecord("Two", ("DNA", "ER")))
    table = laid_out([*CONTROLS, ("fine", "W0", "P0", "C05", 2)])
    write_part(screen.patches_path, 0, np.ones((len(table), 68, 68, 2), np.uint16))
    write_table(screen.cells_path, table, provenance("ingest"))
    said = words(app([screen.path], tiny.models, "profiles"))
    assert "was made for Two's channels (DNA, ER)" in said
    assert "cytovae embed" not in said
    assert f"cytovae train {screen.path}" in said
