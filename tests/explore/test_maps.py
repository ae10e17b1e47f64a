from __future__ import annotations

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from cytovae.errors import ConfigError, SelectionError
from cytovae.explore import maps

X = np.random.default_rng(0).normal(size=(80, 12)) * np.linspace(4, 0.5, 12)


def test_the_pca_map_is_scikit_learns_up_to_signs():
    got = maps.compute(X, "pca")
    expected = PCA(2).fit_transform(X)
    np.testing.assert_allclose(np.abs(got), np.abs(expected), atol=1e-8)


def test_the_pca_map_has_one_sign():
    np.testing.assert_allclose(maps.compute(X, "pca"), maps.compute(X[::-1], "pca")[::-1], atol=1e-9)
    assert maps.compute(X[:, :1], "pca").shape == (80, 2)


def test_a_point_of_the_map_falls_on_its_own_place_and_others_between_neighbours():
    xy = maps.compute(X, "pca")
    np.testing.assert_allclose(maps.place(X[:5], X, xy), xy[:5])
    new = X[:5] + 0.1
    distances, rows = NearestNeighbors(n_neighbors=10).fit(X).kneighbors(new)
    weight = 1 / distances
    expected = (weight[..., None] * xy[rows]).sum(axis=1) / weight.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(maps.place(new, X, xy), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: maps.compute(X, "tsne"), ConfigError, "unknown map method 'tsne'; choose pca or umap"),
        (lambda: maps.compute(X[:1]), SelectionError, "at least 2 rows"),
        (lambda: maps.compute(X * np.nan), SelectionError, "must be finite"),
    ],
)
def test_what_cannot_be_mapped_is_one_clear_sentence(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.slow
def test_umap_keeps_two_groups_apart_and_repeats_itself():
    groups = np.concatenate([X[:40] * 0.1 + 5, X[40:] * 0.1 - 5])
    a, b = maps.compute(groups, "umap", seed=1), maps.compute(groups, "umap", seed=1)
    np.testing.assert_array_equal(a, b)
    gap = np.linalg.norm(a[:40].mean(axis=0) - a[40:].mean(axis=0))
    assert gap > 2 * max(a[:40].std(), a[40:].std())


def test_lasso_holds_what_matplotlib_says_it_holds():
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 1, (4000, 2))
    angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
    star = np.column_stack([np.cos(angle), np.sin(angle)]) * rng.uniform(0.3, 1, (40, 1))
    np.testing.assert_array_equal(maps.inside(points, star), Outline(star).contains_points(points))


def test_lasso_of_nothing_holds_nothing():
    assert not maps.inside(np.zeros((3, 2)), np.zeros((0, 2))).any()


def test_clusters_are_the_groups_there_are_and_the_largest_comes_first():
    groups = np.concatenate([X[:20] * 0.01 + 5, X[20:80] * 0.01 - 5])
    np.testing.assert_array_equal(maps.clusters(groups, 2), [1] * 20 + [0] * 60)
    assert set(maps.clusters(groups[:3], 12)) == {0, 1, 2}
