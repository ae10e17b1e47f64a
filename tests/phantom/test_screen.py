"""The design of the phantom screen and its files."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from cytovae import schema
from cytovae.cli import console, phantoms
from cytovae.errors import ConfigError, IngestError
from cytovae.phantom import screen as phantom
from cytovae.phantom.screen import DEMO, PhantomOptions

SMALL = PhantomOptions(treatments=24, wells=1, controls=1, cells=10, width_px=256, height_px=224)
TINY = dataclasses.replace(SMALL, treatments=3, weeks=2, cells=4, width_px=128, height_px=128)
IMAGE_COLUMNS = [
    "TableNumber",
    "ImageNumber",
    "Image_FileName_DAPI",
    "Image_PathName_DAPI",
    "Image_FileName_Tubulin",
    "Image_PathName_Tubulin",
    "Image_FileName_Actin",
    "Image_PathName_Actin",
    "Image_Metadata_Plate_DAPI",
    "Image_Metadata_Well_DAPI",
    "Replicate",
    "Image_Metadata_Compound",
    "Image_Metadata_Concentration",
]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "raw"
    phantom.write(root, SMALL, processes=1)
    return root


def content(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def images(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / "BBBC021_v1_image.csv")


def channel(root: Path, row: pd.Series, name: str) -> np.ndarray:
    return tifffile.imread(root / row[f"Image_PathName_{name}"] / row[f"Image_FileName_{name}"])


def test_tables_have_the_columns_of_the_collection(small: Path) -> None:
    assert list(images(small).columns) == IMAGE_COLUMNS
    assert (small / "BBBC021_v1_moa.csv").read_text().startswith('"compound",concentration,"moa"\n')


def test_tables_have_the_columns_of_the_real_collection(small: Path, bbbc021: Path) -> None:
    for name in ("BBBC021_v1_image.csv", "BBBC021_v1_moa.csv"):
        ours, theirs = (pd.read_csv(p / name) for p in (small, bbbc021 / "tables"))
        assert list(ours.columns) == list(theirs.columns)
        assert [d.kind for d in ours.dtypes] == [d.kind for d in theirs.dtypes]
    assert set(ours["moa"]) == set(theirs["moa"])


def test_every_field_is_there_in_16_bits_and_12_bit_steps(small: Path) -> None:
    table = images(small)
    named = {
        f"{row[f'Image_PathName_{c}']}/{row[f'Image_FileName_{c}']}"
        for _, row in table.iterrows()
        for c in ("DAPI", "Tubulin", "Actin")
    }
    assert named == {str(p.relative_to(small)) for p in small.rglob("*.tif")}
    assert len(named) == 3 * len(table)
    for code, c in (("_w1", "DAPI"), ("_w2", "Tubulin"), ("_w4", "Actin")):
        assert table[f"Image_FileName_{c}"].str.contains(f"_s1{code}").all()
        image = channel(small, table.iloc[0], c)
        assert image.shape == (SMALL.height_px, SMALL.width_px)
        assert image.dtype == np.uint16
        assert not (image % 16).any()
        assert len(np.unique(image)) > 50


def test_a_file_says_that_it_is_simulated(small: Path) -> None:
    with tifffile.TiffFile(next(small.rglob("*.tif"))) as file:
        assert "simulated" in file.pages[0].description
    table = images(small)
    treated = table[table["Image_Metadata_Compound"] != "DMSO"]
    assert treated["Image_Metadata_Compound"].str.startswith("phantom-").all()


def test_every_plate_has_dmso(small: Path) -> None:
    compounds = images(small).groupby("Image_Metadata_Plate_DAPI")["Image_Metadata_Compound"].agg(set)
    assert len(compounds) == SMALL.weeks
    assert all("DMSO" in here for here in compounds)


def test_every_well_has_one_treatment_and_every_treatment_its_mechanism(small: Path) -> None:
    table, moa = images(small), pd.read_csv(small / "BBBC021_v1_moa.csv")
    assert not table.duplicated(["Image_Metadata_Plate_DAPI", "Image_Metadata_Well_DAPI"]).any()
    keys = ["Image_Metadata_Compound", "Image_Metadata_Concentration"]
    joined = table.merge(moa, left_on=keys, right_on=["compound", "concentration"], how="left")
    assert not joined["moa"].isna().any()
    assert len(set(joined["moa"])) == 13


@pytest.mark.parametrize("options", [SMALL, DEMO, PhantomOptions(treatments=144)])
def test_every_mechanism_lies_in_two_weeks_with_different_compounds(options: PhantomOptions) -> None:
    table = pd.DataFrame([dataclasses.asdict(t) for t in phantom.treatments(options)])
    assert not table.duplicated(["compound", "concentration_uM"]).any()
    assert len(set(table["moa"])) == 12
    assert (table.groupby("moa")["week"].nunique() >= 2).all()
    assert (table.groupby("moa")["compound"].nunique() >= 2).all()
    assert table.groupby("compound")["week"].nunique().eq(1).all()


def test_the_demo_has_36_treatments_two_wells_each_and_three_weeks() -> None:
    assert DEMO.treatments >= 36
    assert DEMO.wells >= 2
    assert DEMO.weeks >= 3


def test_strength_follows_the_hill_equation() -> None:
    table = pd.DataFrame([dataclasses.asdict(t) for t in phantom.treatments(PhantomOptions(treatments=144))])
    one = table[table["compound"] == "phantom-actin-A"].sort_values("concentration_uM")
    assert one["concentration_uM"].tolist() == [0.3, 1.0, 3.0, 10.0]
    expected = [1 / (1 + (10 / 6 / c) ** 1.6) for c in (0.3, 1.0, 3.0, 10.0)]
    assert one["strength"].tolist() == pytest.approx(expected)


def test_truth_has_a_row_for_every_cell_and_a_count_for_every_well(small: Path) -> None:
    cells, wells = pd.read_csv(small / "truth" / "cells.csv"), pd.read_csv(small / "truth" / "wells.csv")
    record = json.loads((small / "phantom.json").read_text())
    assert len(cells) == record["cells"] == wells["cells"].sum()
    assert len(wells) == record["wells"] == len(images(small))
    assert cells["center_y_px"].between(0, SMALL.height_px - 1).all()
    assert cells["center_x_px"].between(0, SMALL.width_px - 1).all()
    assert not cells.duplicated(["plate", "well", "site", "object"]).any()
    assert (cells.loc[cells["moa"] == "DMSO", "strength"] == 0).all()
    treated = cells[cells["moa"] != "DMSO"].groupby("compound")["strength"].mean()
    assert (treated > 0.5).all()


def test_weeks_differ_more_than_plates_of_a_week() -> None:
    between, within = [], []
    for seed in range(40):
        options = dataclasses.replace(DEMO, seed=seed)
        light = np.log([[phantom._optics(options, w, 2 * w + r)[0].gain for r in range(2)] for w in range(3)])
        within.append(np.var(light, axis=1, ddof=1).mean())
        between.append(np.var(light.mean(axis=1), axis=0, ddof=1).mean())
    assert np.mean(between) > 4 * np.mean(within)


def test_the_same_options_give_the_same_bytes_whatever_the_number_of_processes(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    phantom.write(tmp_path / "one", TINY, processes=1, progress=lambda done, total: seen.append((done, total)))
    phantom.write(tmp_path / "two", TINY, processes=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert seen == [(k, 5) for k in range(1, 6)]


def test_another_seed_gives_other_cells(tmp_path: Path) -> None:
    phantom.write(tmp_path / "0", TINY, processes=1)
    phantom.write(tmp_path / "1", dataclasses.replace(TINY, seed=1), processes=1)
    cells = [pd.read_csv(tmp_path / seed / "truth" / "cells.csv")["center_y_px"].tolist() for seed in "01"]
    assert cells[0] != cells[1]


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "from cytovae.phantom import screen as phantom\n"
        f"phantom.write({str(tmp_path / 'killed')!r}, phantom.{TINY!r}, processes=1)"
    )
    # a slow drawer leaves time to kill in the middle of the work
    slow = code.replace("\n", "\nimport time; inner = phantom.draw_field\n", 1).replace(
        "phantom.write",
        "phantom.draw_field = lambda *a: (time.sleep(0.4), inner(*a))[1]\nphantom.write",
    )
    run = subprocess.Popen([sys.executable, "-c", slow])
    parts = tmp_path / "killed" / ".phantom"
    until = time.monotonic() + 60
    while len(list(parts.glob("*.cells.csv"))) < 2 and time.monotonic() < until and run.poll() is None:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    done = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "killed").rglob("*.tif")}
    assert 6 <= len(done) < 15
    assert not (tmp_path / "killed" / "phantom.json").exists()
    left = next((tmp_path / "killed").rglob("*.tif")).parent / ".x.tif.1.part"
    left.write_bytes(b"half a file")

    made = phantom.write(tmp_path / "killed", TINY, processes=1)
    phantom.write(tmp_path / "undisturbed", TINY, processes=1)
    assert not made["already_there"]
    assert content(tmp_path / "killed") == content(tmp_path / "undisturbed")
    again = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "killed").rglob("*.tif")}
    assert sum(again[name] == when for name, when in done.items()) >= 6  # what was whole was not drawn again


def test_a_finished_screen_is_said_to_be_there_and_left_alone(small: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in small.rglob("*") if p.is_file()}
    assert phantom.write(small, SMALL)["already_there"]
    assert before == {p: p.stat().st_mtime_ns for p in small.rglob("*") if p.is_file()}


def test_other_options_are_refused_until_overwritten(tmp_path: Path) -> None:
    phantom.write(tmp_path / "raw", TINY, processes=1)
    other = dataclasses.replace(TINY, seed=5)
    with pytest.raises(IngestError, match=r"other options \(seed=0\)"):
        phantom.write(tmp_path / "raw", other, processes=1)
    phantom.write(tmp_path / "raw", other, processes=1, overwrite=True)
    phantom.write(tmp_path / "fresh", other, processes=1)
    assert content(tmp_path / "raw") == content(tmp_path / "fresh")


def test_a_folder_with_other_files_is_refused_even_with_overwrite(tmp_path: Path) -> None:
    (tmp_path / "Week1").mkdir()
    (tmp_path / "Week1" / "mine.tif").write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(IngestError, match="no phantom screen"):
            phantom.write(tmp_path, TINY, processes=1, overwrite=overwrite)
    assert (tmp_path / "Week1" / "mine.tif").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"treatments": 0}, "treatments from 1 to 144, not 0"),
        ({"controls": 13}, "controls from 1 to 12, not 13"),
        ({"cells": 200}, "do not fit in 1 field"),
        ({"treatments": 144, "weeks": 2}, "do not fit on a plate with 54 free wells"),
    ],
)
def test_sizes_that_cannot_be_are_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PhantomOptions(**options)


def test_the_plate_tells_the_batch() -> None:
    fields = phantom._fields(DEMO)
    assert {schema.batch_of(f.plate) for f in fields} == {"Week1", "Week2", "Week3"}
    assert len({f.name(1) for f in fields}) == len(fields)


def test_the_verb_prints_one_document_and_says_when_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert phantoms.make_phantom
    words = ["phantom", str(tmp_path / "raw"), "--treatments", "1", "--wells", "1", "--cells", "3", "--seed", "7"]
    words += ["--weeks", "1", "--controls", "1", "--width", "128", "--height", "128", "--processes", "1", "--json"]
    first, second = (CliRunner().invoke(console.app, words) for _ in range(2))
    assert first.exit_code == second.exit_code == 0
    made = json.loads(first.stdout)
    assert made["options"]["seed"] == 7
    assert made["wells"] == 2
    assert json.loads(second.stdout) == {**made, "already_there": True}
    assert "already there" in second.stderr
