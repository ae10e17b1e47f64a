from __future__ import annotations

import numpy as np
import pytest

from cytovae import schema
from cytovae.errors import ConfigError, SelectionError
from cytovae.explore import study, targets


def draw(small, rng_seed=0, **options):
    request = study.Request(**options)
    rng = np.random.default_rng(rng_seed)
    return study.draw(small.cells, small.z, small.generator, "DMSO", request, rng)


def test_the_papers_path_leads_from_the_plates_typical_control_to_the_treatments_typical_cell(small):
    got = draw(small, treatment="grow@3", steps=6)
    end = targets.treated(small.cells, small.z, "grow@3")
    start = targets.typical_control(small.cells, small.z, "DMSO", like=end.row)
    assert (got.path.control_id, got.path.target_id) == (start.cell_id, end.cell_id)
    np.testing.assert_array_equal(got.path.z[[0, -1]], small.z[[start.row, end.row]])
    assert not np.isin(got.evidence.nearest_rows, [start.row, end.row]).any()
    assert got.evidence.gap_closed is not None and got.evidence.length_percentile is not None
    assert got.title == "DMSO to grow@3"


def test_the_reverse_path_has_the_same_ends_the_other_way(small):
    there, back = draw(small, treatment="grow@3"), draw(small, treatment="grow@3", reverse=True)
    np.testing.assert_array_equal(back.path.z[[0, -1]], there.path.z[[-1, 0]])
    np.testing.assert_array_equal(back.start_rows, there.end_rows)
    assert back.title == "grow@3 back to DMSO"


def test_a_path_from_one_compound_to_another_starts_at_its_typical_cell(small):
    got = draw(small, treatment="dim@1", start_treatment="grow@3")
    assert got.start.cell_id == targets.treated(small.cells, small.z, "grow@3").cell_id
    assert (small.cells[schema.TREATMENT][got.start_rows] == "grow@3").all()


def test_a_dose_series_shows_one_cell_per_dose_and_no_cell_is_its_own_evidence(small):
    got = draw(small, dose_series="grow")
    assert got.path.labels == ("DMSO", "0.3 µM", "3 µM")
    rows = [targets.closest_to_mean(small.z, targets.rows_of(small.cells, t)) for t in ("grow@0.3", "grow@3")]
    np.testing.assert_array_equal(got.path.z[1:], small.z[rows])
    assert not np.isin(got.evidence.nearest_rows, [got.start.row, *rows]).any()


def test_random_choices_follow_the_seed(small):
    a, b, c = (draw(small, seed, treatment="grow@3", target="random", control="random") for seed in (1, 1, 2))
    assert a.path.control_id == b.path.control_id and a.path.target_id == b.path.target_id
    assert (a.path.control_id, a.path.target_id) != (c.path.control_id, c.path.target_id)


def test_a_growing_nucleus_leads_the_ranking(small):
    got = draw(small, treatment="grow@3")
    along = study.morphology_along(got, small.z, small.generator, None, np.random.default_rng(0))
    by_name = along.ranked.set_index("measure")
    assert by_name["change_sd"]["nucleus_area_px2"] > 3
    assert by_name["expected_sd"]["nucleus_area_px2"] > 3
    assert along.ranked["measure"][0] in ("nucleus_area_px2", "nucleus_to_cell_area")


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"start_treatment": "dim@1"}])
def test_a_population_path_closes_the_gap(small, options):
    request = study.Request(treatment="grow@3", steps=3, **options)
    got = study.population(small.cells, small.z, small.generator, "DMSO", request, 8, None, np.random.default_rng(0))
    assert got.path.z.shape == (8, 3, 24)
    assert got.cosine["gap_closed"][0] == 0
    assert got.cosine["gap_closed"][2] > 0.5
    assert (got.cosine["low"] <= got.cosine["mean"]).all() and (got.cosine["mean"] <= got.cosine["high"] + 1e-12).all()
    area = got.curves[got.curves["measure"] == "nucleus_area_px2"].sort_values("step")
    sign = -1 if options.get("reverse") else 1
    assert (sign * area["change"]).iloc[-1] > 100
    assert (sign * (area["change_low"] if sign > 0 else area["change_high"])).iloc[-1] > 0


def test_one_control_well_leaves_the_path_and_says_what_is_missing(small):
    cells = small.cells.copy()
    cells.loc[cells[schema.COMPOUND] == "DMSO", [schema.PLATE, schema.WELL]] = ["Week1_A", "B02"]
    got = study.draw(
        cells, small.z, small.generator, "DMSO", study.Request(treatment="grow@3"), np.random.default_rng(0)
    )
    assert got.evidence.length_percentile is None
    assert any("no null paths" in note for note in got.notes)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ConfigError, "name one of the two"),
        ({"treatment": "grow@3", "dose_series": "grow"}, ConfigError, "name one of the two"),
        ({"dose_series": "grow", "reverse": True}, ConfigError, "leads upwards"),
        (
            {"treatment": "grow@3", "start_treatment": "dim@1", "control": "cell-0001"},
            ConfigError,
            "name one of the two",
        ),
        ({"dose_series": "DMSO"}, SelectionError, "is the control itself"),
        ({"treatment": "grow@3", "control": "cell-9999"}, SelectionError, "there is no cell 'cell-9999'"),
        ({"treatment": "grow@3", "steps": 1}, ConfigError, "2 to 64 steps"),
    ],
)
def test_requests_that_cannot_be_are_one_clear_sentence(small, options, error, words):
    with pytest.raises(error, match=words):
        draw(small, **options)
