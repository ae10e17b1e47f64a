"""Which cell stands for a control, a treatment, a subpopulation or a selection.

Every function takes the table of embedded cells (``schema.CELL_COLUMNS``) and the embeddings in the same order, and
answers in row numbers of that order: row i of the table is row i of the embeddings. Cells flagged ``Metadata_Blank``
are never chosen, nor counted, unless one is named by its id.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import SelectionError, did_you_mean

Rows = npt.NDArray[np.int64]
Embeddings = npt.NDArray[np.float32]


class Target(enum.StrEnum):
    """Which cell stands for a treatment, where it is not a subpopulation's or named by its id."""

    MEAN = "mean"
    RESPONDING = "responding"
    RANDOM = "random"

    @property
    def words(self) -> str:
        """For menus and help texts."""
        return {
            "mean": "most central cell of the treatment",
            "responding": "most central of the cells that respond",
            "random": "drawn at random",
        }[self.value]


class Start(enum.StrEnum):
    """Which control cell a path starts from, where it is not named by its id."""

    AUTO = "auto"
    RANDOM = "random"

    @property
    def words(self) -> str:
        """For menus and help texts."""
        return {"auto": "most central control cell", "random": "control cell drawn at random"}[self.value]


class Relation(enum.StrEnum):
    """Where two cells are from, seen from each other."""

    PLATE = "same plate"
    BATCH = "same batch, another plate"
    NONE = "another batch"


SUBPOPULATION = "subpopulation:"
"""What the word for a subpopulation's exemplar begins with; its number follows."""
MAX_GROUPS = 4
"""No more subpopulations than this are looked for."""
FALSE_SPLITS = 0.05
"""Cells of one group are shown as several in no more than this share of cases."""
MIN_GROUP_CELLS = 3
"""A subpopulation has at least this many cells."""
CLUSTERED_CELLS = 2000
"""More cells than this and the groups are found on a random sample of so many, then every cell is assigned."""
MEDOID_CANDIDATES = 2000
MOST_CELLS = 2000
"""Of more cells than this so many, drawn at random and the same each time, stand for them; it is said."""
MIN_NEAR = 5
"""A plate or batch with fewer controls is passed over."""
MIN_GROUPS = 19
"""Groups of control wells that stand for a treatment, at least, for a p of 0.05 to be possible: 1 / (19 + 1)."""
MAX_NULL_POOL = 400
"""Control cells that the start of a null path is chosen of, at most."""


@dataclass(frozen=True)
class Choice:
    """A cell that was chosen, and how.

    Parameters
    ----------
    row : int
        In the order of the embeddings.
    cell_id : str
    how : str
        In words, for captions and provenance.
    n_cells : int
        Of how many it was chosen.
    """

    row: int
    cell_id: str
    how: str
    n_cells: int


@dataclass(frozen=True)
class Subpopulation:
    """One group of a treatment's cells.

    Parameters
    ----------
    number : int
        From 1, the largest group first.
    rows : (n,) int64
        Its cells.
    share : float
        Of the treatment's cells, 0 to 1.
    exemplar : Choice
        Its cell closest to its mean.
    """

    number: int
    rows: Rows
    share: float
    exemplar: Choice


@dataclass(frozen=True)
class Subpopulations:
    """A treatment's cells in groups.

    Parameters
    ----------
    groups : tuple of Subpopulation
        Largest first; one alone where the cells do not fall apart.
    p : float
        How often cells of one group would show such valleys; the groups are shown if it is at most `FALSE_SPLITS`.
    n_clustered : int
        Cells that the groups were found on; the others were assigned to the nearest group mean.
    """

    groups: tuple[Subpopulation, ...]
    p: float
    n_clustered: int

    def group(self, number: str) -> Subpopulation:
        """The one of a number.

        Raises
        ------
        SelectionError
            There is none; the numbers there are stand in the message.
        """
        for group in self.groups:
            if str(group.number) == number:
                return group
        shares = ", ".join(f"{g.number} ({g.share:.0%})" for g in self.groups)
        raise SelectionError(f"there is no subpopulation {number!r}; there is {shares}")


@dataclass(frozen=True)
class Dose:
    """One concentration of a compound.

    Parameters
    ----------
    treatment : str
    concentration : float
        In uM.
    rows : (n,) int64
    """

    treatment: str
    concentration: float
    rows: Rows


def row_of(cells: pd.DataFrame, cell_id: str) -> int:
    """The row of a cell.

    Raises
    ------
    SelectionError
        There is no such cell among the embedded ones; near ids are suggested.
    """
    rows = np.flatnonzero((cells[schema.CELL_ID] == cell_id).to_numpy())
    if not len(rows):
        known = cells[schema.CELL_ID].astype(str)
        # difflib over a hundred thousand ids takes seconds: only ids that begin alike are looked at
        alike = known[known.str.lower().str.startswith(cell_id[:3].lower())].head(2000)
        raise SelectionError(
            f"there is no cell {cell_id!r} among the {len(cells)} embedded cells{did_you_mean(cell_id, alike)}"
        )
    return int(rows[0])


def rows_of(cells: pd.DataFrame, treatment: str, at_least: int = 1) -> Rows:
    """The rows of a treatment's cells.

    Parameters
    ----------
    treatment : str
        ``compound@concentration`` (uM).
    at_least : int
        How many cells are needed.

    Raises
    ------
    SelectionError
        The text is no treatment, there is no such treatment (near names and other doses are suggested), or it has too
        few cells.
    """
    mine, name = (cells[schema.TREATMENT] == treatment).to_numpy(), treatment
    if not mine.any():  # written otherwise than the screen writes it, such as 'taxol@0.30'
        compound, concentration = schema.parse_treatment(treatment)
        name = schema.treatment_name(compound, concentration)
        mine = (cells[schema.TREATMENT] == name).to_numpy()
    rows = np.flatnonzero(mine & schema.not_blank(cells)).astype(np.int64)
    if mine.any() and not len(rows):
        raise SelectionError(f"all {mine.sum()} cells of {name!r} are blank; choose another treatment")
    if not len(rows):
        doses = sorted(cells.loc[cells[schema.COMPOUND] == compound, schema.CONCENTRATION].dropna().unique())
        if doses:
            there = ", ".join(schema.treatment_name(compound, d) for d in doses)
            raise SelectionError(f"no cell was treated with {name!r}; of this compound there is {there}")
        raise SelectionError(
            f"no cell was treated with {name!r}{did_you_mean(name, cells[schema.TREATMENT].dropna().unique())}"
        )
    if len(rows) < at_least:
        raise SelectionError(
            f"treatment {name!r} has {len(rows)} cell{'s' * (len(rows) != 1)} ({cells[schema.CELL_ID].iloc[rows[0]]}), "
            f"this needs at least {at_least}; name the cell itself as the target instead"
        )
    return rows


def controls(cells: pd.DataFrame, control: str, plate: str | None = None, batch: str | None = None) -> Rows:
    """The rows of control cells, of one plate or batch where asked.

    Raises
    ------
    SelectionError
        The screen has no control cells there.
    """
    here = (cells[schema.COMPOUND] == control).to_numpy() & schema.not_blank(cells)
    where = "the screen"
    if plate is not None:
        here, where = here & (cells[schema.PLATE] == plate).to_numpy(), f"plate {plate!r}"
    if batch is not None:
        here, where = here & (cells[schema.BATCH] == batch).to_numpy(), f"batch {batch!r}"
    rows = np.flatnonzero(here).astype(np.int64)
    if not len(rows):
        raise SelectionError(f"{where} has no cells of the control {control!r}; name a control cell by its id")
    return rows


def controls_near(cells: pd.DataFrame, control: str, row: int, at_least: int = MIN_NEAR) -> tuple[Rows, str]:
    """The control cells to compare a cell with: of its plate, else of its batch, else of the screen.

    Parameters
    ----------
    row : int
        The cell.
    at_least : int
        A plate or batch with fewer controls is passed over.

    Returns
    -------
    tuple of ((n,) int64, str)
        Rows, and where they are from in words.
    """
    everyone = controls(cells, control)
    others = everyone[everyone != row]
    for column, word in ((schema.PLATE, "plate"), (schema.BATCH, "batch")):
        value = cells[column].iloc[row]
        rows = others[(cells[column].iloc[others] == value).to_numpy()]
        if len(rows) >= at_least:
            return rows, f"of {word} {value}"
    return everyone, "of the screen"


def wells(cells: pd.DataFrame, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Numbers that tell the wells of rows apart, (n,)."""
    mine = cells.iloc[np.asarray(rows, dtype=np.int64)]
    return np.asarray(
        mine.groupby([schema.PLATE, schema.WELL], sort=False, dropna=False).ngroup().to_numpy(), dtype=np.int64
    )


def units(cells: pd.DataFrame, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """What an interval over rows counts as one: a well where there are two or more of them, else a cell; (n,)."""
    of_well = wells(cells, rows)
    return of_well if len(np.unique(of_well)) > 1 else np.asarray(rows, dtype=np.int64)


def relation(cells: pd.DataFrame, a: int, b: int) -> Relation:
    """Whether two cells, given by their rows, share a plate or at least a batch."""
    for column, found in ((schema.PLATE, Relation.PLATE), (schema.BATCH, Relation.BATCH)):
        if cells[column].iloc[a] == cells[column].iloc[b]:
            return found
    return Relation.NONE


def closest_to_mean(embeddings: Embeddings, rows: npt.ArrayLike) -> int:
    """The row closest (Euclidean) to the mean of the given rows: the paper's choice of target.

    Raises
    ------
    SelectionError
        No rows are given.
    """
    rows = np.asarray(rows, dtype=np.int64)
    if not len(rows):
        raise SelectionError("no cells are selected; select at least one")
    away = np.asarray(embeddings[rows], dtype=np.float64)
    away -= away.mean(axis=0)
    return int(rows[np.argmin(np.einsum("ij,ij->i", away, away))])


def medoid(embeddings: Embeddings, rows: npt.ArrayLike) -> int:
    """The row with the smallest summed Euclidean distance to the other given rows, for a lassoed set.

    Of more than `MEDOID_CANDIDATES` rows only so many, those nearest to the mean, are candidates; their
    distances to all rows count.

    Raises
    ------
    SelectionError
        No rows are given.
    """
    rows = np.asarray(rows, dtype=np.int64)
    if not len(rows):
        raise SelectionError("no cells are selected; select at least one")
    z = np.asarray(embeddings[rows], dtype=np.float32)
    z = z - z.mean(axis=0)
    squared = np.einsum("nd,nd->n", z, z)
    candidates = np.sort(np.argsort(squared, kind="stable")[:MEDOID_CANDIDATES])
    summed = np.zeros(len(candidates))
    for start in range(0, len(z), 4096):
        block = slice(start, start + 4096)
        d2 = squared[candidates, None] + squared[None, block] - 2.0 * z[candidates] @ z[block].T
        summed += np.sqrt(np.maximum(d2, 0.0)).sum(axis=1)
    return int(rows[candidates[np.argmin(summed)]])


def typical(cells: pd.DataFrame, embeddings: Embeddings, rows: npt.ArrayLike, what: str) -> Choice:
    """The cell closest to the mean of the given rows, which `what` names in words; of many rows, see `standing_for`.

    Raises
    ------
    SelectionError
        No rows are given.
    """
    rows = np.asarray(rows, dtype=np.int64)
    some = standing_for(rows)
    if len(some) < len(rows):
        what = f"{len(some):,} cells drawn at random of the {len(rows):,} of {what}"
    return _choice(cells, closest_to_mean(embeddings, some), f"closest to the mean of {what}", len(some))


def standing_for(rows: Rows) -> Rows:
    """At most `MOST_CELLS` of the rows: themselves, or so many drawn at random, the same each time, sorted."""
    return _at_most(MOST_CELLS, rows, np.random.default_rng(0))


def treated(cells: pd.DataFrame, embeddings: Embeddings, treatment: str) -> Choice:
    """The cell that stands for a treatment: the real one closest to the mean of its cells.

    Raises
    ------
    SelectionError
        Unknown treatment.
    """
    rows = rows_of(cells, treatment)
    if len(rows) == 1:
        return _choice(cells, int(rows[0]), f"the only cell of {schema.words(treatment)}", 1)
    return typical(cells, embeddings, rows, schema.words(treatment))


def typical_control(cells: pd.DataFrame, embeddings: Embeddings, control: str, like: int | None = None) -> Choice:
    """The control cell closest to the mean of its peers.

    Parameters
    ----------
    control : str
        Compound name of the control (``ScreenRecord.control``).
    like : int, optional
        A row: only controls of its plate (else of its batch, see `controls_near`) are taken. Without it, all.
    """
    rows, where = (controls(cells, control), "of the screen") if like is None else controls_near(cells, control, like)
    return typical(cells, embeddings, rows, f"the {control} cells {where}")


def random_control(cells: pd.DataFrame, control: str, rng: np.random.Generator, like: int | None = None) -> Choice:
    """A control cell drawn at random, from the plate (else batch) of row `like` where given."""
    rows, where = (controls(cells, control), "of the screen") if like is None else controls_near(cells, control, like)
    return _choice(cells, int(rng.choice(rows)), f"drawn at random from the {control} cells {where}", len(rows))


def chosen(cells: pd.DataFrame, embeddings: Embeddings, treatment: str, how: str, rng: np.random.Generator) -> Choice:
    """The target that a word names.

    Parameters
    ----------
    treatment : str
    how : str
        ``mean``, ``subpopulation:K`` with K from 1, ``random``, or the id of one of the treatment's cells.
    rng : numpy Generator
        For ``subpopulation`` and ``random``.

    Raises
    ------
    SelectionError
        No such cell, treatment or subpopulation; or the cell had another treatment.
    """
    if how == Target.MEAN:
        return treated(cells, embeddings, treatment)
    if how == Target.RANDOM:
        rows = rows_of(cells, treatment)
        return _choice(cells, int(rng.choice(rows)), f"drawn at random from {schema.words(treatment)}", len(rows))
    if how.startswith(SUBPOPULATION):
        return subpopulations(cells, embeddings, treatment, rng).group(how.removeprefix(SUBPOPULATION)).exemplar
    choice = by_hand(cells, how)
    rows = rows_of(cells, treatment)
    if choice.row not in rows:
        raise SelectionError(
            f"cell {how!r} was treated with {cells[schema.TREATMENT].iloc[choice.row]!r}, not {treatment!r}; "
            "name a cell of the treatment"
        )
    return choice


def by_hand(cells: pd.DataFrame, cell_id: str) -> Choice:
    """A cell named by its id.

    Raises
    ------
    SelectionError
        There is no such cell.
    """
    return _choice(cells, row_of(cells, cell_id), "chosen by hand", 1)


def of_selection(cells: pd.DataFrame, embeddings: Embeddings, rows: npt.ArrayLike) -> Choice:
    """The medoid of a lassoed set."""
    rows = np.asarray(rows, dtype=np.int64)
    return _choice(cells, medoid(embeddings, rows), f"the medoid of {len(rows)} selected cells", len(rows))


def subpopulations(
    cells: pd.DataFrame, embeddings: Embeddings, treatment: str, rng: np.random.Generator
) -> Subpopulations:
    """The groups that a treatment's cells fall into, each with an exemplar and its share.

    The cells are halved at random. On one half, k-means (2 to `MAX_GROUPS` groups, the number with the best mean
    silhouette) proposes groups; on the other half, which the proposal has not seen, every two of them must be told
    apart by a valley: along the line through their means, fewer cells in the middle than at either of them
    (`valley_p`). The two halves change roles, and the smaller p counts, doubled. Only if that is at most
    `FALSE_SPLITS` are all cells grouped. Cells of any distribution with one peak along such a line, heavy-tailed or
    skewed, are split in no more than that share of cases; so are few cells, which cannot show a valley.

    Raises
    ------
    SelectionError
        Unknown treatment.
    """
    rows = rows_of(cells, treatment)
    z = np.asarray(embeddings[rows], dtype=np.float64)
    labels, p, n_clustered = grouping(z, rng)
    order = sorted(np.unique(labels), key=lambda g: -int((labels == g).sum()))
    groups = []
    for number, label in enumerate(order, start=1):
        mine = rows[labels == label]
        exemplar = typical(
            cells, embeddings, mine, f"subpopulation {number} of {len(order)} of {schema.words(treatment)}"
        )
        groups.append(Subpopulation(number, mine, len(mine) / len(rows), exemplar))
    return Subpopulations(tuple(groups), p, n_clustered)


def dose_series(cells: pd.DataFrame, compound: str) -> list[Dose]:
    """The concentrations of a compound, lowest first.

    Parameters
    ----------
    compound : str
        Where treatments are told apart by more than compound and dose, with that: ``taxol [A549, 24 h]``.

    Raises
    ------
    SelectionError
        There is no such compound (near names are suggested), it has no doses, or several series of them.
    """
    usable = schema.not_blank(cells) & cells[schema.CONCENTRATION].notna().to_numpy()
    name, more = compound, None
    if not (cells[schema.COMPOUND] == name).any() and compound.endswith("]"):
        name, _, more = compound.partition(" [")
    mine = cells[(cells[schema.COMPOUND] == name).to_numpy() & usable]
    if mine.empty:
        if (cells[schema.COMPOUND] == name).any():
            raise SelectionError(f"{name!r} has no cell of a known concentration that is not blank")
        raise SelectionError(
            f"no cell was treated with {compound!r}{did_you_mean(compound, cells[schema.COMPOUND].dropna().unique())}"
        )
    found = mine[[schema.CONCENTRATION, schema.TREATMENT]].drop_duplicates().sort_values(schema.CONCENTRATION)
    series: dict[str, list[tuple[float, str]]] = {}
    for c, treatment in found.itertuples(index=False, name=None):
        rest = str(treatment).removeprefix(schema.treatment_name(name, float(c)))
        series.setdefault(rest, []).append((float(c), str(treatment)))
    asked = "" if more is None else f" [{more}"
    if more is None and len(series) == 1:
        (asked,) = series
    if asked not in series or (more is None and len(series) > 1):
        there = ", ".join(repr(name + rest) for rest in sorted(series))
        raise SelectionError(f"{compound!r} names no one series of doses; name one of {there}")
    treatments = cells[schema.TREATMENT].to_numpy()
    return [
        Dose(treatment, c, np.flatnonzero(usable & (treatments == treatment)).astype(np.int64))
        for c, treatment in series[asked]
    ]


def series_of(cells: pd.DataFrame, treatment: str) -> str:
    """What `dose_series` calls the series that a treatment is of: its compound, and what else tells it apart.

    Raises
    ------
    SelectionError
        Unknown treatment.
    """
    row = cells.iloc[rows_of(cells, treatment)[0]]
    compound, c = str(row[schema.COMPOUND]), row[schema.CONCENTRATION]
    return compound + str(row[schema.TREATMENT]).removeprefix(schema.treatment_name(compound, float(c)))


def pairs(cells: pd.DataFrame, treatment: str, control: str, n: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Control cells paired with treated cells of the same plate (else batch), drawn at random.

    No treated cell is used again before all have been used.

    Parameters
    ----------
    n : int
        How many pairs.

    Returns
    -------
    tuple of two (n,) int64
        Rows of the controls, and of the treated cells.

    Raises
    ------
    SelectionError
        Unknown treatment, one of a single cell, or no controls.
    """
    rows = rows_of(cells, treatment, at_least=2)
    rounds = -(-n // len(rows))
    ends = np.concatenate([rng.permutation(rows) for _ in range(rounds)])[:n]
    return _partners(cells, control, ends, rng), ends


def null_pairs(
    cells: pd.DataFrame,
    control: str,
    n: int,
    rng: np.random.Generator,
    plate: str | None = None,
    embeddings: Embeddings | None = None,
) -> tuple[Rows, Rows]:
    """Pairs of control cells from different wells: what a path between them changes, means nothing.

    The two are of one plate where it has two control wells, else of one batch, else of the screen.

    Parameters
    ----------
    n : int
        How many pairs.
    plate : str, optional
        Start from controls of this plate where it has any.
    embeddings : (n, d) float32, optional
        With them each end is its well's typical control cell, the one closest to the mean of the well's: what a path
        between typical cells has to be compared with. Without them, any control cell.

    Returns
    -------
    tuple of two (n,) int64

    Raises
    ------
    SelectionError
        All control cells come from one well.
    """
    rows = controls(cells, control)
    mine = cells.iloc[rows]
    well = mine.groupby([schema.PLATE, schema.WELL], sort=False, dropna=False).ngroup().to_numpy()
    if len(np.unique(well)) < 2:
        raise SelectionError(
            f"all {len(rows)} cells of the control {control!r} come from one well; null paths need two control wells"
        )
    plates, batches = (pd.factorize(mine[c])[0] for c in (schema.PLATE, schema.BATCH))
    pool = np.flatnonzero((mine[schema.PLATE] == plate).to_numpy()) if plate is not None else np.arange(len(rows))
    starts = rng.choice(pool if len(pool) else np.arange(len(rows)), size=n)
    ends = np.empty(n, dtype=np.int64)
    for i, start in enumerate(starts):
        other = well != well[start]
        for near in (other & (plates == plates[start]), other & (batches == batches[start]), other):
            if near.any():
                ends[i] = rng.choice(np.flatnonzero(near))
                break
    if embeddings is None:
        return rows[starts], rows[ends]
    typical = np.array([closest_to_mean(embeddings, rows[well == number]) for number in range(well.max() + 1)])
    return typical[well[starts]], typical[well[ends]]


@dataclass(frozen=True)
class NullDraw:
    """A null path's ends, and the populations that they were chosen of.

    Parameters
    ----------
    start, end : int
        Rows.
    start_rows, end_rows : (n,) int64
        Control cells, of different wells.
    """

    start: int
    end: int
    start_rows: Rows
    end_rows: Rows


@dataclass(frozen=True)
class NullDraws:
    """Ends of null paths, and what a comparison with them rests on.

    Parameters
    ----------
    draws : tuple of NullDraw
    n_groups : int
        How many of them could be drawn without using a well twice: what counts as the number of observations.
    alike : bool
        Each stands for a treatment of as many wells and cells as the one in question, seen from as far. Where not, they
        are of fewer, or from farther, and so longer than they should be.
    """

    draws: tuple[NullDraw, ...]
    n_groups: int
    alike: bool


def judgeable(cells: pd.DataFrame, control: str) -> list[str]:
    """Treatments that control wells can stand for `MIN_GROUPS` times, as `null_draws` has it, by name.

    No other has a verdict on the cell that responds; one of a few wells is not among them where its controls are far.
    """
    usable = cells[schema.not_blank(cells)]
    untreated = usable[schema.COMPOUND] == control
    wells = [schema.PLATE, schema.WELL]
    size = usable[untreated].groupby(wells, dropna=False, observed=True).size().to_numpy()
    by_well = usable[~untreated].groupby([schema.TREATMENT, *wells], dropna=False, observed=True).size()
    by_treatment = by_well.groupby(level=0).agg(["sum", "size"])
    return [
        str(name)
        for name, n, k in by_treatment.itertuples(name=None)
        if np.count_nonzero(size >= -(-n // k)) // k >= MIN_GROUPS
    ]


def null_draws(
    cells: pd.DataFrame,
    embeddings: Embeddings,
    control: str,
    like: npt.ArrayLike,
    n: int,
    rng: np.random.Generator,
    *,
    apart: Relation = Relation.PLATE,
    typical_end: bool = True,
    typical_start: bool = True,
    choose: Callable[[Rows, Rows], int | None] | None = None,
) -> NullDraws:
    """Control wells taken for a treatment: ends of null paths chosen in the way that a request chose its own.

    For each, as many control wells as `like` has, with as many cells and, where it can be, of as many plates, stand for
    the treatment; every control well that holds so many cells is the first of them equally often. The end is the cell
    closest to their mean, or one at random; the start is chosen in the same two ways from the other control wells, as
    far away as the request's start is.

    Where fewer than `MIN_GROUPS` groups can be made without using a well twice, groups of fewer wells or cells are:
    their most central cell is less central, the path longer, and a comparison with them errs on the safe side.

    Parameters
    ----------
    like : (t,) int
        Rows of the treatment's cells.
    n : int
        How many.
    apart : Relation
        Of the request's two cells: of the same plate, of two plates of a batch, of two batches.
    typical_end, typical_start : bool
        The cell closest to the mean; else any.
    choose : callable, optional
        Another way to choose the end: of the rows that stand for the treatment and those of controls of its plates;
        None where there is none to choose, and the draw is passed over. Smaller groups are then not tried.

    Raises
    ------
    SelectionError
        All control cells come from one well, or no draw has an end to choose.
    """
    rows = controls(cells, control)
    mine = cells.iloc[rows]
    well = mine.groupby([schema.PLATE, schema.WELL], sort=False, dropna=False).ngroup().to_numpy()
    size = np.bincount(well)
    if len(size) < 2:
        raise SelectionError(
            f"all {len(rows)} cells of the control {control!r} come from one well; null paths need two control wells"
        )
    plates, batches = (pd.factorize(mine[c])[0] for c in (schema.PLATE, schema.BATCH))
    first = np.unique(well, return_index=True)[1]
    plate_of, batch_of = plates[first], batches[first]  # by well
    of_well = np.split(np.argsort(well, kind="stable"), np.cumsum(size)[:-1])
    treated = cells.iloc[np.asarray(like, dtype=np.int64)]
    n_wells = treated.groupby([schema.PLATE, schema.WELL], dropna=False).ngroups
    together = len(treated[schema.PLATE].drop_duplicates()) == 1
    each = -(-len(treated) // n_wells)

    def start_from(at: int, left: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], bool]:
        """Which of the wells left are as far from a well as the request's start is, and whether there are such."""
        same_plate, same_batch = plate_of == plate_of[at], batch_of == batch_of[at]
        for relation, there in (
            (Relation.PLATE, same_plate),
            (Relation.BATCH, same_batch & ~same_plate),
            (Relation.NONE, ~same_batch),
        ):
            if list(Relation).index(relation) >= list(Relation).index(apart) and size[left & there].sum() >= MIN_NEAR:
                return left & there, relation == apart
        return left, False

    both_of = np.unique(np.stack([plate_of, batch_of]), axis=1, return_inverse=True)[1].ravel()
    on_plate, in_batch, in_both = (np.bincount(of + 1, weights=size)[of + 1] for of in (plate_of, batch_of, both_of))
    away = {Relation.PLATE: on_plate - size, Relation.BATCH: in_batch - in_both, Relation.NONE: len(rows) - in_batch}
    as_far = away[apart] >= MIN_NEAR  # wells from which `start_from` finds cells as far away as the request's start
    homes = np.flatnonzero(as_far & (size >= each))
    used, alike = n_wells, True
    if len(homes) // used < MIN_GROUPS and choose is None:
        alike, eligible = False, np.ones(len(size), dtype=bool)
        if as_far.sum() >= MIN_GROUPS:  # enough wells as far away: only fewer wells or cells of each
            eligible = as_far
        so_many = np.cumsum(np.bincount(size[eligible], minlength=each + 1)[::-1])[::-1]  # eligible wells of c cells
        fits = [
            (w * c, w, c) for w in range(1, n_wells + 1) for c in range(1, each + 1) if so_many[c] // w >= MIN_GROUPS
        ]
        _, used, each = max(fits, default=(0, 1, 1))
        homes = np.flatnonzero(eligible & (size >= each))
    elif not len(homes):
        homes = np.argsort(-size, kind="stable")[:1]
    draws: list[NullDraw] = []
    begun: set[int] = set()
    turns = np.concatenate([rng.permutation(homes) for _ in range(-(-n // len(homes)))])[:n]
    for home in turns:
        others = rng.permutation(len(size))
        others = others[others != home]
        near = np.where(batch_of[others] == batch_of[home], 1, 2)  # a treatment's plates are of one batch, mostly
        if together:
            near[plate_of[others] == plate_of[home]] = 0
        near = near + 0.5 * (size[others] < each)
        order = np.concatenate([[home], others[np.argsort(near, kind="stable")]])
        if not together:  # one well of each plate before a second one of any
            later = np.ones(len(order), dtype=bool)
            later[np.unique(plate_of[order], return_index=True)[1]] = False
            order = order[np.argsort(later + 2 * (batch_of[order] != batch_of[home]), kind="stable")]
        taken = order[: min(used, len(size) - 1)]  # a well is left for the start
        group = np.concatenate([rng.permutation(of_well[w])[:each] for w in taken])
        group = _at_most(MOST_CELLS, group, rng)  # as for the request's own end
        left = np.ones(len(size), dtype=bool)
        left[taken] = False
        if choose is not None:
            free = left[well]
            mates = np.zeros(plates.max() + 1, dtype=bool)
            mates[plate_of[taken]] = True
            beside = free & mates[plates]
            chosen_row = choose(rows[group], _some(rows[beside if beside.sum() >= MIN_NEAR else free], rng))
            if chosen_row is None:
                continue
            end = chosen_row
        else:
            end = closest_to_mean(embeddings, rows[group]) if typical_end else int(rows[rng.choice(group)])
        wells_near, _ = start_from(int(well[np.searchsorted(rows, end)]), left)
        pool = _some(rows[wells_near[well]], rng)
        start = closest_to_mean(embeddings, pool) if typical_start else int(rng.choice(pool))
        draws.append(NullDraw(start, end, pool, rows[group]))
        begun.add(int(home))
    if not draws:
        raise SelectionError("none of the groups of control cells has a cell that could be chosen as the request's was")
    return NullDraws(tuple(draws), len(begun) // used, alike)


def _some(rows: Rows, rng: np.random.Generator) -> Rows:
    return _at_most(MAX_NULL_POOL, rows, rng)


def _at_most(n: int, rows: Rows, rng: np.random.Generator) -> Rows:
    return rows if len(rows) <= n else np.sort(rng.choice(rows, n, replace=False))


def _choice(cells: pd.DataFrame, row: int, how: str, n_cells: int) -> Choice:
    return Choice(row, str(cells[schema.CELL_ID].iloc[row]), how, n_cells)


def _partners(cells: pd.DataFrame, control: str, ends: Rows, rng: np.random.Generator) -> Rows:
    pools: dict[object, Rows] = {}
    starts = np.empty(len(ends), dtype=np.int64)
    for i, row in enumerate(ends):
        plate = cells[schema.PLATE].iloc[row]
        if plate not in pools:
            pools[plate] = controls_near(cells, control, int(row), at_least=1)[0]
        others = pools[plate][pools[plate] != row]
        if not len(others):
            raise SelectionError(f"{cells[schema.CELL_ID].iloc[row]} is the only {control} cell to pair it with")
        starts[i] = rng.choice(others)
    return starts


def _components(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    z = z - z.mean(axis=0)
    u, s, _ = np.linalg.svd(z, full_matrices=False)
    power = np.cumsum(s**2)
    if power[-1] <= 0:
        return np.zeros((len(z), 1))
    keep = min(10, int(np.searchsorted(power, 0.9 * power[-1])) + 1)
    return np.asarray(u[:, :keep] * s[:keep])


def _best_grouping(x: npt.NDArray[np.float64], seed: int, only: int | None = None) -> npt.NDArray[np.int64] | None:
    """The k-means grouping of the best mean silhouette, or of `only` so many groups; None where none is possible."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    best, labels = -np.inf, None
    for k in range(2, MAX_GROUPS + 1) if only is None else (only,):
        if k > len(x) // MIN_GROUP_CELLS or k > len(np.unique(x, axis=0)):
            break
        fit = KMeans(k, n_init=3, random_state=seed).fit(x)
        if np.bincount(fit.labels_, minlength=k).min() < MIN_GROUP_CELLS:
            continue
        score = float(silhouette_score(x, fit.labels_))
        if score > best:
            best, labels = score, np.asarray(fit.labels_, dtype=np.int64)
    return labels


def valley_p(values: npt.NDArray, low: float, high: float) -> float:
    """Whether there are fewer values between two places than at both: an exact p, whatever the distribution.

    Three windows of equal width lie side by side, the outer ones about the two places. Where a density has one peak
    only, the middle window cannot hold less than both outer ones: of the values in it and in one of the outer windows,
    at least half are to be expected in the middle. The larger of the two binomial p is valid for all such densities.

    Parameters
    ----------
    values : (n,)
        Drawn independently of `low` and `high`.
    low, high : float
        The two places, ``low < high``.

    Examples
    --------
    >>> import numpy as np
    >>> valley_p(np.repeat([0.0, 4.0], 6), 0.0, 4.0)
    0.015625
    """
    from scipy.special import bdtr

    edge = np.linspace(
        low, high, 5
    )  # outer windows: low - w to low + w, high - w to high + w, with 4 w from low to high
    width = edge[1] - edge[0]
    edges = (low - width, edge[1], edge[3], high + width)
    left, middle, right = (int(((values >= a) & (values < b)).sum()) for a, b in itertools.pairwise(edges))
    return max(float(bdtr(middle, middle + side, 0.5)) if side else 1.0 for side in (left, right))


def grouping(z: npt.NDArray[np.float64], rng: np.random.Generator) -> tuple[Rows, float, int]:
    """The groups that points fall into, see `subpopulations`.

    Parameters
    ----------
    z : (n, d)

    Returns
    -------
    tuple of ((n,) int64, float, int)
        Group of each point, all 0 where there is one; the p of the grouping; the points it was found on.
    """
    one = np.zeros(len(z), dtype=np.int64)
    n = min(len(z), CLUSTERED_CELLS)
    order = rng.permutation(len(z))[:n]
    seed = int(rng.integers(2**31))
    halves = order[: n // 2], order[n // 2 :]
    if n < 4 * MIN_GROUP_CELLS or not np.ptp(z, axis=0).any():
        return one, 1.0, n
    p, k = 1.0, 1
    for mine, other in (halves, halves[::-1]):
        labels = _best_grouping(_components(z[mine]), seed)
        if labels is None:
            continue
        means = [z[mine[labels == g]].mean(axis=0) for g in np.unique(labels)]
        worst = 0.0
        for a, b in itertools.combinations(means, 2):
            way = (b - a) / np.linalg.norm(b - a)
            worst = max(worst, valley_p(z[other] @ way, float(a @ way), float(b @ way)))
        if 2.0 * worst < p:
            p, k = 2.0 * worst, len(means)
    if p > FALSE_SPLITS:
        return one, p, n
    x = _components(z[order])
    labels = _best_grouping(x, seed, only=k)
    if labels is None:
        return one, p, n
    means_of = np.array([z[order[labels == g]].mean(axis=0) for g in np.unique(labels)])
    everyone = ((z[:, None, :] - means_of[None]) ** 2).sum(axis=2).argmin(axis=1)
    everyone[order] = labels
    return everyone.astype(np.int64), p, n
