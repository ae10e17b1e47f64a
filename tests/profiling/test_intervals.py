"""Intervals over compounds cover what they say, and a difference is claimed only where one is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, t

from cytovae import schema
from cytovae.profiling import benchmark, intervals

SIZES = np.array([1] * 7 + [2] * 12 + [3] * 13 + [4, 4, 5, 6, 7, 7], dtype=float)
"""Treatments of each of BBBC021's 38 compounds: 103."""


def drawn(rng, accuracy, correlation, count, sizes=SIZES):
    """(count, k) treatments right by compound, whose treatments are alike to the degree of the correlation."""
    share = np.full((count, len(sizes)), accuracy)
    if accuracy < 1:
        share = rng.beta(accuracy * (1 / correlation - 1), (1 - accuracy) * (1 / correlation - 1), share.shape)
    return rng.binomial(sizes.astype(int), share).astype(float)


@pytest.mark.parametrize("accuracy", [0.35, 0.7, 0.9, 0.96, 1.0])
@pytest.mark.parametrize("correlation", [0.2, 0.5, 0.8])
def test_the_interval_of_an_accuracy_covers_it(rng, accuracy, correlation):
    found = [intervals.accuracy(right, SIZES) for right in drawn(rng, accuracy, correlation, 1_500)]
    covered = np.mean([lo <= accuracy <= hi for lo, hi in found])
    assert covered > 0.93, covered
    assert covered < 0.99 or accuracy == 1  # no more cautious than need be
    assert all(lo < hi for lo, hi in found)


def test_a_bootstrap_of_compounds_does_not_cover(rng):
    """Why there is no bootstrap here: the simulation above can fail."""
    covered = []
    for right in drawn(rng, 0.96, 0.5, 150):
        k = len(SIZES)
        weights = rng.multinomial(k, np.full(k, 1 / k), size=400)
        lo, hi = np.quantile(weights @ right / (weights @ SIZES), [0.025, 0.975])
        covered.append(lo <= 0.96 <= hi)
    assert np.mean(covered) < 0.9


def test_treatments_of_compounds_of_their_own_are_independent(rng):
    right = (rng.random(50) < 0.7).astype(float)
    found = intervals.accuracy(right, np.ones(50), level=2 * t.cdf(1.959964, 49) - 1)
    wilson = binomtest(int(right.sum()), 50).proportion_ci(method="wilson")
    np.testing.assert_allclose(found, wilson, atol=1e-6)


def test_more_concentrations_of_the_same_compounds_do_not_narrow_the_interval():
    def width(doses):
        names = [(c, k) for c in range(20) for k in range(doses)]
        calls = pd.DataFrame(
            {schema.COMPOUND: [f"d{c}" for c, _ in names], "scored": True, "correct": [c % 2 == 0 for c, _ in names]}
        )
        lo, hi = benchmark.interval(calls)
        return hi - lo

    assert width(10) == pytest.approx(width(1), rel=0.02)


def test_one_compound_gives_no_interval():
    calls = pd.DataFrame({schema.COMPOUND: ["a", "a"], "scored": True, "correct": [True, False]})
    assert benchmark.interval(calls) is None
    assert intervals.difference(np.ones(2), np.zeros(2), np.array(["a", "a"])) is None


@pytest.mark.parametrize(("one", "other"), [(0.5, 0.5), (0.9, 0.9), (0.8, 0.6), (0.97, 0.9)])
def test_the_interval_of_a_difference_covers_it(rng, one, other):
    compounds = np.repeat(np.arange(len(SIZES)), SIZES.astype(int))
    covered = []
    for _ in range(600):
        # Both score the same compounds: what is hard for one is hard for the other.
        hard = rng.random(len(SIZES))[compounds]
        own = np.where(rng.random(len(compounds)) < 0.5, hard, rng.random(len(compounds)))
        its = np.where(rng.random(len(compounds)) < 0.5, hard, rng.random(len(compounds)))
        lo, hi = intervals.difference((own < one).astype(float), (its < other).astype(float), compounds)
        covered.append(lo <= one - other <= hi)
    assert 0.93 < np.mean(covered) <= 0.995, np.mean(covered)


def calls(correct):
    k = len(correct)
    return pd.DataFrame(
        {
            schema.TREATMENT: [f"d{c}@1" for c in range(k)],
            schema.COMPOUND: [f"d{c}" for c in range(k)],
            "scored": True,
            "correct": correct,
        }
    )


def test_a_difference_is_claimed_only_where_the_paired_interval_leaves_out_zero():
    truth = np.arange(40) % 2 == 0
    better = truth.copy()
    better[1:4:2] = True  # two compounds of forty
    assert intervals.compared(calls(better), calls(truth))["verdict"] == "no difference shown"
    assert intervals.compared(calls(truth), calls(truth)) | {"ci95": None} == {
        "difference": 0.0,
        "ci95": None,
        "n_scored": 40,
        "verdict": "no difference shown",
    }
    better[1:24:2] = True
    found = intervals.compared(calls(better), calls(truth))
    assert found["verdict"] == "above" and found["difference"] == pytest.approx(12 / 40) and found["ci95"][0] > 0
    assert intervals.compared(calls(truth), calls(better))["verdict"] == "below"
