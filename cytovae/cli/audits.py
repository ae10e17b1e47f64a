"""The verb that tries the evidence on a screen: `audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytovae.cli import console
from cytovae.screen import Screen


@console.app.command()
def audit(
    screen: Annotated[Path, typer.Argument(help="The screen's folder, embedded with the bundle.")],
    bundle: Annotated[str, typer.Argument(help="A model bundle: its folder, or the name of a shipped one.")],
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn at random.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The rows as one JSON document on stdout.")] = False,
) -> None:
    """Try the evidence on a screen: error rates as they are here, against what is claimed."""
    from cytovae.learn import audit as audits
    from cytovae.learn.generators import open_model

    with console.progress("audit") as progress:
        document = audits.audit(Screen.open(screen), open_model(bundle), seed, progress)
    lines = [f"{'':<30}{'claimed':>9}{'here':>9}   95 % interval      n"]
    for row in document["checks"]:
        low, high = row["ci95"]
        of = f" ({row['tried']})" if row["tried"] else ""
        lines.append(
            f"{row['name']:<30}{row['nominal']:>9.3f}{row['observed']:>9.3f}   {low:.3f} to {high:.3f}{row['n']:>8,}"
            f"   {'as claimed' if row['ok'] else 'NOT AS CLAIMED'}{of}"
        )
    lines += [f"not tried: {row['name']}: {row['reason']}" for row in document["skipped"]]
    console.emit(document, as_json, "\n".join(lines))
