from __future__ import annotations

import numpy as np
import pytest

from cytovae.errors import SelectionError
from cytovae.explore import responders, targets


def made(make_table, rng, responding, n_wells=6, each=10, d=64, size=6.0):
    """Controls and treated cells of `n_wells` wells each; of the treated, the first of each well respond."""
    rows = [("P1", f"B{w:02d}", "DMSO", 0.0) for w in range(n_wells) for _ in range(each)]
    rows += [("P1", f"C{w:02d}", "drug", 1.0) for w in range(n_wells) for _ in range(each)]
    z = rng.normal(size=(len(rows), d))
    moved = np.zeros(len(rows), dtype=bool)
    for w in range(n_wells):
        first = n_wells * each + w * each
        moved[first : first + responding] = True
    z[moved, 0] += size
    return make_table(rows), z.astype(np.float32), moved


def test_a_cells_place_is_on_the_line_that_the_others_make():
    rng = np.random.default_rng(0)
    treated, control = rng.normal(1, 1, (5, 7)), rng.normal(0, 1, (6, 7))
    got = responders.places(treated, control)
    for i in range(5):
        way = np.delete(treated, i, axis=0).mean(axis=0) - control.mean(axis=0)
        assert got[0][i] == pytest.approx((treated[i] - control.mean(axis=0)) @ way / (way @ way))
    for i in range(6):
        start = np.delete(control, i, axis=0).mean(axis=0)
        way = treated.mean(axis=0) - start
        assert got[1][i] == pytest.approx((control[i] - start) @ way / (way @ way))


def test_the_planted_share_of_responders_is_found(make_table):
    shares = []
    for seed in range(5):
        cells, z, moved = made(make_table, np.random.default_rng(seed), 6)
        found = responders.responders(cells, z, "DMSO", "drug@1")
        shares.append(found.share)
        assert found.n_wells == 6 and found.low <= found.share <= found.high
        assert moved[found.rows].mean() > 0.9
    assert np.mean(shares) == pytest.approx(0.6, abs=0.06)


def test_a_treatment_that_does_nothing_has_no_responders(make_table):
    lows = []
    for seed in range(12):
        cells, z, _ = made(make_table, np.random.default_rng(100 + seed), 0, n_wells=3, each=4)
        lows.append(responders.responders(cells, z, "DMSO", "drug@1").low)
    assert sum(low > 0 for low in lows) <= 1


def test_the_target_can_be_the_central_responder(make_table):
    cells, z, moved = made(make_table, np.random.default_rng(1), 4)
    choice = responders.central_responder(cells, z, "DMSO", "drug@1")
    assert moved[choice.row] and "that respond" in choice.how
    # null paths choose theirs in the same way
    rows = targets.rows_of(cells, "drug@1")
    assert responders.central_of(z, rows, responders.peers(cells, "DMSO", rows)) == choice.row
    assert choice.n_cells == len(responders.far(z, rows, responders.peers(cells, "DMSO", rows)))


def test_intervals_of_the_share_cover_it():
    from benchmarks.evidence_nulls import Planted, responder_coverage

    rng = np.random.default_rng(0)
    for planted in (Planted(0.0), Planted(0.1), Planted(0.6, sd_well=0.3), Planted(0.3, wells=1, cells=30)):
        held, above = responder_coverage(planted, 200, rng)
        assert held >= 0.93 - 2.6 * np.sqrt(0.95 * 0.05 / 200), planted
        assert above <= 0.09 if planted.share == 0 else above > 0 or planted.share < 0.3


def test_cells_of_a_well_are_placed_on_the_line_that_other_wells_make():
    rng = np.random.default_rng(0)
    treated, control = rng.normal(1, 1, (6, 7)), rng.normal(0, 1, (6, 7))
    of = np.array([0, 0, 1, 1, 1, 2])
    got = responders.places(treated, control, of, of)[0]
    for i in range(6):
        way = treated[of != of[i]].mean(axis=0) - control.mean(axis=0)
        assert got[i] == pytest.approx((treated[i] - control.mean(axis=0)) @ way / (way @ way))


def test_one_well_is_said_to_stand_for_the_treatment(make_table):
    for n_wells, cautious in ((1, True), (3, False)):
        cells, z, _ = made(make_table, np.random.default_rng(0), 4, n_wells=n_wells)
        said = responders.responders(cells, z, "DMSO", "drug@1").sentence
        assert ("what sets that well apart counts as response, whatever its cause" in said) == cautious


def test_the_share_of_one_well_that_differs_is_no_share_of_responders():
    from benchmarks.evidence_nulls import ALONE, responder_coverage

    held, above = responder_coverage(ALONE[-1], 100, np.random.default_rng(0))
    assert held < 0.5 < above  # what the page says in bold


@pytest.mark.parametrize(("beyond", "others"), [(0, 0), (8, 0), (8, 8), (3, 1)])
def test_the_excess_share_is_within_its_interval(beyond, others):
    treated, control = np.arange(8) < beyond, np.arange(8) < others
    share, low, high = responders.excess(treated, control, np.arange(8), np.arange(8))
    assert 0 <= low <= share <= high <= 1
    if others < 8:
        assert share == pytest.approx(max(1 - (1 - beyond / 8) / (1 - others / 8), 0))


def test_two_cells_do_not_tell_who_responds(make_table):
    cells = make_table([("P1", "B02", "DMSO", 0.0)] * 8 + [("P1", "C02", "drug", 1.0)] * 2)
    with pytest.raises(SelectionError, match="this needs at least 3"):
        responders.responders(cells, np.zeros((10, 4), np.float32), "DMSO", "drug@1")
