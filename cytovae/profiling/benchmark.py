"""Does the nearest neighbour of a treatment share its mechanism of action? NSC, NSCB, mAP, intervals, Table 1.

Rules of the count
------------------
- Controls take no part. Treatments are ranked by cosine similarity of their profiles.
- NSC: a neighbour that shares the compound is held out. NSCB: one that shares the compound or any batch.
- A treatment is *scored* if its mechanism is known and at least one admissible neighbour shares it; this depends on the
  metadata alone, so every model is scored on the same treatments. Unscored treatments stay admissible neighbours,
  unless their mechanism is unknown: a call that cannot be judged is no call.
- Two similarities closer than `TIE` are a tie; the treatment whose name sorts first is taken, and the row says how many
  tied. So row order never matters.
- A profile of zeros has no direction: it is nobody's neighbour, and where it is scored it is scored as wrong.

``results/<model>/calls.parquet``: one row per (summary, whiten, rule, treatment)
---------------------------------------------------------------------------------
``bundle``, ``summary`` (mean | mean+sd), ``whiten`` (none | plate | batch | tvn), ``rule`` (NSC | NSCB), then
``Metadata_Treatment``, ``Metadata_Compound``, ``Metadata_Concentration``, ``Metadata_MoA``, ``Metadata_Batch``,
``predicted`` (mechanism of the neighbour, None where there is none), ``neighbour`` (its treatment), ``cosine`` (to it),
``own_neighbour`` and ``own_cosine`` (the nearest admissible one of the same mechanism), ``n_admissible``,
``n_admissible_same`` (those of the same mechanism), ``n_tied``, ``scored`` (bool), ``correct`` (bool; False where not
scored), ``reason`` (why not scored or not called, else "").

``results/<model>/scores.json``
-------------------------------
::

    {"model": "<name>",
     "seed",
     "screen": {"name", "control", "n_cells", "n_blank", "n_wells", "n_treatments", "n_mechanisms",
                "median_cells_per_treatment"},
     "scores": [{"bundle", "summary", "whiten", "rule",
                 "accuracy",                 fraction of the scored that are correct, 0 to 1; null where none is scored
                 "ci95": [lo, hi],           over compounds (`cytovae.profiling.intervals`)
                 "n_correct", "n_scored", "n_treatments",
                 "chance",                   a random admissible neighbour's expected accuracy
                 "permutation": {"mean", "sd", "p", "n"},   mechanisms shuffled among compounds
                 "comparisons": [{"baseline", "difference", "ci95", "n_scored",      paired, over compounds
                                  "verdict": "above"|"below"|"no difference shown"}]}],
     "baselines": [{"baseline", "description", "dimension", and the keys of a score but "comparisons"}],
     "map": [{"bundle", "summary", "whiten", "rule", "moa", "map", "p", "p_corrected", "n_treatments"}],
     "batch": [{"bundle", "summary", "whiten", "by": "plate"|"batch", "score", "expected", "n_wells"}],
     "confusion": [{"bundle", "summary", "whiten", "rule", "true": [...], "predicted": [...], "counts": [[...], ...]}],
     "whitening": [{"bundle", "summary", "whiten", "group", "scope", "learned_from", "n_controls", "dimension",
                    "regularisation"}],
     "skipped": [{"bundle", "summary", "whiten", "reason"}],    "bundle" may be the name of a baseline
     "verdicts": ["one sentence each, to be shown beside the numbers"],
     "seeds": [...],                         the lines of `over_seeds`, where bundles were scored as seeds of one model
     "provenance": {...}}

The chance line of ``baselines`` has the plain summary and whitening and no permutation; the cell count and the simple
measurements have the plain ones only; the pixel PCA has every column that the model has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import ProfileError, did_you_mean
from cytovae.profiling import intervals
from cytovae.profiling.precision import mean_average_precision
from cytovae.profiling.ranking import NSC, RULES, TIE, Ranked, Rule

N_PERMUTATIONS = 200


CALL_COLUMNS = (
    schema.TREATMENT,
    schema.COMPOUND,
    schema.CONCENTRATION,
    schema.MOA,
    schema.BATCH,
    "predicted",
    "neighbour",
    "cosine",
    "own_neighbour",
    "own_cosine",
    "n_admissible",
    "n_admissible_same",
    "n_tied",
    "scored",
    "correct",
    "reason",
)


def nearest(
    treatments: pd.DataFrame, treatment: str, rule: Rule = NSC, control: str = "DMSO", n: int = 6
) -> pd.DataFrame:
    """The treatments most like one, among those that a rule admits as its neighbours.

    Parameters
    ----------
    treatments : DataFrame
        Treatment profiles; the rows of `control` are left out.
    treatment : str
        Its name.
    rule : Rule
    control : str
        Compound name of the controls.
    n : int
        How many at most.

    Returns
    -------
    DataFrame
        Their rows, nearest first, ties by name, with ``cosine``.

    Raises
    ------
    ProfileError
        The treatment is not among the profiles, or they cannot be ranked (see `neighbours`).
    """
    ranked = Ranked(treatments, rule, control)
    rows = np.flatnonzero(ranked.table[schema.TREATMENT] == treatment)
    if not len(rows):
        names = ranked.table[schema.TREATMENT].astype(str)
        raise ProfileError(f"there is no profile of {treatment!r}{did_you_mean(treatment, names)}")
    me = slice(rows[0], rows[0] + 1)
    table = ranked.table.assign(cosine=ranked.cosines(me)[0])
    table = table.loc[ranked.admissible(me)[0] & np.isfinite(table["cosine"])]
    found: pd.DataFrame = table.sort_values("cosine", ascending=False, kind="stable").head(n)
    return found


def neighbours(treatments: pd.DataFrame, rule: Rule = NSC, control: str = "DMSO") -> pd.DataFrame:
    """The call on every treatment: its nearest admissible neighbour and that one's mechanism.

    Parameters
    ----------
    treatments : DataFrame
        Treatment profiles; the rows of `control` are left out.
    rule : Rule
        `NSC`, `NSCB` or one's own.
    control : str
        Compound name of the controls.

    Returns
    -------
    DataFrame
        `CALL_COLUMNS`, one row per treatment, sorted by treatment.

    Raises
    ------
    ProfileError
        A profile is not finite, or fewer than two treatments are left.
    TableError
        A treatment stands twice, or a column is missing.
    """
    ranked = Ranked(treatments, rule, control)
    n = len(ranked)
    names = ranked.table[schema.TREATMENT].to_numpy(dtype=object)
    nearest, own = np.full(n, -1), np.full(n, -1)
    cosine, own_cosine = np.full(n, np.nan), np.full(n, np.nan)
    tied, total, same = np.zeros(n, dtype=int), np.zeros(n, dtype=int), np.zeros(n, dtype=int)
    for rows in ranked.blocks():
        here = np.arange(n)[rows]
        ok = ranked.admissible(rows)
        of_same = ok & (ranked.moa_codes[rows, None] == ranked.moa_codes[None, :])
        similar = ranked.cosines(rows)
        total[rows], same[rows] = ok.sum(axis=1), of_same.sum(axis=1)
        tied[rows], nearest[rows], cosine[rows] = _first_of_the_nearest(similar, ok)
        _, own[rows], own_cosine[rows] = _first_of_the_nearest(similar, of_same)
        own[here[~ranked.known[rows]]] = -1
    own_cosine[own < 0] = np.nan
    scored = ranked.known & (same > 0)
    called = nearest >= 0
    correct = scored & called & (ranked.moa[nearest] == ranked.moa)
    reason = np.select(
        [~ranked.known, same == 0, ranked.zero, ~called],
        [
            "its mechanism is unknown",
            f"no treatment of its mechanism is admissible under {rule.name}",
            "its profile is all zeros: counted as wrong",
            "every admissible profile is all zeros: counted as wrong",
        ],
        default="",
    )
    table = ranked.table[[schema.TREATMENT, schema.COMPOUND, schema.CONCENTRATION, schema.MOA, schema.BATCH]].copy()
    table[schema.MOA] = ranked.moa
    return table.assign(
        predicted=_named(ranked.moa, nearest),
        neighbour=_named(names, nearest),
        cosine=cosine,
        own_neighbour=_named(names, own),
        own_cosine=own_cosine,
        n_admissible=total,
        n_admissible_same=np.where(ranked.known, same, 0),
        n_tied=tied,
        scored=scored,
        correct=correct,
        reason=reason,
    )[list(CALL_COLUMNS)]


def _named(names: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> pd.Series:
    """Names by row, None for row -1."""
    return pd.Series([names[row] if row >= 0 else None for row in rows], dtype=object)


def _first_of_the_nearest(
    similar: npt.NDArray[np.float64], ok: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Per row: how many tie for nearest, the first of them (-1: none), and its similarity (nan: none)."""
    masked = np.where(ok, similar, -np.inf)
    best = masked.max(axis=1)
    found = np.isfinite(best)
    near = masked >= np.where(found, best - TIE, np.inf)[:, None]
    first = np.where(found, near.argmax(axis=1), -1)
    return np.where(found, near.sum(axis=1), 0), first, np.where(found, best, np.nan)


def accuracy(calls: pd.DataFrame) -> float | None:
    """The fraction of the scored treatments whose neighbour shares the mechanism; None where none is scored."""
    n = int(calls["scored"].sum())
    return float(calls["correct"].sum() / n) if n else None


def chance(calls: pd.DataFrame) -> float | None:
    """The expected accuracy of a neighbour drawn at random from the admissible ones; None where none is scored."""
    scored = calls[calls["scored"]]
    return float((scored["n_admissible_same"] / scored["n_admissible"]).mean()) if len(scored) else None


def interval(calls: pd.DataFrame, level: float = 0.95) -> tuple[float, float] | None:
    """The interval of the accuracy over compounds (`cytovae.profiling.intervals.accuracy`).

    Returns
    -------
    tuple of (float, float) or None
        None where fewer than two compounds are scored.
    """
    scored = calls[calls["scored"]]
    of = scored.groupby(schema.COMPOUND, sort=True)["correct"].agg(["sum", "size"])
    return intervals.accuracy(of["sum"].to_numpy(dtype=float), of["size"].to_numpy(dtype=float), level)


def permutation(
    treatments: pd.DataFrame,
    rule: Rule,
    rng: np.random.Generator,
    n_permutations: int = N_PERMUTATIONS,
    control: str = "DMSO",
) -> npt.NDArray[np.float64]:
    """Accuracies with the mechanisms shuffled among compounds: what the embedding scores when there is nothing to find.

    A compound keeps one mechanism over its concentrations, as in the truth; which treatments are scored is counted anew
    for each shuffle.

    Returns
    -------
    (n_permutations,) float64
        nan where a shuffle leaves nothing to score.
    """
    ranked = Ranked(treatments, rule, control)
    n = len(ranked)
    ok = np.concatenate([ranked.admissible(rows) for rows in ranked.blocks()])
    nearest = np.concatenate([_first_of_the_nearest(ranked.cosines(rows), ok[rows])[1] for rows in ranked.blocks()])
    weights = ok.astype(np.float32)
    out = np.empty(n_permutations)
    for k, labels in enumerate(ranked.shuffles(rng, n_permutations)):
        one_hot = np.zeros((n, int(ranked.moa_codes.max()) + 1), dtype=np.float32)
        one_hot[np.arange(n), labels] = 1
        same = (weights @ one_hot)[np.arange(n), labels]
        scored = ranked.known & (same > 0)
        right = scored & (nearest >= 0) & (labels[nearest] == labels)
        out[k] = right.sum() / scored.sum() if scored.any() else np.nan
    return out


def score(
    treatments: pd.DataFrame,
    rule: Rule,
    rng: np.random.Generator,
    control: str = "DMSO",
    n_permutations: int = N_PERMUTATIONS,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """One line of ``scores`` with its calls.

    Returns
    -------
    tuple of (dict, DataFrame)
        ``rule``, ``accuracy``, ``ci95``, ``n_correct``, ``n_scored``, ``n_treatments``, ``chance``, ``permutation``;
        and the calls of `neighbours`.
    """
    calls = neighbours(treatments, rule, control)
    right = accuracy(calls)
    null = permutation(treatments, rule, rng, n_permutations, control) if n_permutations else np.empty(0)
    null = null[np.isfinite(null)]
    ci = interval(calls)
    line: dict[str, Any] = {
        "rule": rule.name,
        "accuracy": right,
        "ci95": list(ci) if ci else None,
        "n_correct": int(calls["correct"].sum()),
        "n_scored": int(calls["scored"].sum()),
        "n_treatments": len(calls),
        "chance": chance(calls),
        "permutation": None,
    }
    if len(null) and right is not None:
        line["permutation"] = {
            "mean": float(null.mean()),
            "sd": float(null.std(ddof=1)) if len(null) > 1 else 0.0,
            "p": float((1 + (null >= right).sum()) / (1 + len(null))),
            "n": len(null),
        }
    return line, calls


def confusion(calls: pd.DataFrame) -> pd.DataFrame:
    """True mechanism (rows) by called mechanism (columns), in scored treatments.

    Returns
    -------
    DataFrame
        Counts; both axes sorted, the columns end with ``none`` where a scored treatment has no call.
    """
    scored = calls[calls["scored"]]
    called = scored["predicted"].fillna("none")
    moas = sorted(set(scored[schema.MOA]) | (set(called) - {"none"}))
    columns = [*moas, "none"] if (called == "none").any() else moas
    table = pd.crosstab(scored[schema.MOA], called).reindex(index=moas, columns=columns, fill_value=0)
    return table.rename_axis(index="true", columns="predicted").astype(int)


def batch_score(wells: pd.DataFrame, control: str = "DMSO") -> list[dict[str, Any]]:
    """Is it batch or biology? How often a control well's nearest control well is of its own plate, or its own batch.

    Controls are all the same biology, so without batch effects the share is what chance gives (``expected``). It can
    fall below: whitening centres the controls of a plate, and vectors around their own centre point apart.

    Parameters
    ----------
    wells : DataFrame
        Well profiles, whitened or not.

    Returns
    -------
    list of dict
        ``by`` (plate, batch), ``score``, ``expected``, ``n_wells``; empty where there are fewer than two control wells.
        A control well with a profile of zeros is left out.
    """
    controls = wells[wells[schema.COMPOUND] == control].sort_values([schema.PLATE, schema.WELL])
    values = controls[schema.feature_columns(wells)].to_numpy(dtype=np.float64)
    norms = np.linalg.norm(values, axis=1)
    controls, values, norms = controls[norms > 0], values[norms > 0], norms[norms > 0]
    n = len(controls)
    if n < 2:
        return []
    unit = values / norms[:, None]
    similar = unit @ unit.T
    np.fill_diagonal(similar, -np.inf)
    nearest = similar.argmax(axis=1)
    lines = []
    for by, column in (("plate", schema.PLATE), ("batch", schema.BATCH)):
        codes = pd.factorize(controls[column])[0]
        sizes = np.bincount(codes)[codes]
        lines.append(
            {
                "by": by,
                "score": float((codes[nearest] == codes).mean()),
                "expected": float(((sizes - 1) / (n - 1)).mean()),
                "n_wells": n,
            }
        )
    return lines


def evaluate(
    wells: pd.DataFrame,
    treatments: pd.DataFrame,
    rng: np.random.Generator,
    *,
    bundle: str,
    summary: str,
    whiten: str,
    control: str = "DMSO",
    seed: int = 0,
) -> dict[str, Any]:
    """Everything that is said about one column of Table 1.

    Returns
    -------
    dict
        ``scores``, ``map``, ``batch``, ``confusion``: lists of lines as in ``scores.json``; ``calls``: a DataFrame.
    """
    column = {"bundle": bundle, "summary": summary, "whiten": whiten}
    out: dict[str, Any] = {"scores": [], "map": [], "batch": [], "confusion": []}
    calls = []
    for rule in RULES:
        line, called = score(treatments, rule, rng, control)
        out["scores"].append({**column, **line})
        ranked = mean_average_precision(treatments, rule, control, seed)
        out["map"] += [{**column, "rule": rule.name, **row} for row in ranked.to_dict("records")]
        counts = confusion(called)
        out["confusion"].append(
            {
                **column,
                "rule": rule.name,
                "true": list(counts.index),
                "predicted": list(counts.columns),
                "counts": counts.to_numpy().tolist(),
            }
        )
        called = called.assign(**column, rule=rule.name)
        calls.append(called[["bundle", "summary", "whiten", "rule", *CALL_COLUMNS]])
    out["batch"] = [{**column, **line} for line in batch_score(wells, control)]
    out["calls"] = pd.concat(calls, ignore_index=True)
    return out
