"""The verb that runs the paper again: `reproduce bbbc021`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytovae.cli import console
from cytovae.learn.recipe import Preset

reproduce_app = typer.Typer(no_args_is_help=True, help="A paper from its images to its tables and figures.")
console.app.add_typer(reproduce_app, name="reproduce")


@reproduce_app.command("bbbc021")
def reproduce_bbbc021(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for images, screen, models and report.")],
    raw: Annotated[Path | None, typer.Option(help="Images that are there, laid out as the collection.")] = None,
    crops: Annotated[str | None, typer.Option(help="Cells cut already and their table: cells.npz,cells.csv.")] = None,
    plates: Annotated[str | None, typer.Option(help="Only these plates, with commas between.")] = None,
    published: Annotated[
        Path | None,
        typer.Option(help="Folder of published per-well profiles and the collection's tables, to score too."),
    ] = None,
    recipe: Annotated[
        list[Preset] | None, typer.Option(help="Give it twice to train by both.", show_default="paper")
    ] = None,
    models: Annotated[str, typer.Option(help="Which models, with commas between.")] = "ae,vae,vae+",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each.")] = 3,
    iterations: Annotated[int, typer.Option(min=1, help="Training steps; T stays in proportion.")] = 40_000,
    batch_size: Annotated[int, typer.Option(min=2, help="Cells in each of a step's two mini-batches.")] = 104,
    base_url: Annotated[str | None, typer.Option(help="Where the collection lies, if not at its own site.")] = None,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Keep zip files and images.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what would be done, and how long it takes (a minute to measure)."),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves the choice to torch.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read images; by default one per core.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Read images and embed on a Dask cluster: tcp://HOST:PORT, a scheduler file, local:N or slurm:N."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Lafarge et al. (2019) from the images: Table 1, Figures 2 to 4, one report; goes on when killed."""
    from cytovae.reproduce import estimate, steps

    def words(text: str | None) -> tuple[str, ...]:
        return tuple(word.strip() for word in (text or "").split(",") if word.strip())

    pair = tuple(map(Path, words(crops)))
    if crops and len(pair) != 2:
        raise typer.BadParameter("the cells and their table: cells.npz,cells.csv", param_hint="--crops")
    project = steps.Project(
        folder,
        steps.Options(seeds, iterations, batch_size, words(models), tuple(recipe or [Preset.PAPER])),
        steps.Source(raw, (pair[0], pair[1]) if crops else None, words(plates), base_url, keep_archives, published),
        device,
        threads,
        console.where(workers, cluster),
    )
    if dry_run:
        with console.progress("ten steps of each model") as progress:
            found = estimate.of(project, progress)
        console.emit(found.document(), as_json, found.text())
        return
    report = steps.run(project, console.progress, console.say)
    console.emit(
        {"report": str(report / "report.html"), "results": str(report / "results.json")},
        as_json,
        str(report / "report.html"),
    )
