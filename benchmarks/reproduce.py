"""The paper in one command, undisturbed, and killed twenty times at random points while its source misbehaves.

Ends 1 where the two reports differ. A local server holds a phantom as the collection holds its plates: an archive a
plate, and the tables. It cuts lines, sends in drops, sends half a file or another one, refuses with 404 and 503. Each
point is a step of the run, all equally likely, and a moment of the time that the undisturbed run spent on it; there the
process is killed (SIGKILL), wherever it is. Usage: ``python benchmarks/reproduce.py [KILLS [SEED]]``.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.reproduce import site as sites

FAULTS: tuple[str | int, ...] = ("reset", "truncated", "wrong", 404, 503)
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
        print(f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores; seed {seed}")
        print(f"undisturbed: {time.monotonic() - started:.0f} s", flush=True)
        took = sites.spent(folder / "calm")
        for name in site.files:  # what goes on in spite of a fault comes last, so that each is met
            possible = FAULTS if name.endswith(".zip") else (503,)
            site.faults[name] = [*rng.permutation(np.array(possible, object)), "slow"]
        steps = list(took)
        points = sorted(zip(rng.integers(len(steps), size=kills).tolist(), rng.uniform(size=kills), strict=True))
        failed: list[str] = []
        storm = time.monotonic()
        print(f"\n| kill | drawn in step | at, of its time | killed in |\n|{'---|' * 4}")
        for number, (at, part) in enumerate(points, start=1):
            later = part * took[steps[at]]
            while said := sites.kill_in(folder / "storm", words, at, later):
                if said.startswith("cytovae: "):
                    failed.append(said)
                else:  # it was faster than the undisturbed run and is done: its last step is killed nevertheless
                    shutil.rmtree(folder / "storm/out/report", ignore_errors=True)
                    later /= 2
            here = min(sites.behind(folder / "storm"), len(steps) - 1)
            shown = [f"{' '.join(steps[k])} ({k + 1} of {len(steps)})" for k in (at, here)]
            print(f"| {number} | {shown[0]} | {100 * part:.0f} % | {shown[1]} |", flush=True)
        failed += sites.finish(folder / "storm", words, tries=40)
        print(f"\nkilled {kills} times and gone on to the end: {time.monotonic() - storm:.0f} s")
        calm, other = (sites.content(folder / which / "out/report") for which in ("calm", "storm"))
        differ = sorted(name for name in calm.keys() | other.keys() if calm.get(name) != other.get(name))
        left = {name: faults for name, faults in site.faults.items() if faults}
        print(f"faults not met: {left or 'none'}; {len(failed)} runs ended by one of them, each with one sentence:")
        print(*(f"- {said.replace(str(folder), 'FOLDER').replace(site.url, 'URL')}" for said in failed), sep="\n")
        print(f"{len(calm)} files of the report compared; {', '.join(differ) or 'none'} differ")
        return int(bool(differ or left))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
