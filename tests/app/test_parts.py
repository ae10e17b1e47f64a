"""The parts under the pages: what goes to the browser, which points a lasso holds, selections, plates."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.common import loaders
from app.common.components.message import pack
from app.common.selection import Selection
from app.explore import figures
from app.profiles.scatter import _event
from app.screen import overview
from cytovae import schema
from cytovae.config import ScreenRecord
from cytovae.screen import Screen


def unpack(message: bytes) -> tuple[dict[str, Any], np.ndarray]:
    size = int.from_bytes(message[:4], "little")
    header = json.loads(message[4 : 4 + size])
    pixels = np.frombuffer(message[4 + size :], "<u2").reshape(header["shape"])
    return header, pixels * (header["top"] / 65535)


def test_packed_images_come_back_to_16_bits() -> None:
    images = np.random.default_rng(0).uniform(0, 1.2, (3, 5, 7, 2)).astype(np.float32)
    header, found = unpack(pack({"channels": ["a", "b"]}, images))
    assert header["channels"] == ["a", "b"]
    np.testing.assert_allclose(found, images, atol=1.2 / 65535)


def test_packed_images_are_clipped_and_blank_stays_blank() -> None:
    header, found = unpack(pack({}, np.array([-3.0, 0.0, 1.0, 99.0], np.float32).reshape(1, 2, 2, 1)))
    assert header["top"] == 1.5
    np.testing.assert_allclose(found.ravel(), [0, 0, 1, 1.5], atol=1e-4)
    assert unpack(pack({}, np.zeros((1, 2, 2, 1))))[1].max() == 0


def test_same_content_has_the_same_id_and_another_caption_another() -> None:
    images = np.ones((1, 2, 2, 1))
    ids = [unpack(pack({"text": text}, images))[0]["id"] for text in ("a", "a", "b")]
    assert ids[0] == ids[1] != ids[2]


def test_a_run_looks_at_a_screen_once_and_the_next_one_anew(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, looks = Screen.open(tiny.screen), []
    look = loaders._fingerprint
    monkeypatch.setattr(loaders, "_fingerprint", lambda asked: looks.append(asked) or look(asked))
    for _ in range(2):
        with loaders.one_look():
            first = loaders.fingerprint(screen)
            with loaders.one_look():
                assert loaders.fingerprint(screen) == first
    assert len(looks) == 2
    loaders.fingerprint(screen)
    assert len(looks) == 3


@pytest.fixture
def cells() -> pd.DataFrame:
    return pd.DataFrame(
        {
            schema.CELL_ID: ["a", "b", "c", "d"],
            schema.PLATE: ["P1", "P1", "P2", "P2"],
            schema.WELL: ["A01", "A02", "A01", "A01"],
            schema.TREATMENT: ["x@1", "y@1", "x@1", "y@1"],
        }
    )


def test_selection_of_a_treatment_is_its_cells_and_their_wells(cells: pd.DataFrame) -> None:
    chosen = Selection("treatments", frozenset({"x@1"}))
    assert chosen.of_cells(cells).tolist() == [True, False, True, False]
    assert chosen.mask(cells, cells, "cells").tolist() == [True, False, True, False]
    wells = cells.drop_duplicates([schema.PLATE, schema.WELL])
    assert chosen.mask(cells, wells, "wells").tolist() == [True, False, True]


def test_selection_goes_by_id_whatever_the_order_of_the_rows(cells: pd.DataFrame) -> None:
    chosen = Selection("cells", frozenset({"a", "d", "gone"}))
    shuffled = cells.iloc[[3, 1, 0, 2]]
    assert chosen.mask(shuffled, shuffled, "cells").tolist() == [True, False, True, False]


def test_browser_messages_of_another_map_or_out_of_range_are_dropped() -> None:
    said = {"hovered": {"point": 2, "map": "other"}, "opened": {"point": 9, "map": "mine"}}
    event = _event(said, "mine", 5)
    assert event.hovered is None and event.opened is None
    assert _event({"opened": {"point": 4, "map": "mine"}}, "mine", 5).opened == 4
    assert _event({"opened": {"point": "4; drop", "map": "mine"}}, "mine", 5).opened is None
    assert _event({}, "mine", 5).polygon is None
    assert len(_event({"lasso": {"polygon": []}}, "mine", 5).polygon) == 0


def test_plate_is_the_smallest_that_holds_its_wells() -> None:
    sizes = [tuple(map(len, overview.grid_of(pd.Series(w)))) for w in (["A01", "H12"], ["A01", "P24"], ["AF48"])]
    assert sizes == [(8, 12), (16, 24), (32, 48)]
    assert overview.grid_of(pd.Series(["AF48"]))[0][-1] == "AF"


def test_difference_is_grey_where_its_interval_holds_nothing() -> None:
    difference = np.array([[1.0, -1.0, 0.5]])
    image = figures.diverging(difference, np.array([[0.5, -1.5, -0.1]]), np.array([[1.5, -0.5, 1.1]]))
    red, blue, unsure = image[0].astype(int)
    assert red[0] > red[2] and blue[2] > blue[0]
    assert unsure.tolist() == [205, 205, 205]


def test_embedded_models_come_first_and_a_vae_plus_before_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, model in {"a": "ae", "b": "vae+", "c": "vae", "d": "vae+"}.items():
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "config.json").write_text(json.dumps({"model": model}))
    screen = Screen.create(tmp_path / "screen", ScreenRecord("s", ("DNA",)))
    for name in ("a", "b"):
        screen.embeddings_path(name).mkdir(parents=True)
        np.save(screen.embeddings_path(name) / "embeddings.npy", np.zeros((1, 2), np.float32))
    monkeypatch.setenv(loaders.MODELS, str(tmp_path / "models"))
    assert loaders.models(screen) == ["b", "a", "d", "c"]


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({}, []),
        ({"readable_px": None, "n_cells": 12}, ["decoded pictures follow the cell at no size (measured on 12 cells)"]),
        (
            {"readable_px": 13.6, "n_cells": 1100},
            [
                "decoded pictures follow the cell down to about 14 px; finer texture is the model's own "
                "(measured on 1,100 cells)"
            ],
        ),
    ],
)
def test_explore_says_down_to_what_size_a_decoded_picture_can_be_read(
    metrics: dict[str, float], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from app.explore import view

    monkeypatch.setattr(view.loaders, "bundle", lambda name: SimpleNamespace(metrics=metrics))
    assert view.readable("any") == said


@pytest.mark.parametrize("head", ["", "---\nlicense: x\ntags:\n- y\n---\n\n"])
def test_a_model_card_is_shown_without_what_heads_it(
    head: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loaders, "models_dir", lambda: tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "README.md").write_text(f"{head}# m\n\nA model.\n\n---\n\n# More\n", encoding="utf-8")
    assert overview.card("m") == "A model.\n\n---\n\n# More\n"
    assert overview.card("n") == ""


def test_weights_of_headings_are_such_as_browsers_are_told() -> None:
    config = Path(overview.__file__).parents[1] / ".streamlit" / "config.toml"
    weights = tomllib.loads(config.read_text(encoding="utf-8"))["theme"]["headingFontWeights"]
    assert all(weight % 50 == 0 for weight in weights)
