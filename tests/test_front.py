from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import cytovae
from cytovae.cli import console, paths  # noqa: F401  (registers its verb)

PUBLIC = {
    "CellTable",
    "Drawing",
    "OpenScreen",
    "Reconstructions",
    "benchmark",
    "embed",
    "ingest_crops",
    "ingest_fields",
    "interpolate",
    "load_model",
    "open_screen",
    "profile",
    "reconstruct",
    "train",
}


def examples(public: object) -> list[str]:
    return [line.strip() for line in (public.__doc__ or "").splitlines() if line.strip().startswith(">>>")]


@pytest.fixture(scope="module")
def screen(bbbc021: Path, tmp_path_factory: pytest.TempPathFactory) -> cytovae.OpenScreen:
    """600 real cells."""
    table = pd.read_csv(bbbc021 / "crops" / "cells.csv")
    shown = table["compound"].isin(["DMSO", "cytochalasin D", "taxol"])
    rows = np.flatnonzero(shown)[::4]
    images = np.load(bbbc021 / "crops" / "cells.npz")["images"][rows]
    folder = tmp_path_factory.mktemp("front")
    return cytovae.ingest_crops(images, table.iloc[rows], ["DNA", "Tubulin", "Actin"], folder / "some.screen")


def test_the_public_names_are_these() -> None:
    assert set(cytovae.__all__) == PUBLIC
    assert set(dir(cytovae)) >= PUBLIC
    assert all(getattr(cytovae, name).__name__ == name for name in PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        cytovae.nonsense  # noqa: B018


def test_every_public_function_has_an_example_that_runs() -> None:
    for name in PUBLIC:
        if inspect.isfunction(public := getattr(cytovae, name)):
            assert ">>> import cytovae" in (public.__doc__ or "") or ">>> import tempfile" in (public.__doc__ or ""), (
                name
            )


def test_importing_costs_next_to_nothing() -> None:
    """Counted in modules, not in seconds: what is installed, and the heavy parts of the package itself."""
    code = "import sys; bare = set(sys.modules); import cytovae; print(*set(sys.modules) - bare)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    mine = {name for name in done.stdout.split() if name.split(".")[0] == "cytovae"}
    others = {name.split(".")[0] for name in done.stdout.split()} - {"cytovae"}
    assert "cytovae" in mine and len(mine) <= 4, sorted(mine)
    assert others <= sys.stdlib_module_names, sorted(others - sys.stdlib_module_names)


def test_the_lines_of_the_notebook(screen: cytovae.OpenScreen) -> None:
    opened = cytovae.open_screen(screen.path)
    model = cytovae.load_model("bbbc021-vaeplus")
    path = opened.interpolate(model, treatment="cytochalasin D@0.3")
    assert path._repr_png_().startswith(b"\x89PNG")
    assert len(path.steps) == len(path.frames)
    table = opened.embeddings(model)
    assert len(table) == len(opened.cells())
    assert {"Metadata_Treatment", "Metadata_Plate"} <= set(table.columns)
    anndata = table.to_anndata()
    assert anndata.X.shape == (len(table), model.latent_size)
    np.testing.assert_array_equal(anndata.X, opened.screen.embeddings(model.name)[1])
    assert set(opened.profiles(model)["Metadata_Compound"]) == {"DMSO", "cytochalasin D", "taxol"}
    scores = opened.benchmark(model, baselines=False)
    assert {"NSC", "NSCB"} == set(scores["rule"])
    assert (scores["n_scored"] <= scores["n_treatments"]).all()
    assert repr(opened).startswith("<screen 'some': ")


def test_notebook_and_command_line_draw_the_same_path(screen: cytovae.OpenScreen, tmp_path: Path) -> None:
    drawing = screen.interpolate("bbbc021-vaeplus", "taxol@0.3", steps=7)
    drawing.save(tmp_path / "notebook.json")
    words = ["interpolate", str(screen.path), "bbbc021-vaeplus", "--treatment", "taxol@0.3", "--steps", "7", "--json"]
    told = json.loads(CliRunner().invoke(console.app, words, catch_exceptions=False).stdout)
    kept = json.loads((tmp_path / "notebook.json").read_text())
    assert told["steps"] == kept["steps"]
    assert told["verdict"] == kept["verdict"]


def test_arrays_in_memory_give_the_screen_that_files_give(
    bbbc021: Path, screen: cytovae.OpenScreen, tmp_path: Path
) -> None:
    ids = screen.cells()["cell_id"].head(5).to_list()
    kept = np.load(bbbc021 / "crops" / "cells.npz")
    table = pd.read_csv(bbbc021 / "crops" / "cells.csv").set_index("cell_id")
    places = [table.index.get_loc(cell) for cell in ids]
    np.testing.assert_array_equal(screen.patches(ids), kept["images"][places])
    assert screen.cells()["Metadata_Compound"].head(5).to_list() == table.loc[ids, "compound"].to_list()


def test_a_training_by_python_leaves_a_model(screen: cytovae.OpenScreen, tmp_path: Path) -> None:
    model = cytovae.train(screen, tmp_path / "m", "ae", recipe="best", iterations=2, batch_size=4)
    assert model.config["recipe"]["decoder_margin_px"] > 0
    assert screen.reconstruct(model, n_cells=3).reconstruction.shape == (3, 68, 68, 3)
