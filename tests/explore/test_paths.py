from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics.pairwise import cosine_similarity

from cytovae.errors import ConfigError, SelectionError
from cytovae.explore import paths

RNG = np.random.default_rng(7)
A, B = RNG.normal(size=(2, 256)).astype(np.float32)


@pytest.mark.parametrize("mode", paths.MODES)
@pytest.mark.parametrize("spacing", paths.SPACINGS)
@pytest.mark.parametrize("steps", [2, 3, 10, 64])
def test_the_ends_are_exact(mode, spacing, steps):
    z, n = paths.latent(A, B, steps, mode, spacing)
    assert z.shape == (steps, 256) and z.dtype == np.float32
    np.testing.assert_array_equal(z[0], A)
    np.testing.assert_array_equal(z[-1], B)
    assert n[0] == 0 and n[-1] == 256


def test_step_k_has_the_first_features_at_the_target_and_the_rest_at_the_control():
    z, n = paths.latent(A, B, 7)
    ranked = sorted(range(256), key=lambda f: -abs(float(B[f]) - float(A[f])))
    for k in range(7):
        expected = A.copy()
        for f in ranked[: n[k]]:
            expected[f] = B[f]
        np.testing.assert_array_equal(z[k], expected)
    assert list(n) == [0, 43, 85, 128, 171, 213, 256]


def test_cosines_agree_with_scikit_learn():
    z, _ = paths.latent(A, B, 9)
    np.testing.assert_allclose(paths.cosine_similarity(z, B), cosine_similarity(z, B[None])[:, 0], atol=1e-6)
    assert paths.cosine_similarity(np.zeros(4), np.ones(4)) == 0.0


@pytest.mark.parametrize("mode", ["linear", "spherical"])
def test_equal_gain_steps_gain_equally(mode):
    z, _ = paths.latent(A, B, 11, mode, "gain")
    gains = np.diff(paths.cosine_similarity(z, B))
    np.testing.assert_allclose(gains, gains.mean(), rtol=0.05)


def test_equal_gain_takes_the_first_count_that_reaches_the_level():
    z, n = paths.latent(A, B, 6, "top-features", "gain")
    order = paths.feature_order(A, B)
    cosines = []
    for count in range(257):  # the naive way
        mixed = A.copy()
        mixed[order[:count]] = B[order[:count]]
        cosines.append(float(paths.cosine_similarity(mixed, B)))
    reached = np.maximum.accumulate(cosines)
    levels = np.linspace(reached[0], reached[-1], 6)
    assert list(n[1:-1]) == [int(np.argmax(reached >= level - 1e-12)) for level in levels[1:-1]]
    np.testing.assert_allclose(paths.cosine_similarity(z, B), np.array(cosines)[n], atol=1e-6)


@pytest.mark.parametrize("steps", [2, 10, 64])
def test_every_step_moves_a_feature_where_there_are_enough(steps):
    for spacing in paths.SPACINGS:
        _, n = paths.latent(A, B, steps, "top-features", spacing)
        assert (np.diff(n) > 0).all()
    _, few = paths.latent(A[:5], B[:5], steps, "top-features", "gain")
    assert few[0] == 0 and few[-1] == 5 and (np.diff(few) >= 0).all()


def test_the_middle_of_a_straight_path_is_the_mean():
    z, _ = paths.latent(A, B, 3, "linear")
    np.testing.assert_allclose(z[1], (A.astype(float) + B) / 2, rtol=1e-6)


def test_a_spherical_path_turns_evenly_and_its_length_changes_evenly():
    z, _ = paths.latent(A, 3 * B, 9, "spherical")
    z = z.astype(float)
    angles = [np.arccos(paths.cosine_similarity(z[k], z[k + 1])) for k in range(8)]
    np.testing.assert_allclose(angles, np.mean(angles), rtol=1e-4)
    np.testing.assert_allclose(
        np.diff(np.linalg.norm(z, axis=1)), (3 * np.linalg.norm(B) - np.linalg.norm(A)) / 8, rtol=1e-4
    )


@pytest.mark.parametrize("end", [-A, 2 * A, np.zeros(256, np.float32)])
def test_a_spherical_path_without_an_arc_is_straight(end):
    z, _ = paths.latent(A, end, 5, "spherical")
    np.testing.assert_allclose(z, np.linspace(A, end, 5), atol=1e-5)


@pytest.mark.parametrize("mode", ["linear", "spherical"])
def test_the_way_back_passes_the_same_points(mode):
    there, _ = paths.latent(A, B, 8, mode)
    back, _ = paths.latent(B, A, 8, mode)
    np.testing.assert_allclose(back, there[::-1], atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: paths.latent(A, B, 1), ConfigError, "2 to 64 steps, both ends among them, not 1"),
        (lambda: paths.latent(A, B, 65), ConfigError, "not 65"),
        (lambda: paths.latent(A, B, 5, "curly"), ConfigError, "unknown mode 'curly'; choose top-features"),
        (lambda: paths.latent(A, B, 5, "linear", "x"), ConfigError, "unknown spacing 'x'"),
        (lambda: paths.latent(A, A), SelectionError, "choose two different cells"),
        (lambda: paths.latent(A, B[:4]), SelectionError, "same length"),
        (lambda: paths.latent(A, np.full(256, np.nan)), SelectionError, "not finite"),
    ],
)
def test_options_out_of_range_are_one_clear_sentence(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_decoded_path_is_what_the_generator_draws_and_sees(small):
    g = small.generator
    path = paths.interpolate(small.z[0], small.z[40], g.decode, g.encode, 6, control_id="a", target_id="b")
    np.testing.assert_array_equal(path.frames, g.decode(path.z))
    again = g.encode(path.frames)
    np.testing.assert_allclose(path.cosine_reencoded, cosine_similarity(again, small.z[40:41])[:, 0], atol=1e-5)
    left = [np.sum((z.astype(float) - small.z[40]) ** 2) for z in path.z]
    np.testing.assert_allclose(path.distance_share, 1 - np.array(left) / left[0], atol=1e-9)
    assert path.distance_share[-1] == 1.0 and path.cosine[-1] == pytest.approx(1.0)
    assert (path.control_id, path.target_id, path.steps) == ("a", "b", 6)
    assert path.length == pytest.approx(np.linalg.norm(small.z[40] - small.z[0]), rel=1e-6)


def test_the_features_moved_at_each_step_make_up_all_of_them(small):
    g = small.generator
    path = paths.interpolate(small.z[0], small.z[40], g.decode, g.encode, 5)
    moved = [f for step in range(1, 5) for f in path.moved(step)]
    assert sorted(moved) == list(range(24))
    assert moved == list(path.order)


def test_a_dose_series_invents_nothing(small):
    g = small.generator
    path = paths.series(small.z[0], small.z[[12, 18]], g.decode, g.encode, ["DMSO", "0.3", "3"])
    np.testing.assert_array_equal(path.z, small.z[[0, 12, 18]])
    assert path.labels == ("DMSO", "0.3", "3")
    with pytest.raises(SelectionError, match="1 to 63 doses"):
        paths.series(small.z[0], small.z[:0], g.decode, g.encode, ["DMSO"])


def test_a_population_path_is_every_pairs_path(small):
    g, z = small.generator, small.z
    many = paths.population(z[[0, 1, 2]], z[[40, 41, 42]], g.decode, 4)
    for i in range(3):
        single = paths.interpolate(z[i], z[40 + i], g.decode, g.encode, 4)
        np.testing.assert_array_equal(many.z[i], single.z)
        np.testing.assert_allclose(many.frames[i], single.frames, atol=1e-6)
        np.testing.assert_allclose(many.cosine[i], single.cosine)
    change = (many.frames[:, -1] - many.frames[:, 0]).astype(float)
    np.testing.assert_allclose(many.difference, change.mean(axis=0), atol=1e-6)
    # all pixels are read together: intervals of the level that scipy's false discovery control leaves
    p = np.nan_to_num(stats.ttest_1samp(change, 0.0).pvalue, nan=1.0)  # not-a-number: the same in every pair
    adjusted = stats.false_discovery_control(p.ravel(), method="bh")
    level = 1 - 0.05 * max((adjusted <= 0.05).sum(), 1) / p.size
    pixel = (30, 40, 1)
    values = change[(slice(None), *pixel)]
    low, high = stats.t.interval(level, 2, loc=values.mean(), scale=stats.sem(values))
    assert many.difference_low[pixel] == pytest.approx(low, rel=1e-4)
    assert many.difference_high[pixel] == pytest.approx(high, rel=1e-4)
    shown = (many.difference_low > 0) | (many.difference_high < 0)
    np.testing.assert_array_equal(shown.ravel(), adjusted <= 0.05)
    with pytest.raises(SelectionError, match="at least 2 control cells, not 1"):
        paths.population(z[:1], z[40:41], g.decode)
