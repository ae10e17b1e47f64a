"""Fields or crops -> a screen, part by part, in a way that can be stopped at any moment and resumed.

All work happens in ``<screen>.ingest/`` beside the screen. A part (a group of fields, or a run of crops) is its patch
file and, written after it, a small JSON file with what became of its fields: where that file is, the part is done. At
the end the tables are made from those files and the finished folder is renamed into its place. Nothing depends on when
or in which order parts were made, so a run that was killed and repeated ends in the same bytes as one that was not.
What was begun is resumed, and what was made is kept, only where options, tables and the content of every image file
are the same; ``images.parquet`` in the screen keeps the digests of these files, so that only what was touched is read
again. (An array of crops is one file, and its digest an input like that of a table.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from cytovae import contents, images, locks, patches, schema
from cytovae.cluster import Shard, cores, share_out
from cytovae.config import ScreenRecord, from_dict, to_dict
from cytovae.errors import BusyError, ConfigError, ImageError, IngestError, ScreenError
from cytovae.fields import SHRINK, Field, fits, rescaled
from cytovae.ingest import illumination, layouts, nuclei, scale
from cytovae.ingest.illumination import Correction
from cytovae.patches import Storage
from cytovae.schema import Progress
from cytovae.screen import (
    Screen,
    foreign,
    provenance,
    read_provenance,
    read_table,
    whole_file,
    write_json,
    write_table,
    write_table_blocks,
)

_MAX_PARTS = 256  # as many as those who read the screen hold open
_CROPS_PER_PART = 8192
_LEAST_PX = 8  # smaller crops show no nucleus


@dataclasses.dataclass(frozen=True)
class IngestOptions:
    """How fields become patches.

    Parameters
    ----------
    bit_depth : int
        Bits per pixel the files are declared to have: 16, or 8.
    illumination : Correction
        ``none``; ``plate``: patches are divided by the illumination of their plate and channel, estimated from the
        plate's own fields; or ``files``: by the illumination that the layout names for each field.
    nuclei : NucleiOptions
        How nuclei are found.
    z : str, optional
        What becomes of z-stacks: ``max``, ``sum``, or the number of one plane, from 1. Without it they are refused.
    fit : bool, optional
        Crops of another size are cut to their centre or padded; without it they are refused.
    labels : str, optional
        What the names of label images end in after that of the DNA image, such as ``_cp_masks``: nuclei are taken from
        them instead of being looked for.
    patches : Storage
        ``stored``, or ``on-demand``: the screen keeps where its cells lie, and reads them from the fields.
    """

    bit_depth: int = 16
    illumination: Correction = Correction.NONE
    nuclei: nuclei.NucleiOptions = dataclasses.field(default_factory=nuclei.NucleiOptions)
    z: str | None = None
    fit: bool | None = None
    labels: str | None = None
    patches: Storage = Storage.STORED

    def __post_init__(self) -> None:
        if self.bit_depth not in (8, 16):
            raise ConfigError(f"images have 8 or 16 bits per pixel, not {self.bit_depth}")
        if self.illumination not in list(Correction):
            said = "illumination is corrected 'plate' by plate, by the 'files' of a table, or not at all ('none'), not "
            raise ConfigError(f"{said}{self.illumination!r}")
        images.check_z(self.z)

    def said(self) -> dict[str, Any]:
        """As JSON types; stored patches are not mentioned, as they were not before there was a choice."""
        said = to_dict(self)
        if self.patches == Storage.STORED:
            del said["patches"]
        return said


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
    nucleus_width_px : float or None
        How wide nuclei are (px), the median of the fields; None for crops and known centres.
    assumed_width_px : float or None
        How wide they were taken to be.
    without_control : str
        Where no cell is a control: a sentence with the compounds there are; else nothing.
    """

    screen: Screen
    already: bool
    n_cells: int
    n_blank: int
    n_border: int
    fields: dict[str, int]
    codes: dict[str, int]
    nucleus_width_px: float | None = None
    assumed_width_px: float | None = None
    without_control: str = ""

    @property
    def width_fits(self) -> bool:
        """Whether nuclei are about as wide as was assumed; where they are not, pieces and nuclei are mixed up."""
        if self.nucleus_width_px is None or self.assumed_width_px is None:
            return True
        return 0.7 < self.nucleus_width_px / self.assumed_width_px < 1.5


@overload
def ingest_fields(
    layout: layouts.Layout,
    raw: Path,
    path: Path,
    record: ScreenRecord,
    options: IngestOptions | None = None,
    *,
    workers: int | str = 1,
    shard: None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Outcome: ...
@overload
def ingest_fields(
    layout: layouts.Layout,
    raw: Path,
    path: Path,
    record: ScreenRecord,
    options: IngestOptions | None = None,
    *,
    workers: int | str = 1,
    shard: Shard | None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Outcome | None: ...
def ingest_fields(
    layout: layouts.Layout,
    raw: Path,
    path: Path,
    record: ScreenRecord,
    options: IngestOptions | None = None,
    *,
    workers: int | str = 1,
    shard: Shard | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Outcome | None:
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
    workers : int or str
        Processes that read fields, or a cluster (`cytovae.cluster.client`).
    shard : Shard, optional
        Do this share alone; `merge` makes the screen of all of them.
    overwrite : bool
        Make it again where a screen is already.
    progress : callable, optional
        Called with fields done and fields in all; first for the digests of their files, where these must be taken, then
        for their illumination, where it is estimated, then for their cells.

    Returns
    -------
    Outcome or None
        None where a shard is done and the screen is still to be made.

    Raises
    ------
    ConfigError
        Illumination is to be corrected by files, and the layout names none.
    IngestError
        No field is usable, or another screen is in the way.
    BusyError
        Another ingest is at work on it.
    """
    options = options or IngestOptions()
    if options.illumination == Correction.FILES and not layouts.lit(layout.fields, layout.channels):
        raise ConfigError("--illumination files is for LoadData tables, which name them; give plate, or none")
    usable = layout.fields.index[layout.fields[schema.STATUS] == layouts.OK]
    if not len(usable):
        raise IngestError(f"no field of {raw} is usable: {_reasons(layout.fields)}")
    path = Path(path)
    plan = _Plan(layout, raw, record, options, tuple(_shares(usable)))
    parts = range(len(plan.parts)) if shard is None else shard.share(range(len(plan.parts)))
    rows = usable if shard is None else [row for number in parts for row in plan.parts[number]]
    others = layout.fields.index.difference(usable, sort=False)  # not read, but their files count
    named = layout.fields if shard is None else layout.fields.loc[[*rows, *shard.share(list(others))]]
    names = _image_files(named, layout.channels, options)
    files = _Files(raw, names, len(rows), workers, progress)
    config = {"record": to_dict(record), "options": options.said()}
    inputs = {**layout.inputs, "rows": _digest_table(layout.fields)}
    with _work_folder(path, config, inputs, overwrite, files, shard) as begun:
        if begun is None:
            if options.patches == Storage.ON_DEMAND:
                patches.move_sources(path / "patches", raw.resolve())
            return describe(Screen.open(path), already=True)
        work, made = begun
        lights = plan.lights(work)
        if lights:
            plates = set(layout.fields.loc[rows, schema.PLATE])
            _illuminate(plan, {p: light for p, light in lights.items() if p in plates}, usable, workers, progress)
        tasks = [
            _Task(work, number, tuple(plan.read(plan.parts[number], lights)), record.patch_size_px, options)
            for number in parts
        ]
        _run(_make_part, [(task, len(task.fields), task.result) for task in tasks], workers, progress)
        if shard is not None:
            plan.save(work)
            return None
        _finish_fields(plan, work, path, made)
    return describe(Screen.open(path))


def nucleus_width(layout: layouts.Layout, raw: Path, record: ScreenRecord, options: IngestOptions) -> tuple[float, int]:
    """How wide nuclei are, in up to three fields as they were acquired.

    Of the control's fields the first, the middle and the last are read; of all fields where no well is a control.

    Parameters
    ----------
    layout, raw, record, options
        As for `ingest_fields`.

    Returns
    -------
    tuple of (float, int)
        The median of the fields' widths (px), and how many fields it is of: 0 where they show fewer than 5 nuclei.
    """
    fields = layout.fields[layout.fields[schema.STATUS] == layouts.OK]
    controls = fields.index[fields[schema.COMPOUND] == record.control]
    rows = controls if len(controls) else fields.index
    some = sorted({0, len(rows) // 2, len(rows) - 1}) if len(rows) else []
    widths, seen = [], 0
    for field in _Plan(layout, raw, record, options, ()).read(rows[some], {}):
        with contextlib.suppress(ImageError):  # it is refused by name when its cells are cut
            if options.labels is not None:
                labels = images.read_labels(label_file(next(iter(field.lies.paths.values())), options.labels))
                count, width = len(np.unique(labels[labels > 0])), nuclei.of_labels(labels)[2]
            else:
                centres, width = nuclei.survey(field.lies.acquired()[..., 0], options.nuclei)
                count = len(centres)
            seen += count
            widths += [width] * bool(count)
    return (float(np.median(widths)), len(widths)) if seen >= 5 else (0.0, 0)


def width_in_crops(layout: layouts.CropLayout, record: ScreenRecord, options: IngestOptions) -> tuple[float, int]:
    """How wide nuclei are, in up to 60 crops as they were acquired.

    They are spread evenly over the control's among the first 8,192; over all of these where there are fewer than 5.

    Parameters
    ----------
    layout, record, options
        As for `ingest_crops`.

    Returns
    -------
    tuple of (float, int)
        The median width (px), and how many crops it is of: 0 where fewer than 5 show a nucleus.
    """
    cells = layout.cells[layout.cells[schema.STATUS] == layouts.OK].iloc[:_CROPS_PER_PART]
    controls = cells[cells[schema.COMPOUND] == record.control]
    cells = controls if len(controls) >= 5 else cells
    sources = list(cells[layouts.SOURCE].iloc[:: max(1, len(cells) // 60)][:60])
    widths = []
    with contextlib.suppress(ImageError):  # it is refused by name when it is read for good
        crops = images.read_crops(layout.images, sources, len(layout.channels), None, bit_depth=options.bit_depth)
        for crop in crops:
            if isinstance(crop, ImageError) or min(crop.shape[:2]) < _LEAST_PX:
                continue
            if images.is_blank(crop[None], layout.take[0])[0]:
                continue
            if (width := nuclei.width_in_crop(crop[..., layout.take[0]])) is not None:
                widths.append(width)
    return (float(np.median(widths)), len(widths)) if len(widths) >= 5 else (0.0, 0)


def half_made(path: Path) -> Path:
    """Where the screen is that shards are making; it is put in its place by `merge`, with all files in it."""
    return _work_path(Path(path)) / "screen"


def is_sharded(path: Path) -> bool:
    """Whether a shard of a screen has ended beside its place."""
    return (_work_path(Path(path)) / "layout.json").exists()


def merge(path: Path) -> Outcome | None:
    """The screen of shards that are all done; the same bytes as without shards. None where it is there without any.

    Raises
    ------
    IngestError
        No shards were begun, some are not done, or one is at work.
    """
    path = locks.named(Path(path))
    work = _work_path(path)
    if not is_sharded(path):
        if not path.exists():
            raise IngestError(f"there is nothing to merge into {path}: no 'cytovae ingest --shard' has ended beside it")
        if locks.abandoned(path):  # by a merge that was killed in its last moment
            with contextlib.suppress(BusyError, OSError), locks.held(path, "ingest"):
                pass
        return None
    with locks.held(path, "ingest"):
        if not (work / "screen").exists() and path.exists():  # it is in place already; only the tidying was cut short
            if work.exists():  # another merge may have ended while this one waited
                put_away(work)
            return describe(Screen.open(path), already=True)
        plan = _Plan.open(work)
        waiting = [number for number in range(len(plan.parts)) if not _result_path(work, number).exists()]
        if waiting:
            raise IngestError(
                f"{len(waiting)} of {len(plan.parts)} parts of {path} are not made yet, the first being "
                f"{waiting[0] + 1}; run the shards that are missing, then merge"
            )
        wanted = json.loads((work / "plan.json").read_text())
        tables = [read_table(table) for table in sorted((work / "contents").glob("*.parquet"))]
        held = pd.concat(tables).drop_duplicates(contents.NAME).sort_values(contents.NAME, ignore_index=True)
        wanted["inputs"]["images"] = contents.digest(held)
        made = provenance("ingest", config=wanted["config"], inputs=wanted["inputs"])
        write_table(work / "screen" / _CONTENTS, held, made)
        _finish_fields(plan, work, path, made)
    return describe(Screen.open(path))


def _shares(usable: pd.Index) -> Iterator[tuple[int, ...]]:
    """The rows of each part."""
    size = max(4, -(-len(usable) // _MAX_PARTS))
    for first in range(0, len(usable), size):
        yield tuple(int(row) for row in usable[first : first + size])


def _image_files(fields: pd.DataFrame, channels: Sequence[str], options: IngestOptions) -> list[str]:
    """The names of all files of fields, of their illumination, and those that their label images may have."""
    paths = [path for channel in channels for path in fields[layouts.path_column(channel)]]
    names = [name for path in paths for name in path.split(images.BETWEEN_FILES)]
    if options.illumination == Correction.FILES:
        names += [name for channel in channels for name in fields[layouts.light_column(channel)]]
    if (labels := options.labels) is not None:
        dna = fields[layouts.path_column(channels[0])]
        stems = [Path(path.split(images.BETWEEN_FILES)[0]) for path in dna]
        ends = [labels + suffix for suffix in images.SUFFIXES]
        names += [str(stem.with_name(stem.stem + end)) for stem in stems if stem.name for end in ends]
    return names


@dataclasses.dataclass(frozen=True)
class _Plan:
    """A screen to be made of fields: everything that finishing it needs."""

    layout: layouts.Layout
    raw: Path
    record: ScreenRecord
    options: IngestOptions
    parts: tuple[tuple[int, ...], ...]  # rows of the layout's fields

    def lights(self, work: Path) -> dict[str, Path]:
        """Plate -> where its illumination lies or will lie; empty where none is corrected."""
        if self.options.illumination != Correction.PLATE:
            return {}
        plates = self.layout.fields.loc[[row for part in self.parts for row in part], schema.PLATE]
        names = sorted(map(str, plates.unique()))
        return {plate: work / "light" / f"{number:04d}.npy" for number, plate in enumerate(names)}

    def read(self, rows: Sequence[int] | pd.Index, lights: Mapping[str, Path]) -> list[_Field]:
        """What is to be read of some fields."""
        return _to_read(self, pd.Index(rows), lights)

    @functools.cached_property
    def centres(self) -> Any:
        """The known centres by field; None where they are to be found."""
        return None if self.layout.centres is None else self.layout.centres.groupby(schema.FIELD)

    def save(self, work: Path) -> None:
        """Keep it for `merge`."""
        said = {"channels": self.layout.channels, "names": self.layout.names, "raw": str(self.raw), "parts": self.parts}
        write_table(work / "layout.parquet", self.layout.fields, {})
        write_json(work / "layout.json", {**said, "record": to_dict(self.record), "options": to_dict(self.options)})

    @classmethod
    def open(cls, work: Path) -> _Plan:
        """The one that was kept."""
        said = json.loads((work / "layout.json").read_text())
        names = {channel: tuple(theirs) for channel, theirs in said["names"].items()}
        layout = layouts.Layout(read_table(work / "layout.parquet"), tuple(said["channels"]), {}, None, names)
        asked = said["options"]
        options = IngestOptions(
            **{
                **asked,
                "illumination": Correction(asked["illumination"]),
                "nuclei": from_dict(nuclei.NucleiOptions, asked["nuclei"]),
                "patches": Storage(asked["patches"]),
            }
        )
        record = from_dict(ScreenRecord, said["record"])
        return cls(layout, Path(said["raw"]), record, options, tuple(tuple(part) for part in said["parts"]))


def _finish_fields(plan: _Plan, work: Path, path: Path, made: dict[str, Any]) -> None:
    """Make the tables of parts that are all there, and put the screen in its place."""
    layout, lights = plan.layout, plan.lights(work)
    fields = layout.fields.copy()
    fields[schema.N_CELLS], fields[schema.N_BORDER], fields[schema.NUCLEUS_WIDTH] = 0, 0, np.nan
    dim = [plate for plate, path_of_light in lights.items() if (np.load(path_of_light) == 1).all()]
    said = (
        f"of the fields read of its plate fewer than {illumination.MIN_FIELDS} are usable and of one size, "
        "so its illumination was not corrected"
    )
    layouts.note(fields, fields[schema.PLATE].isin(dim), layouts.OK, "not-corrected", said)
    used: list[dict[str, Any]] = []  # without centres, which are many
    refused: list[dict[str, Any]] = []
    for number in range(len(plan.parts)):
        for entry in _result(work, number):
            if "code" in entry:
                refused.append(entry)
            else:
                few = {name: entry.get(name) for name in ("row", "n_border", "width", "unlit")}
                used.append({**few, "n": len(entry["y"])})
    rows = [entry["row"] for entry in used]
    fields.loc[rows, schema.N_CELLS] = [entry["n"] for entry in used]
    fields.loc[rows, schema.N_BORDER] = [entry["n_border"] for entry in used]
    fields.loc[rows, schema.NUCLEUS_WIDTH] = np.array([entry["width"] for entry in used], dtype=np.float64)
    bad = [entry["row"] for entry in refused]
    fields.loc[bad, schema.CODE] = [entry["code"] for entry in refused]
    fields.loc[bad, schema.REASON] = [entry["reason"] for entry in refused]
    fields.loc[bad, schema.STATUS] = layouts.REFUSED
    odd = pd.Series({entry["row"]: entry["unlit"] for entry in used if entry["unlit"]}, fields.index, object)
    said_already = fields[schema.PLATE].isin(dim)
    layouts.note(fields, odd.notna() & ~said_already, layouts.OK, "not-corrected", odd)
    if not fields[schema.N_CELLS].sum():
        shutil.rmtree(work)
        raise IngestError(f"no field of {plan.raw} is usable: {_reasons(fields)}")
    if lights:
        with (
            whole_file(work / "screen" / "illumination.npz") as beside,
            zipfile.ZipFile(beside, "w") as archive,  # np.savez has names of its own, that a plate may have
        ):
            for plate, path_of_light in lights.items():
                archive.writestr(zipfile.ZipInfo(f"{plate}.npy"), path_of_light.read_bytes())
    if plan.options.patches == Storage.ON_DEMAND:
        _write_sources(plan, work / "screen" / "patches", set(lights))
    blocks = (_cells_of(fields, _result(work, number)) for number in range(len(plan.parts)))
    _finish(work, path, plan.record, fields, layout.channels, blocks, made)


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
        Called with crops done and crops in all; first for the digests of their files, where these must be taken.

    Raises
    ------
    IngestError
        No crop is usable, or another screen is in the way.
    BusyError
        Another ingest is at work on it.
    """
    options = options or IngestOptions()
    path = Path(path)
    usable = layout.cells.index[layout.cells[schema.STATUS] == layouts.OK]
    if not len(usable):
        raise IngestError(f"no crop of {layout.images} is usable: {_reasons(layout.cells)}")
    config = {"record": to_dict(record), "options": options.said()}
    groups = [usable[i : i + _CROPS_PER_PART] for i in range(0, len(usable), _CROPS_PER_PART)]
    files = _Files(layout.images, layout.files, len(usable), 1, progress) if layout.files else None
    with _work_folder(path, config, layout.inputs, overwrite, files) as begun:
        if begun is None:
            return describe(Screen.open(path), already=True)
        work, made = begun
        done = 0
        for number, rows in enumerate(groups):
            if not _result_path(work, number).exists():
                try:
                    _make_crop_part(layout, record, options, work, number, rows)
                except ImageError:  # not of one crop: the array as a whole is damaged
                    _clear_away(work)
                    raise
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
    exact = record.patch_size_px if record.scale is None and not options.fit else None
    digests = [np.empty(0, np.uint64)]
    crops = images.read_crops(layout.images, sources, len(layout.channels), exact, bit_depth=options.bit_depth)
    with patches.PartWriter(work / "screen" / "patches", number) as part:
        for row, crop in zip(rows, crops, strict=True):
            if isinstance(crop, ImageError):
                refused.append((int(row), crop.code, str(crop)))
                continue
            if record.scale is not None:
                crop = rescaled(crop, record.scale)
            if exact is None:
                crop = scale.fitted(crop, record.patch_size_px)
            patch = crop[None, :, :, list(layout.take)]
            part.append(patch)
            digests.append(patches.digests(patch))
            if images.is_blank(patch)[0]:
                blank.append(int(row))
    patches.write_digests(work / "screen" / "patches", number, np.concatenate(digests))
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
    parts = [source.split(images.BETWEEN_FILES) for source in refused[layouts.SOURCE]]
    for channel, place in zip(layout.channels, layout.take, strict=True):
        of_channel = [names[place] if len(names) > 1 else names[0] for names in parts]
        refused[layouts.path_column(channel)] = [f"{layout.images.name}/{name}" for name in of_channel]
    both = pd.concat([fields, refused], ignore_index=True)
    both[schema.N_BORDER], both[schema.NUCLEUS_WIDTH] = 0, np.nan
    return both


def _reasons(fields: pd.DataFrame) -> str:
    """Why fields were refused: how many by code, and the first reason of each."""
    bad = fields[fields[schema.STATUS] != layouts.OK]
    if bad.empty:
        return "there are none"
    return "; ".join(
        f"{len(rows)} {code}, the first: {rows[schema.REASON].iloc[0]}" for code, rows in bad.groupby(schema.CODE)
    )


_CONTENTS = "images.parquet"
"""In the screen: what the image files of its fields held."""


@dataclasses.dataclass(frozen=True)
class _Files:
    """The image files of a screen, of which the content counts."""

    folder: Path
    names: Sequence[str]
    size: int  # fields or crops they belong to
    workers: int | str
    progress: Progress | None

    def take(self, work: Path, path: Path, saved: Path, *more: Path) -> pd.DataFrame:
        """Their contents; what a run that was killed, or the screen, or `more` say of them is not read again.

        What is known by then is saved now and then.
        """
        places = (path / _CONTENTS, work / "screen" / _CONTENTS, saved, *more)
        known = [table for file in places if (table := _known_contents(file)) is not None]

        def report(done: int, total: int) -> None:
            if self.progress:
                self.progress(self.size * done // total, self.size)

        return contents.take(
            self.folder,
            self.names,
            pd.concat(known) if known else None,
            self.workers if isinstance(self.workers, int) else cores(),
            progress=report,
            save=lambda table: write_table(saved, table, {}),
        )


def _known_contents(file: Path) -> pd.DataFrame | None:
    """What a file of contents says; None where it says nothing that can be understood."""
    try:
        table = read_table(file)
    except ScreenError:
        return None
    return table if set(contents.COLUMNS) <= set(table.columns) else None


def _digest_table(fields: pd.DataFrame) -> str:
    """A sha256 over what the tables say of fields.

    What is said about them (status, code, reason) does not count, nor do images that no row names: they are among the
    image files.
    """
    rows = fields[fields[schema.CODE] != "image-without-row"]
    said = rows.drop(columns=[schema.STATUS, schema.CODE, schema.REASON])
    return hashlib.sha256(said.to_csv(index=False).encode()).hexdigest()


def _work_path(path: Path) -> Path:
    path = locks.named(path)
    return path.with_name(f"{path.name}.ingest")


@contextlib.contextmanager
def _work_folder(
    path: Path,
    config: dict[str, Any],
    inputs: dict[str, str],
    overwrite: bool,
    files: _Files | None,
    shard: Shard | None = None,
) -> Iterator[tuple[Path, dict[str, Any]] | None]:
    """The folder to work in, locked, and the provenance; None where the screen is already what is asked for.

    Options and tables are compared first; the content of `files`, where there are any, is taken and compared then, and
    is one of the inputs. A shard takes that of its own files alone, and keeps it for `merge`.

    Raises
    ------
    IngestError
        Something else is at `path`, or shards of something else were begun.
    BusyError
        Another ingest is at work on it.
    """
    work = _work_path(path)
    with locks.held(path, "ingest", str(shard or "")):
        wanted = {"config": config, "inputs": dict(inputs)}
        if overwrite and (said := foreign(path, "screen", ["screen.json"])):
            raise IngestError(said)
        in_the_way = path.exists() and not overwrite and (not path.is_dir() or any(path.iterdir()))
        held = None
        if in_the_way:
            _refuse_changes(path, wanted)
        if shard is not None:
            if in_the_way:
                yield None
                return
            yield _shard_folder(path, wanted, files, shard)
            return
        if files:
            held = files.take(work, path, work / _CONTENTS)
            wanted["inputs"]["images"] = contents.digest(held)
        if in_the_way:
            _refuse_changes(path, wanted, held)
            known = _known_contents(path / _CONTENTS)
            if held is not None and (known is None or not held.equals(known)):  # the same files, written anew
                with contextlib.suppress(OSError):
                    write_table(path / _CONTENTS, held, read_provenance(path / "cells.parquet"))
            _clear_away(work, _old(path))
            yield None
            return
        if (work / "results").exists() and not (work / "screen").exists():
            _clear_away(work)  # its screen is in place already; only the tidying was cut short
        plan = work / "plan.json"
        if not plan.exists() or json.loads(plan.read_text()) != json.loads(json.dumps(wanted)):
            _clear_away(work)
            write_json(plan, wanted)
        for half in work.rglob(".*.part"):  # what a killed run was writing
            half.unlink()
        made = provenance("ingest", config=config, inputs=wanted["inputs"])
        if held is not None:
            write_table(work / "screen" / _CONTENTS, held, made)
        yield work, made


def _shard_folder(
    path: Path, wanted: dict[str, Any], files: _Files | None, shard: Shard
) -> tuple[Path, dict[str, Any]]:
    """The folder that all shards work in; what they are to make together is written by the first.

    Raises
    ------
    IngestError
        It was begun with other options or tables, or image files changed since this shard was begun.
    """
    work = _work_path(path)
    plan = work / "plan.json"
    if not plan.exists():
        write_json(plan, wanted)
    (work / "screen").mkdir(exist_ok=True)  # until it is put in its place
    if json.loads(plan.read_text()) != json.loads(json.dumps(wanted)):
        raise IngestError(f"{work} was begun with other data or options, or without --shard; remove it to begin anew")
    if files is not None:
        kept = work / "contents" / f"{shard}.parquet"
        before = _known_contents(kept)
        held = files.take(work, path, kept.with_suffix(".known"), kept)
        both = () if before is None else (t[t[contents.NAME].isin(before[contents.NAME])] for t in (before, held))
        if changed := contents.difference(*both) if both else "":
            raise IngestError(f"{changed} since this shard was begun; remove {work} to begin anew")
        write_table(kept, held, {})
    return work, {}


def _refuse_changes(path: Path, wanted: dict[str, Any], held: pd.DataFrame | None = None) -> None:
    """Refuse to take what is at `path` for what is asked for, where they differ.

    Raises
    ------
    IngestError
        Says how.
    """
    if changes := _changes(path, wanted, held):
        raise IngestError(
            f"{path} already holds something made from other data or with other options: {changes}; "
            "give another name, or --overwrite to replace it with all that was computed from it"
        )


def _changes(path: Path, wanted: dict[str, Any], held: pd.DataFrame | None) -> str:
    """In words, how what is asked for differs from what is at `path`; nothing where it does not.

    Image files are compared where `held` has their contents, or `wanted` their digest.
    """
    try:
        record = read_provenance(path / "cells.parquet")
    except ScreenError:
        record = {}
    if record.get("step") != "ingest":
        return "plates were appended to it" if record.get("step") == "append" else "no ingest has made it"
    was, now = (_flat({"config": made.get("config", {}), **made.get("inputs", {})}) for made in (record, wanted))
    known = _known_contents(path / _CONTENTS)
    said, not_kept = [], []
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) == now.get(name) or (name == "images" and name not in now):
            continue
        if name.startswith("config."):
            said.append(f"{name.removeprefix('config.')} was {was.get(name)!r} and is {now.get(name)!r}")
        elif name == "images" and held is not None and known is not None:
            said.append(contents.difference(known, held) or "the image files changed")
        elif name in _INPUTS and (name not in was or (name == "images" and held is not None)):
            not_kept.append(_INPUTS[name])
        elif name.startswith("--") and name not in was:
            said.append(f"{name} is {now[name]}, and cytovae {record.get('cytovae')} recorded none when it made it")
        else:
            said.append(f"{_INPUTS.get(name, name)} changed")
    if not_kept:
        said.append(f"cytovae {record.get('cytovae')} made it and kept no digest of {' and of '.join(not_kept)}")
    return ", ".join(said)


_INPUTS = {"rows": "what the tables say of the fields", "images": "the image files"}


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The leaves of nested dicts, each by its path with dots."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return leaves


def _result_path(work: Path, number: int) -> Path:
    return work / "results" / f"part-{number:05d}.json"


@dataclasses.dataclass(frozen=True)
class _Field:
    """One field to be read: its row in the table, where it lies, and its cells' centres where they are known."""

    row: int
    lies: Field
    centres: npt.NDArray[np.float64] | None = None  # (n, 2) y, x (px)
    objects: npt.NDArray[np.int64] | None = None  # (n,) object numbers
    light: Path | None = None


@dataclasses.dataclass(frozen=True)
class _Task:
    """One part to make of fields: everything a worker process needs."""

    work: Path
    number: int
    fields: tuple[_Field, ...]
    patch_size_px: int
    options: IngestOptions

    @property
    def result(self) -> Path:
        return _result_path(self.work, self.number)


def _to_read(plan: _Plan, rows: pd.Index, lights: Mapping[str, Path]) -> list[_Field]:
    """What the layout says of some fields, ready to be read."""
    layout, options = plan.layout, plan.options
    table = layout.fields.loc[rows]
    files = table[[layouts.path_column(c) for c in layout.channels]].to_numpy(str)
    pages = [layouts.frame_column(c) for c in layout.channels]
    frames = table[pages].to_numpy(int) if set(pages) <= set(table.columns) else np.full(files.shape, layouts.UNTOLD)
    by_files = options.illumination == Correction.FILES
    lit = table[[layouts.light_column(c) for c in layout.channels]].to_numpy(str) if by_files else None
    known = plan.centres
    fields = []
    for i, (row, name, plate) in enumerate(zip(rows, table[schema.FIELD], table[schema.PLATE], strict=True)):
        centres = objects = None
        if known is not None:
            here = known.get_group(name) if name in known.groups else known.obj.iloc[:0]
            centres, objects = here[["y", "x"]].to_numpy(np.float64), here[schema.OBJECT].to_numpy(np.int64)
        lie = [[plan.raw / file for file in path.split(images.BETWEEN_FILES)] for path in files[i]]
        fields.append(
            _Field(
                int(row),
                Field(
                    {c: first for c, (first, *_) in zip(layout.channels, lie, strict=True)},
                    {
                        c: images.Plane(
                            None if frame == layouts.UNTOLD else int(frame),
                            layout.names.get(c, (c,)),
                            options.z,
                            tuple(more),
                        )
                        for c, frame, (_, *more) in zip(layout.channels, frames[i], lie, strict=True)
                    },
                    options.bit_depth,
                    plan.record.scale,
                    {} if lit is None else {c: plan.raw / f for c, f in zip(layout.channels, lit[i], strict=True)},
                ),
                centres,
                objects,
                lights.get(plate),
            )
        )
    return fields


def _illuminate(
    plan: _Plan, lights: Mapping[str, Path], usable: pd.Index, workers: int | str, progress: Progress | None
) -> None:
    """Estimate the illumination of plates, each from some of its fields."""
    jobs: list[tuple[Any, int, Path]] = []
    plates = plan.layout.fields.loc[usable, schema.PLATE].astype(str)
    for plate, light in lights.items():
        rows = usable[plates == plate]
        some = rows[:: max(1, len(rows) // illumination.MAX_FIELDS)][: illumination.MAX_FIELDS]
        fields = tuple(plan.read(some, {}))
        jobs.append(((fields, light), len(fields), light))
    _run(_estimate_light, jobs, workers, progress)


def _estimate_light(job: tuple[tuple[_Field, ...], Path]) -> None:
    """The illumination of one plate, written to its file; fields that cannot be read are passed over."""
    fields, path = job

    def readable() -> Iterator[images.Image]:
        for field in fields:
            with contextlib.suppress(ImageError):
                yield field.lies.acquired()

    light = illumination.estimate(readable())
    with whole_file(path) as beside, beside.open("wb") as handle:
        np.save(handle, light)


def _run(
    work_on: Callable[[Any], None],
    jobs: Sequence[tuple[Any, int, Path]],
    where: int | str,
    progress: Progress | None,
) -> None:
    """Do jobs, each (argument, size, the file that tells it is done), in this process, in several or on a cluster."""
    waiting = [job for job in jobs if not job[2].exists()]
    total = sum(size for _, size, _ in jobs)
    done = total - sum(size for _, size, _ in waiting)
    report = progress or (lambda _done, _total: None)
    report(done, total)
    finished = share_out(functools.partial(_unless_done, work_on), [(job, file) for job, _, file in waiting], where)
    for (_, size, _), _ in zip(waiting, finished, strict=True):
        done += size
        report(done, total)


def _unless_done(work_on: Callable[[Any], None], job: tuple[Any, Path]) -> None:
    """Do a job, unless its file is there: a cluster asks again for what a lost worker had done."""
    if not job[1].exists():
        work_on(job[0])


def _make_part(task: _Task) -> None:
    """Read the fields of one part, cut its patches, write both; what became of each field goes into the JSON file."""
    entries, places, digests = [], [], [np.empty(0, np.uint64)]
    folder = task.work / "screen" / "patches"
    lights: dict[Path, npt.NDArray[np.float32]] = {}
    with patches.PartWriter(folder, task.number) as part:
        for field in task.fields:
            if field.light is not None and field.light not in lights:
                lights = {field.light: np.load(field.light)}
            light = None if field.light is None else lights[field.light]
            try:
                entry, cut, first = _cells_in(field, task, light)
            except ImageError as broken:
                entries.append({"row": field.row, "code": broken.code, "reason": str(broken)})
                continue
            entries.append(entry)
            digests.append(patches.digests(cut))
            if task.options.patches == Storage.STORED:
                part.append(cut)
            else:
                places.append(np.insert(first, 0, field.row, axis=1))
    if places:
        patches.write_places(folder, task.number, np.concatenate(places).astype(np.int32))
    patches.write_digests(folder, task.number, np.concatenate(digests))
    write_json(task.result, {"fields": entries})


def _cells_in(
    field: _Field, task: _Task, light: npt.NDArray[np.float32] | None
) -> tuple[dict[str, Any], patches.Patches, npt.NDArray[np.int64]]:
    """Find the cells of one field: what is to be remembered of them, their patches, and the first pixel of each."""
    pixels, times = field.lies.acquired(), field.lies.scale
    for channel, (name, path) in enumerate(field.lies.paths.items()):
        if pixels[..., channel].min() == pixels[..., channel].max():
            raise ImageError("constant-channel", f"{path} ({name}) holds nothing but the value {pixels[0, 0, channel]}")
    unlit = {}
    if light is not None and not fits(pixels, light):
        unlit["unlit"] = (
            f"the field has {pixels.shape[0]} x {pixels.shape[1]} px and its plate's illumination is that of fields of "
            f"about {light.shape[0] * SHRINK} x {light.shape[1] * SHRINK} px, so its illumination was not corrected"
        )
    dna = next(iter(field.lies.paths.values()))
    acquired, looked_for = pixels.shape, task.options.nuclei
    pixels = field.lies.prepared(pixels, light)
    if times is not None:
        looked_for = dataclasses.replace(looked_for, diameter_px=looked_for.diameter_px * times)
    if task.options.labels is not None:
        file = label_file(dna, task.options.labels)
        labels = images.read_labels(file)
        if labels.shape != acquired[:2]:
            said = f"{file} has {labels.shape[0]} x {labels.shape[1]} px, its field {acquired[0]} x {acquired[1]}"
            raise ImageError("size-mismatch", said)
        centres, objects, width = nuclei.of_labels(labels)
        centres = centres if times is None else scale.moved(centres, acquired, pixels.shape)
        nothing = f"{file} labels no nucleus"
    elif field.centres is None:
        found, width = nuclei.survey(pixels[..., 0], looked_for)
        centres = found.astype(np.float64)
        objects = np.arange(1, len(centres) + 1)
        width = width / (times or 1)
        nothing = f"no nucleus was found in {dna}"
    else:
        centres = field.centres if times is None else scale.moved(field.centres, acquired, pixels.shape)
        objects, width = np.asarray(field.objects), np.nan
        nothing = f"the table of centres names no cell in {dna}"
    cut, inside = patches.cut(pixels, centres, task.patch_size_px)
    if not len(cut):
        raise ImageError(
            "empty-field", f"all {len(centres)} nuclei lie too near the border of {dna}" if len(centres) else nothing
        )
    first = patches.first_px(centres[inside], task.patch_size_px)
    centres = scale.moved(centres, pixels.shape, acquired) if times is not None else centres
    entry = {
        "row": field.row,
        "y": centres[inside, 0].round(2).tolist(),
        "x": centres[inside, 1].round(2).tolist(),
        "object": objects[inside].tolist(),
        "blank": images.is_blank(cut).tolist(),
        "n_border": int((~inside).sum()),
        "width": None if np.isnan(width) else round(width, 1),
        **unlit,
    }
    return entry, cut, first


def _write_sources(plan: _Plan, folder: Path, lit: set[str]) -> None:
    """Write where the fields lie and what is done to them before patches are cut."""
    layout, options = plan.layout, plan.options
    pages = [layouts.frame_column(c) for c in layout.channels]
    files = [layouts.path_column(c) for c in layout.channels]
    if options.illumination == Correction.FILES:
        files += [layouts.light_column(c) for c in layout.channels]
    table = layout.fields.reindex(columns=[*files, *pages])
    table[pages] = table[pages].fillna(layouts.UNTOLD).astype(np.int32)
    table["light"] = layout.fields[schema.PLATE].where(layout.fields[schema.PLATE].isin(lit), "")
    said = {
        "folder": str(plan.raw.resolve()),
        "channels": layout.channels,
        "names": {c: layout.names.get(c, (c,)) for c in layout.channels},
        "z": options.z,
        "bit_depth": options.bit_depth,
        "scale": plan.record.scale,
        "patch_size_px": plan.record.patch_size_px,
    }
    patches.write_sources(folder, table, said)


def label_file(dna: Path, ending: str) -> Path:
    """The label image of a field: beside its DNA image, called like it with something after; in OME-Zarr by its name.

    Raises
    ------
    ImageError
        ``missing-file``.
    """
    if dna.is_dir():
        if not (path := dna / "labels" / ending).is_dir():
            raise ImageError("missing-file", f"{dna} has no labels called {ending!r}")
        return path
    names = [dna.with_name(dna.stem + ending + suffix) for suffix in images.SUFFIXES]
    for path in names:
        if path.is_file():
            return path
    raise ImageError("missing-file", f"there is no label image {names[0]}, nor with {', '.join(images.SUFFIXES[1:])}")


def _result(work: Path, number: int) -> list[dict[str, Any]]:
    """What became of the fields of a part."""
    entries: list[dict[str, Any]] = json.loads(_result_path(work, number).read_text())["fields"]
    return entries


def _cells_of(fields: pd.DataFrame, result: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows of ``cells.parquet`` of one part."""
    entries = [e for e in result if "y" in e]
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


TYPES = {
    schema.SITE: pa.int64(),
    schema.REPLICATE: pa.int64(),
    schema.OBJECT: pa.int64(),
    schema.CONCENTRATION: pa.float64(),
    schema.CENTER_Y: pa.float64(),
    schema.CENTER_X: pa.float64(),
    schema.BLANK: pa.bool_(),
    schema.N_CELLS: pa.int64(),
    schema.N_BORDER: pa.int64(),
    schema.NUCLEUS_WIDTH: pa.float64(),
}
CELLS = pa.schema([(name, TYPES.get(name, pa.string())) for name in schema.CELL_COLUMNS])


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
    own = schema.own_columns(fields)
    write_table_blocks(screen.cells_path, pa.schema([*CELLS, *((name, pa.string()) for name in own)]), cells, made)
    columns = [*schema.FIELD_COLUMNS, *own, *(layouts.path_column(c) for c in channels)]
    columns += layouts.lit(fields, channels)
    types = pa.schema([(name, TYPES.get(name, pa.string())) for name in columns])
    write_table_blocks(screen.fields_path, types, [fields], made)
    _clear_away(_old(path))
    if path.exists():
        path.replace(_old(path))
    screen.path.replace(path)
    put_away(work)
    _clear_away(_old(path))


def _old(path: Path) -> Path:
    """Where a screen that is being replaced lies until the new one is in its place."""
    path = locks.named(path)
    return path.with_name(f".{path.name}.old")


def put_away(folder: Path) -> None:
    """Clear a folder away of which no part may be taken for the whole."""
    gone = locks.beside(folder)
    _clear_away(gone)  # what this process left there when it was interrupted
    folder.replace(gone)
    _clear_away(gone)


def _clear_away(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def describe(screen: Screen, already: bool = False) -> Outcome:
    """What an ingested screen holds and what was refused."""
    fields = screen.fields()
    blank = read_table(screen.cells_path, [schema.BLANK])[schema.BLANK].to_numpy()
    codes = fields.loc[fields[schema.CODE] != "", schema.CODE].str.split("; ").explode().value_counts()
    widths = fields[schema.NUCLEUS_WIDTH].dropna() if schema.NUCLEUS_WIDTH in fields else pd.Series(dtype=float)
    options = read_provenance(screen.cells_path).get("config", {}).get("options", {})
    return Outcome(
        screen,
        already,
        len(blank),
        int(blank.sum()),
        int(fields[schema.N_BORDER].sum()),
        {str(k): int(v) for k, v in fields[schema.STATUS].value_counts().sort_index().items()},
        {str(k): int(v) for k, v in codes.sort_index().items()},
        float(widths.median()) if len(widths) else None,
        options.get("nuclei", {}).get("diameter_px"),
        layouts.tables.without_control(fields, screen.record.control),
    )
