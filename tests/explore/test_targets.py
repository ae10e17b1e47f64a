from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cytovae import schema
from cytovae.errors import SelectionError
from cytovae.explore import targets


def naive_closest(z, rows):
    mean = np.mean([z[r].astype(float) for r in rows], axis=0)
    return min(rows, key=lambda r: np.sum((z[r].astype(float) - mean) ** 2))


def naive_medoid(z, rows):
    return min(rows, key=lambda r: sum(np.linalg.norm(z[r].astype(float) - z[q].astype(float)) for q in rows))


def test_the_target_is_the_real_cell_closest_to_the_mean(small):
    rows = targets.rows_of(small.cells, "grow@3")
    choice = targets.treated(small.cells, small.z, "grow@3")
    assert choice.row == naive_closest(small.z, list(rows))
    assert choice.cell_id == small.cells[schema.CELL_ID][choice.row]
    assert choice.n_cells == 12


def test_the_medoid_has_the_smallest_summed_distance(monkeypatch):
    z = np.random.default_rng(3).normal(size=(60, 5)).astype(np.float32)
    rows = np.arange(3, 55, 2)
    assert targets.medoid(z, rows) == naive_medoid(z, list(rows))
    monkeypatch.setattr(targets, "MEDOID_CANDIDATES", 6)
    assert targets.medoid(z, rows) == naive_medoid(z, list(rows))


def test_one_outlier_moves_the_mean_but_not_the_medoid():
    z = np.zeros((8, 2), np.float32)
    z[:7, 0] = np.arange(7)
    z[7] = (1000.0, 0.0)
    assert targets.medoid(z, np.arange(8)) in (3, 4)
    assert targets.closest_to_mean(z, np.arange(8)) == 6


def test_choices_do_not_depend_on_the_order_of_rows(small):
    order = np.random.default_rng(0).permutation(len(small.cells))
    shuffled = small.cells.iloc[order].reset_index(drop=True)
    a = targets.treated(small.cells, small.z, "dim@1").cell_id
    assert targets.treated(shuffled, small.z[order], "dim@1").cell_id == a


def test_the_typical_control_is_of_the_targets_plate(small):
    row = int(targets.rows_of(small.cells, "grow@3")[-1])
    plate = small.cells[schema.PLATE][row]
    choice = targets.typical_control(small.cells, small.z, "DMSO", like=row)
    peers = np.flatnonzero((small.cells[schema.COMPOUND] == "DMSO") & (small.cells[schema.PLATE] == plate))
    assert choice.row == naive_closest(small.z, list(peers))
    assert plate in choice.how


def test_a_plate_with_few_controls_falls_back_to_the_batch_and_says_so(make_table):
    rows = [("Week1_1", "B02", "DMSO", 0.0)] * 2 + [("Week1_2", "B02", "DMSO", 0.0)] * 9
    cells = make_table([*rows, ("Week1_1", "C02", "x", 1.0), ("Week2_1", "C02", "x", 1.0)])
    near, where = targets.controls_near(cells, "DMSO", 11)
    assert len(near) == 11 and where == "of batch Week1"
    near, where = targets.controls_near(cells, "DMSO", 12)
    assert len(near) == 11 and where == "of the screen"


def test_blank_cells_are_never_chosen_nor_counted(small):
    cells = small.cells.copy()
    chosen = targets.treated(cells, small.z, "grow@3").row
    cells.loc[chosen, schema.BLANK] = True
    assert targets.treated(cells, small.z, "grow@3").row != chosen
    assert len(targets.rows_of(cells, "grow@3")) == 11
    control = targets.typical_control(cells, small.z, "DMSO").row
    cells.loc[control, schema.BLANK] = True
    assert targets.typical_control(cells, small.z, "DMSO").row != control
    assert control not in targets.controls(cells, "DMSO")
    cells.loc[targets.rows_of(cells, "dim@1"), schema.BLANK] = True
    with pytest.raises(SelectionError, match="all 24 cells of 'dim@1' are blank"):
        targets.rows_of(cells, "dim@1")


def test_two_planted_groups_are_found_with_their_shares(make_table):
    rng = np.random.default_rng(4)
    z = rng.normal(size=(90, 20)).astype(np.float32)
    z[60:] += np.array([9.0, -9.0] + [0.0] * 18, np.float32)
    cells = make_table([("P1", "B02", "drug", 1.0)] * 90)
    found = targets.subpopulations(cells, z, "drug@1", np.random.default_rng(0))
    assert [g.number for g in found.groups] == [1, 2]
    assert [g.share for g in found.groups] == pytest.approx([2 / 3, 1 / 3])
    assert set(found.groups[0].rows) == set(range(60))
    assert found.groups[1].exemplar.row == naive_closest(z, list(range(60, 90)))
    assert found.p < 0.01


def test_one_cloud_is_one_group(make_table):
    z = np.random.default_rng(5).normal(size=(120, 20)).astype(np.float32) * np.linspace(3, 0.1, 20, dtype=np.float32)
    cells = make_table([("P1", "B02", "drug", 1.0)] * 120)
    found = targets.subpopulations(cells, z, "drug@1", np.random.default_rng(0))
    assert len(found.groups) == 1
    assert found.groups[0].share == 1.0
    assert found.groups[0].exemplar.row == naive_closest(z, list(range(120)))


def test_valleys_are_counted_in_three_windows():
    values = np.array([-1.5, -0.5, 0.5, 0.9, 1.1, 2.0, 3.1, 4.0, 4.9, 5.1])
    # windows -1 to 1, 1 to 3, 3 to 5: 3, 2 and 3 values
    expected = stats.binom.cdf(2, 5, 0.5)
    assert targets.valley_p(values, 0.0, 4.0) == pytest.approx(expected)
    assert targets.valley_p(np.zeros(0), 0.0, 4.0) == 1.0


ONE_PEAK = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy tails": lambda rng, shape: rng.standard_t(2, size=shape),
    "skewed": lambda rng, shape: rng.lognormal(0, 1, size=shape),
    "flat": lambda rng, shape: rng.uniform(size=shape),
    "one scale for all": lambda rng, shape: rng.normal(size=shape) * rng.lognormal(0, 1, size=(shape[0], 1)),
}


@pytest.mark.parametrize("name", ONE_PEAK)
def test_cells_of_one_group_are_rarely_split(make_table, name):
    rng = np.random.default_rng(11)
    cells = make_table([("P1", "B02", "drug", 1.0)] * 60)
    split = 0
    for _ in range(30):
        z = (ONE_PEAK[name](rng, (60, 12)) * np.linspace(3, 0.3, 12)).astype(np.float32)
        split += len(targets.subpopulations(cells, z, "drug@1", rng).groups) > 1
    assert split <= 5  # 5 % of 30, and not more than chance adds in 1 of 200 such tests


def test_a_few_cells_are_one_group(small, make_table):
    cells = make_table([("P1", "B02", "drug", 1.0)] * 3)
    assert len(targets.subpopulations(cells, small.z[:3], "drug@1", np.random.default_rng(0)).groups) == 1


def test_doses_come_lowest_first(small):
    doses = targets.dose_series(small.cells, "grow")
    assert [d.treatment for d in doses] == ["grow@0.3", "grow@3"]
    assert all((small.cells[schema.TREATMENT][d.rows] == d.treatment).all() for d in doses)


def test_pairs_are_of_one_plate_and_use_every_treated_cell_before_any_twice(small):
    starts, ends = targets.pairs(small.cells, "grow@3", "DMSO", 12, np.random.default_rng(0))
    cells = small.cells
    assert (cells[schema.COMPOUND][starts] == "DMSO").all()
    assert (cells[schema.PLATE][starts].to_numpy() == cells[schema.PLATE][ends].to_numpy()).all()
    assert sorted(ends) == sorted(targets.rows_of(cells, "grow@3"))


@pytest.mark.parametrize("typical", [False, True])
def test_null_pairs_are_controls_of_different_wells_of_one_plate(small, typical):
    z = small.z if typical else None
    starts, ends = targets.null_pairs(small.cells, "DMSO", 40, np.random.default_rng(0), embeddings=z)
    cells = small.cells
    a, b = cells.iloc[starts], cells.iloc[ends]
    assert (a[schema.COMPOUND] == "DMSO").all() and (b[schema.COMPOUND] == "DMSO").all()
    assert (a[schema.PLATE].to_numpy() == b[schema.PLATE].to_numpy()).all()
    assert (a[schema.WELL].to_numpy() != b[schema.WELL].to_numpy()).all()
    if typical:
        for row in np.unique(np.concatenate([starts, ends])):
            same = (cells[schema.PLATE] == cells[schema.PLATE][row]) & (cells[schema.WELL] == cells[schema.WELL][row])
            assert row == naive_closest(small.z, list(np.flatnonzero(same)))


def test_one_control_well_makes_no_null(make_table):
    cells = make_table([("P1", "B02", "DMSO", 0.0)] * 5)
    with pytest.raises(SelectionError, match="come from one well; null paths need two"):
        targets.null_pairs(cells, "DMSO", 3, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: targets.rows_of(s.cells, "grwo@3"), "did you mean 'grow@3'"),
        (lambda s: targets.rows_of(s.cells, "grow@7"), "of this compound there is grow@0.3, grow@3"),
        (lambda s: targets.rows_of(s.cells, "grow"), "written compound@concentration"),
        (lambda s: targets.row_of(s.cells, "cell-00001"), "no cell 'cell-00001' among the 72 .* did you mean"),
        (lambda s: targets.dose_series(s.cells, "gro"), "did you mean 'grow'"),
        (lambda s: targets.controls(s.cells, "water"), "no cells of the control 'water'"),
        (lambda s: targets.controls(s.cells, "DMSO", plate="P9"), "plate 'P9' has no cells"),
        (lambda s: targets.medoid(s.z, []), "no cells are selected"),
        (
            lambda s: targets.chosen(s.cells, s.z, "grow@3", "cell-0000", np.random.default_rng(0)),
            "was treated with 'DMSO@0', not 'grow@3'",
        ),
        (
            lambda s: targets.chosen(s.cells, s.z, "grow@3", "subpopulation:9", np.random.default_rng(0)),
            r"no subpopulation '9'; there is 1 \(",
        ),
    ],
)
def test_a_choice_that_is_not_there_is_one_clear_sentence(small, call, words):
    with pytest.raises(SelectionError, match=words):
        call(small)


def test_a_treatment_of_one_cell_stands_for_itself(make_table):
    cells, z = make_table([("P1", "B02", "DMSO", 0.0), ("P1", "C02", "rare", 1.0)]), np.zeros((2, 3), np.float32)
    choice = targets.treated(cells, z, "rare@1")
    assert (choice.row, choice.how, choice.n_cells) == (1, "the only cell of rare 1 µM", 1)
    assert targets.chosen(cells, z, "rare@1", "cell-0001", np.random.default_rng(0)).row == 1
    with pytest.raises(SelectionError, match=r"'rare@1' has 1 cell \(cell-0001\), this needs at least 2"):
        targets.pairs(cells, "rare@1", "DMSO", 4, np.random.default_rng(0))


def test_cells_of_one_plate_or_batch_are_known_as_such(make_table):
    cells = make_table([(plate, "B02", "DMSO", 0.0) for plate in ("Week1_1", "Week1_1", "Week1_2", "Week2_1")])
    assert [targets.relation(cells, 0, row).name for row in (1, 2, 3)] == ["PLATE", "BATCH", "NONE"]


def test_a_treatment_is_found_by_the_name_the_screen_gives_it(small):
    cells = small.cells.copy()
    mine = (cells[schema.TREATMENT] == "grow@3").to_numpy()
    for name in ("TP53", "grow@3 [A549]"):
        cells.loc[mine, schema.TREATMENT] = name
        np.testing.assert_array_equal(targets.rows_of(cells, name), np.flatnonzero(mine))


def test_of_many_cells_a_stated_sample_stands_for_them(make_table, monkeypatch):
    monkeypatch.setattr(targets, "MOST_CELLS", 50)
    cells = make_table([("P1", "B02", "DMSO", 0.0)] * 400)
    z = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    some = targets.standing_for(np.arange(400))
    assert len(np.unique(some)) == 50 and np.array_equal(some, targets.standing_for(np.arange(400)))
    assert np.array_equal(targets.standing_for(np.arange(50)), np.arange(50))
    choice = targets.typical(cells, z, np.arange(400), "DMSO")
    assert choice.how == "closest to the mean of 50 cells drawn at random of the 400 of DMSO" and choice.n_cells == 50
    assert choice.row == some[np.argmin(np.linalg.norm(z[some] - z[some].mean(axis=0), axis=1))]


def test_null_paths_are_chosen_of_as_many_cells_as_the_request(make_table, monkeypatch):
    monkeypatch.setattr(targets, "MOST_CELLS", 20)
    cells = make_table([("P1", f"B{i // 40:02d}", "DMSO" if i < 1200 else "a", float(i >= 1200)) for i in range(1280)])
    z = np.random.default_rng(0).normal(size=(1280, 4)).astype(np.float32)
    made = targets.null_draws(cells, z, "DMSO", np.arange(1200, 1280), 10, np.random.default_rng(1))
    assert {len(draw.end_rows) for draw in made.draws} == {20}


def test_treatments_are_judgeable_where_as_many_control_wells_hold_as_many_cells(make_table):
    def table(wells, each, treated):
        rows = [("P1", f"B{w:02d}", "DMSO", 0.0) for w in range(wells) for _ in range(each)]
        rows += [("P1", f"C{w}", "x", 1.0) for w in range(2) for _ in range(treated)]
        return make_table([*rows, ("P1", "D01", "y", 1.0)])

    assert targets.judgeable(table(38, 4, 4), "DMSO") == ["x@1", "y@1"]  # 19 groups of two wells
    assert targets.judgeable(table(37, 4, 4), "DMSO") == ["y@1"]
    assert targets.judgeable(table(38, 3, 4), "DMSO") == ["y@1"]
    assert targets.judgeable(table(18, 4, 4), "DMSO") == []
