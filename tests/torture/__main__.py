"""The long form, and its table: ``python -m tests.torture [inputs] [kills] [first seed] [minutes] [what alone]``."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from . import inputs, kills, trial

ROUND = 500
"""Inputs between two looks at the clock."""


def main() -> None:
    asked = [int(word) for word in sys.argv[1:5]]
    only = " ".join(sys.argv[5:])
    n_inputs, n_kills, first, minutes = [*asked, *(10_000, 100, 0, 10_000)[len(asked) :]]
    started, rows = time.monotonic(), {}
    print(f"{n_inputs:,} inputs, {n_kills} kills of each step; seeds from {first}; at most {minutes} minutes")

    def tried(attack: trial.Attack, number: int) -> None:
        row = rows.setdefault(attack.name, trial.Row(attack.name))
        begin = first + row.tried
        new = trial.run(attack, range(begin, begin + number), Path(folder), 600)
        for fate, count in new.counts.items():
            row.counts[fate] += count
        row.bad += new.bad
        for seed, fate, said in new.bad:
            print(f"{row.name}: seed {seed}: {fate}: {said[-1500:]}", flush=True)

    def late() -> bool:
        return time.monotonic() - started > 60 * minutes

    with tempfile.TemporaryDirectory() as folder:
        attacks, material = inputs.attacks(Path(folder) / "material")
        attacks = [(attack, share) for attack, share in attacks if attack.name.startswith(only)]
        whole = sum(share for _, share in attacks)
        for _ in range(0, n_inputs, ROUND):
            for attack, share in attacks:
                tried(attack, -(-min(n_inputs, ROUND) * share // whole))
            print(f"{sum(row.tried for row in rows.values()):,} tried, {time.monotonic() - started:.0f} s", flush=True)
            if late():
                break
        if n_kills:
            stopped = kills.Steps(Path(folder), material)
            print(f"changes of files by an undisturbed step: {stopped.changes}", flush=True)
            for done in range(n_kills):
                for step in stopped.all:
                    tried(stopped.killed(step), 1)
                    for attack in (stopped.full(step), stopped.closed(step), stopped.together(step)):
                        if done % 5 == 0:
                            tried(attack, 1)
                print(f"{done + 1} rounds of kills, {time.monotonic() - started:.0f} s", flush=True)
                if late():
                    break
    print(trial.table(list(rows.values()), time.monotonic() - started))
    sys.exit(any(row.bad for row in rows.values()))


if __name__ == "__main__":
    main()
