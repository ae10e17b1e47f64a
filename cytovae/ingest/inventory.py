"""What a screen is, what it holds, what is missing, and what was refused and why."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cytovae import schema
from cytovae.config import to_dict
from cytovae.errors import ScreenError
from cytovae.images import BETWEEN_FILES
from cytovae.ingest import layouts
from cytovae.patches import PatchStore
from cytovae.screen import Screen, count_rows, read_provenance, read_table


def take(screen: Screen) -> dict[str, Any]:
    """The inventory of a screen, as JSON types.

    Returns
    -------
    dict
        ``kind``, ``path``, ``record``, ``made_by`` (provenance); ``cells``, ``blank_cells``, ``border_cells_left_out``,
        ``plates``, ``wells``, ``batches``, ``treatments``, ``mechanisms``; ``fields`` (status -> number), ``codes``
        (code -> number), ``problems`` (one entry per field or crop of which something is said); ``models``,
        ``profiles``, ``results``, ``maps`` (names); ``missing`` (sentences: what to do next).

    Raises
    ------
    ScreenError
        Tables and patches do not fit together.
    """
    missing: list[str] = []
    held: dict[str, Any] = {"kind": "screen", "path": str(screen.path), "record": to_dict(screen.record)}
    if not screen.cells_path.exists():
        missing.append("no cells: run 'cytovae ingest'")
        return {**held, "cells": 0, "missing": missing}
    held["made_by"] = read_provenance(screen.cells_path)
    held.update(_cells(screen))
    held.update(_fields(screen))
    n_patches = len(PatchStore(screen.patches_path))
    if n_patches != held["cells"]:
        raise ScreenError(
            f"{screen.path} holds {n_patches} patches for {held['cells']} cells; make it anew with 'cytovae ingest'"
        )
    digest = screen.cells_digest()
    held["models"] = []
    for model in screen.models():
        index = screen.embeddings_path(model) / "index.parquet"
        fresh = read_provenance(index).get("inputs", {}).get("cells") == digest
        n = count_rows(index)
        held["models"].append({"name": model, "cells": n, "fits_these_cells": fresh})
        if fresh and n < held["cells"]:
            missing.append(f"embeddings of {model}: {held['cells'] - n} of {held['cells']} cells have none")
        if not fresh:
            missing.append(f"embeddings of {model} are of other cells: run 'cytovae embed --overwrite'")
    for kind in ("profiles", "results", "maps"):
        root = screen.path / kind
        held[kind] = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    if not held["models"]:
        missing.append("no embeddings: run 'cytovae embed'")
    elif not held["profiles"]:
        missing.append("no profiles: run 'cytovae profile'")
    if not held["mechanisms"]:
        missing.append("no mechanism of action is known: profiles cannot be scored")
    if held["record"]["pixel_size_um"] is None:
        missing.append("pixel size unknown: scale bars are in px (give --pixel-size-um at ingest)")
    return {**held, "missing": missing}


def _cells(screen: Screen) -> dict[str, Any]:
    columns = [schema.PLATE, schema.WELL, schema.BATCH, schema.COMPOUND, schema.TREATMENT, schema.MOA, schema.BLANK]
    cells = read_table(screen.cells_path, columns)
    controls = cells[schema.COMPOUND] == screen.record.control
    treated = cells[~controls & schema.not_blank(cells)]
    sizes = treated[schema.TREATMENT].value_counts()
    mechanisms = treated.loc[treated[schema.MOA] != schema.UNKNOWN_MOA, schema.MOA].value_counts().sort_index()
    return {
        "cells": len(cells),
        "blank_cells": int(cells[schema.BLANK].sum()),
        "control_cells": int(controls.sum()),
        "plates": int(cells[schema.PLATE].nunique()),
        "wells": len(cells[[schema.PLATE, schema.WELL]].drop_duplicates()),
        "batches": sorted(map(str, cells[schema.BATCH].unique())),
        "treatments": len(sizes),
        "cells_per_treatment": {"least": int(sizes.min()), "median": float(sizes.median()), "most": int(sizes.max())}
        if len(sizes)
        else {},
        "mechanisms": {str(moa): int(n) for moa, n in mechanisms.items()},
    }


def _fields(screen: Screen) -> dict[str, Any]:
    if not screen.fields_path.exists():
        return {"fields": {}, "codes": {}, "problems": [], "border_cells_left_out": 0, "nucleus_width_px": None}
    fields = screen.fields()
    paths = [c for c in fields.columns if c.startswith(layouts.path_column(""))]
    said = fields[fields[schema.CODE] != ""]
    problems = [
        {
            "field": row[schema.FIELD],
            "status": row[schema.STATUS],
            "code": row[schema.CODE],
            "reason": row[schema.REASON],
            "files": sorted({file for p in paths if row[p] for file in str(row[p]).split(BETWEEN_FILES)}),
        }
        for row in said.to_dict("records")
    ]
    codes = said[schema.CODE].str.split("; ").explode().value_counts().sort_index()
    border = int(fields[schema.N_BORDER].sum()) if schema.N_BORDER in fields else 0
    widths = fields[schema.NUCLEUS_WIDTH].dropna() if schema.NUCLEUS_WIDTH in fields else pd.Series(dtype=float)
    return {
        "nucleus_width_px": float(widths.median()) if len(widths) else None,
        "fields": {str(k): int(v) for k, v in fields[schema.STATUS].value_counts().sort_index().items()},
        "codes": {str(k): int(v) for k, v in codes.items()},
        "problems": problems,
        "border_cells_left_out": border,
    }


def as_text(held: dict[str, Any], limit: int = 20) -> str:
    """An inventory for a person; of each code the first `limit` fields by name."""
    record = held["record"]
    size = "unknown" if record["pixel_size_um"] is None else f"{record['pixel_size_um']:g} um"
    lines = [
        f"screen {record['name']} at {held['path']}",
        f"  channels {', '.join(record['channels'])}; patches of {record['patch_size_px']} px; pixel size {size}; "
        f"control {record['control']}",
    ]
    if record["source"] or record["licence"]:
        lines.append(f"  source {record['source'] or 'not given'}; licence {record['licence'] or 'not given'}")
    if held["cells"]:
        lines += [
            f"  {held['cells']} cells ({held['control_cells']} control, {held['blank_cells']} blank) of "
            f"{held['treatments']} treatments and {len(held['mechanisms'])} mechanisms, in {held['wells']} wells on "
            f"{held['plates']} plates of {len(held['batches'])} batches",
        ]
        if spread := held["cells_per_treatment"]:
            lines.append(f"  cells of a treatment: {spread['least']} to {spread['most']}, median {spread['median']:g}")
        if held["border_cells_left_out"]:
            lines.append(f"  {held['border_cells_left_out']} cells left out whose patch would leave the field")
        if held["nucleus_width_px"]:
            lines.append(f"  nuclei are about {held['nucleus_width_px']:.0f} px wide")
        lines.append("  fields: " + (", ".join(f"{n} {status}" for status, n in held["fields"].items()) or "none said"))
        for model in held["models"]:
            lines.append(f"  embeddings of {model['name']}: {model['cells']} cells")
        for kind in ("profiles", "results", "maps"):
            if held[kind]:
                lines.append(f"  {kind}: {', '.join(held[kind])}")
    lines += [f"  missing: {said}" for said in held["missing"]]
    for code, count in held.get("codes", {}).items():
        lines.append(f"{code}: {count}")
        here = [p for p in held["problems"] if code in p["code"].split("; ")]
        lines += [f"  {p['field']} [{p['status']}] {p['reason']}" for p in here[:limit]]
        if len(here) > limit:
            lines.append(f"  ... and {len(here) - limit} more; all stand in fields.parquet and in --json")
    return "\n".join(lines)
