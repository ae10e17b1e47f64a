"""The paper in one command, undisturbed, and killed twenty times at random while its source misbehaves.

Ends 1 where the two reports differ. A local server holds a phantom as the collection holds its plates: an archive a
plate, and the tables. It cuts lines, sends in drops, sends half a file or another one, refuses with 404 and 503. Runs
are killed (SIGKILL) at random times, wherever they are then. Usage:
``python benchmarks/reproduce.py [KILLS [SEED]]``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cytovae.ingest import fetch
from tests.reproduce import site as sites

FAULTS: tuple[str | int, ...] = ("reset", "slow", "truncated", "wrong", 404, 503)
WORDS = ["--seeds=1", "--iterations=4", "--batch-size=4", "--workers=1", "--threads=1", "--models=vae+"]


def main(kills: int = 20, seed: int = 0) -> int:
    """Both runs and the comparison."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sites.small_phantom(folder / "phantom")
        site = sites.Site(folder / "phantom")
        words = [*WORDS, f"--base-url={site.url}"]
        started = time.monotonic()
        sites.finish(folder / "calm", words)
        took = time.monotonic() - started
        print(f"undisturbed: {took:.0f} s", flush=True)
        for name in site.files:
            possible = FAULTS if name.endswith(".zip") else (503, "reset", "slow", 404)
            site.faults[name] = [possible[i] for i in rng.choice(len(possible), 4)]
        site.faults[fetch.MOA_TABLE] = [503, "slow"]
        killed, tries, failed = 0, 0, []
        while killed < kills and tries < 4 * kills:
            tries += 1
            # on average after one part of `kills` of a run, so that kills fall everywhere
            said = sites.kill_at(folder / "storm", words, "*", float(rng.uniform(0, 2 * took / kills)))
            if not said:
                killed += 1
                hours = folder / "storm/out/hours.jsonl"
                last = hours.read_text().splitlines()[-1] if hours.exists() else "nothing done"
                print(f"killed {killed}; last line of hours: {last}", flush=True)
            elif said.startswith("cytovae: "):
                failed.append(said)
        failed += sites.finish(folder / "storm", words, tries=40)
        calm, storm = (sites.content(folder / which / "out/report") for which in ("calm", "storm"))
        differ = sorted(name for name in calm.keys() | storm.keys() if calm.get(name) != storm.get(name))
        left = {name: faults for name, faults in site.faults.items() if faults}
        print(f"killed {killed} times, {len(failed)} failures, each in one sentence, faults left over {left or 'none'}")
        print(*failed, sep="\n")
        print(f"{len(calm)} files of the report compared; {', '.join(differ) or 'none'} differ")
        return int(bool(differ) or killed < kills)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
