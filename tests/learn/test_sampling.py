from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cytovae import schema
from cytovae.errors import TrainingError
from cytovae.learn import sampling
from cytovae.patches import PatchStore
from cytovae.screen import Screen


def sampler(screen: Screen, augment: bool = False) -> sampling.TreatmentSampler:
    cells = screen.cells()
    rows = sampling.split(cells).training_rows(cells)
    return sampling.TreatmentSampler(
        PatchStore(screen.patches_path), rows, cells[schema.TREATMENT].iloc[rows].to_list(), augment
    )


def test_each_channel_is_divided_by_its_own_maximum() -> None:
    images = np.random.default_rng(0).integers(0, 65535, (3, 8, 8, 2)).astype(np.uint16)
    images[1, :, :, 0] = 0
    found = sampling.normalise(images)
    for n in range(3):
        for c in range(2):
            top = images[n, :, :, c].max()
            expected = images[n, :, :, c].astype(np.float32) / np.float32(top) if top else np.zeros((8, 8), np.float32)
            np.testing.assert_array_equal(found[n, :, :, c], expected)
    assert found.dtype == np.float32


def test_normalising_twice_changes_nothing_and_negative_values_count_as_dark() -> None:
    images = np.random.default_rng(1).normal(size=(2, 6, 6, 3)).astype(np.float32)
    once = sampling.normalise(images)
    np.testing.assert_array_equal(sampling.normalise(once), once)
    assert once.min() == 0.0
    assert once.max() == 1.0


def test_no_well_is_on_both_sides_of_the_split(blobs: Screen) -> None:
    cells = blobs.cells()
    split = sampling.split(cells, 0.4)
    held_out, wells = split.wells, sampling.well_names(cells)
    trained = set(wells.iloc[split.training_rows(cells)])
    assert set(wells.iloc[split.test_rows(cells)]) == set(held_out)
    assert held_out
    assert not trained & set(held_out)
    assert trained | set(held_out) == set(wells)


def test_the_split_depends_on_names_alone(blobs: Screen) -> None:
    cells = blobs.cells()
    shuffled = cells.sample(frac=1.0, random_state=3)
    assert sampling.held_out_wells(shuffled, 0.4) == sampling.held_out_wells(cells, 0.4)


@pytest.mark.parametrize("share", [0.15, 0.6, 0.99])
def test_every_treatment_keeps_a_training_well(blobs: Screen, share: float) -> None:
    cells = blobs.cells()
    rows = sampling.split(cells, share).training_rows(cells)
    assert cells[schema.TREATMENT].iloc[rows].nunique() == cells[schema.TREATMENT].nunique()


def test_blank_cells_are_never_drawn(blobs: Screen) -> None:
    cells = blobs.cells()
    rows = sampling.split(cells, 0.0).training_rows(cells)
    assert len(rows) == len(cells) - 5
    assert not cells[schema.BLANK].iloc[rows].any()


def test_a_batch_of_the_size_of_the_screen_holds_each_treatment_once(blobs: Screen) -> None:
    treatments = blobs.cells()[schema.TREATMENT]
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert sorted(treatments.iloc[sampler(blobs).draw_rows(5, rng)]) == sorted(treatments.unique())


def test_smaller_batches_hold_different_treatments_and_larger_ones_go_round(blobs: Screen) -> None:
    treatments = blobs.cells()[schema.TREATMENT]
    rng = np.random.default_rng(0)
    assert treatments.iloc[sampler(blobs).draw_rows(3, rng)].nunique() == 3
    counts = Counter(treatments.iloc[sampler(blobs).draw_rows(12, rng)])
    assert sorted(counts.values()) == [2, 2, 2, 3, 3]


def test_every_training_cell_of_a_treatment_is_drawn_equally_often(blobs: Screen) -> None:
    drawer, rng = sampler(blobs), np.random.default_rng(0)
    drawn = np.concatenate([drawer.draw_rows(5, rng) for _ in range(4000)])
    for rows in drawer.rows:
        counts = np.array([(drawn == row).sum() for row in rows])
        expected = 4000 / len(rows)
        assert ((counts - expected) ** 2 / expected).sum() < len(rows) + 6 * np.sqrt(2 * len(rows))


def test_parts_of_a_batch_make_the_whole(blobs: Screen) -> None:
    drawer = sampler(blobs, augment=True)
    whole = drawer.draw(6, np.random.default_rng(7))
    parts = [drawer.draw(6, np.random.default_rng(7), slice(i, i + 3)) for i in (0, 3)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_eight_orientations_are_all_different_and_keep_the_pixels() -> None:
    patch = np.random.default_rng(0).integers(0, 9999, (1, 5, 5, 2)).astype(np.uint16)
    found = sampling.turned(np.repeat(patch, 8, axis=0), np.arange(8))
    assert len({image.tobytes() for image in found}) == 8
    for image in found:
        np.testing.assert_array_equal(np.sort(image.reshape(-1, 2), axis=0), np.sort(patch.reshape(-1, 2), axis=0))
    np.testing.assert_array_equal(found[1], np.rot90(patch[0]))
    np.testing.assert_array_equal(found[4], patch[0, :, ::-1])


def test_nothing_to_train_on_is_an_error(blobs: Screen) -> None:
    with pytest.raises(TrainingError, match="no cell is left to train on"):
        sampling.TreatmentSampler(PatchStore(blobs.patches_path), np.array([], dtype=np.int64), [])
