"""Screens joined to one: new plates appended to a screen, in one step or not at all.

Pixels are not copied where the file system can link them. Embeddings are joined where all screens have them of the same
model; else they stay those of the cells before, and `embed` adds the others. Profiles, results and maps were of other
cells and are left out.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cytovae import contents, locks, patches, schema
from cytovae.config import to_dict
from cytovae.errors import IngestError
from cytovae.images import BETWEEN_FILES
from cytovae.ingest import layouts
from cytovae.ingest.assembly import CELLS, TYPES
from cytovae.screen import (
    Screen,
    count_rows,
    provenance,
    read_provenance,
    read_table,
    whole_folder,
    write_table,
    write_table_blocks,
)

_MADE_ANEW = {
    "screen.json", "cells.parquet", "fields.parquet", "images.parquet", "illumination.npz", "patches", "embeddings",
}  # fmt: skip
_OF_OTHER_CELLS = ("profiles", "results", "maps")
WORK = "append"
"""What the lock of a screen says while plates are appended."""


@dataclasses.dataclass(frozen=True)
class Appended:
    """What was appended.

    Parameters
    ----------
    plates : tuple of str
        New ones; none where all were there already.
    n_cells : int
        New ones.
    whole : tuple of str
        Models whose embeddings hold the new cells, too.
    partial : tuple of str
        Models whose embeddings are of the cells before only.
    gone : tuple of str
        What was of other cells and is no longer there.
    """

    plates: tuple[str, ...] = ()
    n_cells: int = 0
    whole: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


def append(screen: Screen, others: Sequence[Screen]) -> Appended:
    """Append the plates of other screens; those that the screen holds already, with the same cells, are passed over.

    Parameters
    ----------
    screen : Screen
    others : sequence of Screen
        Made with the same options; they stay as they are.

    Returns
    -------
    Appended

    Raises
    ------
    IngestError
        They differ in channels, scale or treatment of the images, or hold other cells of the same plate.
    BusyError
        Something is at work on the screen.
    """
    with locks.held(screen.path, WORK):
        return append_held(screen, others)


def append_held(screen: Screen, others: Sequence[Screen]) -> Appended:
    """As `append`, for whoever holds the screen's lock (`WORK`) already."""
    for other in others:
        _refuse_unlike(screen, other)
    new = [other for other in others if not _there(screen, other)]
    if not new:
        return Appended()
    plates = [set(_plates(one)) for one in (screen, *new)]
    for k, one in enumerate(plates):
        if twice := sorted(one & set().union(*plates[:k])):
            raise IngestError(f"plate {twice[0]} is in {new[k - 1].path} and in another of the screens to append")
    models = screen.models()
    gone = tuple(kind for kind in _OF_OTHER_CELLS if (screen.path / kind).exists())
    with whole_folder(screen.path) as folder:
        _copy_rest(screen.path, folder)
        joined = _join([screen, *new], folder)
        whole = tuple(model for model in models if _join_embeddings([screen, *new], joined, model))
    partial = tuple(model for model in models if model not in whole)
    count = sum(count_rows(one.cells_path) for one in new)
    return Appended(tuple(sorted(set().union(*plates[1:]))), count, whole, partial, gone)


def _plates(screen: Screen) -> list[str]:
    return sorted(map(str, read_table(screen.cells_path, [schema.PLATE])[schema.PLATE].unique()))


def _storage(screen: Screen) -> str:
    kept = patches.Storage.ON_DEMAND if (screen.patches_path / patches.SOURCES).exists() else patches.Storage.STORED
    return kept.value


def _sources(screen: Screen) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((screen.patches_path / patches.SOURCES).read_text())
    return said


def _refuse_unlike(screen: Screen, other: Screen) -> None:
    """Refuse to join screens whose cells cannot stand side by side.

    Raises
    ------
    IngestError
        Names what differs, with both values.
    """
    told = []
    for one in (screen, other):
        record = to_dict(one.record)
        said = {name: record[name] for name in ("channels", "patch_size_px", "scale", "pixel_size_um", "control")}
        options = read_provenance(one.cells_path).get("config", {}).get("options", {})
        said |= {"illumination": options.get("illumination", "none"), "patches": _storage(one)}
        if said["patches"] == patches.Storage.ON_DEMAND:
            said |= {name: value for name, value in _sources(one).items() if name in ("z", "bit_depth", "names")}
        told.append(said)
    ours, theirs = told
    if differ := [name for name in ours if ours[name] != theirs.get(name)]:
        what = ", ".join(f"{name} {theirs.get(name)!r}, not {ours[name]!r}" for name in differ)
        raise IngestError(
            f"{other.path} cannot be appended to {screen.path}: it has {what}; make it with the same options"
        )


def _there(screen: Screen, other: Screen) -> bool:
    """Whether all plates of another screen are in a screen already, with the same cells.

    Raises
    ------
    IngestError
        Some are, or with other cells.
    """
    mine, theirs = set(_plates(screen)), set(_plates(other))
    if not mine & theirs:
        return False
    if not theirs <= mine:
        plate = sorted(mine & theirs)[0]
        raise IngestError(
            f"{other.path} holds plate {plate}, which {screen.path} has already, beside new ones; append a screen of "
            "the new plates alone"
        )
    cells = screen.cells()
    cells = cells[cells[schema.PLATE].isin(theirs)].set_index(schema.CELL_ID).sort_index()
    new = other.cells().set_index(schema.CELL_ID).sort_index()
    if not cells[list(new.columns.intersection(cells.columns))].equals(
        new[list(new.columns.intersection(cells.columns))]
    ):
        raise IngestError(
            f"{screen.path} has the plates of {other.path} already ({', '.join(sorted(theirs)[:3])}), with other cells "
            "or other words about them; rename the plates if they are others, or make the screen anew"
        )
    return True


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _copy_rest(old: Path, folder: Path) -> None:
    """Take over what appending does not touch."""
    for entry in old.iterdir():
        if entry.name in _MADE_ANEW or entry.name in _OF_OTHER_CELLS:
            continue
        if entry.is_dir():
            shutil.copytree(entry, folder / entry.name, copy_function=_link)
        else:
            _link(entry, folder / entry.name)


def _join(screens: Sequence[Screen], folder: Path) -> Screen:
    """Write the tables and patches of screens, one after the other."""
    joined = Screen.create(folder, screens[0].record)
    config = read_provenance(screens[0].cells_path).get("config", {})
    inputs = {str(number): one.cells_digest() for number, one in enumerate(screens)}
    made = provenance("append", config=config, inputs=inputs)
    fields = [one.fields() for one in screens]
    own = list(dict.fromkeys(name for table in fields for name in schema.own_columns(table)))
    types = pa.schema([*CELLS, *((name, pa.string()) for name in own)])

    def blocks() -> Iterator[pd.DataFrame]:
        for one in screens:
            for batch in pq.ParquetFile(one.cells_path).iter_batches(65536):
                yield batch.to_pandas().reindex(columns=types.names)

    write_table_blocks(joined.cells_path, types, blocks(), made)
    ids = read_table(joined.cells_path, [schema.CELL_ID])[schema.CELL_ID]
    if ids.duplicated().any():
        raise IngestError(f"two cells are called {ids[ids.duplicated()].iloc[0]!r}; every cell needs an id of its own")
    columns = [*schema.FIELD_COLUMNS, *own, *(layouts.path_column(c) for c in joined.record.channels)]
    columns += layouts.lit(fields[0], joined.record.channels)
    types_of_fields = pa.schema([(name, TYPES.get(name, pa.string())) for name in columns])
    write_table_blocks(joined.fields_path, types_of_fields, (t.reindex(columns=columns) for t in fields), made)
    lights: dict[str, Any] = {}
    for one in screens:
        if (one.path / "illumination.npz").exists():
            with np.load(one.path / "illumination.npz") as kept:
                lights |= dict(kept)
    if lights:
        np.savez(folder / "illumination.npz", **lights)
    joined.patches_path.mkdir()
    kinds = ["places", "digests"] if _storage(screens[0]) == patches.Storage.ON_DEMAND else ["part", "digests"]
    kinds = [kind for kind in kinds if all(any(one.patches_path.glob(f"{kind}-*.npy")) for one in screens)]
    before = 0  # rows of sources
    for kind in kinds:
        number = 0
        for one in screens:
            for path in sorted(one.patches_path.glob(f"{kind}-*.npy")):
                target = joined.patches_path / f"{kind}-{number:05d}.npy"
                number += 1
                if kind != "places" or not before:
                    _link(path, target)
                    continue
                places = np.load(path)
                places[:, 0] += before
                np.save(target, places)
            if kind == "places":
                before += count_rows(one.patches_path / "sources.parquet")
    if "places" in kinds:
        _join_sources(screens, joined)
    return joined


def _join_sources(screens: Sequence[Screen], joined: Screen) -> None:
    """Where all fields lie: their names in full, for they may be of several folders."""
    sources, images = [], []
    for one in screens:
        base = Path(_sources(one)["folder"])
        table = read_table(one.patches_path / "sources.parquet")
        channels = one.record.channels
        for column in [*map(layouts.path_column, channels), *layouts.lit(table, channels)]:
            table[column] = [
                BETWEEN_FILES.join(str(base / name) for name in path.split(BETWEEN_FILES)) if path else ""
                for path in table[column]
            ]
        sources.append(table)
        held = read_table(one.path / "images.parquet")
        images.append(held.assign(**{contents.NAME: [str(base / name) for name in held[contents.NAME]]}))
    both = pd.concat(images).drop_duplicates(contents.NAME, keep="last")
    write_table(joined.path / "images.parquet", both.sort_values(contents.NAME, ignore_index=True), {})
    patches.write_sources(joined.patches_path, pd.concat(sources, ignore_index=True), _sources(screens[0]))


def _join_embeddings(screens: Sequence[Screen], joined: Screen, model: str) -> bool:
    """Write a model's embeddings: of all cells where every screen has them of the same kind, else of the first's cells.

    Returns
    -------
    bool
        Whether they are of all cells.
    """
    told = []
    for one in screens:
        index = one.embeddings_path(model) / "index.parquet"
        made = read_provenance(index) if index.exists() else {}
        inputs = dict(made.get("inputs", {}))
        fresh = bool(made) and inputs.pop("cells", None) == one.cells_digest()
        full = fresh and count_rows(index) == count_rows(one.cells_path)
        told.append((fresh, full, made.get("config"), inputs))
    if not told[0][0]:  # not of these cells before
        return False
    whole = all(full for _, full, _, _ in told) and all(one[2:] == told[0][2:] for one in told)
    taken = screens if whole else screens[:1]
    ids = pd.concat([read_table(one.embeddings_path(model) / "index.parquet") for one in taken])[schema.CELL_ID]
    made = read_provenance(screens[0].embeddings_path(model) / "index.parquet")
    made["inputs"]["cells"] = joined.cells_digest()

    def blocks() -> Iterator[np.ndarray]:
        for one in taken:
            values = np.load(one.embeddings_path(model) / "embeddings.npy", mmap_mode="r")
            for start in range(0, len(values), 65536):
                yield np.asarray(values[start : start + 65536])

    joined.write_embeddings(model, ids.to_list(), blocks(), made)
    return whole
