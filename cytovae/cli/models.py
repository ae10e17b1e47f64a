"""Verbs that make and use models: train, embed, reconstruct."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cytovae.cli import console

ScreenPath = Annotated[Path, typer.Argument(metavar="SCREEN", help="A screen's folder.", show_default=False)]
Bundles = Annotated[
    list[str],
    typer.Argument(metavar="BUNDLE...", help="Model folders, or names of shipped models.", show_default=False),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Json = Annotated[bool, typer.Option("--json", help="Exactly one JSON document on stdout.")]


@console.app.command()
def train(
    screen: ScreenPath,
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="The model's folder, to be made.", show_default=False)
    ],
    model: Annotated[str, typer.Option(help="ae, vae, vae+, or the linear baseline pca.")],
    iterations: Annotated[int, typer.Option(help="Training steps.")] = 40_000,
    batch_size: Annotated[int, typer.Option(help="Patches in each of a step's two mini-batches.")] = 104,
    period: Annotated[int, typer.Option(help="Iterations between two layers of the learned similarity (T).")] = 2_500,
    seed: Annotated[int, typer.Option(help="Of weights, batches and noise.")] = 0,
    recipe: Annotated[
        str, typer.Option(help="paper, or best: sharper pictures by averaged weights and a decoder without a frame.")
    ] = "paper",
    rates: Annotated[str, typer.Option(help="Learning rates: paper, or implementation (swapped).")] = "paper",
    augment: Annotated[bool, typer.Option(help="Flips and quarter turns.")] = True,
    device: Device = "auto",
    devices: Annotated[int, typer.Option(help="Devices (or CPU processes) on each machine.")] = 1,
    nodes: Annotated[int, typer.Option(help="Machines; start the verb on each with torchrun or Slurm.")] = 1,
    precision: Annotated[str, typer.Option(help="32-true, or bf16-mixed on a GPU.")] = "32-true",
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
    from cytovae.screen import Screen

    opened = Screen.open(screen)
    finished = (bundle / bundles.CONFIG).exists() and not (resume and (bundle / "checkpoint.safetensors").exists())
    if finished and not overwrite:
        console.say(f"{bundle} is finished already; --overwrite trains it again")
    elif model == "pca":
        from cytovae.learn.linear import fit

        with console.progress("pca") as advance:
            fit(opened, bundle, progress=advance, seed=seed)
    else:
        from cytovae.learn import train as trainings

        options = trainings.Recipe(
            model=model,
            iterations=iterations,
            batch_size=batch_size,
            period=period,
            seed=seed,
            rates=rates,
            augment=augment,
            precision=precision,
            **trainings.preset(recipe),
        )
        machine = trainings.Machine(device=device, devices=devices, nodes=nodes, threads=threads)
        with console.progress(f"train {bundle.name}") as advance:
            speaks = trainings.train(
                opened,
                bundle,
                options,
                machine=machine,
                resume=resume,
                overwrite=overwrite,
                checkpoint_every=checkpoint_every,
                pictures_every=pictures_every,
                tensorboard=tensorboard,
                progress=advance,
                say=console.say,
            )
        if not speaks:
            return
    document = {**bundles.describe(bundle), "path": str(bundle), "metrics": bundles.read_metrics(bundle)}
    console.emit(document, as_json, str(bundle))


@console.app.command()
def embed(
    screen: ScreenPath,
    bundle: Bundles,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Embed again what is embedded already.")] = False,
    as_json: Json = False,
) -> None:
    """Embed every cell of a screen with one or more models."""
    from cytovae.learn import bundle as bundles
    from cytovae.learn.embed import embed as run
    from cytovae.screen import Screen

    opened = Screen.open(screen)
    done: list[dict[str, Any]] = []
    for named in bundle:
        loaded = bundles.load(bundles.locate(named, bundles.models_dir()), device=bundles.choose_device(device))
        with console.progress(f"embed {loaded.name}") as advance:
            new = run(opened, loaded, progress=advance, overwrite=overwrite)
        if not new:
            console.say(f"{screen} is embedded with {loaded.name} already; --overwrite does it again")
        path = str(opened.embeddings_path(loaded.name))
        done.append({"bundle": loaded.name, "embedded": new, "path": path, "weights": loaded.digest})
    console.emit({"screen": str(screen), "embeddings": done}, as_json, "\n".join(d["path"] for d in done))


@console.app.command()
def reconstruct(
    screen: ScreenPath,
    bundle: Bundles,
    cells: Annotated[int, typer.Option(help="Cells in the picture.")] = 10,
    split: Annotated[str, typer.Option(help="test: wells not trained on; train: the others; all.")] = "test",
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
            measured.append({"bundle": model.name, **reconstructions.measure(opened, model, split)})
            advance(number, len(loaded))
    document: dict[str, Any] = {"screen": str(screen), "split": split, "bundles": measured}
    if out is not None:
        document["picture"] = str(out)
        document["cells"] = reconstructions.picture(opened, loaded, out, n_cells=cells, split=split)
    console.emit(document, as_json, "\n".join(reconstructions.sentence(m) for m in measured))
