"""Verbs that bring data in, say what is there, and hand it on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cytovae.cli import console
from cytovae.ingest.exports import Format
from cytovae.ingest.illumination import Correction
from cytovae.patches import Storage

if TYPE_CHECKING:
    from pandas import DataFrame

    from cytovae.config import ScreenRecord
    from cytovae.ingest.assembly import Outcome
    from cytovae.ingest.layouts import Design

ScreenPath = Annotated[Path, typer.Argument(metavar="SCREEN", help="The screen folder to make.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Make it again, replacing all that was computed from it.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; by default one per core.")]
Name = Annotated[str | None, typer.Option("--name", help="What to call the screen; by default its folder's name.")]
Source = Annotated[str, typer.Option("--source", help="Where the images come from.")]
Origin = Annotated[
    str | None, typer.Option("--source", help="Where the images come from, if not what the folder says.")
]
Licence = Annotated[str, typer.Option("--licence", help="Under what licence they are.")]
PixelSize = Annotated[float | None, typer.Option("--pixel-size-um", help="Edge of a pixel (um), if known.")]
PatchSize = Annotated[int, typer.Option("--patch-size-px", help="Edge of a patch (px).")]
Control = Annotated[str, typer.Option("--control", help="Compound name of untreated cells.")]
BitDepth = Annotated[int, typer.Option("--bit-depth", help="Bits per pixel of the files: 16 or 8.")]
Illumination = Annotated[
    Correction,
    typer.Option("--illumination", help="plate: divide by each plate's own illumination; none: leave it."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="What the tables call a column, such as compound=drug; may be given several times."),
]
PlateMap = Annotated[
    Path | None, typer.Option("--plate-map", help="CSV with a row per well: well, plate, compound, concentration, ...")
]
TreatmentColumns = Annotated[
    str | None,
    typer.Option(
        "--treatment-columns",
        help="What tells treatments apart: compound,concentration,cell_line; compound alone where nothing has a dose.",
    ),
]
Stack = Annotated[
    str | None, typer.Option("--z", help="What becomes of a z-stack: max, sum, or one plane by its number from 1.")
]
Rescale = Annotated[
    str | None,
    typer.Option(
        "--rescale",
        help="To the networks' scale: 'nucleus' (from --nucleus-px to 34 px), or a pixel size in um "
        "(from --pixel-size-um).",
    ),
]
Fit = Annotated[bool, typer.Option("--fit", help="Cut crops of another size to their centre, or pad them.")]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="Take nuclei from label images (Cellpose, StarDist, CellProfiler) beside the DNA images, whose names end "
        "in this, such as _cp_masks.",
    ),
]
Patches = Annotated[
    Storage,
    typer.Option(
        "--patches",
        help="on-demand: keep only where the cells lie and read them from the fields, which must stay where they are.",
    ),
]
Diameter = Annotated[float, typer.Option("--nucleus-px", help="Usual diameter of a nucleus (px).")]


LOADDATA_EXAMPLE = """\b
Example of a table, in five lines:
FileName_OrigDNA,PathName_OrigDNA,Metadata_Plate,Metadata_Well,Metadata_Site,drug,Metadata_Concentration
r01c01f01-ch1.tif,plate1/Images,P1,A01,1,DMSO,0
r01c02f01-ch1.tif,plate1/Images,P1,A02,1,taxol,0.3
cytovae ingest loaddata load_data.csv my.screen --channels DNA=OrigDNA --column compound=drug
"""
FILES_EXAMPLE = """\b
Example of a plate map, in five lines:
well,compound,concentration,moa
A01,DMSO,0,
A02,taxol,0.3,Microtubule stabilizers
cytovae ingest files RAW my.screen --microscope operetta --channels DNA=1,Actin=2 --plate-map map.csv
"""
CROPS_EXAMPLE = """\b
Example of a table, in five lines:
cell_id,plate,well,compound,concentration_uM,moa
c1,P1,A01,DMSO,0,
c2,P1,A02,taxol,0.3,Microtubule stabilizers
cytovae ingest crops my.screen --images cells.npz --table cells.csv --channels DNA,Tubulin,Actin
"""


@console.ingest_app.command("bbbc021")
def ingest_bbbc021(
    raw: Annotated[Path, typer.Argument(metavar="RAW_DIR", help="Folder with the collection's image folders.")],
    screen: ScreenPath,
    image_table: Annotated[Path | None, typer.Option(help="The collection's image table.")] = None,
    moa_table: Annotated[Path | None, typer.Option(help="The collection's table of mechanisms.")] = None,
    name: Name = None,
    source: Origin = None,
    licence: Licence = "",
    pixel_size_um: PixelSize = None,
    control: Control = "DMSO",
    plate_map: PlateMap = None,
    treatment_columns: TreatmentColumns = None,
    nucleus_px: Diameter = 34.0,
    rescale: Rescale = None,
    illumination: Illumination = Correction.NONE,
    patches: Patches = Storage.STORED,
    bit_depth: BitDepth = 16,
    workers: Workers = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fields of the BBBC021 collection (or of its layout) -> nuclei -> patches."""
    from cytovae.config import ScreenRecord
    from cytovae.ingest import assembly, layouts
    from cytovae.ingest.nuclei import NucleiOptions

    design = _design(control, None, plate_map, treatment_columns)
    layout = layouts.bbbc021.read(raw, image_table, moa_table, design=design)
    known = layouts.bbbc021.origin(raw)
    record = ScreenRecord(
        name=name or screen.stem,
        channels=layout.channels,
        pixel_size_um=pixel_size_um,
        control=control,
        source=known[0] if source is None else source,
        licence=licence or (known[1] if source is None else ""),
    )
    record = _scaled(record, rescale, nucleus_px)
    options = assembly.IngestOptions(bit_depth, illumination, NucleiOptions(diameter_px=nucleus_px), patches=patches)
    _warn(layout.fields, control)
    with console.progress("fields") as progress:
        outcome = assembly.ingest_fields(
            layout, raw, screen, record, options, workers=_workers(workers), overwrite=overwrite, progress=progress
        )
    _report(outcome, as_json)


@console.ingest_app.command("loaddata", epilog=LOADDATA_EXAMPLE)
def ingest_loaddata(
    table: Annotated[Path, typer.Argument(metavar="CSV", help="A CellProfiler LoadData table.")],
    screen: ScreenPath,
    channels: Annotated[str, typer.Option(help="Channel=column for each: DNA=OrigDNA,Tubulin=OrigTubulin.")],
    images: Annotated[Path | None, typer.Option(help="Folder of relative paths; else the table's.")] = None,
    centres: Annotated[Path | None, typer.Option(help="CSV of known cell centres, such as Nuclei.csv.")] = None,
    compound_column: Annotated[str | None, typer.Option(help="If it is not Metadata_Compound.")] = None,
    concentration_column: Annotated[str | None, typer.Option(help="If it is not Metadata_Concentration (uM).")] = None,
    moa_column: Annotated[str | None, typer.Option(help="If it is not Metadata_MoA.")] = None,
    batch_column: Annotated[str | None, typer.Option(help="If it is not Metadata_Batch or WeekN of the plate.")] = None,
    name: Name = None,
    source: Source = "",
    licence: Licence = "",
    pixel_size_um: PixelSize = None,
    patch_size_px: PatchSize = 68,
    control: Control = "DMSO",
    column: Columns = None,
    plate_map: PlateMap = None,
    treatment_columns: TreatmentColumns = None,
    z: Stack = None,
    nucleus_px: Diameter = 34.0,
    rescale: Rescale = None,
    labels: Labels = None,
    illumination: Illumination = Correction.NONE,
    patches: Patches = Storage.STORED,
    bit_depth: BitDepth = 16,
    workers: Workers = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fields of a CellProfiler LoadData table -> nuclei (or known centres) -> patches."""
    from cytovae import schema
    from cytovae.config import ScreenRecord
    from cytovae.ingest import assembly, layouts
    from cytovae.ingest.nuclei import NucleiOptions

    asked = {
        schema.COMPOUND: compound_column,
        schema.CONCENTRATION: concentration_column,
        schema.MOA: moa_column,
        schema.BATCH: batch_column,
    }
    layout = layouts.loaddata.read(
        table,
        _pairs(channels),
        images=images,
        centres=centres,
        design=_design(control, column, plate_map, treatment_columns, {n: c for n, c in asked.items() if c}),
    )
    record = ScreenRecord(
        name=name or screen.stem,
        channels=layout.channels,
        pixel_size_um=pixel_size_um,
        patch_size_px=patch_size_px,
        control=control,
        source=source,
        licence=licence,
    )
    record = _scaled(record, rescale, nucleus_px)
    options = assembly.IngestOptions(
        bit_depth, illumination, NucleiOptions(diameter_px=nucleus_px), z, labels=labels, patches=patches
    )
    _warn(layout.fields, control)
    with console.progress("fields") as progress:
        outcome = assembly.ingest_fields(
            layout,
            images or table.parent,
            screen,
            record,
            options,
            workers=_workers(workers),
            overwrite=overwrite,
            progress=progress,
        )
    _report(outcome, as_json)


@console.ingest_app.command("files", epilog=FILES_EXAMPLE)
def ingest_files(
    raw: Annotated[Path, typer.Argument(metavar="RAW_DIR", help="Folder of TIFFs, with a folder for each plate.")],
    screen: ScreenPath,
    microscope: Annotated[
        str,
        typer.Option(
            help="Whose file names they are: operetta (Opera, Operetta), imagexpress, incell; or a regular expression "
            "with the groups well (or row and column), plate, site, channel, z, time."
        ),
    ],
    channels: Annotated[str, typer.Option(help="Channel=what the file names call it: DNA=1,Tubulin=2,Actin=4.")],
    name: Name = None,
    source: Source = "",
    licence: Licence = "",
    pixel_size_um: PixelSize = None,
    patch_size_px: PatchSize = 68,
    control: Control = "DMSO",
    column: Columns = None,
    plate_map: PlateMap = None,
    treatment_columns: TreatmentColumns = None,
    z: Stack = None,
    nucleus_px: Diameter = 34.0,
    rescale: Rescale = None,
    labels: Labels = None,
    illumination: Illumination = Correction.NONE,
    patches: Patches = Storage.STORED,
    bit_depth: BitDepth = 16,
    workers: Workers = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fields named as a microscope names them, and a plate map -> nuclei -> patches."""
    from cytovae.config import ScreenRecord
    from cytovae.ingest import assembly, layouts
    from cytovae.ingest.nuclei import NucleiOptions

    design = _design(control, column, plate_map, treatment_columns)
    layout = layouts.files.read(raw, _pairs(channels), microscope, z=z, design=design)
    record = ScreenRecord(
        name=name or screen.stem,
        channels=layout.channels,
        pixel_size_um=pixel_size_um,
        patch_size_px=patch_size_px,
        control=control,
        source=source,
        licence=licence,
    )
    record = _scaled(record, rescale, nucleus_px)
    options = assembly.IngestOptions(
        bit_depth, illumination, NucleiOptions(diameter_px=nucleus_px), z, labels=labels, patches=patches
    )
    _warn(layout.fields, control)
    with console.progress("fields") as progress:
        outcome = assembly.ingest_fields(
            layout, raw, screen, record, options, workers=_workers(workers), overwrite=overwrite, progress=progress
        )
    _report(outcome, as_json)


@console.ingest_app.command("crops", epilog=CROPS_EXAMPLE)
def ingest_crops(
    screen: ScreenPath,
    images: Annotated[
        Path, typer.Option(help="An npz or npy array (n, H, W, C), or a folder of npy, tif or png files.")
    ],
    table: Annotated[Path, typer.Option(help="CSV, one row per cell.")],
    channels: Annotated[str, typer.Option(help="Channels in the order the images hold them: DNA,Tubulin,Actin.")],
    batch_column: Annotated[
        str | None, typer.Option(help="Column that tells the batch; else WeekN of the plate.")
    ] = None,
    name: Name = None,
    source: Source = "",
    licence: Licence = "",
    pixel_size_um: PixelSize = None,
    patch_size_px: PatchSize = 68,
    control: Control = "DMSO",
    column: Columns = None,
    plate_map: PlateMap = None,
    treatment_columns: TreatmentColumns = None,
    nucleus_px: Diameter = 34.0,
    rescale: Rescale = None,
    fit: Fit = False,
    bit_depth: BitDepth = 16,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Pre-cut cells -> a screen."""
    from cytovae.config import ScreenRecord
    from cytovae.ingest import assembly, layouts

    design = _design(control, column, plate_map, treatment_columns)
    layout = layouts.crops.read(images, table, [c.strip() for c in channels.split(",")], batch_column, design)
    record = ScreenRecord(
        name=name or screen.stem,
        channels=layout.channels,
        pixel_size_um=pixel_size_um,
        patch_size_px=patch_size_px,
        control=control,
        source=source,
        licence=licence,
    )
    record = _scaled(record, rescale, nucleus_px)
    options = assembly.IngestOptions(bit_depth=bit_depth, fit=fit or None)
    _warn(layout.cells, control)
    with console.progress("crops") as progress:
        outcome = assembly.ingest_crops(layout, screen, record, options, overwrite=overwrite, progress=progress)
    _report(outcome, as_json)


def _pairs(channels: str) -> dict[str, str]:
    """Channel -> what the images or tables call it."""
    pairs = [pair.split("=") for pair in channels.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise typer.BadParameter(f"write channel=column for each, such as DNA=OrigDNA, not {channels!r}")
    return {channel.strip(): theirs.strip() for channel, theirs in pairs}


def _design(
    control: str,
    columns: list[str] | None,
    plate_map: Path | None,
    treatment_columns: str | None,
    named: dict[str, str] | None = None,
) -> Design:
    """What the options say of the wells; `named` are columns that have an option of their own."""
    from cytovae.ingest.layouts import Design
    from cytovae.ingest.layouts.tables import metadata_name

    pairs = [tuple(part.strip() for part in pair.partition("=")) for pair in columns or ()]
    for ours, _, theirs in pairs:
        if not ours or not theirs:
            raise typer.BadParameter("write compound=NAME, with the name the table has for it", param_hint="--column")
    asked = {metadata_name(ours): theirs for ours, _, theirs in pairs}
    treatment = (
        None if treatment_columns is None else tuple(c.strip() for c in treatment_columns.split(",") if c.strip())
    )
    return Design({**(named or {}), **asked}, plate_map, treatment, control)


def _scaled(record: ScreenRecord, rescale: str | None, nucleus_px: float) -> ScreenRecord:
    """The record of a screen of rescaled images, where that is asked for."""
    from cytovae.ingest import scale

    return record if rescale is None else scale.of(record, scale.factor(rescale, nucleus_px, record.pixel_size_um))


def _warn(fields: DataFrame, control: str) -> None:
    """Say before the work begins that there is no control."""
    from cytovae.ingest.layouts.tables import without_control

    if said := without_control(fields, control):
        console.say(said)


def _workers(asked: int | None) -> int:
    from cytovae.cluster import cores

    return asked or cores()


def _report(outcome: Outcome, as_json: bool) -> None:
    """What an ingest made, what it left out and why."""
    document: dict[str, Any] = {
        "screen": str(outcome.screen.path),
        "already": outcome.already,
        "cells": outcome.n_cells,
        "blank_cells": outcome.n_blank,
        "border_cells_left_out": outcome.n_border,
        "fields": outcome.fields,
        "codes": outcome.codes,
        "nucleus_width_px": outcome.nucleus_width_px,
        "without_control": outcome.without_control,
    }
    lines = [
        f"{outcome.screen.path}: {outcome.n_cells} cells",
        _blank(outcome),
        f"{outcome.n_border} cells left out whose patch would leave the field" if outcome.n_border else "",
        ""
        if outcome.width_fits
        else f"nuclei are about {outcome.nucleus_width_px:.0f} px wide, not {outcome.assumed_width_px:g} as assumed; "
        f"ingest again with --nucleus-px {outcome.nucleus_width_px:.0f} --rescale nucleus --overwrite, so that a patch "
        "holds the cell and not only its nucleus (without --rescale the magnification stays as it is)",
        *(f"{count} {code}" for code, count in outcome.codes.items()),
        f"'cytovae info {outcome.screen.path}' names every one with its reason" if outcome.codes else "",
    ]
    if outcome.already:
        console.already(outcome.screen.path)
    console.emit(document, as_json, "\n".join(line for line in lines if line))


def _blank(outcome: Outcome) -> str:
    if outcome.n_cells and outcome.n_blank == outcome.n_cells:
        return (
            "every one of them is blank: DNA shows a nucleus in none, so nothing can be trained on or profiled; "
            "see that the channel called DNA is the one that shows the nuclei"
        )
    return (
        f"{outcome.n_blank} blank (no nucleus to be seen; kept, but out of training and profiles)"
        if outcome.n_blank
        else ""
    )


@console.fetch_app.command("bbbc021")
def fetch_bbbc021(
    raw: Annotated[Path, typer.Argument(metavar="RAW_DIR", help="Folder to fill.")],
    plates: Annotated[
        str | None, typer.Option(help="Plates, with commas between; all 55 (about 40 GB) without.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Where the files lie; the collection's own site without.")
    ] = None,
    checksums: Annotated[Path | None, typer.Option(help="Expected sha256 digests, as sha256sum writes them.")] = None,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Keep the zip files.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Fetch again what is there.")] = False,
    as_json: Json = False,
) -> None:
    """BBBC021's tables and images from the collection's site, resumable and checked (CC BY-NC-SA 3.0)."""
    from cytovae.ingest import fetch

    asked = [p.strip() for p in plates.split(",")] if plates else None
    expected = fetch.read_checksums(checksums) if checksums else None
    with console.progress("bytes") as progress:
        done = fetch.bbbc021(
            raw,
            asked,
            base_url=base_url or fetch.BASE_URL,
            sha256=expected,
            keep_archives=keep_archives,
            overwrite=overwrite,
            progress=progress,
        )
    before = f", {len(done.already)} of them there before" if done.already else ""
    lines = [f"{raw}: {done.images} images of {len(done.plates)} plates{before}"]
    if done.absent:
        lines.append(f"{len(done.absent)} files of the table are in no archive, the first {done.absent[0]}")
    document = {
        "raw": str(raw),
        "plates": list(done.plates),
        "already": list(done.already),
        "images": done.images,
        "absent": list(done.absent),
    }
    console.emit(document, as_json, "\n".join(lines))


@console.app.command("info")
def info(
    path: Annotated[Path, typer.Argument(metavar="SCREEN_OR_BUNDLE", help="A screen's or a model's folder.")],
    limit: Annotated[int, typer.Option(help="How many fields to name for each kind of fault.")] = 20,
    as_json: Json = False,
) -> None:
    """What it is, what it holds, what is missing, what was refused and why."""
    from cytovae.learn import bundle
    from cytovae.screen import Screen

    if path.name in bundle.find(bundle.models_dir()) and not path.exists():
        path = bundle.locate(path, bundle.models_dir())
    if (path / bundle.CONFIG).exists():
        document = {"kind": "bundle", "path": str(path), **bundle.describe(path), "metrics": bundle.read_metrics(path)}
        text = [f"model {document['name']} at {path}"]
        told = {key: value for key, value in document.items() if key not in ("kind", "path", "name", "metrics")}
        text += [line for key, value in told.items() for line in _lines(key, value)]
        text += [line for key, value in document["metrics"].items() for line in _lines(f"measured {key}", value)]
        console.emit(document, as_json, "\n".join(text))
        return
    from cytovae.ingest import inventory

    held = inventory.take(Screen.open(path))
    console.emit(held, as_json, inventory.as_text(held, limit))


def _lines(key: str, value: Any) -> list[str]:
    """One entry of a bundle's description for a person: a dict line by line, of what is long how long it is."""
    if isinstance(value, dict) and len(value) < 20:
        return [line for name, inner in value.items() for line in _lines(f"{key}.{name}", inner)]
    if isinstance(value, list | dict) and len(value) > 8:
        return [f"  {key}: {len(value)} of them, listed by --json"]
    return [f"  {key}: {', '.join(map(str, value)) if isinstance(value, list) else value}"]


@console.app.command("export")
def export(
    screen: Annotated[Path, typer.Argument(metavar="SCREEN", help="A screen's folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File (anndata, parquet) or folder (crops) to write.")],
    to: Annotated[Format, typer.Option(help="An AnnData file, a parquet file, or a folder of crops.")],
    bundle: Annotated[str | None, typer.Option(help="Whose embedding goes with it.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    as_json: Json = False,
) -> None:
    """A screen for other tools, with its provenance."""
    from cytovae.ingest import exports
    from cytovae.screen import Screen

    if to == Format.ANNDATA and bundle is None:
        raise typer.BadParameter("an AnnData file holds an embedding: say whose", param_hint="--bundle")
    opened = Screen.open(screen)
    if out.exists() and not overwrite:
        console.already(out)
        console.emit({"out": str(out), "already": True}, as_json)
        return
    model = Path(bundle).name if bundle else None
    if to == Format.PARQUET:
        count = exports.to_parquet(opened, out, model)
    elif to == Format.ANNDATA:
        count = exports.to_anndata(opened, out, str(model))
    else:
        with console.progress("cells") as progress:
            count = exports.to_crops(opened, out, progress)
    document = {"out": str(out), "already": False, "to": to.value, "cells": count, "bundle": model}
    console.emit(document, as_json, f"{out}: {count} cells")
