from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from cp_measure.bulk import get_core_measurements
from scipy import stats

from cytovae.errors import SelectionError
from cytovae.explore import morphology
from cytovae.explore.morphology import Beside
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
    real = pd.DataFrame(
        {"sd": [-0.3, 1.1, 3.0], "low": [-0.6, 0.4, 2.0], "high": [0.1, 1.8, 4.0]}, index=["area", "dna", "tiny"]
    )
    told = morphology.told(ranked, real)
    assert told == [
        (
            "Nuclear area falls by 1.9 s.d. of control cells; the treatment's real cells do not: -0.3 [-0.6, +0.1].",
            Beside.NOT,
        ),
        (
            "DNA mean in the nucleus rises by 1.5 s.d. of control cells; the treatment's real cells do so too: "
            "+1.1 [+0.4, +1.8].",
            Beside.SO_TOO,
        ),
        (
            "Actin s.d. in the cell rises by 1.2 s.d. of control cells; it could not be measured in enough real cells.",
            Beside.UNMEASURED,
        ),
    ]
    assert morphology.told(ranked.tail(1), real) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_what_real_cells_do_beside_a_path_is_read_from_their_interval(sign):
    for low, high, want in (
        (0.1, 1.5, Beside.SO_TOO),
        (0.1, 0.9, Beside.LESS),
        (-0.2, 0.9, Beside.NOT),
        (-2.0, -1.0, Beside.NOT),
        (-0.2, 1.5, Beside.UNTOLD),
        (np.nan, 1.5, Beside.UNMEASURED),
    ):
        assert morphology.beside(sign * 2.0, *sorted((sign * low, sign * high))) is want


@pytest.mark.parametrize(("wells", "well_sd"), [(2, 0.5), (4, 0.5), (1, 0.0)])
def test_real_cells_are_seldom_said_to_do_what_they_do_not(wells, well_sd):
    """Nominally 2.5 % each; cells of a well share its effect, of which a single well says nothing."""
    rng = np.random.default_rng(0)
    n, each, n_controls, path = 2000, 8, 8, 2.0  # a column is a screen of its own
    wrong = {}
    for truth, false in ((0.0, {Beside.SO_TOO}), (path / 2, {Beside.NOT, Beside.LESS})):
        tables, units = [], []
        for count, shift in ((n_controls, 0.0), (wells, truth)):
            of = np.repeat(np.arange(count), each)
            tables.append(pd.DataFrame(shift + rng.normal(0, well_sd, (count, n))[of] + rng.normal(0, 1, (len(of), n))))
            units.append(of if count > 1 else np.arange(len(of)))
        found, sd = morphology.compared(*tables, *units), tables[0].std()
        says = [morphology.beside(path / sd[k], found["low"][k], found["high"][k]) for k in range(n)]
        wrong[truth] = sum(each in false for each in says)
    limit = stats.binom.ppf(0.999, n, 0.025)
    assert all(count <= limit for count in wrong.values()), wrong
    if wells > 2:  # and it can speak: not by never saying anything
        assert all(count >= stats.binom.ppf(0.001, n, 0.0125) for count in wrong.values()), wrong


def test_differences_are_in_control_sd():
    controls, treated = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": 1.0}), pd.DataFrame({"a": [4.0, 6.0], "b": 2.0})
    found = morphology.differences(controls, treated)
    assert found["a"] == pytest.approx(3.0) and np.isnan(found["b"])
