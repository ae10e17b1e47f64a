"""A patch store and a bundle make embeddings: in parts, so that an interrupted run goes on where it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from cytovae import schema
from cytovae.errors import ScreenError
from cytovae.learn.bundle import Bundle
from cytovae.patches import PatchStore
from cytovae.screen import Screen, provenance, read_provenance, whole_file, write_json

PART_CELLS = 8192


def embed(
    screen: Screen,
    bundle: Bundle,
    progress: schema.Progress | None = None,
    overwrite: bool = False,
) -> bool:
    """Embed every cell of a screen and store the result in it.

    Parameters
    ----------
    screen : Screen
    bundle : Bundle
    progress : callable, optional
        Told (done, total) cells.
    overwrite : bool
        Embed again what is embedded already.

    Returns
    -------
    bool
        False where there was nothing to do.

    Raises
    ------
    ScreenError
        The screen has other channels or patches than the model.
    """
    inputs = {"cells": screen.cells_digest(), "weights": bundle.digest}
    index = screen.embeddings_path(bundle.name) / "index.parquet"
    if index.exists() and not overwrite and read_provenance(index).get("inputs") == inputs:
        return False
    if screen.record.channels != bundle.channels or screen.record.patch_size_px != bundle.patch_size_px:
        raise ScreenError(
            f"{bundle.name} was made for {bundle.patch_size_px} px patches of {', '.join(bundle.channels)}, but "
            f"{screen.path} holds {screen.record.patch_size_px} px patches of {', '.join(screen.record.channels)}; "
            "use or train a model of the same channels"
        )
    cells = screen.cells()
    store = PatchStore(screen.patches_path)
    if len(store) != len(cells):
        raise ScreenError(
            f"{screen.path} holds {len(store)} patches for {len(cells)} cells; run 'cytovae ingest' again"
        )
    parts = screen.path / "embeddings" / f".{bundle.name}.parts"
    _start_parts(parts, inputs, fresh=overwrite)
    for number, start in enumerate(range(0, len(store), PART_CELLS)):
        path = parts / f"part-{number:05d}.npy"
        stop = min(start + PART_CELLS, len(store))
        if not path.exists():
            block = np.empty((stop - start, bundle.latent_size), dtype=np.float32)
            for low in range(start, stop, 512):
                high = min(low + 512, stop)
                block[low - start : high - start] = bundle.encode(store.read(np.arange(low, high)))
                if progress is not None:
                    progress(high, len(store))
            with whole_file(path) as beside, beside.open("wb") as handle:
                np.save(handle, block)
        elif progress is not None:
            progress(stop, len(store))
    whole = np.concatenate([np.load(p) for p in sorted(parts.glob("part-*.npy"))])
    record = provenance("embed", config={"bundle": bundle.name, "model": bundle.model}, inputs=inputs)
    screen.write_embeddings(bundle.name, cells[schema.CELL_ID].to_list(), whole, record)
    shutil.rmtree(parts)
    return True


def _start_parts(folder: Path, inputs: dict[str, str], fresh: bool) -> None:
    """Keep the parts of an interrupted run of the same inputs; throw away any other."""
    record = folder / "inputs.json"
    if fresh or not record.exists() or json.loads(record.read_text()) != inputs:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(record, inputs)
