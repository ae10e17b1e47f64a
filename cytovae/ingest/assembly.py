"""Fields or crops -> a screen, part by part, in a way that can be stopped at any moment and gone on with.

All work happens in ``<screen>.ingest/`` beside the screen. A part (a group of fields, or a run of crops) is its patch
file and, written after it, a small JSON file with what became of its fields: where that file is, the part is done. At
the end the tables are made from those files and the finished folder is renamed into its place. Nothing depends on when
or in which order parts were made, so a run that was killed and repeated ends in the same bytes as one that was not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cytovae import schema
from cytovae.config import ScreenRecord, to_dict
from cytovae.errors import ConfigError, ImageError, IngestError
from cytovae.ingest import images, layouts, nuclei, patches
from cytovae.screen import Screen, provenance, read_provenance, write_json, write_table_blocks

Progress = Callable[[int, int], None]

_MAX_PARTS = 256  # every part is an open file to those who read the screen
_CROPS_PER_PART = 8192


@dataclasses.dataclass(frozen=True)
class IngestOptions:
    """How fields become patches.

    Parameters
    ----------
    bit_depth : int
        Bits per pixel the files are declared to have: 16, or 8.
    nuclei : NucleiOptions
        How nuclei are found.
    """

    bit_depth: int = 16
    nuclei: nuclei.NucleiOptions = dataclasses.field(default_factory=nuclei.NucleiOptions)

    def __post_init__(self) -> None:
        if self.bit_depth not in (8, 16):
            raise ConfigError(f"images have 8 or 16 bits per pixel, not {self.bit_depth}")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an ingest made, or found already made.

    Parameters
    ----------
    screen : Screen
    already : bool
        The screen was there, made from the same data with the same options; nothing was done.
    n_cells, n_blank, n_border : int
        Cells in the screen; of them without a visible nucleus; left out because their patch would leave the field.
    fields : dict of str to int
        Status -> number of fields.
    codes : dict of str to int
        Code -> number of fields (or crops) of which it is said.
    """

    screen: Screen
    already: bool
    n_cells: int
    n_blank: int
    n_border: int
    fields: dict[str, int]
    codes: dict[str, int]


def ingest_fields(
    layout: layouts.Layout,
    raw: Path,
    path: Path,
    record: ScreenRecord,
    options: IngestOptions | None = None,
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """A screen from raw fields: nuclei are found in DNA and a patch is cut around each.

    A cell whose patch would leave the field is left out and counted.

    Parameters
    ----------
    layout : Layout
        The fields; paths relative to `raw` or absolute.
    raw : Path
        The folder of the images.
    path : Path
        The screen to make.
    record : ScreenRecord
        Its record; the channels must be the layout's.
    options : IngestOptions, optional
    workers : int
        Processes that read fields.
    overwrite : bool
        Make it again where a screen is already.
    progress : callable, optional
        Called with fields done and fields in all.

    Raises
    ------
    IngestError
        No field is usable, another screen is in the way, or another ingest is at work on it.
    """
    options = options or IngestOptions()
    usable = layout.fields.index[layout.fields[schema.STATUS] == layouts.OK]
    if not len(usable):
        raise IngestError(f"no field of {raw} is usable: {_reasons(layout.fields)}")
    config = {"record": to_dict(record), "options": to_dict(options)}
    inputs = {**layout.inputs, "images": _fingerprint(layout, raw)}
    size = max(4, -(-len(usable) // _MAX_PARTS))
    groups = [usable[i : i + size] for i in range(0, len(usable), size)]
    with _work_folder(path, config, inputs, overwrite) as work:
        if work is None:
            return describe(Screen.open(path), already=True)
        tasks = [_task(layout, raw, record, options, work, number, rows) for number, rows in enumerate(groups)]
        _run(tasks, workers, len(usable), progress)
        results = [json.loads(_result_path(work, number).read_text()) for number in range(len(groups))]
        fields = layout.fields.copy()
        fields[schema.N_CELLS], fields[schema.N_BORDER] = 0, 0
        for result in results:
            for entry in result["fields"]:
                row = entry["row"]
                fields.loc[row, [schema.N_CELLS, schema.N_BORDER]] = len(entry["y"]), entry["n_border"]
                if entry["code"]:
                    fields.loc[row, [schema.STATUS, schema.CODE, schema.REASON]] = (
                        layouts.REFUSED,
                        entry["code"],
                        entry["reason"],
                    )
        if not fields[schema.N_CELLS].sum():
            shutil.rmtree(work)
            raise IngestError(f"no field of {raw} is usable: {_reasons(fields)}")
        blocks = (_cells_of(fields, result) for result in results)
        _finish(work, path, record, fields, layout.channels, blocks, provenance("ingest", config=config, inputs=inputs))
    return describe(Screen.open(path))


def ingest_crops(
    layout: layouts.CropLayout,
    path: Path,
    record: ScreenRecord,
    options: IngestOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """A screen from pre-cut cells, in the order of their table.

    Parameters
    ----------
    layout : CropLayout
    path, record, options, overwrite
        As for `ingest_fields`.
    progress : callable, optional
        Called with crops done and crops in all.

    Raises
    ------
    IngestError
        No crop is usable, another screen is in the way, or another ingest is at work on it.
    """
    options = options or IngestOptions()
    path = Path(path)
    usable = layout.cells.index[layout.cells[schema.STATUS] == layouts.OK]
    if not len(usable):
        raise IngestError(f"no crop of {layout.images} is usable: {_reasons(layout.cells)}")
    config = {"record": to_dict(record), "options": to_dict(options)}
    groups = [usable[i : i + _CROPS_PER_PART] for i in range(0, len(usable), _CROPS_PER_PART)]
    with _work_folder(path, config, layout.inputs, overwrite) as work:
        if work is None:
            return describe(Screen.open(path), already=True)
        done = 0
        for number, rows in enumerate(groups):
            if not _result_path(work, number).exists():
                _make_crop_part(layout, record, options, work, number, rows)
            done += len(rows)
            if progress:
                progress(done, len(usable))
        cells = layout.cells.copy()
        cells[schema.BLANK] = False
        for number in range(len(groups)):
            result = json.loads(_result_path(work, number).read_text())
            cells.loc[result["blank"], schema.BLANK] = True
            for row, code, reason in result["refused"]:
                cells.loc[row, [schema.STATUS, schema.CODE, schema.REASON]] = (layouts.REFUSED, code, reason)
        kept = cells[cells[schema.STATUS] == layouts.OK]
        if kept.empty:
            shutil.rmtree(work)
            raise IngestError(f"no crop of {layout.images} is usable: {_reasons(cells)}")
        made = provenance("ingest", config=config, inputs=layout.inputs)
        _finish(work, path, record, _fields_of_crops(cells, layout), layout.channels, [kept], made)
    return describe(Screen.open(path))


def _make_crop_part(
    layout: layouts.CropLayout,
    record: ScreenRecord,
    options: IngestOptions,
    work: Path,
    number: int,
    rows: pd.Index,
) -> None:
    """Read the crops of one part, write its patches and what became of them."""
    refused: list[tuple[int, str, str]] = []
    blank: list[int] = []
    sources = list(layout.cells.loc[rows, layouts.SOURCE])
    crops = images.read_crops(
        layout.images, sources, len(layout.channels), record.patch_size_px, bit_depth=options.bit_depth
    )
    with patches.PartWriter(work / "screen" / "patches", number) as part:
        for row, crop in zip(rows, crops, strict=True):
            if isinstance(crop, ImageError):
                refused.append((int(row), crop.code, str(crop)))
                continue
            patch = crop[None, :, :, list(layout.take)]
            part.append(patch)
            if images.is_blank(patch)[0]:
                blank.append(int(row))
    write_json(_result_path(work, number), {"refused": refused, "blank": blank})


def _fields_of_crops(cells: pd.DataFrame, layout: layouts.CropLayout) -> pd.DataFrame:
    """One row per field with usable crops, and one per refused crop."""
    usable = cells[cells[schema.STATUS] == layouts.OK]
    fields = usable.drop_duplicates(schema.FIELD).copy()
    fields[schema.N_CELLS] = fields[schema.FIELD].map(usable[schema.FIELD].value_counts())
    for channel in layout.channels:
        fields[layouts.path_column(channel)] = layout.images.name
    refused = cells[cells[schema.STATUS] != layouts.OK].copy()
    refused[schema.N_CELLS] = 0
    for channel in layout.channels:
        refused[layouts.path_column(channel)] = layout.images.name + "/" + refused[layouts.SOURCE]
    both = pd.concat([fields, refused], ignore_index=True)
    both[schema.N_BORDER] = 0
    return both


def _reasons(fields: pd.DataFrame) -> str:
    """Why fields were refused: how many by code, and the first reason of each."""
    bad = fields[fields[schema.STATUS] != layouts.OK]
    if bad.empty:
        return "there are none"
    return "; ".join(
        f"{len(rows)} {code}, the first: {rows[schema.REASON].iloc[0]}" for code, rows in bad.groupby(schema.CODE)
    )


def _fingerprint(layout: layouts.Layout, raw: Path) -> str:
    """A sha256 over the names and sizes of all image files."""
    digest = hashlib.sha256()
    for channel in layout.channels:
        for name in layout.fields[layouts.path_column(channel)]:
            with contextlib.suppress(OSError):
                digest.update(f"{name}\t{(raw / name).stat().st_size}\n".encode())
    return digest.hexdigest()


@contextlib.contextmanager
def _work_folder(path: Path, config: dict[str, Any], inputs: dict[str, str], overwrite: bool) -> Iterator[Path | None]:
    """The folder to work in, locked; None where the screen is already what is asked for.

    Raises
    ------
    IngestError
        Something else is at `path`, or another ingest holds the lock.
    """
    path = Path(path)
    work = path.with_name(f"{path.name}.ingest")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_path = path.with_name(f".{path.name}.lock")
    with lock_path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise IngestError(f"another ingest is at work on {path}; wait for it or stop it") from None
        try:
            wanted = {"config": config, "inputs": inputs}
            if path.exists() and not overwrite and (not path.is_dir() or any(path.iterdir())):
                if _made_from(path) != wanted:
                    raise IngestError(
                        f"{path} already holds something made from other data or with other options; "
                        "give another name, or --overwrite to replace it with all that was computed from it"
                    )
                shutil.rmtree(work, ignore_errors=True)
                yield None
                return
            plan = work / "plan.json"
            if not plan.exists() or json.loads(plan.read_text()) != json.loads(json.dumps(wanted)):
                shutil.rmtree(work, ignore_errors=True)
                write_json(plan, wanted)
            yield work
        finally:
            lock_path.unlink(missing_ok=True)


def _made_from(path: Path) -> dict[str, Any] | None:
    """Config and inputs of the ingest that made a screen, or None where there is none."""
    try:
        record = read_provenance(path / "cells.parquet")
    except OSError:
        return None
    return {"config": record.get("config"), "inputs": record.get("inputs")} if record.get("step") == "ingest" else None


def _result_path(work: Path, number: int) -> Path:
    return work / "results" / f"part-{number:05d}.json"


@dataclasses.dataclass(frozen=True)
class _Task:
    """One part to make of fields: everything a worker process needs."""

    work: Path
    number: int
    fields: tuple[dict[str, Any], ...]
    patch_size_px: int
    options: IngestOptions


def _task(
    layout: layouts.Layout,
    raw: Path,
    record: ScreenRecord,
    options: IngestOptions,
    work: Path,
    number: int,
    rows: pd.Index,
) -> _Task:
    columns = [layouts.path_column(c) for c in layout.channels]
    fields = tuple(
        {"row": int(row), "paths": {c: raw / name for c, name in zip(layout.channels, names, strict=True)}}
        for row, names in zip(rows, layout.fields.loc[rows, columns].itertuples(index=False), strict=True)
    )
    return _Task(work, number, fields, record.patch_size_px, options)


def _run(tasks: Sequence[_Task], workers: int, total: int, progress: Progress | None) -> None:
    """Make all parts that are not there yet, in this process or in several."""
    waiting = [task for task in tasks if not _result_path(task.work, task.number).exists()]
    done = total - sum(len(task.fields) for task in waiting)
    report = progress or (lambda _done, _total: None)
    report(done, total)
    if workers <= 1 or len(waiting) <= 1:
        for task in waiting:
            _make_part(task)
            done += len(task.fields)
            report(done, total)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(waiting)), context, initializer=_start_worker) as pool:
        running = {pool.submit(_make_part, task): task for task in waiting}
        for future in as_completed(running):
            future.result()
            done += len(running[future].fields)
            report(done, total)


def _start_worker() -> None:
    """One thread per worker process, and an end to it when the parent is gone."""
    import multiprocessing
    import threading

    import cv2

    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _make_part(task: _Task) -> None:
    """Read the fields of one part, cut its patches, write both; what became of each field goes into the JSON file."""
    entries = []
    with patches.PartWriter(task.work / "screen" / "patches", task.number) as part:
        for field in task.fields:
            entry = {"row": field["row"], "code": "", "reason": "", "y": [], "x": [], "object": [], "blank": []}
            entry["n_border"] = 0
            try:
                pixels = images.read_field(field["paths"], bit_depth=task.options.bit_depth)
                _cells_in(pixels, field, task, part, entry)
            except ImageError as broken:
                entry["code"], entry["reason"] = broken.code, str(broken)
            entries.append(entry)
    write_json(_result_path(task.work, task.number), {"fields": entries})


def _cells_in(
    pixels: images.Image, field: Mapping[str, Any], task: _Task, part: patches.PartWriter, entry: dict[str, Any]
) -> None:
    """Find the cells of one field, append their patches and note them."""
    for channel, (name, path) in enumerate(field["paths"].items()):
        if pixels[..., channel].min() == pixels[..., channel].max():
            raise ImageError("constant-channel", f"{path} ({name}) holds nothing but the value {pixels[0, 0, channel]}")
    centres = nuclei.find_nuclei(pixels[..., 0], task.options.nuclei)
    cut, inside = patches.cut(pixels, centres, task.patch_size_px)
    entry["n_border"] = int((~inside).sum())
    if not len(cut):
        dna = next(iter(field["paths"].values()))
        seen = f"all {len(centres)} nuclei lie too near its border" if len(centres) else "no nucleus was found"
        raise ImageError("empty-field", f"{seen} in {dna}")
    part.append(cut)
    kept = centres[inside]
    entry["y"], entry["x"] = ([round(float(v), 2) for v in kept[:, axis]] for axis in (0, 1))
    entry["object"] = (np.flatnonzero(inside) + 1).tolist()
    entry["blank"] = images.is_blank(cut).tolist()


def _cells_of(fields: pd.DataFrame, result: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of ``cells.parquet`` of one part."""
    entries = [e for e in result["fields"] if e["y"]]
    repeats = np.repeat([e["row"] for e in entries], [len(e["y"]) for e in entries]).astype(np.int64)
    cells = fields.loc[repeats].reset_index(drop=True)
    cells[schema.OBJECT] = np.array([o for e in entries for o in e["object"]], dtype=np.int64)
    cells[schema.CENTER_Y] = np.array([y for e in entries for y in e["y"]], dtype=np.float64)
    cells[schema.CENTER_X] = np.array([x for e in entries for x in e["x"]], dtype=np.float64)
    cells[schema.BLANK] = np.array([b for e in entries for b in e["blank"]], dtype=bool)
    cells[schema.CELL_ID] = [
        f"{plate}_{well}_s{site}_{number:04d}"
        for plate, well, site, number in cells[[schema.PLATE, schema.WELL, schema.SITE, schema.OBJECT]].itertuples(
            index=False
        )
    ]
    return cells


_TYPES = {
    schema.SITE: pa.int64(),
    schema.REPLICATE: pa.int64(),
    schema.OBJECT: pa.int64(),
    schema.CONCENTRATION: pa.float64(),
    schema.CENTER_Y: pa.float64(),
    schema.CENTER_X: pa.float64(),
    schema.BLANK: pa.bool_(),
    schema.N_CELLS: pa.int64(),
    schema.N_BORDER: pa.int64(),
}
CELLS = pa.schema([(name, _TYPES.get(name, pa.string())) for name in schema.CELL_COLUMNS])


def _finish(
    work: Path,
    path: Path,
    record: ScreenRecord,
    fields: pd.DataFrame,
    channels: Sequence[str],
    cells: Iterable[pd.DataFrame],
    made: dict[str, Any],
) -> None:
    """Write the tables, then put the folder in its place."""
    screen = Screen.create(work / "screen", record)
    write_table_blocks(screen.cells_path, CELLS, cells, made)
    columns = [*schema.FIELD_COLUMNS, *(layouts.path_column(c) for c in channels)]
    types = pa.schema([(name, _TYPES.get(name, pa.string())) for name in columns])
    write_table_blocks(screen.fields_path, types, [fields], made)
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.replace(old)
    screen.path.replace(path)
    shutil.rmtree(work)
    shutil.rmtree(old, ignore_errors=True)


def describe(screen: Screen, already: bool = False) -> Outcome:
    """What an ingested screen holds and what was refused."""
    fields = screen.fields()
    blank = pq.read_table(screen.cells_path, columns=[schema.BLANK])[schema.BLANK].to_numpy()
    codes = fields.loc[fields[schema.CODE] != "", schema.CODE].value_counts()
    return Outcome(
        screen,
        already,
        len(blank),
        int(blank.sum()),
        int(fields[schema.N_BORDER].sum()),
        {str(k): int(v) for k, v in fields[schema.STATUS].value_counts().sort_index().items()},
        {str(k): int(v) for k, v in codes.sort_index().items()},
    )
