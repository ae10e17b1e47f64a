"""The audit's rows are good on data that deserve it, and say so where they are not."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cytovae import schema
from cytovae.profiling import audit


def test_the_rows_of_a_screen(make_cells, rng):
    cells = make_cells(n_plates=8, compounds=12, per_well=6, controls=6, batches=8)
    found = {check.name: check for check in audit.checks(cells, rng.normal(size=(len(cells), 5)))[0]}
    assert tuple(found) == audit.NAMES
    for check in found.values():
        assert check.ok and check.ci95[0] <= check.observed <= check.ci95[1] and check.n >= 48
    assert found["accuracy_interval_coverage"].nominal == 0.95


def grown(cells, z, times):
    """As many cells more in every well, all of them alike but for their embeddings."""
    rng = np.random.default_rng(0)
    again = pd.concat([cells] * times, ignore_index=True)
    again[schema.CELL_ID] = [str(k) for k in range(len(again))]
    return again, np.concatenate([z] * times) + rng.normal(size=(len(again), z.shape[1]))


def test_wells_that_differ_fail_the_row_of_activity(make_cells, rng):
    cells = make_cells(n_plates=8, compounds=4, per_well=8, controls=6)
    well = pd.factorize(cells[schema.PLATE] + cells[schema.WELL])[0]
    z = rng.normal(size=(len(cells), 5)) + 2 * rng.normal(size=(well.max() + 1, 5))[well]
    (check,) = (c for c in audit.checks(cells, z)[0] if c.name == "activity_false_positives")
    assert not check.ok and check.observed > 0.5 and check.tried == "wells"
    one = (cells[schema.COMPOUND] != "DMSO") | (cells[schema.WELL] == "B00")  # a control well a plate, so cells pose
    (check,) = (c for c in audit.checks(*grown(cells[one], z[one], 5))[0] if c.name == "activity_false_positives")
    assert check.ok and check.tried == "groups of cells"


def test_a_screen_without_mechanisms_or_controls_has_no_row_for_them(make_cells, rng):
    cells = make_cells(n_plates=4, compounds=4).assign(**{schema.MOA: "unknown"})
    treated = cells[cells[schema.COMPOUND] != "DMSO"].reset_index(drop=True)
    rows, reasons = audit.checks(treated, rng.normal(size=(len(treated), 3)))
    assert (
        rows == [] and tuple(reasons) == audit.NAMES and "no usable DMSO cells" in reasons["activity_false_positives"]
    )
    assert np.isfinite([c.observed for c in audit.checks(cells, rng.normal(size=(len(cells), 3)))[0]]).all()


def test_a_screen_of_one_treatment_keeps_the_rows_that_it_can_have(make_cells, rng):
    cells = make_cells(n_plates=4, compounds=1, per_well=8, controls=6)
    rows, reasons = audit.checks(cells, rng.normal(size=(len(cells), 3)))
    assert [row.name for row in rows] == ["activity_false_positives"]
    assert set(reasons) == set(audit.NAMES[:2])
    assert all("at least two treatments beside 'DMSO', not 1" in reason for reason in reasons.values())


def test_shuffles_that_change_nothing_make_no_row_and_no_interval_is_without_width(make_cells, rng):
    cells = make_cells(n_plates=2, compounds=6)
    z = rng.normal(size=(len(cells), 3))
    alike = cells.assign(**{schema.MOA: np.where(cells[schema.COMPOUND] == "DMSO", "DMSO", "x")})
    rows, reasons = audit.checks(alike, z)
    assert "map_false_positives" not in {row.name for row in rows}
    assert "it takes two known mechanisms" in reasons["map_false_positives"]
    two = alike.assign(**{schema.MOA: alike[schema.MOA].mask(alike[schema.COMPOUND].isin(["drug0", "drug1"]), "y")})
    (row,) = (row for row in audit.checks(two, z)[0] if row.name == "map_false_positives")
    assert row.ci95[0] < row.ci95[1]
