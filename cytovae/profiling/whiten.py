"""Typical-variation normalisation: profiles in units of how untreated cells vary.

A transform (`cytovae.profiling.sphering`) is learned per plate, or per batch, from the control *cells* (Ando et al.
2017 learn from control wells; six wells a plate are fewer than 256 dimensions) and applied to the wells of that plate
or batch. Where only wells are at hand, as in published tables, it is learned from control wells.

For a profile of means, the samples are the cells' embeddings. For means and standard deviations they are each cell's
first-order contribution to both, ``[x, s + ((x - m)^2 - s^2) / (2 s)]`` (the influence functions of mean and s.d.),
so that the covariance learned is that of the well profile itself, up to the number of cells.

``tvn`` is Ando et al.'s own order of steps. Every batch is centred on its controls; the controls of all batches
together give the principal axes, each scaled to their spread; then the covariance of every batch's controls is aligned
to that of all of them (CORAL, Sun et al. 2016). It keeps as many axes as leave `CONTROLS_A_DIMENSION` controls for each
of them in the batch that has fewest, and the output says how many those are.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import ConfigError, ProfileError
from cytovae.profiling import sphering
from cytovae.profiling.sphering import Matrix, Transform

MAX_CONTROLS = 20_000
"""Control samples a transform is learned from at most, evenly spaced over those there are: memory stays flat."""

CONTROLS_A_DIMENSION = 2
"""Controls that ``tvn`` wants in every batch for each axis it keeps."""


class Whitening(enum.StrEnum):
    """Whose controls whiten."""

    none = "none"
    plate = "plate"
    batch = "batch"
    tvn = "tvn"

    @property
    def words(self) -> str:
        """As Table 1 heads it, behind the summary."""
        return {
            Whitening.none: "",
            Whitening.plate: "Whitened (plate)",
            Whitening.batch: "Whitened (batch)",
            Whitening.tvn: "TVN",
        }[self]


class FewControls(enum.StrEnum):
    """What to do where there are no more controls than dimensions."""

    error = "error"
    pool = "pool"
    shrink = "shrink"


_WIDER = {Whitening.plate: ("plate", "batch", "screen"), Whitening.batch: ("batch", "screen")}
_PLURAL = {Whitening.plate: "plates", Whitening.batch: "batches", Whitening.tvn: "batches"}
_COLUMN = {"plate": schema.PLATE, "batch": schema.BATCH, "tvn": schema.BATCH}
_REPORT = ("group", "scope", "learned_from", "n_controls", "dimension", "regularisation")


@dataclasses.dataclass(frozen=True)
class Options:
    """How to whiten.

    Parameters
    ----------
    by : Whitening
        Whose controls a transform is learned from.
    regularisation : float or None
        Shrinkage r, 0 to 1; None for Ledoit and Wolf's estimate.
    few : FewControls
        What to do where there are no more controls than dimensions: ``error``; ``pool``: take the batch's, then the
        whole screen's; ``shrink``: learn from what there is and let the shrinkage carry it. ``tvn`` keeps fewer
        dimensions instead and has no use for it.
    """

    by: Whitening = Whitening.plate
    regularisation: float | None = None
    few: FewControls = FewControls.error

    def __post_init__(self) -> None:
        if self.by not in list(Whitening):
            raise ConfigError(f"whitening is by one of {', '.join(Whitening)}, not {self.by!r}")
        if self.few not in list(FewControls):
            raise ConfigError(f"too few controls are met with one of {', '.join(FewControls)}, not {self.few!r}")
        if self.regularisation is not None and not 0 <= self.regularisation <= 1:
            raise ConfigError(f"the regularisation lies between 0 and 1, not at {self.regularisation}")
        object.__setattr__(self, "by", Whitening(self.by))
        object.__setattr__(self, "few", FewControls(self.few))


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
    """Well profiles whitened by controls.

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
        The wells, float32, with features ``tvn000`` and so on after ``tvn``; and what was used, one row per plate or
        batch: ``group``, ``scope`` (whose controls: plate, batch or screen), ``learned_from`` (cells, wells),
        ``n_controls``, ``dimension``, ``regularisation``.

    Raises
    ------
    ProfileError
        Too few controls, and `Options.few` does not say what to do about it or that does not help.
    """
    if options.by == Whitening.none:
        return wells, pd.DataFrame(columns=list(_REPORT))
    controls = _Controls(wells, control, cells, embeddings, summary)
    make = _aligned if options.by == Whitening.tvn else _sphered
    features, values, report = make(controls, options, progress)
    metadata = wells[[c for c in wells.columns if c not in set(controls.features)]].reset_index(drop=True)
    whitened = pd.concat([metadata, pd.DataFrame(values, columns=features)], axis=1)
    return whitened, pd.DataFrame(report, columns=list(_REPORT))


class _Controls:
    """The wells to whiten, and the control samples of any plate, batch or the screen."""

    def __init__(
        self,
        wells: pd.DataFrame,
        control: str,
        cells: pd.DataFrame | None,
        embeddings: npt.NDArray[np.floating[Any]] | None,
        summary: str,
    ) -> None:
        self.wells, self.embeddings, self.summary = wells, embeddings, summary
        self.features = schema.feature_columns(wells)
        self.values = wells[self.features].to_numpy(dtype=np.float64)
        self.is_control = (wells[schema.COMPOUND] == control).to_numpy()
        if cells is None or embeddings is None:
            self.what, self.embeddings, source = "wells", None, wells.reset_index(drop=True)
            self.sampled = self.is_control
            self.weights = np.ones(len(wells))
        else:
            self.what, source = "cells", cells.reset_index(drop=True)
            self.sampled = (source[schema.COMPOUND] == control).to_numpy() & schema.not_blank(source)
            self.weights = wells[schema.N_CELLS].to_numpy(dtype=float)
        columns = [c for c in (schema.PLATE, schema.BATCH) if c in source]
        self.source = {c: source[c].astype(str).to_numpy() for c in columns}
        self.of_wells = {c: wells[c].astype(str).to_numpy() for c in columns}

    def _rows(self, scope: str, key: str) -> npt.NDArray[np.bool_]:
        return self.sampled if scope == "screen" else self.sampled & (self.source[_COLUMN[scope]] == key)

    def count(self, scope: str, key: str) -> int:
        return int(self._rows(scope, key).sum())

    def samples(self, scope: str, key: str) -> Matrix:
        """(n, d) float64."""
        rows = np.flatnonzero(self._rows(scope, key))
        if len(rows) > MAX_CONTROLS:
            rows = rows[np.linspace(0, len(rows) - 1, MAX_CONTROLS).astype(int)]
        if self.embeddings is None:
            return np.asarray(self.values[rows])
        return sphering.contributions(self.embeddings[rows], self.summary)

    def center(self, scope: str, key: str) -> Matrix:
        """(d,) float64: of the control wells; the s.d. of few cells is smaller than that of all of them together."""
        here = self.is_control if scope == "screen" else self.is_control & (self.of_wells[_COLUMN[scope]] == key)
        return np.asarray(np.average(self.values[here], axis=0, weights=self.weights[here]))


_Made = tuple[list[str], npt.NDArray[np.float32], list[tuple[Any, ...]]]


def _sphered(controls: _Controls, options: Options, progress: schema.Progress | None) -> _Made:
    """Every plate or batch by a transform of its own controls, or of wider ones where that was asked for."""
    groups = controls.of_wells[_COLUMN[options.by]]
    dimension = len(controls.features)
    chosen = _scopes(controls, options, dimension)
    out = np.empty((len(groups), dimension), dtype=np.float32)
    learned: dict[tuple[str, str], Transform] = {}
    report = []
    for done, (group, choice) in enumerate(chosen.items(), start=1):
        if choice not in learned:
            learned[choice] = sphering.fit(controls.samples(*choice), options.regularisation, controls.center(*choice))
        transform = learned[choice]
        here = groups == group
        out[here] = transform.apply(controls.values[here])
        report.append((group, choice[0], controls.what, transform.n_controls, dimension, transform.regularisation))
        if progress is not None:
            progress(done, len(chosen))
    return controls.features, out, report


def _scopes(controls: _Controls, options: Options, dimension: int) -> dict[str, tuple[str, str]]:
    """Per plate or batch, whose controls it is whitened by: (scope, key)."""
    groups = controls.of_wells[_COLUMN[options.by]]
    batch_of = dict(zip(groups, controls.wells[schema.BATCH].astype(str), strict=True))
    least = 2 if options.few == FewControls.shrink else dimension + 1
    scopes = _WIDER[options.by] if options.few == FewControls.pool else (str(options.by),)
    chosen: dict[str, tuple[str, str]] = {}
    short: dict[str, int] = {}
    for group in np.unique(groups):
        keys = {"plate": group, "batch": batch_of[group], "screen": ""}
        for scope in scopes:
            n = controls.count(scope, keys[scope])
            if n >= least:
                chosen[group] = (scope, keys[scope])
                break
        else:
            short[group] = n
    if short:
        help_ = {
            FewControls.error: "use --few-controls pool or shrink"
            + (", or whiten by batch" if options.by == Whitening.plate else ""),
            FewControls.pool: "use --few-controls shrink",
            FewControls.shrink: "leave the plate out, or do not whiten",
        }[options.few]
        raise _too_few(controls, options, short, len(np.unique(groups)), dimension, least, help_)
    return chosen


def _aligned(controls: _Controls, options: Options, progress: schema.Progress | None) -> _Made:
    """All batches on the principal axes of all controls, each batch's controls aligned to all of them."""
    groups = controls.of_wells[schema.BATCH]
    batches = [str(batch) for batch in np.unique(groups)]
    counts = {batch: controls.count("batch", batch) for batch in batches}
    least = 2 * CONTROLS_A_DIMENSION
    short = {batch: n for batch, n in counts.items() if n < least}
    if short:
        raise _too_few(
            controls,
            options,
            short,
            len(batches),
            2,
            least,
            "whiten by plate, or not at all; --few-controls is of no help",
        )
    centred = {batch: controls.samples("batch", batch) for batch in batches}
    centred = {batch: values - values.mean(axis=0) for batch, values in centred.items()}
    most = min(len(controls.features), min(counts.values()) // CONTROLS_A_DIMENSION)
    reduction = sphering.reduce(np.concatenate(list(centred.values())), most)
    dimension = reduction.axes.shape[1]
    out = np.empty((len(groups), dimension), dtype=np.float32)
    report = []
    for done, batch in enumerate(batches, start=1):
        align = sphering.fit(centred[batch] @ reduction.axes, options.regularisation, np.zeros(dimension))
        here = groups == batch
        out[here] = align.apply((controls.values[here] - controls.center("batch", batch)) @ reduction.axes)
        report.append((batch, "batch", controls.what, counts[batch], dimension, align.regularisation))
        if progress is not None:
            progress(done, len(batches))
    return [f"tvn{k:03d}" for k in range(dimension)], out, report


def _too_few(
    controls: _Controls, options: Options, short: dict[str, int], n_groups: int, dimension: int, least: int, help_: str
) -> ProfileError:
    worst = min(short, key=lambda g: (short[g], g))
    return ProfileError(
        f"{len(short)} of {n_groups} {_PLURAL[options.by]} have too few control {controls.what} to whiten "
        f"{dimension} dimensions: {worst} has {short[worst]}, at least {least} are needed; {help_}"
    )
