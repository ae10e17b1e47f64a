"""The audit's rows are good on data that deserve it, and say so where they are not."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cytovae import schema
from cytovae.profiling import audit


def test_the_rows_of_a_screen(make_cells, rng):
    cells = make_cells(n_plates=8, compounds=12, per_well=6, controls=6, batches=8)
    found = {check.name: check for check in audit.checks(cells, rng.normal(size=(len(cells), 5)))}
    assert tuple(found) == audit.NAMES
    for check in found.values():
        assert check.ok and check.ci95[0] <= check.observed <= check.ci95[1] and check.n >= 48
    assert found["accuracy_interval_coverage"].nominal == 0.95


def test_wells_that_differ_fail_the_row_of_activity(make_cells, rng):
    cells = make_cells(n_plates=8, compounds=4, per_well=8, controls=6)
    well = pd.factorize(cells[schema.PLATE] + cells[schema.WELL])[0]
    z = rng.normal(size=(len(cells), 5)) + 2 * rng.normal(size=(well.max() + 1, 5))[well]
    (check,) = (c for c in audit.checks(cells, z) if c.name == "activity_false_positives")
    assert not check.ok and check.observed > 0.5


def test_a_screen_without_mechanisms_or_controls_has_no_row_for_them(make_cells, rng):
    cells = make_cells(n_plates=4, compounds=4).assign(**{schema.MOA: "unknown"})
    treated = cells[cells[schema.COMPOUND] != "DMSO"].reset_index(drop=True)
    assert audit.checks(treated, rng.normal(size=(len(treated), 3))) == []
    assert np.isfinite([c.observed for c in audit.checks(cells, rng.normal(size=(len(cells), 3)))]).all()
