"""A new plate next week joins a screen in one step, once, and only where it belongs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cytovae import locks, schema
from cytovae.cli import console, data  # noqa: F401  (data registers its verbs)
from cytovae.config import ScreenRecord
from cytovae.errors import BusyError, IngestError
from cytovae.ingest import assembly, inventory, joining, layouts
from cytovae.ingest.illumination import Correction
from cytovae.patches import PatchStore, Storage
from cytovae.screen import Screen, provenance, read_provenance
from tests.ingest.drawn import Raw, write_raw
from tests.ingest.test_assembly import contents


def made(raw: Raw, path: Path, record: dict | None = None, **options) -> Screen:
    layout = layouts.bbbc021.read(raw.folder)
    asked = ScreenRecord("s", layout.channels, **(record or {}))
    return assembly.ingest_fields(layout, raw.folder, path, asked, assembly.IngestOptions(**options)).screen


@pytest.fixture
def old(tmp_path: Path) -> Raw:
    return write_raw(tmp_path / "raw")


@pytest.fixture
def new(tmp_path: Path) -> Raw:
    return write_raw(tmp_path / "next", plates=("Week3_003",), count=4)


@pytest.mark.parametrize("kept", list(Storage))
@pytest.mark.parametrize("illumination", [Correction.NONE, Correction.PLATE])
def test_cells_and_pixels_are_those_of_both_screens_and_a_second_time_changes_nothing(
    old: Raw, new: Raw, tmp_path: Path, kept: Storage, illumination: Correction
) -> None:
    options = {"patches": kept, "illumination": illumination}
    one, two = made(old, tmp_path / "a", **options), made(new, tmp_path / "b", **options)
    cells = pd.concat([one.cells(), two.cells()], ignore_index=True)
    pixels = [PatchStore(s.patches_path).read(np.arange(len(s.cells()))) for s in (one, two)]
    done = joining.append(one, [two])
    assert (done.plates, done.n_cells) == (("Week3_003",), len(two.cells()))
    joined = Screen.open(one.path)
    pd.testing.assert_frame_equal(joined.cells(), cells)
    assert len(joined.fields()) == 9 and joined.record == one.record
    store = PatchStore(joined.patches_path)
    assert np.array_equal(store.read(np.arange(len(cells))), np.concatenate(pixels))
    assert np.array_equal(store.digests(), np.concatenate([PatchStore(s).digests() for s in _folders(joined, two)]))
    before = contents(joined.path)
    assert joining.append(joined, [two]) == joining.Appended()
    assert contents(joined.path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "next", "raw"]


def _folders(joined: Screen, two: Screen) -> list[Path]:
    """The patches of all cells, by reading them again where no digests are kept."""
    for path in joined.patches_path.glob("digests-*"):
        path.unlink()
    return [joined.patches_path]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"record": {"control": "water"}}, "control 'water', not 'DMSO'"),
        ({"record": {"pixel_size_um": 0.5}}, "pixel_size_um 0.5, not None"),
        ({"record": {"patch_size_px": 60}}, "patch_size_px 60, not 68"),
        ({"illumination": Correction.PLATE}, "illumination 'plate', not 'none'"),
        ({"patches": Storage.ON_DEMAND}, "patches 'on-demand', not 'stored'"),
    ],
)
def test_what_was_made_otherwise_is_refused(old: Raw, new: Raw, tmp_path: Path, other: dict, said: str) -> None:
    one, two = made(old, tmp_path / "a"), made(new, tmp_path / "b", **other)
    before = contents(one.path)
    with pytest.raises(IngestError, match=f"cannot be appended to .*: it has .*{said}"):
        joining.append(one, [two])
    assert contents(one.path) == before


def test_a_plate_that_is_there_with_other_cells_is_refused(old: Raw, tmp_path: Path) -> None:
    one = made(old, tmp_path / "a")
    same = write_raw(tmp_path / "again", plates=("Week1_001",), count=4)
    with pytest.raises(IngestError, match=r"has the plates of .* already \(Week1_001\), with other cells"):
        joining.append(one, [made(same, tmp_path / "b")])
    beside = write_raw(tmp_path / "beside", plates=("Week1_001", "Week4_004"))
    with pytest.raises(IngestError, match=r"holds plate Week1_001, which .* has already, beside new ones"):
        joining.append(one, [made(beside, tmp_path / "c")])


def test_a_kill_at_the_last_moment_leaves_the_screen_as_it_was(old: Raw, new: Raw, tmp_path: Path) -> None:
    one, two = made(old, tmp_path / "a"), made(new, tmp_path / "b")
    before = contents(one.path)
    code = (
        "import os, sys; from cytovae import screen; from cytovae.ingest import joining\n"
        "screen._exchange = lambda *_: os.kill(os.getpid(), 9)\n"
        "joining.append(*(lambda a, b: (a, [b]))(*map(screen.Screen.open, sys.argv[1:])))"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(one.path), str(two.path)], check=False)
    assert ended.returncode == -9
    assert contents(one.path) == before
    locks.sweep.cache_clear()  # as in a process that has not looked here yet
    joining.append(one, [two])
    assert len(Screen.open(one.path).cells()) == len(PatchStore(one.patches_path)) > len(before)
    assert not list(tmp_path.glob(".*.part"))


def embedded(screen: Screen, value: float, weights: str = "w") -> None:
    ids = screen.cells()[schema.CELL_ID].to_list()
    record = provenance("embed", config={"model": "m"}, inputs={"cells": screen.cells_digest(), "weights": weights})
    screen.write_embeddings("m", ids, np.full((len(ids), 3), value, np.float32), record)


@pytest.mark.parametrize("theirs", ["none", "same", "other weights"])
def test_embeddings_are_joined_or_say_which_cells_they_miss(old: Raw, new: Raw, tmp_path: Path, theirs: str) -> None:
    one, two = made(old, tmp_path / "a"), made(new, tmp_path / "b")
    embedded(one, 1.0)
    if theirs != "none":
        embedded(two, 2.0, "w" if theirs == "same" else "v")
    (one.path / "profiles").mkdir()
    (one.path / "note.txt").write_text("mine")
    n, m = len(one.cells()), len(two.cells())
    done = joining.append(one, [two])
    assert done.gone == ("profiles",) and (one.path / "note.txt").read_text() == "mine"
    cells, z = one.embeddings("m")
    assert z[:n].min() == z[:n].max() == 1
    held = inventory.take(Screen.open(one.path))
    if theirs == "same":
        assert (done.whole, done.partial) == (("m",), ()) and len(z) == n + m and (z[n:] == 2).all()
        assert cells[schema.CELL_ID].to_list() == one.cells()[schema.CELL_ID].to_list()
    else:
        assert (done.whole, done.partial) == ((), ("m",)) and len(z) == n
        assert f"embeddings of m: {m} of {n + m} cells have none" in held["missing"]
    assert read_provenance(one.embeddings_path("m") / "index.parquet")["inputs"]["weights"] == "w"


def test_the_verb_reads_raw_data_as_those_of_the_screen_were(old: Raw, new: Raw, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        ended = CliRunner().invoke(console.app, [*words, "--json"], catch_exceptions=False)
        assert ended.exit_code == 0
        return ended.stdout

    run("ingest", "bbbc021", str(old.folder), str(tmp_path / "a"), "--pixel-size-um", "0.5", "--workers", "1")
    document = json.loads(run("append", str(tmp_path / "a"), str(new.folder)))
    assert (document["plates"], document["n_cells"], document["already"]) == (["Week3_003"], 12, False)
    assert Screen.open(tmp_path / "a").record.pixel_size_um == 0.5
    assert json.loads(run("append", str(tmp_path / "a"), str(new.folder)))["already"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "next", "raw"]


def test_the_verb_takes_nothing_away_that_it_did_not_read(old: Raw, new: Raw, tmp_path: Path) -> None:
    words = ["ingest", "bbbc021", str(old.folder), str(tmp_path / "a"), "--workers", "1"]
    assert CliRunner().invoke(console.app, words).exit_code == 0
    appends, place = ["append", str(tmp_path / "a"), str(new.folder)], tmp_path / "a.new-next"
    place.mkdir()
    (place / "mine").write_text("of somebody else")
    assert isinstance(CliRunner().invoke(console.app, appends).exception, IngestError)
    assert (place / "mine").exists()
    with locks.held(tmp_path / "a", "append"):
        refused = CliRunner().invoke(console.app, appends).exception
    assert isinstance(refused, BusyError) and "another append is at work on" in str(refused)


def test_raw_data_are_read_as_those_of_shards_and_of_crops_were(old: Raw, new: Raw, tmp_path: Path) -> None:
    def run(*words: object) -> dict:
        ended = CliRunner().invoke(console.app, [*map(str, words), "--json"], catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
        return json.loads(ended.stdout)

    sharded, again = tmp_path / "a", tmp_path / "crops" / "b"
    for shard in ("1/2", "2/2"):
        run("ingest", "bbbc021", old.folder, sharded, "--pixel-size-um", "0.5", "--workers", 1, "--shard", shard)
    run("merge", sharded)
    assert run("append", sharded, new.folder)["plates"] == ["Week3_003"]
    for number, plates in enumerate((["Week1_001"], ["Week2_002", "Week3_003"])):
        cells = Screen.open(sharded).cells()
        here = np.flatnonzero(cells[schema.PLATE].isin(plates))
        np.save(tmp_path / f"{number}.npy", PatchStore(sharded / "patches").read(here))
        cells.iloc[here].to_csv(tmp_path / f"{number}.csv", index=False)
    asked = ("--table", tmp_path / "0.csv", "--channels", "DNA,Tubulin,Actin", "--pixel-size-um", "0.5")
    run("ingest", "crops", again, "--images", tmp_path / "0.npy", *asked)
    refused = CliRunner().invoke(console.app, ["append", str(again), str(tmp_path / "1.npy")])
    assert isinstance(refused.exception, IngestError) and "with --table" in str(refused.exception)
    done = run("append", again, tmp_path / "1.npy", "--table", tmp_path / "1.csv")
    assert done["plates"] == ["Week2_002", "Week3_003"]
    pd.testing.assert_frame_equal(Screen.open(again).cells(), Screen.open(sharded).cells())
    stores = [PatchStore(path / "patches") for path in (again, sharded)]
    assert np.array_equal(*(store.read(np.arange(len(store))) for store in stores))
