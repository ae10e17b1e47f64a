"""Patch store and bundle make embeddings: in parts, here or on a cluster, and an interrupted run goes on where it was.

Parts lie in ``embeddings/.NAME.parts/`` until all are there. Patches that are left in their fields are read in their
order, so each field is read once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import locks, schema
from cytovae.cluster import Shard, share_out
from cytovae.config import to_dict
from cytovae.errors import BusyError, ConfigError, ScreenError
from cytovae.learn import bundle as bundles
from cytovae.learn import sampling
from cytovae.learn.bundle import Bundle
from cytovae.learn.generators import Outside
from cytovae.patches import PatchStore
from cytovae.screen import Screen, provenance, read_provenance, read_table, whole_file, write_json

PART_CELLS = 8192
ORIENTATIONS = (1, 8)
_BLOCK = 512


@dataclasses.dataclass(frozen=True)
class Options:
    """What an embedding holds beside the model's own features of a cell as it lies.

    Parameters
    ----------
    orientations : int
        1: the cell as it lies. 8: the mean of its embeddings over quarter turns and flips, which no longer depends on
        how the cell lies in its patch, and which no decoder can draw.
    intensity : bool
        Add what normalisation takes away: the logarithm of each channel's maximum and of the nucleus' area, in units of
        the controls' standard deviation from their mean.
    """

    orientations: int = 1
    intensity: bool = False

    def __post_init__(self) -> None:
        if self.orientations not in ORIENTATIONS:
            raise ConfigError(f"orientations is 1 or 8, not {self.orientations}")

    @property
    def plain(self) -> bool:
        """Whether this is the model's embedding, which its decoder can draw."""
        return self == Options()

    def name(self, bundle: str) -> str:
        """What the embedding is called in the screen: the bundle's name, and what differs from its plain embedding.

        Examples
        --------
        >>> Options().name("m"), Options(8).name("m"), Options(8, True).name("m")
        ('m', 'm.turned', 'm.turned.intensity')
        """
        return bundle + ".turned" * (self.orientations == 8) + ".intensity" * self.intensity


def embed(
    screen: Screen,
    bundle: Bundle | Outside,
    progress: schema.Progress | None = None,
    overwrite: bool = False,
    options: Options | None = None,
    *,
    workers: int | str = 1,
    shard: Shard | None = None,
    device: str = "cpu",
) -> bool:
    """Embed every cell of a screen and store the result in it.

    Where cells were appended to a screen since, only these are embedded, unless intensities are asked for.

    Parameters
    ----------
    screen : Screen
    bundle : Bundle or Outside
        A model, or a generator of another package.
    progress : callable, optional
        Told (done, total) cells.
    overwrite : bool
        Embed again what is embedded already.
    options : Options, optional
        Anything but the plain embedding is stored under a name of its own (`Options.name`).
    workers : int or str
        1: here. Else processes beside this one, or a cluster (`cytovae.cluster.client`), each of which loads the
        bundle from its folder.
    shard : Shard, optional
        Do this share of the parts alone; `merge` joins them.
    device : str
        Of the workers; ``auto`` is chosen on each.

    Returns
    -------
    bool
        False where there was nothing to do.

    Raises
    ------
    ScreenError
        The screen has other channels or patches than the model, or intensities are asked for and no control cell is
        there to scale them on.
    """
    options = options or Options()
    name = options.name(bundle.name)
    if isinstance(bundle, Outside) and workers != 1:
        raise ConfigError(f"the generator {bundle.model} embeds in this process only; make its package a kind of model")
    inputs = {"cells": screen.cells_digest(), "weights": bundle.digest}
    index = screen.embeddings_path(name) / "index.parquet"
    parts = screen.path / "embeddings" / f".{name}.parts"
    if index.exists() and not overwrite and read_provenance(index).get("step") == "import":
        raise ScreenError(
            f"{screen.path} holds imported embeddings called {name!r}; import those under another --name, or replace "
            "them with --overwrite"
        )
    there = 0  # cells embedded already
    if index.exists() and not overwrite and read_provenance(index).get("inputs") == inputs:
        ids, embedded = (read_table(p, [schema.CELL_ID])[schema.CELL_ID] for p in (screen.cells_path, index))
        if len(embedded) == len(ids):
            if locks.abandoned(index.parent):  # by a run that was killed while it tidied up
                with contextlib.suppress(BusyError, OSError), locks.held(index.parent, "embed"):
                    shutil.rmtree(parts)
            return False
        there = len(embedded) if embedded.equals(ids.iloc[: len(embedded)]) else 0
    if screen.record.channels != bundle.channels or screen.record.patch_size_px != bundle.patch_size_px:
        raise ScreenError(
            f"{bundle.name} was made for {bundle.patch_size_px} px patches of {', '.join(bundle.channels)}, but "
            f"{screen.path} holds {screen.record.patch_size_px} px patches of {', '.join(screen.record.channels)}; "
            "use or train a model of the same channels"
        )
    if isinstance(bundle, Bundle):
        bundle.refuse_other_magnification(screen.record)
    # the ids are read again at the end; a table that cannot be read is refused before the work and not after it
    count, store = len(read_table(screen.cells_path, [schema.CELL_ID])), PatchStore(screen.patches_path)
    if len(store) != count:
        raise ScreenError(f"{screen.path} holds {len(store)} patches for {count} cells; run 'cytovae ingest' again")
    config: dict[str, Any] = {"bundle": bundle.name, "model": bundle.model}
    if not options.plain:
        config |= to_dict(options)
    first = 0 if options.intensity else there
    begun = {
        "inputs": inputs,
        "config": config,
        "cells": [first, count],
        "d": bundle.latent_size,
        "intensities": intensity_names(bundle.channels) if options.intensity else [],
    }
    with locks.held(screen.embeddings_path(name), "embed", str(shard or "")):
        _start_parts(parts, begun, fresh=overwrite)
        every = _parts(parts, first, count)
        mine = every if shard is None else shard.share(every)
        total = sum(stop - start for start, stop, _ in mine)
        done = 0

        def advance(n: int) -> None:
            nonlocal done
            done += n
            if progress is not None:
                progress(done, total)

        waiting = [part for part in mine if not part[2].exists()]
        advance(total - sum(stop - start for start, stop, _ in waiting))
        if workers == 1 or isinstance(bundle, Outside):
            for start, stop, path in waiting:
                _make_part(bundle, store, options, start, stop, path, advance)
        else:
            work = functools.partial(_make_elsewhere, (bundle.path, device, bundle.digest), store, options)
            for (start, stop, _), _ in zip(waiting, share_out(work, waiting, workers), strict=True):
                advance(stop - start)
        if shard is None:
            _join(screen, name, parts)
    return True


def merge(screen: Screen) -> list[str]:
    """Join the embeddings of a screen whose shards are all done; the same bytes as without shards.

    Returns
    -------
    list of str
        Their names.

    Raises
    ------
    ScreenError
        Of one of them parts are missing.
    """
    joined = []
    locks.sweep(screen.path.parent)  # a merge that was killed while it tidied up
    for parts in sorted((screen.path / "embeddings").glob(".*.parts")):
        name = parts.name.removeprefix(".").removesuffix(".parts")
        every = _parts(parts, *json.loads((parts / _BEGUN).read_text())["cells"])
        waiting = [number for number, (_, _, path) in enumerate(every, 1) if not path.exists()]
        if waiting:
            raise ScreenError(
                f"{len(waiting)} of {len(every)} parts of {name} in {screen.path} are not made yet, the first being "
                f"{waiting[0]}; run the shards that are missing, then merge"
            )
        with locks.held(screen.embeddings_path(name), "embed"):
            _join(screen, name, parts)
        joined.append(name)
    return joined


_BEGUN = "begun.json"


def _parts(folder: Path, first: int, count: int) -> list[tuple[int, int, Path]]:
    """First cell, last cell + 1 and file of every part."""
    return [
        (start, min(start + PART_CELLS, count), folder / f"part-{number:05d}.npy")
        for number, start in enumerate(range(first, count, PART_CELLS))
    ]


def _make_part(
    bundle: Bundle | Outside,
    store: PatchStore,
    options: Options,
    start: int,
    stop: int,
    path: Path,
    advance: Callable[[int], None],
) -> None:
    blocks = []
    for low in range(start, stop, _BLOCK):
        high = min(low + _BLOCK, stop)
        blocks.append(_features(bundle, store.read(np.arange(low, high)), options))
        advance(high - low)
    with whole_file(path) as beside, beside.open("wb") as handle:
        np.save(handle, np.concatenate(blocks))


@functools.lru_cache(1)
def _loaded(path: Path, device: str, digest: str) -> Bundle:
    """A worker's bundle, as long as its `digest` stays what it is."""
    return bundles.load(path, bundles.choose_device(device))


def _make_elsewhere(
    bundle: tuple[Path, str, str], store: PatchStore, options: Options, part: tuple[int, int, Path]
) -> None:
    """Make a part in another process, unless it is there: a cluster asks again for what a lost worker had done."""
    if not part[2].exists():
        _make_part(_loaded(*bundle), store, options, *part, lambda _: None)


def _join(screen: Screen, name: str, parts: Path) -> None:
    """Write the embeddings of parts that are all there, a part at a time, after those of cells embedded before."""
    begun = json.loads((parts / _BEGUN).read_text())
    config, d, (first, count) = begun["config"], begun["d"], begun["cells"]
    files = [path for _, _, path in _parts(parts, first, count)]
    scaled: npt.NDArray[np.float32] | None = None
    if begun["intensities"]:
        raw = np.concatenate([np.load(file)[:, d:] for file in files])
        scaled, config["plates_scaled_on_all_controls"] = scaled_on_controls(raw, screen.cells(), screen.record.control)
        config["features"] = [*schema.feature_names(d), *begun["intensities"]]

    def blocks() -> Iterator[npt.NDArray[np.float32]]:
        if first:
            before = np.load(screen.embeddings_path(name) / "embeddings.npy", mmap_mode="r")
            for start in range(0, first, PART_CELLS):
                yield np.asarray(before[start : start + PART_CELLS])
        for number, file in enumerate(files):
            block = np.load(file)
            if scaled is not None:
                block[:, d:] = scaled[number * PART_CELLS : number * PART_CELLS + len(block)]
            yield block

    ids = read_table(screen.cells_path, [schema.CELL_ID])[schema.CELL_ID].to_list()
    screen.write_embeddings(name, ids, blocks(), provenance("embed", config=config, inputs=begun["inputs"]))
    shutil.rmtree(parts)


def _features(bundle: Bundle | Outside, patches: npt.NDArray[np.uint16], options: Options) -> npt.NDArray[np.float32]:
    """Embeddings of patches and, where asked for, their intensities, not yet scaled."""
    z = mean_of_orientations(bundle, patches) if options.orientations == 8 else bundle.encode(patches)
    return np.concatenate([z, intensities(patches)], axis=1) if options.intensity else z


def mean_of_orientations(bundle: Bundle | Outside, patches: npt.NDArray) -> npt.NDArray[np.float32]:
    """The mean of a model's embeddings of the eight orientations of each patch.

    Parameters
    ----------
    patches : (n, H, H, C) array

    Returns
    -------
    (n, d) float32
        The same for a patch and for any turned or mirrored copy of it, but for rounding.
    """
    total = np.zeros((len(patches), bundle.latent_size))
    for turn in range(8):
        total += bundle.encode(sampling.turned(patches, np.full(len(patches), turn)))
    return np.asarray(total / 8, dtype=np.float32)


def intensity_names(channels: tuple[str, ...]) -> list[str]:
    """Names of the features that `intensities` gives."""
    return [*(f"log_max_{channel}" for channel in channels), "log_area_nucleus"]


def intensities(patches: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """What dividing each channel by its maximum takes away, and the size of the nucleus.

    The nucleus' area is the number of pixels of the first channel above half of its maximum (after the darkest tenth
    of the patch is taken off).

    Parameters
    ----------
    patches : (n, H, W, C) uint16
        As acquired.

    Returns
    -------
    (n, C + 1) float32
        Natural logarithms of 1 + maximum and of 1 + area (px).
    """
    top = patches.max(axis=(1, 2)).astype(np.float64)  # (n, C)
    first = patches[..., 0].astype(np.float64)
    dark = np.quantile(first, 0.1, axis=(1, 2), keepdims=True)
    half = dark + 0.5 * (first.max(axis=(1, 2), keepdims=True) - dark)
    area = (first > half).sum(axis=(1, 2))
    return np.asarray(np.log1p(np.concatenate([top, area[:, None]], axis=1)), dtype=np.float32)


def scaled_on_controls(
    values: npt.NDArray, cells: pd.DataFrame, control: str
) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Values in standard deviations from the mean of the control cells of the same plate.

    A plate without two control cells is scaled on those of the whole screen.

    Parameters
    ----------
    values : (n, f) array
    cells : DataFrame
        Of the same rows.
    control : str
        The compound of the controls.

    Returns
    -------
    tuple of ((n, f) float32, list of str)
        The values, and the plates that were scaled on the controls of all plates.

    Raises
    ------
    ScreenError
        The screen has fewer than two control cells.
    """
    reference = (cells[schema.COMPOUND] == control).to_numpy() & schema.not_blank(cells)
    if reference.sum() < 2:
        raise ScreenError(
            f"intensities are scaled on control cells and this screen has {reference.sum()} of {control!r}; "
            "embed without --with-intensity"
        )
    out = np.empty(values.shape, dtype=np.float32)
    plates, poor = cells[schema.PLATE].to_numpy(str), []
    for plate in np.unique(plates):
        here = plates == plate
        mine = here & reference
        if mine.sum() < 2:
            mine = reference
            poor.append(str(plate))
        some = values[mine].astype(np.float64)
        spread = some.std(axis=0, ddof=1)
        out[here] = (values[here] - some.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return out, poor


def _start_parts(folder: Path, begun: dict[str, Any], fresh: bool) -> None:
    """Keep the parts of an interrupted run of the same kind, or of other shards; throw away any other."""
    record = folder / _BEGUN
    if fresh or (record.exists() and json.loads(record.read_text()) != begun):
        shutil.rmtree(folder, ignore_errors=True)
    if not record.exists():
        write_json(record, begun)
