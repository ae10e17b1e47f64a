"""What is known of the phantom comes out along the paths of the shipped model, and what is not there does not.

The phantom's actin disruptors take actin away and leave the nucleus as it is; its Aurora inhibitors let the nucleus
grow. A screen that the model has not seen is drawn here. Changes are in standard deviations of real control cells
(s.d.); with `PAIRS` pairs of random cells the standard error of a change is about 0.3 s.d.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from cytovae.config import ScreenRecord
from cytovae.explore import morphology, paths, study, targets
from cytovae.explore.evidence import population_gap_closed
from cytovae.ingest import assembly, layouts
from cytovae.learn import bundle
from cytovae.patches import PatchStore
from cytovae.phantom.screen import PhantomOptions, write
from cytovae.screen import Screen

PAIRS = 24
ACTIN, NUCLEUS = "actin_mean", "nucleus_area_px2"
DISRUPTOR, AURORA = "phantom-actin-A@10", "phantom-aurora-A@10"
UNCHANGED_SD = 0.65
"""A mean change of random pairs smaller than about two standard errors is none."""


class Phantom(NamedTuple):
    cells: pd.DataFrame
    z: np.ndarray
    model: bundle.Bundle
    control: pd.Series
    sd: pd.Series
    images: np.ndarray


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Phantom:
    folder = bundle.shipped_dir() / "phantom-vaeplus"
    if not (folder / bundle.CONFIG).exists():
        pytest.skip(f"the shipped model is not at {folder}")
    model = bundle.load(folder)
    root = tmp_path_factory.mktemp("phantom")
    write(root / "raw", PhantomOptions(treatments=2, wells=3, weeks=1, controls=3, cells=40, seed=90210), 1)
    layout = layouts.bbbc021.read(root / "raw", None, None)
    assembly.ingest_fields(layout, root / "raw", root / "screen", ScreenRecord("phantom", layout.channels))
    screen = Screen.open(root / "screen")
    cells = screen.cells()
    images = PatchStore(screen.patches_path).read(np.arange(len(cells)))
    some = targets.controls(cells, "DMSO")[::4]
    control = morphology.measure(images[some], model.channels)
    return Phantom(cells, model.encode(images), model, control.mean(), control.std(), images)


class Change(NamedTuple):
    mean: pd.Series
    low: pd.Series
    high: pd.Series
    expected: pd.Series
    gap_closed: np.ndarray


@pytest.fixture(scope="module")
def changes(phantom) -> dict[str, Change]:
    return {treatment: _along(phantom, treatment) for treatment in (DISRUPTOR, AURORA)}


def _along(phantom: Phantom, treatment: str) -> Change:
    """Mean change from the start to the end of the paths of many pairs, with what the real cells say, in s.d."""
    rng = np.random.default_rng(11)
    starts, ends = targets.pairs(phantom.cells, treatment, "DMSO", PAIRS, rng)
    drawn = paths.population(phantom.z[starts], phantom.z[ends], phantom.model.decode, steps=2)
    rows = targets.rows_of(phantom.cells, treatment)
    real = morphology.measure(phantom.images[rows[::3]], phantom.model.channels).mean()
    there = np.stack([phantom.model.encode(drawn.frames[:, step]) for step in (0, 1)], axis=1)
    return Change(
        *_in_sd(phantom, drawn), (real - phantom.control) / phantom.sd, population_gap_closed(there, phantom.z[rows])
    )


def _in_sd(phantom: Phantom, drawn: paths.PopulationPath) -> list[pd.Series]:
    curves = morphology.population(drawn.frames, phantom.model.channels)
    end = curves[curves["step"] == curves["step"].max()].set_index("measure")
    return [end[column] / phantom.sd for column in ("change", "change_low", "change_high")]


def test_an_actin_disruptor_takes_actin_and_leaves_the_nucleus(changes):
    got = changes[DISRUPTOR]
    assert got.expected[ACTIN] < -1.5 and abs(got.expected[NUCLEUS]) < 0.5  # so it is in the real cells
    assert got.mean[ACTIN] < 0.5 * got.expected[ACTIN]
    assert got.high[ACTIN] < 0
    assert abs(got.mean[NUCLEUS]) < UNCHANGED_SD


def test_an_aurora_inhibitor_lets_the_nucleus_grow(changes):
    got = changes[AURORA]
    assert got.expected[NUCLEUS] > 1.5
    assert 0.7 < got.mean[NUCLEUS] / got.expected[NUCLEUS] < 1.4
    assert got.low[NUCLEUS] > 0
    assert abs(got.mean[ACTIN]) < UNCHANGED_SD


@pytest.mark.parametrize("treatment", [DISRUPTOR, AURORA])
def test_the_decoded_ends_are_nearer_to_the_treated_population(changes, treatment):
    assert changes[treatment].gap_closed[-1] > 0.15


def test_null_paths_change_neither_actin_nor_nucleus(phantom):
    starts, ends = targets.null_pairs(phantom.cells, "DMSO", PAIRS, np.random.default_rng(12))
    drawn = paths.population(phantom.z[starts], phantom.z[ends], phantom.model.decode, steps=2)
    mean, low, high = _in_sd(phantom, drawn)
    for name in (ACTIN, NUCLEUS):
        assert abs(mean[name]) < UNCHANGED_SD
        assert low[name] < 0 < high[name]


def test_the_one_path_a_reader_sees_shows_the_same(phantom):
    for treatment, name, sign in ((DISRUPTOR, ACTIN, -1), (AURORA, NUCLEUS, 1)):
        request = study.Request(treatment=treatment, steps=5)
        drawn = study.draw(study.Material(phantom.cells, phantom.z, phantom.model, "DMSO"), request)
        seen = morphology.measure(drawn.path.frames[[0, -1]], phantom.model.channels)
        assert sign * (seen[name][1] - seen[name][0]) / phantom.sd[name] > 0.5
        assert drawn.evidence.typicality is not None and drawn.evidence.typicality > 0.3
        assert drawn.path.cosine_reencoded[-1] > drawn.path.cosine_reencoded[0]
