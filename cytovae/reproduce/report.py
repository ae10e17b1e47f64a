"""The report, one page: our Table 1 beside the paper's, figures, curves, audit, departures, provenance, hours."""

from __future__ import annotations

import base64
import html
import json
import platform
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytovae import __version__, schema
from cytovae.errors import ScreenError
from cytovae.profiling import report as tables
from cytovae.reproduce import paper, pictures
from cytovae.screen import digest_file, foreign, read_table, whole_folder, write_json

if TYPE_CHECKING:
    from cytovae.reproduce.steps import Options, Project, Training
    from cytovae.schema import Progress

PAGE, RESULTS = "report.html", "results.json"


def up_to_date(folder: Path, record: dict[str, Any]) -> bool:
    """Whether the report is there, whole, and was made of just this."""
    path = folder / RESULTS
    if not path.exists():
        return False
    said = json.loads(path.read_text())
    return said["provenance"] == json.loads(json.dumps(record)) and all(
        (folder / name).exists() and digest_file(folder / name) == digest for name, digest in said["files"].items()
    )


def write(project: Project, record: dict[str, Any], progress: Progress) -> bool:
    """Make the report, with its figures and tables beside it; False where it is up to date.

    ``results.json`` holds every number and the digests of the other files. Only ``hours.csv`` and the page's section of
    hours change with the time that was spent.

    Raises
    ------
    ScreenError
        Other files are where the report is to lie.
    """
    folder = project.report
    if up_to_date(folder, record):
        return False
    if said := foreign(folder, "report", [RESULTS]):
        raise ScreenError(said)
    with whole_folder(folder) as fresh:  # nothing of an older report stays beside the new one
        _fill(fresh, project, record, progress)
    return True


def _fill(folder: Path, project: Project, record: dict[str, Any], progress: Progress) -> None:
    """Write the report's files."""
    from cytovae.explore.study import Material
    from cytovae.learn import audit
    from cytovae.patches import PatchStore
    from cytovae.reproduce import steps

    screen, every = project.screen(), project.options.trainings()
    documents = {t: json.loads((screen.results_path(t.name) / "scores.json").read_text()) for t in every}
    table = table_1(documents)
    published = _published(project)
    progress(1, 6)
    first = every[0].recipe
    models = {t.model: project.load(t) for t in every if t.seed == 0 and t.recipe == first}
    figure2, of_figure2 = pictures.reconstructions(screen, models)
    pictures.keep(folder, "figure2", figure2, record)
    progress(2, 6)
    audited = project.audited()
    material = Material.of(screen, models[audited.model], PatchStore(screen.patches_path).read)
    paths = pictures.paths(folder, material)
    progress(3, 6)
    calls = pd.concat([read_table(screen.results_path(t.name) / "calls.parquet").assign(model=t.model) for t in every])
    figure4, of_figure4 = pictures.two_appearances(screen, models, calls)
    if figure4 is not None:
        pictures.keep(folder, "figure4", figure4, record)
    logs = _logs(project, every)
    pictures.keep_figure(folder, "curves", pictures.curves(logs), record)
    progress(4, 6)
    checks = json.loads((screen.results_path(audited.name) / audit.FILE).read_text())
    departures, hours = paper.departures(), steps.hours(project.folder)
    written = {"table1": table, "curves": logs, "audit": pd.DataFrame(checks["checks"]), "departures": departures}
    for name, rows in {**written, "hours": hours}.items():
        pictures.write(folder, f"{name}.csv", rows.to_csv(index=False).encode())
    about = _about(screen, documents[every[0]]["screen"])
    caveats = caveats_of(project.options, about, table)
    made_of = html.escape(json.dumps(record, indent=1, sort_keys=True))
    page = [
        _head(about, caveats),
        _table_1(table, documents, audited, published),
        _section(
            "Figure 2: reconstructions",
            _picture(folder, "figure2.png", "Cells and their reconstructions"),
            _sentences([of_figure2]),
        ),
        _paths(folder, paths, models[audited.model].name),
        _section(
            "Figure 4: one treatment, two appearances",
            _picture(folder, "figure4.png", "Two cells, and others") if figure4 is not None else "",
            _sentences(of_figure4),
        ),
        _quiz(project, audited),
        _section("Training curves", _picture(folder, "curves.svg", "Loss terms"), _sentences([_CURVES])),
        _audit(checks, audited.name),
        _section("Where this differs from the paper", _table(departures)),
        _section("Provenance", f"<details><summary>as JSON</summary><pre>{made_of}</pre></details>"),
        _hours(hours, project),
    ]
    frame = Path(__file__).parent / "page.html"
    pictures.write(folder, PAGE, frame.read_text().replace("@@BODY@@", "\n".join(page)).encode())
    progress(5, 6)
    files = {path.name: digest_file(path) for path in sorted(folder.iterdir())}
    numbers = {
        "screen": about,
        "caveats": caveats,
        "table1": json.loads(table.to_json(orient="records", double_precision=15)),
        "published": published,
        "paths": paths,
        "audit": checks,
    }
    write_json(folder / RESULTS, {**numbers, "files": files, "provenance": record})
    progress(6, 6)


def table_1(documents: dict[Training, dict[str, Any]]) -> pd.DataFrame:
    """Our Table 1 beside the paper's, in %: a row per rule, model, recipe and column.

    Parameters
    ----------
    documents : dict of Training to dict
        Each training's ``scores.json``.

    Returns
    -------
    DataFrame
        ``rule``, ``model``, ``recipe``, ``column``; ``mean``, ``sd`` and ``n_seeds`` of ours; ``n_scored`` of
        ``n_treatments``; ``paper_mean``, ``paper_sd``; ``difference`` with its 95 % interval ``low``, ``high`` over
        trainings (not a number for a single seed).
    """
    rows = []
    for (rule, model), theirs in paper.TABLE_1.items():
        for recipe in dict.fromkeys(t.recipe for t in documents):
            own = [x for t, d in documents.items() if (t.model, t.recipe) == (model, recipe) for x in d["scores"]]
            lines = tables.over_seeds([x for x in own if x["rule"] == rule], model)
            by_column = {(x["summary"], x["whiten"]): x for x in lines}
            for column, figure in zip(paper.COLUMNS, theirs, strict=True):
                if (line := by_column.get(column)) is None:
                    continue
                mean, sd = 100 * line["accuracy_mean"], line["accuracy_sd"]
                ours = mean, None if sd is None else 100 * sd, line["n_seeds"]
                low, high = paper.difference(ours, figure) or (np.nan, np.nan)
                values = (rule, model, str(recipe), tables.column_title(*column), *ours, line["n_scored"],
                          own[0]["n_treatments"], *figure, mean - figure[0], low, high)  # fmt: skip
                rows.append(dict(zip(_TABLE_1, values, strict=True)))
    return pd.DataFrame(rows, columns=_TABLE_1).astype({"sd": float})


_TABLE_1 = [
    "rule", "model", "recipe", "column", "mean", "sd", "n_seeds", "n_scored", "n_treatments", "paper_mean", "paper_sd",
    "difference", "low", "high",
]  # fmt: skip


def caveats_of(options: Options, about: dict[str, Any], table: pd.DataFrame) -> list[str]:
    """Why the numbers are not the paper's experiment repeated; empty where they are, but for the departures."""
    said = ["The cells are simulated; nothing here is about real cells."] * about["simulated"]
    if about["crops"]:
        said.append(
            f"The cells were given cut already: {about['n_cells']:,} of them, {about['fewest']} to {about['most']:,} "
            f"a treatment, median {about['median_cells']:g}, where the paper has about a million over {paper.PLATES} "
            "plates. What they were drawn from, and how, is not known here: accuracies are statements about this "
            "sample."
        )
    elif about["n_plates"] < paper.PLATES:
        said.append(f"{about['n_plates']} of the collection's {paper.PLATES} plates were used.")
    if (n := about["n_treatments"]) != paper.TREATMENTS:
        said.append(f"{n} treatments of known mechanism are there; the paper has {paper.TREATMENTS}.")
    for rule, theirs in paper.SCORED.items():
        scored = sorted({int(n) for n in table.loc[table["rule"] == rule, "n_scored"]}) if len(table) else [0]
        if scored != [theirs]:
            said.append(f"{' or '.join(map(str, scored))} treatments were scored under {rule}; in the paper {theirs}.")
    if (options.iterations, options.batch_size) != (paper.ITERATIONS, paper.BATCH_SIZE):
        said.append(
            f"Each model was trained for {options.iterations:,} iterations of {options.batch_size} cells with T = "
            f"{options.period:,}; the paper, for {paper.ITERATIONS:,} of {paper.BATCH_SIZE} with T = {paper.PERIOD:,}."
        )
    if (n := options.seeds) != paper.SEEDS:
        said.append(f"Each model was trained from {n} seed{'s' if n > 1 else ''}, not {paper.SEEDS}.")
    if n := about["n_refused"]:
        said.append(f"{n} fields or crops were refused; 'cytovae info' on the screen says which and why.")
    return said


def _about(screen: Any, described: dict[str, Any]) -> dict[str, Any]:
    cells, fields = screen.cells(), screen.fields()
    sizes = cells.loc[schema.not_blank(cells) & (cells[schema.COMPOUND] != screen.record.control), schema.TREATMENT]
    sizes = sizes.value_counts()
    return {
        "fewest": int(sizes.min()),
        "most": int(sizes.max()),
        "source": screen.record.source,
        "licence": screen.record.licence,
        "simulated": screen.record.source.startswith("simulated"),
        "crops": screen.record.source.startswith("cells cut already"),
        "n_cells": len(cells),
        "n_blank": int((~schema.not_blank(cells)).sum()),
        "n_wells": len(cells.drop_duplicates([schema.PLATE, schema.WELL])),
        "n_plates": int(cells[schema.PLATE].nunique()),
        "n_treatments": described["n_treatments"],
        "n_mechanisms": described["n_mechanisms"],
        "median_cells": described["median_cells_per_treatment"],
        "n_refused": int((fields[schema.STATUS] == "refused").sum()),
    }


def _published(project: Project) -> dict[str, Any] | None:
    """Published per-well profiles, scored here: the column Mean."""
    from cytovae.errors import ProfileError
    from cytovae.ingest import fetch
    from cytovae.reproduce import steps

    folder = project.source.published
    if folder is None:
        return None
    profiles = sorted(folder.glob("*per_well*"))
    if len(profiles) != 1:
        raise ProfileError(
            f"{folder} should hold one table of per-well profiles, with 'per_well' in its name, beside "
            f"{fetch.IMAGE_TABLE} and {fetch.MOA_TABLE}; it holds {len(profiles)}"
        )
    scoring = steps.scoring()
    scoring = type(scoring)(scoring.columns[:1])
    found = scoring.of_tables(profiles[0], folder / fetch.IMAGE_TABLE, folder / fetch.MOA_TABLE, "DMSO")
    keys = ("rule", "summary", "whiten", "accuracy", "ci95", "n_correct", "n_scored", "n_treatments")
    return {
        "file": profiles[0].name,
        "n_wells": found["screen"]["n_wells"],
        "n_features": found["n_features_used"],
        "scores": [{key: line[key] for key in keys} for line in found["scores"]],
    }


def _logs(project: Project, every: Iterable[Training]) -> pd.DataFrame:
    """The terms of all trainings over their iterations."""
    lines = []
    for t in every:
        path = project.bundle_path(t) / "training.jsonl"
        head = {"model": t.model, "recipe": str(t.recipe), "seed": t.seed}
        lines += [{**head, **json.loads(text)} for text in path.read_text().splitlines()]
    return pd.DataFrame(lines).drop(columns=["it_per_s", "eta_s"])


_CURVES = (
    "Every loss term (unweighted) as the training logs it, smoothed; a line per training, dashed for the recipe best. "
    "The similarity terms begin one after the other, T iterations apart. The numbers are in curves.csv."
)


def _section(title: str, *parts: str, mark: str = "") -> str:
    return f"<section{mark}><h2>{html.escape(title)}</h2>{''.join(parts)}</section>"


def _sentences(said: Iterable[str]) -> str:
    return "".join(f"<p>{html.escape(text)}</p>" for text in said)


def _picture(folder: Path, name: str, alt: str) -> str:
    kind = "svg+xml" if name.endswith(".svg") else "png"
    data = base64.b64encode((folder / name).read_bytes()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/{kind};base64,{data}">'


def _table(rows: Any, escape: bool = True, kind: str = "") -> str:
    """A table; what stands between backticks is code."""
    with pd.option_context("display.max_colwidth", None):  # else long cells are cut
        made = pd.DataFrame(rows).to_html(index=False, border=0, escape=escape, na_rep="", classes=kind, justify="left")
    made = re.sub("`([^`<]+)`", r"<code>\1</code>", made)
    return f'<div class="wide">{made}</div>'


def _head(about: dict[str, Any], caveats: list[str]) -> str:
    blank = f" ({about['n_blank']:,} blank, left out)" if about["n_blank"] else ""
    said = (
        f"{about['n_cells']:,} cells{blank} of {about['n_wells']:,} wells on {about['n_plates']} plates: "
        f"{about['n_treatments']} treatments of {about['n_mechanisms']} mechanisms, and controls; median "
        f"{about['median_cells']:g} cells a treatment. Source: {about['source']}"
        f"{'; ' + about['licence'] if about['licence'] else ''}."
    )
    if caveats:
        items = "".join(f"<li>{html.escape(text)}</li>" for text in caveats)
        box = f'<div class="box warn"><b>This is not the paper\'s experiment repeated.</b><ul>{items}</ul></div>'
    else:
        box = '<div class="box">Data and trainings are as large as the paper\'s; what differs is listed below.</div>'
    return (
        f"<header><h1>The VAE+ paper, run again</h1><p>{html.escape(paper.CITATION)}, with cytovae {__version__}.</p>"
        f"{box}<p>{html.escape(said)}</p></header>"
    )


def _table_1(
    table: pd.DataFrame,
    documents: dict[Training, dict[str, Any]],
    audited: Training,
    published: dict[str, Any] | None,
) -> str:
    title = "Table 1: mechanism of action"
    if table.empty:
        return _section(title, "<p>No column could be scored.</p>")
    heads = [tables.column_title(*column) for column in paper.COLUMNS]
    parts = []
    for rule, how in _RULES.items():
        rows: list[dict[str, str]] = []
        for (model, recipe), own in table[table["rule"] == rule].groupby(["model", "recipe"], sort=False):
            cells = dict.fromkeys(heads, "not computed") | {str(row.column): _ours(row) for row in own.itertuples()}
            counts = own[["n_scored", "n_treatments"]].drop_duplicates().to_numpy()
            scored = ", ".join(f"{n} of {of}" for n, of in counts)
            name = f"<b>{pictures.title(str(model))}</b><br><small>recipe {recipe}</small>"
            rows.append({"": name, **cells, "scored": scored})
        baselines = next(iter(documents.values()))["baselines"]
        others = [(x, f"{x['baseline']}<br><small>baseline</small>") for x in baselines]
        if published:
            name = html.escape(published["file"].split("_")[0].capitalize())
            name += f"<br><small>{published['n_wells']} wells</small>"
            others += [(x, name) for x in published["scores"]]
        for line, name in others:
            score = tables.Score.of({"baseline": "", **line})
            if (score.rule, score.column) == (rule, paper.COLUMNS[0]):
                scored = f"{score.n_scored} of {score.n_treatments}"
                rows.append({"": name, heads[0]: score.words, "scored": scored})
        for (of_rule, name), figures_of in paper.OTHERS.items():
            if of_rule == rule:
                shown = [f"<small>paper {x:.1f}</small>" if x else "" for x in figures_of]
                rows.append({"": name, **dict(zip(heads, shown, strict=True))})
        parts += [f"<h3>{rule}: {how}</h3>", _table(rows, escape=False, kind="one")]
    n = int(table["n_seeds"].max())
    words = [
        f"Accuracy in %, mean ± s.d. of {n} trainings from different seeds; under it the paper's figure (three "
        "trainings) and the difference, ours minus the paper's, with its 95 % interval (Welch's, over trainings). The "
        "interval says how far seeds scatter; it says nothing of other cells or compounds."
        if n > 1
        else "Accuracy in % of one training; under it the paper's figure (mean ± s.d. of three trainings) and the "
        "difference, ours minus the paper's. One training has no spread, so no difference has an interval."
    ]
    document = documents[audited]
    words += [f"{said}." for said in dict.fromkeys(document["verdicts"])]
    for x in (x for d in documents.values() for x in d["skipped"]):
        reason = x["reason"].partition("; use --")[0]  # scoring here has no options
        words.append(f"Not computed: {x['bundle']}, {tables.column_title(x['summary'], x['whiten'])}: {reason}.")
    for summary, whiten in paper.COLUMNS:
        used = [x for x in document["whitening"] if (x["summary"], x["whiten"]) == (summary, whiten)]
        if used:
            words.append(f"{tables.column_title(summary, whiten)}, {document['model']}: {tables.whitening(used)}.")
    if published:
        words.append(f"{published['file']}: published profiles of {published['n_wells']} wells, scored here.")
    return _section(title, *parts, _sentences(words))


_RULES = {"NSC": "the nearest treatment of another compound", "NSCB": "of another compound and another batch"}


def _ours(row: Any) -> str:
    sd = "" if np.isnan(row.sd) else f" ± {row.sd:.1f}"
    interval = "" if np.isnan(row.low) else f" [{row.low:+.1f}, {row.high:+.1f}]"
    return (
        f"<b>{row.mean:.1f}</b>{sd}<br><small>paper {row.paper_mean:.1f} ± {row.paper_sd:.1f}<br>"
        f"{row.difference:+.1f}{interval}</small>"
    )


def _paths(folder: Path, paths: list[dict[str, Any]], model: str) -> str:
    said = f"Paths of {model} from a control cell to the cell closest to the mean of the treatment. The features that "
    parts = [_sentences([said + "differ most are moved first, the same number in every step, as in the paper."])]
    for path in paths:
        if path["file"]:
            parts.append(f"<h3>{html.escape(schema.words(path['treatment']))} ({html.escape(path['mechanism'])})</h3>")
            parts.append(_picture(folder, f"{path['file']}.png", f"Path to {schema.words(path['treatment'])}"))
        parts.append(_sentences(path["said"]))
        if path["notes"]:
            parts.append(f"<details><summary>how its ends were chosen</summary>{_sentences(path['notes'])}</details>")
    return _section("Figure 3: paths from a control to a treated cell", *parts)


def _quiz(project: Project, training: Training) -> str:
    from cytovae.quiz.score import REFERENCES

    command = shlex.join(["cytovae", "app", str(project.screen_path), "--models", str(project.folder / "models")])
    theirs = "; ".join(f"{100 * r.share:.1f} % ({r.source})" for r in REFERENCES)
    asked = (
        "It takes people. Start the app and open the page Quiz; choose the question 'as decoded', 50 real and 50 "
        f"reconstructed cells and the model {training.name}:"
    )
    after = f"Share of reconstructions called real: {theirs}. The page shows ours beside them when raters are done."
    return _section("The blinded test", _sentences([asked]), f"<pre>{html.escape(command)}</pre>", _sentences([after]))


_TRIED = {
    "flag_false_alarms": "real cells marked as unlike any",
    "flag_power_chimeras": "mixtures of cells marked as unlike any (at least)",
    "plausible_false_alarms": "decoded real cells called unlike a cell",
    "nearest_hub_share": "answers that 1 % of the cells give as nearest cell (at most)",
    "nearest_same_moa": "nearest cells of the same mechanism (more than by chance)",
    "null_path_false_alarms": "paths to a control well said to differ",
    "population_interval_coverage": "intervals of populations that hold the truth",
    "subpopulation_false_splits": "single groups shown as several",
    "accuracy_interval_coverage": "intervals of accuracies that hold the truth",
    "map_false_positives": "shuffled mechanisms found by mAP",
    "activity_false_positives": "controls that pose as treatments found active",
}


def _audit(document: dict[str, Any], model: str) -> str:
    heads = ["what was tried", "claimed", "here", "95 % interval", "n", ""]
    rows = [
        [": ".join(filter(None, [_TRIED.get(x["name"], x["name"]), x.get("tried")])),
         f"{x['nominal']:.3f}", f"{x['observed']:.3f}",
         "{:.3f} to {:.3f}".format(*x["ci95"]), f"{x['n']:,}", "as claimed" if x["ok"] else "NOT AS CLAIMED"]
        for x in document["checks"]
    ]  # fmt: skip
    said = [f"Not tried: {_TRIED.get(row['name'], row['name'])}: {row['reason']}." for row in document["skipped"]]
    head = [f"The error rates of what stands beside paths and profiles, measured on this screen with {model}."]
    made = _table(pd.DataFrame(rows, columns=heads)) if rows else ""
    return _section("Can the evidence be trusted here?", _sentences(head), made, _sentences(said))


def _hours(hours: pd.DataFrame, project: Project) -> str:
    shown = hours.assign(hours=[f"{h:.2f}" for h in hours["hours"]])
    machine = f"{platform.system()} on {platform.machine()}, device {project.device}"
    said = f"Wall-clock time of all runs, killed ones too: {hours['hours'].sum():.2f} h on {machine}."
    return _section("Hours spent", _table(shown), _sentences([said]), mark=' id="hours"')
