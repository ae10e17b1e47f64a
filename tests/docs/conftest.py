"""The pages, and the small screen that their commands are run on."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cytovae.cli import verbs
from cytovae.screen import Screen

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)( run)?\n(.*?)^```$", flags=re.S | re.M)


class Block(NamedTuple):
    language: str
    run: bool
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(language, bool(run), text) for language, run, text in FENCE.findall(page.read_text())]


def cytovae(*words: object) -> str:
    """One command in this process; it must end well."""
    done = CliRunner().invoke(verbs.app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, f"cytovae {' '.join(map(str, words))}: {done.output}"
    return done.stdout


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of: a screen, and the same cells as crops, as fields of a LoadData table, as an Opera's."""
    home = tmp_path_factory.mktemp("docs")
    few = [
        "--treatments",
        4,
        "--wells",
        2,
        "--weeks",
        2,
        "--controls",
        2,
        "--cells",
        6,
        "--width",
        400,
        "--height",
        320,
    ]
    cytovae("phantom", home / "raw", *few, "--processes", 1)
    cytovae("ingest", "bbbc021", home / "raw", home / "my.screen", "--workers", 1)
    cytovae("embed", home / "my.screen", "phantom-vaeplus")
    cytovae("export", home / "my.screen", home / "cut", "--to", "crops")
    for name in ("cells.npz", "cells.csv"):
        shutil.move(home / "cut" / name, home / name)
    fields_as_others_have_them(home)
    screen = Screen.open(home / "my.screen")
    rng = np.random.default_rng(0)
    theirs = pd.DataFrame(rng.normal(size=(len(screen.cells()), 5)), columns=list("abcde"))
    theirs.insert(0, "cell_id", screen.cells()["cell_id"])
    theirs.to_parquet(home / "embeddings.parquet")
    return home


def fields_as_others_have_them(home: Path) -> None:
    """``load_data.csv`` as CellProfiler reads it; ``opera/`` and ``map.csv`` of the first plate."""
    fields = Screen.open(home / "my.screen").fields()
    paths = {channel: f"path_{channel}" for channel in ("DNA", "Tubulin", "Actin")}
    table = fields.filter(regex="^Metadata_(Plate|Well|Site|Compound|Concentration|MoA)$").copy()
    for channel, column in paths.items():
        table[f"FileName_Orig{channel}"] = [Path(path).name for path in fields[column]]
        table[f"PathName_Orig{channel}"] = [str((home / "raw" / path).parent) for path in fields[column]]
    table.to_csv(home / "load_data.csv", index=False)
    wells = []
    for _, field in fields[fields["Metadata_Plate"] == fields["Metadata_Plate"].iloc[0]].iterrows():
        well = str(field["Metadata_Well"])
        row, column = ord(well[0]) - 64, int(well[1:])
        (home / "opera" / "P1").mkdir(parents=True, exist_ok=True)
        for number, path in enumerate((field[column_of] for column_of in paths.values()), start=1):
            name = f"r{row:02d}c{column:02d}f{int(field['Metadata_Site']):02d}p01-ch{number}sk1fk1fl1.tiff"
            shutil.copy(home / "raw" / path, home / "opera" / "P1" / name)
        wells.append(["P1", well, field["Metadata_Compound"], field["Metadata_Concentration"]])
    pd.DataFrame(wells, columns=["plate", "well", "compound", "concentration"]).drop_duplicates().to_csv(
        home / "map.csv", index=False
    )


@pytest.fixture
def here(world: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, as the working folder."""
    before = Path.cwd()
    shutil.copytree(world, tmp_path / "here")
    os.chdir(tmp_path / "here")
    yield tmp_path / "here"
    os.chdir(before)
