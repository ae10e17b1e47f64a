"""Drawn cells: truth against pixels, pieces against naive loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from cytovae.phantom import cells as phantom_cells
from cytovae.phantom import traits as phantom_traits
from cytovae.phantom.cells import PAD_PX, Optics, draw_field

SHAPE = (384, 448)
CELLS = 24.0
OPTICS = Optics()


def draw(mechanism: str | None, strength: float, seed: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    return draw_field(mechanism, strength, {}, CELLS, SHAPE, OPTICS, np.random.default_rng(seed))[:2]


def over_cells(counts: np.ndarray, channel: int) -> float:
    """Mean counts of the brighter part of a field above its background."""
    image = counts[..., channel].astype(float)
    floor = np.percentile(image, 2)
    bright = image[image > floor + 320]
    return float(bright.mean() - floor)


def nucleus_at(image: np.ndarray, y: float, x: float) -> tuple[float, float, float]:
    """Area and centroid of the thresholded object at a point: the oracle of the true area."""
    smooth = ndimage.gaussian_filter(image.astype(float), 1.0)
    floor = np.percentile(smooth, 20)
    around = smooth[max(0, int(y) - 9) : int(y) + 10, max(0, int(x) - 9) : int(x) + 10]
    objects, _ = ndimage.label(ndimage.binary_fill_holes(smooth > (floor + np.median(around)) / 2))
    inside = objects == objects[round(y), round(x)]
    cy, cx = ndimage.center_of_mass(inside)
    return float(inside.sum()), cy, cx


@pytest.fixture(scope="module")
def controls() -> list[tuple[np.ndarray, pd.DataFrame]]:
    return [draw(None, 0.0, seed) for seed in range(3)]


def test_a_field_is_decided_by_its_generator(controls: list[tuple[np.ndarray, pd.DataFrame]]) -> None:
    again, truth = draw(None, 0.0, 0)
    assert np.array_equal(again, controls[0][0])
    pd.testing.assert_frame_equal(truth, controls[0][1])


def test_measured_nuclei_agree_with_the_truth(controls: list[tuple[np.ndarray, pd.DataFrame]]) -> None:
    measured, true, off = [], [], []
    for counts, truth in controls:
        plain = truth[(truth["phase"] == "interphase") & (truth["nuclear_pieces"] == 1)]
        inner = plain[plain["center_y_px"].between(30, SHAPE[0] - 30) & plain["center_x_px"].between(30, SHAPE[1] - 30)]
        for cell in inner.itertuples():
            area, y, x = nucleus_at(counts[..., 0], cell.center_y_px, cell.center_x_px)
            apart = np.hypot(truth["center_y_px"] - cell.center_y_px, truth["center_x_px"] - cell.center_x_px)
            if np.sort(apart)[1] > 55:  # else it may touch a neighbour
                measured.append(area)
                true.append(cell.nuclear_area_px)
                off.append(np.hypot(y - cell.center_y_px, x - cell.center_x_px))
    assert len(true) > 15
    assert np.corrcoef(measured, true)[0, 1] > 0.95
    assert 0.8 < np.median(np.divide(measured, true)) < 1.05  # the rim of a nucleus fades
    assert np.percentile(off, 90) < 2.0


def test_counts_are_12_bit_steps(controls: list[tuple[np.ndarray, pd.DataFrame]]) -> None:
    for counts, _ in controls:
        assert counts.dtype == np.uint16
        assert counts.shape == (*SHAPE, 3)
        assert np.gcd.reduce(counts.ravel()) == 16
        assert counts.max() <= 4095 * 16
        assert counts.min() > 0


def test_a_stronger_stain_is_brighter_by_its_gain_and_blur_takes_detail() -> None:
    def over_floor(optics: Optics) -> tuple[float, float]:
        counts, _, _ = draw_field(None, 0.0, {}, CELLS, SHAPE, optics, np.random.default_rng(4))
        image = counts[..., 2].astype(float)
        detail = ndimage.gaussian_filter(image, 0.8) - ndimage.gaussian_filter(image, 2.0)
        return float(image.mean() - 16 * phantom_cells.OFFSET_STEPS), float(detail.std())

    dark = (0.0, 0.0, 0.0)
    usual, strong = (over_floor(Optics(gain=(1.0, 1.0, g), background=dark)) for g in (1.0, 1.5))
    blurred = over_floor(Optics(background=dark, blur_px=2.0))
    assert strong[0] / usual[0] == pytest.approx(1.5, rel=0.02)
    assert blurred[0] / usual[0] == pytest.approx(1.0, rel=0.02)
    assert blurred[1] < 0.6 * usual[1]


def test_actin_falls_with_the_dose_of_a_disruptor() -> None:
    pixels, amounts, spots = [], [], []
    for strength in (0.0, 0.45, 0.95):
        fields = [draw("Actin disruptors", strength, seed) for seed in range(3)]
        pixels.append(np.mean([over_cells(counts, 2) for counts, _ in fields]))
        cells = pd.concat([truth for _, truth in fields])
        cells = cells[cells["phase"] == "interphase"]
        amounts.append((cells["actin_amount"] / cells["cell_area_px"]).median())
        spots.append(cells["actin_puncta"].mean())
    assert pixels[0] > pixels[1] > pixels[2]
    assert amounts[0] > amounts[1] > amounts[2]
    assert spots[0] < spots[1] < spots[2]


def test_only_part_of_the_destabilised_nuclei_are_fragmented() -> None:
    cells = pd.concat([draw("Microtubule destabilizers", 0.95, seed)[1] for seed in range(5)])
    assert 0.25 < cells["fragmented"].mean() < 0.6
    whole = pd.concat([draw(None, 0.0, seed)[1] for seed in range(5)])
    assert whole["fragmented"].mean() < 0.05
    assert (cells.loc[cells["fragmented"], "nuclear_pieces"] >= 6).all()


def test_filaments_go_where_microtubules_are_destabilised() -> None:
    def texture(mechanism: str | None) -> float:
        counts, _ = draw(mechanism, 0.95, 3)
        image = counts[..., 1].astype(float)
        inside = ndimage.gaussian_filter(image, 6) > np.percentile(image, 2) + 700
        detail = ndimage.gaussian_filter(image, 1.0) - ndimage.gaussian_filter(image, 3.0)
        return float(detail[inside].std())

    assert texture("Microtubule stabilizers") > 1.3 * texture(None) > 1.7 * texture("Microtubule destabilizers")


@pytest.mark.parametrize(
    ("mechanism", "column", "more"),
    [
        ("Aurora kinase inhibitors", "nuclear_area_px", True),
        ("DNA damage", "cell_area_px", True),
        ("Protein synthesis", "nuclear_area_px", False),
        ("Cholesterol-lowering", "cell_elongation", True),
        ("Epithelial", "junctions", True),
        ("Kinase inhibitors", "ruffles", True),
        ("Microtubule stabilizers", "bundling", True),
        ("DNA replication", "chromatin_contrast", True),
        ("Protein degradation", "aggresome_radius_px", True),
    ],
)
def test_each_mechanism_has_its_phenotype(
    mechanism: str, column: str, more: bool, controls: list[tuple[np.ndarray, pd.DataFrame]]
) -> None:
    _, truth = draw(mechanism, 0.95, 11)
    usual = pd.concat([cells for _, cells in controls])
    medians = [t.loc[t["phase"] == "interphase", column].median() for t in (truth, usual)]
    assert (medians[0] > 1.2 * medians[1]) if more else (medians[0] < medians[1] / 1.2)


def test_a_multinucleate_cell_has_several_nuclei_and_any_other_one() -> None:
    drawn = draw_field("Microtubule stabilizers", 0.95, {}, CELLS, SHAPE, OPTICS, np.random.default_rng(1))
    _, cells, nuclei = drawn
    inner = cells[cells["center_y_px"].between(60, SHAPE[0] - 60) & cells["center_x_px"].between(60, SHAPE[1] - 60)]
    count = nuclei.groupby("object").size().reindex(inner["object"], fill_value=0).to_numpy()
    several = (inner["nucleus"] == "multinucleate").to_numpy()
    assert several.sum() >= 3
    assert (count[several] >= 2).all()
    assert (count[~several] == 1).all()
    area = nuclei.groupby("object")["area_px"].sum().reindex(inner["object"]).to_numpy()
    assert np.array_equal(area, inner["nuclear_area_px"])


def test_most_cells_under_an_eg5_inhibitor_are_monoasters() -> None:
    cells = pd.concat([draw("Eg5 inhibitors", 0.95, seed)[1] for seed in range(4)])
    assert 0.4 < (cells["phase"] == "monoaster").mean() < 0.8


def test_a_mechanism_without_strength_is_the_control() -> None:
    for mechanism in phantom_traits.MECHANISMS:
        traits = phantom_traits.treated(mechanism, np.array([0.0, 1.0]))
        for name, usual in phantom_traits.CONTROL.items():
            assert traits[name][0] == usual
            assert traits[name][1] == pytest.approx(phantom_traits.MECHANISMS[mechanism].get(name, usual))


def test_every_mechanism_names_known_traits() -> None:
    for full in phantom_traits.MECHANISMS.values():
        assert set(full) <= set(phantom_traits.CONTROL)
    assert set(phantom_traits.SPREAD) <= set(phantom_traits.CONTROL)


def test_territories_are_those_of_a_naive_loop() -> None:
    rng = np.random.default_rng(2)
    centres = rng.uniform(5, 45, (6, 2)).astype(np.float32)
    reach = rng.uniform(6, 16, (6, 128)).astype(np.float32)
    distance, label = phantom_cells._nearest(centres, reach, (50, 50))
    for y in range(0, 50, 3):
        for x in range(0, 50, 3):
            found, nearest = -1, np.inf
            for i, (cy, cx) in enumerate(centres):
                angle = np.arctan2(y - cy, x - cx) % (2 * np.pi)
                away = np.hypot(y - cy, x - cx) / reach[i][round(angle * 128 / (2 * np.pi)) % 128]
                if away < min(1, nearest):
                    found, nearest = i, away
            if abs(nearest - 1) > 0.05 and (label[y, x] != found or found >= 0):  # clear of the rounding of angles
                assert label[y, x] == found or abs(distance[y, x] - nearest) < 0.05


def test_filaments_stay_in_their_cell() -> None:
    label = np.full((60, 60), -1, np.int32)
    label[10:50, 10:30] = 0
    label[10:50, 30:50] = 1
    f = 40
    rng = np.random.default_rng(1)
    start = np.stack([rng.uniform(12, 48, f), rng.uniform(12, 28, f)], 1)
    walks = phantom_cells._Walks(
        start=start, heading=rng.uniform(0, 6, f), owner=np.zeros(f, int), length=np.full(f, 40.0),
        wobble=np.full(f, 0.1), axis=np.zeros(f), pull=np.zeros(f), light=np.ones(f),
    )  # fmt: skip
    light = phantom_cells._walk(walks, label, rng)
    near = ndimage.binary_dilation(label == 0, np.ones((3, 3)))  # light is shared with the next pixel
    assert light[~near].sum() == 0
    assert light.sum() == pytest.approx(f * 40, rel=0.35)


def test_light_becomes_counts_as_in_a_camera() -> None:
    optics = Optics(gain=(1.0, 1.0, 1.0), background=(0.0, 0.0, 0.0), blur_px=0.8, shade=((0.0, 0.0, 0.0),) * 3)
    light = np.empty((2 * PAD_PX + 200, 2 * PAD_PX + 200, 3), np.float32)
    light[:] = (20.0, 200.0, 1000.0)
    steps = phantom_cells._photograph(light, optics, np.random.default_rng(0)) / 16.0
    mean, variance = steps.mean((0, 1)), steps.var((0, 1))
    assert mean == pytest.approx(np.array([20.0, 200.0, 1000.0]) + phantom_cells.OFFSET_STEPS, abs=0.5)
    expected = np.array([20.0, 200.0, 1000.0]) / phantom_cells.ELECTRONS_PER_STEP + phantom_cells.READ_NOISE_STEPS**2
    assert variance == pytest.approx(expected + 1 / 12, rel=0.06)


def test_corners_are_darker_than_the_middle() -> None:
    shade = ((0.2, 0.0, 0.0),) * 3
    optics = Optics(background=(0.0, 0.0, 0.0), shade=shade)
    light = np.full((2 * PAD_PX + 201, 2 * PAD_PX + 201, 3), 2000.0, np.float32)
    steps = phantom_cells._photograph(light, optics, np.random.default_rng(0)) / 16.0 - phantom_cells.OFFSET_STEPS
    assert steps[98:103, 98:103].mean() == pytest.approx(2000, rel=0.01)
    assert steps[:5, :5].mean() == pytest.approx(2000 * 0.8, rel=0.02)
