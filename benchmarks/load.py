"""The app under load: sessions that change paths, each over a websocket of its own, as browsers do but for the drawing.

A change ends twice: when the pictures of the new path are there, and when its verdict is. Of both the median, the 95th
percentile and the longest are printed, with the changes they rest on; beside them errors, the server's seconds of a
processor a change, and its memory as changes go by. The clock depends on what else the machine does, processor seconds
hardly.

    python benchmarks/load.py [SCREEN [MODELS]] [--sessions 20] [--minutes 5] [--pause 5] [--seed 0]
    python benchmarks/load.py [SCREEN [MODELS]] --soak [--changes 1000]
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cytovae import demo, schema
from cytovae.explore.paths import Mode
from cytovae.learn import bundle
from cytovae.screen import Screen
from tests.app.conftest import _serve
from tests.app.test_quiz_load import Session

PLAYER = "cytovae.player"
STEPS = ("5", "7", "10", "15")
VERDICT = "-badge["
"""What stands in the line that says what a path shows, and in no other."""


def memory_mb(pid: int) -> float:
    """Memory of a process, files that it maps left out, in MB."""
    resident, shared = (int(word) for word in Path(f"/proc/{pid}/statm").read_text().split()[1:3])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE") / 1e6


def processor_s(pid: int) -> float:
    """Seconds of a processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Visitor(Session):
    """A session that notes when the pictures of a path came, and when its verdict."""

    def change(self, link: dict[str, str]) -> tuple[float, float, str]:
        """Open another path: seconds to its pictures and to its verdict, not-a-number where none came; all words."""
        self.link = urlencode(link)
        begun = time.monotonic()
        pictures = verdict = float("nan")
        words = []
        self.send()
        while True:
            told = ForwardMsg.FromString(self.socket.recv(timeout=300))
            kind, now = told.WhichOneof("type"), time.monotonic() - begun
            if kind == "script_finished":
                return pictures, verdict, " ".join(words)
            if kind == "navigation":
                self.page = told.navigation.page_script_hash
            if kind != "delta":
                continue
            element = told.delta.new_element
            shown = element.WhichOneof("type")
            if shown == "bidi_component" and element.bidi_component.component_name == PLAYER and np.isnan(pictures):
                pictures = now
            elif shown in ("heading", "alert", "markdown"):
                said = getattr(element, shown).body
                words.append(said)
                if VERDICT in said and np.isnan(verdict):
                    verdict = now


class Load:
    """What the sessions measured.

    Parameters
    ----------
    address : str
        Of the app's websocket.
    treatments : list of str
    pause : float
        Seconds that a session looks at a path, on the average.
    """

    def __init__(self, address: str, treatments: list[str], pause: float) -> None:
        self.address, self.treatments, self.pause = address, treatments, pause
        self.seconds: list[tuple[float, float]] = []
        self.errors: list[str] = []
        self.ended = threading.Event()

    def browse(self, seed: str) -> None:
        """One session, until the end."""
        rng = random.Random(seed)
        try:
            session = Visitor(self.address, "")
            session.change({})
            while not self.ended.wait(rng.uniform(0, 2 * self.pause)):
                link = {"treatment": rng.choice(self.treatments), "steps": rng.choice(STEPS)}
                *took, words = session.change(link | {"mode": rng.choice([str(mode) for mode in Mode])})
                self.seconds.append((took[0], took[1]))
                if "did not foresee" in words or np.isnan(took).any():
                    self.errors.append(f"{link}: {words[:300]}")
            session.close()
        except Exception as failed:
            self.errors.append(f"{type(failed).__name__}: {failed}")


def said(name: str, seconds: np.ndarray) -> str:
    """A line about how long something took."""
    middle, late = np.percentile(seconds, [50, 95])
    return f"{name}: median {middle:.2f} s, p95 {late:.2f} s, longest {seconds.max():.2f} s (n = {len(seconds):,})"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # whole paths: the server has a folder of its own
    asked.add_argument("screen", nargs="?", type=lambda text: Path(text).resolve(), help="else the demo's, made anew")
    asked.add_argument("models", nargs="?", type=lambda text: Path(text).resolve(), help="else the shipped ones")
    asked.add_argument("--sessions", type=int, help="20; 3 in a soak")
    asked.add_argument("--minutes", type=float, help="5; until the changes are made in a soak")
    asked.add_argument("--pause", type=float, help="seconds between two changes of one session: 5; 1 in a soak")
    asked.add_argument("--soak", action="store_true", help="many changes one after the other: does memory grow?")
    asked.add_argument("--changes", type=int, default=1000, help="of a soak")
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    sessions = given.sessions or (3 if given.soak else 20)
    pause = (1.0 if given.soak else 5.0) if given.pause is None else given.pause
    most_s = 60 * (given.minutes or (600 if given.soak else 5))
    most = given.changes if given.soak else sys.maxsize
    what = f"a soak of {most:,} changes" if given.soak else f"{most_s / 60:g} minutes"
    print(f"{sessions} sessions, a change every {pause:g} s, {what}, seed {given.seed}; {os.cpu_count()} processors")
    models = given.models or bundle.shipped_dir()
    with tempfile.TemporaryDirectory() as folder:
        screen = Screen.open(given.screen) if given.screen else demo.prepare(Path(folder), models)
        cells = screen.cells()
        treated = cells[cells[schema.COMPOUND] != screen.record.control]
        server, url = _serve(Path(folder), [screen.path], models, {})
        try:
            load = Load(
                url.replace("http://", "ws://") + "/_stcore/stream", sorted(treated[schema.TREATMENT].unique()), pause
            )
            first = Visitor(load.address, "")
            *took, _ = first.change({})
            first.close()
            if np.isnan(took).any():
                sys.exit("the app draws no path of this screen with these models")
            used = processor_s(server.pid)
            print(
                f"first page: pictures {took[0]:.1f} s, verdict {took[1]:.1f} s, {used:.1f} processor s with the start"
            )
            threads = [threading.Thread(target=load.browse, args=(f"{given.seed} {k}",)) for k in range(sessions)]
            for thread in threads:
                thread.start()
            begun, marks = time.monotonic(), [0, 200, 600, 1000, *range(2000, 10**6, 1000)]
            while time.monotonic() < begun + most_s and len(load.seconds) < most and any(t.is_alive() for t in threads):
                time.sleep(0.2)
                if len(load.seconds) >= marks[0]:
                    print(f"after {marks.pop(0):,} changes: {memory_mb(server.pid):,.0f} MB", flush=True)
            load.ended.set()
            for thread in threads:
                thread.join()
            lasted, used = time.monotonic() - begun, processor_s(server.pid) - used
            print(f"at the end: {memory_mb(server.pid):,.0f} MB")
        finally:
            server.terminate()
            server.wait(timeout=30)
    n = len(load.seconds)
    pictures, verdicts = np.array([took for took in load.seconds if not np.isnan(took).any()]).T
    print(said("pictures", pictures))
    print(said("verdict", verdicts))
    print(
        f"{n:,} changes in {lasted / 60:.1f} min, {used / (n + sessions):.3f} processor s each, first pages counted; "
        f"{len(load.errors)} errors"
    )
    for error in load.errors[:5]:
        print(error)
    sys.exit(bool(load.errors))


if __name__ == "__main__":
    main()
