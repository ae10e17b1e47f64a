"""Whitening learned on controls."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pycytominer.operations.transform import Spherize
from scipy.linalg import inv, sqrtm
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from cytovae import schema
from cytovae.errors import ConfigError, ProfileError
from cytovae.profiling import benchmark, profiles, sphering, whiten


def known(rng, d=5):
    """A covariance, and its symmetric inverse square root by scipy."""
    a = rng.normal(size=(d, d))
    covariance = a @ a.T + 0.3 * np.eye(d)
    return covariance, np.real(inv(sqrtm(covariance)))


def test_a_known_covariance_is_undone(rng):
    covariance, root = known(rng)
    x = rng.multivariate_normal(np.arange(5), covariance, size=200_000)
    found = sphering.fit(x)
    np.testing.assert_allclose(found.center, np.arange(5), atol=0.05)
    np.testing.assert_allclose(found.matrix, root, atol=0.02)
    assert found.n_controls == 200_000


def test_controls_come_out_white(rng):
    covariance, _ = known(rng)
    x = rng.multivariate_normal(np.arange(5), covariance, size=300)
    white = sphering.fit(x, regularisation=0).apply(x)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(white.T @ white / 300, np.eye(5), atol=1e-10)


def test_without_shrinkage_it_is_pycytominers_spherize(rng):
    x = rng.multivariate_normal(np.zeros(5), known(rng)[0], size=80)
    theirs = Spherize(epsilon=0, method="ZCA", return_numpy=True).fit(pd.DataFrame(x)).transform(pd.DataFrame(x))
    ours = sphering.fit(x, regularisation=0).apply(x) * np.sqrt(79 / 80)  # they divide by n - 1
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_the_estimated_shrinkage_is_ledoit_and_wolfs(rng):
    x = rng.multivariate_normal(np.zeros(5), known(rng)[0], size=20)
    found, theirs = sphering.fit(x), LedoitWolf().fit(x)
    assert found.regularisation == pytest.approx(theirs.shrinkage_)
    np.testing.assert_allclose(found.matrix @ found.matrix, inv(theirs.covariance_), rtol=1e-8)


def test_full_shrinkage_only_scales(rng):
    x = rng.normal(size=(10, 4)) * [1, 2, 3, 4]
    found = sphering.fit(x, regularisation=1)
    np.testing.assert_allclose(found.matrix, np.eye(4) / np.sqrt(x.var(axis=0).mean()), atol=1e-12)


def test_a_covariance_that_cannot_be_inverted_is_refused(rng):
    x = rng.normal(size=(4, 6))  # where pycytominer neither whitens nor raises
    with pytest.raises(ProfileError, match=r"4 controls do not vary in all 6 dimensions.*regularisation above 0"):
        sphering.fit(x, regularisation=0)
    with pytest.raises(ProfileError, match="not finite"):
        sphering.fit(np.full((4, 2), np.nan))
    with pytest.raises(ProfileError, match="at least two controls, not 1"):
        sphering.fit(x[:1])


def test_options_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="none, plate, batch, tvn, not 'well'"):
        whiten.Options("well")
    with pytest.raises(ConfigError, match="error, pool, shrink, not 'ignore'"):
        whiten.Options(few="ignore")
    with pytest.raises(ConfigError, match="between 0 and 1, not at 2"):
        whiten.Options(regularisation=2)


def screen(make_cells, rng, d=3, **shape):
    """Cells with an offset of their plate, and their embeddings."""
    cells = make_cells(**shape)
    offset = {plate: rng.normal(0, 5, d) for plate in sorted(cells[schema.PLATE].unique())}
    z = rng.normal(size=(len(cells), d)) @ rng.normal(size=(d, d)) + np.stack([offset[p] for p in cells[schema.PLATE]])
    return cells, z


def test_control_cells_of_every_plate_come_out_white(make_cells, rng):
    cells, z = screen(make_cells, rng, per_well=1, controls=40)  # wells of one cell: the profile is the cell
    wells = profiles.wells(cells, z)
    white, used = whiten.profiles(wells, whiten.Options("plate", 0.0), cells=cells, embeddings=z)
    for _, plate in white[white[schema.COMPOUND] == "DMSO"].groupby(schema.PLATE):
        values = plate[schema.feature_columns(plate)].to_numpy(dtype=float)
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(np.cov(values.T, bias=True), np.eye(3), atol=1e-5)
    assert used["n_controls"].tolist() == [40] * 4
    assert set(used["scope"]) == {"plate"} and set(used["learned_from"]) == {"cells"}
    assert used["dimension"].tolist() == [3] * 4 and used["regularisation"].tolist() == [0.0] * 4


def test_whitening_the_well_is_whitening_its_cells(make_cells, rng):
    cells, z = screen(make_cells, rng)
    wells = profiles.wells(cells, z)
    white, _ = whiten.profiles(wells, whiten.Options("plate"), cells=cells, embeddings=z)
    by_cell = np.empty_like(z)
    for plate in cells[schema.PLATE].unique():
        here = (cells[schema.PLATE] == plate).to_numpy()
        by_cell[here] = sphering.fit(z[here & (cells[schema.COMPOUND] == "DMSO").to_numpy()]).apply(z[here])
    expected = profiles.wells(cells, by_cell)
    np.testing.assert_allclose(white[["z000", "z001", "z002"]], expected[["z000", "z001", "z002"]], atol=1e-4)


def test_profiles_of_mean_and_sd_come_out_white_up_to_the_number_of_cells(make_cells, rng):
    per_well = 40
    cells = make_cells(n_plates=1, compounds=1, per_well=per_well, controls=600, batches=1)
    z = rng.normal(size=(len(cells), 2)) @ np.array([[1.0, 0.6], [0.0, 0.5]]) + 3
    wells = profiles.wells(cells, z, "mean+sd")
    white, _ = whiten.profiles(wells, whiten.Options("plate"), cells=cells, embeddings=z, summary="mean+sd")
    controls = white.loc[white[schema.COMPOUND] == "DMSO", schema.feature_columns(white)].to_numpy(dtype=float)
    np.testing.assert_allclose(controls.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(per_well * np.cov(controls.T), np.eye(4), atol=0.15)


def test_contributions_average_to_the_profile(rng):
    z = rng.normal(size=(50, 3))
    z[:, 2] = 4.0
    mean = sphering.contributions(z, "mean+sd").mean(axis=0)
    np.testing.assert_allclose(mean, np.concatenate([z.mean(axis=0), z.std(axis=0)]), atol=1e-12)


def test_too_few_controls_are_refused_by_name_and_number(make_cells, rng):
    cells, z = screen(make_cells, rng, d=3, per_well=1, controls=3)
    wells = profiles.wells(cells, z)
    with pytest.raises(ProfileError, match=r"4 of 4 plates have .*control cells .*3 dimensions: Week0_0 has 3, at"):
        whiten.profiles(wells, whiten.Options("plate"), cells=cells, embeddings=z)


def test_pooling_takes_the_batch_then_the_screen_and_says_so(make_cells, rng):
    cells, z = screen(make_cells, rng, d=3, per_well=1, controls=3)  # 3 a plate, 6 a batch
    wells = profiles.wells(cells, z)
    _, used = whiten.profiles(wells, whiten.Options("plate", few="pool"), cells=cells, embeddings=z)
    assert set(used["scope"]) == {"batch"} and set(used["n_controls"]) == {6}
    cells, z = screen(make_cells, rng, d=7, per_well=1, controls=3)  # 12 in the screen
    wells = profiles.wells(cells, z)
    _, used = whiten.profiles(wells, whiten.Options("plate", few="pool"), cells=cells, embeddings=z)
    assert set(used["scope"]) == {"screen"} and set(used["n_controls"]) == {12}
    cells, z = screen(make_cells, rng, d=12, per_well=1, controls=3)
    with pytest.raises(ProfileError, match="use --few-controls shrink"):
        whiten.profiles(profiles.wells(cells, z), whiten.Options("plate", few="pool"), cells=cells, embeddings=z)


def test_shrinking_learns_from_what_there_is_but_not_from_nothing(make_cells, rng):
    cells, z = screen(make_cells, rng, d=7, per_well=1, controls=3)
    wells = profiles.wells(cells, z)
    white, used = whiten.profiles(wells, whiten.Options("plate", few="shrink"), cells=cells, embeddings=z)
    assert set(used["n_controls"]) == {3} and (used["regularisation"] > 0).all()
    assert np.isfinite(white[schema.feature_columns(white)]).all(axis=None)
    gone = (cells[schema.COMPOUND] != "DMSO") | (cells[schema.PLATE] != "Week1_3")
    cells, z = cells[gone].reset_index(drop=True), z[gone]
    with pytest.raises(ProfileError, match="Week1_3 has 0, at least 2"):
        whiten.profiles(profiles.wells(cells, z), whiten.Options("plate", few="shrink"), cells=cells, embeddings=z)


def test_blank_control_cells_teach_nothing(make_cells, rng):
    cells, z = screen(make_cells, rng)
    cells[schema.BLANK] = rng.random(len(cells)) < 0.2
    keep = ~cells[schema.BLANK].to_numpy()
    options = whiten.Options("batch")
    ours, _ = whiten.profiles(
        profiles.wells(cells, z), options, cells=cells, embeddings=np.where(keep[:, None], z, 1e6)
    )
    rest = cells[keep].reset_index(drop=True)
    theirs, _ = whiten.profiles(profiles.wells(rest, z[keep]), options, cells=rest, embeddings=z[keep])
    pd.testing.assert_frame_equal(ours, theirs)


def test_published_wells_are_whitened_by_control_wells(make_cells, rng):
    cells, z = screen(make_cells, rng, per_well=1, controls=30)
    wells = profiles.wells(cells, z).drop(columns=schema.N_CELLS)
    white, used = whiten.profiles(wells, whiten.Options("batch", 0.0))
    assert set(used["learned_from"]) == {"wells"} and used["n_controls"].tolist() == [60, 60]
    week = white[(white[schema.COMPOUND] == "DMSO") & (white[schema.BATCH] == "Week0")]
    np.testing.assert_allclose(np.cov(week[schema.feature_columns(white)].T, bias=True), np.eye(3), atol=1e-4)


def test_no_whitening_changes_nothing(make_cells, rng):
    cells, z = screen(make_cells, rng)
    wells = profiles.wells(cells, z)
    same, used = whiten.profiles(wells, whiten.Options("none"))
    pd.testing.assert_frame_equal(same, wells)
    assert len(used) == 0


def test_whitening_removes_what_a_plate_adds_to_its_wells(make_cells, rng):
    cells, z = screen(make_cells, rng, n_plates=8, controls=8, d=4)
    wells = profiles.wells(cells, z)
    white, _ = whiten.profiles(wells, whiten.Options("plate"), cells=cells, embeddings=z)
    before, after = benchmark.batch_score(wells)[0], benchmark.batch_score(white)[0]
    assert before["by"] == "plate" and before["score"] > 0.8
    assert after["score"] < after["expected"] + 0.15


def test_tvn_makes_the_controls_of_every_batch_white_by_an_independent_computation(make_cells, rng):
    cells, z = screen(make_cells, rng, per_well=1, controls=40, d=4)  # wells of one cell: the profile is the cell
    wells = profiles.wells(cells, z)
    white, used = whiten.profiles(wells, whiten.Options("tvn", 0.0), cells=cells, embeddings=z)
    values = wells[["z000", "z001", "z002", "z003"]].to_numpy(dtype=float)
    control, batch = (wells[schema.COMPOUND] == "DMSO").to_numpy(), wells[schema.BATCH].to_numpy()
    centred = np.concatenate(
        [values[control & (batch == b)] - values[control & (batch == b)].mean(0) for b in np.unique(batch)]
    )
    axes = PCA(whiten=True).fit(centred)
    for b in np.unique(batch):
        here = control & (batch == b)
        own = axes.transform(values - values[here].mean(axis=0)) * np.sqrt(len(centred) / (len(centred) - 1))
        # CORAL: to the identity, which is the covariance of all controls together.
        expected = (own @ np.real(inv(sqrtm(np.cov(own[here].T, bias=True)))))[batch == b]
        found = white.loc[batch == b, schema.feature_columns(white)].to_numpy(dtype=float)
        np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-3)
        controls = white.loc[here, schema.feature_columns(white)]
        np.testing.assert_allclose(np.cov(controls.T, bias=True), np.eye(4), atol=1e-4)
    assert set(used["scope"]) == {"batch"} and used["n_controls"].tolist() == [80, 80]


def test_tvn_keeps_the_dimensions_that_the_controls_allow_and_says_how_many(make_cells, rng):
    cells, z = screen(make_cells, rng, d=12, per_well=1, controls=5)  # 10 control cells a batch
    wells = profiles.wells(cells, z)
    white, used = whiten.profiles(wells, whiten.Options("tvn"), cells=cells, embeddings=z)
    assert used["dimension"].tolist() == [5, 5]
    assert schema.feature_columns(white) == [f"tvn{k:03d}" for k in range(5)]
    one = (cells[schema.COMPOUND] != "DMSO") | (cells[schema.BATCH] != "Week1") | cells[schema.WELL].eq("B00")
    cells, z = cells[one].reset_index(drop=True), z[one]
    with pytest.raises(ProfileError, match=r"1 of 2 batches have too few control cells .*Week1 has 2, at least 4"):
        whiten.profiles(profiles.wells(cells, z), whiten.Options("tvn"), cells=cells, embeddings=z)


def test_tvn_undoes_a_batchs_own_stretch(make_cells, rng):
    cells = make_cells(n_plates=4, compounds=6, per_well=20, controls=12, batches=2)
    moa = pd.factorize(cells[schema.MOA])[0]
    z = rng.normal(size=(len(cells), 4)) + np.eye(4)[moa % 4] * 2
    stretched = z @ np.diag([6.0, 1, 1, 0.3])
    late = (cells[schema.BATCH] == "Week1").to_numpy()
    mixed = np.where(late[:, None], stretched, z)
    apart = {}
    for by in ("none", "tvn"):
        wells, _ = whiten.profiles(profiles.wells(cells, mixed), whiten.Options(by), cells=cells, embeddings=mixed)
        apart[by] = benchmark.batch_score(wells)[1]["score"]
    wells, _ = whiten.profiles(profiles.wells(cells, mixed), whiten.Options("tvn"), cells=cells, embeddings=mixed)
    spread = wells[wells[schema.COMPOUND] == "DMSO"].groupby(schema.BATCH)[schema.feature_columns(wells)].std()
    assert (spread.loc["Week1"] / spread.loc["Week0"]).between(0.4, 2.5).all()
    assert apart["tvn"] <= apart["none"]
