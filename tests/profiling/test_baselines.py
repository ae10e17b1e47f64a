"""What a model must beat."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from cytovae import schema
from cytovae.errors import ProfileError
from cytovae.profiling import baselines, benchmark, profiles, whiten

CHANNELS = ("DNA", "Tubulin", "Actin")


@pytest.fixture
def patches(rng):
    """(60, 12, 12, 3) uint16 with a bright square of varying size in the middle."""
    out = rng.integers(50, 150, size=(60, 12, 12, 3)).astype(np.uint16)
    for k in range(60):
        half = 1 + k % 4
        out[k, 6 - half : 6 + half, 6 - half : 6 + half, 0] += 1000
    return out


def test_pixel_pca_is_scikit_learns_up_to_sign(patches):
    pixels = (patches / patches.max(axis=(1, 2), keepdims=True)).reshape(60, -1)
    theirs = PCA(10, svd_solver="full").fit(pixels).transform(pixels)
    ours = baselines.PixelPCA.fit(patches, 10).encode(patches)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-3)


def test_pixel_pca_ignores_exposure_and_survives_blank_patches(patches):
    found = baselines.PixelPCA.fit(patches, 5)
    np.testing.assert_allclose(found.encode(patches * np.uint16(3)), found.encode(patches), atol=1e-4)
    assert np.isfinite(found.encode(np.zeros_like(patches))).all()


def test_pixel_pca_has_no_more_axes_than_its_sample_spans(patches):
    assert baselines.PixelPCA.fit(patches[:8], 256).axes.shape == (12 * 12 * 3, 7)
    with pytest.raises(ProfileError, match="at least two patches, not 1"):
        baselines.PixelPCA.fit(patches[:1], 4)


def test_measurements_are_those_of_a_loop(patches):
    table = baselines.measure(patches, CHANNELS)
    for k in (0, 7, 33):
        patch = patches[k].astype(float)
        assert table["Actin_mean"][k] == pytest.approx(patch[:, :, 2].mean())
        assert table["Tubulin_sd"][k] == pytest.approx(patch[:, :, 1].std(), rel=1e-5)
        assert table["DNA_max"][k] == patch[:, :, 0].max()
        assert table["Actin_p95"][k] == pytest.approx(np.percentile(patch[:, :, 2], 95), rel=1e-5)
        r = np.corrcoef(patch[:, :, 1].ravel(), patch[:, :, 2].ravel())[0, 1]
        assert table["Tubulin_Actin_correlation"][k] == pytest.approx(r, abs=1e-5)
        inside = patch[:, :, 0] > 500
        assert table["nucleus_area_px"][k] == inside.sum() == (2 * (1 + k % 4)) ** 2
        assert table["Tubulin_nucleus_mean"][k] == pytest.approx(patch[:, :, 1][inside].mean(), rel=1e-5)
        assert table["nucleus_intensity_share"][k] == pytest.approx(
            patch[:, :, 0][inside].sum() / patch[:, :, 0].sum(), rel=1e-5
        )


def test_a_square_nucleus_has_no_eccentricity_and_a_bar_has_that_of_its_sides(patches):
    assert baselines.measure(patches, CHANNELS)["nucleus_eccentricity"].max() < 1e-3
    bar = np.zeros((1, 20, 20, 3), np.uint16)
    bar[0, 8:12, 2:18, 0] = 500  # 4 x 16 px: second moments (n^2 - 1) / 12
    expected = np.sqrt(1 - (4**2 - 1) / (16**2 - 1))
    assert baselines.measure(bar, CHANNELS)["nucleus_eccentricity"][0] == pytest.approx(expected)


def test_constant_and_blank_patches_measure_finite():
    table = baselines.measure(np.stack([np.zeros((8, 8, 3)), np.full((8, 8, 3), 7)]).astype(np.uint16), CHANNELS)
    assert np.isfinite(table).all(axis=None)
    assert (table.filter(like="correlation") == 0).all(axis=None)


def test_control_units_are_z_scores_over_all_controls(make_cells, rng):
    cells = make_cells()
    wells = profiles.wells(cells, rng.normal(3, 2, (len(cells), 4)))
    wells.loc[wells[schema.COMPOUND] == "DMSO", "z002"] = 5.0
    found = baselines.in_control_units(wells, "DMSO")
    assert schema.feature_columns(found) == ["z000", "z001", "z003"]
    controls = found.loc[found[schema.COMPOUND] == "DMSO", ["z000", "z001", "z003"]]
    np.testing.assert_allclose(controls.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(controls.std(ddof=0), 1, rtol=1e-12)
    with pytest.raises(ProfileError, match=r"at least two control wells \(water\); the screen has 0"):
        baselines.in_control_units(wells, "water")


def test_the_neighbour_by_cell_count_is_the_nearest_in_log_count(make_cells, rng):
    cells = make_cells(n_plates=1, compounds=12, controls=1)
    keep = rng.random(len(cells)) < rng.uniform(0.2, 1, size=13)[pd.factorize(cells[schema.WELL])[0]]
    keep |= ~cells[schema.WELL].duplicated()
    more = cells[keep].loc[lambda c: c.index.repeat(rng.integers(1, 40, size=len(c)))].reset_index(drop=True)
    wells = baselines.cell_count(more, profiles.wells(more, np.ones((len(more), 1))))
    treatments = profiles.treatments(wells)
    treated = treatments[treatments[schema.COMPOUND] != "DMSO"]
    calls = benchmark.neighbours(treatments, benchmark.NSC)
    per_field = (
        treated[schema.N_CELLS]
        / more.groupby(schema.TREATMENT)[schema.FIELD].nunique()[treated[schema.TREATMENT]].to_numpy()
    )
    log = np.log(per_field.to_numpy())[:, None]
    _, nearest = NearestNeighbors(n_neighbors=2).fit(log).kneighbors(log)
    names = treated[schema.TREATMENT].to_numpy()
    expected = np.abs(log[nearest[:, 1]] - log)[:, 0]
    found = np.abs(log[[list(names).index(n) for n in calls["neighbour"]]] - log)[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_every_baseline_is_scored_under_both_rules(make_cells, rng):
    cells = make_cells(n_plates=4, compounds=8, batches=4, per_well=4)
    size = 1 + pd.factorize(cells[schema.MOA])[0]
    images = rng.integers(50, 150, size=(len(cells), 12, 12, 3)).astype(np.uint16)
    for k, half in enumerate(size):
        images[k, 6 - half : 6 + half, 6 - half : 6 + half] += 1000
    columns = [("mean", whiten.Options("none")), ("mean", whiten.Options("plate"))]
    seen: list[int] = []
    lines, skipped, _ = baselines.score(
        cells,
        images[:50],
        ((start, images[start : start + 30]) for start in range(0, len(images), 30)),
        CHANNELS,
        [4, 40],
        columns,
        rng,
        progress=lambda done, total: seen.append(done),
    )
    made = {(x["baseline"], x["dimension"], x["whiten"], x["rule"]) for x in lines}
    for rule in ("NSC", "NSCB"):
        assert {
            (baselines.PIXELS, 4, "none", rule),
            (baselines.PIXELS, 4, "plate", rule),
            (baselines.PIXELS, 40, "none", rule),
            (baselines.MEASUREMENTS, 27, "none", rule),
            (baselines.CELL_COUNT, 1, "none", rule),
        } == {x for x in made if x[3] == rule}  # 12 control cells a plate cannot whiten 40 dimensions: left out
    by = {(x["baseline"], x["whiten"]): x for x in lines if x["rule"] == "NSC" and x["dimension"] != 40}
    assert by[baselines.MEASUREMENTS, "none"]["accuracy"] == 1
    assert by[baselines.PIXELS, "none"]["accuracy"] == 1
    assert seen[-1] == len(cells) and skipped == []


@pytest.mark.parametrize("controls", [0, 1])
def test_without_two_control_wells_the_measurements_are_skipped_and_the_rest_is_scored(make_cells, rng, controls):
    cells = make_cells(n_plates=1, controls=controls)
    images = rng.integers(50, 1000, size=(len(cells), 12, 12, 3)).astype(np.uint16)
    columns = [("mean", whiten.Options("none"))]
    lines, skipped, _ = baselines.score(cells, images, [(0, images)], CHANNELS, [4], columns, rng)
    assert {x["baseline"] for x in lines} == {baselines.CELL_COUNT, baselines.PIXELS}
    reason = f"z-scores need at least two control wells (DMSO); the screen has {controls} with usable cells"
    assert skipped == [{"bundle": baselines.MEASUREMENTS, "summary": "mean", "whiten": "none", "reason": reason}]


def test_chance_stands_among_the_baselines():
    score = {"bundle": "m", "summary": "mean", "whiten": "plate", "rule": "NSC", "accuracy": 0.5, "chance": 0.07}
    (found,) = baselines.chance([{**score, "n_scored": 9, "n_treatments": 10}])
    assert (found["baseline"], found["rule"], found["accuracy"], found["n_scored"]) == ("chance", "NSC", 0.07, 9)
