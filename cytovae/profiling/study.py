"""From embeddings to a benchmark with all that stands beside it: profiles, baselines, figures, kept in the screen.

What is up to date is read, not made again. Of the screen's folder, ``profiles/<model>/``, ``results/<model>/`` and
``results/_baselines/`` are written here; `cytovae.profiling.benchmark` says what is in them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.config import to_dict
from cytovae.errors import ProfileError
from cytovae.profiling import activity, baselines, benchmark, figures, profiles, published, report, whiten
from cytovae.profiling.profiles import Summary
from cytovae.profiling.ranking import RULES
from cytovae.profiling.whiten import FewControls, Whitening
from cytovae.screen import (
    Screen,
    digest_file,
    provenance,
    read_provenance,
    read_table,
    whole_file,
    write_json,
    write_table,
)

Tasks = Callable[[str], AbstractContextManager[schema.Progress]]
"""Opens a task by its label and yields what is told (done, total) as the work goes on."""

_LISTS = ("scores", "map", "batch", "confusion", "whitening", "skipped", "verdicts")
"""What a document of scores has for every model, see `cytovae.profiling.benchmark`."""


class Patches(Protocol):
    """The patches of a screen in the order of its cells, as `cytovae.patches.PatchStore` holds them."""

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
        """(n, H, W, C) patches of some cells."""
        ...

    def blocks(self, size: int) -> Iterator[tuple[int, npt.NDArray[np.uint16]]]:
        """All patches, `size` at a time, each block with the row it starts at."""
        ...


@contextlib.contextmanager
def unwatched(label: str) -> Iterator[schema.Progress]:
    """A task that nobody follows."""
    yield lambda done, total: None


def unheard(text: str) -> None:
    """Say nothing."""


@dataclasses.dataclass(frozen=True)
class Profiles:
    """Profiles of a model in one column of Table 1.

    Parameters
    ----------
    wells, treatments : DataFrame
    whitening : list of dict
        What whitening used, one row per plate or batch.
    n_cells, n_blank : int or None
        Cells that count, and blank ones that were left out; None where no cells are known.
    made : bool
        False where they were read.
    """

    wells: pd.DataFrame
    treatments: pd.DataFrame
    whitening: list[dict[Any, Any]]
    n_cells: int | None
    n_blank: int | None
    made: bool


def profile(
    screen: Screen,
    model: str,
    summary: str,
    options: whiten.Options,
    *,
    overwrite: bool = False,
    tasks: Tasks = unwatched,
) -> Profiles:
    """Well and treatment profiles, read where they are up to date, else made and written.

    Parameters
    ----------
    screen : Screen
    model : str
        A model that it is embedded with.
    summary : str
        ``mean`` or ``mean+sd``.
    options : Options
        How to whiten.
    overwrite : bool
        Make again what is up to date.
    tasks : callable
        Where progress is told.

    Raises
    ------
    ProfileError
        Too few controls to whiten by.
    """
    paths = [screen.profiles_path(model, level, summary, options.by) for level in ("wells", "treatments")]
    cells, embeddings = screen.embeddings(model)
    n_blank = int((~schema.not_blank(cells)).sum())
    record = provenance(
        "profile",
        config={"model": model, "summary": summary, "control": screen.record.control, **to_dict(options)},
        inputs={
            "cells": screen.cells_digest(),
            "embeddings": digest_file(screen.embeddings_path(model) / "embeddings.npy"),
        },
    )
    if not overwrite and all(path.exists() for path in paths):
        there = read_provenance(paths[1])
        if all(there.get(key) == record[key] for key in record):
            wells, treatments = map(read_table, paths)
            return Profiles(wells, treatments, there["whitening"], there["n_cells"], there["n_blank"], made=False)
    with tasks(f"profile {model} ({summary}, whiten {options.by})") as progress:
        wells = profiles.wells(cells, embeddings, summary, progress)
        wells, used = whiten.profiles(
            wells, options, screen.record.control, cells=cells, embeddings=embeddings, summary=summary
        )
        treatments = profiles.treatments(wells)
        known = stored_activity(screen, model)
        if known is not None:
            treatments = activity.beside(treatments, known)
    made = Profiles(wells, treatments, used.to_dict("records"), len(cells) - n_blank, n_blank, made=True)
    record |= {"n_cells": made.n_cells, "n_blank": n_blank, "whitening": made.whitening}
    for path, table in zip(paths, (wells, treatments), strict=True):
        write_table(path, table, record)
    return made


def join(screen: Screen, models: Sequence[str]) -> str:
    """Embeddings of several models side by side, kept in the screen under their names joined by ``+``.

    Each is divided by the root mean square length of its embeddings, so that every model weighs as much in a cosine.

    Parameters
    ----------
    screen : Screen
    models : sequence of str
        At least two that it is embedded with, such as trainings of one model that differ in their seed.

    Returns
    -------
    str
        The name of the joined embeddings.

    Raises
    ------
    ProfileError
        Fewer than two models.
    ScreenError
        A model is not embedded, or the screen's cells have changed since.
    """
    models = list(dict.fromkeys(models))
    if len(models) < 2:
        raise ProfileError(f"joining takes at least two models, not {len(models)}; name them after the screen")
    name = "+".join(models)
    record = provenance(
        "join",
        config={"models": models},
        inputs={"cells": screen.cells_digest()}
        | {model: digest_file(screen.embeddings_path(model) / "embeddings.npy") for model in models},
    )
    index = screen.embeddings_path(name) / "index.parquet"
    if index.exists() and read_provenance(index) == record:
        return name
    ids: list[str] = []
    parts = []
    for model in models:
        cells, embeddings = screen.embeddings(model)
        own = cells[schema.CELL_ID].tolist()
        ids = ids or own
        rows = pd.Index(own).get_indexer(pd.Index(ids))
        if (rows < 0).any() or len(own) != len(ids):
            raise ProfileError(f"{models[0]} and {model} embedded different cells; embed both again")
        values = np.asarray(embeddings, dtype=np.float64)[rows]
        length = np.sqrt((values[schema.not_blank(cells)[rows]] ** 2).sum(axis=1).mean())
        parts.append((values / (length if length > 0 else 1.0)).astype(np.float32))
    screen.write_embeddings(name, ids, np.concatenate(parts, axis=1), record)
    return name


def _activity_path(screen: Screen, model: str) -> Path:
    return screen.path / "profiles" / model / "activity.parquet"


def _activity_record(screen: Screen, model: str, seed: int) -> dict[str, Any]:
    return provenance(
        "activity",
        config={
            "model": model,
            "control": screen.record.control,
            "n_null": activity.N_NULL,
            "least_arrangements": activity.LEAST_ARRANGEMENTS,
        },
        inputs={
            "cells": screen.cells_digest(),
            "embeddings": digest_file(screen.embeddings_path(model) / "embeddings.npy"),
        },
        seed=seed,
    )


def stored_activity(screen: Screen, model: str) -> pd.DataFrame | None:
    """The activity of every treatment as `measure_activity` kept it, None where it is not there or not up to date."""
    path = _activity_path(screen, model)
    if not path.exists():
        return None
    made_of = read_provenance(path)
    if made_of != _activity_record(screen, model, made_of.get("seed") or 0):
        return None
    return read_table(path)


def inactive(screen: Screen, model: str, treatment: str) -> str:
    """What is to be known before a path to a treatment is looked at: that it is not shown to do anything, or that this
    could not be tested; empty where it is active, or nobody has measured.
    """
    table = stored_activity(screen, model)
    if table is None or not (table[schema.TREATMENT] == treatment).any():
        return ""
    row, name = table.set_index(schema.TREATMENT).loc[treatment], schema.words(treatment)
    if row["reason"]:
        return f"whether {name} does anything could not be tested: {row['reason']}"
    if row["active"]:
        return ""
    tested = f"corrected p = {row['p_corrected']:.2g}, {row['n_units']} {row['unit']}"
    return f"{name} is not shown to do anything in this screen ({tested}), whatever its path shows"


def measure_activity(
    screen: Screen, model: str, seed: int = 0, *, overwrite: bool = False, tasks: Tasks = unwatched
) -> tuple[pd.DataFrame, bool]:
    """The activity of every treatment, read where it is up to date, else measured and kept.

    The treatment profiles that the screen holds of the model get it as columns (`cytovae.profiling.activity.COLUMNS`).

    Returns
    -------
    tuple of (DataFrame, bool)
        The table of `cytovae.profiling.activity`; False where it was read.

    Raises
    ------
    ProfileError
        The screen has no controls.
    ScreenError
        The screen has not been embedded with the model.
    """
    path = _activity_path(screen, model)
    if path.exists() and not overwrite and read_provenance(path) == _activity_record(screen, model, seed):
        return read_table(path), False
    cells, embeddings = screen.embeddings(model)
    record = _activity_record(screen, model, seed)
    with tasks(f"activity of {model}") as progress:
        table = activity.measure(cells, embeddings, screen.record.control, seed, progress=progress)
    for profile_path in sorted(path.parent.glob("treatments.*.parquet")):
        held = activity.beside(read_table(profile_path), table)
        write_table(profile_path, held, read_provenance(profile_path))
    write_table(path, table, record)  # last: what is there is done, wherever a run before was killed
    return table, True


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """How models are scored, and who is told.

    Parameters
    ----------
    columns : sequence of (str, Options)
        Columns of Table 1: summary and whitening, the plain ones first.
    strict : bool
        Refuse a column that lacks the controls to whiten by; else it is left out and stands under ``skipped``.
    figures : bool
        Draw figures beside the scores that are written.
    seed : int
        Of intervals, permutations and the sample of pixels.
    overwrite : bool
        Score again what is up to date.
    tasks : callable
        Where progress is told.
    say : callable
        Told one line at a time what a person should know.
    """

    columns: Sequence[tuple[str, whiten.Options]]
    strict: bool = True
    figures: bool = False
    seed: int = 0
    overwrite: bool = False
    tasks: Tasks = unwatched
    say: Callable[[str], None] = unheard

    def of_screen(
        self, screen: Screen, models: Sequence[str], patches: Callable[[Path], Patches] | None = None
    ) -> tuple[dict[str, Any], pd.DataFrame]:
        """Models on a screen, one after the other, each one's results kept in it.

        Parameters
        ----------
        screen : Screen
        models : sequence of str
            Models that it is embedded with.
        patches : callable, optional
            Opens a folder of patches, to make baselines of them; without it there is none but chance.

        Returns
        -------
        tuple of (dict, DataFrame)
            The models' ``scores.json`` as one document; their calls.

        Raises
        ------
        ProfileError
            Profiles that cannot be made or scored, too few controls where the benchmark is strict.
        """
        document: dict[str, Any] = {}
        calls = []
        dimensions = sorted({screen.embeddings(model)[1].shape[1] for model in models})
        made = self._baselines(screen, dimensions, patches) if patches else None
        for model in models:
            own, called = self._of_model(screen, model, made)
            calls.append(called)
            for key, value in own.items():
                if key in ("baselines", "skipped"):
                    document.setdefault(key, []).extend(x for x in value if x not in document[key])
                elif isinstance(value, list):
                    document.setdefault(key, []).extend(value)
            document |= {"screen": own["screen"], "seed": self.seed}
        if len(dimensions) > 1:
            pixels = [x for x in document["baselines"] if x["baseline"] == baselines.PIXELS]
            for line in pixels:
                line["baseline"] = f"{baselines.PIXELS} ({line['dimension']})"
        if len(models) > 1:
            self._draw(screen.path / "results", document)
        return document, pd.concat(calls, ignore_index=True)

    def of_screens(self, screens: Sequence[Screen], models: Sequence[str]) -> tuple[dict[str, Any], pd.DataFrame]:
        """Models on the wells of several screens as if they were one; nothing is kept in the screens but profiles.

        Each screen is whitened by itself. There is no baseline but chance.

        Returns
        -------
        tuple of (dict, DataFrame)
            As `of_screen`.

        Raises
        ------
        ProfileError
            The screens call their controls differently or share wells; and as `of_screen`.
        """
        controls = {screen.record.control for screen in screens}
        if len(controls) > 1:
            raise ProfileError(f"the screens call their controls {', '.join(sorted(controls))}; they must agree")
        document: dict[str, Any] = {}
        calls = []
        for model in models:
            own, called = self._scores(screens, model)
            calls.append(called)
            for key, value in own.items():
                document[key] = document.get(key, []) + value if isinstance(value, list) else value
        together = pd.concat(calls, ignore_index=True)
        _beside(document, [], together)
        return document | {"seed": self.seed}, together

    def of_wells(self, wells: pd.DataFrame, name: str, control: str = "DMSO") -> tuple[dict[str, Any], pd.DataFrame]:
        """Ready well profiles: standardised on their plates' controls, whitened where asked for.

        Parameters
        ----------
        wells : DataFrame
            See `cytovae.profiling.published.read_wells`.
        name : str
            What to call them.
        control : str
            Compound name of the controls.

        Returns
        -------
        tuple of (dict, DataFrame)
            As `of_screen`, with ``n_features``, ``n_features_used`` and ``features_dropped``.

        Raises
        ------
        ProfileError
            Profiles that cannot be standardised, whitened or scored.
        """
        standard, dropped = profiles.standardise(wells, control)

        def made(summary: str, options: whiten.Options) -> list[Profiles]:
            table, used = whiten.profiles(standard, options, control)
            return [Profiles(table, profiles.treatments(table), used.to_dict("records"), None, None, made=True)]

        document, calls = self._over_columns(name, name, control, made)
        _beside(document, [], calls)
        n = len(schema.feature_columns(wells))
        document |= {"seed": self.seed, "n_features": n, "n_features_used": n - len(dropped)}
        return document | {"features_dropped": dropped}, calls

    def of_tables(
        self, path: Path, image_table: Path | None, moa_table: Path | None, control: str, out: Path | None = None
    ) -> dict[str, Any]:
        """Published well profiles scored, and kept in the folder `out` where one is given.

        See `cytovae.profiling.published.read_wells` for the tables and `of_wells` for the rest.
        """
        wells = published.read_wells(path, image_table, moa_table)
        document, calls = self.of_wells(wells, path.name.split(".")[0], control)
        tables = {"profiles": path, "image_table": image_table, "moa_table": moa_table}
        made_of = {key: digest_file(table) for key, table in tables.items() if table is not None}
        self.keep(out, document, calls, {"control": control}, made_of)
        return document

    def of_models(
        self,
        screens: Sequence[Screen],
        models: Sequence[str],
        patches: Callable[[Path], Patches] | None = None,
        as_seeds: bool = False,
        out: Path | None = None,
        joined: bool = False,
    ) -> dict[str, Any]:
        """Models on one screen (`of_screen`) or on several together (`of_screens`).

        Parameters
        ----------
        screens, models, patches
            As there.
        as_seeds : bool
            The models are trainings of one: ``seeds`` holds their mean and standard deviation.
        out : Path, optional
            Folder to keep everything in, beside what the screen keeps.
        joined : bool
            Score the models side by side as one more (`join`).
        """
        if joined:
            models = [*models, *{join(screen, models) for screen in screens}]
        if len(screens) > 1:
            document, calls = self.of_screens(screens, models)
        else:
            document, calls = self.of_screen(screens[0], models, patches)
        if as_seeds:
            document["seeds"] = report.over_seeds(document["scores"], "seeds")
        if len(screens) > 1 or out is not None:
            made_of = {str(screen.path): screen.cells_digest() for screen in screens}
            self.keep(out, document, calls, {"models": list(models)}, made_of)
        return document

    def keep(
        self,
        folder: Path | None,
        document: dict[str, Any],
        calls: pd.DataFrame,
        config: dict[str, Any],
        inputs: dict[str, str],
    ) -> None:
        """Put provenance on a document and write it with its calls and figures, where a folder is given."""
        document["provenance"] = provenance("benchmark", config=config, inputs=inputs, seed=self.seed)
        if folder is not None:
            write_table(folder / "calls.parquet", calls, document["provenance"])
            write_json(folder / "scores.json", document)
            self._draw(folder, document)

    def _of_model(
        self,
        screen: Screen,
        model: str,
        made: tuple[list[dict[str, Any]], list[dict[str, Any]], pd.DataFrame] | None,
    ) -> tuple[dict[str, Any], pd.DataFrame]:
        """One model on a screen beside the screen's baselines: ``scores.json`` and the calls, as they are kept."""
        record = provenance(
            "benchmark",
            config={
                "columns": self._columns_record(),
                "strict": self.strict,
                "baselines": made is not None,
                "intervals": "clustered Wilson",
                "null": "mechanisms among compounds",
                "rules": {rule.name: list(rule.differ_by) for rule in RULES},
            },
            inputs={
                "cells": screen.cells_digest(),
                "embeddings": digest_file(screen.embeddings_path(model) / "embeddings.npy"),
            },
            seed=self.seed,
        )
        folder = screen.results_path(model)
        path, calls_path = folder / "scores.json", folder / "calls.parquet"
        if path.exists() and calls_path.exists() and not self.overwrite:
            there = json.loads(path.read_text())
            if there.get("provenance") == record:
                self.say(f"the table of scores of {model} is already there; --overwrite makes it again")
                if not (folder / "table1.png").exists():
                    self._draw(folder, there)
                return there, read_table(calls_path)
        own, calls = self._scores([screen], model)
        lines, skipped, called = made or ([], [], None)
        dimension = screen.embeddings(model)[1].shape[1]
        pixels = [x["dimension"] for x in lines if x["baseline"] == baselines.PIXELS]
        most = max((d for d in pixels if d <= dimension), default=None)  # fewer than asked for where cells are few
        fit = [x for x in lines if x["baseline"] != baselines.PIXELS or x["dimension"] == most]
        _beside(own, fit, calls, called)
        own["skipped"] += skipped
        own |= {"model": model, "seed": self.seed, "provenance": record}
        write_table(calls_path, calls, record)
        for name in ("table1", "confusion"):
            for kind in ("svg", "png"):
                (folder / f"{name}.{kind}").unlink(missing_ok=True)  # drawn of other scores
        write_json(path, own)
        self._draw(folder, own)
        return own, calls

    def _scores(self, screens: Sequence[Screen], model: str) -> tuple[dict[str, Any], pd.DataFrame]:
        """One model over the wells of all screens together, without baselines."""

        def made(summary: str, options: whiten.Options) -> list[Profiles]:
            return [profile(screen, model, summary, options, tasks=self.tasks) for screen in screens]

        name = " + ".join(screen.record.name for screen in screens)
        return self._over_columns(model, name, screens[0].record.control, made)

    def _over_columns(
        self, bundle: str, name: str, control: str, made: Callable[[str, whiten.Options], list[Profiles]]
    ) -> tuple[dict[str, Any], pd.DataFrame]:
        """All columns of what is called `bundle`, from its profiles on one or more screens."""
        document: dict[str, Any] = {key: [] for key in _LISTS}
        calls = []
        for summary, options in self.columns:
            head = {"bundle": bundle, "summary": summary, "whiten": options.by}
            try:
                parts = made(summary, options)
            except ProfileError as too_few:
                if self.strict or options.by == Whitening.none:
                    raise
                document["skipped"].append({**head, "reason": str(too_few)})
                continue
            document["whitening"] += [{**head, **row} for part in parts for row in part.whitening]
            wells = profiles.together([part.wells for part in parts])
            treatments = parts[0].treatments if len(parts) == 1 else profiles.treatments(wells)
            rng = np.random.default_rng(self.seed)
            found = benchmark.evaluate(wells, treatments, rng, **head, control=control, seed=self.seed)
            calls.append(found.pop("calls"))
            for key, lines in found.items():
                document[key] += lines
            blank = [part.n_blank for part in parts if part.n_blank is not None]
            document["screen"] = _described(name, control, wells, treatments, sum(blank) if blank else None)
        if not calls:
            reasons = "; ".join(dict.fromkeys(line["reason"] for line in document["skipped"]))
            raise ProfileError(f"no column of {bundle} can be scored: {reasons or 'none was asked for'}")
        return document, pd.concat(calls, ignore_index=True)

    def _baselines(
        self, screen: Screen, dimensions: list[int], patches: Callable[[Path], Patches]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], pd.DataFrame]:
        """The baselines of a screen, those skipped, and the calls, kept in ``results/_baselines``."""
        record = provenance(
            "benchmark",
            config={"dimensions": dimensions, "columns": self._columns_record(), "intervals": "clustered Wilson"},
            inputs={"cells": screen.cells_digest()},
            seed=self.seed,
        )
        folder = screen.results_path("_baselines")
        path, calls_path = folder / "scores.json", folder / "calls.parquet"
        if path.exists() and not self.overwrite:
            there = json.loads(path.read_text())
            if there["provenance"] == record and calls_path.exists():
                return there["baselines"], there.get("skipped", []), read_table(calls_path)
        cells = screen.cells()
        store = patches(screen.patches_path)
        good = np.flatnonzero(schema.not_blank(cells))
        rng = np.random.default_rng(self.seed)
        n = min(len(good), max(baselines.FIT_CELLS, max(dimensions) + 1))
        sample = store.read(np.sort(rng.choice(good, n, replace=False)))
        with self.tasks("baselines: pixels, measurements, cell count") as progress:
            lines, skipped, calls = baselines.score(
                cells,
                sample,
                store.blocks(512),
                screen.record.channels,
                dimensions,
                self.columns,
                rng,
                screen.record.control,
                progress,
            )
        write_table(calls_path, calls, record)
        write_json(path, {"baselines": lines, "skipped": skipped, "provenance": record})
        return lines, skipped, calls

    def _columns_record(self) -> list[list[Any]]:
        return [[summary, to_dict(options)] for summary, options in self.columns]

    def _draw(self, folder: Path, document: dict[str, Any]) -> None:
        """Table 1 as a dot plot and the confusion of each bundle's plain profiles, as SVG and PNG."""
        if not self.figures:
            return
        if not any(line["n_scored"] for line in document["scores"]):
            self.say("no figure was drawn: no treatment could be scored")
            return
        drawn = {"table1": figures.dots(report.scores_of(document), _about(document["screen"]))}
        bundles = list(dict.fromkeys(line["bundle"] for line in document["scores"]))
        for bundle in bundles:
            first = next(line for line in document["confusion"] if line["bundle"] == bundle)
            lines = [
                line
                for line in document["confusion"]
                if all(line[key] == first[key] for key in ("bundle", "summary", "whiten"))
            ]
            name = "confusion" if len(bundles) == 1 else f"confusion-{bundle}"
            drawn[name] = figures.confusions(lines, f"{bundle} ({first['summary']}, whiten {first['whiten']})")
        for name, figure in drawn.items():
            for kind in ("svg", "png"):
                with whole_file(folder / f"{name}.{kind}") as beside:
                    figure.savefig(beside, format=kind, dpi=150)


def columns(
    summaries: Sequence[Summary], whitenings: Sequence[Whitening], regularisation: float | None, few: FewControls
) -> list[tuple[Summary, whiten.Options]]:
    """Columns of Table 1 for `Benchmark`, each once; what is not whitened has no use for the options of whitening."""
    return [
        (summary, whiten.Options(by) if by == Whitening.none else whiten.Options(by, regularisation, few))
        for summary in dict.fromkeys(summaries)
        for by in dict.fromkeys(whitenings)
    ]


def _beside(
    document: dict[str, Any],
    lines: list[dict[str, Any]],
    calls: pd.DataFrame,
    baseline_calls: pd.DataFrame | None = None,
) -> None:
    """Put baselines and chance into a document of scores, and say how the scores compare."""
    document["baselines"] = lines + baselines.chance(document["scores"])
    of_chance = baselines.chance_calls(calls)
    others = of_chance if baseline_calls is None else pd.concat([baseline_calls, of_chance], ignore_index=True)
    document["scores"], document["verdicts"] = report.compare(document["scores"], document["baselines"], calls, others)


def _described(
    name: str, control: str, wells: pd.DataFrame, treatments: pd.DataFrame, n_blank: int | None
) -> dict[str, Any]:
    """How much data the scores are about."""
    treated = treatments[treatments[schema.COMPOUND] != control]
    counted = schema.N_CELLS in wells
    return {
        "name": name,
        "control": control,
        "n_cells": int(wells[schema.N_CELLS].sum()) if counted else None,
        "n_blank": n_blank,
        "n_wells": len(wells),
        "n_treatments": len(treated),
        "n_mechanisms": int(treated.loc[treated[schema.MOA] != schema.UNKNOWN_MOA, schema.MOA].nunique()),
        "median_cells_per_treatment": float(treated[schema.N_CELLS].median()) if counted else None,
    }


def _about(screen: dict[str, Any]) -> str:
    """What the numbers are about, for the foot of a figure."""
    cells = screen["median_cells_per_treatment"]
    said = f"{screen['name']}: {screen['n_treatments']} treatments"
    return said if cells is None else f"{said}, median {cells:g} cells a treatment"
