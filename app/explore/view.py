"""Choices on the Explore page -> a path with its evidence: the loaders joined with ``cytovae.explore``, cached."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.common import galleries, loaders, pixels
from app.common.pixels import Pictures
from app.common.words import begun
from cytovae import schema
from cytovae.errors import SelectionError
from cytovae.explore import evidence, likeness, morphology, paths, study, targets
from cytovae.explore.study import Drawn, Level, Material, Request
from cytovae.explore.targets import Start, Target
from cytovae.profiling import activity
from cytovae.screen import Screen

GUIDE = (
    "Watch a control cell become a treated one.",
    "Choose a treatment above.",
    "Press ▶, or drag the slider under the strip.",
    "Read the coloured sentence: is this more than two control cells differ?",
)
"""What a first visit is told: a sentence, then three hints."""
STEPS = [str(n) for n in (study.STEPS, 5, 7, 15, 20, 30)]
"""What the page offers; the first is the default."""
TRIED = 6
"""Treatments that are looked at, at most, for the one to open with."""


@dataclass(frozen=True)
class View:
    """A path as the page shows it.

    Parameters
    ----------
    study : Drawn
    request : Request
    cells : DataFrame
        The embedded cells, in the order of the embeddings.
    frame_ids : tuple of str
        The cell that each frame is the decoded picture of; an empty word between two cells.
    """

    study: Drawn
    request: Request
    cells: pd.DataFrame
    frame_ids: tuple[str, ...]


@loaders.cached(4)
def material(screen: Screen, model: str) -> Material:
    """The screen as the model sees it."""
    read = functools.partial(loaders.patches, screen)
    return Material.of(screen, loaders.bundle(model), read, loaders.embeddings(screen, model), loaders.checkpoint)


@loaders.cached(48)
def sketch(screen: Screen, model: str, request: Request) -> study.Sketch:
    """The pictures of the path that was asked for.

    Raises
    ------
    SelectionError, ConfigError, BundleError, ScreenError
        As of `view`.
    """
    return study.sketch(material(screen, model), request)


@loaders.cached(256)
def _null(screen: Screen, model: str, request: Request) -> study.Null | None:
    with contextlib.suppress(SelectionError):
        return study.null_paths(material(screen, model), request)
    return None


def null(screen: Screen, model: str, request: Request) -> study.Null | None:
    """The null paths of a request, which those of its treatment and ends share; None where there are none."""
    return _null(screen, model, study.null_request(request))


@loaders.cached(48)
def view(screen: Screen, model: str, request: Request) -> View:
    """The path that was asked for with everything that stands beside it.

    Raises
    ------
    SelectionError, ConfigError, BundleError, ScreenError
        A choice that is not there, or a model that does not fit.
    """
    made = material(screen, model)
    begun = sketch(screen, model, request)
    drawn = study.draw(made, request, null(screen, model, request), begun)
    ids = [""] * drawn.path.steps
    ids[0], ids[-1] = drawn.start.cell_id, drawn.end.cell_id
    if request.dose_series is not None:
        doses = targets.dose_series(made.cells, request.dose_series)
        rows = [targets.closest_to_mean(made.embeddings, dose.rows) for dose in doses]
        ids[1:] = made.cells[schema.CELL_ID].iloc[rows].astype(str)
    return View(drawn, request, made.cells, tuple(ids))


def sketch_or_typical(screen: Screen, model: str, request: Request) -> tuple[study.Sketch, str]:
    """The pictures of the path that was asked for; where a cell that it names is not there, of the path from or to the
    usual one instead, and a sentence that says so.

    Raises
    ------
    SelectionError
        The treatment cannot be shown whatever the cells.
    """
    try:
        return sketch(screen, model, request), ""
    except SelectionError as unknown:
        said = str(unknown)
        start, end = {"control": Start.AUTO}, {"target": Target.MEAN}
        for other in (start, end, start | end):
            usual = dataclasses.replace(request, **other)
            if usual == request:
                continue
            try:
                drawn = sketch(screen, model, usual)
            except SelectionError:
                continue
            cells = "the most central cells" if len(other) > 1 else "the most central cell"
            return drawn, f"{begun(said)}. Showing {cells} instead."
        raise


@loaders.cached(16)
def strongest(screen: Screen, model: str) -> tuple[str, ...]:
    """Treatments, the active ones where that is known, by how surely they lead away from the controls.

    That is the distance of the mean of their cells from the mean of the controls, in standard errors of the former: a
    few cells far off do not come before many that all moved.
    """
    made = material(screen, model)
    cells, z = made.cells, made.embeddings
    control = (cells[schema.COMPOUND] == screen.record.control).to_numpy()
    if not control.any():
        return ()
    centre = z[control].mean(axis=0)
    groups = cells.reset_index(drop=True).groupby(schema.TREATMENT, observed=True).indices
    far = {}
    for name, rows in groups.items():
        if len(rows) > 1 and not control[rows].any():
            error = float(np.sqrt(z[rows].var(axis=0, ddof=1).sum() / len(rows)))
            far[str(name)] = float(np.linalg.norm(z[rows].mean(axis=0) - centre)) / max(error, 1e-9)
    known = loaders.activity(screen, model)
    if known is not None:
        active = set(known.index[known["active"].fillna(False).astype(bool)])
        far = {name: distance for name, distance in far.items() if name in active} or far
    return tuple(sorted(far, key=lambda name: -far[name]))


@loaders.cached(8)
def judgeable(screen: Screen, model: str) -> frozenset[str]:
    """Treatments that the screen has enough control wells for to say how far two control cells differ."""
    return frozenset(targets.judgeable(material(screen, model).cells, screen.record.control))


@loaders.cached(256)
def verdict(screen: Screen, model: str, request: Request) -> study.Verdict:
    """What a path shows, without its pictures."""
    return study.verdict(material(screen, model), request, null(screen, model, request))


@loaders.cached(16)
def opening(screen: Screen, model: str) -> str | None:
    """The treatment to open with: the first whose path shows more than control cells differ among themselves, of the
    `TRIED` `strongest` that can be judged, then of as many others; else the strongest; None where none can be compared.
    """
    names, possible = strongest(screen, model), judgeable(screen, model)
    for group in ([name for name in names if (name in possible) == fit] for fit in (True, False)):
        for name in group[:TRIED]:
            with contextlib.suppress(SelectionError):
                request = Request(treatment=name, target=usual_target(screen, model, name))
                if verdict(screen, model, request).level == Level.SHOWN:
                    return name
    return names[0] if names else None


def by_typicality(made: Material, rows: targets.Rows, chosen: Sequence[str]) -> pd.DataFrame:
    """Cells, the chosen ones first, then those closest to the mean of all."""
    z = made.embeddings[rows]
    order = np.argsort(((z - z.mean(axis=0)) ** 2).sum(axis=1), kind="stable")
    table = made.cells.iloc[rows[order]]
    return pd.concat([table[table[schema.CELL_ID].isin(chosen)], table[~table[schema.CELL_ID].isin(chosen)]])


@loaders.cached(8)
def exemplars(screen: Screen, model: str) -> dict[str, str]:
    """The most central cell of each treatment, by treatment: cell ids."""
    made = material(screen, model)
    groups = made.cells.reset_index(drop=True).groupby(schema.TREATMENT, observed=True).indices
    usable = schema.not_blank(made.cells)
    of = {str(name): np.asarray(rows, dtype=np.int64) for name, rows in groups.items()}
    found = {name: targets.standing_for(rows[usable[rows]]) for name, rows in of.items()}
    ids = made.cells[schema.CELL_ID].to_numpy()
    return {name: str(ids[targets.closest_to_mean(made.embeddings, rows)]) for name, rows in found.items() if len(rows)}


@loaders.cached(8)
def examples(screen: Screen, model: str, n: int = 6) -> list[str]:
    """The `strongest` treatment of each of so many mechanisms."""
    moas = loaders.treatments(screen).set_index(schema.TREATMENT)[schema.MOA]
    first: dict[str, str] = {}
    for name in strongest(screen, model):
        first.setdefault(str(moas[name]), name)
    return list(first.values())[:n]


@loaders.cached(256)
def usual_target(screen: Screen, model: str, treatment: str) -> Target:
    """The cell that a treatment opens with: the most central of those that respond, where control cells can be chosen
    alike to compare with; else the most central of all.
    """
    if treatment in judgeable(screen, model):
        request = Request(treatment=treatment, target=Target.RESPONDING)
        with contextlib.suppress(SelectionError):
            if verdict(screen, model, request).level != Level.UNKNOWN:
                return Target.RESPONDING
    return Target.MEAN


@loaders.cached(64, "Looking for groups among the treatment's cells")
def subpopulations(screen: Screen, model: str, request: Request) -> targets.Subpopulations:
    """The groups that the cells of a request's treatment fall into."""
    return study.subpopulations(material(screen, model), request)


@loaders.cached(32, "Measuring the path")
def along(screen: Screen, model: str, request: Request) -> morphology.Along:
    """The path's measurements beside decoded cells of the populations at its ends."""
    return study.along(material(screen, model), view(screen, model, request).study)


@loaders.cached(32, "Measuring the real cells")
def real_difference(screen: Screen, model: str, request: Request) -> tuple[pd.DataFrame, int, int] | None:
    """What the real cells behind the path differ by."""
    return study.real_difference(material(screen, model), view(screen, model, request).study)


@loaders.cached(32, "Measuring brightness")
def raw_intensity(screen: Screen, model: str, request: Request) -> pd.DataFrame | None:
    """How bright the real cells behind the path are, as acquired."""
    return study.raw_intensity(material(screen, model), view(screen, model, request).study)


@loaders.cached(4)
def displaced(screen: Screen, model: str) -> npt.NDArray[np.float32]:
    """Every cell's way from the controls near it."""
    made = material(screen, model)
    return likeness.displacements(made.cells, made.embeddings, screen.record.control)


@loaders.cached(64, "Comparing with every treatment")
def alike(screen: Screen, model: str, rows: tuple[int, ...]) -> likeness.Likeness:
    """The treatments that look most like some of the embedded cells."""
    cells = material(screen, model).cells
    rng = np.random.default_rng(study.SEED)
    return likeness.alike(cells, displaced(screen, model), screen.record.control, rows, rng)


@loaders.cached(16, "Drawing the paths of many cells")
def population(screen: Screen, model: str, request: Request, n: int) -> study.Population:
    """The same path for n pairs of cells."""
    return study.population(material(screen, model), request, n)


@loaders.cached(16)
def null_path(screen: Screen, model: str, request: Request) -> paths.Path | None:
    """A control-to-control path of middle length, drawn as the request's own path is; None where there is none."""
    null = view(screen, model, request).study.null
    return None if null is None else study.null_path(material(screen, model), request, null)


def veiled_path(screen: Screen, path: paths.Path) -> paths.Path:
    """A path whose ends, the decoded pictures of two cells, are black while those lie in unfinished quizzes."""
    ids = [path.control_id, *[""] * (path.steps - 2), path.target_id]
    return dataclasses.replace(path, frames=pixels.veil(screen, ids, path.frames).images)


def veiled(screen: Screen, shown: View) -> Drawn:
    """The path as anyone may see it: what shows a cell of an unfinished quiz is black."""
    drawn = shown.study
    assert drawn.real is not None and drawn.near is not None
    frames = pixels.veil(screen, shown.frame_ids, drawn.path.frames)
    return dataclasses.replace(
        drawn,
        path=dataclasses.replace(drawn.path, frames=frames.images),
        real=pixels.veil(screen, [drawn.start.cell_id, drawn.end.cell_id], drawn.real).images,
        near=pixels.veil(screen, drawn.evidence.nearest_ids[:, 0], drawn.near).images,
    )


def beside(screen: Screen, model: str, shown: View, treatment: str) -> View:
    """The path of another treatment, from the same cell in the same way."""
    request = shown.request
    start = Start.AUTO if request.start_treatment else shown.study.start.cell_id
    target = usual_target(screen, model, treatment)
    return view(screen, model, dataclasses.replace(request, treatment=treatment, target=target, control=start))


def same_direction(screen: Screen, model: str, one: str, two: str) -> float:
    """Cosine between the mean ways of two treatments from the controls near their cells."""
    cells, ways = material(screen, model).cells, displaced(screen, model)
    a, b = (ways[targets.rows_of(cells, name)].astype(np.float64).mean(axis=0) for name in (one, two))
    return float(paths.cosine_similarity(a, b))


def notes(shown: View) -> list[str]:
    """What stands under the path, its two cells by their short names."""
    names = {end.cell_id: galleries.short(shown.cells.iloc[end.row]) for end in (shown.study.start, shown.study.end)}
    said = list(shown.study.notes)
    for cell_id, name in names.items():
        said = [note.replace(cell_id, name) for note in said]
    return said


def below_zero(shown: View) -> list[str]:
    """Where the model draws less than nothing, which is shown as black; empty below one pixel value in a hundred."""
    share = float((shown.study.path.frames < -0.02).mean())
    if share < 0.01:
        return []
    return [f"{share:.0%} of the values that the model draws on this path are below zero and shown as black"]


def doses(shown: View) -> str:
    """The compound of the view's treatment, if it has several doses.

    Raises
    ------
    SelectionError
        There is one dose.
    """
    compound = targets.series_of(shown.cells, shown.request.treatment or "")
    found = targets.dose_series(shown.cells, compound)
    if len(found) < 2:
        raise SelectionError(
            f"{compound} was used at one concentration ({found[0].concentration:g} µM); choose a compound with several "
            "to see a dose series"
        )
    return compound


def describe(cells: pd.DataFrame, row: int) -> str:
    """A cell in one line: treatment, plate, well and number."""
    cell = cells.iloc[row]
    return f"{loaders.named(str(cell[schema.TREATMENT]))} · {galleries.short(cell)}"


def player_data(screen: Screen, shown: View) -> tuple[dict[str, Any], Pictures]:
    """What the path player takes: captions; and the start, the frames, the end, then the nearest real cells."""
    header, pictures = _strip(screen, shown.cells, shown.study, shown.frame_ids)
    judged, near = evidence_data(screen, shown)
    first = len(pictures)
    for frame, more in zip(header["frames"], judged["frames"], strict=True):
        frame |= more | {"nearest": {**more["nearest"], "image": first + more["nearest"]["image"]}}
    return header, pictures + near


def evidence_data(screen: Screen, shown: View) -> tuple[dict[str, Any], Pictures]:
    """What stands beside the pictures of a path that the player has already; and the nearest real cells."""
    drawn, support = shown.study, shown.study.evidence
    assert drawn.near is not None
    moas = shown.cells[schema.MOA].iloc[support.nearest_rows[:, 0]]
    frames = [
        {
            "off": bool(support.off_data[i]),
            "why": f"unlike any real cell: only {100 * support.rarity[i]:.1f} % of real cells are as strange",
            "odd": "" if support.pictures is None else str(support.pictures.why[i]),
            "nearest": {
                "image": i,
                "cell_id": str(support.nearest_ids[i, 0]),
                "treatment": loaders.named(str(support.nearest_treatments[i, 0])),
                "moa": str(moa),
                "distance": float(support.nearest_distances[i, 0]),
            },
        }
        for i, moa in enumerate(moas)
    ]
    pictures = pixels.veil(screen, support.nearest_ids[:, 0], drawn.near)
    return {"path": _path_id(drawn.path), "frames": frames}, pictures


def sketch_data(screen: Screen, model: str, drawn: study.Sketch) -> tuple[dict[str, Any], Pictures]:
    """What the path player takes of a path that nothing stands beside yet: `evidence_data` follows."""
    ids = (drawn.start.cell_id, *[""] * (drawn.path.steps - 2), drawn.end.cell_id)
    header, pictures = _strip(screen, material(screen, model).cells, drawn, ids)
    return {**header, "path": _path_id(drawn.path), "waits": True}, pictures


def _path_id(path: paths.Path) -> str:
    return hashlib.sha256(np.ascontiguousarray(path.z).tobytes()).hexdigest()[:16]


def _strip(
    screen: Screen, cells: pd.DataFrame, drawn: Drawn | study.Sketch, frame_ids: tuple[str, ...]
) -> tuple[dict[str, Any], Pictures]:
    path = drawn.path
    frames = [
        {
            "label": "" if path.by_features else path.captions[i],
            "n_features": int(path.n_features[i]),
            "cosine": float(path.cosine[i]),
            "cosine_reencoded": float(path.cosine_reencoded[i]),
        }
        for i in range(path.steps)
    ]
    words = []
    for choice, treated in ((drawn.start, drawn.request.reverse), (drawn.end, not drawn.request.reverse)):
        untreated = cells[schema.COMPOUND].iloc[choice.row] == screen.record.control
        kind = "control" if untreated else ("target" if treated else "start")
        hidden = " (black: in an unfinished quiz)" if choice.cell_id in loaders.in_play(screen) else ""
        words.append({"title": f"Real {kind} cell{hidden}", "text": describe(cells, choice.row)})
    header = {
        "channels": list(screen.record.channels),
        "pixel_size_um": screen.record.pixel_size_um,
        "n_features": int(path.z.shape[1]),
        "along": "features changed" if path.by_features else "dose" if path.labels else "of the way",
        "guide": GUIDE,
        "control": words[0],
        "target": words[1],
        "frames": frames,
    }
    assert drawn.real is not None
    real = pixels.veil(screen, [drawn.start.cell_id, drawn.end.cell_id], drawn.real)
    return header, real[:1] + pixels.veil(screen, frame_ids, path.frames) + real[1:]


def figures_of(shown: View) -> list[tuple[str, str, str]]:
    """How far the path can be believed: name, figure, and what it means."""
    support, path = shown.study.evidence, shown.study.path
    off = int(support.off_data.sum())
    said = [
        (
            "Steps unlike any real cell",
            f"{off} of {path.steps}",
            "A step is unlike any real cell where its features are combined more strangely than those of "
            f"{evidence.OFF_DATA_PERCENTILE:g} % of real cells: farther from every real cell, larger, or "
            f"decoded into something else. {evidence.MISSES}",
        )
    ]
    if support.length_percentile is not None:
        said.append(
            (
                "Larger than control-to-control variation",
                f"{support.length_percentile:.0f} %",
                "Share of paths from one control cell to another that are no longer. Below 95 % the two cells differ "
                "no more than controls do.",
            )
        )
    if support.typicality is not None and np.isfinite(support.typicality):
        said.append(
            (
                "In the treatment's own direction",
                f"{support.typicality:.2f}",
                "Cosine between this pair's difference and the difference of the two populations' means: near 1 the "
                f"pair shows what the treatment does, near 0 it shows two individuals. {shown.study.usual_typicality}",
            )
        )
    if half := shown.study.half_gap:
        said.append(
            (
                "Features needed to close half of the difference",
                f"{half.features} of {path.z.shape[1]}",
                "Features, largest difference first, that close half of the distance between the two populations. Few: "
                f"the first steps hold what the treatment does. {half.sentence}",
            )
        )
    return said


def tested(screen: Screen, model: str, treatment: str) -> list[str]:
    """What the treatment's activity rests on, where it is by cells: wells that differ are not in its null."""
    known = loaders.activity(screen, model)
    if known is None or treatment not in known.index:
        return []
    row = known.loc[treatment]
    if row["reason"] or row["unit"] != activity.Unit.cells:
        return []
    return [f"activity is by {activity.counted(row.to_dict())}"]


def readable(model: str) -> list[str]:
    """Down to what size the model's pictures follow the cell, as measured on cells it was not trained on."""
    measured = loaders.bundle(model).metrics
    if "readable_px" not in measured:
        return []
    size, n = measured["readable_px"], f"measured on {measured['n_cells']:,} cells"
    if size is None:
        return [f"decoded pictures follow the cell at no size ({n})"]
    return [f"decoded pictures follow the cell down to about {size:.0f} px; finer texture is the model's own ({n})"]
