"""No verb replaces, removes or adds to a folder that holds somebody else's files, whatever it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cytovae.cli import verbs
from cytovae.errors import CytovaeError
from cytovae.ingest import exports
from cytovae.learn import hub
from cytovae.screen import Screen


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of one's own, with names that cytovae uses too."""
    folder = tmp_path / "mine"
    for name in ("README.md", "config.json", "samples/a.png", "Week1/a.tif", "report/a.html", "plates/a.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("verb", ["train", "export crops", "export ome-zarr", "ingest", "phantom", "pull"])
def test_a_folder_with_other_files_is_left_as_it_is(
    verb: str, overwrite: bool, mine: Path, four_cells: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "open_hub", lambda: pytest.fail("it was asked for a bundle"))
    exports.to_crops(Screen.open(four_cells.path), tmp_path / "crops")
    before = everything(mine)
    crops = ["--images", str(tmp_path / "crops/cells.npz"), "--table", str(tmp_path / "crops/cells.csv")]
    words = {
        "train": ["train", str(four_cells.path), str(mine), "--model", "pca"],
        "export crops": ["export", str(four_cells.path), str(mine), "--to", "crops"],
        "export ome-zarr": ["export", str(four_cells.path), str(mine), "--to", "ome-zarr"],
        "ingest": ["ingest", "crops", str(mine), *crops, "--channels", "DNA,Tubulin,Actin"],
        "phantom": ["phantom", str(mine)],
        "pull": ["models", "pull", "lab/model", str(mine)],
    }[verb]
    done = CliRunner().invoke(verbs.app, [*words, *(["--overwrite"] if overwrite else [])])
    assert everything(mine) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crops", "mine"]
    if overwrite or verb in ("train", "phantom"):
        assert isinstance(done.exception, CytovaeError), done.output
        said = str(done.exception)
        assert said.startswith(f"{mine} holds files") and said.endswith("name a new or an empty folder")
