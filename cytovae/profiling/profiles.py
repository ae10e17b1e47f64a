"""Cells to wells to treatments.

A well is the mean of its cells, or mean and standard deviation side by side; a treatment (a compound at one
concentration) is the median of its wells (METHOD.md, Profiles). Tables are pycytominer's: ``Metadata_*`` columns,
every other column a feature; ``z000`` is the mean of the first embedding dimension, ``z000_sd`` its s.d.
"""

from __future__ import annotations

import enum
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import ProfileError


class Summary(enum.StrEnum):
    """How the cells of a well become one profile."""

    mean = "mean"
    mean_sd = "mean+sd"

    @property
    def words(self) -> str:
        """As Table 1 heads it."""
        return {Summary.mean: "Mean", Summary.mean_sd: "Mean+S.D."}[self]


BLOCK_CELLS = 16_384
"""Cells read from the embeddings at once: 16 MB at 256 dimensions."""

WELL_METADATA = (
    schema.PLATE,
    schema.WELL,
    schema.BATCH,
    schema.COMPOUND,
    schema.CONCENTRATION,
    schema.TREATMENT,
    schema.MOA,
    schema.N_CELLS,
)
TREATMENT_METADATA = (
    schema.COMPOUND,
    schema.CONCENTRATION,
    schema.TREATMENT,
    schema.MOA,
    schema.BATCH,
    schema.N_CELLS,
    schema.N_WELLS,
)

BATCH_SEPARATOR = "|"
"""Joins the batches of a treatment that was measured in several."""

_OF_A_WELL = [schema.BATCH, schema.COMPOUND, schema.CONCENTRATION, schema.TREATMENT, schema.MOA]


def feature_names(dimension: int, summary: str = "mean") -> list[str]:
    """The feature columns of a profile.

    Examples
    --------
    >>> feature_names(2, "mean+sd")
    ['z000', 'z001', 'z000_sd', 'z001_sd']
    """
    summary = summary_of(summary)
    means = schema.feature_names(dimension)
    return means if summary == "mean" else means + [f"{name}_sd" for name in means]


def wells(
    cells: pd.DataFrame,
    embeddings: npt.NDArray[np.floating[Any]],
    summary: str = "mean",
    progress: schema.Progress | None = None,
) -> pd.DataFrame:
    """One row per well: the summary of its cells.

    The embeddings are read in blocks of rows, so a memory map of any length needs memory for one block and the wells
    only. Cells flagged ``Metadata_Blank`` are left out; a well that has no other cells is left out with them.

    Parameters
    ----------
    cells : DataFrame
        One row per embedding, in its order; columns of ``schema.CELL_COLUMNS``.
    embeddings : (n, d) float
        May be a memory map.
    summary : str
        ``mean``, or ``mean+sd``: the mean and the standard deviation (divisor n, so that one cell has s.d. 0).
    progress : callable, optional
        Called with (done, total) cells.

    Returns
    -------
    DataFrame
        Sorted by plate and well: `WELL_METADATA`, the user's own columns that are the same for all cells of each well,
        then the features as float32.

    Raises
    ------
    ProfileError
        Rows and cells do not match; no cell is usable; an embedding is not finite; the cells of one well disagree
        about its compound, concentration, mechanism or batch.
    """
    summary = summary_of(summary)
    if embeddings.ndim != 2 or len(cells) != len(embeddings):
        raise ProfileError(
            f"{len(cells)} cells do not describe embeddings of shape {embeddings.shape}; they must match"
        )
    schema.require_columns(cells, [schema.PLATE, schema.WELL, *_OF_A_WELL], "the table of cells")
    keep = schema.not_blank(cells)
    if not keep.any():
        raise ProfileError(f"none of {len(cells)} cells is usable (all are flagged blank); there is nothing to profile")
    table, well_of = _wells_of(cells, keep)
    counts = np.bincount(well_of[keep])
    table[schema.N_CELLS] = counts

    def total(transform: Callable[[npt.NDArray[np.float64], npt.NDArray[np.int64]], npt.NDArray[np.float64]]) -> Any:
        sums = np.zeros((len(counts), embeddings.shape[1]))
        for start in range(0, len(embeddings), BLOCK_CELLS):
            here = well_of[start : start + BLOCK_CELLS]
            rows = np.flatnonzero(here >= 0)
            rows = rows[np.argsort(here[rows], kind="stable")]
            if len(rows):
                block = np.asarray(embeddings[start : start + BLOCK_CELLS][rows], dtype=np.float64)
                codes, first = np.unique(here[rows], return_index=True)
                sums[codes] += np.add.reduceat(transform(block, here[rows]), first, axis=0)
            report(min(BLOCK_CELLS, len(embeddings) - start))
        return sums

    passes = 1 if summary == "mean" else 2
    done = 0

    def report(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(done // passes, len(embeddings))

    means = total(lambda block, _: block) / counts[:, None]
    parts = [means]
    if summary == "mean+sd":
        # A second pass over the data: E[x^2] - E[x]^2 cancels where the spread is small beside the mean.
        squares = total(lambda block, codes: (block - means[codes]) ** 2)
        parts.append(np.sqrt(squares / counts[:, None]))
    features = np.concatenate(parts, axis=1)
    if not np.isfinite(features).all():
        bad = table.loc[~np.isfinite(features).all(axis=1), schema.WELL].iloc[0]
        raise ProfileError(f"an embedding in well {bad!r} is not finite; run 'cytovae embed --overwrite'")
    names = feature_names(embeddings.shape[1], summary)
    return pd.concat([table, pd.DataFrame(features.astype(np.float32), columns=names)], axis=1)


def _wells_of(cells: pd.DataFrame, keep: npt.NDArray[np.bool_]) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    """One row per well with what all its cells must agree on; the well of every cell, -1 where it does not count."""
    rows = np.flatnonzero(keep)
    plate, plates = pd.factorize(cells[schema.PLATE].astype(str), sort=True)
    well, wells = pd.factorize(cells[schema.WELL].astype(str), sort=True)
    _, first, own = np.unique(plate[rows] * len(wells) + well[rows], return_index=True, return_inverse=True)
    first = rows[first]
    well_of = np.full(len(cells), -1, dtype=np.int64)
    well_of[rows] = own
    for column in _OF_A_WELL:
        codes = pd.factorize(cells[column])[0]
        other = rows[codes[rows] != codes[first][own]]
        if len(other):
            row = other[0]
            seen = sorted({str(cells[column].iloc[k]) for k in (row, first[well_of[row]])})
            raise ProfileError(
                f"the cells of well {cells[schema.WELL].iloc[row]} on plate {cells[schema.PLATE].iloc[row]} disagree "
                f"about what it holds ({', '.join(seen)}); a well has one compound, concentration, mechanism and batch"
            )
    table = cells[_OF_A_WELL].iloc[first].reset_index(drop=True)
    table[schema.MOA] = table[schema.MOA].fillna(schema.UNKNOWN_MOA)
    table[schema.PLATE], table[schema.WELL] = plates[plate[first]], wells[well[first]]
    of_wells = []
    for column in schema.own_columns(cells):
        codes = pd.factorize(cells[column], use_na_sentinel=False)[0]
        if (codes[rows] == codes[first][own]).all():
            table[column] = cells[column].iloc[first].to_numpy()
            of_wells.append(column)
    return table[[*(c for c in WELL_METADATA if c != schema.N_CELLS), *of_wells]], well_of


def treatments(wells: pd.DataFrame) -> pd.DataFrame:
    """One row per treatment: the median of its wells, feature by feature.

    Controls become a row like any other. A treatment on wells of several batches carries them all, joined by ``|``.

    Parameters
    ----------
    wells : DataFrame
        Well profiles, whitened or not; ``Metadata_CellCount`` may be absent, as in published tables.

    Returns
    -------
    DataFrame
        Sorted by treatment: `TREATMENT_METADATA`, the user's own columns (several values joined by ``|``), then the
        features.

    Raises
    ------
    ProfileError
        The wells of one treatment disagree about its mechanism.
    """
    schema.require_columns(wells, [schema.BATCH, schema.COMPOUND, schema.CONCENTRATION, schema.TREATMENT], "the wells")
    features = schema.feature_columns(wells)
    described = wells[[schema.COMPOUND, schema.TREATMENT, schema.MOA]].copy()
    described[schema.MOA] = described[schema.MOA].fillna(schema.UNKNOWN_MOA)
    distinct = described.drop_duplicates()
    twice = distinct.loc[distinct[schema.TREATMENT].duplicated(), schema.TREATMENT]
    if len(twice):
        seen = sorted(distinct.loc[distinct[schema.TREATMENT] == twice.iloc[0], schema.MOA].astype(str))
        raise ProfileError(
            f"the wells of {twice.iloc[0]} disagree about compound or mechanism ({', '.join(seen)}); "
            "a treatment has one of each"
        )
    grouped = wells.groupby(schema.TREATMENT, sort=True)
    table = distinct.set_index(schema.TREATMENT)
    table[schema.CONCENTRATION] = grouped[schema.CONCENTRATION].min()  # the name has six digits; tables may have more
    theirs = schema.own_columns(wells)
    for column in (schema.BATCH, *theirs):
        table[column] = grouped[column].agg(lambda s: BATCH_SEPARATOR.join(sorted({str(b) for b in s.dropna()})))
    table[schema.N_CELLS] = grouped[schema.N_CELLS].sum() if schema.N_CELLS in wells else 0
    table[schema.N_WELLS] = grouped.size()
    table = table.reset_index().sort_values(schema.TREATMENT, ignore_index=True)[[*TREATMENT_METADATA, *theirs]]
    values = wells[features].to_numpy()
    names = wells[schema.TREATMENT].to_numpy()
    order = np.argsort(names, kind="stable")
    splits = np.flatnonzero(names[order][1:] != names[order][:-1]) + 1
    medians = np.stack([np.median(values[rows], axis=0) for rows in np.split(order, splits)])
    return pd.concat([table, pd.DataFrame(medians, columns=features)], axis=1)


def standardise(wells: pd.DataFrame, control: str) -> tuple[pd.DataFrame, list[str]]:
    """Wells in standard deviations of their plate's control wells: how published per-well profiles are read.

    Features that hold a non-finite value anywhere, or have no spread among the controls of any one plate, are dropped;
    the others are centred and scaled, plate by plate, by mean and s.d. of the plate's control wells.

    Parameters
    ----------
    wells : DataFrame
        Well profiles of any kind.
    control : str
        Compound name of the control wells.

    Returns
    -------
    tuple of (DataFrame, list of str)
        The standardised wells, and the features that were dropped.

    Raises
    ------
    ProfileError
        A plate has no control wells, or no feature is left.
    """
    features = schema.feature_columns(wells)
    values = wells[features].to_numpy(dtype=np.float64)
    keep = np.isfinite(values).all(axis=0)
    plates = wells[schema.PLATE].astype(str).to_numpy()
    is_control = (wells[schema.COMPOUND] == control).to_numpy()
    groups = [(plate, plates == plate) for plate in np.unique(plates)]
    for plate, here in groups:
        controls = values[here & is_control]
        if len(controls) < 2:
            raise ProfileError(
                f"plate {plate} has {len(controls)} control wells ({control}); standardising a plate needs at least two"
            )
        # Equal extremes, not a zero s.d.: the s.d. of equal numbers need not be exactly zero.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # inf - inf, in features that are dropped anyway
            keep &= np.ptp(controls, axis=0) > 0
    if not keep.any():
        raise ProfileError(
            f"none of {len(features)} features is finite and has spread among the controls of every plate"
        )
    out = np.empty((len(wells), int(keep.sum())))
    for _, here in groups:
        controls = values[np.ix_(here & is_control, keep)]
        out[here] = (values[np.ix_(here, keep)] - controls.mean(axis=0)) / controls.std(axis=0)
    kept = [name for name, good in zip(features, keep, strict=True) if good]
    dropped = [name for name, good in zip(features, keep, strict=True) if not good]
    metadata = wells[[c for c in wells.columns if str(c).startswith("Metadata_")]].reset_index(drop=True)
    return pd.concat([metadata, pd.DataFrame(out, columns=kept)], axis=1), dropped


def distance_to_controls(values: npt.NDArray[np.floating], control: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Euclidean distance of each profile to the mean of the control profiles among them.

    Parameters
    ----------
    values : (n, d) float
        Profiles, such as those of one plate's wells.
    control : (n,) bool

    Returns
    -------
    (n,) float64

    Raises
    ------
    ProfileError
        None of them is a control.
    """
    if not control.any():
        raise ProfileError("there is no control profile among these to measure a distance from")
    values = np.asarray(values, np.float64)
    distance: npt.NDArray[np.float64] = np.linalg.norm(values - values[control].mean(axis=0), axis=1)
    return distance


def summary_of(text: str) -> Summary:
    """The summary of that name.

    Raises
    ------
    ProfileError
        There is none.
    """
    try:
        return Summary(text)
    except ValueError:
        raise ProfileError(f"a summary is one of {', '.join(Summary)}, not {text!r}") from None


def together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The wells of several screens as one table.

    Raises
    ------
    ProfileError
        The tables differ in their features, or two of them hold the same well of the same plate.
    """
    first = schema.feature_columns(tables[0])
    for table in tables[1:]:
        if schema.feature_columns(table) != first:
            raise ProfileError(
                f"profiles of {len(first)} and of {len(schema.feature_columns(table))} features cannot stand in one "
                "table; they must come from the same model and summary"
            )
    wells = pd.concat(tables, ignore_index=True)
    twice = wells[wells.duplicated([schema.PLATE, schema.WELL])]
    if len(twice):
        row = twice.iloc[0]
        raise ProfileError(
            f"{len(twice)} wells are in more than one of the screens, the first {row[schema.PLATE]} "
            f"{row[schema.WELL]}; give each plate once, or plates of different screens different names"
        )
    return wells
