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
    import pandas as pd

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


def make_profiles(
    screen: Screen, model: str, summary: str, options: Options, *, overwrite: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any], bool]:
    """Well and treatment profiles, read where they are up to date, else made and written.

    Returns
    -------
    tuple
        Wells; treatments; their provenance, with what whitening used under ``whitening``; whether they were made now.
    """
    from cytovae.config import to_dict
    from cytovae.profiling import profiles, whiten

    paths = [screen.profiles_path(model, level, summary, options.by) for level in ("wells", "treatments")]
    cells, embeddings = screen.embeddings(model)
    blank = ~profiles.usable(cells)
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
            return read_table(paths[0]), read_table(paths[1]), there, False
    with console.progress(f"profile {model} ({summary}, whiten {options.by})") as progress:
        wells = profiles.wells(cells, embeddings, summary, progress)
        wells, used = whiten.profiles(
            wells, options, screen.record.control, cells=cells, embeddings=embeddings, summary=summary
        )
        treatments = profiles.treatments(wells)
    record |= {
        "n_cells": int((~blank).sum()),
        "n_blank": int(blank.sum()),
        "whitening": used.to_dict("records"),
    }
    for path, table in zip(paths, (wells, treatments), strict=True):
        write_table(path, table, record)
    return wells, treatments, record, True


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
    from cytovae.profiling import profiles

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
            rows = np.flatnonzero(profiles.usable(cells))
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
    from cytovae.profiling.whiten import Options

    opened = Screen.open(screen)
    options = Options(whiten.value, regularisation, few_controls.value) if whiten != "none" else Options("none")
    lines: list[dict[str, Any]] = []
    stored: list[dict[str, Any]] = []
    for model in bundle_names(opened, bundles):
        wells, treatments, record, made = make_profiles(opened, model, summary.value, options, overwrite=overwrite)
        if record["n_blank"]:
            console.say(f"{model}: {record['n_blank']:,} blank cells were left out")
        if made:
            console.say(f"{model}: {len(wells):,} wells and {len(treatments):,} treatments")
            say_whitening(record["whitening"])
        else:
            console.say(f"{model}: the profiles are already there; --overwrite makes them again")
        lines.append(
            {
                "bundle": model,
                "summary": summary.value,
                "whiten": whiten.value,
                "wells": str(opened.profiles_path(model, "wells", summary.value, whiten.value)),
                "treatments": str(opened.profiles_path(model, "treatments", summary.value, whiten.value)),
                "n_cells": record["n_cells"],
                "n_blank": record["n_blank"],
                "n_wells": len(wells),
                "n_treatments": len(treatments),
                "whitening": record["whitening"],
                "made": made,
            }
        )
        if maps or umap:
            make_profiles(opened, model, "mean", Options(by="none"))  # what maps are drawn of
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


def score_model(
    screens: list[Screen], model: str, columns: list[tuple[str, Options]], refuse: bool, seed: int
) -> tuple[dict[str, Any], pd.DataFrame]:
    """All columns of one model, over the wells of all screens together; each screen is whitened by itself.

    Returns
    -------
    tuple of (dict, DataFrame)
        The lists of ``scores.json`` without baselines; the calls.
    """
    import numpy as np
    import pandas as pd

    from cytovae.errors import ProfileError
    from cytovae.profiling import benchmark, profiles

    control = screens[0].record.control
    name = " + ".join(screen.record.name for screen in screens)
    document: dict[str, Any] = {
        key: [] for key in ("scores", "map", "batch", "confusion", "whitening", "skipped", "verdicts")
    }
    calls = []
    for summary, options in columns:
        head = {"bundle": model, "summary": summary, "whiten": options.by}
        try:
            made = [make_profiles(screen, model, summary, options) for screen in screens]
        except ProfileError as too_few:
            if refuse or options.by == "none":
                raise
            document["skipped"].append({**head, "reason": str(too_few)})
            continue
        document["whitening"] += [{**head, **row} for _, _, record, _ in made for row in record["whitening"]]
        wells = profiles.together([table for table, *_ in made])
        treatments = made[0][1] if len(made) == 1 else profiles.treatments(wells)
        found = benchmark.evaluate(wells, treatments, np.random.default_rng(seed), **head, control=control, seed=seed)
        calls.append(found.pop("calls"))
        for key, lines in found.items():
            document[key] += lines
        n_blank = sum(record["n_blank"] for _, _, record, _ in made)
        document["screen"] = describe(name, control, wells, treatments, n_blank)
    return document, pd.concat(calls, ignore_index=True)


def describe(
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


def score_baselines(
    screen: Screen, dimensions: list[int], columns: list[tuple[str, Options]], seed: int, overwrite: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The baselines of a screen and those skipped, kept in ``results/_baselines/scores.json``."""
    import json

    import numpy as np

    from cytovae.config import to_dict
    from cytovae.ingest.patches import PatchStore
    from cytovae.profiling import baselines, profiles
    from cytovae.screen import write_json

    record = provenance(
        "benchmark",
        config={"dimensions": dimensions, "columns": [[summary, to_dict(options)] for summary, options in columns]},
        inputs={"cells": screen.cells_digest()},
        seed=seed,
    )
    path = screen.results_path("_baselines") / "scores.json"
    if path.exists() and not overwrite:
        there = json.loads(path.read_text())
        if there["provenance"] == record:
            return there["baselines"], there.get("skipped", [])
    cells = screen.cells()
    store = PatchStore(screen.patches_path)
    good = np.flatnonzero(profiles.usable(cells))
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(good, min(len(good), max(baselines.FIT_CELLS, max(dimensions) + 1)), replace=False))
    with console.progress("baselines: pixels, measurements, cell count") as progress:
        lines, skipped = baselines.score(
            cells,
            store.read(chosen),
            store.blocks(512),
            screen.record.channels,
            dimensions,
            columns,
            rng,
            screen.record.control,
            progress,
        )
    write_json(path, {"baselines": lines, "skipped": skipped, "provenance": record})
    return lines, skipped


def write_figures(folder: Path, document: dict[str, Any], note: str) -> list[str]:
    """Table 1 as a dot plot and the confusion of each bundle's plain profiles, as SVG and PNG."""
    from cytovae.profiling import figures
    from cytovae.screen import whole_file

    if not any(line["n_scored"] for line in document["scores"]):
        console.say("no figure was drawn: no treatment could be scored")
        return []
    drawn = {"table1": figures.dots(document["scores"], document["baselines"], note)}
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
    paths = []
    for name, figure in drawn.items():
        for kind in ("svg", "png"):
            path = folder / f"{name}.{kind}"
            with whole_file(path) as beside:
                figure.savefig(beside, format=kind, dpi=150)
            paths.append(str(path))
    return paths


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


def benchmark_screen(
    screen: Screen,
    models: list[str],
    columns: list[tuple[str, Options]],
    *,
    refuse: bool,
    with_baselines: bool,
    with_figures: bool,
    seed: int,
    overwrite: bool,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Score models on a screen, one after the other, and keep each one's results; up-to-date ones are read."""
    import json

    import pandas as pd

    from cytovae.config import to_dict
    from cytovae.profiling import baselines, benchmark
    from cytovae.screen import write_json

    document: dict[str, Any] = {}
    calls = []
    dimensions = sorted({screen.embeddings(model)[1].shape[1] for model in models})
    lines, skipped = score_baselines(screen, dimensions, columns, seed, overwrite) if with_baselines else ([], [])
    for model in models:
        record = provenance(
            "benchmark",
            config={
                "columns": [[summary, to_dict(options)] for summary, options in columns],
                "baselines": with_baselines,
                "rules": {rule.name: list(rule.differ_by) for rule in benchmark.RULES},
            },
            inputs={
                "cells": screen.cells_digest(),
                "embeddings": digest_file(screen.embeddings_path(model) / "embeddings.npy"),
            },
            seed=seed,
        )
        folder = screen.results_path(model)
        path = folder / "scores.json"
        own = json.loads(path.read_text()) if path.exists() and not overwrite else {}
        if own.get("provenance") == record and (folder / "calls.parquet").exists():
            called = read_table(folder / "calls.parquet")
            console.say(f"{model}: the results are already there; --overwrite makes them again")
        else:
            own, called = score_model([screen], model, columns, refuse, seed)
            dimension = screen.embeddings(model)[1].shape[1]
            pixels = [x["dimension"] for x in lines if x["baseline"] == baselines.PIXELS]
            most = max(
                (d for d in pixels if d <= dimension), default=None
            )  # fewer than asked for where there are fewer cells
            fit = [x for x in lines if x["baseline"] != baselines.PIXELS or x["dimension"] == most]
            own["baselines"] = fit + baselines.chance(own["scores"])
            own["skipped"] += skipped
            own["scores"], own["verdicts"] = benchmark.compare(own["scores"], own["baselines"])
            own |= {"model": model, "seed": seed, "provenance": record}
            write_table(folder / "calls.parquet", called, record)
            write_json(path, own)
            if with_figures:
                write_figures(folder, own, about(own))
        calls.append(called)
        for key, value in own.items():
            if key in ("baselines", "skipped"):
                document.setdefault(key, []).extend(x for x in value if x not in document[key])
            elif isinstance(value, list):
                document.setdefault(key, []).extend(value)
        document |= {"screen": own["screen"], "seed": seed}
    if len(dimensions) > 1:
        pixels = [x for x in document["baselines"] if x["baseline"] == baselines.PIXELS]
        for line in pixels:
            line["baseline"] = f"{baselines.PIXELS} ({line['dimension']})"
    return document, pd.concat(calls, ignore_index=True)


def benchmark_together(
    screens: list[Screen], models: list[str], columns: list[tuple[str, Options]], *, refuse: bool, seed: int
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Score models on the wells of several screens as if they were one; nothing is kept in the screens but profiles."""
    import pandas as pd

    from cytovae.errors import ProfileError
    from cytovae.profiling import baselines, benchmark

    controls = {screen.record.control for screen in screens}
    if len(controls) > 1:
        raise ProfileError(f"the screens call their controls {', '.join(sorted(controls))}; they must agree")
    document: dict[str, Any] = {}
    calls = []
    for model in models:
        own, called = score_model(screens, model, columns, refuse, seed)
        calls.append(called)
        for key, value in own.items():
            document[key] = document.get(key, []) + value if isinstance(value, list) else value
    document["baselines"] = baselines.chance(document["scores"])
    document["scores"], document["verdicts"] = benchmark.compare(document["scores"], document["baselines"])
    return document | {"seed": seed}, pd.concat(calls, ignore_index=True)


def about(document: dict[str, Any]) -> str:
    """What the numbers are about, for the foot of a figure."""
    screen = document["screen"]
    cells = screen["median_cells_per_treatment"]
    said = f"{screen['name']}: {screen['n_treatments']} treatments"
    return said if cells is None else f"{said}, median {cells:g} cells a treatment"


def read_profiles(path: Path, image_table: Path | None, moa_table: Path | None) -> pd.DataFrame:
    """Published per-well profiles, with plate, well, batch, treatment and mechanism."""
    import pandas as pd

    from cytovae.errors import ProfileError
    from cytovae.profiling import profiles

    def read(table: Path) -> pd.DataFrame:
        if not table.exists():
            raise ProfileError(f"there is no table at {table}")
        if table.suffix == ".parquet":
            return read_table(table)
        try:
            return pd.read_csv(table)
        except (ValueError, UnicodeDecodeError, OSError) as broken:
            raise ProfileError(f"{table} cannot be read as CSV: {str(broken).splitlines()[0]}") from None

    wells = read(path)
    if image_table is None or moa_table is None:
        return profiles.complete(wells)
    return profiles.join_published(wells, read(image_table), read(moa_table))


def benchmark_published(
    wells: pd.DataFrame, name: str, columns: list[tuple[str, Options]], control: str, seed: int
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Score per-well profiles: standardised on their plates' controls, whitened where asked for."""
    import numpy as np
    import pandas as pd

    from cytovae.profiling import baselines, benchmark, profiles, whiten

    standard, dropped = profiles.standardise(wells, control)
    document: dict[str, Any] = {
        key: [] for key in ("scores", "map", "batch", "confusion", "whitening", "skipped", "verdicts")
    }
    calls = []
    for summary, options in columns:
        head = {"bundle": name, "summary": summary, "whiten": options.by}
        table, used = whiten.profiles(standard, options, control)
        document["whitening"] += [{**head, **row} for row in used.to_dict("records")]
        treatments = profiles.treatments(table)
        found = benchmark.evaluate(table, treatments, np.random.default_rng(seed), **head, control=control, seed=seed)
        calls.append(found.pop("calls"))
        for key, lines in found.items():
            document[key] += lines
        document["screen"] = describe(name, control, wells, treatments, None)
    document["baselines"] = baselines.chance(document["scores"])
    document["scores"], document["verdicts"] = benchmark.compare(document["scores"], document["baselines"])
    features = schema.feature_columns(wells)
    document |= {"seed": seed, "n_features": len(features), "n_features_used": len(features) - len(dropped)}
    document["features_dropped"] = dropped
    return document, pd.concat(calls, ignore_index=True)


def refuse_ignored(options: dict[str, Any], source: str) -> None:
    """Wrong usage where an option was given that what is scored has no use for; `options` by name, unset ones falsy."""
    given = [name for name, value in options.items() if value]
    if given:
        are, them = ("is", "it") if len(given) == 1 else ("are", "them")
        raise typer.BadParameter(f"{' and '.join(given)} {are} not for {source}; leave {them} out")


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
    from cytovae.profiling.benchmark import over_seeds

    if (profiles is None) == (not inputs):
        raise typer.BadParameter("give either a screen, or --profiles")
    of_profiles = {"--image-table": image_table, "--moa-table": moa_table, "--control": control}
    of_screens = {"--with": also, "--as-seeds": as_seeds, "--summary mean+sd": Summary.mean_sd in (summary or [])}
    if profiles is None:
        refuse_ignored(of_profiles, "a screen, which holds its own controls, treatments and mechanisms")
    else:
        refuse_ignored(of_screens, "--profiles, which reads one table of ready profiles")
    if (image_table is None) != (moa_table is None):
        raise typer.BadParameter("--image-table and --moa-table go together")
    if out is not None and profiles is None and not also and not as_seeds:
        raise typer.BadParameter("--out goes with --profiles, --with or --as-seeds; a screen keeps its own results")
    if profiles is not None:
        columns = columns_of([Summary.mean], whiten, (Whiten.none,), regularisation, few_controls)
        control = control or "DMSO"
        wells = read_profiles(profiles, image_table, moa_table)
        document, calls = benchmark_published(wells, profiles.name.split(".")[0], columns, control, seed)
        tables = {"profiles": profiles, "image_table": image_table, "moa_table": moa_table}
        made_of = {key: digest_file(path) for key, path in tables.items() if path is not None}
        keep(out, document, calls, {"control": control}, made_of, figures)
    else:
        columns = columns_of(summary, whiten, tuple(Whiten), regularisation, few_controls)
        first, *models = inputs or []
        screens = [Screen.open(path) for path in [first, *(also or [])]]
        names = bundle_names(screens[0], [str(path) for path in models])
        if also:
            document, calls = benchmark_together(screens, names, columns, refuse=whiten is not None, seed=seed)
        else:
            document, calls = benchmark_screen(
                screens[0],
                names,
                columns,
                refuse=whiten is not None,
                with_baselines=baselines,
                with_figures=figures,
                seed=seed,
                overwrite=overwrite,
            )
            if figures and len(names) > 1:
                write_figures(screens[0].path / "results", document, about(document))
        if as_seeds:
            document["seeds"] = over_seeds(document["scores"], "seeds")
        if also or out is not None:
            made_of = {str(screen.path): screen.cells_digest() for screen in screens}
            keep(out, document, calls, {"models": names}, made_of, figures)
    if as_json:
        console.emit({"model": document}, True)
    else:
        print_tables(document)


def keep(
    folder: Path | None,
    document: dict[str, Any],
    calls: pd.DataFrame,
    config: dict[str, Any],
    made_of: dict[str, str],
    with_figures: bool,
) -> None:
    """Put provenance on a document and write it with its calls and figures, where a folder was given."""
    from cytovae.screen import write_json

    document["provenance"] = provenance("benchmark", config=config, inputs=made_of, seed=document["seed"])
    if folder is not None:
        write_table(folder / "calls.parquet", calls, document["provenance"])
        write_json(folder / "scores.json", document)
        if with_figures:
            write_figures(folder, document, about(document))
