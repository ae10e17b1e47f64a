"""On the phantom's known truth the benchmark orders embeddings by how much they know."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cytovae import schema
from cytovae.phantom.screen import PhantomOptions, treatments
from cytovae.phantom.traits import CONTROL, population
from cytovae.profiling import benchmark, profiles, whiten
from cytovae.profiling.ranking import RULES

TRAITS = sorted(CONTROL)


@pytest.fixture(scope="module")
def phantom() -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Cells of the phantom's design with their true traits, (n, d) in s.d. of the controls, and their week, (n, 3)."""
    rng = np.random.default_rng(5)
    options = PhantomOptions()
    rows, traits = [], []
    for week in range(options.weeks):
        for replicate in range(options.wells):
            plate = f"Week{week + 1}_{replicate}"
            content = [("DMSO", "DMSO", 0.0, 0.0)] * 6 + [
                (t.compound, t.moa, t.concentration_uM, t.strength) for t in treatments(options) if t.week == week
            ]
            for w, (compound, moa, dose, strength) in enumerate(content):
                drawn = population(None if moa == "DMSO" else moa, strength, {}, 40, rng)
                traits.append(np.stack([drawn[name] for name in TRAITS], axis=1))
                head = {schema.PLATE: plate, schema.WELL: f"W{w:02d}", schema.BATCH: f"Week{week + 1}"}
                head |= {schema.COMPOUND: compound, schema.CONCENTRATION: dose, schema.MOA: moa}
                rows += [head | {schema.TREATMENT: schema.treatment_name(compound, dose)}] * 40
    cells = pd.DataFrame(rows)
    values = np.concatenate(traits).astype(float)
    controls = values[cells[schema.COMPOUND] == "DMSO"]
    sd = controls.std(axis=0)
    values = (values[:, sd > 0] - controls[:, sd > 0].mean(axis=0)) / sd[sd > 0]
    return cells, np.tanh(values / 3), np.eye(3)[pd.factorize(cells[schema.BATCH])[0]]


def accuracies(cells: pd.DataFrame, z: np.ndarray, by: str = "none") -> dict[str, float]:
    wells = profiles.wells(cells, z)
    wells, _ = whiten.profiles(wells, whiten.Options(by), cells=cells, embeddings=z)
    table = profiles.treatments(wells)
    return {rule.name: benchmark.accuracy(benchmark.neighbours(table, rule)) for rule in RULES}


def test_the_truth_scores_above_a_noisy_copy_above_noise(phantom):
    cells, truth, _ = phantom
    rng = np.random.default_rng(0)
    noise = rng.normal(size=truth.shape)
    good, fair, bad = (accuracies(cells, z) for z in (truth, truth + 3 * noise, noise))
    for rule in ("NSC", "NSCB"):
        assert good[rule] > 0.9
        assert good[rule] > fair[rule] > bad[rule]
        assert bad[rule] < 0.2


def test_nscb_punishes_an_embedding_that_carries_only_its_week(phantom):
    cells, truth, week = phantom
    rng = np.random.default_rng(0)
    only_week = np.concatenate([10 * week, 0.3 * rng.normal(size=truth.shape)], axis=1)
    found = accuracies(cells, only_week)
    wells = profiles.wells(cells, only_week)
    by = {line["by"]: line for line in benchmark.batch_score(wells)}
    assert by["batch"]["score"] == 1 and by["batch"]["expected"] < 0.35
    assert found["NSCB"] < 0.2 < 0.9 < accuracies(cells, truth)["NSCB"]


def test_whitening_recovers_a_good_embedding_from_an_offset_of_its_week(phantom):
    cells, truth, week = phantom
    rng = np.random.default_rng(0)
    moved = truth + week @ rng.normal(0, 1.5, (3, truth.shape[1]))
    plain, white = accuracies(cells, moved), accuracies(cells, moved, "batch")
    assert plain["NSCB"] < 0.5
    assert white["NSCB"] > plain["NSCB"] + 0.3
    score = {
        by: benchmark.batch_score(
            whiten.profiles(profiles.wells(cells, moved), whiten.Options(by), cells=cells, embeddings=moved)[0]
        )[1]
        for by in ("none", "batch")
    }
    assert score["none"]["score"] == 1
    assert score["batch"]["score"] < score["batch"]["expected"] + 0.2
