"""What the benchmark found, laid out: Table 1, mechanisms, batches, verdicts.

Everything that shows a table of scores (the command line, the app, a figure) asks here, so that a score reads the same
wherever it stands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cytovae import schema
from cytovae.profiling import activity, intervals
from cytovae.profiling.intervals import Verdict
from cytovae.profiling.profiles import Summary
from cytovae.profiling.ranking import RULES
from cytovae.profiling.whiten import Whitening

Column = tuple[Summary, Whitening]


@dataclasses.dataclass(frozen=True)
class Score:
    """One accuracy of Table 1.

    Parameters
    ----------
    name : str
        The model or baseline.
    summary : Summary
    whiten : Whitening
    rule : str
        NSC or NSCB.
    accuracy : float or None
        0 to 1; None where no treatment could be scored.
    ci95 : tuple of (float, float) or None
        95 % interval over compounds.
    n_scored, n_treatments : int
    is_baseline : bool
    """

    name: str
    summary: Summary
    whiten: Whitening
    rule: str
    accuracy: float | None
    ci95: tuple[float, float] | None
    n_scored: int
    n_treatments: int
    is_baseline: bool = False

    @classmethod
    def of(cls, line: dict[str, Any]) -> Score:
        """A line of ``scores`` or ``baselines`` in ``scores.json``."""
        is_baseline = "baseline" in line
        ci = line.get("ci95")
        return cls(
            line["baseline" if is_baseline else "bundle"],
            Summary(line["summary"]),
            Whitening(line["whiten"]),
            line["rule"],
            line["accuracy"],
            (ci[0], ci[1]) if ci else None,
            line["n_scored"],
            line["n_treatments"],
            is_baseline,
        )

    @property
    def column(self) -> Column:
        """Where it stands in Table 1."""
        return self.summary, self.whiten

    @property
    def words(self) -> str:
        """The accuracy in per cent with its interval, or a dash.

        Examples
        --------
        >>> Score("vae", Summary.mean, Whitening.none, "NSC", 0.5, (0.4, 0.62), 92, 103).words
        '50.0 [40, 62]'
        """
        if self.accuracy is None:
            return "-"
        interval = f" [{100 * self.ci95[0]:.0f}, {100 * self.ci95[1]:.0f}]" if self.ci95 else ""
        return f"{100 * self.accuracy:.1f}{interval}"


def scores_of(document: dict[str, Any]) -> list[Score]:
    """All scores of a ``scores.json``: its models, then its baselines."""
    return [Score.of(line) for line in [*document["scores"], *document.get("baselines", [])]]


def column_title(summary: str, whiten: str) -> str:
    """The head of a column of Table 1.

    Examples
    --------
    >>> column_title("mean", "none"), column_title("mean+sd", "plate")
    ('Mean', 'Mean+S.D.+Whitened (plate)')
    """
    head, tail = Summary(summary).words, Whitening(whiten).words
    return f"{head}+{tail}" if tail else head


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of Table 1: one model or baseline under one rule.

    Parameters
    ----------
    rule, name : str
    cells : tuple of (Score or None)
        One per column of the table; None where it was not computed.
    """

    rule: str
    name: str
    cells: tuple[Score | None, ...]

    @property
    def scored(self) -> str:
        """How many treatments were scored, such as ``92 of 103``."""
        counts = dict.fromkeys((x.n_scored, x.n_treatments) for x in self.cells if x is not None)
        return ", ".join(f"{n} of {total}" for n, total in counts)


@dataclasses.dataclass(frozen=True)
class Table1:
    """Scores in the layout of the paper's Table 1.

    Parameters
    ----------
    columns : tuple of (Summary, Whitening)
        Plain means first, then whitened ones, then means with standard deviations.
    rows : tuple of Row
        Rule by rule: models, then baselines, in the order they were given.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, scores: Iterable[Score]) -> Table1:
        """Lay scores out; of two that stand in the same place, the first is shown."""
        placed: dict[tuple[str, bool, str, Column], Score] = {}
        for score in scores:
            placed.setdefault((score.rule, score.is_baseline, score.name, score.column), score)
        there = {column for *_, column in placed}
        columns = [(s, w) for s in Summary for w in Whitening if (s, w) in there]
        names = sorted(dict.fromkeys((is_baseline, name) for _, is_baseline, name, _ in placed), key=lambda x: x[0])
        rows = [
            Row(rule.name, name, tuple(placed.get((rule.name, is_baseline, name, c)) for c in columns))
            for rule in RULES
            for is_baseline, name in names
        ]
        return cls(tuple(columns), tuple(row for row in rows if any(row.cells)))

    @property
    def titles(self) -> list[str]:
        """The heads of the columns."""
        return [column_title(*column) for column in self.columns]

    def frame(self) -> pd.DataFrame:
        """Accuracies in per cent with their intervals, as text: ``rule``, ``model``, the columns, ``scored``."""
        rows = [
            {
                "rule": row.rule,
                "model": f"{row.name} (baseline)" if any(x and x.is_baseline for x in row.cells) else row.name,
                **{title: x.words if x else "-" for title, x in zip(self.titles, row.cells, strict=True)},
                "scored": row.scored,
            }
            for row in self.rows
        ]
        return pd.DataFrame(rows, columns=["rule", "model", *self.titles, "scored"])

    def numbers(self) -> pd.DataFrame:
        """Accuracies in per cent by (rule, bundle), nan where one was not computed."""
        index = pd.MultiIndex.from_tuples([(row.rule, row.name) for row in self.rows], names=["rule", "bundle"])
        values = [
            [np.nan if x is None or x.accuracy is None else 100 * x.accuracy for x in row.cells] for row in self.rows
        ]
        return pd.DataFrame(values, index=index, columns=self.titles)


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table of text to be printed.

    Parameters
    ----------
    title : str
    heads : tuple of str
    n_names : int
        How many leading columns are names; the others are numbers, set to the right.
    rows : tuple of tuple of str
    breaks : tuple of int
        Numbers of rows after which a line is drawn.
    """

    title: str
    heads: tuple[str, ...]
    n_names: int
    rows: tuple[tuple[str, ...], ...]
    breaks: tuple[int, ...] = ()


def sheets(document: dict[str, Any]) -> list[Sheet]:
    """A ``scores.json`` as tables: Table 1, mechanisms of every bundle, batches."""
    return [_accuracies(document), *_precisions(document), *_batches(document)]


def activity_lines(bundle: str, table: pd.DataFrame) -> dict[str, Any]:
    """A table of `cytovae.profiling.activity` as JSON types: the numbers of `described` and one entry a treatment.

    ``rests_on`` says in words what a treatment's p counts.
    """
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    rows = [row | {"rests_on": None if row["reason"] else activity.counted(row)} for row in rows]
    return {"bundle": bundle, **activity.described(table), "treatments": rows}


def activity_sheet(bundle: str, table: pd.DataFrame) -> Sheet:
    """A table of `cytovae.profiling.activity`, the most active treatments first, then what could not be tested."""
    said = activity.described(table)
    share = "" if said["percent_replicating"] is None else f", {said['percent_replicating']:.0f} % replicate"
    tested = f"{said['n_active']} of {said['n_tested']} tested treatments are active"
    title = (
        f"{bundle}: {tested} (FDR {activity.FDR:g}){share}\n"
        f"{said['n_treatments'] - said['n_tested']} of {said['n_treatments']} could not be tested"
    )
    if said["by_cells"]:
        title += f"\n{said['by_cells']} were tested by cells, their wells being too few: {activity.CAUTION}"
    ordered = table.sort_values(["p_corrected", "grit"], ascending=[True, False], kind="stable")
    counts = ("n_units", "n_controls", "n_wells", "n_control_wells")
    rows = [
        (x[schema.TREATMENT], x["unit"], *(f"{x[column]}" for column in counts), *_numbers(x))
        for x in ordered.to_dict("records")
    ]
    heads = ("treatment", "by", "units", "controls", "wells", "control wells", "mAP", "p", "p corrected", "grit", "")
    return Sheet(title, heads, 2, tuple(rows))


def _numbers(row: dict[Any, Any]) -> tuple[str, ...]:
    if row["reason"]:
        return "-", "-", "-", "-", f"not tested: {row['reason']}"
    verdict = "active" if row["active"] else "no activity shown"
    return f"{row['map']:.2f}", f"{row['p']:.3f}", f"{row['p_corrected']:.3f}", f"{row['grit']:.2f}", verdict


def sentences(document: dict[str, Any]) -> list[str]:
    """What is to be said beside the tables: what was not computed and why; how the scores compare."""
    missing = [
        f"not computed: {x['bundle']}, {column_title(x['summary'], x['whiten'])}: {x['reason']}"
        for x in document["skipped"]
    ]
    return missing + list(document["verdicts"])


def whitening(used: Sequence[dict[str, Any]]) -> str:
    """What whitening learned from, in a sentence.

    Parameters
    ----------
    used : sequence of dict
        One per plate or batch, as `cytovae.profiling.whiten.profiles` reports them; at least one.
    """
    n, r = [row["n_controls"] for row in used], [row["regularisation"] for row in used]
    scopes = {scope: sum(row["scope"] == scope for row in used) for scope in ("plate", "batch", "screen")}
    of = ", ".join(f"{count} by {scope}" for scope, count in scopes.items() if count)
    return (
        f"whitened {len(used)} groups ({of}) in {used[0]['dimension']} dimensions, learned from {min(n):,} to "
        f"{max(n):,} control {used[0]['learned_from']} each, regularisation {min(r):.3f} to {max(r):.3f}"
    )


def _accuracies(document: dict[str, Any]) -> Sheet:
    table = Table1.of(scores_of(document))
    screen = document["screen"]
    about = f"{screen['name']}: {screen['n_treatments']} treatments, {screen['n_mechanisms']} mechanisms"
    if screen["n_cells"] is not None:
        about += f", {screen['n_cells']:,} cells, median {screen['median_cells_per_treatment']:g} cells a treatment"
    rows: list[tuple[str, ...]] = []
    breaks = []
    for rule in dict.fromkeys(row.rule for row in table.rows):
        here = [row for row in table.rows if row.rule == rule]
        head = f"{rule}\n{here[0].scored}\nscored"
        rows += [
            (head if row is here[0] else "", row.name, *[x.words if x else "-" for x in row.cells]) for row in here
        ]
        seeds = [x for x in document.get("seeds", []) if x["rule"] == rule]
        if seeds:
            of_column = {(x["summary"], x["whiten"]): x for x in seeds}
            name = f"{seeds[0]['bundle']}: mean ± s.d. of {seeds[0]['n_seeds']}"
            rows.append(("", name, *[_seeds(of_column.get(column)) for column in table.columns]))
        breaks.append(len(rows) - 1)
    title = f"Accuracy in % [95 % interval over compounds]\n{about}"
    return Sheet(title, ("rule", "", *table.titles), 2, tuple(rows), tuple(breaks))


def _precisions(document: dict[str, Any]) -> list[Sheet]:
    """Mean average precision of the mechanisms, bundle by bundle, in the first column of each."""
    out = []
    first = next(((x["summary"], x["whiten"]) for x in document["scores"]), None)
    for bundle in dict.fromkeys(x["bundle"] for x in document["map"]):
        lines = [x for x in document["map"] if x["bundle"] == bundle and (x["summary"], x["whiten"]) == first]
        rules = list(dict.fromkeys(x["rule"] for x in lines))
        of = {(x["moa"], x["rule"]): x for x in lines}
        rows = []
        for moa in sorted({x["moa"] for x in lines}):
            found = [of.get((moa, rule)) for rule in rules]
            said = [
                (f"{x['map']:.3f}", f"{x['p_corrected']:.4f}", str(x["n_treatments"])) if x else ("-", "-", "0")
                for x in found
            ]
            rows.append((moa, *[word for words in said for word in words]))
        heads = [head for rule in rules for head in (f"{rule} mAP", "p corrected", "treatments")]
        title = f"{bundle}: mean average precision ({column_title(*first)})" if first else ""
        out.append(Sheet(title, ("mechanism", *heads), 1, tuple(rows)))
    return out


def _batches(document: dict[str, Any]) -> list[Sheet]:
    lines = document["batch"]
    if not lines:
        return []
    rows = []
    for bundle, summary, by in dict.fromkeys((x["bundle"], x["summary"], x["whiten"]) for x in lines):
        of = {x["by"]: x for x in lines if (x["bundle"], x["summary"], x["whiten"]) == (bundle, summary, by)}
        shares = [f"{100 * of[k][v]:.1f}" for k in ("plate", "batch") for v in ("score", "expected")]
        rows.append((bundle, column_title(summary, by), *shares, str(of["plate"]["n_wells"])))
    return [
        Sheet(
            "Is it batch or biology? Share of control wells whose nearest control well is of their own",
            ("", "column", "plate %", "expected %", "batch %", "expected %", "wells"),
            2,
            tuple(rows),
        )
    ]


def _seeds(line: dict[str, Any] | None) -> str:
    if line is None:
        return "-"
    sd = line["accuracy_sd"]
    return f"{100 * line['accuracy_mean']:.1f}" + (f" ± {100 * sd:.1f}" if sd is not None else "")


def compare(
    scores: Sequence[dict[str, Any]],
    baselines: Sequence[dict[str, Any]],
    calls: pd.DataFrame,
    baseline_calls: pd.DataFrame,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Scores beside the baselines: which of them a model is shown to beat.

    A baseline that was made in the same column (summary and whitening) is compared in that column, else its plain one.
    Only a paired interval over compounds that leaves out zero shows a difference.

    Parameters
    ----------
    scores, baselines : sequence of dict
        Lines as in ``scores.json``.
    calls : DataFrame
        Of the models, as in ``calls.parquet``.
    baseline_calls : DataFrame
        The same with ``baseline`` and ``dimension`` for ``bundle``, as ``results/_baselines/calls.parquet``.

    Returns
    -------
    tuple of (list of dict, list of str)
        The scores with ``comparisons``; one sentence per bundle and rule, which names what was compared.
    """
    own_calls = dict(iter(calls.groupby(["bundle", "summary", "whiten", "rule"], sort=False)))
    others = dict(iter(baseline_calls.groupby(["baseline", "dimension", "summary", "whiten", "rule"], sort=False)))
    names = list(dict.fromkeys(line["baseline"] for line in baselines))
    out = []
    for line in scores:
        own = own_calls[line["bundle"], line["summary"], line["whiten"], line["rule"]]
        comparisons = []
        for name in names:
            of_name = [b for b in baselines if b["baseline"] == name and b["rule"] == line["rule"]]
            same = [b for b in of_name if _is(b, line["summary"], line["whiten"])] or of_name[:1]
            if same and line["n_scored"]:
                other = others[tuple(same[0][key] for key in ("baseline", "dimension", "summary", "whiten", "rule"))]
                comparisons.append({"baseline": name, **intervals.compared(own, other)})
        out.append({**line, "comparisons": comparisons})
    return out, [_verdict(*key, out) for key in dict.fromkeys((line["bundle"], line["rule"]) for line in out)]


def _verdict(bundle: str, rule: str, lines: Sequence[dict[str, Any]]) -> str:
    """How a bundle compares under a rule, in one sentence."""
    here = [line for line in lines if line["bundle"] == bundle and line["rule"] == rule]
    if not here[0]["n_scored"]:
        return f"{bundle} under {rule}: no treatment can be scored"
    found: dict[str, list[str]] = {}
    for line in here:
        for comparison in line["comparisons"]:
            found.setdefault(comparison["baseline"], []).append(comparison["verdict"])
    if not found:
        return f"{bundle} under {rule} was compared with no baseline"
    parts = []
    for name, verdicts in found.items():
        for verdict, words in (
            (Verdict.above, "beats {}"),
            (Verdict.below, "falls below {}"),
            (Verdict.unclear, "no difference from {} shown"),
        ):
            k = verdicts.count(verdict)
            if k:
                where = "every column" if k == len(verdicts) else f"{k} of {len(verdicts)} columns"
                parts.append(f"{words.format(name)} in {where}")
    alone = "; it was compared with nothing else" if len(found) == 1 else ""
    return f"{bundle} under {rule}, {here[0]['n_scored']} treatments scored: {'; '.join(parts)}{alone}"


def found(line: dict[str, Any]) -> tuple[str, str]:
    """Whether an embedding knows the mechanisms, in one verdict.

    Parameters
    ----------
    line : dict
        Of ``scores`` in ``scores.json``, with its ``comparisons``.

    Returns
    -------
    tuple of (str, str)
        ``yes`` where it beats all it was compared with, ``partly`` where it beats chance, ``no`` where it does not,
        ``unknown`` where nothing could be scored or compared; and two sentences.
    """
    if not line["n_scored"]:
        return "unknown", "No treatment can be scored: none has a neighbour of its own mechanism that may be counted."
    right = f"{line['n_correct']} of {line['n_scored']} scored treatments"
    interval = f", 95 % interval {100 * line['ci95'][0]:.0f} to {100 * line['ci95'][1]:.0f} %" if line["ci95"] else ""
    chance = f"; {100 * line['chance']:.0f} % would be by chance" if line.get("chance") is not None else ""
    share = f"{100 * line['accuracy']:.0f} %{interval}{chance}"
    said = f"The nearest neighbour has the right mechanism for {right} ({share})."
    of = {v: [c["baseline"] for c in line.get("comparisons", []) if c["verdict"] == v] for v in Verdict}
    if not any(of.values()):
        return "unknown", f"{said} It was compared with nothing."
    parts = [
        f"{words} {_listed(of[verdict])}"
        for verdict, words in (
            (Verdict.above, "beats"),
            (Verdict.below, "falls below"),
            (Verdict.unclear, "is not shown to differ from"),
        )
        if of[verdict]
    ]
    level = "partly" if "chance" in of[Verdict.above] else "no"
    if not of[Verdict.below] and not of[Verdict.unclear]:
        level = "yes"
    return level, f"{said} That {_listed(parts)}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def over_seeds(scores: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Several trainings as one: mean and standard deviation (divisor n - 1) of their accuracies, as in Table 1.

    Parameters
    ----------
    scores : sequence of dict
        Lines of ``scores`` of bundles that differ in their seed only.
    name : str
        What to call them together.

    Returns
    -------
    list of dict
        ``bundle``, ``summary``, ``whiten``, ``rule``, ``accuracy_mean``, ``accuracy_sd`` (None for a single one),
        ``n_seeds``, ``n_scored``; only columns that every bundle has.
    """
    bundles = {line["bundle"] for line in scores}
    lines = []
    for summary, whiten, rule in dict.fromkeys((x["summary"], x["whiten"], x["rule"]) for x in scores):
        here = [x for x in scores if _is(x, summary, whiten) and x["rule"] == rule and x["accuracy"] is not None]
        if {x["bundle"] for x in here} != bundles:
            continue
        values = np.array([x["accuracy"] for x in here])
        lines.append(
            {
                "bundle": name,
                "summary": summary,
                "whiten": whiten,
                "rule": rule,
                "accuracy_mean": float(values.mean()),
                "accuracy_sd": float(values.std(ddof=1)) if len(values) > 1 else None,
                "n_seeds": len(values),
                "n_scored": here[0]["n_scored"],
            }
        )
    return lines


def _is(line: dict[str, Any], summary: str, whiten: str) -> bool:
    return bool(line["summary"] == summary and line["whiten"] == whiten)
