"""The long form, and its table: ``python -m tests.torture --help``."""

from __future__ import annotations

import argparse
import functools
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import inputs, kills, trial

SHARE = 5
"""Of so many kills of a step, one goes with a full disk, a folder that is read only, and two processes at a time."""
HANGS = 600
"""Seconds after which an input is taken to hang."""
BATCH = 20
"""Inputs that one process tries, one after the other."""


def main() -> None:
    asked = _arguments()
    started = time.monotonic()
    rows: dict[str, trial.Row] = {}
    spent: dict[str, float] = {}
    print(
        f"{asked.inputs:,} inputs, {asked.kills} kills of each step; seeds from {asked.seed}; log {asked.log or 'none'}"
    )

    def add(name: str, seed: int, fate: str, said: str, seconds: float) -> None:
        rows.setdefault(name, trial.Row(name)).add(seed, fate, said)
        spent[name] = spent.get(name, 0.0) + seconds

    done = [json.loads(line) for line in asked.log.read_text().splitlines()] if asked.log and asked.log.exists() else []
    for line in done:
        add(*line)
    with tempfile.TemporaryDirectory() as folder:
        attacks, material = inputs.attacks(Path(folder) / "material")
        whole = sum(share for _, share in attacks)
        wanted: dict[str, tuple[Callable[[], trial.Attack], int, int]] = {
            attack.name: (lambda attack=attack: attack, -(-asked.inputs * share // whole), BATCH)
            for attack, share in attacks
            if asked.inputs
        }
        if asked.kills:
            stopped = kills.Steps(Path(folder), material)
            for step in stopped.all:
                for way, make in stopped.ways.items():
                    number = asked.kills if way == "killed" else -(-asked.kills // SHARE)
                    wanted[f"{way}: {step.name}"] = functools.partial(make, step), number, 1
        wanted = {name: plan for name, plan in wanted.items() if name.startswith(asked.only)}
        seen = {(name, seed) for name, seed, *_ in done}
        todo = {
            name: [seed for seed in range(asked.seed, asked.seed + number) if (name, seed) not in seen]
            for name, (_, number, _) in wanted.items()
        }
        said = time.monotonic()
        while left := [name for name, seeds in todo.items() if seeds]:
            if time.monotonic() - started > 60 * asked.minutes:
                break
            name = min(left, key=lambda name: spent.get(name, 0.0))  # each gets the same time: cheap ones more trials
            make, _, at_once = wanted[name]
            some, todo[name] = todo[name][:at_once], todo[name][at_once:]
            before = _processor()
            row = trial.run(make(), some, Path(folder), kills.HANGS if at_once == 1 else HANGS)
            seconds = (_processor() - before) / len(some)
            for seed, fate, words in row.all:
                add(name, seed, fate, words, seconds)
                if asked.log:
                    with asked.log.open("a") as log:
                        log.write(json.dumps([name, seed, fate, words, round(seconds, 3)]) + "\n")
            for seed, fate, words in row.bad:
                print(f"{name}: seed {seed}: {fate}: {words[-1500:]}", flush=True)
            if time.monotonic() - said > 60:
                said = time.monotonic()
                print(f"{sum(row.tried for row in rows.values()):,} tried, {said - started:.0f} s", flush=True)
    print(trial.table(list(rows.values()), sum(spent.values())))
    sys.exit(any(row.bad for row in rows.values()))


def _processor() -> float:
    """Seconds of the processor that trials have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description="Try to break cytovae; print a table.")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=100, help="of each step")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--minutes", type=float, default=10_000, help="begin nothing after so many")
    parser.add_argument("--only", default="", help="what begins with this")
    parser.add_argument("--log", type=Path, help="a line a trial; what stands there is not tried again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
