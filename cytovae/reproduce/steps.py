"""The steps from images to a report, each one call of the library, in the order in which they are done.

There is no record of progress: every step looks at what is on disk, by its provenance, and does nothing where that is
what it would make. ``hours.jsonl`` keeps the time spent and decides nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd

from cytovae import locks, schema
from cytovae.config import ScreenRecord, to_dict
from cytovae.errors import FULL, ConfigError, CytovaeError, IngestError, did_you_mean
from cytovae.learn.recipe import Preset
from cytovae.reproduce import paper
from cytovae.schema import Progress
from cytovae.screen import Screen, provenance

MODELS = ("ae", "vae", "vae+")
CHANNELS = ("DNA", "Tubulin", "Actin")
CONTROL = "DMSO"
HOURS = "hours.jsonl"
_BEAT_S = 10.0

Tasks = Callable[[str], AbstractContextManager[Progress]]
"""Opens a progress line by its label."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is trained, and how much; the defaults are the paper's.

    Parameters
    ----------
    seeds : int
        Trainings of every model, with the seeds 0, 1, ...
    iterations, batch_size : int
        Of each.
    models : tuple of str
        Of `MODELS`.
    recipes : tuple of Preset
        Every model is trained by each.

    Raises
    ------
    ConfigError
        No such model.
    """

    seeds: int = paper.SEEDS
    iterations: int = paper.ITERATIONS
    batch_size: int = paper.BATCH_SIZE
    models: tuple[str, ...] = MODELS
    recipes: tuple[Preset, ...] = (Preset.PAPER,)

    def __post_init__(self) -> None:
        if not self.models or set(self.models) - set(MODELS):
            raise ConfigError(
                f"the paper's models are {', '.join(MODELS)}; {', '.join(self.models) or 'none'} asked for"
            )

    @property
    def period(self) -> int:
        """T of the progressive schedule: the paper's part of a training, so that a shorter one is in proportion."""
        return max(1, round(self.iterations * paper.PERIOD / paper.ITERATIONS))

    def trainings(self) -> list[Training]:
        """All of them: a recipe after the other, in it the seeds, in these the models."""
        kinds = [model for model in MODELS if model in self.models]
        recipes = [recipe for recipe in Preset if recipe in self.recipes]
        return [Training(m, r, s) for r in recipes for s in range(self.seeds) for m in kinds]


@dataclasses.dataclass(frozen=True)
class Training:
    """One model by one recipe from one seed."""

    model: str
    recipe: Preset
    seed: int

    @property
    def name(self) -> str:
        """Of its bundle.

        Examples
        --------
        >>> Training("vae+", Preset.PAPER, 0).name
        'vaeplus-paper-0'
        """
        return f"{self.model.replace('+', 'plus')}-{self.recipe}-{self.seed}"


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the images come from.

    Parameters
    ----------
    raw : Path, optional
        A folder that holds them, in the collection's layout; without it and `crops` they are fetched.
    crops : tuple of (Path, Path), optional
        Cells that are cut already and their table.
    plates : tuple of str
        Only these; all that there are where empty.
    base_url : str, optional
        Of the collection; its own site where None.
    keep_archives : bool
        Keep the archives of plates, and the images that were taken out of them.
    published : Path, optional
        A folder with published per-well profiles (``*per_well*``) and the collection's two tables.
    """

    raw: Path | None = None
    crops: tuple[Path, Path] | None = None
    plates: tuple[str, ...] = ()
    base_url: str | None = None
    keep_archives: bool = False
    published: Path | None = None

    def __post_init__(self) -> None:
        if self.crops and (self.raw or self.plates):
            raise ConfigError("crops are taken as they are; leave out the raw folder and the plates")


@dataclasses.dataclass(frozen=True)
class Project:
    """A folder in which the paper is reproduced (``raw``, ``bbbc021.screen``, ``models``, ``report``), and the machine.

    Parameters
    ----------
    folder : Path
    options : Options
    source : Source
    device : str
        For trainings, embeddings and decoding; no number depends on it, nor on what follows, beyond rounding.
    threads : int
        Of torch; 0 leaves the choice to it.
    workers : int or str
        Processes that read images; or a cluster (`cytovae.cluster.client`), which reads images and embeds.
    """

    folder: Path
    options: Options = dataclasses.field(default_factory=Options)
    source: Source = dataclasses.field(default_factory=Source)
    device: str = "auto"
    threads: int = 0
    workers: int | str = 1

    @property
    def raw(self) -> Path:
        """Where the images are."""
        return self.source.raw or self.folder / "raw"

    @property
    def screen_path(self) -> Path:
        return self.folder / "bbbc021.screen"

    def plate_path(self, plate: str) -> Path:
        """The screen of one fetched plate, until all are joined."""
        return self.folder / "plates" / f"{plate}.screen"

    @property
    def report(self) -> Path:
        return self.folder / "report"

    def bundle_path(self, training: Training) -> Path:
        """Where a training leaves its model."""
        return self.folder / "models" / training.name

    def screen(self) -> Screen:
        """The screen, which `ingest` has made."""
        return Screen.open(self.screen_path)

    def load(self, training: Training) -> Any:
        """A trained bundle."""
        from cytovae.learn import bundle

        return bundle.load(self.bundle_path(training), device=bundle.choose_device(self.device))

    def audited(self) -> Training:
        """Whose paths are drawn and tried: the first VAE+, or the first training where there is none."""
        every = self.options.trainings()
        return next((t for t in every if t.model == "vae+"), every[0])


@dataclasses.dataclass(frozen=True)
class Step:
    """One step: its verb, what it is about, and the call, which returns whether it made something."""

    verb: str
    words: str
    run: Callable[[Progress], bool]


def steps(project: Project) -> list[Step]:
    """Everything that is to be done, in order; the plates are known once the collection's tables are there."""
    every = project.options.trainings()
    # each model is embedded and scored right after its training: first results come early
    return [
        *_cells(project),
        *(
            Step(verb, training.name, functools.partial(call, project, training))
            for training in every
            for verb, call in (("train", _train), ("embed", _embed), ("benchmark", _benchmark))
        ),
        Step("audit", project.audited().name, functools.partial(_audit, project)),
        Step("report", str(project.report), functools.partial(_report, project)),
    ]


def run(project: Project, tasks: Tasks, say: Callable[[str], None] = lambda text: None) -> Path:
    """Do every step that is not done; the report's folder.

    Raises
    ------
    BusyError
        Another run is at work in the folder.
    IngestError
        The collection cannot be reached, or a plate is not there.
    CytovaeError
        What a step says; what is done stays, and the same call goes on.
    """
    with locks.held(project.report, "reproduce"):
        if not (project.source.raw or project.source.crops):
            _tables(project)
        every = steps(project)
        for number, step in enumerate(every, start=1):
            label = f"{number}/{len(every)} {step.verb} {step.words}"
            with tasks(label) as progress, _timed(project.folder / HOURS, step, progress) as beat:
                try:
                    made = step.run(beat)
                except CytovaeError as refused:
                    said, _, other = str(refused).rpartition("; ")
                    if "--overwrite" not in other:
                        raise
                    raise type(refused)(
                        f"{said}; {project.folder} goes on only with the options and data that it was begun with: give "
                        "these, or name another DIR; what is damaged is made anew where you remove it"
                    ) from None
                except OSError as failed:
                    if failed.errno not in FULL:
                        raise
                    raise IngestError(
                        f"the disk of {project.folder} is full at step {label} ({failed.strerror}); what is done "
                        "stays: free some space and run the same command to go on"
                    ) from None
            if not made:
                say(f"{label}: done before")
    return project.report


@contextlib.contextmanager
def _timed(path: Path, step: Step, progress: Progress) -> Iterator[Progress]:
    """Pass progress on, and keep the seconds spent as they pass, so that a killed run is counted too."""
    since = time.monotonic()

    def write() -> None:
        nonlocal since
        now = time.monotonic()
        with path.open("a") as handle:
            handle.write(json.dumps({"verb": step.verb, "step": step.words, "seconds": round(now - since, 1)}) + "\n")
        since = now

    def beat(done: int, total: int) -> None:
        progress(done, total)
        if time.monotonic() - since > _BEAT_S:
            write()

    try:
        yield beat
    finally:
        write()


def hours(folder: Path) -> pd.DataFrame:
    """Hours spent by verb, over all runs; ``verb``, ``steps``, ``hours``."""
    lines: list[dict[str, Any]] = []
    for text in (folder / HOURS).read_text().splitlines() if (folder / HOURS).exists() else []:
        with contextlib.suppress(json.JSONDecodeError):  # a line that a kill cut short
            lines.append(json.loads(text))
    table = pd.DataFrame(lines, columns=["verb", "step", "seconds"]).groupby("verb", sort=False)
    return table.agg(steps=("step", "nunique"), hours=("seconds", lambda s: s.sum() / 3600)).reset_index()


def _url(project: Project) -> str:
    from cytovae.ingest import fetch

    return project.source.base_url or fetch.BASE_URL


def _tables(project: Project) -> None:
    """The collection's tables, fetched where they are not there."""
    from cytovae.ingest import fetch

    if not all((project.raw / name).exists() for name in (fetch.IMAGE_TABLE, fetch.MOA_TABLE)):
        fetch.reach(_url(project))
        fetch.bbbc021(project.raw, (), base_url=_url(project))


def _counts(table: pd.DataFrame) -> pd.Series:
    """Which fields or crops are of the benchmark: of known mechanism, or controls."""
    unknown = table[schema.MOA].fillna(schema.UNKNOWN_MOA) == schema.UNKNOWN_MOA
    return (table[schema.COMPOUND] == CONTROL) | ~unknown


def layout(project: Project, asked: Sequence[str] = ()) -> Any:
    """The fields that count, of the plates asked for; all plates that the tables have where none is named.

    Raises
    ------
    IngestError
        A plate that was asked for is not in the tables, or the given folder has none of its images.
    """
    from cytovae.ingest import layouts

    found = layouts.bbbc021.read(project.raw)
    fields = found.fields[_counts(found.fields)]
    there = fields[schema.PLATE].unique()
    for plate in asked:
        if plate not in there:
            raise IngestError(
                f"the tables of {project.raw} have no plate {plate!r} with treatments of known mechanism or controls"
                f"{did_you_mean(plate, list(there))}; they have {len(there)}, the first {min(there)}"
            )
    if asked:
        fields = fields[fields[schema.PLATE].isin(asked)]
    chosen, usable = set(fields[schema.PLATE]), set(fields.loc[fields[schema.STATUS] == layouts.OK, schema.PLATE])
    if project.source.raw and (missing := sorted(chosen - usable)):
        raise IngestError(
            f"{project.raw} lacks every image of {len(missing)} of {len(chosen)} plates {_named(missing)}; put them "
            "there, or name the plates to use with --plates"
        )
    return dataclasses.replace(found, fields=fields.reset_index(drop=True))


def plates(project: Project) -> dict[str, list[str]]:
    """Plate -> the images that count."""
    from cytovae.ingest.layouts import path_column

    places = [path_column(channel) for channel in CHANNELS]
    by = layout(project, project.source.plates).fields.groupby(schema.PLATE)
    return {str(plate): rows[places].to_numpy(str).ravel().tolist() for plate, rows in by}


def _cells(project: Project) -> list[Step]:
    """What makes the screen: each plate is fetched, where it is not given, and ingested; then all are joined."""
    if project.source.crops:
        return [Step("ingest", "cells", functools.partial(_crops, project))]
    wanted = plates(project)
    ready = _joined(project, sorted(wanted))
    calls = [("fetch", _fetch)] * (project.source.raw is None) + [("ingest", _plate)]
    return [
        *(
            Step(verb, plate, functools.partial(call, project, plate, images, ready))
            for plate, images in wanted.items()
            for verb, call in calls
        ),
        Step("append", "all plates", functools.partial(_join, project, list(wanted), ready)),
    ]


def _joined(project: Project, wanted: list[str]) -> bool:
    """Whether the screen of all plates is there; one of other plates is refused."""
    if not project.screen_path.exists():
        return False
    held = sorted(map(str, project.screen().cells()[schema.PLATE].unique()))
    if held != wanted:
        raise IngestError(
            f"{project.screen_path} holds {len(held)} plates {_named(held)} and {len(wanted)} were asked for; name the "
            "same ones with --plates, or another DIR"
        )
    return True


def _named(plates: list[str]) -> str:
    return f"({', '.join(plates[:3])}{', ...' if len(plates) > 3 else ''})"


def _fetch(project: Project, plate: str, images: list[str], ready: bool, progress: Progress) -> bool:
    from cytovae.ingest import fetch

    if ready or project.plate_path(plate).exists():
        return False
    try:
        done = fetch.bbbc021(
            project.raw,
            [plate],
            base_url=_url(project),
            only=set(images),
            keep_archives=project.source.keep_archives,
            progress=progress,
        )
    except IngestError as failed:
        raise IngestError(f"{failed} (or go on without {plate}: name the other plates with --plates)") from None
    return not done.already


def _plate(project: Project, plate: str, images: list[str], ready: bool, progress: Progress) -> bool:
    """Ingest a plate; the images that were fetched for it go, unless they are to be kept."""
    from cytovae.ingest import assembly, layouts

    path = project.plate_path(plate)
    made = not (ready or path.exists())
    if made:
        path.parent.mkdir(parents=True, exist_ok=True)
        found, (source, licence) = layout(project, [plate]), layouts.bbbc021.origin(project.raw)
        record = ScreenRecord(name="BBBC021", channels=found.channels, source=source, licence=licence)
        assembly.ingest_fields(found, project.raw, path, record, workers=project.workers, progress=progress)
    if not (project.source.raw or project.source.keep_archives):
        for name in images:
            (project.raw / name).unlink(missing_ok=True)
    return made


def _join(project: Project, wanted: list[str], ready: bool, progress: Progress) -> bool:
    """All plates' screens as one; pixels are not copied."""
    from cytovae.ingest import joining

    if not ready:
        first, *others = (Screen.open(project.plate_path(plate)) for plate in wanted)
        joining.append(first, others)
        first.path.replace(project.screen_path)
    for plate in wanted:
        shutil.rmtree(project.plate_path(plate), ignore_errors=True)
    with contextlib.suppress(OSError):  # it is not there, or not ours alone
        (project.folder / "plates").rmdir()
    progress(1, 1)
    return not ready


def _crops(project: Project, progress: Progress) -> bool:
    """Ingest cells that are cut already."""
    from cytovae.ingest import assembly, layouts

    assert project.source.crops
    crops = layouts.crops.read(*project.source.crops, CHANNELS)
    crops = dataclasses.replace(crops, cells=crops.cells[_counts(crops.cells)])
    said = " and ".join(path.name for path in project.source.crops)
    record = ScreenRecord(name="BBBC021 (crops)", channels=crops.channels, source=f"cells cut already: {said}")
    return not assembly.ingest_crops(crops, project.screen_path, record, progress=progress).already


def _train(project: Project, training: Training, progress: Progress) -> bool:
    from cytovae.learn import kinds, models

    options = project.options
    asked = {"recipe": training.recipe.value, "seed": training.seed, "period": options.period}
    asked |= {"iterations": options.iterations, "batch_size": options.batch_size}
    how = kinds.Run(
        device=project.device,
        threads=project.threads,
        checkpoint_every=max(1, min(200, options.iterations // 4)),
        resume=True,
        progress=progress,
    )
    return models.train(project.screen(), project.bundle_path(training), training.model, asked, how) is not None


def _embed(project: Project, training: Training, progress: Progress) -> bool:
    from cytovae.learn import embed

    where = project.workers
    workers, device = (where, "auto") if isinstance(where, str) else (1, "cpu")  # of the cluster's workers
    return embed.embed(project.screen(), project.load(training), progress, workers=workers, device=device)


def scoring() -> Any:
    """How all trainings are scored: the paper's four columns; whitening pools controls where a plate has few."""
    from cytovae.profiling import study
    from cytovae.profiling.whiten import FewControls

    columns = [study.columns([s], [w], None, FewControls.pool)[0] for s, w in paper.COLUMNS]
    return study.Benchmark(columns, strict=False)


def _benchmark(project: Project, training: Training, progress: Progress) -> bool:
    from cytovae.patches import PatchStore

    screen = project.screen()
    path = screen.results_path(training.name) / "scores.json"
    before = path.stat().st_mtime_ns if path.exists() else None
    scoring().of_screen(screen, [training.name], PatchStore)
    progress(1, 1)
    return path.stat().st_mtime_ns != before


def _audit(project: Project, progress: Progress) -> bool:
    from cytovae.learn import audit

    screen, bundle = project.screen(), project.load(project.audited())
    path = screen.results_path(bundle.name) / audit.FILE
    inputs = {"cells": screen.cells_digest(), "weights": bundle.digest}
    if path.exists() and json.loads(path.read_text())["provenance"]["inputs"] == inputs:
        return False
    audit.audit(screen, bundle, done=progress)
    return True


def record(project: Project) -> dict[str, Any]:
    """The provenance of the report: options, cells, weights, published profiles."""
    from cytovae.learn import bundle
    from cytovae.screen import digest_file

    every = project.options.trainings()
    inputs = {"cells": project.screen().cells_digest()}
    inputs |= {t.name: str(bundle.describe(project.bundle_path(t))["weights"]) for t in every}
    if project.source.published:
        inputs |= {x.name: digest_file(x) for x in sorted(project.source.published.iterdir()) if x.is_file()}
    config = {"options": to_dict(project.options), "crops": project.source.crops is not None}
    return provenance("reproduce", config=config | {"plates": list(project.source.plates)}, inputs=inputs)


def _report(project: Project, progress: Progress) -> bool:
    from cytovae.reproduce import report

    return report.write(project, record(project), progress)
