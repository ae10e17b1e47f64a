from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cytovae import schema
from cytovae.errors import SelectionError
from cytovae.explore import audit, evidence, study
from cytovae.explore.intervals import pairs_interval


class Same:
    """A model whose pictures are its points: decoding and encoding changes nothing but rounding."""

    name, patch_size_px, channels, latent_size = "same", 1, ("DNA",), 16

    def encode(self, images):
        return np.asarray(images, np.float32)

    def decode(self, z):
        return np.round(np.asarray(z, np.float32), 1)


@pytest.fixture(scope="module")
def material(make_table):
    """24 control wells and ten wells of two treatments that differ, on two plates."""
    rng = np.random.default_rng(3)
    rows, z = [], []
    for well in range(34):
        compound = "DMSO" if well < 24 else ("a" if well % 2 else "b")
        for _ in range(12):
            rows.append((f"Week1_{well % 2}", f"B{well:02d}", compound, 0.0 if compound == "DMSO" else 1.0))
            z.append(rng.normal(size=16) + {"DMSO": 0.0, "a": 2.0, "b": -2.0}[compound])
    cells = make_table(rows)
    cells[schema.MOA] = cells[schema.COMPOUND]
    return study.Material(cells, np.array(z, np.float32), Same(), "DMSO", "made")


OF_POINTS = [check for check in audit.CHECKS if check is not audit.plausible_false_alarms]  # this model has no pictures


@pytest.mark.parametrize("check", OF_POINTS, ids=lambda check: check.__name__)
def test_what_is_claimed_holds_where_its_conditions_do(material, monkeypatch, check):
    for name, few in (("N_NULL_REQUESTS", 8), ("N_POPULATIONS", 200), ("N_GROUPS", 20), ("N_QUERIES", 150)):
        monkeypatch.setattr(audit, name, few)
    monkeypatch.setattr(evidence, "N_CALIBRATION", 128)
    row = check(material, np.random.default_rng(0))
    assert row.name == check.__name__ and row.n > 0
    assert row.ci95[0] <= row.observed <= row.ci95[1] or row.name == "flag_false_alarms"
    if check is not audit.flag_power_chimeras:  # independent features: a chimera is a real cell here
        assert row.ok
    else:
        assert not row.ok and row.observed < 0.2


def test_the_rule_is_one_sided_and_has_two_points_of_room():
    made = [audit._rate("x", 0.05, np.arange(1000) < k) for k in (0, 80, 120)]
    assert [row.ok for row in made] == [True, True, False]
    made = [audit._rate("x", 0.95, np.arange(1000) < k, at_least=True) for k in (1000, 920, 900)]
    assert [row.ok for row in made] == [True, True, False]


def test_what_wells_differ_by_is_in_the_trial_of_intervals(material, monkeypatch):
    row = audit.population_interval_coverage(material, np.random.default_rng(0))
    assert row.tried == "wells" and row.ok
    of = pd.factorize(material.cells[schema.PLATE] + material.cells[schema.WELL])[0]
    z = material.embeddings + 2 * np.random.default_rng(0).normal(size=(of.max() + 1, 16))[of]
    apart = study.Material(material.cells, z.astype(np.float32), Same(), "DMSO")
    assert audit.population_interval_coverage(apart, np.random.default_rng(0)).ok
    monkeypatch.setattr(audit, "pairs_interval", lambda values, first, second: pairs_interval(values))  # counts pairs
    assert not audit.population_interval_coverage(apart, np.random.default_rng(0)).ok
    few = np.flatnonzero((of < 4) | (of >= 24))
    tried = study.Material(material.cells.iloc[few].reset_index(drop=True), material.embeddings[few], Same(), "DMSO")
    assert audit.population_interval_coverage(tried, np.random.default_rng(0)).tried == "cells, whatever their wells"


def test_hubs_are_found_out(material):
    class Hub:
        usable = material.ground.usable
        calibration_rows = material.ground.calibration_rows

        def nearest(self, z, m, exclude=None):
            return np.zeros((len(z), 1), np.int64), np.ones((len(z), 1))

    tried = study.Material(material.cells, material.embeddings, Same(), "DMSO")
    tried.ground = Hub()
    row = audit.nearest_hub_share(tried, np.random.default_rng(0))
    assert row.observed == 1.0 and not row.ok


def test_intervals_are_wilsons():
    low, high = audit.wilson(7, 40)
    expected = stats.binomtest(7, 40).proportion_ci(method="wilson")
    assert (low, high) == (pytest.approx(expected.low, abs=1e-6), pytest.approx(expected.high, abs=1e-6))


def test_too_few_control_wells_are_said(make_table):
    cells = make_table([("P1", "B02", "DMSO", 0.0)] * 20)
    tried = study.Material(cells, np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32), Same(), "DMSO")
    with pytest.raises(SelectionError, match="it takes 20 to compare one"):
        audit.null_path_false_alarms(tried, np.random.default_rng(0))
