"""The pixel door: no page shows a cell that lies in an unfinished quiz, nor what a model makes of it."""

from __future__ import annotations

import base64
import io
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from app.common import loaders, pixels
from app.common.components import cells as components
from app.common.selection import OPENED, SELECTIONS, Selection
from app.explore import player as players
from app.explore.sections import BESIDE
from cytovae import schema
from cytovae.config import ScreenRecord
from cytovae.learn import bundle
from cytovae.patches import normalise, write_part
from cytovae.screen import Screen, provenance, write_table

App = Callable[..., Any]


def unpack(message: bytes) -> np.ndarray:
    """The pictures of a component's message, (n, H, W, C)."""
    size = int.from_bytes(message[:4], "little")
    header = json.loads(message[4 : 4 + size])
    return np.frombuffer(message[4 + size :], "<u2").reshape(header["shape"]) * (header["top"] / 65535)


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What components would send to a browser."""
    messages: list[bytes] = []

    def mount(*, data: bytes, **_: Any) -> Any:
        messages.append(data)
        return types.SimpleNamespace(picked=None)

    monkeypatch.setattr(components, "_mount", mount)
    monkeypatch.setattr(players, "_mount", mount)
    return messages


def walk(app: App, tiny: Any, cell_id: str, control: str, treatment: str) -> None:
    """Every page, led to a cell as far as links and sessions lead."""
    ids = Screen.open(tiny.screen).cells()[schema.CELL_ID]
    for page, link, state in [
        ("explore", {"treatment": treatment, "steps": "5"}, {}),
        ("explore", {"treatment": treatment, "steps": "5", "target": cell_id, "control": control}, {}),
        ("explore", {"treatment": treatment, "steps": "5", "direction": "reverse"}, {"tab": "Control to control"}),
        ("explore", {"treatment": treatment, "steps": "5"}, {"tab": "Dose series"}),
        ("explore", {"treatment": treatment, "steps": "5", "tab": "Compare", "versus": "emetine@0.1"}, {}),
        ("explore", {"treatment": treatment, "steps": "5", "tab": "Looks like"}, {}),
        ("explore", {"treatment": treatment, "steps": "5"}, {BESIDE: cell_id}),
        ("reconstructions", {}, {}),
        ("reconstructions", {"cells": "treatment", "treatment": treatment, "n": "16"}, {}),
        (
            "profiles",
            {"level": "cells"},
            {OPENED: ("cells", cell_id), SELECTIONS: [Selection("cells", frozenset(ids))]},
        ),
        ("profiles", {"level": "treatments"}, {OPENED: ("treatments", treatment)}),
        ("mechanisms", {"treatment": treatment}, {}),
        ("screen", {}, {}),
    ]:
        test = app([tiny.screen], tiny.models, page, **link)
        for key, value in state.items():
            test.session_state[key] = value
        if state:
            test.run()
        assert not test.exception and not test.error, page


def seen(messages: list[bytes], forbidden: np.ndarray) -> int:
    """How many of the forbidden pictures (n, H, W, C) are among those in the messages."""
    shown = np.concatenate([unpack(m) for m in messages])
    return sum(bool((np.abs(shown - picture).max(axis=(1, 2, 3)) < 2e-3).any()) for picture in forbidden)


def test_walk_through_every_page_meets_no_cell_of_an_unfinished_quiz(
    app: App, tiny: Any, received: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen.open(tiny.screen)
    table = screen.cells()
    treatment = "taxol@0.3"
    playing = frozenset(table[schema.CELL_ID][::2])
    hidden = table[schema.CELL_ID].isin(playing)
    real = normalise(loaders.patches(screen, np.flatnonzero(hidden)))
    model = bundle.load(tiny.models / "linear-a")
    decoded = np.clip(model.decode(model.encode(real)), 0, 1.5)  # what a synthetic card shows
    forbidden = np.concatenate([real, decoded])
    cell_id = str(table.loc[hidden & (table[schema.TREATMENT] == treatment), schema.CELL_ID].iloc[0])
    control = str(table.loc[hidden & (table[schema.COMPOUND] == "DMSO"), schema.CELL_ID].iloc[-1])
    walk(app, tiny, cell_id, control, treatment)
    assert seen(received, real) > len(real) // 2  # without a quiz they are all over the pages
    assert seen(received, forbidden[len(real) :]) > 2  # and some of their reconstructions
    received.clear()
    monkeypatch.setattr(loaders, "in_play", lambda _: playing)
    walk(app, tiny, cell_id, control, treatment)
    assert seen(received, forbidden) == 0
    assert len(np.concatenate([unpack(m) for m in received])) > 50


def test_pictures_of_a_veiled_cell_and_what_is_made_of_it_are_black(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen.open(tiny.screen)
    ids = screen.cells()[schema.CELL_ID].tolist()
    monkeypatch.setattr(loaders, "in_play", lambda _: frozenset(ids[1:2]))
    shown = pixels.of_cells(screen, [0, 1, 2]) + pixels.veil(screen, [ids[1], "", ids[0]], np.ones((3, 68, 68, 3)))
    assert shown.veiled.tolist() == [False, True, False, True, False, False]
    assert (shown.images.max(axis=(1, 2, 3)) > 0).tolist() == [True, False, True, False, True, True]


def field_screen(folder: Path, centres: list[tuple[float, float]]) -> Screen:
    """A screen of one field of 200 x 200 px with cells at these centres (y, x); bright all over."""
    rng = np.random.default_rng(0)
    names = [f"P1_A01_{k}" for k in range(len(centres))]
    head = {schema.FIELD: "f1", schema.PLATE: "P1", schema.WELL: "A01", schema.SITE: 1, schema.REPLICATE: 1}
    what = {schema.BATCH: "W1", schema.COMPOUND: "DMSO", schema.CONCENTRATION: 0.0, schema.TREATMENT: "DMSO@0"}
    table = pd.DataFrame({schema.CELL_ID: names, **head, **what, schema.MOA: "DMSO"})
    table[schema.OBJECT], table[schema.BLANK] = range(len(centres)), False
    table[[schema.CENTER_Y, schema.CENTER_X]] = centres
    screen = Screen.create(folder / "one.screen", ScreenRecord("One field", ("DNA", "Tubulin", "Actin")))
    write_part(screen.patches_path, 0, rng.integers(900, 1100, (len(centres), 68, 68, 3)).astype(np.uint16))
    write_table(screen.cells_path, table[list(schema.CELL_COLUMNS)], provenance("ingest"))
    fields = table.iloc[:1].reindex(columns=list(schema.FIELD_COLUMNS)).copy()
    fields[schema.STATUS], fields[schema.CODE], fields[schema.REASON] = "ok", "", ""
    raw = screen.path.with_suffix(".raw")
    raw.mkdir()
    for channel in screen.record.channels:
        fields[f"path_{channel}"] = f"{channel}.tif"
        tifffile.imwrite(raw / f"{channel}.tif", rng.integers(900, 1100, (200, 200)).astype(np.uint16))
    write_table(screen.fields_path, fields, provenance("ingest"))
    return screen


def test_raw_field_is_black_where_a_veiled_cell_lies(
    app: App, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = field_screen(tmp_path, [(60.0, 50.0), (150.5, 140.5)])
    hidden = str(screen.cells()[schema.CELL_ID].iloc[1])

    def shown() -> np.ndarray:
        test = app([screen.path], tiny.models, "screen")
        test.session_state["screen-tab"] = "A field"
        test.run()
        assert not test.exception and not test.error
        figure = json.loads(test.get("plotly_chart")[0].proto.spec)
        source = figure["layout"]["images"][0]["source"]
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
            return np.asarray(image.convert("RGB"))

    assert shown()[117:184, 107:174].max() > 0
    monkeypatch.setattr(loaders, "in_play", lambda _: frozenset({hidden}))
    field = shown()
    assert field[117:184, 107:174].max() == 0  # the whole patch of 68 px
    assert field[26:94, 16:84].max() > 0  # the other cell is there
    outside = np.ones(field.shape[:2], bool)
    outside[115:187, 105:177] = False
    assert (field[outside].max(axis=-1) > 0).mean() > 0.9


def test_a_read_is_kept_until_an_artefact_changes(tmp_path: Path) -> None:
    calls: list[str] = []

    @loaders.cached(4)
    def read(screen: Screen, what: str) -> str:
        calls.append(what)
        return what

    screen = field_screen(tmp_path, [(60.0, 50.0)])
    read(screen, "a")
    read(Screen.open(screen.path), "a")  # another object, the same screen
    assert calls == ["a"]
    read(screen, "b")
    assert calls == ["a", "b"]
    write_table(screen.cells_path, pd.concat([screen.cells()] * 2), provenance("ingest"))
    read(screen, "a")
    assert calls == ["a", "b", "a"]
