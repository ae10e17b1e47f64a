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
ARCHIVE_BYTES, FIELDS_A_PLATE = 40e9 / paper.PLATES, 3_848 / paper.PLATES
"""Of a plate on average: its archive, and the fields that count (known mechanism, or control)."""
CELLS_A_FIELD = paper.CELLS / paper.FIELDS
IMAGE_BYTES, CELL_BYTES, EMBEDDING_BYTES, MODEL_BYTES = 1280 * 1024 * 2, PATCH_SIZE_PX**2 * 6, 1024, 8e6


@dataclasses.dataclass(frozen=True)
class Line:
    """What all steps of a verb take: bytes on disk when done, hours here and on one GPU (None: not measured)."""

    verb: str
    what: str
    n: int
    bytes: float
    hours: float | None = None
    hours_gpu: float | None = None


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A run's lines, and how they were come by."""

    lines: list[Line]
    how: list[str]

    def document(self) -> dict[str, Any]:
        """As JSON types."""
        return {"steps": [dataclasses.asdict(line) for line in self.lines], "how": self.how}

    def text(self) -> str:
        """For a person."""

        def row(verb: str, n: int | str, *values: float) -> str:
            shown = ["-" if not x else "< 0.01" if x < 0.01 else f"{x:.2f}" if x < 10 else f"{x:,.0f}" for x in values]
            return f"{verb:<11}{n:>6}" + "".join(f"{text:>14}" for text in shown)

        figures = np.array([[x.bytes / 1e9, x.hours or 0, x.hours_gpu or 0] for x in self.lines])
        rows = [f"{'':<11}{'steps':>6}{'GB on disk':>14}{'hours here':>14}{'hours, a GPU':>14}"]
        rows += [f"{row(x.verb, x.n, *values)}   {x.what}" for x, values in zip(self.lines, figures, strict=True)]
        return "\n".join([*rows, row("together", "", *figures.sum(axis=0)), "", *self.how])


def of(project: Project, progress: Progress) -> Estimate:
    """What a run would take; nothing is fetched or written.

    Raises
    ------
    IngestError
        A plate that was asked for is not in the tables.
    """
    options, every = project.options, project.options.trainings()
    lines, how, cells = _cells(project)
    models = list(dict.fromkeys(t.model for t in every))
    probes = {}
    for k, model in enumerate(models):
        probes[model] = _probe(
            model, project, lambda done, k=k: progress(k * PROBE_STEPS + done, len(models) * PROBE_STEPS)
        )
    for model, (seconds, flops, _) in probes.items():
        n = sum(t.model == model for t in every)
        steps = n * options.iterations
        much = f"{options.iterations:,} iterations of {options.batch_size} cells"
        what = f"{model.upper()}: {much}, {seconds:.2f} s each here"
        lines.append(Line("train", what, n, n * MODEL_BYTES, steps * seconds / 3600, steps * flops / GPU_FLOPS / 3600))
    embedded = cells * len(every)
    hours = embedded * max(seconds for _, _, seconds in probes.values()) / 3600
    lines += [
        Line("embed", f"{embedded:,.0f} cells", len(every), embedded * EMBEDDING_BYTES, hours),
        Line("benchmark", "profiles and scores", len(every), 0),
        Line("audit", "the error rates of the evidence", 1, 0),
        Line("report", "figures, tables, one page", 1, 1e7),
    ]
    how += [
        f"Training here: the median of {PROBE_STEPS} steps with every similarity layer on, so an upper bound for the "
        "VAE+; other work on this machine makes it slower.",
        "Hours on a GPU are an estimate and nothing was measured: operations of a step, counted, over an assumed "
        f"{GPU_FLOPS / 1e12:.0f} TFLOP/s that one card keeps up.",
        "A dash is what was not measured, or nothing; it is in no sum. What is done already is counted too.",
    ]
    return Estimate(lines, how)


def _cells(project: Project) -> tuple[list[Line], list[str], float]:
    """The lines until the cells are there, how they were come by, and how many cells."""
    source, workers = project.source, project.workers
    if source.crops:
        cells: float = sum(1 for _ in source.crops[1].open()) - 1
        return [Line("ingest", f"{cells:,.0f} cells that are cut already", 1, cells * CELL_BYTES)], [], cells
    if (project.raw / "BBBC021_v1_image.csv").exists():
        chosen = plates(project)
        n, fields, counted = len(chosen), sum(map(len, chosen.values())) / len(CHANNELS), "by the image table"
    else:
        n = len(source.plates) or paper.PLATES
        fields, counted = n * FIELDS_A_PLATE, "as many a plate as in the whole collection"
    cells = fields * CELLS_A_FIELD
    lines = []
    if source.raw is None:
        kept = (n * ARCHIVE_BYTES + fields * len(CHANNELS) * IMAGE_BYTES) * source.keep_archives
        over = f"{n * ARCHIVE_BYTES / 1e9:,.1f} GB over the line"
        lines.append(Line("fetch", f"{n} plates, {over}; one plate's archive and images at a time", n, kept))
    hours = fields * _seconds_a_field() / workers / 3600 if isinstance(workers, int) else None
    lines.append(Line("ingest", f"{fields:,.0f} fields, about {cells:,.0f} cells", n, cells * CELL_BYTES, hours))
    how = (
        f"Fields counted {counted}; {CELLS_A_FIELD:.0f} cells a field, by the paper's million in {paper.FIELDS:,} "
        "fields; hours of ingest from one drawn field."
    )
    return lines, [how], cells


def _probe(model: str, project: Project, told: Any) -> tuple[float, float, float]:
    """Seconds and floating-point operations of a training step, and seconds to embed a cell."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from cytovae.learn.train import Machine, Recipe, Trainer, keep_memory
    from cytovae.nets import autoencoders, blocks

    keep_memory()
    recipe = Recipe(model, batch_size=project.options.batch_size, period=1)
    if project.threads:
        torch.set_num_threads(project.threads)
    trainer = Trainer(recipe, len(CHANNELS), Machine(project.device).fabric(recipe.precision))
    trainer.iteration = 5  # with T = 1 every similarity layer is on
    device, rng = trainer.nets.encoder.head.device, np.random.default_rng(0)
    shape = (recipe.batch_size, len(CHANNELS), PATCH_SIZE_PX, PATCH_SIZE_PX)
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
    for cy, cx in rng.uniform((40, 40), (984, 1240), (round(CELLS_A_FIELD), 2)):
        field += 1500 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 288)
    pixels = field.astype(np.uint16)
    nuclei.survey(pixels, nuclei.NucleiOptions())
    started = time.monotonic()
    nuclei.survey(pixels, nuclei.NucleiOptions())
    return 2 * (time.monotonic() - started)
