"""A web server that holds a phantom as the collection holds its plates, and misbehaves as told; runs that end early."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import multiprocessing
import os
import re
import signal
import socket
import struct
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from multiprocessing.process import BaseProcess as Process
from pathlib import Path

import numpy as np

from cytovae.ingest.fetch import IMAGE_TABLE, MOA_TABLE, archive_name
from cytovae.phantom import screen as phantom


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
    "plates/*.screen.ingest/results/part-*.json",
    "plates/*.screen/cells.parquet",
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


_FORKS = multiprocessing.get_context("forkserver")  # runs that start from one process which has imported all
_FORKS.set_forkserver_preload(
    [
        "cytovae.cli.verbs",
        "cytovae.learn.audit",
        "cytovae.learn.models",
        "cytovae.learn.train",
        "cytovae.reproduce.report",
    ]
)


def start(folder: Path, words: list[str]) -> Process:
    """The verb in a process of its own; it makes `folder`/out, and says what goes wrong in `folder`/said."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "said").write_text("")  # nothing of the run before
    running = _FORKS.Process(target=_verb, args=(folder, ["reproduce", "bbbc021", "out", *words]))
    running.start()
    return running


def _verb(folder: Path, words: list[str]) -> None:
    from cytovae.cli import main

    os.chdir(folder)
    with Path("said").open("w") as said, contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        sys.argv = ["cytovae", *words]
        main()


def kill_at(folder: Path, words: list[str], mark: str, later_s: float = 0.0) -> str:
    """Run until something of `mark` lies in `folder`/out, and a little longer; empty, or its last words if it ended."""
    return _kill(folder, words, lambda: next((folder / "out").glob(mark), None) is not None, later_s)


def kill_in(folder: Path, words: list[str], step: int, later_s: float) -> str:
    """Run until `step` steps are behind it, and some time longer; empty, or its last words if it ended."""
    return _kill(folder, words, lambda: behind(folder) >= step, later_s)


def _kill(folder: Path, words: list[str], come: Callable[[], bool], later_s: float) -> str:
    running = start(folder, words)
    while running.is_alive():
        if come():
            running.join(later_s)
            running.kill()
            break
        time.sleep(0.002)
    running.join()
    if running.exitcode == -signal.SIGKILL:
        return ""
    return ((folder / "said").read_text().strip().splitlines() or ["done"])[-1]


def behind(folder: Path) -> int:
    """How many steps the run that was started last has ended."""
    told = re.findall(r"^(\d+)/\d+ ", (folder / "said").read_text(), flags=re.M)
    return max(map(int, told), default=0)


def spent(folder: Path) -> dict[tuple[str, str], float]:
    """Seconds of every step of a run that was not disturbed."""
    found: dict[tuple[str, str], float] = {}
    for line in map(json.loads, (folder / "out" / "hours.jsonl").read_text().splitlines()):
        step = line["verb"], line["step"]
        found[step] = found.get(step, 0.0) + line["seconds"]
    return found


def finish(folder: Path, words: list[str], tries: int = 10) -> list[str]:
    """Run again and again until it is done; the sentences with which it failed before."""
    failed = []
    for _ in range(tries):
        running = start(folder, words)
        running.join()
        if running.exitcode == 0:
            return failed
        said = (folder / "said").read_text()
        lines = said.strip().splitlines()
        assert running.exitcode == 1 and lines[-1].startswith("cytovae: ") and "Traceback" not in said, said
        failed.append(lines[-1])
    raise AssertionError(f"not done after {tries} tries: {failed}")


def content(report: Path) -> dict[str, bytes]:
    """A report's files without what tells the time."""
    found = {path.name: timeless(path) for path in sorted(report.iterdir())}
    del found["hours.csv"]
    return found


def timeless(path: Path) -> bytes:
    """A file of a report without the hours, and without the digests of what holds them."""
    held = path.read_bytes()
    if path.name == "report.html":
        begin = held.index(b'<section id="hours">')
        return held[:begin] + held[held.index(b"</section>", begin) :]
    if path.name == "results.json":
        return b"\n".join(x for x in held.splitlines() if b'"report.html"' not in x and b'"hours.csv"' not in x)
    return held


def marks(rng: np.random.Generator, n: int) -> list[str]:
    """`n` different places to be killed at, in the order in which a run comes to them."""
    return [MARKS[i] for i in sorted(rng.choice(len(MARKS), n, replace=False))]
