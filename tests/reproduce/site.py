"""A web server that holds a phantom as the collection holds its plates, and misbehaves as told; runs that end early."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np

from cytovae.ingest.fetch import IMAGE_TABLE, MOA_TABLE, archive_name
from cytovae.phantom import screen as phantom

ROOT = Path(__file__).resolve().parents[2]


class Site:
    """Tables and one archive a plate; `faults` are file name -> what goes wrong with it next, each once.

    ``reset`` cuts the line halfway, ``slow`` sends in drops, ``truncated`` and ``wrong`` send half of the file, or
    other bytes, as if they were all of it; a number is the status of a refusal.
    """

    def __init__(self, raw: Path) -> None:
        self.files = {name: (raw / name).read_bytes() for name in (IMAGE_TABLE, MOA_TABLE)}
        for folder in sorted(raw.glob("Week*/*")):
            held = io.BytesIO()
            with zipfile.ZipFile(held, "w") as packed:
                for path in sorted(folder.glob("*.tif")):
                    packed.write(path, f"{folder.name}/{path.name}")
            self.files[archive_name(folder.name)] = held.getvalue()
        self.faults: dict[str, list[str | int]] = {}
        self.asked: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                site.answer(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/BBBC021"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        name = request.path.rsplit("/", 1)[-1]
        self.asked.append(name)
        fault = self.faults[name].pop(0) if self.faults.get(name) else None
        if isinstance(fault, int) or name not in self.files:
            request.send_error(fault if isinstance(fault, int) else 404)
            return
        data = self.files[name]
        tag = '"' + hashlib.sha256(data).hexdigest()[:16] + '"'
        if fault == "wrong":
            data = b"<html>log in first</html>" * 40
        elif fault == "truncated":
            data = data[: len(data) // 2]
        wanted = request.headers.get("Range")
        start = 0
        if wanted and request.headers.get("If-Range") == tag and fault is None:
            start = min(int(wanted.removeprefix("bytes=").rstrip("-")), len(data) - 1)
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            request.send_response(200)
        if fault not in ("wrong", "truncated"):
            request.send_header("ETag", tag)
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        try:
            if fault == "reset":
                request.wfile.write(data[start : (start + len(data)) // 2])
                request.wfile.flush()
                request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                request.connection.close()
            elif fault == "slow":
                for at in range(start, len(data), 1 + len(data) // 20):
                    request.wfile.write(data[at : at + 1 + len(data) // 20])
                    time.sleep(0.02)
            else:
                request.wfile.write(data[start:])
        except OSError:  # the other side has been killed
            pass

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def small_phantom(raw: Path) -> None:
    """Every mechanism by two compounds, in two weeks; one field a well."""
    options = phantom.PhantomOptions(
        treatments=24, wells=1, cells=7, weeks=2, controls=2, width_px=320, height_px=256, seed=3
    )
    phantom.write(raw, options, processes=1)


MARKS = (
    "raw/*.zip.part",
    "raw/Week*/*/*.tif",
    "bbbc021.screen.ingest/results/part-*.json",
    "bbbc021.screen/cells.parquet",
    "models/*/checkpoint.safetensors",
    "models/*/config.json",
    "bbbc021.screen/embeddings/*/index.parquet",
    "bbbc021.screen/results/_baselines/scores.json",
    "bbbc021.screen/results/*/audit.json",
    "report/figure2.png",
    "report/report.html",
)
"""What a run leaves on disk, in the order in which it does."""


def start(folder: Path, words: list[str]) -> subprocess.Popen[str]:
    """The verb in a process of its own; it makes `folder`/out."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cytovae", "reproduce", "bbbc021", "out", *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def kill_at(folder: Path, words: list[str], mark: str, later_s: float = 0.0) -> str:
    """Run until something of `mark` lies in `folder`/out, and a little longer; empty, or its last words if it ended."""
    running = start(folder, words)
    killed = False
    while running.poll() is None:
        if next((folder / "out").glob(mark), None) is not None:
            time.sleep(later_s)
            killed = running.poll() is None
            running.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    _, errors = running.communicate()
    return "" if killed else (errors.strip().splitlines() or ["done"])[-1]


def finish(folder: Path, words: list[str], tries: int = 10) -> list[str]:
    """Run again and again until it is done; the sentences with which it failed before."""
    said = []
    for _ in range(tries):
        running = start(folder, words)
        _, errors = running.communicate()
        if running.returncode == 0:
            return said
        lines = errors.strip().splitlines()
        assert running.returncode == 1 and lines[-1].startswith("cytovae: ") and "Traceback" not in errors, errors
        said.append(lines[-1])
    raise AssertionError(f"not done after {tries} tries: {said}")


def content(report: Path) -> dict[str, bytes]:
    """A report's files without what tells the time: the hours, and digests of what holds them."""
    found = {path.name: path.read_bytes() for path in sorted(report.iterdir())}
    del found["hours.csv"]
    page = found["report.html"]
    begin = page.index(b'<section id="hours">')
    found["report.html"] = page[:begin] + page[page.index(b"</section>", begin) :]
    lines = found["results.json"].splitlines()
    found["results.json"] = b"\n".join(x for x in lines if b'"report.html"' not in x and b'"hours.csv"' not in x)
    return found


def marks(rng: np.random.Generator, n: int) -> list[str]:
    """`n` different places to be killed at, in the order in which a run comes to them."""
    return [MARKS[i] for i in sorted(rng.choice(len(MARKS), n, replace=False))]
