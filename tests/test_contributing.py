"""The recipes of CONTRIBUTING.md, each carried out as it is written, on a copy of the code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def recipe(title: str) -> str:
    parts = re.split(r"^## ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.M)
    return next(part for part in parts if part.startswith(f"{title}\n"))


def follow(title: str, code: Path) -> None:
    """Write the files and make the changes that a recipe shows."""
    for language, block in re.findall(r"```(python|diff)\n(.*?)```", recipe(title), flags=re.S):
        if language == "python":
            place, text = block.removeprefix("# ").split("\n", 1)
            (code / place).parent.mkdir(exist_ok=True)
            (code / place).parent.joinpath("__init__.py").touch()
            (code / place).write_text(text)
            continue
        head, *hunks = block.split("@@\n")
        (place,) = re.findall(r"^\+\+\+ b/(.*)$", head, flags=re.M)
        changed = (code / place).read_text()
        for hunk in hunks:
            lines = hunk.splitlines(keepends=True)
            before = "".join(line[1:] for line in lines if line[0] != "+")
            assert changed.count(before) == 1, f"{place} has this not once: {before!r}"
            changed = changed.replace(before, "".join(line[1:] for line in lines if line[0] != "-"))
        (code / place).write_text(changed)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    for room in ("cytovae", "app"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "models").symlink_to(ROOT / "models")
    return tmp_path


def tell(code: Path, script: str, **environment: str) -> str:
    given = {**os.environ, "PYTHONPATH": str(code), **environment}
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=code, env=given)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


SCREEN = """
import numpy as np, pandas as pd, cytovae
y, x = np.mgrid[:68, :68] - 33.5
blobs = [np.exp(-(x**2 + y**2) / (2 * radius**2)) for radius in (8, 9, 15, 16)]
images = (np.stack([np.stack([b, np.roll(b, 5, 0), 1 - b], axis=-1) for b in blobs]) * 30_000).astype(np.uint16)
table = pd.DataFrame({"cell_id": list("abcd"), "plate": "Week1_1", "well": ["A01", "A01", "A02", "A02"],
                      "compound": ["DMSO", "DMSO", "taxol", "taxol"], "concentration_uM": [0, 0, 0.3, 0.3]})
screen = cytovae.ingest_crops(images, table, ["DNA", "Tubulin", "Actin"], "my.screen")
"""


def test_a_model_is_the_example_that_the_tests_of_kinds_go_through() -> None:
    assert "tests/learn/example_kind.py" in recipe("Add a model")
    assert (ROOT / "tests" / "learn" / "example_kind.py").exists()
    assert "example_kind" in (ROOT / "tests" / "learn" / "test_kinds.py").read_text()


def test_a_page(code: Path) -> None:
    follow("Add a page", code)
    told = tell(
        code,
        SCREEN + "import os; os.environ['CYTOVAE_SCREENS'] = 'my.screen'\n"
        "from streamlit.testing.v1 import AppTest\n"
        "page = AppTest.from_file('app/main.py', default_timeout=60).run().switch_page('hello/page.py').run()\n"
        "assert not page.exception, page.exception\n"
        "print([m.value for m in page.metric])",
    )
    assert told.splitlines()[-1] == "['4']"


def test_a_layout(code: Path) -> None:
    follow("Add a layout of raw data", code)
    told = tell(
        code,
        "import numpy as np, tifffile\n"
        "from pathlib import Path\n"
        "from cytovae.config import ScreenRecord\n"
        "from cytovae.ingest import assembly\n"
        "from cytovae.ingest.layouts import flat\n"
        "Path('raw').mkdir()\n"
        "y, x = np.mgrid[:300, :300]\n"
        "blobs = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 128) for a in (75, 200) for b in (90, 210))\n"
        "for well, compound in (('A01', 'DMSO'), ('A02', 'taxol')):\n"
        "    for channel in ('DNA', 'Actin'):\n"
        "        field = (blobs * 20000 + 500).astype(np.uint16)\n"
        "        tifffile.imwrite(f'raw/P1_{well}_{compound}_{channel}.tif', field)\n"
        "layout = flat.read(Path('raw'), ('DNA', 'Actin'))\n"
        "record = ScreenRecord('flat', layout.channels)\n"
        "made = assembly.ingest_fields(layout, Path('raw'), Path('flat.screen'), record)\n"
        "print(made.n_cells, *sorted(set(made.screen.cells()['Metadata_Treatment'])))",
    )
    assert told.splitlines()[-1] == "8 DMSO taxol"


def test_a_way_along_a_path(code: Path) -> None:
    follow("Add a way along a path", code)
    told = tell(
        code,
        SCREEN + "path = screen.interpolate('bbbc021-vaeplus', 'taxol@0.3', mode='squared', steps=5)\n"
        "z = path.drawn.path.z\n"
        "print(np.round(np.linalg.norm(z - z[0], axis=1) / np.linalg.norm(z[-1] - z[0]), 4).tolist())",
    )
    assert told.splitlines()[-1] == "[0.0, 0.0625, 0.25, 0.5625, 1.0]"
    shown = tell(
        code, "import sys; sys.argv = ['cytovae', 'interpolate', '--help']\nfrom cytovae.cli import main\nmain()"
    )
    assert "squared" in shown


def test_a_measure(code: Path) -> None:
    follow("Add a measure of reconstructions", code)
    told = tell(
        code,
        "import numpy as np\nfrom cytovae.learn import measures\n"
        "x = np.random.default_rng(0).random((3, 68, 68, 3)).astype(np.float32)\n"
        "print(round(measures.measure(x, x + 0.25)['bias'], 6))",
    )
    assert told.strip() == "0.25"
