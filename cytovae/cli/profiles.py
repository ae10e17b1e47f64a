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


def make_maps(screen: Screen, model: str, methods: list[str], seed: int, overwrite: bool) -> list[dict[str, Any]]:
    """2-D maps of cells, wells and treatments, stored where they are not up to date."""
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
            made_of, table, values = source / "embeddings.npy", cells, embeddings
        else:
            made_of, table = source, read_table(source)
            values = table[schema.feature_columns(table)].to_numpy()
        for method in methods:
            path = screen.map_path(model, level, method)
            record = provenance(
                "profile", config={"map": method, "level": level}, inputs={level: digest_file(made_of)}, seed=seed
            )
            made = overwrite or not path.exists() or read_provenance(path) != record
            if made and len(table) > 1:
                if method == "umap":
                    console.say(f"mapping {len(table):,} {level} of {model} with UMAP (the first run compiles it)")
                xy = maps.compute(values, method, seed)
                write_table(path, table[keys].assign(x=xy[:, 0], y=xy[:, 1]), record)
            if len(table) > 1:
                lines.append({"bundle": model, "level": level, "method": method, "path": str(path), "made": made})
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
            stored += make_maps(opened, model, methods, seed, overwrite)
    console.emit(
        {"screen": str(opened.path), "profiles": lines, "maps": stored},
        as_json,
        "\n".join(f"{line['treatments']}" for line in lines),
    )
