"""Verbs that bring data in, say what is there, and hand it on."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cytovae.cli import console
from cytovae.ingest import request
from cytovae.ingest.exports import Format
from cytovae.ingest.illumination import Correction
from cytovae.ingest.layouts import Unit
from cytovae.patches import Storage

if TYPE_CHECKING:
    from pandas import DataFrame

    from cytovae.cluster import Shard
    from cytovae.ingest.assembly import Outcome
    from cytovae.ingest.layouts import Layout
    from cytovae.screen import Screen

ScreenPath = Annotated[Path, typer.Argument(metavar="SCREEN", help="The screen folder to make.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Channels = Annotated[str, typer.Option(help="Channel=what the images call it, for each: DNA=1,Tubulin=2,Actin=4.")]

SHARED: dict[str, Any] = {
    "name": Annotated[str | None, typer.Option(help="What to call the screen; by default its folder's name.")],
    "source": Annotated[str | None, typer.Option(help="Where the images come from, if not what the folder says.")],
    "licence": Annotated[str | None, typer.Option(help="Under what licence they are.")],
    "control": Annotated[str, typer.Option(help="Compound name of untreated cells.")],
    "pixel_size_um": Annotated[float | None, typer.Option(help="Edge of a pixel (um), if known.")],
    "patch_size_px": Annotated[int, typer.Option(help="Edge of a patch (px).")],
    "bit_depth": Annotated[int, typer.Option(help="Bits per pixel of the files: 16 or 8.")],
    "column": Annotated[
        list[str] | None,
        typer.Option(help="What the tables call a column, such as compound=drug; may be given several times."),
    ],
    "plate_map": Annotated[
        Path | None, typer.Option(help="CSV with a row per well: well, plate, compound, concentration, ...")
    ],
    "treatment_columns": Annotated[
        str | None,
        typer.Option(
            help="What tells treatments apart: compound,concentration,cell_line; compound alone where nothing has a "
            "dose."
        ),
    ],
    "concentration_unit": Annotated[Unit, typer.Option(help="What doses of the tables are counted in.")],
    "nucleus_px": Annotated[float, typer.Option(help="Usual diameter of a nucleus (px).")],
    "rescale": Annotated[
        str | None,
        typer.Option(
            help="To the networks' scale: 'nucleus' (from --nucleus-px to 34 px), or a pixel size in um "
            "(from --pixel-size-um); 'none' keeps any magnification."
        ),
    ],
    "z": Annotated[
        str | None, typer.Option(help="What becomes of a z-stack: max, sum, or one plane by its number from 1.")
    ],
    "labels": Annotated[
        str | None,
        typer.Option(
            help="Take nuclei from label images (Cellpose, StarDist, CellProfiler) beside the DNA images, whose names "
            "end in this, such as _cp_masks."
        ),
    ],
    "illumination": Annotated[Correction, typer.Option(help="; ".join(f"{way}: {way.words}" for way in Correction))],
    "patches": Annotated[
        Storage,
        typer.Option(
            help="on-demand: keep only where the cells lie and read them from the fields, which must stay where they "
            "are."
        ),
    ],
    "fit": Annotated[bool, typer.Option("--fit", help="Cut crops of another size to their centre, or pad them.")],
    "workers": Annotated[int | None, typer.Option(min=1, help="Processes; by default one per core.")],
    "cluster": Annotated[
        str | None,
        typer.Option(
            help="Work on a Dask cluster: tcp://HOST:PORT, a scheduler file, local:N (processes) or slurm:N (jobs)."
        ),
    ],
    "shard": Annotated[
        str | None,
        typer.Option(help="Do one of n equal shares, i/n, as a job of a job array; 'cytovae merge SCREEN' ends it."),
    ],
    "overwrite": Annotated[
        bool, typer.Option("--overwrite", help="Make it again, replacing all that was computed from it.")
    ],
    "as_json": Json,
}
"""Every option that several layouts have, by the name it has in `request` or `Run`."""


@dataclasses.dataclass(frozen=True)
class Run:
    """How an ingest runs and tells."""

    workers: int | None = None
    cluster: str | None = None
    shard: str | None = None
    overwrite: bool = False
    as_json: bool = False

    def where(self) -> int | str:
        """A number of processes, or a cluster."""
        return console.where(self.workers, self.cluster)

    def share(self) -> Shard | None:
        """The shard, where one is asked for."""
        from cytovae.cluster import Shard

        if self.shard and self.overwrite:
            raise typer.BadParameter("shards begin nothing anew; remove the screen first", param_hint="--overwrite")
        return Shard.parse(self.shard) if self.shard else None


def _options_of(asked: type[request.Request]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a verb the options of a request and of a run; it is handed both, as ``asked`` and ``run``."""

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(verb, eval_str=True).parameters.values() if p.name not in ("asked", "run")]
        shared = {kind: [f for f in dataclasses.fields(kind) if f.name in SHARED] for kind in (asked, Run)}
        more = [
            inspect.Parameter(
                f.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None if f.default is dataclasses.MISSING else f.default,
                annotation=SHARED[f.name],
            )
            for f in (*shared[asked], *shared[Run])
            if not (asked is request.Crops and f.name in ("workers", "cluster", "shard"))
        ]

        def called(**given: Any) -> None:
            said = dict(given)
            parts = {kind: {f.name: given.pop(f.name) for f in shared[kind] if f.name in given} for kind in shared}
            columns, treatment = parts[asked]["column"], parts[asked]["treatment_columns"]
            parts[asked]["column"] = _columns(columns)
            if treatment is not None:
                parts[asked]["treatment_columns"] = tuple(c.strip() for c in treatment.split(",") if c.strip())
            verb(**given, asked=asked(**parts[asked]), run=Run(**parts[Run]))
            _remember(verb.__name__.removeprefix("ingest_"), said)

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + more
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in parameters}
        called.__name__, called.__doc__ = verb.__name__, verb.__doc__
        return called

    return decorate


READING = "reading.json"
"""In a screen: how its raw data were read, for `append` to read others in the same way."""

_OF_ONE_RUN = {
    "raw", "plate", "table", "image_table", "images", "centres", "screen", "name", "workers", "cluster", "shard",
    "overwrite", "as_json",
}  # fmt: skip


def _remember(verb: str, given: dict[str, Any]) -> None:
    """Keep the options of an ingest in the screen that it made."""
    from cytovae.ingest import assembly
    from cytovae.screen import write_json

    place = Path(given["screen"])
    if not place.is_dir():  # shards are making it
        place = assembly.half_made(place)
    words: list[str] = []
    for name, value in given.items():
        if name in _OF_ONE_RUN or value in (None, False) or value == []:
            continue
        for one in value if isinstance(value, list) else [value]:
            text = str(one.absolute()) if isinstance(one, Path) else str(one)
            words += [f"--{name.replace('_', '-')}"] + ([] if one is True else [text])
    write_json(place / READING, {"verb": verb, "words": words})


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
ZARR_EXAMPLE = """\b
Example of a plate map, in five lines:
well,compound,concentration,moa
A01,DMSO,0,
A02,taxol,0.3,Microtubule stabilizers
cytovae ingest ome-zarr PLATE.zarr my.screen --channels DNA=Hoechst,Actin=Phalloidin --plate-map map.csv
"""
CROPS_EXAMPLE = """\b
Example of a table, in five lines:
cell_id,plate,well,compound,concentration_uM,moa
c1,P1,A01,DMSO,0,
c2,P1,A02,taxol,0.3,Microtubule stabilizers
cytovae ingest crops my.screen --images cells.npz --table cells.csv --channels DNA,Tubulin,Actin
"""


@console.ingest_app.command("bbbc021")
@_options_of(request.Fields)
def ingest_bbbc021(
    raw: Annotated[Path, typer.Argument(metavar="RAW_DIR", help="Folder with the collection's image folders.")],
    screen: ScreenPath,
    image_table: Annotated[Path | None, typer.Option(help="The collection's image table.")] = None,
    moa_table: Annotated[Path | None, typer.Option(help="The collection's table of mechanisms.")] = None,
    *,
    asked: request.Fields,
    run: Run,
) -> None:
    """Fields of the BBBC021 collection (or of its layout) -> nuclei -> patches."""
    from cytovae.ingest import layouts

    layout = layouts.bbbc021.read(raw, image_table, moa_table, design=asked.design)
    _ingest(layout, raw, screen, asked, run, layouts.bbbc021.origin(raw))


@console.ingest_app.command("loaddata", epilog=LOADDATA_EXAMPLE)
@_options_of(request.Fields)
def ingest_loaddata(
    table: Annotated[Path, typer.Argument(metavar="CSV", help="A CellProfiler LoadData table.")],
    screen: ScreenPath,
    channels: Annotated[str, typer.Option(help="Channel=column for each: DNA=OrigDNA,Tubulin=OrigTubulin.")],
    images: Annotated[Path | None, typer.Option(help="Folder of relative paths; else the table's.")] = None,
    centres: Annotated[Path | None, typer.Option(help="CSV of known cell centres, such as Nuclei.csv.")] = None,
    compound_column: Annotated[str | None, typer.Option(help="If it is not Metadata_Compound.")] = None,
    concentration_column: Annotated[str | None, typer.Option(help="If it is not Metadata_Concentration (µM).")] = None,
    moa_column: Annotated[str | None, typer.Option(help="If it is not Metadata_MoA.")] = None,
    batch_column: Annotated[str | None, typer.Option(help="If it is not Metadata_Batch or WeekN of the plate.")] = None,
    *,
    asked: request.Fields,
    run: Run,
) -> None:
    """Fields of a CellProfiler LoadData table -> nuclei (or known centres) -> patches."""
    from cytovae.ingest import layouts

    named = (
        ("compound", compound_column),
        ("concentration", concentration_column),
        ("moa", moa_column),
        ("batch", batch_column),
    )
    asked = dataclasses.replace(asked, column={ours: theirs for ours, theirs in named if theirs} | {**asked.column})
    pairs, by_files = _pairs(channels), asked.illumination == Correction.FILES
    if asked.illumination == Correction.NONE and layouts.loaddata.lights_named(table, pairs):
        console.say("the table names illumination files, which are not used; --illumination files divides by them")
    layout = layouts.loaddata.read(
        table, pairs, images=images, centres=centres, design=asked.design, illumination=by_files
    )
    _ingest(layout, images or table.parent, screen, asked, run)


@console.ingest_app.command("files", epilog=FILES_EXAMPLE)
@_options_of(request.Fields)
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
    channels: Channels,
    *,
    asked: request.Fields,
    run: Run,
) -> None:
    """Fields named as a microscope names them, and a plate map -> nuclei -> patches."""
    from cytovae.ingest import layouts

    layout = layouts.files.read(raw, _pairs(channels), microscope, z=asked.z, design=asked.design)
    _ingest(layout, raw, screen, asked, run)


@console.ingest_app.command("ome-zarr", epilog=ZARR_EXAMPLE)
@_options_of(request.Fields)
def ingest_ome_zarr(
    plate: Annotated[Path, typer.Argument(metavar="PLATE.zarr", help="An OME-Zarr plate, or a folder of plates.")],
    screen: ScreenPath,
    channels: Channels,
    acquisition: Annotated[int | None, typer.Option(help="Which acquisition, where a plate has several.")] = None,
    centres: Annotated[Path | None, typer.Option(help="CSV of known cell centres.")] = None,
    *,
    asked: request.Fields,
    run: Run,
) -> None:
    """Fields of OME-Zarr plates (NGFF 0.4, 0.5), and a plate map -> nuclei -> patches."""
    from cytovae.ingest import layouts

    pairs = _pairs(channels)
    layout = layouts.omezarr.read(plate, pairs, acquisition=acquisition, centres=centres, design=asked.design)
    _ingest(layout, plate, screen, asked, run)


@console.ingest_app.command("crops", epilog=CROPS_EXAMPLE)
@_options_of(request.Crops)
def ingest_crops(
    screen: ScreenPath,
    images: Annotated[
        Path,
        typer.Option(
            help="An npz or npy array (n, H, W, C), or a folder of npy, tif or png files, one a cell or a channel."
        ),
    ],
    table: Annotated[Path, typer.Option(help="CSV, one row per cell.")],
    channels: Annotated[str, typer.Option(help="Channels in the order the images hold them: DNA,Tubulin,Actin.")],
    batch_column: Annotated[
        str | None, typer.Option(help="Column that tells the batch; else WeekN of the plate.")
    ] = None,
    *,
    asked: request.Crops,
    run: Run,
) -> None:
    """Pre-cut cells -> a screen."""
    from cytovae.ingest import assembly, layouts

    layout = layouts.crops.read(images, table, [c.strip() for c in channels.split(",")], batch_column, asked.design)
    record = asked.record(screen, layout)
    _warn(layout.cells, asked)
    if run.overwrite or not screen.exists():
        asked.check_scale(layout, record)
    with console.progress("crops") as progress:
        outcome = assembly.ingest_crops(
            layout, screen, record, asked.options, overwrite=run.overwrite, progress=progress
        )
    _report(outcome, run.as_json)


def _ingest(
    layout: Layout, raw: Path, screen: Path, asked: request.Fields, run: Run, known: tuple[str, str] = ("", "")
) -> None:
    """Fields of any layout -> nuclei -> patches."""
    from cytovae.ingest import assembly

    record = asked.record(screen, layout, known)
    _warn(layout.fields, asked)
    told, given = layout.pixel_size_um, asked.pixel_size_um
    if told is not None and given is not None and abs(given / told - 1) > 0.01:
        console.say(f"the images say that a pixel is {told:g} um wide; --pixel-size-um {given:g} is taken instead")
    if run.overwrite or not screen.exists():
        asked.check_scale(layout, raw, record)
    with console.progress("fields") as progress:
        outcome = assembly.ingest_fields(
            layout,
            raw,
            screen,
            record,
            asked.options,
            workers=run.where(),
            shard=run.share(),
            overwrite=run.overwrite,
            progress=progress,
        )
    _report(outcome, run.as_json)


def _pairs(channels: str) -> dict[str, str]:
    """Channel -> what the images or tables call it."""
    pairs = [pair.split("=") for pair in channels.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise typer.BadParameter(f"write channel=column for each, such as DNA=OrigDNA, not {channels!r}")
    ours, theirs = ([name.strip() for name in side] for side in zip(*pairs, strict=True))
    for names in (ours, theirs):
        if twice := [name for name in names if names.count(name) > 1]:
            raise typer.BadParameter(f"{twice[0]!r} stands twice in {channels!r}; each channel has an image of its own")
    return dict(zip(ours, theirs, strict=True))


def _columns(given: list[str] | None) -> Mapping[str, str]:
    """Column -> what the tables call it."""
    pairs = [tuple(part.strip() for part in pair.partition("=")) for pair in given or ()]
    for ours, _, theirs in pairs:
        if not ours or not theirs:
            raise typer.BadParameter("write compound=NAME, with the name the table has for it", param_hint="--column")
    return {ours: theirs for ours, _, theirs in pairs}


def _warn(fields: DataFrame, asked: request.Request) -> None:
    """Say before the work begins that there is no control, and which wells are taken together."""
    from cytovae.ingest.layouts import tables

    for said in (tables.without_control(fields, asked.control), tables.merged(fields, asked.design)):
        if said:
            console.say(said)


def _report(outcome: Outcome | None, as_json: bool) -> None:
    """What an ingest made, what it left out and why; None of a shard."""
    if outcome is None:
        console.emit({"shard_done": True}, as_json, "this shard is done; when all are, 'cytovae merge SCREEN' ends it")
        return
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


@console.fetch_app.command("loaddata")
def fetch_loaddata(
    table: Annotated[Path, typer.Argument(metavar="CSV", help="A CellProfiler LoadData table, gzipped or not.")],
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder to fill; 'ingest loaddata --images FOLDER'.")
    ],
    channels: Annotated[str, typer.Option(help="Channel=column for each: DNA=OrigDNA,Tubulin=OrigTubulin.")],
    signed: Annotated[
        bool, typer.Option("--signed", help="Sign requests to S3 with your AWS credentials; anonymous without.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Fetch again what is there.")] = False,
    as_json: Json = False,
) -> None:
    """Images and illumination files that a LoadData table names by s3:// or https://, such as those of JUMP."""
    from cytovae.errors import IngestError
    from cytovae.ingest import layouts, remote

    wanted = layouts.loaddata.addresses(table, _pairs(channels))
    if not wanted:
        raise IngestError(f"{table} names no image by address: there is nothing to fetch")
    with console.progress("files") as progress:
        done = remote.fetch(wanted, folder, signed=signed, overwrite=overwrite, progress=progress)
    if done.already == done.files:
        console.already(folder)
    lines = [
        f"{folder}: {done.files - len(done.absent)} files" + (f", {done.already} there before" if done.already else "")
    ]
    if done.absent:
        lines.append(f"at {len(done.absent)} addresses there is nothing, the first {done.absent[0]}")
    console.emit({"folder": str(folder), **dataclasses.asdict(done)}, as_json, "\n".join(lines))


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


@console.app.command("append")
def append(
    screen: Annotated[Path, typer.Argument(metavar="SCREEN", help="The screen that grows.")],
    raw: Annotated[
        list[Path],
        typer.Argument(
            metavar="RAW...", help="Raw data, read as those of the screen were; or screens made with the same options."
        ),
    ],
    plate_map: Annotated[Path | None, typer.Option(help="Of the new plates.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the new images, for tables.")] = None,
    centres: Annotated[Path | None, typer.Option(help="CSV of the new cells' centres, for tables.")] = None,
    table: Annotated[Path | None, typer.Option(help="CSV of the new cells, for crops.")] = None,
    as_json: Json = False,
) -> None:
    """New plates into a screen, in one step; what was embedded stays, and 'cytovae embed' adds the new cells."""
    from cytovae import locks
    from cytovae.ingest import assembly, joining
    from cytovae.screen import Screen

    screen = locks.named(screen)
    opened = Screen.open(screen)
    more = {"--plate-map": plate_map, "--images": images, "--centres": centres, "--table": table}
    options = [str(word) for name, path in more.items() if path for word in (name, path)]
    sources = {
        source: source if (source / "screen.json").exists() else screen.with_name(f"{screen.name}.new-{source.stem}")
        for source in raw
    }
    made: list[Path] = []
    with locks.held(screen, joining.WORK):
        try:
            for source, path in sources.items():
                if path != source:
                    _read_alike(opened, source, path, options)
                    made.append(path)
            found = joining.append_held(opened, [Screen.open(path) for path in sources.values()])
        finally:
            for path in made:
                assembly.put_away(path)
    if not found.plates:
        console.say(f"{screen} holds these plates already, with the same cells; there was nothing to do")
    lines = [f"{screen}: {found.n_cells} cells of {len(found.plates)} plates appended"] if found.plates else []
    for model in found.partial:
        lines.append(f"{model} is embedded for the cells before only; 'cytovae embed {screen} {model}' adds the others")
    if found.gone:
        lines.append(f"{', '.join(found.gone)} were of the cells before and are gone; run 'cytovae profile' again")
    document = {"screen": str(screen), "already": not found.plates, **dataclasses.asdict(found)}
    console.emit(document, as_json, "\n".join(lines))


def _read_alike(screen: Screen, raw: Path, path: Path, more: list[str]) -> None:
    """Ingest raw data as a screen's own were.

    Raises
    ------
    IngestError
        The screen does not say how.
    """
    from cytovae.errors import IngestError
    from cytovae.screen import read_json

    said = read_json(screen.path / READING, IngestError) if (screen.path / READING).exists() else None
    verb, told = (said.get("verb"), said.get("words")) if isinstance(said, dict) else (None, None)
    if not isinstance(verb, str) or not isinstance(told, list) or not all(isinstance(word, str) for word in told):
        raise IngestError(
            f"{screen.path} does not say how its raw data were read; make a screen of {raw} with 'cytovae ingest' and "
            "append that"
        )
    places = [str(path), "--images", str(raw)] if verb == "crops" else [str(raw), str(path)]
    words = ["ingest", verb, *places, "--name", screen.name, *told, *more]
    if verb == "crops" and "--table" not in more:
        raise IngestError(f"{screen.path} is of crops: give the table of those in {raw} with --table")
    with contextlib.redirect_stdout(sys.stderr):
        typer.main.get_command(console.app).main(args=words, standalone_mode=False)


@console.app.command("merge")
def merge(
    screens: Annotated[list[Path], typer.Argument(metavar="SCREEN...", help="Screens that shards worked on.")],
    as_json: Json = False,
) -> None:
    """End what 'ingest --shard' or 'embed --shard' began, once all shards are done."""
    from cytovae.ingest import assembly
    from cytovae.learn import embed
    from cytovae.screen import Screen

    merged: list[dict[str, Any]] = []
    for path in screens:
        outcome = assembly.merge(path)
        names = embed.merge(Screen.open(path))
        merged.append({"screen": str(path), "ingested": outcome is not None, "embeddings": names})
        if outcome is None and not names:
            console.say(f"{path}: there is nothing to merge")
        for name in names:
            console.say(f"{path}: the embeddings of {name} are whole")
        if outcome is not None and not as_json:
            _report(outcome, as_json)
    console.emit({"merged": merged}, as_json)


@console.app.command("export")
def export(
    screen: Annotated[Path, typer.Argument(metavar="SCREEN", help="A screen's folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File (anndata, parquet) or folder to write.")],
    to: Annotated[Format, typer.Option(help="; ".join(f"{f}: {f.words}" for f in Format))],
    bundle: Annotated[str | None, typer.Option(help="Whose embedding goes with it.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    as_json: Json = False,
) -> None:
    """A screen for other tools, with its provenance."""
    from cytovae.ingest import exports
    from cytovae.screen import Screen

    if to in (Format.ANNDATA, Format.CPG) and bundle is None:
        what = "an AnnData file holds an embedding" if to == Format.ANNDATA else "the gallery's folders hold embeddings"
        raise typer.BadParameter(f"{what}: say whose", param_hint="--bundle")
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
    elif to == Format.CPG:
        with console.progress("cells") as progress:
            count = exports.to_cpg(opened, out, str(model), progress)
    else:
        write = exports.to_crops if to == Format.CROPS else exports.to_ome_zarr
        with console.progress("cells") as progress:
            count = write(opened, out, progress)
    document = {"out": str(out), "already": False, "to": to.value, "cells": count, "bundle": model}
    console.emit(document, as_json, f"{out}: {count} cells")
