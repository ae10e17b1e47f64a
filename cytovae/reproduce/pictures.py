"""The paper's figures from our models: reconstructions, paths, the treatment of two appearances, curves, Table 1."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.explore import targets
from cytovae.explore.paths import Spacing
from cytovae.explore.render import composite
from cytovae.explore.render.drawing import Drawing
from cytovae.explore.study import Form, Material, Request, content, draw
from cytovae.patches import PatchStore, normalise
from cytovae.reproduce import paper
from cytovae.screen import Screen, whole_file

N_CELLS = 4
"""Cells of Figure 2, as many as the paper shows."""
N_RANDOM = 12
"""Real cells at the right of Figure 4."""
_EDGE, _GAP, _HEAD = 102, 6, 22
_COLOURS = {"ae": "#E69F00", "vae": "#0072B2", "vae+": "#009E73"}

Images = npt.NDArray[np.float32]


def title(model: str) -> str:
    """A model as the paper writes it."""
    return model.upper()


def _grid(columns: Sequence[tuple[str, Images]], labels: Sequence[str] = ()) -> Drawing:
    """Columns of cells with a head over each and a label before each row."""
    drawing = Drawing()
    left = 8 + max((7 * len(label) + 8 for label in labels), default=0)
    n = max(len(images) for _, images in columns)
    for x, (head, images) in enumerate(columns):
        at = left + x * (_EDGE + _GAP)
        drawing.text(at + _EDGE / 2, 4, head, 12, centred=True)
        shown = composite(images, np.tile([0.0, 1.0], (images.shape[-1], 1)))
        for y, pixels in enumerate(shown):
            drawing.image(at, _HEAD + y * (_EDGE + _GAP), _EDGE, _EDGE, pixels)
    for y, label in enumerate(labels):
        drawing.text(4, _HEAD + y * (_EDGE + _GAP) + _EDGE / 2 - 8, label, 12)
    drawing.width = max(drawing.width, left + len(columns) * (_EDGE + _GAP))
    drawing.height = _HEAD + n * (_EDGE + _GAP)
    return drawing


def write(folder: Path, name: str, made: bytes) -> None:
    """A file, whole or not at all."""
    with whole_file(folder / name) as beside:
        beside.write_bytes(made)


def keep(folder: Path, name: str, drawing: Drawing, record: dict[str, Any]) -> None:
    """Write a drawing as PNG and SVG."""
    write(folder, f"{name}.png", drawing.png(record))
    write(folder, f"{name}.svg", drawing.svg(record))


def keep_figure(folder: Path, name: str, figure: Any, record: dict[str, Any]) -> None:
    """Write a figure as PNG and SVG, the same bytes every time."""
    import matplotlib as mpl

    about = json.dumps(record)
    with mpl.rc_context({"svg.hashsalt": "cytovae"}):
        for ending, metadata in (("png", {"cytovae": about}), ("svg", {"Date": None, "Description": about})):
            out = io.BytesIO()
            figure.savefig(out, format=ending, dpi=150, metadata=metadata)
            write(folder, f"{name}.{ending}", out.getvalue())


def redrawn(patches: npt.NDArray[np.uint16], models: dict[str, Any], first: str) -> list[tuple[str, Images]]:
    """A column of cells as they are, and one for each model that draws them."""
    drawn = [(title(model), bundle.decode(bundle.encode(patches))) for model, bundle in models.items()]
    return [(first, normalise(patches)), *drawn]


def reconstructions(screen: Screen, models: dict[str, Any]) -> tuple[Drawing, str]:
    """Figure 2: cells drawn at random of those not trained on, beside their reconstructions; and a caption.

    Parameters
    ----------
    screen : Screen
    models : dict of str to Bundle
        By kind.
    """
    from cytovae.errors import SelectionError
    from cytovae.learn.reconstruct import Split, split_rows

    cells, first = screen.cells(), next(iter(models.values()))
    try:
        rows, of = split_rows(screen, cells, first, Split.TEST), "kept out of every training"
    except SelectionError:
        rows, of = split_rows(screen, cells, first, Split.ALL), "of the screen, trained on: no cell was kept out"
    some = np.sort(np.random.default_rng(0).choice(rows, min(N_CELLS, len(rows)), replace=False))
    columns = redrawn(PatchStore(screen.patches_path).read(some), models, "Original")
    said = ", ".join(cells[schema.CELL_ID].iloc[some])
    return _grid(columns), f"{len(some)} cells drawn at random (seed 0) of the {len(rows):,} {of}: {said}."


def chosen(cells: pd.DataFrame, treatment: str, mechanism: str, control: str) -> tuple[str, str] | None:
    """The paper's treatment where the screen has it, else the one of its mechanism with the most cells; and a sentence.

    None where the screen has neither.
    """
    good = cells[schema.not_blank(cells) & (cells[schema.COMPOUND] != control)]
    if (good[schema.TREATMENT] == treatment).any():
        return treatment, ""
    counts = good.loc[good[schema.MOA] == mechanism, schema.TREATMENT].value_counts()
    if counts.empty:
        return None
    best = min(counts.index[counts == counts.max()])
    said = f"The screen has no {schema.words(treatment)}; {schema.words(str(best))} has the most cells of its mechanism"
    return str(best), f"{said} ({mechanism})."


def paths(folder: Path, material: Material) -> list[dict[str, Any]]:
    """Figure 3: the paper's paths, with equal numbers of features a step as there; what is said of each."""
    found: list[dict[str, Any]] = []
    for number, (treatment, mechanism) in enumerate(paper.PATHS, start=1):
        choice = chosen(material.cells, treatment, mechanism, material.control)
        if choice is None:
            said = [f"Not drawn: the screen has neither {schema.words(treatment)} nor {mechanism}."]
            found.append({"file": None, "said": said, "notes": []})
            continue
        drawn = draw(material, Request(choice[0], spacing=Spacing.COUNT))
        name = f"figure3-{number}"
        for form in (Form.PNG, Form.SVG, Form.CSV):
            write(folder, f"{name}.{form}", content(drawn, form))
        said = [sentence for sentence in (choice[1], drawn.verdict.sentence) if sentence]
        about = {"treatment": choice[0], "mechanism": mechanism, "said": said, "notes": list(drawn.notes)}
        found.append({"file": name, **about})
    return found


def two_appearances(screen: Screen, models: dict[str, Any], calls: pd.DataFrame) -> tuple[Drawing | None, list[str]]:
    """Figure 4: a control and a treated cell, each as it is and as the models draw it, and real cells at random.

    Parameters
    ----------
    screen : Screen
        Embedded with the models.
    models : dict of str to Bundle
        By kind.
    calls : DataFrame
        Of all trainings, with ``model`` for the kind.
    """
    control = screen.record.control
    choice = chosen(screen.cells(), *paper.TWO_APPEARANCES, control)
    if choice is None:
        named, mechanism = paper.TWO_APPEARANCES
        return None, [f"Not drawn: the screen has neither {schema.words(named)} nor {mechanism}."]
    treatment, substitute = choice
    name = schema.words(treatment)
    store = PatchStore(screen.patches_path)
    cells, embeddings = screen.embeddings(next(reversed(models.values())).name)
    end = targets.treated(cells, embeddings, treatment)
    near, where = targets.controls_near(cells, control, end.row)
    start = targets.typical(cells, embeddings, near, f"the {control} cells {where}")
    rows = targets.rows_of(cells, treatment)
    others = np.sort(np.random.default_rng(0).choice(rows, min(N_RANDOM, len(rows)), replace=False))
    columns = redrawn(store.read(np.array([start.row, end.row])), models, "Real cell")
    random = normalise(store.read(others))
    columns.append(("", np.ones_like(columns[0][1])))  # a gap: what follows is of the treatment alone
    columns += [("" if x else name, random[x * 2 : x * 2 + 2]) for x in range(-(-len(others) // 2))]
    said = [substitute] if substitute else []
    said.append(f"Control {start.cell_id} ({start.how}); {name} {end.cell_id} ({end.how}).")
    some = f"{len(others)} of the {len(rows)} cells, drawn at random (seed 0)"
    said.append(f"Right: {name}, {some if len(others) < len(rows) else f'all {len(rows)} cells'}.")
    here = calls[(calls[schema.TREATMENT] == treatment) & (calls["rule"] == "NSC") & (calls["summary"] == "mean")]
    here = here[(here["whiten"] == "none") & here["predicted"].notna()]
    for model, its in here.groupby("model", sort=False):
        counts = its["predicted"].value_counts()
        words = ", ".join(f"{moa} in {n} of {len(its)} trainings" for moa, n in counts.items())
        words = str(counts.index[0]) if len(its) == 1 else words
        said.append(f"{title(str(model))} calls {name} (nearest other compound, mean profiles): {words}.")
    return _grid(columns, ["Control", name]), said


def curves(logs: pd.DataFrame) -> Any:
    """Every loss term over the iterations, a line per training.

    Parameters
    ----------
    logs : DataFrame
        ``model``, ``recipe``, ``seed``, ``iteration`` and the terms.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    terms = [c for c in logs.columns if c not in ("model", "recipe", "seed", "iteration")]
    rows = -(-len(terms) // 3)
    figure = Figure(figsize=(11, 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, 3, squeeze=False).ravel()
    for panel, term in zip(panels, terms, strict=False):
        for (model, recipe, seed), own in logs.dropna(subset=[term]).groupby(["model", "recipe", "seed"], sort=False):
            smooth = own[term].rolling(max(1, len(own) // 200), min_periods=1).mean()
            look = {"marker": "o" if len(own) < 4 else None, "color": _COLOURS[str(model)], "linewidth": 0.9}
            label = f"{title(str(model))} ({recipe})" if seed == 0 else None
            panel.plot(own["iteration"], smooth, "-" if recipe == "paper" else "--", markersize=3, label=label, **look)
        panel.set_title(term, fontsize=9)
        panel.tick_params(which="both", labelsize=7)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.grid(color="0.92")
        if (logs[term].dropna() > 0).all():
            panel.set_yscale("log")
    for panel in panels[len(terms) :]:
        panel.set_visible(False)
    panels[0].legend(fontsize=7, frameon=False)
    figure.supxlabel("iteration", fontsize=8)
    return figure
