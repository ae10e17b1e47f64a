"""Nuclei are found: against discs drawn by hand, the phantom's truth, and a real field a person has looked at."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import tifffile
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from cytovae.errors import ConfigError
from cytovae.ingest.nuclei import NucleiOptions, find_nuclei
from cytovae.phantom.screen import PhantomOptions, write
from tests.ingest.drawn import draw, grid

TOLERANCE_PX = 6.0


def blobs(
    discs: list[tuple[float, float, float, float]],
    shape: tuple[int, int] = (400, 500),
    noise: float = 20,
    seed: int = 0,
) -> npt.NDArray[np.uint16]:
    """A DNA image with discs (y, x, radius, height) over a noisy background."""
    plane = np.zeros(shape, dtype=np.float32)
    for y, x, radius, height in discs:
        one = np.zeros(shape, dtype=np.float32)
        cv2.circle(one, (round(x * 16), round(y * 16)), round(radius * 16), 1.0, -1, cv2.LINE_8, 4)
        plane = np.maximum(plane, height * one)
    plane = cv2.GaussianBlur(plane, (0, 0), 1.2) + 500
    return (plane + np.random.default_rng(seed).normal(0, noise, shape)).astype(np.uint16)


def matched(truth: npt.ArrayLike, found: npt.ArrayLike) -> int:
    """How many pairs lie within the tolerance at best (optimal assignment)."""
    gaps = cdist(np.reshape(truth, (-1, 2)), np.reshape(found, (-1, 2)))
    near = gaps <= TOLERANCE_PX
    rows, columns = linear_sum_assignment(~near)
    return int(near[rows, columns].sum())


def test_single_discs_are_found_to_a_pixel() -> None:
    truth = grid(20, (400, 500))
    found = find_nuclei(draw(truth, (400, 500))[..., 0])
    assert len(found) == 20
    assert cdist(truth, found).min(axis=1).max() < 1.0


def test_centres_come_sorted_and_do_not_depend_on_gain_or_offset() -> None:
    image = draw(grid(12), seed=3)[..., 0]
    found = find_nuclei(image)
    assert found.dtype == np.float32
    assert found.tolist() == sorted(found.tolist())
    assert np.allclose(found, find_nuclei(image.astype(np.float32) * 3 + 1000), atol=0.5)


@pytest.mark.parametrize("gap", [22, 26, 30, 36])
@pytest.mark.parametrize("angle", [0.0, 0.6, 1.3])
def test_touching_nuclei_are_taken_apart(gap: float, angle: float) -> None:
    y, x = np.sin(angle) * gap / 2, np.cos(angle) * gap / 2
    pair = [(200 + y, 250 + x), (200 - y, 250 - x)]
    found = find_nuclei(blobs([(*pair[0], 17, 1000), (*pair[1], 17, 1100)]))
    assert len(found) == 2
    assert matched(pair, found) == 2


def test_a_chain_of_three_is_three() -> None:
    chain = [(200.0, 200.0), (200.0, 228.0), (214.0, 252.0)]
    assert matched(chain, find_nuclei(blobs([(y, x, 16, 1000) for y, x in chain]))) == 3


def test_uneven_light_hides_no_nucleus() -> None:
    truth = grid(24, (512, 640), seed=5)
    field = draw(truth, (512, 640), seed=5)[..., 0].astype(np.float64)
    y, x = np.mgrid[:512, :640]
    light = 1.4 - 1.0 * ((y / 512 - 0.2) ** 2 + (x / 640 - 0.1) ** 2)
    assert light.min() < 0.4
    found = find_nuclei((field * light).astype(np.uint16))
    assert len(found) == 24
    assert matched(truth, found) == 24


def test_dim_and_mitotic_nuclei_are_both_found() -> None:
    dim = [(60, 60), (60, 200), (200, 60), (300, 300), (90, 400)]
    mitotic = [(200, 200), (340, 120)]
    image = blobs([(y, x, 17, 350) for y, x in dim] + [(y, x, 10, 6000) for y, x in mitotic])
    found = find_nuclei(image)
    assert len(found) == 7
    assert matched(dim + mitotic, found) == 7


def test_debris_is_no_nucleus() -> None:
    image = blobs([(100, 100, 17, 1000), (250, 300, 3, 3000), (300, 100, 4, 1200), (50, 400, 2, 9000)])
    assert matched([(100, 100)], find_nuclei(image)) == len(find_nuclei(image)) == 1


def test_fragments_of_one_nucleus_are_one_cell() -> None:
    rng = np.random.default_rng(2)
    turns = np.arange(7) * 2 * np.pi / 7
    pieces = [(200 + 13 * np.sin(t), 250 + 13 * np.cos(t), rng.uniform(4.5, 6.5), 1000) for t in turns]
    found = find_nuclei(blobs([*pieces, (80, 100, 17, 1000)]))
    assert len(found) == 2
    assert matched([(200, 250), (80, 100)], found) == 2


def test_the_two_plates_of_an_anaphase_are_one_cell() -> None:
    image = blobs([(190, 250, 7, 4000), (212, 250, 7, 4000), (80, 100, 17, 1000), (300, 380, 17, 1000)])
    assert matched([(201, 250), (80, 100), (300, 380)], find_nuclei(image)) == len(find_nuclei(image)) == 3


def test_a_nucleus_cut_by_the_edge_is_centred_where_it_would_be_whole() -> None:
    found = find_nuclei(blobs([(5, 100, 17, 1000), (200, 495, 17, 1000), (200, 250, 17, 1000)]))
    assert matched([(5, 100), (200, 495), (200, 250)], found) == 3


@pytest.mark.parametrize("image", [np.zeros((200, 300)), np.full((200, 300), 700.0)], ids=["zero", "flat"])
def test_nothing_is_found_in_nothing(image: npt.NDArray) -> None:
    assert find_nuclei(image.astype(np.uint16)).shape == (0, 2)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_found_in_noise(seed: int) -> None:
    assert len(find_nuclei(blobs([], noise=40, seed=seed))) == 0


def test_an_absurd_diameter_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 6 px"):
        NucleiOptions(diameter_px=2)


def test_smaller_cells_are_found_when_their_size_is_said() -> None:
    truth = [(y, x) for y in range(30, 370, 40) for x in range(30, 470, 40)]
    image = blobs([(y, x, 8, 1000) for y, x in truth])
    assert matched(truth, find_nuclei(image, NucleiOptions(diameter_px=16))) == len(truth)


def test_phantom_nuclei_are_found_with_f1_of_95_percent(tmp_path: Path) -> None:
    """Cells with several whole nuclei count as found by any of these: the truth knows one centre per cell."""
    write(tmp_path / "raw", PhantomOptions(treatments=12, wells=1, controls=2, cells=40, seed=11), processes=1)
    truth = pd.read_csv(tmp_path / "raw" / "truth" / "cells.csv").set_index(["plate", "well"])
    table = pd.read_csv(tmp_path / "raw" / "BBBC021_v1_image.csv")
    hits = cells = centres = 0
    for row in table.itertuples():
        image = tifffile.imread(tmp_path / "raw" / row.Image_PathName_DAPI / row.Image_FileName_DAPI)
        found = find_nuclei(image)
        here = truth.loc[[(row.Image_Metadata_Plate_DAPI, row.Image_Metadata_Well_DAPI)]]
        several = (here["nucleus"] == "multinucleate").to_numpy()
        places = here[["center_y_px", "center_x_px"]].to_numpy()
        nearest = cdist(found, places)
        owner = nearest.argmin(axis=1)
        of_several = several[owner] & (nearest.min(axis=1) < 45)
        seen = len(set(owner[of_several]))
        hits += matched(places[~several], found[~of_several]) + seen
        cells += len(here)
        centres += int((~of_several).sum()) + seen
    assert cells > 300
    assert 2 * hits / (cells + centres) >= 0.95


def test_the_real_field_is_segmented_as_a_person_sees_it(bbbc021: Path, tmp_path: Path) -> None:
    """Counted by eye in the overlay: 190 cells, an anaphase as one. Set CYTOVAE_PICTURES to keep the picture."""
    [path] = (bbbc021 / "fields" / "Week2" / "Week2_24381").glob("*B02_s1_w1*")
    image = tifffile.imread(path)
    found = find_nuclei(image)
    low, high = np.percentile(image, [0.5, 99.7])
    grey = (255 * np.clip((image - low) / (high - low), 0, 1) ** 0.6).astype(np.uint8)
    picture = cv2.merge([grey, grey, grey])
    for y, x in found:
        cv2.circle(picture, (round(float(x)), round(float(y))), 4, (0, 0, 255), -1)
    folder = Path(os.environ.get("CYTOVAE_PICTURES", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "Week2_24381_B02_s1_nuclei.png"), picture)
    assert abs(len(found) - 190) <= 0.04 * 190
    smooth = cv2.GaussianBlur(image, (0, 0), 2)
    inside = found[((found > 0) & (found < np.array(image.shape) - 1)).all(axis=1)].round().astype(int)
    assert np.mean(smooth[inside[:, 0], inside[:, 1]] > 900) > 0.97  # background is 600 to 800
