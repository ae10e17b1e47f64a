"""Two-dimensional maps of profiles, wells and cells, and where new points fall on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cytovae import schema
from cytovae.errors import ConfigError, SelectionError
from cytovae.screen import Screen, digest_file, provenance, read_provenance, read_table, write_table

METHODS = ("pca", "umap")
MOST_CELLS = 100_000
"""Cells on a map, unless asked otherwise; of more so many are drawn at random."""

_LEVELS = {"treatments": [schema.TREATMENT], "wells": [schema.PLATE, schema.WELL], "cells": [schema.CELL_ID]}
"""What is mapped, and the columns that name a row."""


def compute(features: npt.NDArray, method: str = "umap", seed: int = 0) -> npt.NDArray[np.float64]:
    """A place in the plane for every row.

    Parameters
    ----------
    features : (n, d)
        Embeddings or profiles.
    method : str
        ``pca``: the two leading principal components, signs fixed so that the largest loading is positive.
        ``umap``: UMAP with cosine distance, started from the principal components.
    seed : int
        Of UMAP's randomness.

    Returns
    -------
    (n, 2) float64

    Raises
    ------
    ConfigError
        Unknown method.
    SelectionError
        Fewer than two rows, or features that are not finite.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown map method {method!r}; choose {' or '.join(METHODS)}")
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise SelectionError(f"a map needs at least 2 rows of features, not an array of shape {x.shape}")
    if not np.isfinite(x).all():
        raise SelectionError("the features of a map must be finite; make the embeddings or profiles again")
    plane = _pca(x)
    if method == "pca" or len(x) < 5:  # UMAP needs a neighbourhood
        return plane
    return _umap(x, plane, seed)


def place(new: npt.NDArray, features: npt.NDArray, xy: npt.NDArray, n_neighbors: int = 10) -> npt.NDArray[np.float64]:
    """Where new points fall on a map that exists: between their nearest neighbours, nearer ones counting more.

    Parameters
    ----------
    new : (k, d)
        The steps of a path, or new cells.
    features : (n, d)
        What the map was made of.
    xy : (n, 2)
        The map.
    n_neighbors : int
        How many of the nearest (Euclidean) take part, weighted by 1 / distance; a point of the map itself falls on
        its own place.

    Returns
    -------
    (k, 2) float64
    """
    new, features = np.asarray(new, dtype=np.float32), np.asarray(features, dtype=np.float32)
    few = min(n_neighbors, len(features))
    squared = np.einsum("nd,nd->n", features, features)
    d2 = squared[None, :] - 2.0 * new @ features.T  # order is all that counts here
    near = np.argpartition(d2, few - 1, axis=1)[:, :few]
    apart = np.linalg.norm(features[near].astype(np.float64) - new[:, None].astype(np.float64), axis=2)
    weight = 1.0 / np.maximum(apart, 1e-6 * max(float(apart.max()), 1e-12))
    same = apart == 0
    weight = np.where(same.any(axis=1, keepdims=True), same.astype(np.float64), weight)
    weight /= weight.sum(axis=1, keepdims=True)
    return np.asarray((weight[:, :, None] * np.asarray(xy, dtype=np.float64)[near]).sum(axis=1))


def inside(xy: npt.NDArray, polygon: npt.NDArray) -> npt.NDArray[np.bool_]:
    """Which points lie in a polygon, by the even-odd rule.

    Parameters
    ----------
    xy : (n, 2)
    polygon : (v, 2)

    Returns
    -------
    (n,) bool
    """
    x, y = np.asarray(xy, dtype=np.float64).T
    found = np.zeros(len(x), dtype=bool)
    for (xa, ya), (xb, yb) in zip(polygon, np.roll(polygon, 1, axis=0), strict=True):
        if ya == yb:
            continue
        found ^= ((ya > y) != (yb > y)) & (x < (xb - xa) * (y - ya) / (yb - ya) + xa)
    return found


def clusters(features: npt.NDArray, k: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Groups of rows by k-means on their 30 leading principal components, for colouring a map.

    Parameters
    ----------
    features : (n, d)
    k : int
        How many groups; fewer where there are fewer rows.
    seed : int

    Returns
    -------
    (n,) int64
        Group of each row, the largest group 0.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import PCA

    k = min(k, len(features))
    if len(features) > 2:
        features = PCA(min(30, *features.shape), random_state=seed).fit_transform(features)
    found = MiniBatchKMeans(k, random_state=seed, n_init=3, batch_size=2048).fit_predict(features)
    by_size = np.argsort(-np.bincount(found, minlength=k), kind="stable")
    return np.asarray(np.argsort(by_size)[found], dtype=np.int64)


def _pca(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    x = x - x.mean(axis=0)
    _, vectors = np.linalg.eigh(x.T @ x)
    axes = vectors[:, ::-1][:, :2]  # (d, 2), largest first
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    plane = x @ axes
    return plane if plane.shape[1] == 2 else np.column_stack([plane, np.zeros(len(x))])


def _umap(x: npt.NDArray[np.float64], plane: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba and umap remark on threads and on their own deprecations
        import umap

        start = 10.0 * plane / max(float(np.abs(plane).max()), 1e-12)
        fit = umap.UMAP(
            n_neighbors=min(15, len(x) - 1),
            min_dist=0.1,
            metric="cosine",
            init=start.astype(np.float32),
            random_state=seed,
            n_jobs=1,
        )
        return np.asarray(fit.fit_transform(x.astype(np.float32)), dtype=np.float64)


def store(
    screen: Screen,
    model: str,
    methods: Sequence[str],
    most_cells: int,
    seed: int = 0,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Maps of a model's cells, wells and treatments, kept in the screen; what is up to date is left alone.

    Parameters
    ----------
    screen : Screen
    model : str
        A model that it holds embeddings and plain mean profiles of.
    methods : sequence of str
        Of `METHODS`.
    most_cells : int
        Cells on a map at most; more are drawn from at random. Blank cells are never shown.
    seed : int
        Of the draw and of UMAP.
    overwrite : bool
        Make again what is up to date.
    say : callable
        Told one line at a time what a person should know.

    Returns
    -------
    list of dict
        ``bundle``, ``level``, ``method``, ``n``, ``path``, ``made`` of each map; none of a level with a single row.
    """
    lines = []
    for level, keys in _LEVELS.items():
        if level == "cells":
            made_of = screen.embeddings_path(model) / "embeddings.npy"
            cells, embeddings = screen.embeddings(model)
            rows = np.flatnonzero(schema.not_blank(cells))
            if len(rows) > most_cells:
                say(f"{model}: the map of cells shows {most_cells:,} of {len(rows):,}, drawn at random")
                rows = np.sort(np.random.default_rng(seed).choice(rows, most_cells, replace=False))
            table, values = cells.iloc[rows], np.asarray(embeddings[rows])
        else:
            made_of = screen.profiles_path(model, level)
            table = read_table(made_of)
            values = table[schema.feature_columns(table)].to_numpy()
        if len(table) < 2:
            continue
        for method in methods:
            path = screen.map_path(model, level, method)
            record = provenance(
                "profile",
                config={"map": method, "level": level, "most": most_cells},
                inputs={level: digest_file(made_of)},
                seed=seed,
            )
            made = overwrite or not path.exists() or read_provenance(path) != record
            if made:
                if method == "umap":
                    if level == "treatments":
                        say("the first UMAP of a fresh install compiles for a minute")
                    say(f"mapping {len(table):,} {level} of {model} with UMAP")
                xy = compute(values, method, seed)
                write_table(path, table[keys].assign(x=xy[:, 0], y=xy[:, 1]), record)
            head = {"bundle": model, "level": level, "method": method, "n": len(table)}
            lines.append({**head, "path": str(path), "made": made})
    return lines
