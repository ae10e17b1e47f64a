"""The verb that makes a simulated screen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytovae.cli import console


@console.app.command("phantom")
def make_phantom(
    raw_dir: Annotated[Path, typer.Argument(help="New or empty folder for fields and tables.")],
    treatments: Annotated[int, typer.Option(help="Compounds at a concentration, without DMSO.")] = 48,
    wells: Annotated[int, typer.Option(help="Wells of each treatment.")] = 2,
    cells: Annotated[int, typer.Option(help="Cells of an untreated well on average.")] = 40,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    weeks: Annotated[int, typer.Option(help="Experimental batches.")] = 3,
    controls: Annotated[int, typer.Option(help="DMSO wells on every plate.")] = 6,
    sites: Annotated[int, typer.Option(help="Fields of a well.")] = 1,
    width: Annotated[int, typer.Option(help="Width of a field in px; the collection's is 1280.")] = 640,
    height: Annotated[int, typer.Option(help="Height of a field in px; the collection's is 1024.")] = 512,
    processes: Annotated[int | None, typer.Option(help="How many draw at once; all cores by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Redo a phantom screen that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Make a simulated raw screen with known phenotypes, in BBBC021's own layout."""
    from cytovae.phantom import screen as phantom

    options = phantom.PhantomOptions(
        treatments=treatments,
        wells=wells,
        cells=cells,
        seed=seed,
        weeks=weeks,
        controls=controls,
        sites=sites,
        width_px=width,
        height_px=height,
    )
    with console.progress("drawing fields") as progress:
        made = phantom.write(raw_dir, options, processes, progress, overwrite)
    if made["already_there"]:
        console.already(raw_dir)
    counts = "{cells} cells in {fields} fields of {wells} wells on {plates} plates of {weeks} weeks".format(**made)
    what = "{treatments} treatments of {mechanisms} mechanisms, and DMSO; all simulated".format(**made)
    console.emit(made, as_json, f"{raw_dir}: {counts}; {what}")
