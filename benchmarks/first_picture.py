"""What the first picture of the Explore page costs a new server, in seconds of processor, stage by stage.

    python benchmarks/first_picture.py [SCREEN MODELS_DIR]

Without arguments on the 100,000 simulated cells of ``benchmarks/browser.py``. Beside the seconds stands their ratio to
a path that is drawn when all is warm, which depends less on the machine.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Print one line per stage."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) > 1:
            path, models = (Path(given) for given in sys.argv[1:3])
        else:
            from benchmarks.browser import make

            path, models = make(Path(folder))
        os.environ |= {"CYTOVAE_MODELS": str(models), "CYTOVAE_QUIZ_DB": f"sqlite:///{folder}/quiz.sqlite"}
        stages(path)


def stages(path: Path) -> None:
    """From nothing to a path, and one more that is warm."""
    from app.common import loaders
    from app.explore import view
    from cytovae.explore import study
    from cytovae.screen import Screen

    def timed(work: Callable[[], Any]) -> Any:
        start = time.process_time()
        answer = work()
        taken.append(time.process_time() - start)
        return answer

    taken: list[float] = []
    screen = Screen.open(path)
    model = loaders.models(screen)[0]
    made = timed(lambda: view.material(screen, model))
    name = timed(lambda: view.opening(screen, model))
    request = study.Request(treatment=name, target=timed(lambda: view.usual_target(screen, model, name)))
    timed(lambda: view.sketch_data(screen, model, view.sketch(screen, model, request)))
    shown = timed(lambda: view.view(screen, model, request))
    timed(lambda: study.draw(made, request))
    *cold, warm = taken
    names = ("cells and model", "the treatment", "its target", "its pictures", "its evidence")
    for stage, seconds in zip(
        (*names, "first picture", "with evidence"), (*cold, sum(cold[:-1]), sum(cold)), strict=True
    ):
        print(f"{stage:18s} {seconds:6.2f} s   {seconds / warm:6.1f} x a warm path")
    print(f"opens on {name}: {shown.study.verdict.sentence}")


if __name__ == "__main__":
    main()
