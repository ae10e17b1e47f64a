"""Verbs that turn embeddings into profiles, and profiles into answers: `profile`, `benchmark`, `activity`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cytovae.cli import console
from cytovae.errors import ScreenError
from cytovae.profiling import report
from cytovae.profiling.profiles import Summary
from cytovae.profiling.whiten import FewControls, Options, Whitening
from cytovae.screen import Screen

BundlesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Models by name or folder; every model the screen is embedded with where none is given."),
]
RegularisationOption = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="Shrinkage of the controls' covariance; estimated (Ledoit-Wolf) unless given."),
]
FewOption = Annotated[
    FewControls,
    typer.Option(
        help="Where there are no more controls than dimensions: refuse; pool the batch's, then the screen's; or "
        "shrink. Not for tvn."
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of all randomness.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Make again what is already there.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def bundle_names(screen: Screen, bundles: list[str] | None) -> list[str]:
    """Names of the models meant; a folder stands for its name."""
    names = [Path(bundle).name for bundle in bundles or screen.models()]
    if not names:
        raise ScreenError(f"{screen.path} has no embeddings; run 'cytovae embed' first")
    return list(dict.fromkeys(names))


def refuse_ignored(options: dict[str, Any], source: str) -> None:
    """Wrong usage where an option was given that what is scored has no use for; `options` by name, unset ones falsy."""
    given = [name for name, value in options.items() if value]
    if given:
        are, them = ("is", "it") if len(given) == 1 else ("are", "them")
        raise typer.BadParameter(f"{' and '.join(given)} {are} not for {source}; leave {them} out")


def refuse_unwhitened(regularisation: float | None, few_controls: FewControls) -> None:
    """Wrong usage where options of whitening were given and nothing is whitened."""
    given = {"--regularisation": regularisation is not None, "--few-controls": few_controls != FewControls.error}
    refuse_ignored(given, "profiles that are not whitened")


@console.app.command()
def profile(
    screen: Annotated[Path, typer.Argument(help="Screen folder.")],
    bundles: BundlesArgument = None,
    summary: Annotated[Summary, typer.Option(help="Of the cells of a well.")] = Summary.mean,
    whiten: Annotated[Whitening, typer.Option(help="Whose control cells whiten the profiles.")] = Whitening.none,
    regularisation: RegularisationOption = None,
    few_controls: FewOption = FewControls.error,
    maps: Annotated[bool, typer.Option(help="Also store maps of cells, wells and treatments (principal axes).")] = True,
    umap: Annotated[bool, typer.Option("--umap", help="Store UMAPs too: minutes for a large screen.")] = False,
    map_cells: Annotated[
        int, typer.Option(min=2, help="Cells on a map at most; more are drawn from at random.")
    ] = 100_000,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Well and treatment profiles from embeddings."""
    from cytovae.explore.maps import store as store_maps
    from cytovae.profiling import study

    if whiten == Whitening.none:
        refuse_unwhitened(regularisation, few_controls)
    opened = Screen.open(screen)
    ((_, options),) = study.columns([summary], [whiten], regularisation, few_controls)
    lines: list[dict[str, Any]] = []
    stored: list[dict[str, Any]] = []
    for model in bundle_names(opened, bundles):
        found = study.profile(opened, model, summary, options, overwrite=overwrite, tasks=console.progress)
        if found.n_blank:
            console.say(f"{model}: {found.n_blank:,} blank cells were left out")
        if found.made:
            console.say(f"{model}: {len(found.wells):,} wells and {len(found.treatments):,} treatments")
            if found.whitening:
                console.say(f"  {report.whitening(found.whitening)}")
        else:
            console.already(f"the table of profiles of {model}")
        lines.append(
            {
                "bundle": model,
                "summary": summary.value,
                "whiten": whiten.value,
                "wells": str(opened.profiles_path(model, "wells", summary.value, whiten.value)),
                "treatments": str(opened.profiles_path(model, "treatments", summary.value, whiten.value)),
                "n_cells": found.n_cells,
                "n_blank": found.n_blank,
                "n_wells": len(found.wells),
                "n_treatments": len(found.treatments),
                "whitening": found.whitening,
                "made": found.made,
            }
        )
        if maps or umap:
            study.profile(
                opened, model, Summary.mean, Options(Whitening.none), tasks=console.progress
            )  # what maps are drawn of
            methods = (["pca"] if maps else []) + (["umap"] if umap else [])
            stored += store_maps(opened, model, methods, map_cells, seed, overwrite=overwrite, say=console.say)
    console.emit(
        {"screen": str(opened.path), "profiles": lines, "maps": stored},
        as_json,
        "\n".join(f"{line['treatments']}" for line in lines),
    )


def show(document: dict[str, Any]) -> None:
    """Tables and sentences about a document of scores, on stdout."""
    show_sheets(report.sheets(document))
    for sentence in report.sentences(document):
        print(sentence)


def show_sheets(sheets: list[report.Sheet]) -> None:
    """Tables on stdout."""
    from rich.console import Console
    from rich.table import Table

    out = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    for sheet in sheets:
        table = Table(title=sheet.title, title_justify="left")
        for k, head in enumerate(sheet.heads):
            table.add_column(head, justify="left" if k < sheet.n_names else "right")
        for k, row in enumerate(sheet.rows):
            table.add_row(*row, end_section=k in sheet.breaks)
        out.print(table)


@console.app.command()
def benchmark(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SCREEN [BUNDLE...]",
            help="Screen folder, then models by name or folder; every model it is embedded with where none is given.",
        ),
    ] = None,
    profiles: Annotated[
        Path | None, typer.Option(help="Instead of a screen: per-well profiles, CSV (may be .gz) or parquet.")
    ] = None,
    image_table: Annotated[
        Path | None, typer.Option(help="With --profiles: what stands in which well, one row a field.")
    ] = None,
    moa_table: Annotated[
        Path | None, typer.Option(help="With --profiles: compound, concentration and moa of the treatments.")
    ] = None,
    control: Annotated[
        str | None, typer.Option(help="With --profiles: compound name of the controls; DMSO unless given.")
    ] = None,
    summary: Annotated[
        list[Summary] | None,
        typer.Option(help="Summaries to score; both unless given. Ready profiles count as mean."),
    ] = None,
    whiten: Annotated[
        list[Whitening] | None,
        typer.Option(help="Whitenings to score; all there are controls for unless given, none with --profiles."),
    ] = None,
    regularisation: RegularisationOption = None,
    few_controls: FewOption = FewControls.error,
    baselines: Annotated[
        bool, typer.Option(help="Score pixels, measurements and cell count beside the models.")
    ] = True,
    also: Annotated[
        list[Path] | None,
        typer.Option("--with", help="Further screens whose wells are scored together with the first one's."),
    ] = None,
    as_seeds: Annotated[
        bool,
        typer.Option(
            "--as-seeds",
            help="The bundles are trainings of one model: also their mean and s.d., 'seeds' in --json and --out.",
        ),
    ] = False,
    join: Annotated[
        bool, typer.Option("--join", help="Score the bundles side by side too, as one embedding of all their features.")
    ] = False,
    figures: Annotated[bool, typer.Option(help="Draw Table 1 and the confusion, as SVG and PNG.")] = True,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --profiles, --with or --as-seeds: folder for scores.json (all that --json says), calls.parquet "
            "and figures."
        ),
    ] = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """NSC and NSCB of models on a screen, or of published per-well profiles, with baselines and intervals."""
    from cytovae.patches import PatchStore
    from cytovae.profiling import study

    if (profiles is None) == (not inputs):
        raise typer.BadParameter("give either a screen, or --profiles")
    of_profiles = {"--image-table": image_table, "--moa-table": moa_table, "--control": control}
    of_screens = {
        "--with": also,
        "--as-seeds": as_seeds,
        "--join": join,
        "--summary mean+sd": Summary.mean_sd in (summary or []),
    }
    if profiles is None:
        refuse_ignored(of_profiles, "a screen, which holds its own controls, treatments and mechanisms")
    else:
        refuse_ignored(of_screens, "--profiles, which reads one table of ready profiles")
    if profiles is not None or also:
        unkept = {"--overwrite": overwrite, "--no-baselines": not baselines}
        refuse_ignored(unkept, "--profiles and --with, which keep no results and compare with chance only")
    if (image_table is None) != (moa_table is None):
        raise typer.BadParameter("--image-table and --moa-table go together")
    if out is not None and profiles is None and not also and not as_seeds:
        raise typer.BadParameter("--out goes with --profiles, --with or --as-seeds; a screen keeps its own results")
    if profiles is not None:
        summary = [Summary.mean]
    default = (Whitening.none,) if profiles is not None else tuple(Whitening)
    columns = study.columns(summary or list(Summary), whiten or default, regularisation, few_controls)
    if all(options.by == Whitening.none for _, options in columns):
        refuse_unwhitened(regularisation, few_controls)
    scoring = study.Benchmark(
        columns,
        strict=whiten is not None,
        figures=figures,
        seed=seed,
        overwrite=overwrite,
        tasks=console.progress,
        say=console.say,
    )
    if profiles is not None:
        document = scoring.of_tables(profiles, image_table, moa_table, control or "DMSO", out)
    else:
        first, *models = inputs or []
        screens = [Screen.open(path) for path in [first, *(also or [])]]
        names = bundle_names(screens[0], [str(path) for path in models])
        if join and as_seeds:
            raise typer.BadParameter("--join and --as-seeds are asked for one at a time: a join is no further seed")
        document = scoring.of_models(screens, names, PatchStore if baselines else None, as_seeds, out, join)
    if as_json:
        console.emit({"model": document}, True)
    else:
        show(document)


@console.app.command()
def activity(
    screen: Annotated[Path, typer.Argument(help="Screen folder.")],
    bundles: BundlesArgument = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Is a treatment active at all: mAP against its plates' controls with p and FDR, replication, effect size.

    By wells; where these are too few by cells, and then what sets a well apart counts as the treatment's.
    """
    from cytovae.profiling import study

    opened = Screen.open(screen)
    lines = []
    for model in bundle_names(opened, bundles):
        table, made = study.measure_activity(opened, model, seed, overwrite=overwrite, tasks=console.progress)
        if not made:
            console.already(f"the table of activity of {model}")
        lines.append(report.activity_lines(model, table))
        if not as_json:
            show_sheets([report.activity_sheet(model, table)])
    console.emit({"screen": str(opened.path), "activity": lines}, as_json)
