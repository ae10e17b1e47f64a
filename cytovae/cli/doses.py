"""The verb that asks how an effect grows with the dose: `dose`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytovae.cli import console
from cytovae.errors import ScreenError
from cytovae.screen import Screen, whole_file

ENDINGS = (".csv", ".json")


@console.app.command()
def dose(
    screen: Annotated[Path, typer.Argument(help="The screen's folder, embedded with the bundle.")],
    bundle: Annotated[str, typer.Argument(help="A model bundle: its folder, or the name of a shipped one.")],
    compound: Annotated[str, typer.Argument(help="Such as 'taxol'; with the cell line where there are several.")],
    out: Annotated[
        Path | None, typer.Option(help=f"A file to write: the doses ({ENDINGS[0]}), or everything ({ENDINGS[1]}).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """How a compound's effect grows with its dose: places of its cells, and a Hill curve where the doses allow one."""
    if out is not None and out.suffix.lower() not in ENDINGS:
        raise typer.BadParameter(f"{out.name!r} ends in none of {', '.join(ENDINGS)}", param_hint="--out")
    if out is not None and out.exists() and not overwrite:
        raise ScreenError(f"{out} is there already; use --overwrite to replace it")
    import json

    from cytovae.explore import study
    from cytovae.learn.generators import open_model

    material = study.Material.of(Screen.open(screen), open_model(bundle))
    found = study.dose_response(material, compound)
    document = found.document() | {"provenance": study.dose_record(material, compound)}
    if out is not None:
        with whole_file(out) as beside:
            if out.suffix.lower() == ENDINGS[0]:
                found.doses.to_csv(beside, index=False)
            else:
                beside.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    lines = [f"{'treatment':<32}{'place':>7}   95 % interval     cells  wells"]
    for row in found.doses.itertuples():
        over = f"{row.low:>6.2f} to {row.high:<6.2f}"
        lines.append(f"{row.treatment:<32}{row.mean:>7.2f}   {over}{row.n_cells:>8,}{row.n_wells:>7,}")
    lines += [found.scale, *filter(None, [found.caution]), found.sentence]
    console.emit(document, as_json, "\n".join(lines))
