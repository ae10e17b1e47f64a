"""Verbs that make and use models: train, embed, reconstruct, import embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cytovae.cli import console
from cytovae.learn import kinds
from cytovae.learn.recipe import Precision, Preset, Rates
from cytovae.learn.reconstruct import Split

ScreenPath = Annotated[Path, typer.Argument(metavar="SCREEN", help="A screen's folder.", show_default=False)]
Bundles = Annotated[
    list[str],
    typer.Argument(
        metavar="BUNDLE...",
        help="Model folders, names of shipped models, or package.module:factory of a generator of your own.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]

import_app = typer.Typer(no_args_is_help=True, help="What was made elsewhere -> a screen.")
console.app.add_typer(import_app, name="import")


@console.app.command()
def train(
    screen: ScreenPath,
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="The model's folder, to be made.", show_default=False)
    ],
    model: Annotated[str, typer.Option(help=f"The kind of model: {', '.join(kinds.OWN)}, or one of another package.")],
    also: Annotated[
        list[Path] | None,
        typer.Option(metavar="SCREEN", help="Train on this screen, too; may be given several times."),
    ] = None,
    recipe: Annotated[
        Preset | None,
        typer.Option(
            help="best: sharper pictures by averaged weights and a decoder without a frame.", show_default="paper"
        ),
    ] = None,
    iterations: Annotated[int | None, typer.Option(help="Training steps.", show_default="40,000")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Patches in each of a step's two mini-batches.", show_default="104")
    ] = None,
    period: Annotated[
        int | None,
        typer.Option(help="Iterations between two layers of the learned similarity (T).", show_default="2,500"),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of weights, batches and noise.", show_default="0")] = None,
    rates: Annotated[
        Rates | None, typer.Option(help="Learning rates; implementation: the paper's, swapped.", show_default="paper")
    ] = None,
    augment: Annotated[bool | None, typer.Option(help="Flips and quarter turns.", show_default="augment")] = None,
    precision: Annotated[Precision | None, typer.Option(help="bf16-mixed is for GPUs.", show_default="32-true")] = None,
    half_size: Annotated[
        bool | None,
        typer.Option(
            "--half-size", help="Keep the weights in half precision: a bundle of half the size.", show_default=False
        ),
    ] = None,
    device: Device = "auto",
    devices: Annotated[int, typer.Option(help="Devices (or CPU processes) on each machine.")] = 1,
    nodes: Annotated[int, typer.Option(help="Machines; start the verb on each with torchrun or Slurm.")] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves the choice to torch.")] = 0,
    checkpoint_every: Annotated[int, typer.Option(help="Iterations between checkpoints.")] = 200,
    pictures_every: Annotated[int, typer.Option(help="Iterations between sample pictures; 0 for none.")] = 1000,
    tensorboard: Annotated[bool, typer.Option(help="Write TensorBoard events too.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train again what is finished.")] = False,
    as_json: Json = False,
) -> None:
    """Train a model on a screen: checkpoints as it goes, a model bundle in the end."""
    from cytovae.learn import bundle as bundles
    from cytovae.learn import models
    from cytovae.learn.pool import Pool
    from cytovae.screen import Screen

    given = {
        "recipe": recipe and recipe.value,
        "iterations": iterations,
        "batch_size": batch_size,
        "period": period,
        "seed": seed,
        "rates": rates and rates.value,
        "augment": augment,
        "precision": precision and precision.value,
        "half_size": half_size,
    }
    with console.progress(f"train {bundle.name}") as advance:
        run = kinds.Run(
            device=device,
            devices=devices,
            nodes=nodes,
            threads=threads,
            checkpoint_every=checkpoint_every,
            pictures_every=pictures_every,
            tensorboard=tensorboard,
            resume=resume,
            overwrite=overwrite,
            progress=advance,
            say=console.say,
        )
        options = {name: value for name, value in given.items() if value is not None}
        screens = [Screen.open(path) for path in (screen, *(also or ()))]
        speaks = models.train(Pool(screens) if also else screens[0], bundle, model, options, run)
    if speaks is None:
        console.already(bundle)
    elif not speaks:
        return
    document = {**bundles.describe(bundle), "path": str(bundle), "metrics": bundles.read_metrics(bundle)}
    text = f"{bundle}\n{models.last_words(document)}" if speaks else str(bundle)
    console.emit(document, as_json, text)


@console.app.command()
def embed(
    screen: ScreenPath,
    bundle: Bundles,
    orientations: Annotated[
        int, typer.Option(help="8: the mean over flips and quarter turns, under the name BUNDLE.turned.")
    ] = 1,
    with_intensity: Annotated[
        bool,
        typer.Option(
            "--with-intensity",
            help="Add channel maxima and the nucleus' area, scaled on controls, under the name BUNDLE.intensity.",
        ),
    ] = False,
    device: Device = "auto",
    cluster: Annotated[
        str | None,
        typer.Option(help="Work on a Dask cluster: tcp://HOST:PORT, a scheduler file, local:N or slurm:N."),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="Do one of n equal shares, i/n; 'cytovae merge SCREEN' ends it.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Embed again what is embedded already.")] = False,
    as_json: Json = False,
) -> None:
    """Embed every cell of a screen with one or more models."""
    from cytovae.cluster import Shard
    from cytovae.learn import bundle as bundles
    from cytovae.learn import embed as embeddings
    from cytovae.learn.generators import open_model
    from cytovae.screen import Screen

    if orientations not in embeddings.ORIENTATIONS:
        raise typer.BadParameter(f"1 or 8, not {orientations}", param_hint="--orientations")
    if shard and overwrite:
        raise typer.BadParameter("shards begin nothing anew; remove the embedding first", param_hint="--overwrite")
    share = Shard.parse(shard) if shard else None
    opened, options = Screen.open(screen), embeddings.Options(orientations, with_intensity)
    done: list[dict[str, Any]] = []
    for named in bundle:
        here = "cpu" if cluster is not None else bundles.choose_device(device)
        loaded = open_model(named, bundles.models_dir(), here)
        name = options.name(loaded.name)
        with console.progress(f"embed {name}") as advance:
            new = embeddings.embed(
                opened,
                loaded,
                progress=advance,
                overwrite=overwrite,
                options=options,
                workers=1 if cluster is None else cluster,
                shard=share,
                device=device,
            )
        if not new:
            console.already(f"the embedding of {screen} with {name}")
        elif share is not None:
            console.say(f"this shard of {name} is done; when all are, 'cytovae merge {screen}' ends it")
        path = str(opened.embeddings_path(name))
        done.append({"bundle": name, "embedded": new, "path": path, "weights": loaded.digest})
    console.emit({"screen": str(screen), "embeddings": done}, as_json, "\n".join(d["path"] for d in done))


@import_app.command("embeddings")
def import_embeddings(
    screen: ScreenPath,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="parquet, CSV, npz, h5ad, or DeepProfiler's folder of features.", show_default=False
        ),
    ],
    name: Annotated[str, typer.Option(help="What to call them; a model's place in every other verb.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace embeddings of this name.")] = False,
    as_json: Json = False,
) -> None:
    """Embeddings made elsewhere, one row a cell, joined by cell_id or by plate, well, site and object number."""
    from cytovae.learn import foreign
    from cytovae.screen import Screen

    opened = Screen.open(screen)
    done = foreign.import_embeddings(opened, file, name, overwrite)
    if done.already:
        console.already(f"{name}, imported from {file},")
    document = {
        "screen": str(screen),
        "name": name,
        "already": done.already,
        "cells": done.n_cells,
        "features": done.n_features,
        "cells_without": done.n_without,
    }
    without = f"; {done.n_without} cells of the screen have none" if done.n_without else ""
    console.emit(document, as_json, f"{name}: {done.n_features} features of {done.n_cells} cells{without}")


@console.app.command()
def reconstruct(
    screen: ScreenPath,
    bundle: Bundles,
    cells: Annotated[int, typer.Option(help="Cells in the picture.")] = 10,
    split: Annotated[
        Split, typer.Option(help="test: cells not trained on, of other wells where it can be; train: the others.")
    ] = Split.TEST,
    out: Annotated[Path | None, typer.Option(help="The picture, a PNG.", show_default=False)] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Originals beside each model's reconstructions, with measures."""
    from cytovae.learn import bundle as bundles
    from cytovae.learn import reconstruct as reconstructions
    from cytovae.screen import Screen

    if cells < 1:
        raise typer.BadParameter("at least 1", param_hint="--cells")
    opened = Screen.open(screen)
    loaded = [
        bundles.load(bundles.locate(named, bundles.models_dir()), device=bundles.choose_device(device))
        for named in bundle
    ]
    measured = []
    with console.progress("reconstruct") as advance:
        for number, model in enumerate(loaded, start=1):
            measured.append({"bundle": model.name, **reconstructions.measure(opened, model, split.value)})
            advance(number, len(loaded))
    document: dict[str, Any] = {"screen": str(screen), "split": split.value, "bundles": measured}
    if out is not None:
        document["picture"] = str(out)
        document["cells"] = reconstructions.picture(opened, loaded, out, n_cells=cells, split=split.value)
    console.emit(document, as_json, "\n".join(reconstructions.sentence(m) for m in measured))
