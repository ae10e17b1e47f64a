"""The verb that draws a mechanism by dose: `montage`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from cytovae import schema
from cytovae.cli import console
from cytovae.errors import ConfigError
from cytovae.explore import montage as montages
from cytovae.explore.render import Look
from cytovae.screen import Screen, whole_file

ENDINGS = ", ".join(f".{form}" for form in montages.Form)


@console.app.command()
def montage(
    screen: Annotated[Path, typer.Argument(help="Screen folder.")],
    bundle: Annotated[str, typer.Argument(help="A model by name or folder; the screen must be embedded with it.")],
    mechanism: Annotated[str, typer.Option(help="Whose compounds are shown, such as 'Actin disruptors'.")],
    out: Annotated[Path, typer.Option(help=f"A file to write: {ENDINGS}.")],
    look: Annotated[Look, typer.Option(help="; ".join(f"{look}: {look.words}" for look in Look))] = Look.RGB,
    gamma: Annotated[float, typer.Option(min=0.05, max=20.0, help="Below 1 brightens the dark parts.")] = 1.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Draw a mechanism by dose: the typical and the most changed cell of every treatment, for a slide."""
    try:
        form = montages.Form.of(out)
    except ConfigError as wrong:
        raise typer.BadParameter(str(wrong), param_hint="--out") from None
    if out.exists() and not overwrite:
        console.already(out)
        return
    from cytovae.patches import PatchStore, normalise

    opened, model = Screen.open(screen), Path(bundle).name
    cells, embeddings = opened.embeddings(model)
    chosen = montages.choose(cells, embeddings, mechanism, opened.record.control)
    store, ids = PatchStore(opened.patches_path), pd.Index(opened.cells()[schema.CELL_ID])
    made = montages.record(opened, model, mechanism, look, gamma)
    content = montages.figure(
        chosen,
        lambda wanted: normalise(store.read(ids.get_indexer(pd.Index(wanted)))),
        opened.record.channels,
        opened.record.pixel_size_um,
        form,
        look,
        gamma,
        made,
    )
    with whole_file(out) as beside:
        beside.write_bytes(content)
    n = len(chosen.places)
    said = {"out": str(out), "mechanism": mechanism, "treatments": n, "cells": chosen.cell_ids, "provenance": made}
    console.emit(said, as_json, f"{out}: {n} treatments of {mechanism}, two cells each")
