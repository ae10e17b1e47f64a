"""What a run would take: steps with bytes on disk, hours here (measured by a probe) and on one GPU (estimated)."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from cytovae.config import PATCH_SIZE_PX
from cytovae.reproduce import paper
from cytovae.reproduce.steps import CHANNELS, Project, plates
from cytovae.schema import Progress

PROBE_STEPS = 10
GPU_FLOPS = 10e12
"""Floating-point operations per second that one GPU is taken to keep up, single precision with TF32; an assumption."""
ARCHIVES = 40e9 / paper.PLATES
"""Bytes of a plate's archive, on average."""
IMAGE = 1280 * 1024 * 2
"""Bytes of an image."""
FIELDS = 3_848 / paper.PLATES
"""Fields of a plate that count (known mechanism, or control), on average over the collection's tables."""
CELLS = paper.CELLS / paper.FIELDS
"""Cells of a field, by what the paper says of the whole collection."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A verb of the run.

    Parameters
    ----------
    verb, what : str
    n : int
        Steps.
    bytes : float
        On disk when done.
    hours : float or None
        On this machine; None where it was not measured.
    hours_gpu : float or None
        On one GPU, estimated.
    """

    verb: str
    what: str
    n: int
    bytes: float
    hours: float | None = None
    hours_gpu: float | None = None


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A run's lines, and how they were come by."""

    lines: tuple[Line, ...]
    how: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As JSON types."""
        return {"steps": [dataclasses.asdict(line) for line in self.lines], "how": list(self.how)}

    def text(self) -> str:
        """For a person."""

        def of(value: float | None) -> str:
            if not value:
                return "-"
            return "< 0.01" if value < 0.01 else f"{value:.2f}" if value < 10 else f"{value:,.0f}"

        def row(verb: str, n: int | str, *values: float | None) -> str:
            return f"{verb:<11}{n:>6}" + "".join(f"{of(value):>14}" for value in values)

        rows = [f"{'':<11}{'steps':>6}{'GB on disk':>14}{'hours here':>14}{'hours, a GPU':>14}"]
        rows += [f"{row(x.verb, x.n, x.bytes / 1e9, x.hours, x.hours_gpu)}   {x.what}" for x in self.lines]
        sums = (sum(getattr(x, name) or 0 for x in self.lines) for name in ("bytes", "hours", "hours_gpu"))
        total, here, gpu = sums
        rows.append(row("together", "", total / 1e9, here, gpu))
        return "\n".join([*rows, "", *self.how])


def of(project: Project, progress: Progress) -> Estimate:
    """What a run would take; nothing is fetched or written.

    Raises
    ------
    IngestError
        A plate that was asked for is not in the tables.
    """
    options, source = project.options, project.source
    every = options.trainings()
    lines, how = [], []
    if source.crops:
        cells: float = sum(1 for _ in source.crops[1].open()) - 1
        lines.append(Line("ingest", f"{cells:,.0f} cells that are cut already", 1, cells * PATCH_SIZE_PX**2 * 6))
    else:
        if (project.raw / "BBBC021_v1_image.csv").exists():
            chosen = plates(project)
            n, fields, counted = len(chosen), sum(map(len, chosen.values())) / len(CHANNELS), "by the image table"
        else:
            n = len(source.plates) or paper.PLATES
            fields, counted = n * FIELDS, "as many a plate as in the whole collection"
        cells = fields * CELLS
        if source.raw is None:
            kept = (n * ARCHIVES + fields * len(CHANNELS) * IMAGE) * source.keep_archives
            what = f"{n} plates, {n * ARCHIVES / 1e9:,.1f} GB over the line; one plate's archive and images at a time"
            lines.append(Line("fetch", what, n, kept))
        what, workers = f"{fields:,.0f} fields, about {cells:,.0f} cells", project.machine.workers
        hours = fields * _seconds_a_field() / workers / 3600 if isinstance(workers, int) else None
        lines.append(Line("ingest", what, n, cells * PATCH_SIZE_PX**2 * 6, hours))
        how.append(
            f"Fields counted {counted}; {CELLS:.0f} cells a field, by the paper's million in {paper.FIELDS:,} fields; "
            "hours of ingest from one drawn field."
        )
    probes = {}
    models = list(dict.fromkeys(t.model for t in every))
    for k, model in enumerate(models):
        probes[model] = _probe(
            model, project, lambda done, k=k: progress(k * PROBE_STEPS + done, len(models) * PROBE_STEPS)
        )
    for model, (seconds, flops, _) in probes.items():
        n = sum(t.model == model for t in every)
        steps = n * options.iterations
        much = f"{options.iterations:,} iterations of {options.batch_size} cells"
        what = f"{model.upper()}: {much}, {seconds:.2f} s each here"
        lines.append(Line("train", what, n, n * 8e6, steps * seconds / 3600, steps * flops / GPU_FLOPS / 3600))
    a_cell = max(seconds for _, _, seconds in probes.values())
    hours = cells * len(every) * a_cell / 3600
    lines.append(Line("embed", f"{cells * len(every):,.0f} cells", len(every), cells * len(every) * 1024, hours))
    lines.append(Line("benchmark", "profiles and scores", len(every), 0))
    lines.append(Line("audit", "the error rates of the evidence", 1, 0))
    lines.append(Line("report", "figures, tables, one page", 1, 1e7))
    how.append(
        f"Training here: the median of {PROBE_STEPS} steps with every similarity layer on, so an upper bound for the "
        "VAE+; other work on this machine makes it slower."
    )
    how.append(
        "Hours on a GPU are an estimate and nothing was measured: operations of a step, counted, over an assumed "
        f"{GPU_FLOPS / 1e12:.0f} TFLOP/s that one card keeps up."
    )
    how.append("A dash is what was not measured, or nothing; it is in no sum. What is done already is counted too.")
    return Estimate(tuple(lines), tuple(how))


def _probe(model: str, project: Project, told: Any) -> tuple[float, float, float]:
    """Seconds and floating-point operations of a training step, and seconds to embed a cell."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from cytovae.learn.train import Machine, Recipe, Trainer, keep_memory
    from cytovae.nets import autoencoders, blocks

    keep_memory()
    options = project.options
    recipe = Recipe(model, batch_size=options.batch_size, period=1)
    if project.machine.threads:
        torch.set_num_threads(project.machine.threads)
    trainer = Trainer(recipe, len(CHANNELS), Machine(project.machine.device).fabric(recipe.precision))
    trainer.iteration = 5  # with T = 1 every similarity layer is on
    device, rng = trainer.nets.encoder.head.device, np.random.default_rng(0)
    shape = (options.batch_size, len(CHANNELS), PATCH_SIZE_PX, PATCH_SIZE_PX)
    b1, b2 = (torch.from_numpy(rng.random(shape, np.float32)).to(device) for _ in range(2))
    noise = torch.from_numpy(rng.standard_normal((shape[0], blocks.LATENT_SIZE), np.float32)).to(device)
    with FlopCounterMode(display=False) as counter:
        trainer.step(b1, b2, noise)
    seconds = []
    for number in range(PROBE_STEPS):
        started = time.monotonic()
        trainer.step(b1, b2, noise)
        seconds.append(time.monotonic() - started)
        told(number + 1)
    folded = autoencoders.Folded(trainer.nets)
    started = time.monotonic()
    folded.encode(b1).cpu()
    return float(np.median(seconds)), float(counter.get_total_flops()), (time.monotonic() - started) / len(b1)


def _seconds_a_field() -> float:
    """How long one process takes over the nuclei of a field, measured on a drawn one; reading and cutting double it."""
    from cytovae.ingest import nuclei

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:1024, :1280]
    field = rng.normal(400, 25, (1024, 1280))
    for cy, cx in rng.uniform((40, 40), (984, 1240), (round(CELLS), 2)):
        field += 1500 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 288)
    pixels = field.astype(np.uint16)
    options = nuclei.NucleiOptions()
    nuclei.survey(pixels, options)
    started = time.monotonic()
    nuclei.survey(pixels, options)
    return 2 * (time.monotonic() - started)
