"""Verbs that turn embeddings into profiles, and profiles into scores: `profile`, `benchmark`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cytovae import schema
from cytovae.cli import console
from cytovae.errors import ScreenError
from cytovae.screen import Screen, digest_file, provenance, read_provenance, read_table, write_table

if TYPE_CHECKING:
    from cytovae.profiling.whiten import Options


class Summary(enum.StrEnum):
    """How the cells of a well become one profile."""

    mean = "mean"
    mean_sd = "mean+sd"


class Whiten(enum.StrEnum):
    """Whose controls whiten."""

    none = "none"
    plate = "plate"
    batch = "batch"


class FewControls(enum.StrEnum):
    """What to do where there are no more controls than dimensions."""

    error = "error"
    pool = "pool"
    shrink = "shrink"


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
        help="Where there are no more controls than dimensions: refuse; pool the batch's, then the screen's; or shrink."
    ),
]
SeedOption = Annotated[int, typer.Option(help="Of all randomness.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Make again what is already there.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def bundle_names(screen: Screen, bundles: list[str] | None) -> list[str]:
    """Names of the models meant; a folder stands for its name."""
    names = [Path(bundle).name for bundle in bundles or screen.models()]
    if not names:
        raise ScreenError(f"{screen.path} has no embeddings; run 'cytovae embed' first")
    return list(dict.fromkeys(names))


def say_whitening(used: list[dict[str, Any]]) -> None:
    """What whitening learned from, on stderr."""
    if used:
        n = [row["n_controls"] for row in used]
        r = [row["regularisation"] for row in used]
        scopes = {scope: sum(row["scope"] == scope for row in used) for scope in ("plate", "batch", "screen")}
        of = ", ".join(f"{count} by {scope}" for scope, count in scopes.items() if count)
        console.say(
            f"  whitened {len(used)} groups ({of}) in {used[0]['dimension']} dimensions, learned from {min(n):,} to "
            f"{max(n):,} control {used[0]['learned_from']} each, regularisation {min(r):.3f} to {max(r):.3f}"
        )


def make_maps(
    screen: Screen, model: str, methods: list[str], map_cells: int, seed: int, overwrite: bool
) -> list[dict[str, Any]]:
    """2-D maps of at most `map_cells` cells, of wells and of treatments, stored where they are not up to date."""
    import numpy as np

    from cytovae.explore import maps

    cells, embeddings = screen.embeddings(model)
    lines = []
    for level in ("treatments", "wells", "cells"):
        keys = {
            "cells": [schema.CELL_ID],
            "wells": [schema.PLATE, schema.WELL],
            "treatments": [schema.TREATMENT],
        }[level]
        source = screen.profiles_path(model, level) if level != "cells" else screen.embeddings_path(model)
        if level == "cells":
            rows = np.flatnonzero(schema.not_blank(cells))
            if len(rows) > map_cells:
                console.say(f"{model}: the map of cells shows {map_cells:,} of {len(rows):,}, drawn at random")
                rows = np.sort(np.random.default_rng(seed).choice(rows, map_cells, replace=False))
            made_of, table, values = source / "embeddings.npy", cells.iloc[rows], embeddings[rows]
        else:
            made_of, table = source, read_table(source)
            values = table[schema.feature_columns(table)].to_numpy()
        for method in methods:
            path = screen.map_path(model, level, method)
            record = provenance(
                "profile",
                config={"map": method, "level": level, "most": map_cells},
                inputs={level: digest_file(made_of)},
                seed=seed,
            )
            made = overwrite or not path.exists() or read_provenance(path) != record
            if made and len(table) > 1:
                if method == "umap" and level == "treatments":
                    console.say("the first UMAP of a fresh install compiles for a minute")
                if method == "umap":
                    console.say(f"mapping {len(table):,} {level} of {model} with UMAP")
                xy = maps.compute(values, method, seed)
                write_table(path, table[keys].assign(x=xy[:, 0], y=xy[:, 1]), record)
            if len(table) > 1:
                head = {"bundle": model, "level": level, "method": method, "n": len(table)}
                lines.append({**head, "path": str(path), "made": made})
    return lines


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
    whiten: Annotated[Whiten, typer.Option(help="Whose control cells whiten the profiles.")] = Whiten.none,
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
    from cytovae.profiling import study
    from cytovae.profiling.whiten import Options

    if whiten == Whiten.none:
        refuse_unwhitened(regularisation, few_controls)
    opened = Screen.open(screen)
    options = Options(whiten.value, regularisation, few_controls.value) if whiten != "none" else Options("none")
    lines: list[dict[str, Any]] = []
    stored: list[dict[str, Any]] = []
    for model in bundle_names(opened, bundles):
        found = study.profile(opened, model, summary.value, options, overwrite=overwrite, tasks=console.progress)
        if found.n_blank:
            console.say(f"{model}: {found.n_blank:,} blank cells were left out")
        if found.made:
            console.say(f"{model}: {len(found.wells):,} wells and {len(found.treatments):,} treatments")
            say_whitening(found.whitening)
        else:
            console.say(f"{model}: the profiles are already there; --overwrite makes them again")
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
            study.profile(opened, model, "mean", Options("none"), tasks=console.progress)  # what maps are drawn of
            methods = (["pca"] if maps else []) + (["umap"] if umap else [])
            stored += make_maps(opened, model, methods, map_cells, seed, overwrite)
    console.emit(
        {"screen": str(opened.path), "profiles": lines, "maps": stored},
        as_json,
        "\n".join(f"{line['treatments']}" for line in lines),
    )


def columns_of(
    summaries: list[Summary] | None,
    whitenings: list[Whiten] | None,
    default: tuple[Whiten, ...],
    regularisation: float | None,
    few: FewControls,
) -> list[tuple[str, Options]]:
    """The columns of Table 1 asked for: summary and whitening, the plain ones first."""
    from cytovae.profiling.whiten import Options

    return [
        (summary.value, Options("none") if by == "none" else Options(by.value, regularisation, few.value))
        for summary in dict.fromkeys(summaries or Summary)
        for by in dict.fromkeys(whitenings or default)
    ]


def print_tables(document: dict[str, Any]) -> None:
    """Table 1, mechanisms, batches and verdicts on stdout."""
    import sys

    from rich.console import Console
    from rich.table import Table

    from cytovae.profiling.benchmark import column_title

    out = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    scores = document["scores"]
    columns = list(dict.fromkeys((x["summary"], x["whiten"]) for x in scores))
    screen = document["screen"]
    about = f"{screen['name']}: {screen['n_treatments']} treatments, {screen['n_mechanisms']} mechanisms"
    if screen["n_cells"] is not None:
        about += f", {screen['n_cells']:,} cells, median {screen['median_cells_per_treatment']:g} cells a treatment"
    table = Table(title=f"Accuracy in % [95 % interval over compounds]\n{about}", title_justify="left")
    table.add_column("rule")
    table.add_column("")
    for column in columns:
        table.add_column(column_title(*column), justify="right")
    lines = [(x["bundle"], x) for x in scores] + [(x["baseline"], x) for x in document["baselines"]]
    for rule in dict.fromkeys(x["rule"] for x in scores):
        here = [(name, x) for name, x in lines if x["rule"] == rule]
        scored = f"{rule}\n{here[0][1]['n_scored']} of {here[0][1]['n_treatments']}\nscored"
        rows = [("", seeds) for seeds in document.get("seeds", []) if seeds["rule"] == rule]
        for name in dict.fromkeys(name for name, _ in here):
            of_name = {(x["summary"], x["whiten"]): x for n, x in here if n == name}
            table.add_row(scored, name, *[_cell(of_name.get(column)) for column in columns])
            scored = ""
        if rows:
            by_column = {(x["summary"], x["whiten"]): x for _, x in rows}
            name = f"{rows[0][1]['bundle']}: mean ± s.d. of {rows[0][1]['n_seeds']}"
            table.add_row("", name, *[_seeds(by_column.get(column)) for column in columns])
        table.add_section()
    out.print(table)
    first = columns[0]
    for bundle in dict.fromkeys(x["bundle"] for x in document["map"]):
        maps = [x for x in document["map"] if x["bundle"] == bundle and (x["summary"], x["whiten"]) == first]
        table = Table(title=f"{bundle}: mean average precision ({column_title(*first)})", title_justify="left")
        rules = list(dict.fromkeys(x["rule"] for x in maps))
        table.add_column("mechanism")
        for rule in rules:
            for head in (f"{rule} mAP", "p corrected", "treatments"):
                table.add_column(head, justify="right")
        ranked = {(x["moa"], x["rule"]): x for x in maps}
        for moa in sorted({x["moa"] for x in maps}):
            row = [ranked.get((moa, rule)) for rule in rules]
            table.add_row(
                moa,
                *[
                    said
                    for x in row
                    for said in (
                        (f"{x['map']:.3f}", f"{x['p_corrected']:.4f}", str(x["n_treatments"])) if x else ("-", "-", "0")
                    )
                ],
            )
        out.print(table)
    if document["batch"]:
        table = Table(
            title="Is it batch or biology? Share of control wells whose nearest control well is of their own",
            title_justify="left",
        )
        for head in ("", "column", "plate %", "expected %", "batch %", "expected %", "wells"):
            table.add_column(head, justify="left" if head in ("", "column") else "right")
        for bundle, summary, by in dict.fromkeys((x["bundle"], x["summary"], x["whiten"]) for x in document["batch"]):
            of = {
                x["by"]: x
                for x in document["batch"]
                if (x["bundle"], x["summary"], x["whiten"]) == (bundle, summary, by)
            }
            shares = [f"{100 * of[k][v]:.1f}" for k in ("plate", "batch") for v in ("score", "expected")]
            table.add_row(bundle, column_title(summary, by), *shares, str(of["plate"]["n_wells"]))
        out.print(table)
    for x in document["skipped"]:
        out.print(f"not computed: {x['bundle']}, {column_title(x['summary'], x['whiten'])}: {x['reason']}")
    for sentence in document["verdicts"]:
        out.print(sentence)


def _cell(line: dict[str, Any] | None) -> str:
    if line is None or line["accuracy"] is None:
        return "-"
    ci = line["ci95"]
    return f"{100 * line['accuracy']:.1f}" + (f" [{100 * ci[0]:.0f}, {100 * ci[1]:.0f}]" if ci else "")


def _seeds(line: dict[str, Any] | None) -> str:
    if line is None:
        return "-"
    sd = line["accuracy_sd"]
    return f"{100 * line['accuracy_mean']:.1f}" + (f" ± {100 * sd:.1f}" if sd is not None else "")


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
        list[Whiten] | None,
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
    from cytovae.profiling.benchmark import over_seeds

    if (profiles is None) == (not inputs):
        raise typer.BadParameter("give either a screen, or --profiles")
    of_profiles = {"--image-table": image_table, "--moa-table": moa_table, "--control": control}
    of_screens = {"--with": also, "--as-seeds": as_seeds, "--summary mean+sd": Summary.mean_sd in (summary or [])}
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
    default = (Whiten.none,) if profiles is not None else tuple(Whiten)
    columns = columns_of(summary, whiten, default, regularisation, few_controls)
    if all(options.by == "none" for _, options in columns):
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
        control = control or "DMSO"
        wells = study.read_wells(profiles, image_table, moa_table)
        document, calls = scoring.of_wells(wells, profiles.name.split(".")[0], control)
        tables = {"profiles": profiles, "image_table": image_table, "moa_table": moa_table}
        made_of = {key: digest_file(path) for key, path in tables.items() if path is not None}
        scoring.keep(out, document, calls, {"control": control}, made_of)
    else:
        first, *models = inputs or []
        screens = [Screen.open(path) for path in [first, *(also or [])]]
        names = bundle_names(screens[0], [str(path) for path in models])
        if also:
            document, calls = scoring.of_screens(screens, names)
        else:
            document, calls = scoring.of_screen(screens[0], names, PatchStore if baselines else None)
        if as_seeds:
            document["seeds"] = over_seeds(document["scores"], "seeds")
        if also or out is not None:
            made_of = {str(screen.path): screen.cells_digest() for screen in screens}
            scoring.keep(out, document, calls, {"models": names}, made_of)
    if as_json:
        console.emit({"model": document}, True)
    else:
        print_tables(document)
