"""The whitening transform: learned from control samples, applied to profiles.

The covariance is shrunk towards a multiple of the identity, ``(1 - r) S + r (trace S / d) I``; r is Ledoit and Wolf's
(2004) estimate unless given. The square root is the symmetric one (ZCA): it turns every plate as little as can be, so
that profiles of different plates can still be compared, which a rotation to each plate's own axes would prevent.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from cytovae.errors import ProfileError

Matrix = npt.NDArray[np.float64]


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


@dataclasses.dataclass(frozen=True)
class Reduction:
    """The leading principal axes of control samples, each in units of the controls' spread along it.

    Parameters
    ----------
    axes : (d, k) float64
        ``x @ axes`` has covariance one among the centred controls it was learned from.
    n_controls : int
        Samples it was learned from.
    """

    axes: Matrix
    n_controls: int


def reduce(centred: Matrix, dimension: int) -> Reduction:
    """The axes along which controls vary most.

    Parameters
    ----------
    centred : (n, d) float64
        Control samples, each minus the centre of its batch.
    dimension : int
        How many axes at most; those along which the controls do not vary are left out.

    Raises
    ------
    ProfileError
        The controls do not vary at all.
    """
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    values, vectors = values[::-1][:dimension], vectors[:, ::-1][:, :dimension]
    keep = values > max(values[0], 0) * len(vectors) * np.finfo(np.float64).eps
    if not keep.any():
        raise ProfileError(f"{len(centred)} controls do not vary, so there is nothing to learn whitening from")
    return Reduction(vectors[:, keep] / np.sqrt(values[keep]), len(centred))
