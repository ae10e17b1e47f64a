"""Mean average precision: do the treatments of a mechanism rank each other first?"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.profiling.ranking import NSC, Ranked, Rule

N_NULL = 2_000


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
    n = len(ranked)
    precision = np.full(n, np.nan)
    positives, totals = np.zeros(n, dtype=int), np.zeros(n, dtype=int)
    for rows in ranked.blocks():
        ok = ranked.admissible(rows)
        similar = np.where(ok, ranked.cosines(rows), -np.inf)
        similar[ok & ~np.isfinite(similar)] = -2.0  # zero profiles come last among the admissible
        order = np.argsort(-similar, axis=1, kind="stable")
        hit = ranked.moa_codes[order] == ranked.moa_codes[rows, None]
        hit &= np.take_along_axis(ok, order, axis=1) & ranked.known[rows, None]
        rank = np.arange(1, n + 1)
        found = hit.sum(axis=1)
        with np.errstate(invalid="ignore"):
            precision[rows] = np.where(hit, np.cumsum(hit, axis=1) / rank, 0).sum(axis=1) / found
        positives[rows], totals[rows] = found, ok.sum(axis=1)
    return pd.DataFrame(
        {
            schema.TREATMENT: ranked.table[schema.TREATMENT],
            schema.MOA: ranked.moa,
            "average_precision": precision,
            "n_pos_pairs": positives,
            "n_total_pairs": totals,
        }
    )


def mean_average_precision(
    treatments: pd.DataFrame, rule: Rule = NSC, control: str = "DMSO", seed: int = 0, null_size: int = N_NULL
) -> pd.DataFrame:
    """The mean average precision of every mechanism, with copairs' p-values against random rankings.

    Equal to ``copairs.map.mean_average_precision`` with an empty cache. That draws are shared within a mechanism makes
    the p-values cautious.

    Parameters
    ----------
    seed : int
        Of the random rankings.
    null_size : int
        How many of them per (positives, candidates); the smallest p-value is 1 / (null_size + 1).

    Returns
    -------
    DataFrame
        ``moa``, ``map``, ``p``, ``p_corrected`` (Benjamini-Hochberg over mechanisms), ``n_treatments``; sorted by
        ``moa``.
    """
    from scipy.stats import false_discovery_control

    each = average_precision(treatments, rule, control)
    each = each[each["n_pos_pairs"] > 0]
    # As in copairs: treatments with the same (positives, candidates) share their draws, others have their own seed.
    kinds, kind_of = np.unique(each[["n_pos_pairs", "n_total_pairs"]].to_numpy(), axis=0, return_inverse=True)
    seeds = np.random.default_rng(seed).integers(8096, size=len(kinds))
    lines = []
    for moa, rows in each.groupby(schema.MOA, sort=True).indices.items():
        group = each.iloc[rows]
        null = np.mean(
            [_random_average_precision(*map(int, kinds[k]), null_size, int(seeds[k])) for k in kind_of[rows]], axis=0
        )
        found = float(group["average_precision"].mean())
        lines.append((moa, found, float((1 + (null > found).sum()) / (1 + null_size)), len(group)))
    table = pd.DataFrame(lines, columns=["moa", "map", "p", "n_treatments"])
    table["p_corrected"] = false_discovery_control(table["p"]) if len(table) else []
    return table[["moa", "map", "p", "p_corrected", "n_treatments"]]


@functools.lru_cache(maxsize=1_024)
def _random_average_precision(positives: int, total: int, null_size: int, seed: int) -> npt.NDArray[np.float64]:
    """The null of copairs, called directly: its front door keeps a cache in the home folder that outlives the seed."""
    from copairs.compute import random_ap

    out: npt.NDArray[np.float64] = np.asarray(random_ap(null_size, positives, total, seed), dtype=np.float64)
    return out
