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


def test_doses_lie_between_the_controls_and_the_highest(make_table):
    rng = np.random.default_rng(2)
    rows = [("P1", f"B{w:02d}", "DMSO", 0.0) for w in range(6) for _ in range(10)]
    for k, dose in enumerate((0.1, 1.0, 10.0)):
        rows += [("P1", f"{'CDE'[k]}{w:02d}", "drug", dose) for w in range(4) for _ in range(10)]
    z = rng.normal(size=(len(rows), 20))
    cells = make_table(rows)
    for dose, place in ((1.0, 0.5), (10.0, 1.0)):
        z[targets.rows_of(cells, f"drug@{dose:g}"), 0] += 8 * place
    table = responders.dose_response(cells, z.astype(np.float32), "DMSO", "drug")
    np.testing.assert_allclose(table["mean"], [0, 0.5, 1.0], atol=0.1)
    assert (table["low"] < table["mean"]).all() and (table["n_wells"] == 4).all()
    assert (np.abs(table["mean"] - [0, 0.5, 1.0]) < (table["high"] - table["low"])).all()


def test_two_cells_do_not_tell_who_responds(make_table):
    cells = make_table([("P1", "B02", "DMSO", 0.0)] * 8 + [("P1", "C02", "drug", 1.0)] * 2)
    with pytest.raises(SelectionError, match="this needs at least 3"):
        responders.responders(cells, np.zeros((10, 4), np.float32), "DMSO", "drug@1")
