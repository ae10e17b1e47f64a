"""Typical-variation normalisation: profiles in units of how untreated cells vary.

A transform is learned per plate, or per batch, from the control *cells* (Ando et al. 2017 learn from control wells;
six wells a plate are fewer than 256 dimensions) and applied to the wells of that plate or batch. Where only wells
are at hand, as in published tables, it is learned from control wells.

For a profile of means, the samples are the cells' embeddings. For means and standard deviations they are each cell's
first-order contribution to both, ``[x, s + ((x - m)^2 - s^2) / (2 s)]`` (the influence functions of mean and s.d.),
so that the covariance learned is that of the well profile itself, up to the number of cells.

The covariance is shrunk towards a multiple of the identity, ``(1 - r) S + r (trace S / d) I``; r is Ledoit and Wolf's
(2004) estimate unless given. The square root is the symmetric one (ZCA): it turns every plate as little as can be, so
that profiles of different plates can still be compared, which a rotation to each plate's own axes would prevent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import ConfigError, ProfileError

Matrix = npt.NDArray[np.float64]

BY = ("none", "plate", "batch")
FEW = ("error", "pool", "shrink")
MAX_CONTROLS = 20_000
"""Control samples a transform is learned from at most, evenly spaced over those there are: memory stays flat."""

_WIDER = {"plate": ("plate", "batch", "screen"), "batch": ("batch", "screen")}
_PLURAL = {"plate": "plates", "batch": "batches"}
_COLUMN = {"plate": schema.PLATE, "batch": schema.BATCH}


@dataclasses.dataclass(frozen=True)
class Options:
    """How to whiten.

    Parameters
    ----------
    by : str
        ``none``, ``plate`` or ``batch``: whose controls a transform is learned from.
    regularisation : float or None
        Shrinkage r, 0 to 1; None for Ledoit and Wolf's estimate.
    few : str
        What to do where there are no more controls than dimensions: ``error``; ``pool``: take the batch's, then the
        whole screen's; ``shrink``: learn from what there is and let the shrinkage carry it.
    """

    by: str = "plate"
    regularisation: float | None = None
    few: str = "error"

    def __post_init__(self) -> None:
        if self.by not in BY:
            raise ConfigError(f"whitening is by one of {', '.join(BY)}, not {self.by!r}")
        if self.few not in FEW:
            raise ConfigError(f"too few controls are met with one of {', '.join(FEW)}, not {self.few!r}")
        if self.regularisation is not None and not 0 <= self.regularisation <= 1:
            raise ConfigError(f"the regularisation lies between 0 and 1, not at {self.regularisation}")


@dataclasses.dataclass(frozen=True)
class Transform:
    """A whitening transform: ``(x - center) @ matrix``.

    Parameters
    ----------
    center : (d,) float64
    matrix : (d, d) float64
        Symmetric.
    n_controls : int
        Samples it was learned from.
    regularisation : float
        Shrinkage used, 0 to 1.
    """

    center: Matrix
    matrix: Matrix
    n_controls: int
    regularisation: float

    def apply(self, values: npt.NDArray[np.floating[Any]]) -> Matrix:
        """Whitened rows: (n, d) -> (n, d) float64."""
        return (np.asarray(values, dtype=np.float64) - self.center) @ self.matrix


def fit(
    controls: npt.NDArray[np.floating[Any]], regularisation: float | None = None, center: Matrix | None = None
) -> Transform:
    """Learn a transform from control samples.

    Parameters
    ----------
    controls : (n, d) float
    regularisation : float or None
        Shrinkage r, 0 to 1; None for Ledoit and Wolf's estimate.
    center : (d,) float64, optional
        What to subtract; the mean of the controls unless given.

    Returns
    -------
    Transform
        With r = 0 the covariance (divisor n) of the transformed controls is the identity.

    Raises
    ------
    ProfileError
        Fewer than two controls, values that are not finite, or a covariance that cannot be inverted as it is.
    """
    samples = np.asarray(controls, dtype=np.float64)
    n, d = samples.shape
    if n < 2:
        raise ProfileError(f"whitening is learned from at least two controls, not {n}")
    if not np.isfinite(samples).all():
        raise ProfileError("the controls hold values that are not finite; whitening cannot be learned from them")
    centered = samples - samples.mean(axis=0)
    covariance = centered.T @ centered / n
    if regularisation is None:
        regularisation = _shrinkage(centered, covariance)
    level = regularisation * np.trace(covariance) / d
    covariance *= 1 - regularisation
    covariance[np.diag_indices(d)] += level
    values, vectors = np.linalg.eigh(covariance)
    if values[0] <= values[-1] * d * np.finfo(np.float64).eps:
        raise ProfileError(
            f"{n} controls do not vary in all {d} dimensions, so their covariance cannot be inverted; "
            "give a regularisation above 0, or leave it to be estimated"
        )
    matrix = (vectors / np.sqrt(values)) @ vectors.T
    return Transform(samples.mean(axis=0) if center is None else center, matrix, n, regularisation)


def _shrinkage(centered: Matrix, covariance: Matrix) -> float:
    """Ledoit and Wolf's (2004) shrinkage, as ``sklearn.covariance.ledoit_wolf_shrinkage`` gives it.

    That function multiplies the samples out twice more; the sum of ``(x^2)^T (x^2)`` is that of the squared row norms.
    """
    n, d = centered.shape
    squares = float(np.einsum("ij,ij->", covariance, covariance))
    distance = squares - float(np.trace(covariance)) ** 2 / d
    error = (float((np.einsum("ij,ij->i", centered, centered) ** 2).sum()) / n - squares) / n
    return min(max(error, 0.0), distance) / distance if distance > 0 else 0.0


def contributions(embeddings: npt.NDArray[np.floating[Any]], summary: str) -> Matrix:
    """What each control cell contributes to its well's profile, to first order.

    Parameters
    ----------
    embeddings : (n, d) float
    summary : str
        ``mean`` or ``mean+sd``.

    Returns
    -------
    (n, d) or (n, 2 d) float64
        Its mean over the cells is the profile of all of them; a dimension without spread contributes 0 to the s.d.
    """
    values = np.asarray(embeddings, dtype=np.float64)
    if summary == "mean":
        return values
    mean, sd = values.mean(axis=0), values.std(axis=0)
    safe = np.where(sd > 0, sd, 1.0)
    spread = np.where(sd > 0, sd + ((values - mean) ** 2 - sd**2) / (2 * safe), 0.0)
    return np.concatenate([values, spread], axis=1)


def profiles(
    wells: pd.DataFrame,
    options: Options,
    control: str = "DMSO",
    *,
    cells: pd.DataFrame | None = None,
    embeddings: npt.NDArray[np.floating[Any]] | None = None,
    summary: str = "mean",
    progress: schema.Progress | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Well profiles whitened by their plate's, or batch's, controls.

    Parameters
    ----------
    wells : DataFrame
        Well profiles (`cytovae.profiling.profiles.wells`).
    options : Options
    control : str
        Compound name of the controls.
    cells, embeddings : DataFrame and (n, d) float, optional
        What the wells were made of: the transforms are then learned from control cells, else from control wells.
    summary : str
        How the wells were made; read only with `embeddings`.
    progress : callable, optional
        Called with (done, total) groups.

    Returns
    -------
    tuple of (DataFrame, DataFrame)
        The wells, float32; and what was used, one row per plate or batch: ``group``, ``scope`` (whose controls: plate,
        batch or screen), ``learned_from`` (cells, wells), ``n_controls``, ``dimension``, ``regularisation``.

    Raises
    ------
    ProfileError
        Too few controls, and `Options.few` does not say what to do about it or that does not help.
    """
    if options.by == "none":
        return wells, pd.DataFrame(columns=list(_REPORT))
    features = schema.feature_columns(wells)
    values = wells[features].to_numpy(dtype=np.float64)
    is_control = (wells[schema.COMPOUND] == control).to_numpy()
    from_cells = cells is not None and embeddings is not None
    what = "cells" if from_cells else "wells"
    source = cells.reset_index(drop=True) if cells is not None and from_cells else wells.reset_index(drop=True)
    source_control = (source[schema.COMPOUND] == control).to_numpy()
    if from_cells:
        source_control = source_control & schema.not_blank(source)
    weights = wells[schema.N_CELLS].to_numpy(dtype=float) if from_cells else np.ones(len(wells))
    in_scope = _scopes(source)
    wells_in_scope = _scopes(wells)

    def learn(scope: str, key: str) -> Transform:
        rows = np.flatnonzero(source_control & in_scope[scope](key))
        if len(rows) > MAX_CONTROLS:
            rows = rows[np.linspace(0, len(rows) - 1, MAX_CONTROLS).astype(int)]
        if embeddings is not None and from_cells:
            samples = contributions(embeddings[rows], summary)
        else:
            samples = values[rows]
        here = is_control & wells_in_scope[scope](key)
        # The wells' own centre: the s.d. of few cells is smaller than that of all control cells taken together.
        center = np.average(values[here], axis=0, weights=weights[here])
        return fit(samples, options.regularisation, center)

    dimension = len(features)
    column = _COLUMN[options.by]
    groups = wells[column].astype(str).to_numpy()
    batch_of = dict(zip(groups, wells[schema.BATCH].astype(str), strict=True))
    least = 2 if options.few == "shrink" else dimension + 1
    scopes = _WIDER[options.by] if options.few == "pool" else (options.by,)
    chosen: dict[str, tuple[str, str]] = {}
    short: dict[str, int] = {}
    for group in np.unique(groups):
        keys = {"plate": group, "batch": batch_of[group], "screen": ""}
        for scope in scopes:
            n = int((source_control & in_scope[scope](keys[scope])).sum())
            if n >= least:
                chosen[group] = (scope, keys[scope])
                break
        else:
            short[group] = n
    if short:
        worst = min(short, key=lambda g: (short[g], g))
        help_ = {
            "error": "use --few-controls pool or shrink" + (", or whiten by batch" if options.by == "plate" else ""),
            "pool": "use --few-controls shrink",
            "shrink": "leave the plate out, or do not whiten",
        }[options.few]
        raise ProfileError(
            f"{len(short)} of {len(np.unique(groups))} {_PLURAL[options.by]} have too few control {what} to whiten "
            f"{dimension} dimensions: {worst} has {short[worst]}, at least {least} are needed; {help_}"
        )
    out = np.empty((len(wells), dimension), dtype=np.float32)
    learned: dict[tuple[str, str], Transform] = {}
    report = []
    for done, (group, choice) in enumerate(chosen.items(), start=1):
        if choice not in learned:
            learned[choice] = learn(*choice)
        transform = learned[choice]
        here = groups == group
        out[here] = transform.apply(values[here])
        report.append((group, choice[0], what, transform.n_controls, dimension, transform.regularisation))
        if progress is not None:
            progress(done, len(chosen))
    metadata = wells[[c for c in wells.columns if c not in set(features)]].reset_index(drop=True)
    whitened = pd.concat([metadata, pd.DataFrame(out, columns=features)], axis=1)
    return whitened, pd.DataFrame(report, columns=list(_REPORT))


_REPORT = ("group", "scope", "learned_from", "n_controls", "dimension", "regularisation")


def _scopes(table: pd.DataFrame) -> dict[str, Callable[[str], npt.NDArray[np.bool_]]]:
    """For each scope, the rows of a key."""
    columns = {scope: table[column].astype(str).to_numpy() for scope, column in _COLUMN.items() if column in table}
    everything = np.ones(len(table), dtype=bool)

    def rows(scope: str) -> Callable[[str], npt.NDArray[np.bool_]]:
        return lambda key: np.asarray(columns[scope] == key, dtype=bool)

    return {"plate": rows("plate"), "batch": rows("batch"), "screen": lambda _: everything}
