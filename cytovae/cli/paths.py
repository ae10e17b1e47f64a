"""The verb that draws one path between cells: `interpolate`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from cytovae.cli import console
from cytovae.errors import ConfigError
from cytovae.explore import study
from cytovae.explore.paths import MAX_STEPS, MIN_STEPS, Mode, Spacing
from cytovae.explore.render import Look
from cytovae.explore.study import Form, Request
from cytovae.explore.targets import Start, Target
from cytovae.screen import Screen

ENDINGS = ", ".join(f".{form}" for form in Form)


@console.app.command()
def interpolate(
    screen: Annotated[Path, typer.Argument(help="The screen's folder, embedded with the bundle.")],
    bundle: Annotated[
        str | None, typer.Argument(help="A model bundle: its folder, or the name of a shipped one.")
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(help="Instead of a bundle: package.module:factory, which gives a generator of your own."),
    ] = None,
    treatment: Annotated[
        str | None, typer.Option(help="Where the path leads: compound@concentration (µM), such as 'taxol@0.3'.")
    ] = None,
    target: Annotated[
        str, typer.Option(help=f"Which of its cells: {', '.join(Target)}, subpopulation:K, or a cell id.")
    ] = Target.MEAN,
    control: Annotated[
        str, typer.Option(help="The cell it starts from: auto (most central of the target's plate), random, or an id.")
    ] = Start.AUTO,
    start_treatment: Annotated[
        str | None, typer.Option("--from", help="Start from this treatment's most central cell instead of a control.")
    ] = None,
    dose_series: Annotated[
        str | None, typer.Option(help="A compound: the control and one cell per concentration, instead of a path.")
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="From the target back to the start.")] = False,
    steps: Annotated[
        int, typer.Option(min=MIN_STEPS, max=MAX_STEPS, help="Images, both ends among them.")
    ] = study.STEPS,
    mode: Annotated[Mode, typer.Option(help="; ".join(f"{mode}: {mode.words}" for mode in Mode))] = Mode.TOP_FEATURES,
    spacing: Annotated[
        Spacing, typer.Option(help="Steps of " + "; ".join(f"{spacing}: {spacing.words}" for spacing in Spacing))
    ] = Spacing.GAIN,
    morphology: Annotated[
        bool, typer.Option("--morphology", help="Measure every step, and the cells behind it (a few seconds).")
    ] = False,
    population: Annotated[
        int, typer.Option(min=0, max=1000, help="Add the paths of N controls paired with N treated cells (2 or more).")
    ] = 0,
    look: Annotated[Look, typer.Option(help="; ".join(f"{look}: {look.words}" for look in Look))] = Look.RGB,
    channels: Annotated[
        str | None, typer.Option(help="Channels to show, such as DNA,Actin; without it the first three, in grey all.")
    ] = None,
    gamma: Annotated[float, typer.Option(min=0.05, max=20.0, help="Below 1 brightens the dark parts.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn at random.")] = study.SEED,
    out: Annotated[Path | None, typer.Option(help=f"A file to write: {ENDINGS}.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Draw a path between two cells, with its evidence."""
    named = generator or bundle
    if named is None or (generator and bundle):
        raise typer.BadParameter("name a bundle, or a generator of your own; one of the two", param_hint="--generator")
    if generator and ":" not in generator:
        raise typer.BadParameter(f"write package.module:factory, not {generator!r}", param_hint="--generator")
    if out is None and not as_json:
        raise typer.BadParameter(f"name a file ending in {ENDINGS}, or use --json", param_hint="--out")
    if dose_series is not None and population:
        raise typer.BadParameter("leave out --population with it", param_hint="--dose-series")
    try:
        if out is not None:
            Form.of(out)
        request = Request(treatment, target, control, start_treatment, dose_series, reverse, steps, mode, spacing, seed)
    except ConfigError as wrong:
        raise typer.BadParameter(str(wrong)) from None
    from cytovae.learn.generators import open_model
    from cytovae.patches import PatchStore
    from cytovae.profiling.study import inactive

    opened = Screen.open(screen)
    model = open_model(named)
    material = study.Material.of(opened, model, PatchStore(opened.patches_path).read)
    names = None if channels is None else [name.strip() for name in channels.split(",")]
    numbers = None if names is None else study.channel_numbers(material.channels, names)
    shown: dict[str, object] = {"morphology": morphology, "population": population, "look": look.value, "gamma": gamma}
    if names is not None:
        shown["channels"] = names
    made = study.record(material, request, **shown)
    if out is not None and not overwrite and study.there_already(out, made):
        console.already(out)
        if not as_json:
            return
        out = None
    drawn = study.draw(material, request)
    said = inactive(opened, model.name, treatment) if treatment else ""
    for note in filter(None, (said, drawn.verdict.sentence, *drawn.notes)):
        console.say(note)
    if said:
        drawn = dataclasses.replace(drawn, notes=(said, *drawn.notes))
    measured = study.along(material, drawn) if morphology else None
    many = study.population(material, request, population) if population else None
    if out is not None:
        study.write(drawn, out, study.Figure(look, gamma, numbers), measured, many, made)
    path = drawn.path
    console.emit(
        study.document(drawn, measured, many, made) if as_json else {},
        as_json,
        f"{out}: {path.steps} steps, cosine {path.cosine[0]:.2f} to {path.cosine[-1]:.2f}, "
        f"of the decoded images {path.cosine_reencoded[0]:.2f} to {path.cosine_reencoded[-1]:.2f}",
    )
