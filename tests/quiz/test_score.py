"""Shares, intervals and sensitivity against scipy and hand-counted decks."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cytovae.errors import QuizError, TableError
from cytovae.quiz import score


def calls(synthetic_called_real: int, n_synthetic: int, real_called_real: int, n_real: int) -> pd.DataFrame:
    synthetic = np.repeat([True, False], [n_synthetic, n_real])
    called_real = np.concatenate([np.arange(n_synthetic) < synthetic_called_real, np.arange(n_real) < real_called_real])
    return pd.DataFrame({"synthetic": synthetic, "called_real": called_real})


@pytest.mark.parametrize("n", [1, 2, 7, 50, 150])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_wilson_interval_is_scipys(n: int, level: float) -> None:
    for k in range(n + 1):
        got = score.wilson(k, n, level)
        want = stats.binomtest(k, n).proportion_ci(level, method="wilson")
        assert (got.low, got.high) == pytest.approx((want.low, want.high), abs=1e-12)
        assert got.share == k / n
        assert got.low <= got.share <= got.high


def test_a_share_of_nothing_is_not_a_number() -> None:
    got = score.wilson(0, 0)
    assert all(map(math.isnan, (got.share, got.low, got.high)))


def test_more_successes_than_trials_are_refused() -> None:
    with pytest.raises(QuizError, match="0 and n successes, not 4 of 3"):
        score.wilson(4, 3)


@pytest.mark.parametrize(("hits", "false_alarms"), [(0, 0), (50, 0), (0, 50), (31, 12), (25, 25)])
def test_d_prime_is_the_log_linear_one_of_hautus(hits: int, false_alarms: int) -> None:
    z = stats.norm.ppf
    want = z((hits + 0.5) / 51) - z((false_alarms + 0.5) / 51)
    assert score.d_prime(hits, 50, false_alarms, 50) == pytest.approx(want, abs=1e-12)


def test_d_prime_by_hand_for_a_perfect_rater() -> None:
    # z(50.5 / 51) = 2.3339 either way
    assert score.d_prime(50, 50, 0, 50) == pytest.approx(4.666, abs=2e-3)


def test_d_prime_recovers_the_distance_of_two_normals() -> None:
    rng = np.random.default_rng(3)
    n, distance, criterion = 200_000, 1.3, 0.4
    hits = int((rng.normal(distance, 1, n) > criterion).sum())
    false_alarms = int((rng.normal(0, 1, n) > criterion).sum())
    assert score.d_prime(hits, n, false_alarms, n) == pytest.approx(distance, abs=0.02)


def test_score_counts_a_hand_made_deck() -> None:
    got = score.score(calls(20, 50, 45, 50))
    assert (got.fooled.k, got.fooled.n, got.fooled.share) == (20, 50, 0.4)
    assert (got.real_called_real.k, got.real_called_real.n) == (45, 50)
    assert (got.accuracy.k, got.accuracy.n, got.accuracy.share) == (75, 100, 0.75)
    assert got.d_prime == pytest.approx(score.d_prime(30, 50, 5, 50))


def test_score_does_not_depend_on_the_order_of_the_cards() -> None:
    table = calls(13, 40, 22, 30)
    assert score.score(table.sample(frac=1, random_state=2)) == score.score(table)


def test_guessing_scores_nothing() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"synthetic": rng.random(20_000) < 0.5, "called_real": rng.random(20_000) < 0.37})
    got = score.score(table)
    assert abs(got.d_prime) < 0.05
    assert got.fooled.share == pytest.approx(0.37, abs=0.02)


def test_a_deck_of_one_kind_has_no_sensitivity() -> None:
    got = score.score(calls(3, 5, 0, 0))
    assert math.isnan(got.d_prime)
    assert math.isnan(got.real_called_real.share)


def test_groups_are_scored_as_if_alone_and_add_up() -> None:
    first, second = calls(3, 8, 6, 7), calls(1, 5, 2, 9)
    both = pd.concat([first.assign(moa="b"), second.assign(moa="a")])
    table = score.score_by(both, "moa").set_index("moa")
    assert list(table.index) == ["a", "b"]
    for name, part in (("b", first), ("a", second)):
        alone = score.score(part)
        row = table.loc[name]
        assert (row["fooled"], row["n_synthetic"], row["n_real"]) == (
            alone.fooled.k,
            alone.fooled.n,
            alone.real_called_real.n,
        )
        assert (row["fooled_low"], row["fooled_high"]) == (alone.fooled.low, alone.fooled.high)
        assert (row["accuracy"], row["d_prime"]) == (alone.accuracy.share, alone.d_prime)
    assert table["fooled"].sum() == score.score(both).fooled.k


def test_no_calls_give_an_empty_table_with_all_columns() -> None:
    empty = pd.DataFrame({"synthetic": [], "called_real": [], "rater": []})
    assert list(score.score_by(empty, "rater").columns[:3]) == ["rater", "n_synthetic", "fooled"]


def test_a_table_without_answers_is_refused() -> None:
    with pytest.raises(TableError, match="lacks the column called_real"):
        score.score(pd.DataFrame({"synthetic": [True]}))


def test_the_published_figures_are_the_papers() -> None:
    ours, gan = score.REFERENCES
    assert (ours.share, ours.n_synthetic, ours.n_raters) == (0.407, 150, 3)
    assert gan.share == 0.30
    assert ours.n_synthetic is not None
    assert round(100 * round(ours.share * ours.n_synthetic) / ours.n_synthetic, 1) == 40.7
