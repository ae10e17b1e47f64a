"""Patch store and bundle make embeddings: in parts, so that an interrupted run goes on where it was."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import locks, schema
from cytovae.config import to_dict
from cytovae.errors import ConfigError, ScreenError
from cytovae.learn import sampling
from cytovae.learn.bundle import Bundle
from cytovae.patches import PatchStore
from cytovae.screen import Screen, provenance, read_provenance, whole_file, write_json

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
    bundle: Bundle,
    progress: schema.Progress | None = None,
    overwrite: bool = False,
    options: Options | None = None,
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
    options : Options, optional
        Anything but the plain embedding is stored under a name of its own (`Options.name`).

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
    inputs = {"cells": screen.cells_digest(), "weights": bundle.digest}
    index = screen.embeddings_path(name) / "index.parquet"
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
    with locks.held(screen.embeddings_path(name), "embed"):
        parts = screen.path / "embeddings" / f".{name}.parts"
        _start_parts(parts, inputs, fresh=overwrite)
        for number, start in enumerate(range(0, len(store), PART_CELLS)):
            path = parts / f"part-{number:05d}.npy"
            stop = min(start + PART_CELLS, len(store))
            if not path.exists():
                blocks = []
                for low in range(start, stop, _BLOCK):
                    high = min(low + _BLOCK, stop)
                    blocks.append(_features(bundle, store.read(np.arange(low, high)), options))
                    if progress is not None:
                        progress(high, len(store))
                with whole_file(path) as beside, beside.open("wb") as handle:
                    np.save(handle, np.concatenate(blocks))
            elif progress is not None:
                progress(stop, len(store))
        whole = np.concatenate([np.load(p) for p in sorted(parts.glob("part-*.npy"))])
        config: dict[str, Any] = {"bundle": bundle.name, "model": bundle.model}
        if not options.plain:
            config |= to_dict(options)
        if options.intensity:
            d = bundle.latent_size
            whole[:, d:], config["plates_scaled_on_all_controls"] = scaled_on_controls(
                whole[:, d:], cells, screen.record.control
            )
            config["features"] = [*schema.feature_names(d), *intensity_names(bundle.channels)]
        screen.write_embeddings(
            name, cells[schema.CELL_ID].to_list(), whole, provenance("embed", config=config, inputs=inputs)
        )
        shutil.rmtree(parts)
    return True


def _features(bundle: Bundle, patches: npt.NDArray[np.uint16], options: Options) -> npt.NDArray[np.float32]:
    """Embeddings of patches and, where asked for, their intensities, not yet scaled."""
    z = mean_of_orientations(bundle, patches) if options.orientations == 8 else bundle.encode(patches)
    return np.concatenate([z, intensities(patches)], axis=1) if options.intensity else z


def mean_of_orientations(bundle: Bundle, patches: npt.NDArray) -> npt.NDArray[np.float32]:
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


def _start_parts(folder: Path, inputs: dict[str, str], fresh: bool) -> None:
    """Keep the parts of an interrupted run of the same inputs; throw away any other."""
    record = folder / "inputs.json"
    if fresh or not record.exists() or json.loads(record.read_text()) != inputs:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(record, inputs)
