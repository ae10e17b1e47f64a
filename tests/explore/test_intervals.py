from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cytovae.explore import intervals
from cytovae.explore.intervals import mean_interval, pairs_interval


def test_missing_values_are_left_out_of_an_interval():
    values = np.array([[1.0, 2.0], [3.0, np.nan], [8.0, 4.0], [np.nan, 6.0]])
    mean, low, high = mean_interval(values)
    for c in range(2):
        there = values[np.isfinite(values[:, c]), c]
        expected = stats.t.interval(0.95, len(there) - 1, loc=there.mean(), scale=stats.sem(there))
        np.testing.assert_allclose((mean[c], low[c], high[c]), (there.mean(), *expected))


def test_cells_used_equally_often_count_as_cells():
    rng = np.random.default_rng(0)
    of = np.repeat(np.arange(6), 20)
    values = rng.normal(size=6)[of] + rng.normal(size=120)
    got = pairs_interval(values, np.arange(120), of)
    means = np.array([values[of == cell].mean() for cell in range(6)])
    low, high = stats.t.interval(0.95, 5, loc=means.mean(), scale=stats.sem(means))
    assert (got.low(), got.high()) == (pytest.approx(low), pytest.approx(high))
    assert got.p == pytest.approx(stats.ttest_1samp(means, 0.0).pvalue)


def test_one_cell_at_an_end_has_no_interval():
    got = pairs_interval(np.arange(5.0), np.arange(5), np.zeros(5))
    assert got.mean == 2.0 and np.isnan(got.low()) and got.p == 1.0


def test_two_way_variance_is_the_naive_sum():
    rng = np.random.default_rng(1)
    first, second, values = rng.integers(0, 7, 50), rng.integers(0, 4, 50), rng.normal(size=50)
    left = values - values.mean()

    def clustered(labels):
        sums = [left[labels == g].sum() for g in np.unique(labels)]
        return sum(s**2 for s in sums) / 50**2 * len(sums) / (len(sums) - 1)

    few, more, both = clustered(second), clustered(first), clustered(first * 100 + second)
    extra = max(more - both, 0)
    assert pairs_interval(values, first, second).error == pytest.approx(np.sqrt(few + extra))
    assert pairs_interval(values, second, first).error == pytest.approx(np.sqrt(few + extra))


def test_intervals_cover_the_truth_in_95_of_100_populations():
    """3 to 64 treated cells, 8 to 500 pairs, cells or wells as units, without and with an effect of the well."""
    from benchmarks.evidence_paths import GRID, coverage

    rng = np.random.default_rng(1)
    for pairs in GRID:
        got, n = coverage(pairs, n=600, rng=rng)
        assert abs(got - 0.95) < 0.02 + 2.6 * np.sqrt(0.95 * 0.05 / n), pairs


def test_two_variances_are_joined_by_the_squares_of_their_own_half_widths():
    got = intervals._joined(
        np.array([2.0, 2.0, 0.0]), np.array([3, 3, 3]), np.array([1.0, 0.0, 1.0]), np.array([9, 9, 9])
    )
    t3, t9 = stats.t.ppf(0.975, [3, 9])
    expected = np.sqrt([(2 * t3**2 + t9**2) / 3, t3**2, t9**2])
    np.testing.assert_allclose(stats.t.ppf(0.975, got), expected, rtol=1e-3)


@pytest.mark.parametrize(("shift", "most"), [(0.0, 0.12), (2.0, None)])
def test_pixels_are_coloured_where_something_changes_and_not_elsewhere(shift, most):
    rng = np.random.default_rng(5)
    coloured = []
    for _ in range(60):
        image = rng.normal(size=(12, 400)) + rng.normal(size=(12, 1))  # neighbouring pixels go together
        image[:, :40] += shift
        got = pairs_interval(image)
        level = got.selected_level()
        coloured.append((got.low(level) > 0) | (got.high(level) < 0))
    share = np.mean([shown[40:].any() for shown in coloured])
    if most is not None:
        assert share <= most
    else:
        assert np.mean([shown[:40].mean() for shown in coloured]) > 0.7
