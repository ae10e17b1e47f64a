from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

from cytovae import schema
from cytovae.errors import SelectionError
from cytovae.explore import evidence, paths


@pytest.fixture(scope="module")
def cloud(make_table):
    """500 cells in 32 dimensions, far from the origin, and the ground they make."""
    z = (np.random.default_rng(2).normal(size=(500, 32)) + 50).astype(np.float32)
    cells = make_table([("P1", f"B{i % 5:02d}", "DMSO", 0.0) for i in range(500)])
    return cells, z, evidence.Ground(cells, z, np.random.default_rng(0))


def naive_nearest(z, query, m, leave=()):
    """The likeness about the mean, less the crowding of the cell, one pair at a time."""
    mean = z.astype(float).mean(axis=0)
    unit = [(v - mean) / np.linalg.norm(v - mean) for v in z.astype(float)]
    crowding = [np.mean(sorted(unit[i] @ unit[j] for j in range(len(z)) if j != i)[-10:]) for i in range(len(z))]
    out = []
    for q in query.astype(float):
        q = (q - mean) / np.linalg.norm(q - mean)
        key = [-(2 * (q @ unit[i]) - crowding[i]) if i not in leave else np.inf for i in range(len(z))]
        rows = np.argsort(key, kind="stable")[:m]
        out.append((rows, [1 - q @ unit[i] for i in rows]))
    return np.array([rows for rows, _ in out]), np.array([apart for _, apart in out])


@pytest.mark.parametrize("block", [7, 64, 16384])
def test_nearest_cells_are_those_of_a_naive_loop(cloud, monkeypatch, block):
    _, z, ground = cloud
    monkeypatch.setattr(evidence, "BLOCK_CELLS", block)
    query = (np.random.default_rng(3).normal(size=(6, 32)) + 50).astype(np.float32)
    for leave in ((), (5, 17)):
        rows, distances = ground.nearest(query, 5, exclude=leave or None)
        where, expected = naive_nearest(z, query, 5, leave)
        np.testing.assert_array_equal(rows, where)
        np.testing.assert_allclose(distances, expected, atol=1e-5)


def test_likeness_is_scikit_learns_cosine_about_the_mean(cloud):
    _, z, ground = cloud
    rows, distances = ground.nearest(z[:20] + 0.5, 3)
    mean = z.astype(float).mean(axis=0)
    expected = cosine_similarity(z[:20].astype(float) + 0.5 - mean, z.astype(float) - mean)
    np.testing.assert_allclose(1 - distances, np.take_along_axis(expected, rows, axis=1), atol=1e-5)


def test_excluded_and_blank_cells_are_never_near(cloud):
    cells, z, ground = cloud
    first, _ = ground.nearest(z[:3], 1)
    assert list(first[:, 0]) == [0, 1, 2]
    rows, _ = ground.nearest(z[:3], 499, exclude=[1, 2])
    assert rows.shape == (3, 498)
    assert not np.isin(rows, [1, 2]).any()
    own, _ = ground.nearest(z[:3], 1, exclude=np.arange(3)[:, None])
    assert not (own[:, 0] == np.arange(3)).any()
    blanked = cells.assign(**{schema.BLANK: np.arange(500) < 100})
    hidden = evidence.Ground(blanked, z, np.random.default_rng(0))
    assert (hidden.nearest(z[:50], 3)[0] >= 100).all()
    assert hidden.nearest(z[:2], 600)[0].shape == (2, 400)


def test_no_cell_is_everyones_nearest(make_table):
    rng = np.random.default_rng(9)
    z = rng.normal(size=(600, 200)) * np.linspace(2, 0.2, 200)
    ground = evidence.Ground(make_table([("P1", "B02", "DMSO", 0.0)] * 600), z.astype(np.float32), rng)
    ours = ground.nearest(z, 1, exclude=np.arange(600)[:, None])[0][:, 0]
    euclidean = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(z).kneighbors(z)[1][:, 1]
    most, plain = (np.sort(np.bincount(rows, minlength=600))[-6:].sum() / 600 for rows in (ours, euclidean))
    assert most < 0.12 and most < 0.5 * plain


def test_real_cells_are_as_supported_as_they_are_to_each_other(cloud):
    _, z, ground = cloud
    _, apart = ground.nearest(z, 1, exclude=np.arange(500)[:, None])
    shares = ground.percentile(apart[:, 0])
    assert abs(shares.mean() - 50) < 2
    np.testing.assert_allclose(np.sort(apart[:, 0]), ground.real_to_real, atol=1e-6)


@pytest.fixture(scope="module")
def curved(make_table):
    """2,000 cells on a curved sheet of 4 dimensions in 32, and a model that keeps to the sheet."""
    rng = np.random.default_rng(12)
    way, turn = rng.normal(size=(4, 32)), rng.normal(size=(4, 32))

    def real(n):
        hidden = rng.normal(size=(n, 4))
        return (np.tanh(hidden) @ way + hidden**2 @ turn + rng.normal(0, 0.2, (n, 32))).astype(np.float32)

    z = real(2000)
    known = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)[2][:8]

    def again(points):
        return ((points - z.mean(axis=0)) @ known.T @ known + z.mean(axis=0)).astype(np.float32)

    cells = make_table([("P1", f"B{i % 5:02d}", "DMSO", 0.0) for i in range(2000)])
    return z, evidence.Ground(cells, z, np.random.default_rng(0), again), real, rng


def test_the_flag_takes_5_of_100_real_cells_for_something_else(curved):
    _, ground, real, _ = curved
    flagged = ground.rarity(real(1000)) <= evidence.FALSE_ALARMS
    assert 0.05 - 2.6 * np.sqrt(0.05 * 0.95 * (1 / 1000 + 1 / 512)) < flagged.mean()
    assert flagged.mean() < 0.05 + 2.6 * np.sqrt(0.05 * 0.95 * (1 / 1000 + 1 / 512))


def test_of_a_large_screen_a_stated_sample_is_searched_and_the_flag_keeps_its_rate(curved, make_table, monkeypatch):
    _, whole, real, _ = curved
    monkeypatch.setattr(evidence, "N_SEARCHED", 1500)
    z = real(6000)
    blank = np.arange(6000) % 10 == 0
    cells = make_table([("P1", "B02", "DMSO", 0.0)] * 6000).assign(**{schema.BLANK: blank})
    ground = evidence.Ground(cells, z, np.random.default_rng(1), whole._again)
    assert len(np.unique(ground.searched)) == 1500 and not blank[ground.searched].any()
    assert "1,500 of 5,400 cells drawn at random" in ground.searched_words and whole.searched_words == ""
    tried = np.setdiff1d(ground.usable, ground.searched)[:1000]
    flagged = ground.rarity(z[tried]) <= evidence.FALSE_ALARMS
    assert abs(flagged.mean() - 0.05) < 2.6 * np.sqrt(0.05 * 0.95 * (1 / 1000 + 1 / 512))
    few = evidence.Ground(
        cells.iloc[ground.searched].reset_index(drop=True), z[ground.searched], np.random.default_rng(2)
    )
    rows, apart = ground.nearest(z[:40], 3, exclude=np.arange(40)[:, None])
    here = {row: i for i, row in enumerate(ground.searched)}
    own = np.array([[here.get(row, -1)] for row in range(40)])
    np.testing.assert_array_equal(rows, ground.searched[few.nearest(z[:40], 3, exclude=own)[0]])
    naive = cosine_similarity(z[:40] - ground.mean, z[rows[:, 0]] - ground.mean).diagonal()
    np.testing.assert_allclose(1 - apart[:, 0], naive, atol=1e-5)


@pytest.mark.parametrize("kind", ["chimeras", "sign flips", "noise", "far out"])
def test_the_flag_has_power(curved, kind):
    z, ground, _, rng = curved
    some = z[rng.choice(2000, 300)]
    fakes = {
        "chimeras": z[rng.integers(2000, size=(300, 32)), np.arange(32)],
        "sign flips": ground.mean + (some - ground.mean) * rng.choice([-1, 1], some.shape),
        "noise": rng.normal(size=some.shape) * z.std(),
        "far out": ground.mean + 8 * (some - ground.mean),
    }[kind]
    assert (ground.rarity(fakes.astype(np.float32)) <= evidence.FALSE_ALARMS).mean() > 0.8


def test_a_step_in_the_void_is_off_the_data_and_one_in_the_cloud_is_not(cloud):
    _, z, ground = cloud
    path = _path(np.stack([z[0], z[3], z.mean(axis=0) + 30, z[1]]))
    found = evidence.assess(path, ground, exclude=[0, 1])
    assert list(found.off_data[1:3]) == [False, True]
    assert found.rarity[2] < 0.01
    assert "unlike any real cell" in found.summary and "step 2" in found.summary
    assert found.gap_closed is None and found.length_percentile is None


def test_the_ends_of_a_path_are_not_their_own_evidence(small):
    g = small.generator
    ids = small.cells[schema.CELL_ID]
    path = paths.interpolate(small.z[0], small.z[40], g.decode, g.encode, 5, control_id=ids[0], target_id=ids[40])
    ground = evidence.Ground(small.cells, small.z, np.random.default_rng(0))
    found = evidence.assess(path, ground, m=3)
    assert found.nearest_rows.shape == (5, 3)
    assert not np.isin(found.nearest_rows, [0, 40]).any()
    np.testing.assert_array_equal(found.nearest_ids, ids.to_numpy()[found.nearest_rows])
    np.testing.assert_array_equal(
        found.nearest_treatments, small.cells[schema.TREATMENT].to_numpy()[found.nearest_rows]
    )
    rows, apart = ground.nearest(path.z, 3, exclude=[0, 40])
    np.testing.assert_array_equal(found.nearest_rows, rows)
    np.testing.assert_array_equal(found.nearest_distances, apart)


def test_nothing_left_to_be_near_to_is_an_error(make_table):
    cells = make_table([("P1", "B02", "DMSO", 0.0)] * 3)
    z = np.eye(3, dtype=np.float32)
    ground = evidence.Ground(cells, z, np.random.default_rng(0))
    with pytest.raises(SelectionError, match="no real cell besides"):
        evidence.assess(_path(z), ground, exclude=[0, 1, 2])
    with pytest.raises(SelectionError, match="at least 3 embedded cells, not 2"):
        evidence.Ground(cells[:2], z[:2], np.random.default_rng(0))
    with pytest.raises(SelectionError, match="not finite"):
        evidence.Ground(cells, z * np.nan, np.random.default_rng(0))


def test_the_distance_of_populations_is_the_sorted_difference():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(64, 3)), rng.normal(2, 3, size=(64, 3))
    naive = np.sqrt(sum(np.mean((np.sort(a[:, f]) - np.sort(b[:, f])) ** 2) for f in range(3)))
    assert evidence.wasserstein(a, b) == pytest.approx(naive)
    assert evidence.wasserstein(a, a[::-1]) == 0.0
    assert evidence.wasserstein(a, a + 2.0) == pytest.approx(2 * np.sqrt(3))


@pytest.mark.parametrize("mode", paths.MODES)
def test_gap_closed_is_what_a_population_carried_along_would_close(mode):
    rng = np.random.default_rng(5)
    start, target = rng.normal(size=(64, 12)), rng.normal(1.0, 2.0, size=(64, 12))
    z, _ = paths.latent(start[0], target[0], 6, mode)
    got = evidence.gap_closed(z, start, target)
    whole = evidence.wasserstein(start, target)
    for k in range(6):  # carry every start cell the path's share of its way, feature by feature
        carried = np.empty_like(start)
        for f in range(12):
            share = (float(z[k, f]) - float(z[0, f])) / (float(z[-1, f]) - float(z[0, f]))
            goal = np.sort(target[:, f])[np.argsort(np.argsort(start[:, f]))]
            carried[:, f] = (1 - share) * start[:, f] + share * goal
        # |1 - share| of the distance is left, whatever the order of the carried cells
        left = np.sqrt(
            sum(
                np.mean((carried[:, f] - np.sort(target[:, f])[np.argsort(np.argsort(start[:, f]))]) ** 2)
                for f in range(12)
            )
        )
        assert got[k] == pytest.approx(1 - left / whole, abs=1e-5)
        if mode != "spherical":  # no share beyond 0 to 1: the map keeps the order, so it is the optimal one
            assert left == pytest.approx(evidence.wasserstein(carried, target), abs=1e-9)
    assert got[0] == 0.0 and got[-1] == pytest.approx(1.0)


def test_features_peculiar_to_the_pair_close_no_gap():
    rng = np.random.default_rng(6)
    start, target = rng.normal(size=(200, 10)), rng.normal(size=(200, 10))
    target[:, 0] += 6  # the treatment's own feature
    z0, z1 = start.mean(axis=0), target.mean(axis=0)
    peculiar = z1.copy()
    peculiar[5] += 20  # the pair differs most in a feature that the treatment does not change
    typical_path, _ = paths.latent(z0, z1, 11)
    odd_path, _ = paths.latent(z0, peculiar, 11)
    assert evidence.gap_closed(typical_path, start, target)[1] > 0.8
    assert evidence.gap_closed(odd_path, start, target)[1] < 0.1
    assert evidence.typicality(_path(typical_path), start, target) == pytest.approx(1.0)
    assert evidence.typicality(_path(odd_path), start, target) < 0.5


def test_half_of_the_gap_is_closed_by_the_features_counted():
    rng = np.random.default_rng(16)
    start, target = rng.normal(size=(40, 12)), rng.normal(1.0, 2.0, size=(50, 12))
    z0, z1 = start[0], target[0]
    order = paths.feature_order(z0, z1)
    closed = [
        evidence.gap_closed(np.stack([z0, np.where(np.isin(np.arange(12), order[:n]), z1, z0), z1]), start, target)[1]
        for n in range(13)
    ]
    assert evidence.half_gap(z0, z1, start, target) == int(np.argmax(np.array(closed) >= 0.5 - 1e-9))


def test_populations_that_do_not_differ_have_no_gap():
    same = np.ones((5, 4))
    assert np.isnan(evidence.gap_closed(np.eye(4)[:3], same, same)).all()


def test_the_gap_of_many_paths_is_that_of_their_points():
    rng = np.random.default_rng(8)
    z0, z1 = rng.normal(size=(30, 6)), rng.normal(3, 1, size=(30, 6))
    z = np.stack([z0, (z0 + z1) / 2, z1], axis=1)
    got = evidence.population_gap_closed(z, z1)
    whole = evidence.wasserstein(z0, z1)
    np.testing.assert_allclose(got, [0, 1 - evidence.wasserstein(z[:, 1], z1) / whole, 1], atol=1e-12)


def test_the_length_of_a_path_is_ranked_among_null_paths(cloud):
    _, z, ground = cloud
    lengths = evidence.null_lengths(z, [0, 1, 2, 3], [4, 5, 6, 7])
    np.testing.assert_allclose(lengths, np.linalg.norm(z[:4].astype(float) - z[4:8].astype(float), axis=1))
    path = _path(z[[0, 4]])
    assert evidence.assess(path, ground, null_lengths=lengths).length_percentile == 100 * np.mean(
        lengths <= path.length
    )


def _path(z: np.ndarray) -> paths.Path:
    z = np.asarray(z, np.float32)
    nothing = np.zeros(len(z))
    return paths.Path(
        "", "", "linear", "count", z, np.arange(z.shape[1]), nothing.astype(int), nothing, nothing, z, nothing
    )
