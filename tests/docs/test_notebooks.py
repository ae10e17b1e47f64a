"""The notebooks run as they stand, and what they show is what the pages show."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT

spec = importlib.util.spec_from_file_location("run_notebooks", ROOT / "docs" / "run_notebooks.py")
assert spec is not None and spec.loader is not None
runner = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runner)


def forms(outputs: list[dict[str, Any]]) -> list[list[str]]:
    return [sorted(output.get("data", {"text": 0})) for output in outputs]


@pytest.mark.parametrize("path", runner.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_shows_on_its_page(path: Path) -> None:
    notebook = json.loads(path.read_text())
    kept = [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    came_out = runner.run(notebook)
    assert [forms(outputs) for outputs in came_out] == [forms(outputs) for outputs in kept]


def test_a_notebook_that_fails_is_seen() -> None:
    broken = {"cells": [{"cell_type": "code", "source": ["1 / 0"], "outputs": []}]}
    with pytest.raises(ZeroDivisionError):
        runner.run(broken)
