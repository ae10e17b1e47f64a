from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from cp_measure.bulk import get_core_measurements

from cytovae.errors import SelectionError
from cytovae.explore import morphology
from cytovae.patches import normalise

CHANNELS = ("DNA", "Tubulin", "Actin")


def disc(radius: float, centre: tuple[float, float] = (33.5, 33.5), stretch: float = 1.0) -> np.ndarray:
    y, x = np.mgrid[:68, :68]
    return np.hypot((y - centre[0]) * stretch, (x - centre[1]) / stretch) <= radius


def cell(nucleus: np.ndarray, body: np.ndarray) -> np.ndarray:
    """A nucleus and a cell of even brightness, (1, H, W, 3)."""
    return np.stack([nucleus * 900, body * 500, body * 700], axis=2)[None].astype(np.uint16)


def test_the_area_of_a_disc_is_pi_r_squared():
    got = morphology.measure(cell(disc(12), disc(25)), CHANNELS)
    assert got["nucleus_area_px2"][0] == pytest.approx(np.pi * 12**2, rel=0.03)
    assert got["cell_area_px2"][0] == pytest.approx(np.pi * 25**2, rel=0.06)
    assert got["nucleus_eccentricity"][0] < 0.1
    assert got["nucleus_solidity"][0] > 0.95


def test_areas_and_lengths_are_in_um_where_the_pixel_size_is_known():
    image = cell(disc(12), disc(25))
    image[..., 1] = disc(8, (33.5, 45.5)) * 500
    px, um = (morphology.measure(image, CHANNELS, size).iloc[0] for size in (None, 0.65))
    assert um["nucleus_area_um2"] == pytest.approx(px["nucleus_area_px2"] * 0.65**2)
    assert um["tubulin_nucleus_distance_um"] == pytest.approx(px["tubulin_nucleus_distance_px"] * 0.65)
    assert [m.name for m in morphology.measures(CHANNELS, 0.65)] == list(um.index)
    assert not any("um" in name for name in px.index)


def test_tubulin_on_one_side_is_as_far_from_the_nucleus_as_it_was_put():
    image = cell(disc(10), disc(25))
    image[..., 1] = disc(4, (33.5, 48.5)) * 500  # its centre is 15 px to the right
    got = morphology.measure(image, CHANNELS).iloc[0]
    assert got["tubulin_nucleus_distance_px"] == pytest.approx(15, abs=0.3)
    assert got["actin_nucleus_distance_px"] < 0.3


def test_a_stretched_nucleus_has_the_eccentricity_of_its_ellipse():
    got = morphology.measure(cell(disc(11, stretch=1.3), disc(27)), CHANNELS).iloc[0]
    assert got["nucleus_eccentricity"] == pytest.approx(np.sqrt(1 - (1 / 1.3**2) ** 2), abs=0.03)


def test_measures_are_cellprofilers_on_the_stated_masks(small):
    images = normalise(small.images[[0, 30, 60]])
    got = morphology.measure(images, CHANNELS)
    nucleus, body = morphology.masks(images, CHANNELS)
    core = get_core_measurements()
    for i in range(3):
        n, b = nucleus[i].astype(np.int32), body[i].astype(np.int32)
        pixels = [images[i, ..., c].astype(float) for c in range(3)]
        texture = core["texture"](b, pixels[2], 3, 32)
        expected = {
            "nucleus_area_px2": core["sizeshape"](n, None)["Area"],
            "nucleus_solidity": core["sizeshape"](n, None)["Solidity"],
            "cell_form_factor": core["sizeshape"](b, None)["FormFactor"],
            "dna_mean": core["intensity"](n, pixels[0])["Intensity_MeanIntensity"],
            "tubulin_sd": core["intensity"](b, pixels[1])["Intensity_StdIntensity"],
            "actin_texture": np.mean([texture[f"Contrast_3_0{d}_32"] for d in range(4)]),
            "actin_rim_share": core["radial_distribution"](b, pixels[2])["RadialDistribution_FracAtD_4of4"],
            "dna_granularity": core["granularity"](n, pixels[0], subsample_size=0.5)["Granularity_1"],
        }
        for name, value in expected.items():
            assert got[name][i] == pytest.approx(np.ravel(value)[0], rel=1e-6), name


def test_a_patch_is_measured_the_same_alone_and_among_others(small):
    together = morphology.measure(small.images[:6], CHANNELS)
    alone = pd.concat([morphology.measure(small.images[i : i + 1], CHANNELS) for i in range(6)], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone, rtol=1e-9)


def test_brightness_of_the_lamp_changes_nothing(small):
    a = morphology.measure(small.images[:3], CHANNELS)
    b = morphology.measure(small.images[:3].astype(float) * 7.0, CHANNELS)
    pd.testing.assert_frame_equal(a, b, rtol=1e-3)


def test_a_blank_patch_is_not_a_number_and_harms_no_other(small):
    images = small.images[:3].copy()
    images[1] = 0
    got = morphology.measure(images, CHANNELS)
    assert got.iloc[1].isna().all()
    pd.testing.assert_frame_equal(
        got.iloc[[0, 2]].reset_index(drop=True), morphology.measure(small.images[[0, 2]], CHANNELS)
    )


def test_a_neighbour_is_not_part_of_the_cell():
    nuclei = disc(10) | disc(10, (33.5, 62.0))
    everything = np.ones((68, 68), bool)
    nucleus, body = morphology.masks(cell(nuclei, everything * 1 + disc(1)), CHANNELS)
    assert not nucleus[0][:, 52:].any()
    assert not body[0][:, 50:].any()


def test_touching_nuclei_are_cut_at_the_neck():
    nucleus, _ = morphology.masks(cell(disc(11, (33.5, 28)) | disc(11, (33.5, 48)), disc(33)), CHANNELS)
    assert nucleus[0].sum() == pytest.approx(np.pi * 11**2, rel=0.08)
    assert nucleus[0][33, 28] and not nucleus[0][33, 48]


def test_the_dna_channel_is_found_by_its_name():
    assert morphology.dna_channel(["Actin", "Hoechst 33342"]) == 1
    assert morphology.dna_channel(["a", "b"]) == 0


def test_what_changed_most_is_ranked_in_control_sd(small):
    frames = np.concatenate([small.images[:1], small.images[20:21]])
    controls = morphology.measure(small.images[:12], CHANNELS)
    treated = morphology.measure(small.images[18:24], CHANNELS)
    along = morphology.along(frames, CHANNELS, controls, treated)
    assert list(along.steps.columns) == [m.name for m in morphology.measures(CHANNELS)]
    change = (along.steps.iloc[1] - along.steps.iloc[0]) / controls.std()
    by_name = along.ranked.set_index("measure")
    for name in ("nucleus_area_px2", "actin_mean"):
        assert by_name["change_sd"][name] == pytest.approx(change[name])
        gap = (treated[name].mean() - controls[name].mean()) / controls[name].std()
        assert by_name["expected_sd"][name] == pytest.approx(gap)
        assert along.spread["control_p95"][name] == pytest.approx(np.percentile(controls[name], 95))
    sizes = along.ranked["change_sd"].abs().dropna().to_numpy()
    assert (np.diff(sizes) <= 0).all()
    assert along.ranked["measure"][0].startswith("nucleus")
    with pytest.raises(SelectionError, match="at least 2 control cells"):
        morphology.along(frames, CHANNELS, controls[:1])


def test_population_curves_are_means_over_paths(small):
    frames = small.images[:12].reshape(4, 3, 68, 68, 3)
    curves = morphology.population(frames, CHANNELS)
    each = np.stack([morphology.measure(path, CHANNELS)["actin_mean"] for path in frames])  # (4, 3)
    got = curves[curves["measure"] == "actin_mean"].sort_values("step")
    np.testing.assert_allclose(got["mean"], each.mean(axis=0))
    np.testing.assert_allclose(got["change"], (each - each[:, :1]).mean(axis=0), atol=1e-12)
    half = 3.182446 * each.std(axis=0, ddof=1) / 2  # t of 3 degrees of freedom, n = 4
    np.testing.assert_allclose(got["high"] - got["mean"], half, rtol=1e-5)
    assert (got["n"] == 4).all()


def test_the_full_set_adds_cellprofilers_own_columns(small):
    got = morphology.measure(small.images[:1], CHANNELS, full=True)
    for name in ("Nuclei_AreaShape_Area", "Cells_Intensity_MeanIntensity_Actin", "Cells_Texture_Contrast_3_00_256_DNA"):
        assert name in got.columns
    assert got["Nuclei_AreaShape_Area"][0] == got["nucleus_area_px2"][0]
    assert got.shape[1] > 500


def test_a_change_is_told_beside_what_the_real_cells_do():
    ranked = pd.DataFrame(
        {
            "measure": ["area", "dna", "actin", "tiny"],
            "label": ["nuclear area (um²)", "DNA mean in the nucleus (share)", "Actin s.d. in the cell", "tiny"],
            "change_sd": [-1.94, 1.5, 1.2, 0.4],
        }
    )
    told = morphology.told(ranked, pd.Series({"area": -0.3, "dna": 1.1, "tiny": 3.0}))
    assert told == [
        "Nuclear area falls by 1.9 s.d. of control cells; the treatment's real cells do not: -0.3.",
        "DNA mean in the nucleus rises by 1.5 s.d. of control cells; the treatment's real cells do so too: +1.1.",
        "Actin s.d. in the cell rises by 1.2 s.d. of control cells; it could not be measured in the real cells.",
    ]
    assert not morphology.agrees(2.0, -2.0)
    assert morphology.told(ranked.tail(1), pd.Series({"tiny": 3.0})) == []


def test_differences_are_in_control_sd():
    controls, treated = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": 1.0}), pd.DataFrame({"a": [4.0, 6.0], "b": 2.0})
    found = morphology.differences(controls, treated)
    assert found["a"] == pytest.approx(3.0) and np.isnan(found["b"])
