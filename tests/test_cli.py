"""The command line as a whole: every verb is there, documented, and starts without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from click import Command
from typer.testing import CliRunner

from cytovae.cli import verbs

ROOT = Path(__file__).resolve().parent.parent


def walk(command: Command, words: tuple[str, ...] = ()) -> Iterator[str]:
    """Every verb below a command, as one types it."""
    below = getattr(command, "commands", {})
    for name, one in sorted(below.items()):
        yield from walk(one, (*words, name))
    if not below:
        yield " ".join(words)


VERBS = list(walk(typer.main.get_command(verbs.app)))


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cytovae", *words], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_of_the_contract_explains_itself(verb: str) -> None:
    shown = CliRunner().invoke(verbs.app, [*verb.split(), "--help"])
    assert shown.exit_code == 0
    assert "Usage" in shown.stdout


def test_the_verbs_of_the_contract_are_there() -> None:
    assert set(VERBS) >= {"demo", "train", "embed", "profile", "benchmark", "interpolate", "ingest crops", "app"}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_stands_in_the_readme(verb: str) -> None:
    assert f"cytovae {verb}" in (ROOT / "README.md").read_text()


def test_wrong_usage_is_status_2() -> None:
    assert run("train").returncode == 2
    assert run("no-such-verb").returncode == 2


@pytest.mark.parametrize("words", [("info", "nowhere"), ("app", "nowhere"), ("embed", "nowhere", "no-bundle")])
def test_failed_work_is_status_1_and_one_sentence(words: tuple[str, ...]) -> None:
    failed = run(*words)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert "nowhere" in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("module", ["cytovae", "cytovae.cli", "cytovae.screen"])
def test_start_up_imports_neither_torch_nor_umap_nor_streamlit(module: str) -> None:
    heavy = ["torch", "umap", "streamlit", "lightning_fabric", "sklearn", "matplotlib", "plotly", "cv2", "scipy.stats"]
    script = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_imports_no_heavy_package() -> None:
    heavy = ["torch", "umap", "streamlit", "lightning_fabric", "sklearn", "matplotlib", "plotly", "cv2"]
    script = (
        "import sys; sys.argv = ['cytovae', '--help']\n"
        "from cytovae.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"


def test_layers_hold() -> None:
    checked = subprocess.run([Path(sys.executable).parent / "lint-imports"], capture_output=True, text=True, cwd=ROOT)
    assert checked.returncode == 0, checked.stdout


def test_a_stopped_verb_says_how_to_go_on_and_is_status_130() -> None:
    script = (
        "import sys; sys.argv = ['cytovae', 'stop']\n"
        "from cytovae.cli import console, verbs\n"
        "@console.app.command()\n"
        "def stop(): raise KeyboardInterrupt\n"
        "verbs.run()"
    )
    stopped = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (stopped.returncode, stopped.stdout) == (130, "")
    assert stopped.stderr == "cytovae: stopped; run the same command again to go on (train: with --resume)\n"
