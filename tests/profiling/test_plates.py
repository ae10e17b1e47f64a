"""What lies where, and whether that could be mistaken for an effect."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cytovae import schema
from cytovae.profiling import plates, profiles
from cytovae.profiling.plates import Doubt


def doubts(cells, control="DMSO"):
    found = {}
    for warning in plates.warnings(cells, control):
        assert warning.words.startswith(warning.treatment)
        found.setdefault(warning.treatment, set()).add(warning.doubt)
    return found


def test_a_well_placed_treatment_raises_no_doubt(make_cells):
    cells = make_cells(n_plates=4, controls=4, batches=2).replace({"B01": "C01"})
    assert doubts(cells) == {}
    single = (cells[schema.COMPOUND] == "DMSO") & (cells[schema.WELL] != "B00")
    large = cells[~single]  # one control well a plate: of however many cells, its own oddity is taken for the plate
    large = pd.concat([large] * 10, ignore_index=True)
    assert set.union(*doubts(large).values()) == {Doubt.few_controls}
    few = cells[~cells.duplicated([schema.PLATE, schema.WELL])]  # four control cells
    assert set.union(*doubts(few).values()) == {Doubt.few_controls}


def test_one_plate_one_batch_and_few_controls_are_named(make_cells):
    cells = make_cells(n_plates=4, controls=4, batches=2)
    of = {name: cells[schema.COMPOUND] == name for name in ("drug0", "drug1")}
    elsewhere = of["drug0"] & (cells[schema.PLATE] != "Week0_0") | of["drug1"] & (cells[schema.BATCH] != "Week1")
    cells = cells[~elsewhere]
    assert doubts(cells) == {"drug0@1": {Doubt.one_plate}, "drug1@1": {Doubt.one_batch}}
    gone = (cells[schema.COMPOUND] == "DMSO") & (cells[schema.PLATE] == "Week0_0") & (cells[schema.WELL] != "B00")
    found = doubts(cells[~gone])
    assert Doubt.few_controls in found["drug0@1"] and Doubt.few_controls not in found["drug1@1"]
    words = [w.words for w in plates.warnings(cells[~gone]) if w.doubt == Doubt.few_controls]
    assert "drug0@1: its plate (Week0_0) has fewer than" in words[0]
    assert any("1 of its 4 plates has fewer than" in said for said in words)
    alone = cells[cells[schema.PLATE] == "Week0_0"]
    assert doubts(alone) == {}  # of one plate: it holds for all


def test_the_edge_is_that_of_the_whole_plate(make_cells):
    cells = make_cells(n_plates=2, controls=3)
    moved = cells.assign(**{schema.WELL: cells[schema.WELL].replace({"B03": "A05", "B04": "H12", "B05": "C05"})})
    found = doubts(moved)
    assert {name for name, said in found.items() if Doubt.edge in said} == {"drug0@1", "drug1@1"}
    large = moved.assign(**{schema.WELL: moved[schema.WELL].replace({"B06": "O20"})})  # 384 wells: H12 lies inside
    assert {name for name, said in doubts(large).items() if Doubt.edge in said} == {"drug0@1"}


def grid(rng, by_row=0.0, n_plates=4):
    rows = [
        {schema.PLATE: f"P{p}", schema.WELL: f"{letter}{column:02d}", schema.COMPOUND: "DMSO", "r": k}
        for p in range(n_plates)
        for k, letter in enumerate("BCDEFG")
        for column in rng.choice(np.arange(2, 12), 2, replace=False)
    ]
    table = pd.DataFrame(rows)
    values = rng.normal(size=(len(table), 4)) + by_row * np.outer(table.pop("r"), np.eye(4)[0])
    return pd.concat([table, pd.DataFrame(values, columns=profiles.feature_names(4))], axis=1)


def test_an_effect_of_the_row_is_found_and_none_where_there_is_none(rng):
    found = {line["by"]: line for line in plates.position_effects(grid(rng, 0.7), rng)}
    assert found["row"]["p"] <= 0.01 and found["row"]["share"] > 2 * found["row"]["expected"]
    p = [line["p"] for _ in range(60) for line in plates.position_effects(grid(rng), rng, n_null=99)]
    assert len(p) == 120 and np.mean(np.array(p) <= 0.05) < 0.11


def test_the_share_between_rows_is_that_of_an_analysis_of_variance(rng):
    from sklearn.metrics import r2_score

    values, codes = rng.normal(size=(30, 1)), np.arange(30) % 3
    values -= values.mean(axis=0)
    means = np.array([values[codes == k].mean() for k in range(3)])[codes]
    assert plates._between(values, codes) == pytest.approx(r2_score(values[:, 0], means))
