"""The one answer behind command line, app and notebook: a request in, a path with all that stands beside it.

Every face makes a `Request`, asks `draw` on a `Material`, and shows the answer or has it written by `write`. Defaults,
randomness and provenance are here and nowhere else, so that two faces that ask the same get the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import json
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.config import choice
from cytovae.errors import ConfigError, ScreenError, SelectionError, did_you_mean
from cytovae.explore import doses, evidence, morphology, paths, plausible, render, responders, targets
from cytovae.explore.generator import Generator, require_fit
from cytovae.explore.intervals import pairs_interval
from cytovae.explore.paths import Mode, Spacing
from cytovae.explore.targets import Choice, Embeddings, Relation, Rows, Start, Target
from cytovae.patches import Floats, normalise
from cytovae.screen import Screen, provenance, read_table, whole_file

STEPS = 10
SEED = 0
N_NULL = 200
"""Null paths that a path is compared with."""
N_HALF = 40
"""Null paths whose half-gap stands beside a path's."""
N_MEASURED = 64
"""Control cells, and treated cells, that are decoded and measured behind the morphology of a path."""
MIN_DISTINCT = 20
"""Fewer distinct null paths than this give no percentile."""
MOST_P = 0.05
"""A path is said to differ more than control paths do up to this p."""

RELATIONS = {Relation.PLATE: "one plate", Relation.BATCH: "one batch, but of two plates", Relation.NONE: "two batches"}

Read = Callable[[npt.NDArray[np.int64]], npt.NDArray]
"""Rows of a screen's cells -> their patches (n, H, W, C) uint16 as acquired."""


class Form(enum.StrEnum):
    """What a path can be written as; the ending of the file."""

    PNG = "png"
    SVG = "svg"
    GIF = "gif"
    CSV = "csv"
    JSON = "json"
    HTML = "html"

    @classmethod
    def of(cls, path: FilePath) -> Form:
        """The form that a file's name asks for.

        Raises
        ------
        ConfigError
            It ends otherwise.
        """
        try:
            return cls(path.suffix.lower().removeprefix("."))
        except ValueError:
            raise ConfigError(f"{path.name!r} ends in none of {', '.join(f'.{form}' for form in cls)}") from None


@dataclass(frozen=True)
class Request:
    """What to draw.

    Parameters
    ----------
    treatment : str or None
        Where the path leads.
    target : str
        Which of its cells: a `Target`, ``subpopulation:K``, or a cell id; see `cytovae.explore.targets.chosen`.
    control : str
        Where it starts: a `Start` (of the target's plate, else batch, else the screen), or a cell id.
    start_treatment : str or None
        Start from this treatment's cell closest to its mean, instead of a control.
    dose_series : str or None
        A compound: one cell per concentration instead of a treatment's path.
    reverse : bool
        From the target back to the start.
    steps, mode, spacing
        See `cytovae.explore.paths.latent`.
    seed : int
        Of all that is drawn at random.

    Raises
    ------
    ConfigError
        Options that exclude each other, or an unknown mode or spacing.
    """

    treatment: str | None = None
    target: str = Target.MEAN
    control: str = Start.AUTO
    start_treatment: str | None = None
    dose_series: str | None = None
    reverse: bool = False
    steps: int = STEPS
    mode: Mode = Mode.TOP_FEATURES
    spacing: Spacing = Spacing.GAIN
    seed: int = SEED

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", choice(Mode, self.mode, "mode"))
        object.__setattr__(self, "spacing", choice(Spacing, self.spacing, "spacing"))
        if (self.treatment is None) == (self.dose_series is None):
            raise ConfigError("a path leads to a treatment or shows the doses of a compound; name one of the two")
        if self.dose_series is not None and (self.start_treatment is not None or self.reverse):
            raise ConfigError(
                "a dose series starts at a control and leads upwards; leave out another start, or the reverse"
            )
        if self.start_treatment is not None and self.control != Start.AUTO:
            raise ConfigError("a path starts from a treatment or from a control cell; name one of the two")

    def rng(self, purpose: str) -> np.random.Generator:
        """Randomness for one purpose: what is drawn for it depends on nothing else that is drawn."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])


class Material:
    """A screen as one model sees it: what all paths of the two share, made once.

    Parameters
    ----------
    cells : DataFrame
        The embedded cells.
    embeddings : (n, d) float32
        In the same order.
    generator : Generator
    control : str
        Compound name of the untreated cells.
    screen : str
        What the screen is called.
    pixel_size_um : float or None
    read : callable, optional
        Gives patches by row of the screen's cells; without it no real cell is shown.
    patch_rows : (n,) int64, optional
        The row of each embedded cell among the screen's cells; the same order where not given.
    digests : dict of str to str
        What ``cells`` and ``weights`` were, for the provenance.
    check : callable
        Called now and then by work that takes seconds; it may end it by an exception.
    """

    def __init__(
        self,
        cells: pd.DataFrame,
        embeddings: Embeddings,
        generator: Generator,
        control: str,
        screen: str = "",
        pixel_size_um: float | None = None,
        read: Read | None = None,
        patch_rows: npt.NDArray[np.int64] | None = None,
        digests: dict[str, str] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.cells, self.generator, self.control = cells, generator, control
        self.embeddings: Embeddings = np.asarray(embeddings)  # rows of a memory map are slow to take one by one
        self.screen, self.pixel_size_um, self.read = screen, pixel_size_um, read
        self.patch_rows = np.arange(len(cells)) if patch_rows is None else patch_rows
        self.digests, self.check = digests or {}, check

    @classmethod
    def of(
        cls,
        screen: Screen,
        generator: Generator,
        read: Read | None = None,
        embedded: tuple[pd.DataFrame, Embeddings, npt.NDArray[np.int64]] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Material:
        """A screen on disk and a model that it is embedded with.

        Parameters
        ----------
        screen : Screen
        generator : Generator
            A bundle has the digest of its weights, which goes into the provenance.
        read : callable, optional
        embedded : tuple, optional
            The embedded cells, the embeddings and the cells' patch rows, where they have been read already.
        check : callable

        Raises
        ------
        ScreenError, BundleError
            The screen is not embedded with the model, or the two do not fit.
        """
        if embedded is None:
            cells, embeddings = screen.embeddings(generator.name)
            where = pd.Index(read_table(screen.cells_path, [schema.CELL_ID])[schema.CELL_ID])
            embedded = cells, embeddings, where.get_indexer(cells[schema.CELL_ID]).astype(np.int64)
        cells, embeddings, patch_rows = embedded
        record = screen.record
        require_fit(generator, record.channels, record.patch_size_px, embeddings.shape[1])
        digests = {"cells": screen.cells_digest()}
        if weights := str(getattr(generator, "digest", "")):
            digests["weights"] = weights
        return cls(
            cells,
            embeddings,
            generator,
            record.control,
            screen.name,
            record.pixel_size_um,
            read,
            patch_rows,
            digests,
            check,
        )

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(self.generator.channels)

    @functools.cached_property
    def ground(self) -> evidence.Ground:
        """The real cells, searchable."""
        return evidence.Ground(self.cells, self.embeddings, np.random.default_rng(SEED), self.again)

    @functools.cached_property
    def plausible(self) -> plausible.Reference | None:
        """Decoded real cells that decoded pictures are compared with; None where too few show a nucleus."""
        rows = np.random.default_rng(SEED).permutation(np.flatnonzero(schema.not_blank(self.cells)))[: plausible.N_REAL]
        real = plausible.measured(self.generator.decode(self.embeddings[rows]), self.channels, self.check)
        try:
            return plausible.Reference(real, self.channels)
        except SelectionError:
            return None

    def again(self, z: Floats) -> Floats:
        """Points decoded and encoded again, (n, d)."""
        return self.generator.encode(self.generator.decode(z))

    def images(self, rows: npt.ArrayLike) -> npt.NDArray | None:
        """Patches of embedded cells as acquired, (n, H, W, C) uint16; None where there are none to read."""
        return None if self.read is None else self.read(self.patch_rows[np.asarray(rows, dtype=np.int64)])


@dataclass(frozen=True)
class Null:
    """Paths from control cells to control cells, chosen in the way that a request chose its own ends.

    Parameters
    ----------
    draws : tuple of targets.NullDraw
    lengths, typicality : (q,) float64
        Of each.
    how : str
        How they were chosen, in words.
    n_groups : int
        How many groups of control wells they rest on that share no well, see `cytovae.explore.targets.NullDraws`.
    alike : bool
        The groups are as large as the treatment; where not, the null paths are longer than they should be.
    """

    draws: tuple[targets.NullDraw, ...]
    lengths: npt.NDArray[np.float64]
    typicality: npt.NDArray[np.float64]
    how: str
    n_groups: int
    alike: bool = True

    @property
    def n_distinct(self) -> int:
        """How many of the paths differ."""
        return len({(draw.start, draw.end) for draw in self.draws})

    @property
    def middle(self) -> targets.NullDraw:
        """The one of middle length."""
        return self.draws[int(np.argsort(self.lengths, kind="stable")[len(self.lengths) // 2])]

    def percentile(self, length: float) -> float | None:
        """How many percent of null paths are no longer; None where too few of them are distinct to say."""
        if self.n_distinct < MIN_DISTINCT:
            return None
        return float(100.0 * np.mean(self.lengths <= length))

    def p(self, length: float) -> float | None:
        """How often a control path is as long: ``(1 + n f) / (1 + n)``, f the share of null paths as long.

        n is the number of groups that share no well, since paths that do are no observations of their own: with one
        path of each this is the exact rank p. None where n is too small for a p of 0.05.
        """
        if self.n_groups < targets.MIN_GROUPS:
            return None
        return float((1.0 + self.n_groups * np.mean(self.lengths >= length)) / (1.0 + self.n_groups))


class Level(enum.StrEnum):
    """How much a path shows."""

    SHOWN = "shown"
    DOUBTFUL = "doubtful"
    NOTHING = "nothing"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """What a path shows, in one sentence.

    Parameters
    ----------
    level : Level
    sentence : str
    """

    level: Level
    sentence: str


@dataclass(frozen=True)
class HalfGap:
    """How soon a path closes half of the gap between the populations at its ends, beside what null paths do.

    Parameters
    ----------
    features : int
        See `cytovae.explore.evidence.half_gap`.
    null : (q,) float64
        The same of null paths, empty where there are none.
    """

    features: int
    null: npt.NDArray[np.float64]

    @property
    def sentence(self) -> str:
        """What null paths need."""
        if not len(self.null):
            return "There are no null paths to compare it with."
        low, high = np.quantile(self.null, [0.05, 0.95])
        return f"Control-to-control paths need {low:.0f} to {high:.0f} (90 % of {len(self.null)})."


@dataclass(frozen=True)
class Drawn:
    """A path with what stands beside it.

    Parameters
    ----------
    request : Request
    path : paths.Path
    evidence : evidence.Evidence
    start, end : targets.Choice
    start_rows, end_rows : (n,) int64
        The populations at its ends.
    relation : targets.Relation
        Whether the two cells at its ends share a plate or a batch.
    null : Null or None
        None where no null paths can be drawn; `notes` says why.
    title : str
    notes : tuple of str
        What a reader should know: how the ends were chosen, what could not be compared.
    record : dict
        The provenance.
    channels : tuple of str
    pixel_size_um : float or None
    real : (2, H, W, C) float32 or None
        The two cells at the ends as the model sees them, range [0, 1].
    near : (k, H, W, C) float32 or None
        The nearest real cell of each step.
    half_gap : HalfGap or None
        None where the steps do not move some features at a time.
    """

    request: Request
    path: paths.Path
    evidence: evidence.Evidence
    start: Choice
    end: Choice
    start_rows: Rows
    end_rows: Rows
    relation: Relation
    null: Null | None
    title: str
    notes: tuple[str, ...]
    record: dict[str, Any]
    channels: tuple[str, ...]
    pixel_size_um: float | None
    real: Floats | None = None
    near: Floats | None = None
    half_gap: HalfGap | None = None

    @property
    def usual_typicality(self) -> str:
        """What the same cosine is for null paths, in a sentence; empty where there are none."""
        if self.null is None:
            return ""
        low, high = np.quantile(self.null.typicality, [0.05, 0.95])
        return f"Control-to-control paths have {low:.2f} to {high:.2f} (90 % of {len(self.null.draws)})."

    @property
    def verdict(self) -> Verdict:
        """Whether the path shows more than two control cells would."""
        found = self.evidence
        return _verdict(self.null, found.length_percentile, found.length_p, found.typicality)


@dataclass(frozen=True)
class Sketch:
    """A path's pictures, before anything stands beside them; the names are those of `Drawn`.

    Parameters
    ----------
    own : (r,) int64
        The rows of the cells that the path passes through.
    """

    request: Request
    path: paths.Path
    own: Rows
    start: Choice
    end: Choice
    start_rows: Rows
    end_rows: Rows
    title: str
    real: Floats | None


@dataclass(frozen=True)
class Population:
    """The same path for many pairs of cells.

    Parameters
    ----------
    path : paths.PopulationPath
    cosine : DataFrame
        One row per step: ``mean``, ``low``, ``high`` (95 % interval) over the pairs, and ``gap_closed`` by the latent
        points, ``gap_closed_reencoded`` by what their images show to the model.
    curves : DataFrame
        See `cytovae.explore.morphology.population`.
    start_rows, end_rows : (n,) int64
        The cells of each pair.
    units : str
        What the intervals rest on, in words: how many different cells, of how many wells.
    """

    path: paths.PopulationPath
    cosine: pd.DataFrame
    curves: pd.DataFrame
    start_rows: Rows
    end_rows: Rows
    units: str


@dataclass(frozen=True)
class Figure:
    """How a path is shown in a file.

    Parameters
    ----------
    look : render.Look
    gamma : float
        Below 1 brightens the dark parts.
    channels : tuple of int or None
        Which to show; None: the first three, or with the look grey all of them.
    limits : tuple of (float, float) or None
        Per channel the values shown as black and as full colour; None: shared percentiles of the images shown.
    step : int
        The step that a web page opens with.
    """

    look: render.Look = render.Look.RGB
    gamma: float = 1.0
    channels: tuple[int, ...] | None = None
    limits: tuple[tuple[float, float], ...] | None = None
    step: int = 0


def channel_numbers(channels: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """The places of some channels among all, for a `Figure`.

    Raises
    ------
    ConfigError
        There is no such channel (near names are suggested), or one is named twice.
    """
    for name in names:
        if name not in channels:
            raise ConfigError(
                f"there is no channel {name!r}{did_you_mean(name, channels)}; name any of {', '.join(channels)}"
            )
    if len(set(names)) < len(names):
        raise ConfigError(f"a channel is named twice in {', '.join(names)}; name each once")
    return tuple(sorted(channels.index(name) for name in names))


def draw(material: Material, request: Request, null: Null | None = None, begun: Sketch | None = None) -> Drawn:
    """The path that was asked for.

    Parameters
    ----------
    material : Material
    request : Request
    null : Null, optional
        Of the same request, or of its `null_request`, where it has been drawn before.
    begun : Sketch, optional
        Of the same request, where it has been drawn before.

    Raises
    ------
    SelectionError, ConfigError
        A choice that is not there, or options that are out of range.
    """
    cells, embeddings = material.cells, material.embeddings
    begun = begun or sketch(material, request)
    path, start, end, start_rows, end_rows = begun.path, begun.start, begun.end, begun.start_rows, begun.end_rows
    relation = targets.relation(cells, start.row, end.row)
    notes = [f"start: {start.cell_id}, {start.how}", f"end: {end.cell_id}, {end.how}"]
    notes.append(
        f"both cells are of the {relation}" if relation == Relation.PLATE else f"the cells are of {RELATIONS[relation]}"
    )
    if null is None:
        try:
            null = null_paths(material, request)
        except SelectionError as few:
            notes.append(f"no null paths: {few}")
    behind, ahead = (targets.standing_for(rows) for rows in (start_rows, end_rows))
    if len(behind) < len(start_rows) or len(ahead) < len(end_rows):
        notes.append(f"populations of more cells are told by {targets.MOST_CELLS:,} of them, drawn at random")
    found = evidence.assess(path, material.ground, embeddings[behind], embeddings[ahead], exclude=begun.own)
    if null is not None:
        found = dataclasses.replace(found, length_percentile=null.percentile(path.length), length_p=null.p(path.length))
    if null is not None and found.length_percentile is None:
        notes.append(f"only {null.n_distinct} of {len(null.draws)} null paths are distinct, too few for a percentile")
    if material.plausible is None:
        notes.append("whether a step looks like a cell is not judged: too few decoded cells show a nucleus")
    else:
        judged = material.plausible.judge(path.frames)
        found = dataclasses.replace(found, pictures=judged)
        notes.append(judged.summary)
    near = material.images(found.nearest_rows[:, 0])
    return Drawn(
        request=request,
        path=path,
        evidence=found,
        start=start,
        end=end,
        start_rows=start_rows,
        end_rows=end_rows,
        relation=relation,
        null=null,
        title=begun.title,
        notes=(*notes, *filter(None, [material.ground.searched_words]), found.summary),
        record=record(material, request),
        channels=material.channels,
        pixel_size_um=material.pixel_size_um,
        real=begun.real,
        near=None if near is None else normalise(near),
        half_gap=_half_gap(material, path, start_rows, end_rows, null) if path.by_features else None,
    )


def sketch(material: Material, request: Request) -> Sketch:
    """The pictures that `draw` would show, at once: what it takes to judge them is not asked for.

    Raises
    ------
    SelectionError, ConfigError
        As of `draw`.
    """
    start, end, start_rows, end_rows, title = _ends(material, request)
    path, own = _path(material, request, start, end)
    images = material.images([start.row, end.row])
    real = None if images is None else normalise(images)
    return Sketch(request, path, own, start, end, start_rows, end_rows, title, real)


def _half_gap(material: Material, path: paths.Path, start_rows: Rows, end_rows: Rows, null: Null | None) -> HalfGap:
    embeddings = material.embeddings

    def some_of(rows: Rows) -> Rows:  # quantiles of many cells take long, and change little
        return rows[:: -(-len(rows) // N_MEASURED)]

    def half(z0: npt.NDArray, z1: npt.NDArray, start: Rows, end: Rows) -> int:
        return evidence.half_gap(z0, z1, embeddings[some_of(start)], embeddings[some_of(end)])

    draws = () if null is None else null.draws[:N_HALF]
    nulls = [half(embeddings[d.start], embeddings[d.end], d.start_rows, d.end_rows) for d in draws]
    return HalfGap(half(path.z[0], path.z[-1], start_rows, end_rows), np.array(nulls, dtype=np.float64))


def _verdict(null: Null | None, percentile: float | None, p: float | None, along: float | None) -> Verdict:
    """What a path shows beside null paths, by its length's percentile and p and its typicality."""
    if null is None or percentile is None or p is None:
        n = 0 if null is None else null.n_groups
        return Verdict(
            Level.UNKNOWN,
            f"Too few control wells to say how far two control cells differ ({n} group{'' if n == 1 else 's'} of wells "
            f"like the treatment's, {targets.MIN_GROUPS} needed).",
        )
    longer = "longer than all" if percentile == 100 else f"longer than {math.floor(percentile)} % of"
    compared = f"{longer} {null.n_distinct} control-to-control paths, p = {p:.2g}"
    if p > MOST_P and not null.alike:
        return Verdict(
            Level.UNKNOWN,
            "Too few control wells of as many cells to judge this pair; beside paths to less central control cells it "
            f"is {compared}.",
        )
    if p > MOST_P:
        return Verdict(Level.NOTHING, f"This pair is not shown to differ more than two control cells do ({compared}).")
    usual = float(np.quantile(null.typicality, 0.95))
    if along is not None and along < usual:
        return Verdict(
            Level.DOUBTFUL,
            "This pair differs more than two control cells do, but hardly in the treatment's own direction "
            f"(cosine {along:.2f}; control pairs reach {usual:.2f}).",
        )
    return Verdict(Level.SHOWN, f"This pair differs more than two control cells do ({compared}).")


def verdict(material: Material, request: Request, null: Null | None = None) -> Verdict:
    """The verdict that `draw` would come to, without a picture being drawn.

    Parameters
    ----------
    material, request, null
        As of `draw`.

    Raises
    ------
    SelectionError
        A choice that is not there.
    """
    start, end, *populations, _ = _ends(material, request)
    z0, z1 = (material.embeddings[row].astype(np.float64) for row in (start.row, end.row))
    if null is None:
        with contextlib.suppress(SelectionError):
            null = null_paths(material, request)
    behind, ahead = (material.embeddings[targets.standing_for(rows)] for rows in populations)
    length = float(evidence.null_lengths(material.embeddings, [start.row], [end.row])[0])
    percentile, p = (None, None) if null is None else (null.percentile(length), null.p(length))
    return _verdict(null, percentile, p, evidence.direction_cosine(z1 - z0, behind, ahead))


def ends(material: Material, request: Request) -> tuple[int, int]:
    """The rows of the cells that a request's path leads from and to."""
    start, end, *_ = _ends(material, request)
    return start.row, end.row


def record(material: Material, request: Request, **more: Any) -> dict[str, Any]:
    """The provenance of whatever is made of a request; `more` are options of what stands beside the path."""
    config = {
        "screen": material.screen,
        "bundle": material.generator.name,
        **{k: v for k, v in dataclasses.asdict(request).items() if k != "seed"},
        **more,
    }
    return provenance("interpolate", config=json.loads(json.dumps(config)), inputs=material.digests, seed=request.seed)


def null_request(request: Request) -> Request:
    """The request that stands for all whose null paths are the same: how a path goes is nothing to them."""
    return dataclasses.replace(request, steps=STEPS, mode=Mode.TOP_FEATURES, spacing=Spacing.GAIN, reverse=False)


def null_paths(material: Material, request: Request) -> Null:
    """Paths that mean nothing, their ends chosen as the request's are, `N_NULL` times.

    Where the request's end is the most central of so many cells, theirs are the most central of as many control cells;
    where it is drawn at random, or named by hand, theirs are drawn at random. The same holds for the start.

    Raises
    ------
    SelectionError
        There are no two control wells, or the request's own ends cannot be chosen.
    """
    cells, embeddings = material.cells, material.embeddings
    if request.dose_series is not None:
        like: npt.NDArray = targets.dose_series(cells, request.dose_series)[-1].rows
    else:
        like = targets.rows_of(cells, request.treatment or "")
    central = request.target == Target.MEAN or request.dose_series is not None
    if request.target.startswith(targets.SUBPOPULATION):
        central, like = True, _group(material, request).rows
    by_response = request.dose_series is None and request.target == Target.RESPONDING
    central_start = request.control == Start.AUTO
    made = targets.null_draws(
        cells,
        embeddings,
        material.control,
        like,
        N_NULL,
        request.rng("null"),
        apart=targets.relation(cells, *ends(material, request)),
        typical_end=central,
        typical_start=central_start,
        choose=functools.partial(responders.central_of, embeddings) if by_response else None,
    )
    draws = made.draws
    lengths = evidence.null_lengths(embeddings, [d.start for d in draws], [d.end for d in draws])
    typicality = np.array(
        [
            evidence.direction_cosine(
                embeddings[d.end].astype(np.float64) - embeddings[d.start],
                embeddings[d.start_rows],
                embeddings[d.end_rows],
            )
            for d in draws
        ]
    )
    n_cells = len(draws[0].end_rows)
    words = "most central cell of" if central else "cell drawn at random from"
    if by_response:
        words = "most central of the cells that lie beyond the others, of"
    from_words = "most central" if central_start else "random"
    control = material.control
    how = (
        f"from a {from_words} {control} cell to the {words} {n_cells} {control} cells of other wells"
        if n_cells > 1
        else f"from a {from_words} {control} cell to one of another well"
    )
    return Null(draws, lengths, typicality, how, made.n_groups, made.alike)


def responding(material: Material, request: Request) -> responders.Responders:
    """How many cells of a request's treatment respond.

    Raises
    ------
    SelectionError
        A dose series, or too few cells.
    """
    if request.treatment is None:
        raise SelectionError("a dose series has no share of responding cells; name a treatment")
    return responders.responders(material.cells, material.embeddings, material.control, request.treatment)


def dose_response(material: Material, compound: str) -> doses.DoseResponse:
    """How a compound's effect grows with its dose, see `cytovae.explore.doses`."""
    return doses.dose_response(material.cells, material.embeddings, material.control, compound)


def dose_record(material: Material, compound: str) -> dict[str, Any]:
    """The provenance of a compound's dose-response."""
    config = {"screen": material.screen, "bundle": material.generator.name, "compound": compound}
    return provenance("dose", config=config, inputs=material.digests)


def null_path(material: Material, request: Request, null: Null) -> paths.Path:
    """The null path of middle length, drawn as the request's own path is."""
    middle, ids = null.middle, material.cells[schema.CELL_ID]
    return paths.interpolate(
        material.embeddings[middle.start],
        material.embeddings[middle.end],
        material.generator.decode,
        material.generator.encode,
        request.steps,
        request.mode,
        request.spacing,
        str(ids.iloc[middle.start]),
        str(ids.iloc[middle.end]),
    )


def along(material: Material, drawn: Drawn) -> morphology.Along:
    """The path's measurements, against decoded cells of the populations at its ends (at most `N_MEASURED` of each).

    Raises
    ------
    SelectionError
        Fewer than two cells with a nucleus where the path starts.
    """
    tables = [
        measured(material, some(rows, drawn.request.rng("measured"))) for rows in (drawn.start_rows, drawn.end_rows)
    ]
    found = morphology.along(drawn.path.frames, material.channels, tables[0], tables[1], material.pixel_size_um)
    return dataclasses.replace(found, raw=raw_intensity(material, drawn))


def raw_intensity(material: Material, drawn: Drawn) -> pd.DataFrame | None:
    """How bright the real cells behind a path are: grey levels as acquired, and relative to controls of their plates.

    Returns
    -------
    DataFrame or None
        One row per channel: ``channel``; ``where`` (nucleus | cell) it is the mean of; ``start_grey``, ``end_grey`` of
        the two cells at the ends, in grey levels; ``start_relative``, ``end_relative``, the same divided by the mean of
        the plate's controls; ``start_population``, ``start_population_low``, ``start_population_high`` and the same of
        the end, mean of the cells' relative levels with its 95 % interval over wells (over cells where there is one
        well); ``n_start``, ``n_end`` cells; ``n_controls`` that they are relative to. Null where a plate has fewer than
        `cytovae.explore.targets.MIN_NEAR` control cells, or no nucleus is found. None where there are no patches to
        read.
    """
    if material.read is None:
        return None
    cells, channels = material.cells, material.channels
    rng = drawn.request.rng("raw")
    rows = [np.unique(np.append(some(of, rng), end.row)) for of, end in _sides(drawn)]
    everyone = targets.controls(cells, material.control)
    plates = cells[schema.PLATE].to_numpy()
    beside = {}
    for plate in sorted(set(plates[np.concatenate(rows)])):
        near = everyone[plates[everyone] == plate]
        beside[plate] = some(near, rng) if len(near) >= targets.MIN_NEAR else near[:0]
    used = np.unique(np.concatenate([*rows, *beside.values()]))
    grey = np.full((len(cells), len(channels)), np.nan)
    images = material.images(used)
    assert images is not None
    grey[used] = morphology.grey_levels(images, channels)
    out: dict[str, Any] = {"channel": list(channels)}
    dna = morphology.dna_channel(channels)
    out["where"] = ["nucleus" if c == dna else "cell" for c in range(len(channels))]
    controls = np.concatenate(list(beside.values()))
    usual = pd.DataFrame(grey[controls]).groupby(plates[controls]).mean()
    for side, mine, (_, end) in zip(("start", "end"), rows, _sides(drawn), strict=True):
        relative = grey[mine] / usual.reindex(plates[mine]).to_numpy()
        at = int(np.searchsorted(mine, end.row))
        over = pairs_interval(relative, targets.units(cells, mine))
        out |= {f"{side}_grey": grey[end.row], f"{side}_relative": relative[at]}
        out |= {f"{side}_population": over.mean, f"{side}_population_low": over.low()}
        out |= {f"{side}_population_high": over.high(), f"n_{side}": np.isfinite(relative).sum(axis=0)}
    out["n_controls"] = np.isfinite(grey[controls]).sum(axis=0)
    return pd.DataFrame(out)


def _sides(drawn: Drawn) -> tuple[tuple[Rows, Choice], tuple[Rows, Choice]]:
    return (drawn.start_rows, drawn.start), (drawn.end_rows, drawn.end)


def real_difference(material: Material, drawn: Drawn) -> tuple[pd.DataFrame, int, int] | None:
    """The same measurements of the real cells behind a path, as imaged.

    Returns
    -------
    tuple of (DataFrame, int, int) or None
        `cytovae.explore.morphology.compared` from the path's start to its end, and how many cells at either a
        nucleus was found in; None where there are no pictures to read.
    """
    tables, units = [], []
    for rows in (drawn.start_rows, drawn.end_rows):
        mine = some(rows, drawn.request.rng("measured"))
        images = material.images(mine)
        if images is None:
            return None
        table = morphology.measure(images, material.channels, material.pixel_size_um, check=material.check)
        tables.append(table)
        units.append(targets.units(material.cells, mine))
    first, second = (int(table.iloc[:, 0].notna().sum()) for table in tables)
    return morphology.compared(*tables, *units), first, second


def some(rows: Rows, rng: np.random.Generator) -> Rows:
    """At most `N_MEASURED` of the rows, drawn at random, sorted."""
    return rows if len(rows) <= N_MEASURED else np.sort(rng.choice(rows, N_MEASURED, replace=False))


def measured(material: Material, rows: Rows) -> pd.DataFrame:
    """Measurements of decoded cells, by their rows."""
    images = material.generator.decode(np.asarray(material.embeddings[rows]))
    return morphology.measure(images, material.channels, material.pixel_size_um, check=material.check)


def subpopulations(material: Material, request: Request) -> targets.Subpopulations:
    """The groups that the cells of a request's treatment fall into."""
    return targets.subpopulations(
        material.cells, material.embeddings, request.treatment or "", request.rng("subpopulations")
    )


def _group(material: Material, request: Request) -> targets.Subpopulation:
    return subpopulations(material, request).group(request.target.removeprefix(targets.SUBPOPULATION))


def population(material: Material, request: Request, n: int) -> Population:
    """The paths of `n` pairs of cells, each a control and a treated cell of the same plate, else batch.

    Raises
    ------
    SelectionError
        Unknown treatment, one of a single cell, fewer than two pairs, or a dose series.
    """
    cells, embeddings, generator = material.cells, material.embeddings, material.generator
    rng = request.rng("population")
    if request.treatment is None:
        raise SelectionError("a dose series has no population path; name a treatment")
    if request.start_treatment is None:
        starts, ends = targets.pairs(cells, request.treatment, material.control, n, rng)
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
        goal = targets.controls(cells, material.control)
    first, second = targets.units(cells, starts), targets.units(cells, ends)
    drawn = paths.population(
        embeddings[starts],
        embeddings[ends],
        generator.decode,
        request.steps,
        request.mode,
        request.spacing,
        first,
        second,
    )
    over = pairs_interval(drawn.cosine, first, second)
    mean, low, high = over.mean, over.low(), over.high()
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
    curves = morphology.population(
        drawn.frames, material.channels, material.pixel_size_um, first, second, material.check
    )
    words = " and ".join(
        f"{len(np.unique(rows))} different cells of {len(np.unique(targets.wells(cells, rows)))} wells "
        f"at the {end} of the paths"
        for rows, end in ((starts, "start"), (ends, "end"))
    )
    return Population(drawn, cosine, curves, starts, ends, words)


def document(
    drawn: Drawn,
    measured: morphology.Along | None = None,
    many: Population | None = None,
    made: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A path as one JSON document: what a program reads, with what stands beside it and the provenance."""
    out = render.document(
        drawn.path, made or drawn.record, drawn.evidence, None if measured is None else measured.steps
    )
    verdict = drawn.verdict
    out |= {
        "start": {"cell": drawn.start.cell_id, "how": drawn.start.how, "of": drawn.start.n_cells},
        "end": {"cell": drawn.end.cell_id, "how": drawn.end.how, "of": drawn.end.n_cells},
        "relation": drawn.relation.value,
        "verdict": {"level": verdict.level.value, "sentence": verdict.sentence},
        "half_gap": None
        if drawn.half_gap is None
        else {"features": drawn.half_gap.features, "null": drawn.half_gap.null.tolist()},
        "null": None
        if drawn.null is None
        else {"how": drawn.null.how, "n": len(drawn.null.draws), "n_distinct": drawn.null.n_distinct}
        | {"n_groups": drawn.null.n_groups, "groups_alike": drawn.null.alike, "p": drawn.evidence.length_p}
        | {
            f"typicality_{word}": float(np.quantile(drawn.null.typicality, q))
            for word, q in (("p05", 0.05), ("p95", 0.95))
        },
    }
    if measured is not None:
        out["changed_most"] = _records(measured.ranked)
        out["raw_intensity"] = None if measured.raw is None else _records(measured.raw)
    if many is not None:
        out["population"] = {
            "n": len(many.path.z),
            "n_start_cells": len(np.unique(many.start_rows)),
            "n_end_cells": len(np.unique(many.end_rows)),
            "units": many.units,
            "steps": _records(many.cosine),
            "morphology": _records(many.curves),
            "difference_mean": many.path.difference.mean(axis=(0, 1)).tolist(),
        }
    return out


def content(
    drawn: Drawn,
    form: Form,
    figure: Figure | None = None,
    measured: morphology.Along | None = None,
    many: Population | None = None,
    made: dict[str, Any] | None = None,
) -> bytes:
    """A path as a file's content.

    Parameters
    ----------
    drawn : Drawn
    form : Form
    figure : Figure, optional
        Of pictures.
    measured, many : optional
        What is to stand beside the path, see `along` and `population`.
    made : dict, optional
        The provenance where it says more than the request, see `record`.

    Raises
    ------
    ConfigError
        A figure that cannot be.
    """
    figure, made = figure or Figure(), made or drawn.record
    channels, bundle = drawn.channels, made["config"].get("bundle", "")
    title = f"{drawn.title} ({bundle})" if bundle else drawn.title
    if form == Form.CSV:
        steps = None if measured is None else measured.steps
        return render.csv(render.table(drawn.path, drawn.evidence, steps), made)
    if form == Form.JSON:
        return render.json_bytes(document(drawn, measured, many, made))
    shown: Sequence[npt.NDArray] = [x for x in (drawn.path.frames, drawn.real, drawn.near) if x is not None]
    limits: npt.NDArray = np.array(figure.limits) if figure.limits else render.shared_limits(np.concatenate(shown))
    if form == Form.GIF:
        return render.gif(
            drawn.path,
            channels,
            limits,
            figure.look,
            figure.gamma,
            drawn.pixel_size_um,
            title,
            ends=drawn.real,
            shown=figure.channels,
            record=made,
        )
    if form == Form.HTML:
        verdict = drawn.verdict
        return render.webpage(
            drawn.path,
            channels,
            limits,
            figure.look,
            figure.gamma,
            drawn.pixel_size_um,
            title,
            evidence=drawn.evidence,
            verdict=(verdict.level, verdict.sentence),
            notes=drawn.notes,
            nearest_images=drawn.near,
            end_images=drawn.real,
            shown=figure.channels,
            opens=figure.step,
            record=made,
        )
    rows = render.path_rows(drawn.path, drawn.evidence, drawn.near, drawn.real)
    if many is not None:
        rows += render.population_rows(many.path, channels)
    return render.strip(
        rows,
        channels,
        limits,
        figure.look,
        figure.gamma,
        drawn.pixel_size_um,
        title,
        form=form.value,
        shown=figure.channels,
        record=made,
    )


def write(
    drawn: Drawn,
    path: FilePath,
    figure: Figure | None = None,
    measured: morphology.Along | None = None,
    many: Population | None = None,
    made: dict[str, Any] | None = None,
) -> None:
    """Write a path to a file, whole; its ending says the form. The parameters are those of `content`."""
    made_of = content(drawn, Form.of(path), figure, measured, many, made)
    with whole_file(path) as beside:
        beside.write_bytes(made_of)


def there_already(path: FilePath, made: dict[str, Any]) -> bool:
    """Whether the file is there and was made just so.

    Raises
    ------
    ScreenError
        It is there and was made otherwise.
    """
    if not path.exists():
        return False
    if render.provenance_in(path.read_bytes(), path.suffix.lower()) != made:
        raise ScreenError(f"{path} is there already and was made otherwise; use --overwrite to replace it")
    return True


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows as JSON types, not-a-number as null."""
    return list(json.loads(table.to_json(orient="records", double_precision=10)))


def _ends(material: Material, request: Request) -> tuple[Choice, Choice, Rows, Rows, str]:
    cells, embeddings, control = material.cells, material.embeddings, material.control
    if request.dose_series is not None:
        if request.dose_series == control:
            raise SelectionError(f"{control!r} is the control itself; name a compound with doses")
        highest = targets.dose_series(cells, request.dose_series)[-1]
        end = targets.typical(cells, embeddings, highest.rows, schema.words(highest.treatment))
        end_rows, to = highest.rows, f"{request.dose_series}, every dose"
    else:
        assert request.treatment is not None
        if request.target.startswith(targets.SUBPOPULATION):
            end = _group(material, request).exemplar
        elif request.target == Target.RESPONDING:
            end = responders.central_responder(cells, embeddings, control, request.treatment)
        else:
            end = targets.chosen(cells, embeddings, request.treatment, request.target, request.rng("target"))
        end_rows, to = targets.rows_of(cells, request.treatment), schema.words(request.treatment)
    if request.start_treatment is not None:
        start_rows = targets.rows_of(cells, request.start_treatment)
        source = schema.words(request.start_treatment)
        start = targets.treated(cells, embeddings, request.start_treatment)
    else:
        (start_rows, where), source = targets.controls_near(cells, control, end.row), control
        if request.control == Start.AUTO:
            start = targets.typical(cells, embeddings, start_rows, f"the {control} cells {where}")
        elif request.control == Start.RANDOM:
            start = targets.random_control(cells, control, request.rng("control"), like=end.row)
        else:
            start = targets.by_hand(cells, request.control)
    if request.reverse:
        return end, start, end_rows, start_rows, f"{to} back to {source}"
    return start, end, start_rows, end_rows, f"{source} to {to}"


def _path(material: Material, request: Request, start: Choice, end: Choice) -> tuple[paths.Path, Rows]:
    """The decoded path, and the rows of the cells that it passes through."""
    cells, embeddings, generator = material.cells, material.embeddings, material.generator
    if request.dose_series is None:
        drawn = paths.interpolate(
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
        return drawn, np.array([start.row, end.row])
    doses = targets.dose_series(cells, request.dose_series)
    rows = [targets.closest_to_mean(embeddings, targets.standing_for(dose.rows)) for dose in doses]
    series = paths.series(
        embeddings[start.row],
        embeddings[rows],
        generator.decode,
        generator.encode,
        [material.control, *(f"{dose.concentration:g} µM" for dose in doses)],
        start.cell_id,
        str(cells[schema.CELL_ID].iloc[rows[-1]]),
    )
    return series, np.array([start.row, *rows])
