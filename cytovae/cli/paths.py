"""The verb that draws one path between cells: `interpolate`."""

from __future__ import annotations

import dataclasses
import enum
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cytovae import schema
from cytovae.cli import console
from cytovae.errors import ScreenError
from cytovae.screen import Screen, provenance, whole_file

FORMATS = (".png", ".svg", ".gif", ".csv", ".json")


class Mode(enum.StrEnum):
    """How to go from one cell to the other."""

    top_features = "top-features"
    linear = "linear"
    spherical = "spherical"


class Spacing(enum.StrEnum):
    """Equal counts of features per step, or an equal gain in cosine similarity."""

    by_count = "count"
    by_gain = "gain"


class Look(enum.StrEnum):
    """Colours of the channels."""

    rgb = "rgb"
    mgc = "mgc"
    grey = "grey"


@console.app.command()
def interpolate(
    screen: Annotated[Path, typer.Argument(help="The screen's folder, embedded with the bundle.")],
    bundle: Annotated[str, typer.Argument(help="A model bundle: its folder, or the name of a shipped one.")],
    treatment: Annotated[
        str | None, typer.Option(help="Where the path leads: compound@concentration (uM), such as 'taxol@0.3'.")
    ] = None,
    target: Annotated[
        str, typer.Option(help="Which of its cells: mean (closest to it), subpopulation:K, random, or a cell id.")
    ] = "mean",
    control: Annotated[
        str, typer.Option(help="The cell it starts from: auto (typical of the target's plate), random, or a cell id.")
    ] = "auto",
    start_treatment: Annotated[
        str | None, typer.Option("--from", help="Start from this treatment's typical cell instead of a control.")
    ] = None,
    dose_series: Annotated[
        str | None, typer.Option(help="A compound: the control and one cell per concentration, instead of a path.")
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="From the target back to the start.")] = False,
    steps: Annotated[int, typer.Option(min=2, max=64, help="Images, both ends among them.")] = 10,
    mode: Annotated[Mode, typer.Option(help="How to go; top-features is the paper's.")] = Mode.top_features,
    spacing: Annotated[Spacing, typer.Option(help="Of the steps.")] = Spacing.by_count,
    morphology: Annotated[
        bool, typer.Option("--morphology", help="Measure every step, and the cells behind it (a few seconds).")
    ] = False,
    population: Annotated[
        int, typer.Option(min=0, max=1000, help="Add the paths of N controls paired with N treated cells (2 or more).")
    ] = 0,
    look: Annotated[Look, typer.Option(help="rgb; mgc: magenta, green, cyan; grey: each channel alone.")] = Look.rgb,
    gamma: Annotated[float, typer.Option(min=0.05, max=20.0, help="Below 1 brightens the dark parts.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn at random.")] = 0,
    out: Annotated[Path | None, typer.Option(help=f"A file to write: {', '.join(FORMATS)}.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The path as one JSON document on stdout.")] = False,
) -> None:
    """Draw a path between two cells, with its evidence."""
    suffix = "" if out is None else out.suffix.lower()
    if out is None and not as_json:
        raise typer.BadParameter(f"name a file ending in {', '.join(FORMATS)}, or use --json", param_hint="--out")
    if out is not None and suffix not in FORMATS:
        raise typer.BadParameter(f"{out.name!r} ends in none of {', '.join(FORMATS)}", param_hint="--out")
    if (treatment is None) == (dose_series is None):
        raise typer.BadParameter("name a treatment to lead to, or else a --dose-series", param_hint="--treatment")
    if dose_series is not None and (start_treatment or reverse or population):
        raise typer.BadParameter("leave out --from, --reverse and --population with it", param_hint="--dose-series")
    if start_treatment is not None and control != "auto":
        raise typer.BadParameter("leave out --control with it", param_hint="--from")
    import numpy as np

    from cytovae.explore import render, study
    from cytovae.explore.generator import require_fit
    from cytovae.learn import bundle as bundles
    from cytovae.patches import PatchStore, normalise

    opened = Screen.open(screen)
    model = bundles.load(bundles.locate(bundle, bundles.models_dir()))
    cells, embeddings = opened.embeddings(model.name)
    require_fit(model, opened.record.channels, opened.record.patch_size_px, embeddings.shape[1])
    request = study.Request(
        treatment, target, control, start_treatment, dose_series, reverse, steps, mode.value, spacing.value
    )
    config = {
        "screen": opened.name,
        "bundle": model.name,
        **dataclasses.asdict(request),
        "morphology": morphology,
        "population": population,
        "look": look.value,
        "gamma": gamma,
    }
    inputs = {"cells": opened.cells_digest(), "weights": model.digest}
    record = provenance("interpolate", config=config, inputs=inputs, seed=seed)
    write = out is not None and (overwrite or not out.exists())
    if out is not None and not write:
        if render.provenance_in(out.read_bytes(), suffix) != record:
            raise ScreenError(f"{out} is there already and was made otherwise; use --overwrite to replace it")
        console.say(f"{out} is there already, made with the same options; --overwrite makes it again")
        if not as_json:
            return

    rng = np.random.default_rng(seed)
    control_name, channels, pixel_um = opened.record.control, opened.record.channels, opened.record.pixel_size_um
    drawn = study.draw(cells, embeddings, model, control_name, request, rng)
    for note in drawn.notes:
        console.say(note)
    positions = opened.cells().reset_index(names="row").set_index(schema.CELL_ID)["row"]
    wanted = [drawn.start.cell_id, drawn.end.cell_id, *drawn.evidence.nearest_ids[:, 0]]
    real = normalise(PatchStore(opened.patches_path).read(positions.loc[wanted].to_numpy()))
    rows = render.path_rows(drawn.path, drawn.evidence, real[2:], real[:2])
    measured = None
    more: dict[str, Any] = {}
    if morphology:
        along = study.morphology_along(drawn, embeddings, model, pixel_um, rng)
        measured, more["changed_most"] = along.steps, _records(along.ranked)
    if population:
        many = study.population(cells, embeddings, model, control_name, request, population, pixel_um, rng)
        rows += render.population_rows(many.path, channels)
        more["population"] = {
            "n": population,
            "steps": _records(many.cosine),
            "morphology": _records(many.curves),
            "difference_mean": many.path.difference.mean(axis=(0, 1)).tolist(),
        }
    document = {**render.document(drawn.path, record, drawn.evidence, measured), **more}
    if out is not None and write:
        limits = render.shared_limits(np.concatenate([row.images for row in rows if row.images.dtype != np.uint8]))
        title = f"{drawn.title} ({model.name})"
        if suffix in (".png", ".svg"):
            content = render.strip(rows, channels, limits, look, gamma, pixel_um, title, form=suffix[1:], record=record)
        elif suffix == ".gif":
            content = render.gif(drawn.path, channels, limits, look, gamma, pixel_um, record=record)
        elif suffix == ".csv":
            content = render.csv(render.table(drawn.path, drawn.evidence, measured), record)
        else:
            content = render.json_bytes(document)
        with whole_file(out) as beside:
            beside.write_bytes(content)
    path = drawn.path
    console.emit(
        document,
        as_json,
        f"{out}: {path.steps} steps, cosine {path.cosine[0]:.2f} to {path.cosine[-1]:.2f}, "
        f"of the decoded images {path.cosine_reencoded[0]:.2f} to {path.cosine_reencoded[-1]:.2f}",
    )


def _records(table: Any) -> list[dict[str, Any]]:
    """A table's rows as JSON types, not-a-number as null."""
    return list(json.loads(table.to_json(orient="records", double_precision=10)))
