"""The app under load: sessions that change paths, each over a websocket of its own, as browsers do but for the drawing.

Prints how long changes took (median, 95th percentile, longest), errors, and the server's memory after each quarter.

    python benchmarks/load.py SCREEN MODELS [--sessions 20] [--minutes 5] [--pause 5]
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cytovae import schema
from cytovae.screen import Screen
from tests.app.conftest import _serve
from tests.app.test_quiz_load import Session


def rss_mb(pid: int) -> float:
    """Memory of a process that is its own, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


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
        self.seconds: list[float] = []
        self.errors: list[str] = []

    def browse(self, seed: int, end: float) -> None:
        """One session, until a time."""
        rng = random.Random(seed)
        session = Session(self.address, "")
        try:
            session.run(page="")
            while time.monotonic() < end:
                time.sleep(rng.uniform(0, 2 * self.pause))
                link = {"treatment": rng.choice(self.treatments), "steps": rng.choice(["5", "7", "10", "15"])}
                session.link = urlencode(link | {"mode": rng.choice(["linear", "spherical"])})
                begun = time.monotonic()
                _, words = session.run(page="")
                self.seconds.append(time.monotonic() - begun)
                if "did not foresee" in words:
                    self.errors.append(words[:300])
        except Exception as failed:
            self.errors.append(f"{type(failed).__name__}: {failed}")
        finally:
            session.close()


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("screen", type=lambda text: Path(text).resolve())  # the server has a folder of its own
    asked.add_argument("models", type=lambda text: Path(text).resolve())
    asked.add_argument("--sessions", type=int, default=20)
    asked.add_argument("--minutes", type=float, default=5)
    asked.add_argument("--pause", type=float, default=5, help="seconds between two changes of one session")
    given = asked.parse_args()
    cells = Screen.open(given.screen).cells()
    treated = cells[cells[schema.COMPOUND] != Screen.open(given.screen).record.control]
    with tempfile.TemporaryDirectory() as folder:
        server, url = _serve(Path(folder), [given.screen], given.models, {})
        try:
            address = url.replace("http://", "ws://") + "/_stcore/stream"
            load = Load(address, sorted(treated[schema.TREATMENT].unique()), given.pause)
            first = Session(address, "")
            begun = time.monotonic()
            _, words = first.run(page="")
            first.close()
            if "Comparing this path with control cells" not in words:
                sys.exit("the app draws no path of this screen with these models")
            print(f"the first page of the server: {time.monotonic() - begun:.1f} s; {rss_mb(server.pid):,.0f} MB")
            end = time.monotonic() + 60 * given.minutes
            threads = [threading.Thread(target=load.browse, args=(k, end)) for k in range(given.sessions)]
            for thread in threads:
                thread.start()
            for quarter in range(1, 5):
                time.sleep(max(0.0, end - 15 * given.minutes * (4 - quarter) - time.monotonic()))
                done = len(load.seconds)
                print(f"quarter {quarter}: {done:,} changes, {rss_mb(server.pid):,.0f} MB", flush=True)
            for thread in threads:
                thread.join()
        finally:
            server.terminate()
            server.wait(timeout=30)
    took = np.array(load.seconds)
    print(
        f"{given.sessions} sessions, {given.minutes:g} min, {os.cpu_count()} cores: {len(took):,} changes, median "
        f"{np.median(took):.2f} s, p95 {np.percentile(took, 95):.2f} s, longest {took.max():.2f} s, "
        f"{len(load.errors)} errors"
    )
    for error in load.errors[:5]:
        print(error)
    sys.exit(bool(load.errors))


if __name__ == "__main__":
    main()
