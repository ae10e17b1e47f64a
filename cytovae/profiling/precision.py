"""Mean average precision: do the treatments of a mechanism rank each other first?

The p-value of a mechanism asks how often its compounds would rank as well were mechanisms dealt out to compounds at
random. The concentrations of a compound look alike whatever it does, so they are moved together: rankings shuffled
treatment by treatment would call that likeness a mechanism.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.profiling.ranking import NSC, Ranked, Rule

N_NULL = 999
"""Shuffles of the mechanisms among compounds; the smallest p-value is 1 / (N_NULL + 1)."""

_AT_ONCE = 1_000_000
"""Places of neighbours looked at together: 10 MB or so."""


class _Lists:
    """The admissible neighbours of every treatment, most alike first."""

    def __init__(self, ranked: Ranked) -> None:
        n = len(ranked)
        self.order = np.zeros((n, n), dtype=np.intp)
        self.ok = np.zeros((n, n), dtype=bool)
        for rows in ranked.blocks():
            ok = ranked.admissible(rows)
            similar = np.where(ok, ranked.cosines(rows), -np.inf)
            similar[ok & ~np.isfinite(similar)] = -2.0  # zero profiles come last among the admissible
            self.order[rows] = np.argsort(-similar, axis=1, kind="stable")
            self.ok[rows] = np.take_along_axis(ok, self.order[rows], axis=1)
        self.ok &= ranked.known[:, None]
        longest = int(self.ok.sum(axis=1).max(initial=0))
        self.order, self.ok = self.order[:, :longest], self.ok[:, :longest]
        self.per_place = 1 / np.arange(1, longest + 1, dtype=np.float64)

    def precision(self, labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Average precision of every treatment, nan without a positive; how many it has: both (m, n) as the labels."""
        hit = (labels[:, self.order] == labels[:, :, None]) & self.ok  # (m, n, longest)
        found = hit.sum(axis=2)
        total = (np.cumsum(hit, axis=2, dtype=np.int32) * hit) @ self.per_place
        return np.where(found > 0, total / np.maximum(found, 1), np.nan), found


def average_precision(treatments: pd.DataFrame, rule: Rule = NSC, control: str = "DMSO") -> pd.DataFrame:
    """The average precision of every treatment: are those of its mechanism at the head of the admissible ones?

    The same figure as ``copairs.map.average_precision`` where every treatment lies in one batch; copairs compares
    batches by equality, and a treatment measured in several shares one where the sets meet.

    Returns
    -------
    DataFrame
        Treatment, mechanism, ``average_precision`` (nan where there is nothing to find), ``n_pos_pairs``,
        ``n_total_pairs``.
    """
    ranked = Ranked(treatments, rule, control)
    lists = _Lists(ranked)
    (precision,), (positives,) = lists.precision(ranked.moa_codes[None, :])
    return pd.DataFrame(
        {
            schema.TREATMENT: ranked.table[schema.TREATMENT],
            schema.MOA: ranked.moa,
            "average_precision": precision,
            "n_pos_pairs": positives,
            "n_total_pairs": lists.ok.sum(axis=1),
        }
    )


def mean_average_precision(
    treatments: pd.DataFrame, rule: Rule = NSC, control: str = "DMSO", seed: int = 0, null_size: int = N_NULL
) -> pd.DataFrame:
    """The mean average precision of every mechanism, with p-values against mechanisms shuffled among compounds.

    Parameters
    ----------
    seed : int
        Of the shuffles.
    null_size : int
        How many of them; the smallest p-value is 1 / (null_size + 1). A shuffle that leaves a mechanism without any
        admissible pair does not count for it.

    Returns
    -------
    DataFrame
        ``moa``, ``map``, ``p``, ``p_corrected`` (Benjamini-Hochberg over mechanisms), ``n_treatments`` (with an
        admissible one of their mechanism); sorted by ``moa``.
    """
    from scipy.stats import false_discovery_control

    ranked = Ranked(treatments, rule, control)
    lists = _Lists(ranked)
    codes = np.unique(ranked.moa_codes[ranked.known])
    most = int(ranked.moa_codes.max()) + 1

    def means(labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """(m, mechanisms): mean average precision, nan where there is none, and how many treatments it rests on."""
        each, positives = lists.precision(labels)
        cell = (np.arange(len(labels))[:, None] * most + labels).ravel()
        counts = np.bincount(cell, weights=(positives > 0).ravel(), minlength=len(labels) * most)
        total = np.bincount(cell, weights=np.nan_to_num(each).ravel(), minlength=len(labels) * most)
        mean = np.where(counts > 0, total / np.maximum(counts, 1), np.nan).reshape(-1, most)
        return mean[:, codes], counts.reshape(-1, most)[:, codes].astype(int)

    (found,), (counts,) = means(ranked.moa_codes[None, :])
    shuffled = np.array(list(ranked.shuffles(np.random.default_rng(seed), null_size)))
    at_once = max(1, _AT_ONCE // max(lists.ok.size, 1))
    null = np.concatenate([means(shuffled[k : k + at_once])[0] for k in range(0, null_size, at_once)])
    lines = []
    for k, code in enumerate(codes):
        if counts[k]:
            name = str(ranked.moa[ranked.moa_codes == code][0])
            drawn = null[np.isfinite(null[:, k]), k]
            # Equal up to rounding is as good: the same sum in another order may differ in the last digit.
            p = (1 + (drawn >= found[k] - 1e-12).sum()) / (1 + len(drawn))
            lines.append((name, float(found[k]), float(p), int(counts[k])))
    table = pd.DataFrame(sorted(lines), columns=["moa", "map", "p", "n_treatments"])
    table["p_corrected"] = false_discovery_control(table["p"]) if len(table) else []
    return table[["moa", "map", "p", "p_corrected", "n_treatments"]]
