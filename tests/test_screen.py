"""A screen on disk: whole artefacts, provenance, and refusal of what does not belong together."""

from __future__ import annotations

import contextlib
import errno
import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cytovae import schema
from cytovae.config import ScreenRecord, from_dict, to_dict
from cytovae.errors import FULL, ConfigError, ScreenError
from cytovae.screen import (
    Screen,
    provenance,
    read_provenance,
    read_table,
    whole_file,
    whole_folder,
    write_table,
    write_table_blocks,
)

RECORD = ScreenRecord("tiny", ("DNA", "Tubulin", "Actin"), pixel_size_um=0.5, source="here")


@pytest.fixture
def screen(tmp_path: Path) -> Screen:
    made = Screen.create(tmp_path / "a.screen", RECORD)
    cells = pd.DataFrame({schema.CELL_ID: ["a", "b", "c"], schema.WELL: ["B02", "B02", "B03"]})
    write_table(made.cells_path, cells, provenance("ingest"))
    return made


def test_what_is_created_is_opened_again(screen: Screen) -> None:
    opened = Screen.open(screen.path)
    assert opened.record == RECORD
    assert opened.cells()[schema.CELL_ID].tolist() == ["a", "b", "c"]
    assert opened.models() == []


def test_what_is_no_screen_says_so(tmp_path: Path, screen: Screen) -> None:
    with pytest.raises(ScreenError, match="there is no screen at"):
        Screen.open(tmp_path / "nowhere")
    with pytest.raises(ScreenError, match=r"has no screen.json"):
        Screen.open(tmp_path)
    record = screen.path / "screen.json"
    record.write_text(json.dumps({**to_dict(RECORD), "version": 99}))
    with pytest.raises(ScreenError, match="layout version 99"):
        Screen.open(screen.path)
    for broken in ("{", "[]", json.dumps({**to_dict(RECORD), "chanels": []})):
        record.write_text(broken)
        with pytest.raises(ScreenError, match="cannot be understood"):
            Screen.open(screen.path)


def test_a_record_refuses_what_cannot_be() -> None:
    with pytest.raises(ConfigError, match="no option 'chanels'; did you mean 'channels'"):
        from_dict(ScreenRecord, {"name": "x", "chanels": ["DNA"]})
    with pytest.raises(ConfigError, match="distinct channel names"):
        ScreenRecord("x", ("DNA", "DNA"))
    with pytest.raises(ConfigError, match="pixel size is positive"):
        ScreenRecord("x", ("DNA",), pixel_size_um=0.0)
    assert from_dict(ScreenRecord, json.loads(json.dumps(to_dict(RECORD)))) == RECORD


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), whole_file(target) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    with whole_file(target) as beside:
        beside.write_text("new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("write", [np.save, lambda path, values: path.write_bytes(values.tobytes())])
def test_a_full_disk_is_said_with_what_there_is_no_room_for(tmp_path: Path, write: Any) -> None:
    target, limits = tmp_path / "a.npy", resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (1, 5000, 150_000):  # numpy has words of its own where a part of the values could be written
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        with contextlib.ExitStack() as after:
            after.callback(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
            with pytest.raises(OSError) as full, whole_file(target) as beside, beside.open("wb") as handle:
                write(handle if write is np.save else beside, np.zeros(200_000, np.uint8))
        assert full.value.errno in FULL
        assert full.value.filename == str(target)
    with pytest.raises(PermissionError), whole_folder(tmp_path / "b"):
        raise PermissionError(errno.EACCES, "no", "elsewhere")
    with pytest.raises(OSError) as full, whole_folder(tmp_path / "b"):
        raise OSError(errno.ENOSPC, "Error writing bytes to file")
    assert full.value.filename == str(tmp_path / "b")
    with pytest.raises(FileNotFoundError) as lost, whole_folder(tmp_path / "b") as folder:
        (folder / "c" / "d").read_bytes()
    assert lost.value.filename == str(tmp_path / "b" / "c" / "d")
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_write_one_folder_the_last_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with whole_folder(tmp_path / "b") as late:
        (late / "late").touch()
        (tmp_path / "b").mkdir()  # another process is done, after we looked
        (tmp_path / "b" / "early").touch()
        monkeypatch.setattr(Path, "exists", lambda path: False)
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["late"]
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "x"
    for words in ("old", "new"):
        with whole_folder(target) as beside:
            (beside / f"{words}.txt").write_text(words)
    with pytest.raises(RuntimeError), whole_folder(target) as beside:
        (beside / "half.txt").write_text("half")
        raise RuntimeError
    assert [p.name for p in target.iterdir()] == ["new.txt"]
    assert list(tmp_path.iterdir()) == [target]


def test_provenance_travels_inside_a_table(tmp_path: Path) -> None:
    record = provenance("embed", config={"a": 1}, inputs={"cells": "f00"}, seed=3)
    write_table(tmp_path / "t.parquet", pd.DataFrame({"x": [1, 2]}), record)
    assert read_provenance(tmp_path / "t.parquet") == record
    assert read_table(tmp_path / "t.parquet")["x"].tolist() == [1, 2]


def test_a_table_in_blocks_is_the_table_at_once(tmp_path: Path) -> None:
    table = pd.DataFrame({"s": list("abcdefg"), "i": range(7), "f": np.linspace(0, 1, 7), "extra": 0})
    types = pa.schema([("s", pa.string()), ("i", pa.int64()), ("f", pa.float64())])
    write_table_blocks(tmp_path / "t.parquet", types, (table.iloc[i : i + 3] for i in (0, 3, 6)), provenance("x"))
    assert read_table(tmp_path / "t.parquet").equals(table[["s", "i", "f"]])
    assert read_provenance(tmp_path / "t.parquet")["step"] == "x"


def test_a_broken_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScreenError, match=r"t.parquet is missing"):
        read_table(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_text("no table")
    with pytest.raises(ScreenError, match=r"t.parquet cannot be read as parquet"):
        read_table(tmp_path / "t.parquet")


def embed(screen: Screen, ids: list[str]) -> np.ndarray:
    values = np.arange(2.0 * len(ids), dtype=np.float32).reshape(-1, 2)
    screen.write_embeddings("m", ids, values, provenance("embed", inputs={"cells": screen.cells_digest()}))
    return values


def test_embeddings_are_joined_by_cell_id(screen: Screen) -> None:
    values = embed(screen, ["c", "a", "b"])
    cells, found = screen.embeddings("m")
    assert screen.models() == ["m"]
    assert cells[schema.CELL_ID].tolist() == ["c", "a", "b"]
    assert cells[schema.WELL].tolist() == ["B03", "B02", "B02"]
    assert np.array_equal(found, values)


def test_embeddings_of_other_cells_are_refused(screen: Screen) -> None:
    embed(screen, ["a", "b", "c"])
    write_table(screen.cells_path, screen.cells().iloc[::-1], provenance("ingest"))
    with pytest.raises(ScreenError, match="changed after 'm' embedded them"):
        screen.embeddings("m")


def test_what_the_reader_would_refuse_is_not_written(screen: Screen) -> None:
    values = np.zeros((2, 2), np.float32)
    good = provenance("embed", inputs={"cells": screen.cells_digest()})
    with pytest.raises(ScreenError, match="made from cells 'None', not from those of"):
        screen.write_embeddings("m", ["a", "b"], values, provenance("embed"))
    with pytest.raises(ScreenError, match="name 'x', which is no cell of the screen"):
        screen.write_embeddings("m", ["a", "x"], values, good)
    with pytest.raises(ScreenError, match="repeat a cell"):
        screen.write_embeddings("m", ["a", "a"], values, good)
    with pytest.raises(ScreenError, match="1 different names do not fit 2 features"):
        screen.write_embeddings("m", ["a", "b"], values, {**good, "config": {"features": ["q", "q"]}})
    assert screen.models() == []
    screen.write_embeddings("m", ["a", "b"], values, {**good, "config": {"features": ["q", "r"]}})
    assert screen.feature_names("m") == ["q", "r"]
    screen.write_embeddings("m", ["a", "b"], values, good)
    assert screen.feature_names("m") == ["z000", "z001"]


def test_missing_embeddings_say_what_to_do(screen: Screen) -> None:
    embed(screen, ["a", "b", "c"])
    with pytest.raises(ScreenError, match=r"no embeddings of 'n'.*run 'cytovae embed' first"):
        screen.embeddings("n")
    with pytest.raises(ScreenError, match="2 cell ids do not name 3 embeddings"):
        screen.write_embeddings("m", ["a", "b"], np.zeros((3, 2), np.float32), {})
