"""Is a treatment active at all: does it look unlike the untreated cells of its own plates, and like itself?

A treatment is described by its wells, or by its cells where its wells are too few to tell. Each of these units is asked
for the others of its treatment among the controls of the same plates: the mean of the average precisions is the
treatment's mAP. What that is worth is found by dealing out the labels anew among the units of each plate, so that
plates, unequal numbers and the likeness of everything on one plate are in the null as they are in the data. The null
is exact where the units of a plate are exchangeable. Cells are not where wells differ: a test by cells takes what sets
a well apart for the treatment's effect (`docs/evidence.md` says how often). ``cytovae audit`` tries that with control
wells that pose as treatments, where there are enough of them.

``profiles/<model>/activity.parquet``: one row per treatment
------------------------------------------------------------
``Metadata_Treatment``, ``Metadata_Compound``, ``Metadata_Concentration``, ``Metadata_MoA``, ``unit`` (wells | cells),
``n_units``, ``n_controls`` (units on its plates), ``n_wells``, ``n_control_wells`` (the wells that these are, or are
of), ``n_plates``, ``map``, ``p``, ``p_corrected`` (Benjamini-Hochberg
over treatments), ``active`` (p_corrected <= 0.05), ``p_compound`` (of its compound being active at any of its doses,
see `compound_p`), ``similarity`` (mean cosine between its units), ``replicating``
(similarity above the 95th percentile of relabelled units), ``grit`` (mean likeness of its units to each other, in s.d.
of their likeness to controls), ``reason`` (why there is no answer, else "").
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import ProfileError
from cytovae.profiling import profiles

N_NULL = 999
"""Relabellings; the smallest p-value is 1 / (N_NULL + 1)."""

LEAST_ARRANGEMENTS = 200
"""Ways to deal out the labels below which cells are asked.

With 49 (a well on each of two plates, beside six control wells each) none of 48 treatments of the phantom, which all do
something, had a corrected p of 0.05 by wells.
"""

MOST_TREATED = 60
MOST_CONTROLS = 60
"""Cells of a treatment, and control cells of a plate, that are looked at; more are drawn from at random."""

LEAST_POSING = 20
"""Control wells that pose as treatments, below which groups of `_GROUP` control cells do."""
_GROUP = 8
LEAST_POSING_CELLS = 4 * _GROUP
"""Control cells of a plate that it takes for these."""

FDR = 0.05
"""Below this corrected p-value a treatment is called active."""

_OF_TREATMENT = [schema.TREATMENT, schema.COMPOUND, schema.CONCENTRATION, schema.MOA]
CAUTION = "what sets a well apart counts as the treatment's"
"""What a p by cells does not see."""

_COUNTS = ("unit", "n_units", "n_controls", "n_wells", "n_control_wells", "n_plates")
_ANSWER = (*_COUNTS, "map", "p", "similarity", "replicating", "grit", "reason")


class Unit(enum.StrEnum):
    """What a treatment is described by."""

    wells = "wells"
    cells = "cells"


def test(
    values: npt.NDArray[np.floating[Any]],
    plates: npt.NDArray[Any],
    treated: npt.NDArray[np.bool_],
    rng: np.random.Generator,
    n_null: int = N_NULL,
) -> dict[str, Any]:
    """One treatment against the controls of its plates.

    Parameters
    ----------
    values : (n, d) float
        Profiles of its units and of the controls.
    plates : (n,)
        The plate of each.
    treated : (n,) bool
        Which belong to the treatment; at least two of them, and at least two controls.
    rng : Generator
        Of the relabellings.
    n_null : int

    Returns
    -------
    dict
        ``map``, ``p``, ``similarity``, ``replicating``, ``grit``; see the head of this module.
    """
    similar = _similarity(np.asarray(values, dtype=np.float64), plates)
    order = np.argsort(-similar, axis=1, kind="stable")[:, :-1]  # (n, n - 1): itself comes last
    labels = np.concatenate([treated[None, :], _relabelled(treated, plates, rng, n_null)])  # (1 + m, n)
    units = np.nonzero(labels)[1].reshape(len(labels), -1)  # (1 + m, t)
    precision = np.concatenate(
        [_precision(labels[rows], units[rows], order) for rows in _blocks(len(labels), units.shape[1] * len(treated))]
    )
    t = units.shape[1]
    pairs = similar[units[:, :, None], units[:, None, :]]  # (1 + m, t, t)
    pairs[:, np.arange(t), np.arange(t)] = 0
    likeness = pairs.sum(axis=(1, 2)) / (t * (t - 1))
    to_controls = similar[np.ix_(treated, ~treated)]
    to_own = pairs[0].sum(axis=1) / (t - 1)
    spread = to_controls.std(axis=1)
    return {
        "map": float(precision[0]),
        # Equal up to rounding is as good: a relabelling may be the true one.
        "p": float((1 + (precision[1:] >= precision[0] - 1e-12).sum()) / (1 + n_null)),
        "similarity": float(likeness[0]),
        "replicating": bool(likeness[0] > np.quantile(likeness[1:], 0.95)),
        "grit": float(np.mean((to_own - to_controls.mean(axis=1)) / np.where(spread > 0, spread, 1))),
    }


def _similarity(values: npt.NDArray[np.float64], plates: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(n, n) cosine of units about the centre of their plate, in s.d.; -inf to itself. Labels play no part in it."""
    out = values.copy()
    for plate in np.unique(plates):
        out[plates == plate] -= values[plates == plate].mean(axis=0)
    spread = out.std(axis=0)
    out /= np.where(spread > 0, spread, 1)
    norm = np.linalg.norm(out, axis=1, keepdims=True)
    out /= np.where(norm > 0, norm, 1)
    similar: npt.NDArray[np.float64] = out @ out.T
    np.fill_diagonal(similar, -np.inf)
    return similar


def _relabelled(
    treated: npt.NDArray[np.bool_], plates: npt.NDArray[Any], rng: np.random.Generator, count: int
) -> npt.NDArray[np.bool_]:
    """(count, n): as many units of every plate are treated, drawn at random."""
    out = np.zeros((count, len(treated)), dtype=bool)
    for plate in np.unique(plates):
        here = np.flatnonzero(plates == plate)
        chosen = np.argsort(rng.random((count, len(here))), axis=1)[:, : int(treated[here].sum())]
        np.put_along_axis(out, here[chosen], True, axis=1)
    return out


def _precision(
    labels: npt.NDArray[np.bool_], units: npt.NDArray[np.intp], order: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """(m,) mean average precision of the units of each of m labellings."""
    hit = labels[np.arange(len(labels))[:, None, None], order[units]]  # (m, t, n - 1)
    places = np.arange(1, order.shape[1] + 1)
    each = (np.cumsum(hit, axis=2) * hit / places).sum(axis=2) / (units.shape[1] - 1)
    return np.asarray(each.mean(axis=1))


def _blocks(count: int, size: int) -> Iterator[slice]:
    step = max(1, 4_000_000 // max(size, 1))
    return (slice(start, start + step) for start in range(0, count, step))


def measure(
    cells: pd.DataFrame,
    embeddings: npt.NDArray[np.floating[Any]],
    control: str = "DMSO",
    seed: int = 0,
    *,
    n_null: int = N_NULL,
    progress: schema.Progress | None = None,
) -> pd.DataFrame:
    """The activity of every treatment of a screen.

    Parameters
    ----------
    cells : DataFrame
        One row per embedding, in its order; blank ones are left out.
    embeddings : (n, d) float
    control : str
        Compound name of the controls.
    seed : int
        Of relabellings and draws; every treatment has its own stream, so that leaving one out changes no other.
    n_null : int
    progress : callable, optional
        Called with (done, total) treatments.

    Returns
    -------
    DataFrame
        The columns at the head of this module, sorted by treatment.

    Raises
    ------
    ProfileError
        The screen has no controls.
    """
    from scipy.stats import false_discovery_control

    tables = _Units(cells, embeddings, control)
    names = sorted(tables.treatments)
    lines = []
    for done, name in enumerate(names, start=1):
        lines.append({schema.TREATMENT: name, **tables.answer(name, seed, n_null)})
        if progress is not None:
            progress(done, len(names))
    found = pd.DataFrame(lines, columns=[schema.TREATMENT, *_ANSWER])
    said = cells[_OF_TREATMENT].drop_duplicates(schema.TREATMENT)
    table = said.merge(found, on=schema.TREATMENT).sort_values(schema.TREATMENT, ignore_index=True)
    known = table["p"].notna()
    table["p_corrected"] = np.nan
    if known.any():
        table.loc[known, "p_corrected"] = false_discovery_control(table.loc[known, "p"].astype(float))
    table["active"] = table["p_corrected"] <= FDR
    table["p_compound"] = table.groupby(schema.COMPOUND)["p"].transform(compound_p)
    order = [*_COUNTS, "map", "p", "p_corrected", "active", "p_compound"]
    return table[[*_OF_TREATMENT, *order, "similarity", "replicating", "grit", "reason"]]


def compound_p(p: pd.Series) -> float:
    """The p of a compound being active at any of its doses: the smallest p of its treatments times how many there are.

    Its doses share plates and controls, so their p-values depend on each other; Bonferroni's bound holds all the same.
    Not-a-number where none of them was tested.

    Examples
    --------
    >>> compound_p(pd.Series([0.5, 0.01, np.nan]))
    0.02
    """
    known = p.dropna()
    return min(float(known.min()) * len(known), 1.0) if len(known) else float("nan")


def posing(
    cells: pd.DataFrame,
    embeddings: npt.NDArray[np.floating[Any]],
    control: str = "DMSO",
    seed: int = 0,
    *,
    n_null: int = 99,
    most: int = 300,
) -> tuple[npt.NDArray[np.float64], str]:
    """P-values of controls that pose as treatments among the other controls of their plate: 5 % should be 0.05 or less.

    Control wells of two cells or more pose where there are at least `LEAST_POSING` on plates with others; their cells
    are asked, as of a treatment with few wells, so cells that are more alike within a well than on the plate show here.
    Where there are too few, groups of control cells drawn from a plate pose, whatever their wells: this shows only that
    the test is calibrated where wells do not differ.

    Parameters
    ----------
    cells, embeddings, control, seed, n_null
        As of `measure`.
    most : int
        How many pose at most.

    Returns
    -------
    tuple of ((k,) float64, str)
        The p-values, none where no plate has controls enough; and what posed: ``wells`` or ``groups of cells``.
    """
    tables = _Units(cells, embeddings, control)
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(tables.is_control)
    on = {plate: rows[tables.plates[rows] == plate] for plate in np.unique(tables.plates[rows])}
    wells = tables.cells[schema.WELL].astype(str).to_numpy()
    pairs = [
        (here[wells[here] == well], here[wells[here] != well]) for here in on.values() for well in set(wells[here])
    ]
    pairs = [(own, others) for own, others in pairs if len(own) > 1 and len(others) > 1]
    what = "wells"
    if len(pairs) < LEAST_POSING:
        what = "groups of cells"
        full = [here for here in on.values() if len(here) >= LEAST_POSING_CELLS]
        drawn = [rng.permutation(full[k]) for k in rng.integers(len(full), size=most)] if full else []
        pairs = [(cells_[:_GROUP], cells_[_GROUP:]) for cells_ in drawn]
    if len(pairs) > most:
        pairs = [pairs[k] for k in np.sort(rng.choice(len(pairs), most, replace=False))]
    found = []
    for own, others in pairs:
        own, others = _some(own, MOST_TREATED, rng), _some(others, MOST_CONTROLS, rng)
        both = np.concatenate([own, others])
        treated = np.arange(len(both)) < len(own)
        found.append(test(tables.embeddings[both], tables.plates[both], treated, rng, n_null)["p"])
    return np.array(found), what


class _Units:
    """The usable cells of a screen and its wells, from which the units of a treatment and its controls are taken."""

    def __init__(self, cells: pd.DataFrame, embeddings: npt.NDArray[np.floating[Any]], control: str) -> None:
        keep = np.flatnonzero(schema.not_blank(cells))
        self.cells = cells.iloc[keep].reset_index(drop=True)
        self.embeddings = np.asarray(embeddings[keep], dtype=np.float64)
        self.is_control = (self.cells[schema.COMPOUND] == control).to_numpy()
        if not self.is_control.any():
            raise ProfileError(f"the screen has no usable {control} cells, so nothing can be compared with controls")
        self.plates = self.cells[schema.PLATE].astype(str).to_numpy()
        self.names = self.cells[schema.TREATMENT].astype(str).to_numpy()
        self.treatments = set(self.names[~self.is_control])
        wells = profiles.wells(self.cells, self.embeddings)
        self.well_values = wells[schema.feature_columns(wells)].to_numpy(dtype=np.float64)
        self.well_plates = wells[schema.PLATE].astype(str).to_numpy()
        self.well_names = wells[schema.TREATMENT].astype(str).to_numpy()
        self.well_control = (wells[schema.COMPOUND] == control).to_numpy()
        self.well_of = self.cells.groupby([schema.PLATE, schema.WELL], dropna=False, observed=True).ngroup().to_numpy()

    def answer(self, name: str, seed: int, n_null: int) -> dict[str, Any]:
        """The columns of `_ANSWER`."""
        rng = np.random.default_rng([seed, *name.encode()])
        own = np.flatnonzero(self.well_names == name)
        controls = np.flatnonzero(self.well_control & np.isin(self.well_plates, self.well_plates[own]))
        unit, values, plates = Unit.wells, self.well_values, self.well_plates
        if len(own) < 2 or _arrangements(plates[own], plates[controls]) < LEAST_ARRANGEMENTS:
            unit, values, plates = Unit.cells, self.embeddings, self.plates
            own = _some(np.flatnonzero(self.names == name), MOST_TREATED, rng)
            on = np.flatnonzero(self.is_control & np.isin(self.plates, self.plates[own]))
            controls = np.concatenate(
                [_some(on[plates[on] == plate], MOST_CONTROLS, rng) for plate in np.unique(plates[own])]
            )
        head = {"unit": str(unit), "n_units": len(own), "n_controls": len(controls)}
        for column, rows in (("n_wells", own), ("n_control_wells", controls)):
            head[column] = len(np.unique(self.well_of[rows])) if unit is Unit.cells else len(rows)
        head["n_plates"] = len(np.unique(plates[own]))
        reason = ""
        if len(own) < 2:
            reason = "it has a single cell"
        elif _arrangements(plates[own], plates[controls]) < LEAST_ARRANGEMENTS:
            reason = "its plates hold too few control cells"
        if reason:
            none = {"map": np.nan, "p": np.nan, "similarity": np.nan, "replicating": False, "grit": np.nan}
            return {**head, **none, "reason": reason}
        both = np.concatenate([own, controls])
        found = test(values[both], plates[both], np.arange(len(both)) < len(own), rng, n_null)
        return {**head, **found, "reason": ""}


def _some(rows: npt.NDArray[np.intp], most: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _arrangements(own: npt.NDArray[Any], controls: npt.NDArray[Any]) -> int:
    """In how many ways the labels can be dealt out within the plates."""
    ways = 1
    for plate in np.unique(own):
        k = int((own == plate).sum())
        ways *= comb(k + int((controls == plate).sum()), k)
    return ways


def counted(row: Mapping[Any, Any]) -> str:
    """What the p of a treatment rests on, in words; with a caution where it counts cells.

    Examples
    --------
    >>> counted({"unit": "wells", "n_units": 3, "n_wells": 3, "n_control_wells": 18})
    '3 wells against 18 control wells'
    >>> counted({"unit": "cells", "n_units": 60, "n_wells": 1, "n_control_wells": 2})
    "60 cells of 1 well against cells of 2 control wells: what sets a well apart counts as the treatment's"
    """
    both = (row["n_wells"], "well"), (row["n_control_wells"], "control well")
    wells, controls = (f"{n} {said}{'' if n == 1 else 's'}" for n, said in both)
    if row["unit"] == Unit.wells:
        return f"{wells} against {controls}"
    return f"{row['n_units']} cells of {wells} against cells of {controls}: {CAUTION}"


def described(table: pd.DataFrame) -> dict[str, Any]:
    """A table of activity in a few numbers: how many are active and replicate, of how many.

    Returns
    -------
    dict
        ``n_treatments``, ``n_tested``, ``n_active``, ``percent_replicating`` (of the tested; 5 % where nothing is
        there), ``by_wells``, ``by_cells``.
    """
    tested = table[table["p"].notna()]
    return {
        "n_treatments": len(table),
        "n_tested": len(tested),
        "n_active": int(tested["active"].sum()),
        "percent_replicating": float(100 * tested["replicating"].mean()) if len(tested) else None,
        "by_wells": int((tested["unit"] == Unit.wells).sum()),
        "by_cells": int((tested["unit"] == Unit.cells).sum()),
    }


COLUMNS = {
    "map": "Metadata_ActivityMAP",
    "p": "Metadata_ActivityP",
    "p_corrected": "Metadata_ActivityFDR",
    "grit": "Metadata_Grit",
    "active": "Metadata_Active",
}
"""What of it stands in treatment profiles, and how it is called there."""


def beside(treatments: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Treatment profiles with their activity; controls have none."""
    plain = treatments.drop(columns=[c for c in COLUMNS.values() if c in treatments])
    joined = plain[[schema.TREATMENT]].merge(
        table[[schema.TREATMENT, *COLUMNS]].rename(columns=COLUMNS), on=schema.TREATMENT, how="left"
    )
    joined["Metadata_Active"] = joined["Metadata_Active"].eq(True)
    features = schema.feature_columns(plain)
    metadata = [c for c in plain.columns if c not in set(features)]
    return pd.concat([plain[metadata], joined[list(COLUMNS.values())], plain[features]], axis=1)
