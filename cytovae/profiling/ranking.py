"""Treatments ranked by cosine similarity, and the rules that say which of them may be a neighbour of which.

- Controls take no part.
- NSC: a neighbour that shares the compound is held out. NSCB: one that shares the compound or any batch.
- A treatment whose mechanism is unknown is nobody's neighbour: a call that cannot be judged is no call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import ProfileError
from cytovae.profiling.profiles import BATCH_SEPARATOR

TIE = 1e-12
"""Cosine similarities closer than this are equal."""

_ROWS = 1_024


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which neighbours are held out.

    Parameters
    ----------
    name : str
        As in Table 1.
    differ_by : tuple of str
        Columns in none of which a treatment and its neighbour may agree.
    """

    name: str
    differ_by: tuple[str, ...]

    @property
    def words(self) -> str:
        """For menus and help texts: what the letters stand for."""
        return {"NSC": "not the same compound", "NSCB": "not the same compound, nor the same batch"}.get(
            self.name, self.name
        )


NSC = Rule("NSC", (schema.COMPOUND,))
"""Not the same compound."""
NSCB = Rule("NSCB", (schema.COMPOUND, schema.BATCH))
"""Not the same compound, nor any batch in common."""
RULES = (NSC, NSCB)


class Ranked:
    """Treatments in the order of their names, with unit profiles and the masks of a rule."""

    def __init__(self, treatments: pd.DataFrame, rule: Rule, control: str) -> None:
        schema.require_columns(
            treatments, [schema.TREATMENT, schema.COMPOUND, schema.MOA, *rule.differ_by], "the table of treatments"
        )
        schema.require_unique(treatments, schema.TREATMENT, "the table of treatments")
        table = treatments[treatments[schema.COMPOUND] != control]
        # By name: whatever the order of the rows, every sum below runs over the same numbers in the same order.
        self.table = table.sort_values(schema.TREATMENT, ignore_index=True)
        if len(self.table) < 2:
            raise ProfileError(f"a benchmark needs at least two treatments beside {control!r}, not {len(self.table)}")
        features = schema.feature_columns(treatments)
        values = self.table[features].to_numpy(dtype=np.float64)  # (n, d)
        if not np.isfinite(values).all():
            bad = self.table.loc[~np.isfinite(values).all(axis=1), schema.TREATMENT].iloc[0]
            raise ProfileError(f"the profile of {bad} holds values that are not finite; drop or impute them first")
        norms = np.linalg.norm(values, axis=1)
        self.zero = norms <= np.finfo(np.float64).tiny * 1e16
        self.unit = np.where(self.zero[:, None], 0.0, values / np.where(self.zero, 1.0, norms)[:, None])
        moa = self.table[schema.MOA].fillna(schema.UNKNOWN_MOA).astype(str)
        self.moa = moa.to_numpy()
        self.known = (moa != schema.UNKNOWN_MOA).to_numpy()
        self.moa_codes = pd.factorize(moa, sort=True)[0]
        self.members = [_membership(self.table[column]) for column in rule.differ_by]

    def __len__(self) -> int:
        return len(self.table)

    def admissible(self, rows: slice) -> npt.NDArray[np.bool_]:
        """(rows, n) bool: which treatments may be a neighbour of which, by metadata alone."""
        ok = np.repeat(self.known[None, :], len(self.moa[rows]), axis=0)
        for member in self.members:
            ok &= (member[rows] @ member.T) == 0
        ok[np.arange(len(ok)), np.arange(len(self))[rows]] = False
        return ok

    def cosines(self, rows: slice) -> npt.NDArray[np.float64]:
        """(rows, n) cosine similarity; -inf to and from a profile of zeros."""
        found = self.unit[rows] @ self.unit.T
        found[:, self.zero] = -np.inf
        found[self.zero[rows]] = -np.inf
        return found

    def blocks(self) -> list[slice]:
        return [slice(start, min(start + _ROWS, len(self))) for start in range(0, len(self), _ROWS)]

    def shuffles(self, rng: np.random.Generator, count: int) -> Iterator[npt.NDArray[np.int64]]:
        """Mechanism codes, (n,) each, with the known mechanisms shuffled among compounds.

        A compound keeps one mechanism over its concentrations, as in the truth; one with several mechanisms is
        shuffled in as many parts.
        """
        units = pd.factorize(self.table[schema.COMPOUND].astype(str) + "\0" + pd.Series(self.moa))[0]
        _, first = np.unique(units, return_index=True)
        of_unit, known_unit = self.moa_codes[first], self.known[first]
        for _ in range(count):
            shuffled = of_unit.copy()
            shuffled[known_unit] = rng.permutation(of_unit[known_unit])
            yield shuffled[units]


def _membership(column: pd.Series) -> npt.NDArray[np.float32]:
    """(n, k) 0/1: which of the k distinct values each row has; a row may have several, joined by ``|``."""
    split = [set(str(value).split(BATCH_SEPARATOR)) for value in column]
    if column.name != schema.BATCH:
        split = [{str(value)} for value in column]
    codes = {value: k for k, value in enumerate(sorted(set().union(*split)))}
    member = np.zeros((len(column), len(codes)), dtype=np.float32)
    for row, values in enumerate(split):
        member[row, [codes[v] for v in values]] = 1
    return member
