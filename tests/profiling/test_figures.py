"""The figures say what the numbers say."""

from __future__ import annotations

import io
import sys

import pytest

from cytovae.errors import ProfileError
from cytovae.profiling import figures
from cytovae.profiling.report import Score


def line(accuracy, rule, whiten="none", **name):
    return {
        **name,
        "summary": "mean",
        "whiten": whiten,
        "rule": rule,
        "accuracy": accuracy,
        "ci95": [accuracy - 0.1, accuracy + 0.1],
        "n_scored": 92,
        "n_treatments": 103,
    }


def test_every_score_is_a_dot_with_its_interval():
    scores = [line(a, r, w, bundle="vae") for r in ("NSC", "NSCB") for a, w in ((0.5, "none"), (0.6, "plate"))]
    baselines = [line(0.3, r, baseline="chance") | {"ci95": None} for r in ("NSC", "NSCB")]
    figure = figures.dots([Score.of(x) for x in [*scores, *baselines]], "a sample")
    for panel, rule in zip(figure.axes, ("NSC", "NSCB"), strict=True):
        assert panel.get_title() == f"{rule} (92 of 103 treatments scored)"
        dots = [
            tuple(x) for drawn in panel.lines if drawn.get_marker() not in ("None", None) for x in [drawn.get_xdata()]
        ]
        assert sorted(x for xs in dots for x in xs) == pytest.approx([30, 50, 60])
        spans = [list(d.get_xdata()) for d in panel.lines if d.get_marker() == "None" and len(d.get_xdata()) == 2]
        assert [40.0, 60.0] in [[round(v, 6) for v in s] for s in spans]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["vae", "chance"]


def test_a_confusion_shows_its_counts():
    counts = {"rule": "NSC", "true": ["x", "y"], "predicted": ["x", "y", "none"], "counts": [[3, 1, 1], [0, 2, 0]]}
    figure = figures.confusions([counts], "vae")
    (panel,) = figure.axes
    assert sorted(t.get_text() for t in panel.texts) == ["1", "1", "2", "3"]
    assert panel.get_title() == "NSC: 5 of 7 scored treatments right"


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_figures_save_without_touching_process_wide_state(kind):
    sys.modules.pop("matplotlib.pyplot", None)
    out = io.BytesIO()
    figures.dots([Score.of(line(0.5, r, bundle="vae")) for r in ("NSC", "NSCB")]).savefig(out, format=kind)
    assert out.getvalue()[:5] in (b"<?xml", b"\x89PNG\r")
    assert "matplotlib.pyplot" not in sys.modules


def test_a_rule_that_scores_nothing_says_so_in_its_panel():
    none = line(0.5, "NSCB", bundle="vae") | {"accuracy": None, "ci95": None, "n_scored": 0}
    figure = figures.dots([Score.of(line(0.5, "NSC", bundle="vae")), Score.of(none)])
    assert figure.axes[1].get_title() == "NSCB (0 of 103 treatments scored)"


def test_nothing_to_draw_is_said():
    with pytest.raises(ProfileError, match="no score to draw"):
        figures.dots([Score.of(line(0, "NSC", bundle="m") | {"accuracy": None, "ci95": None})])
    with pytest.raises(ProfileError, match="no confusion to draw"):
        figures.confusions([{"true": []}], "m")


def test_on_a_dark_page_nothing_is_black_and_the_ground_is_clear():
    scores = [Score.of(line(0.5, r, w, bundle="vae")) for r in ("NSC", "NSCB") for w in ("none", "tvn")]
    figure = figures.dots(scores, dark=True)
    assert all(ground.patch.get_alpha() == 0 for ground in (figure, *figure.axes))
    drawn = {str(mark.get_color()) for panel in figure.axes for mark in (*panel.lines, panel.title)}
    assert drawn <= {"#E6ECEF", "#0072B2", "#3A464E"}
    assert "#000000" in {x.get_color() for panel in figures.dots(scores).axes for x in panel.lines}
