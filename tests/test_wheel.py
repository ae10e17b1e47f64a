"""The wheel alone: installed into an empty environment, away from the clone, it runs the demo."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("cytovae-*.whl"))


def test_wheel_holds_the_app_and_every_shipped_bundle(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "cytovae/_shipped/app/main.py" in names
    assert "cytovae/_shipped/app/.streamlit/config.toml" in names
    for bundle in (p.parent.name for p in (ROOT / "models").glob("*/weights.safetensors")):
        assert f"cytovae/_shipped/models/{bundle}/weights.safetensors" in names


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_wheel_alone_runs_the_demo_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "VIRTUAL_ENV", "CYTOVAE"))}
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    binaries = tmp_path / "venv" / "bin"
    install = [binaries / "pip", "install", "--quiet", "--constraint", ROOT / "requirements.lock", wheel]
    subprocess.run(install, check=True, env=environment, capture_output=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    port = free_port()
    server = subprocess.Popen(
        [binaries / "cytovae", "demo", "--dir", "demo", "--port", str(port), "--no-browser"],
        cwd=elsewhere,
        env=environment,
    )
    try:
        answer = b""
        for _ in range(400):
            assert server.poll() is None, f"the demo ended with status {server.returncode}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as reply:
                    answer = reply.read()
                break
            except OSError:
                time.sleep(1)
        assert answer == b"ok"
    finally:
        server.terminate()
        server.wait(30)
    info = subprocess.run(
        [binaries / "cytovae", "info", "demo/phantom.screen", "--json"],
        cwd=elsewhere,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(info.stdout)
