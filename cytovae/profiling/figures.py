"""The benchmark drawn: Table 1 as dots with intervals, and confusion matrices.

Figures are handed out, not written; matplotlib's pyplot and its process-wide state are not touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cytovae.errors import ProfileError
from cytovae.profiling.profiles import Summary
from cytovae.profiling.ranking import RULES
from cytovae.profiling.report import Column, Score, Table1, column_title
from cytovae.profiling.whiten import Whitening

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLES = {
    (Summary.mean, Whitening.none): ("#0072B2", "o"),
    (Summary.mean, Whitening.plate): ("#E69F00", "s"),
    (Summary.mean, Whitening.batch): ("#009E73", "D"),
    (Summary.mean, Whitening.tvn): ("#000000", "p"),
    (Summary.mean_sd, Whitening.none): ("#56B4E9", "^"),
    (Summary.mean_sd, Whitening.plate): ("#D55E00", "v"),
    (Summary.mean_sd, Whitening.batch): ("#CC79A7", "P"),
    (Summary.mean_sd, Whitening.tvn): ("#777777", "X"),
}
"""Okabe and Ito's colours and a grey, each with a marker of its own."""


def dots(scores: Iterable[Score], note: str = "", *, dark: bool = False) -> Figure:
    """Table 1 as a dot plot: accuracy in per cent with its 95 % interval, one panel per rule.

    Parameters
    ----------
    scores : iterable of Score
        Of models and baselines.
    note : str
        Below the plot: what the numbers are about.
    dark : bool
        Light words and lines on a clear ground, for a dark page.

    Raises
    ------
    ProfileError
        There is no score to draw.
    """
    from matplotlib.figure import Figure

    scores = list(scores)
    table = Table1.of(score for score in scores if score.accuracy is not None)
    if not table.rows:
        raise ProfileError("there is no score to draw; no treatment could be scored")
    # One line per name and column that it has, a gap between names.
    at: dict[tuple[str, Column], float] = {}
    ticks, edges, y = [], [], 0.0
    names = list(dict.fromkeys(row.name for row in table.rows))
    for name in names:
        own = [
            c for c in table.columns if any(x and x.column == c for r in table.rows if r.name == name for x in r.cells)
        ]
        at |= {(name, column): y + k for k, column in enumerate(own)}
        ticks.append(y + (len(own) - 1) / 2)
        y += len(own) + 0.5
        edges.append(y - 0.75)
    figure = Figure(figsize=(10, 1.8 + 0.24 * y), layout="constrained")
    panels = figure.subplots(1, len(RULES), sharey=True, squeeze=False)[0]
    for panel, rule in zip(panels, RULES, strict=True):
        here = [x for row in table.rows if row.rule == rule.name for x in row.cells if x is not None]
        for column in table.columns:
            colour, marker = _STYLES[column]
            drawn = [(at[x.name, column], x) for x in here if x.column == column]
            places = [100 * x.accuracy for _, x in drawn if x.accuracy is not None]
            title = column_title(*column)
            panel.plot(places, [row for row, _ in drawn], marker, color=colour, markersize=5, label=title)
            for row, x in drawn:
                if x.ci95:
                    panel.plot([100 * v for v in x.ci95], [row, row], color=colour, linewidth=1)
        counts = sorted({(x.n_scored, x.n_treatments) for x in scores if x.rule == rule.name and not x.is_baseline})
        said = ", ".join(f"{n} of {total}" for n, total in counts)
        panel.set_title(f"{rule.name} ({said} treatments scored)", fontsize=10)
        panel.set_xlabel("accuracy (%), 95 % interval over compounds")
        panel.set_xlim(-2, 102)
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
        for edge in edges[:-1]:
            panel.axhline(edge, color="0.85", linewidth=0.8)
    panels[0].set_yticks(ticks, names)
    panels[0].set_ylim(edges[-1], -0.75)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False, title=note or None)
    if dark:
        _lighten(figure)
    return figure


def _lighten(figure: Figure) -> None:
    """What is black becomes light, what is pale becomes dim, and the ground clear."""
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

    light, dim = "#E6ECEF", "#3A464E"
    figure.patch.set_alpha(0)
    for panel in figure.axes:
        panel.patch.set_alpha(0)
        panel.tick_params(color=dim)
        panel.grid(axis="x", color=dim)
        for spine in panel.spines.values():
            spine.set_color(dim)
    for text in figure.findobj(Text):
        text.set_color(light)
    for line in figure.findobj(Line2D):
        colour = str(line.get_color())
        line.set_color({"#000000": light, "0.85": dim}.get(colour, colour))


def confusions(lines: Sequence[dict[str, Any]], title: str) -> Figure:
    """Confusion matrices side by side: true mechanism by called one, in treatments.

    Parameters
    ----------
    lines : sequence of dict
        Lines of ``confusion`` in ``scores.json``.
    title : str
        Model and column.

    Raises
    ------
    ProfileError
        Nothing was scored.
    """
    from matplotlib.figure import Figure

    lines = [line for line in lines if line["true"]]
    if not lines:
        raise ProfileError("there is no confusion to draw; no treatment could be scored")
    longest = max(len(line["true"]) for line in lines)
    figure = Figure(figsize=(1 + (2.5 + 0.42 * longest) * len(lines), 2.8 + 0.38 * longest), layout="constrained")
    figure.suptitle(title, fontsize=11)
    for panel, line in zip(figure.subplots(1, len(lines), squeeze=False)[0], lines, strict=True):
        counts = np.array(line["counts"])
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if share[row, column] > 0.6 else "black"
                panel.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
        panel.set_xticks(range(len(line["predicted"])), line["predicted"], rotation=45, ha="right", fontsize=8)
        panel.set_yticks(range(len(line["true"])), line["true"], fontsize=8)
        panel.set_xlabel("mechanism of the nearest neighbour")
        panel.set_ylabel("mechanism")
        right = sum(
            int(counts[k, line["predicted"].index(moa)])
            for k, moa in enumerate(line["true"])
            if moa in line["predicted"]
        )
        panel.set_title(f"{line['rule']}: {right} of {counts.sum()} scored treatments right", fontsize=10)
    return figure
