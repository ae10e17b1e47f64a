"""From what was asked for to a path with all that stands beside it: the cells at its ends, populations, evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import ConfigError, SelectionError
from cytovae.explore import evidence, morphology, paths, targets
from cytovae.explore.generator import Generator
from cytovae.explore.targets import Choice, Embeddings, Rows

N_NULL = 200
"""Paths between the typical cells of two control wells, whose lengths a path's is compared with."""
N_SPREAD = 64
"""Control cells, and treated cells, that are measured behind the morphology of a path."""


@dataclass(frozen=True)
class Request:
    """What to draw.

    Parameters
    ----------
    treatment : str or None
        Where the path leads.
    target : str
        Which of its cells, see `cytovae.explore.targets.chosen`.
    control : str
        Where it starts: ``auto`` (the typical control of the target's plate, else batch), ``random``, or a cell id.
    start_treatment : str or None
        Start from this treatment's cell closest to its mean, instead of a control.
    dose_series : str or None
        A compound: one cell per concentration instead of a treatment's path.
    reverse : bool
        From the target back to the start.
    steps, mode, spacing
        See `cytovae.explore.paths.latent`.
    """

    treatment: str | None = None
    target: str = "mean"
    control: str = "auto"
    start_treatment: str | None = None
    dose_series: str | None = None
    reverse: bool = False
    steps: int = 10
    mode: str = "top-features"
    spacing: str = "count"

    def __post_init__(self) -> None:
        if (self.treatment is None) == (self.dose_series is None):
            raise ConfigError("a path leads to a treatment or shows the doses of a compound; name one of the two")
        if self.dose_series is not None and (self.start_treatment is not None or self.reverse):
            raise ConfigError(
                "a dose series starts at a control and leads upwards; leave out another start, or the reverse"
            )
        if self.start_treatment is not None and self.control != "auto":
            raise ConfigError("a path starts from a treatment or from a control cell; name one of the two")


@dataclass(frozen=True)
class Study:
    """A path with what stands beside it.

    Parameters
    ----------
    path : paths.Path
    evidence : evidence.Evidence
    start, end : targets.Choice
    start_rows, end_rows : (n,) int64
        The populations at its ends.
    title : str
    notes : tuple of str
        What a reader should know: how the ends were chosen, what could not be compared.
    """

    path: paths.Path
    evidence: evidence.Evidence
    start: Choice
    end: Choice
    start_rows: Rows
    end_rows: Rows
    title: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Population:
    """The same path for many pairs of cells.

    Parameters
    ----------
    path : paths.PopulationPath
    cosine : DataFrame
        One row per step: ``mean``, ``low``, ``high`` (95 % t interval) over the pairs, and ``gap_closed`` by the latent
        points, ``gap_closed_reencoded`` by what their images show to the model.
    curves : DataFrame
        See `cytovae.explore.morphology.population`.
    """

    path: paths.PopulationPath
    cosine: pd.DataFrame
    curves: pd.DataFrame


def draw(
    cells: pd.DataFrame,
    embeddings: Embeddings,
    generator: Generator,
    control: str,
    request: Request,
    rng: np.random.Generator,
    ground: evidence.Ground | None = None,
    nulls: npt.NDArray[np.float64] | None = None,
) -> Study:
    """The path that was asked for.

    Parameters
    ----------
    cells : DataFrame
        The embedded cells.
    embeddings : (n, d) float32
    generator : Generator
    control : str
        Compound name of the untreated cells.
    request : Request
    rng : numpy Generator
    ground : evidence.Ground, optional
    nulls : (q,) float64, optional
        Lengths of null paths, see `null_lengths`. Both are the same for all paths of a screen and model, and made here
        where they are not given.

    Raises
    ------
    SelectionError, ConfigError
        A choice that is not there, or options that are out of range.
    """
    start, end, start_rows, end_rows, title = _ends(cells, embeddings, control, request, rng)
    if request.dose_series is not None:
        path, own = _series(cells, embeddings, generator, control, request.dose_series, start)
    else:
        own = np.array([start.row, end.row])
        path = paths.interpolate(
            embeddings[start.row],
            embeddings[end.row],
            generator.decode,
            generator.encode,
            request.steps,
            request.mode,
            request.spacing,
            start.cell_id,
            end.cell_id,
        )
    notes = [f"start: {start.cell_id}, {start.how}", f"end: {end.cell_id}, {end.how}"]
    if nulls is None:
        try:
            nulls = null_lengths(cells, embeddings, control, rng)
        except SelectionError as few:
            notes.append(f"no null paths: {few}")
    ground = ground or evidence.Ground(cells, embeddings, rng)
    found = evidence.assess(path, ground, embeddings[start_rows], embeddings[end_rows], nulls, exclude=own)
    return Study(path, found, start, end, start_rows, end_rows, title, (*notes, found.summary))


def null_lengths(
    cells: pd.DataFrame, embeddings: Embeddings, control: str, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Lengths of paths that mean nothing: between the typical control cells of two wells, `N_NULL` times, (q,).

    Raises
    ------
    SelectionError
        There are no two control wells.
    """
    return evidence.null_lengths(embeddings, *targets.null_pairs(cells, control, N_NULL, rng, embeddings=embeddings))


def morphology_along(
    study: Study,
    embeddings: Embeddings,
    generator: Generator,
    pixel_size_um: float | None,
    rng: np.random.Generator,
) -> morphology.Along:
    """The path's measurements, against decoded cells of the populations at its ends (at most `N_SPREAD` of each).

    Raises
    ------
    SelectionError
        Fewer than two cells with a nucleus where the path starts.
    """
    tables = []
    for rows in (study.start_rows, study.end_rows):
        few = rows if len(rows) <= N_SPREAD else np.sort(rng.choice(rows, N_SPREAD, replace=False))
        tables.append(morphology.measure(generator.decode(embeddings[few]), generator.channels, pixel_size_um))
    return morphology.along(study.path.frames, generator.channels, tables[0], tables[1], pixel_size_um)


def population(
    cells: pd.DataFrame,
    embeddings: Embeddings,
    generator: Generator,
    control: str,
    request: Request,
    n: int,
    pixel_size_um: float | None,
    rng: np.random.Generator,
) -> Population:
    """The paths of `n` pairs of cells, each a control and a treated cell of the same plate, else batch.

    Raises
    ------
    SelectionError
        Unknown treatment, one of a single cell, fewer than two pairs, or a dose series.
    """
    if request.treatment is None:
        raise SelectionError("a dose series has no population path; name a treatment")
    if request.start_treatment is None:
        starts, ends = targets.pairs(cells, request.treatment, control, n, rng)
    else:
        starts, ends = (
            rng.choice(targets.rows_of(cells, t, at_least=2), n) for t in (request.start_treatment, request.treatment)
        )
    if request.reverse:
        starts, ends = ends, starts
    if not request.reverse:
        goal = targets.rows_of(cells, request.treatment)
    elif request.start_treatment is not None:
        goal = targets.rows_of(cells, request.start_treatment)
    else:
        goal = targets.controls(cells, control)
    drawn = paths.population(
        embeddings[starts], embeddings[ends], generator.decode, request.steps, request.mode, request.spacing
    )
    mean, low, high = paths.mean_interval(drawn.cosine)
    n_pairs, k = drawn.z.shape[:2]
    again = generator.encode(drawn.frames.reshape(n_pairs * k, *drawn.frames.shape[2:])).reshape(n_pairs, k, -1)
    cosine = pd.DataFrame(
        {
            "step": np.arange(k),
            "mean": mean,
            "low": low,
            "high": high,
            "gap_closed": evidence.population_gap_closed(drawn.z, embeddings[goal]),
            "gap_closed_reencoded": evidence.population_gap_closed(again, embeddings[goal]),
        }
    )
    return Population(drawn, cosine, morphology.population(drawn.frames, generator.channels, pixel_size_um))


def _ends(
    cells: pd.DataFrame, embeddings: Embeddings, control: str, request: Request, rng: np.random.Generator
) -> tuple[Choice, Choice, Rows, Rows, str]:
    if request.dose_series is not None:
        if request.dose_series == control:
            raise SelectionError(f"{control!r} is the control itself; name a compound with doses")
        highest = targets.dose_series(cells, request.dose_series)[-1]
        end = targets.typical(cells, embeddings, highest.rows, highest.treatment)
        end_rows, to = highest.rows, f"{request.dose_series}, every dose"
    else:
        assert request.treatment is not None
        end = targets.chosen(cells, embeddings, request.treatment, request.target, rng)
        end_rows, to = targets.rows_of(cells, request.treatment), request.treatment
    if request.start_treatment is not None:
        start_rows, source = targets.rows_of(cells, request.start_treatment, at_least=2), request.start_treatment
        start = targets.typical(cells, embeddings, start_rows, source)
    else:
        (start_rows, where), source = targets.controls_near(cells, control, end.row), control
        if request.control == "auto":
            start = targets.typical(cells, embeddings, start_rows, f"the {control} cells {where}")
        elif request.control == "random":
            start = targets.random_control(cells, control, rng, like=end.row)
        else:
            start = targets.by_hand(cells, request.control)
    if request.reverse:
        return end, start, end_rows, start_rows, f"{to} back to {source}"
    return start, end, start_rows, end_rows, f"{source} to {to}"


def _series(
    cells: pd.DataFrame, embeddings: Embeddings, generator: Generator, control: str, compound: str, start: Choice
) -> tuple[paths.Path, Rows]:
    doses = targets.dose_series(cells, compound)
    rows = [targets.closest_to_mean(embeddings, dose.rows) for dose in doses]
    path = paths.series(
        embeddings[start.row],
        embeddings[rows],
        generator.decode,
        generator.encode,
        [control, *(f"{dose.concentration:g} µM" for dose in doses)],
        start.cell_id,
        str(cells[schema.CELL_ID].iloc[rows[-1]]),
    )
    return path, np.array([start.row, *rows])
