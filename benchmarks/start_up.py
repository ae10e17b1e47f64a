"""How long the app takes to be healthy beside an app that only says hello, in seconds of processor, five times each."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMES = 5


def healthy(script: Path, folder: Path) -> float:
    """Seconds of processor from the start of a server until it says that it is well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CYTOVAE_QUIZ_DB": f"sqlite:///{folder / 'quiz.sqlite'}"}
    command = [sys.executable, "-m", "streamlit", "run", str(script), f"--server.port={port}", "--server.headless=true"]
    server = subprocess.Popen(command, env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while server.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5):
                    break
            except OSError:
                time.sleep(0.02)
        fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Print both and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hello = folder / "hello.py"
        hello.write_text("import streamlit as st\nst.write('hello')\n")
        found = [(healthy(ROOT / "app" / "server.py", folder), healthy(hello, folder)) for _ in range(TIMES)]
    ours, theirs = (statistics.median(each) for each in zip(*found, strict=True))
    ratios = sorted(a / b for a, b in found)
    print(f"healthy after {ours:.2f} s of processor, a hello app after {theirs:.2f} s")
    print(f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f} of {TIMES} pairs)")


if __name__ == "__main__":
    main()
