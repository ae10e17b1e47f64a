"""What a learned embedding must beat: pixels, simple measurements, and the mere number of cells.

All of it is handed in and out as arrays and tables. A baseline is aggregated, whitened and scored by the same functions
as a model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import ProfileError
from cytovae.profiling import benchmark, whiten
from cytovae.profiling.profiles import WELL_METADATA, treatments
from cytovae.profiling.profiles import wells as wells_of
from cytovae.profiling.ranking import RULES

PIXELS = "pixel PCA"
MEASUREMENTS = "simple measurements"
CELL_COUNT = "cell count"
CHANCE = "chance"

DESCRIPTIONS = {
    PIXELS: "principal components of the normalised pixels, as many as the model has dimensions",
    MEASUREMENTS: "intensity and shape measurements of each patch, in s.d. of the screen's control wells",
    CELL_COUNT: "cells per field alone; the neighbour is the treatment nearest in log count",
    CHANCE: "a neighbour drawn at random from the admissible ones",
}

CALL_KEYS = ("baseline", "dimension", "summary", "whiten", "rule")
"""What names the calls of a baseline in one column under one rule."""

FIT_CELLS = 2_000
"""Cells whose principal axes are taken; the axes lie in their span, so this bounds the dimension too."""


@dataclasses.dataclass(frozen=True)
class PixelPCA:
    """Principal axes of normalised patches.

    Parameters
    ----------
    center : (H * W * C,) float32
    axes : (H * W * C, d) float32
        Orthonormal, largest variance first.
    """

    center: npt.NDArray[np.float32]
    axes: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, patches: npt.NDArray[Any], dimension: int) -> PixelPCA:
        """Learn the axes from patches.

        Parameters
        ----------
        patches : (n, H, W, C) uint16 or float
            A random sample of the screen; more than `dimension` of them.
        dimension : int
            How many axes; fewer where the patches span fewer.
        """
        pixels = _normalised(patches)
        if len(pixels) < 2:
            raise ProfileError(f"principal axes need at least two patches, not {len(pixels)}")
        center: npt.NDArray[np.float32] = pixels.mean(axis=0, dtype=np.float32)
        pixels -= center
        # By the (n, n) products: n is far below the number of pixels.
        values, vectors = np.linalg.eigh((pixels @ pixels.T).astype(np.float64))
        order = np.argsort(values)[::-1][: min(dimension, len(pixels) - 1)]
        order = order[values[order] > values.max() * 1e-6]
        axes = pixels.T @ (vectors[:, order] / np.sqrt(values[order])).astype(np.float32)
        return cls(center, np.ascontiguousarray(axes, dtype=np.float32))

    def encode(self, patches: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Patches on the axes: (n, H, W, C) -> (n, d) float32."""
        return np.asarray((_normalised(patches) - self.center) @ self.axes, dtype=np.float32)


def _normalised(patches: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(n, H * W * C) float32; each channel of each patch by its own maximum, a blank channel 0."""
    values = patches.astype(np.float32)
    peak = values.max(axis=(1, 2), keepdims=True)
    values /= np.where(peak > 0, peak, 1)
    return values.reshape(len(values), -1)


def measure(patches: npt.NDArray[np.uint16], channels: tuple[str, ...]) -> pd.DataFrame:
    """A stated set of simple measurements of each patch, in raw intensities.

    For each channel: mean, s.d., 5th, 50th and 95th percentile, maximum, and mean within the central nucleus. For each
    two channels: the correlation of their pixels. Of the nucleus (pixels of the first channel above half of its
    background-to-maximum range): area (px), eccentricity of its second moments, and share of the patch's intensity.

    Parameters
    ----------
    patches : (n, H, W, C) uint16
        The first channel shows the nuclei.
    channels : tuple of str
        Their names, for the columns.

    Returns
    -------
    DataFrame
        n rows, float64, finite: a constant patch has s.d., correlation and eccentricity 0.
    """
    n, height, width, depth = patches.shape
    pixels = patches.reshape(n, -1, depth).astype(np.float32)  # (n, H*W, C)
    low, middle, high = np.percentile(pixels, [5, 50, 95], axis=1)  # (n, C)
    peak = pixels.max(axis=1)
    mean, sd = pixels.mean(axis=1, dtype=np.float64), pixels.std(axis=1, dtype=np.float64)
    nucleus = pixels[:, :, 0] > (low[:, 0] + 0.5 * (peak[:, 0] - low[:, 0]))[:, None]  # (n, H*W)
    area = nucleus.sum(axis=1)
    inside = np.maximum(area, 1)
    columns: dict[str, npt.NDArray[Any]] = {}
    for k, name in enumerate(channels):
        columns |= {
            f"{name}_mean": mean[:, k],
            f"{name}_sd": sd[:, k],
            f"{name}_p05": low[:, k],
            f"{name}_p50": middle[:, k],
            f"{name}_p95": high[:, k],
            f"{name}_max": peak[:, k],
            f"{name}_nucleus_mean": np.where(nucleus, pixels[:, :, k], 0).sum(axis=1, dtype=np.float64) / inside,
        }
    centered = pixels - mean[:, None, :].astype(np.float32)
    for a in range(depth):
        for b in range(a + 1, depth):
            product = np.einsum("np,np->n", centered[:, :, a], centered[:, :, b], dtype=np.float64)
            norm = sd[:, a] * sd[:, b] * height * width
            columns[f"{channels[a]}_{channels[b]}_correlation"] = np.where(
                norm > 0, product / np.where(norm > 0, norm, 1), 0
            )
    y, x = (axis.ravel().astype(np.float64) for axis in np.mgrid[:height, :width])
    weight = nucleus / inside[:, None]
    my, mx = weight @ y, weight @ x
    yy, xx, xy = weight @ (y * y) - my**2, weight @ (x * x) - mx**2, weight @ (x * y) - mx * my
    root = np.sqrt(np.maximum((yy - xx) ** 2 + 4 * xy**2, 0))
    major, minor = (yy + xx + root) / 2, np.maximum((yy + xx - root) / 2, 0)
    columns["nucleus_area_px"] = area.astype(np.float64)
    columns["nucleus_eccentricity"] = np.sqrt(np.where(major > 1e-9, 1 - minor / np.where(major > 1e-9, major, 1), 0))
    share = np.where(nucleus, pixels[:, :, 0], 0).sum(axis=1, dtype=np.float64)
    columns["nucleus_intensity_share"] = share / np.maximum(pixels[:, :, 0].sum(axis=1, dtype=np.float64), 1)
    return pd.DataFrame(columns).astype(np.float64)


def in_control_units(wells: pd.DataFrame, control: str) -> pd.DataFrame:
    """Features of different units made comparable: z-scores over all control wells of the screen together.

    No plate is corrected for, so that a baseline is as exposed to batches as an embedding is. A feature that is
    constant among the controls is dropped.

    Raises
    ------
    ProfileError
        Fewer than two control wells.
    """
    features = schema.feature_columns(wells)
    values = wells[features].to_numpy(dtype=np.float64)
    controls = values[(wells[schema.COMPOUND] == control).to_numpy()]
    if len(controls) < 2:
        raise ProfileError(
            f"z-scores need at least two control wells ({control}); the screen has {len(controls)} with usable cells"
        )
    keep = np.ptp(controls, axis=0) > 0
    scaled = (values[:, keep] - controls[:, keep].mean(axis=0)) / controls[:, keep].std(axis=0)
    metadata = wells[[c for c in wells.columns if c not in set(features)]].reset_index(drop=True)
    names = [name for name, good in zip(features, keep, strict=True) if good]
    return pd.concat([metadata, pd.DataFrame(scaled, columns=names)], axis=1)


def cell_count(cells: pd.DataFrame, wells: pd.DataFrame) -> pd.DataFrame:
    """Well profiles that hold nothing but the number of cells per field.

    The log of the mean count becomes an angle between 0 and 90 degrees, its cosine and sine the two features: so the
    neighbour by cosine similarity is the one nearest in log count. (Of a single feature the cosine sees the sign only.)

    Parameters
    ----------
    cells : DataFrame
        One row per cell, with its field.
    wells : DataFrame
        Well profiles, for their metadata.
    """
    counted = cells[schema.not_blank(cells)]
    fields = counted.groupby([schema.PLATE, schema.WELL])[schema.FIELD].nunique()
    keys = pd.MultiIndex.from_frame(wells[[schema.PLATE, schema.WELL]])
    per_field = wells[schema.N_CELLS].to_numpy(dtype=float) / fields.reindex(keys).to_numpy(dtype=float)
    log = np.log(per_field)
    span = np.ptp(log)
    angle = (log - log.min()) / (span if span > 0 else 1) * np.pi / 2
    table = wells[list(WELL_METADATA)].reset_index(drop=True)
    return table.assign(count_cos=np.cos(angle), count_sin=np.sin(angle))


def score(
    cells: pd.DataFrame,
    sample: npt.NDArray[np.uint16],
    blocks: Iterable[tuple[int, npt.NDArray[np.uint16]]],
    channels: tuple[str, ...],
    dimensions: Sequence[int],
    columns: Sequence[tuple[str, whiten.Options]],
    rng: np.random.Generator,
    control: str = "DMSO",
    progress: schema.Progress | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], pd.DataFrame]:
    """All baselines but chance, scored by the same functions as a model.

    Parameters
    ----------
    cells : DataFrame
        All cells of the screen.
    sample : (m, H, W, C) uint16
        Random patches to take the principal axes of, about `FIT_CELLS`.
    blocks : iterable of (int, (n, H, W, C) uint16)
        All patches in the order of `cells`, each block with the row it starts at.
    channels : tuple of str
        Their names.
    dimensions : sequence of int
        Of the models they stand beside.
    columns : sequence of (str, Options)
        Summaries and whitenings for the pixels; one that cannot be whitened for lack of controls is left out.
    rng : Generator
        Of intervals and permutations.
    control : str
        Compound name of the controls.
    progress : callable, optional
        Called with (done, total) cells.

    Returns
    -------
    tuple of (list of dict, list of dict, DataFrame)
        Lines of ``baselines`` and of ``skipped`` in ``scores.json``; the simple measurements are skipped where there
        are too few control wells to put them in one unit. And the calls, with `CALL_KEYS` before them.
    """
    pixels = PixelPCA.fit(sample, max(dimensions))
    projected, measured = [], []
    for start, block in blocks:
        projected.append(pixels.encode(block))
        measured.append(measure(block, channels).to_numpy())
        if progress is not None:
            progress(start + len(block), len(cells))
    values, simple = np.concatenate(projected), np.concatenate(measured)
    measurements = wells_of(cells, simple)
    tables = [(CELL_COUNT, 1, "mean", "none", cell_count(cells, measurements))]
    skipped = []
    try:
        tables.append((MEASUREMENTS, simple.shape[1], "mean", "none", in_control_units(measurements, control)))
    except ProfileError as too_few:
        skipped.append({"bundle": MEASUREMENTS, "summary": "mean", "whiten": "none", "reason": str(too_few)})
    for dimension in dimensions:
        own = values[:, :dimension]  # the axes are nested: the first d of many are the axes of d
        for summary, options in columns:
            plain = wells_of(cells, own, summary)
            try:
                table, _ = whiten.profiles(plain, options, control, cells=cells, embeddings=own, summary=summary)
            except ProfileError:
                continue
            tables.append((PIXELS, own.shape[1], summary, options.by, table))
    lines, calls = [], []
    for name, dimension, summary, by, table in tables:
        head = {"baseline": name, "description": DESCRIPTIONS[name], "dimension": dimension}
        for rule in RULES:
            line, called = benchmark.score(treatments(table), rule, rng, control)
            lines.append({**head, "summary": summary, "whiten": by, **line})
            calls.append(
                called.assign(baseline=name, dimension=dimension, summary=summary, whiten=str(by), rule=rule.name)
            )
    return lines, skipped, pd.concat(calls, ignore_index=True)[[*CALL_KEYS, *benchmark.CALL_COLUMNS]]


def chance_calls(calls: pd.DataFrame) -> pd.DataFrame:
    """The calls of chance, from any model's: ``correct`` is the probability that a random neighbour is right."""
    first = calls[calls["bundle"] == calls["bundle"].iloc[0]].drop_duplicates(["rule", schema.TREATMENT])
    share = (first["n_admissible_same"] / first["n_admissible"].clip(lower=1)).astype(float)
    head = {"baseline": CHANCE, "dimension": 0, "summary": "mean", "whiten": "none"}
    called: pd.DataFrame = first.assign(**head, correct=share)[[*CALL_KEYS, *benchmark.CALL_COLUMNS]]
    return called


def chance(scores: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The chance lines of ``baselines``, from any model's scores: chance knows the metadata only."""
    lines = {}
    for line in scores:
        head = {"baseline": CHANCE, "description": DESCRIPTIONS[CHANCE], "dimension": 0, "summary": "mean"}
        own = {key: line[key] for key in ("rule", "n_scored", "n_treatments", "chance")}
        lines[line["rule"]] = {
            **head,
            **own,
            "whiten": "none",
            "accuracy": line["chance"],
            "ci95": None,
            "n_correct": None,
            "permutation": None,
        }
    return list(lines.values())
