"""The documentation builds without a warning, with every verb, error and column; its figures are those measured."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cytovae import errors, schema

from .conftest import PAGES, ROOT

spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
assert spec is not None and spec.loader is not None
figures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(figures)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        out / "trees",
        ROOT / "docs",
        out / "html",
    ]
    built = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert built.returncode == 0, built.stderr
    return out / "html"


@pytest.mark.slow
def test_what_is_looked_up_is_there(site: Path) -> None:
    shown = (site / "lookup" / "verbs.html").read_text()
    for verb in ("interpolate", "ingest crops", "import embeddings", "models verify"):
        assert f"<h2>{verb}" in shown
    assert "--treatment" in shown
    python = (site / "lookup" / "python.html").read_text()
    for error in errors.CytovaeError.__subclasses__():
        assert error.__name__ in python
    artefacts = (site / "lookup" / "artefacts.html").read_text()
    for column in (*schema.CELL_COLUMNS, *schema.FIELD_COLUMNS):
        assert column in artefacts


@pytest.mark.slow
def test_every_page_is_in_the_table_of_contents(site: Path) -> None:
    front = (site / "index.html").read_text()
    for page in PAGES:
        if page.is_relative_to(ROOT / "docs") and page.name != "index.md":
            assert f"{page.relative_to(ROOT / 'docs').with_suffix('.html')}" in front


@pytest.mark.parametrize("page", [p for p in PAGES if "<!-- figures:" in p.read_text()], ids=lambda p: p.name)
def test_figures_on_a_page_are_those_that_were_measured(page: Path) -> None:
    assert figures.renewed(page.read_text()) == page.read_text(), "renew them by 'make figures'"


@pytest.mark.parametrize("kept", sorted((ROOT / "docs" / "figures").glob("*.json")), ids=lambda p: p.stem)
def test_figures_were_measured_with_the_models_that_ship(kept: Path) -> None:
    for bundle, weights in json.loads(kept.read_text())["weights"].items():
        now = json.loads((ROOT / "models" / bundle / "config.json").read_text())["weights"]
        assert weights == now, f"{bundle} is newer than {kept.name}: measure again by 'make figures'"


def test_a_changed_figure_is_seen() -> None:
    text = (ROOT / "docs" / "understand" / "detail.md").read_text()
    assert figures.renewed(text.replace("| `bbbc021-vaeplus` |", "| `bbbc021-vaeplus` | 1 |")) == text
