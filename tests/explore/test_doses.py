from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks import evidence_doses
from cytovae import schema
from cytovae.cli.verbs import app as main_app
from cytovae.config import ScreenRecord
from cytovae.errors import ScreenError, SelectionError
from cytovae.explore import doses, targets
from cytovae.learn import bundle
from cytovae.screen import Screen, provenance, write_table


def test_doses_lie_between_the_controls_and_the_highest(make_table):
    rng = np.random.default_rng(2)
    rows = [("P1", f"B{w:02d}", "DMSO", 0.0) for w in range(6) for _ in range(10)]
    for k, dose in enumerate((0.1, 1.0, 10.0)):
        rows += [("P1", f"{'CDE'[k]}{w:02d}", "drug", dose) for w in range(4) for _ in range(10)]
    z = rng.normal(size=(len(rows), 20))
    cells = make_table(rows)
    for dose, place in ((1.0, 0.5), (10.0, 1.0)):
        z[targets.rows_of(cells, f"drug@{dose:g}"), 0] += 8 * place
    found = doses.dose_response(cells, z.astype(np.float32), "DMSO", "drug")
    table = found.doses
    np.testing.assert_allclose(table["mean"], [0, 0.5, 1.0], atol=0.1)
    assert (table["low"] < table["mean"]).all() and (table["n_wells"] == 4).all()
    assert (np.abs(table["mean"] - [0, 0.5, 1.0]) < (table["high"] - table["low"])).all()
    assert found.curve is None and "3 concentrations, it takes 4" in found.reason
    assert len(found.wells) == 12 and (found.n_controls, found.n_control_wells) == (60, 6)
    assert found.told and table["mean"].iloc[-1] == 1 and found.caution == ""
    assert "60 control cells of 6 wells" in found.scale and "1: as drug@10 is on average, by constr" in found.scale
    x, y, t = (z[of].reshape(-1, 10, 20).mean(axis=1) for of in (slice(0, 60), slice(60, 70), slice(140, 180)))
    pairs = list(itertools.permutations(range(6), 2))
    length = [(t[k] - x[i]) @ (t[m] - x[j]) for i, j in pairs for k, m in itertools.permutations(range(4), 2)]
    above = [(y[0] - x[i]) @ (t[k] - x[j]) for i, j in pairs for k in range(4)]
    assert found.wells["mean"].iloc[0] == pytest.approx(np.mean(above) / np.mean(length), abs=1e-5)


@pytest.mark.parametrize("controls", [(5, 1), (60, 6)])
def test_a_compound_that_does_nothing_lies_at_the_controls(controls):
    found = evidence_doses.rates(evidence_doses.Design(32, *controls), 40, np.random.default_rng(4))
    assert abs(found.off) < 0.1 and found.above <= 0.05 * found.places and found.curves == 0


def test_places_and_ec50_are_held_from_embeddings_on():
    design = evidence_doses.Design(256, 60, 6, effect=5.0)
    found = evidence_doses.rates(design, 30, np.random.default_rng(5))
    assert found.told == 30 and abs(found.off) < 0.03 and found.held_places >= 0.93 * found.told_places
    assert found.curves >= 28 and found.held_curves >= found.curves - 4 and 0.85 < found.ec50 < 1.15


def test_no_curve_where_its_interval_could_not_hold():
    design = evidence_doses.Design(32, 60, 1, wells=1, cells=20, effect=8.0)
    cells = evidence_doses.table(design)
    z = evidence_doses.drawn(design, cells, np.random.default_rng(6))
    found = doses.dose_response(cells, z, "DMSO", "drug")
    assert found.told and found.curve is None and "all control cells are of one well" in found.reason
    assert "of one well: the controls and 6 of 6 doses; what sets a well apart" in found.caution
    design = evidence_doses.Design(32, 60, 6)
    cells = evidence_doses.table(design)
    z = evidence_doses.drawn(design, cells, np.random.default_rng(7))
    found = doses.dose_response(cells, z, "DMSO", "drug")
    assert not found.told and "are not told from the 60 control cells" in found.reason
    assert found.doses["low"].iloc[-1] < 0 and "1: no known effect" in found.scale
    one = cells[schema.COMPOUND].ne("DMSO") | (np.arange(len(cells)) == 0)
    with pytest.raises(SelectionError, match="one cell of the control 'DMSO' is too few"):
        doses.dose_response(cells[one].reset_index(drop=True), z[one], "DMSO", "drug")


def test_treatments_keep_their_own_names_in_a_series(make_table):
    rows = [("P1", f"B{w:02d}", "DMSO", 0.0) for w in range(4)]
    rows += [("P1", f"C{w:02d}", "drug", dose) for w in range(4) for dose in (0.1, 1.0)]
    cells = make_table(rows)
    line = np.where(cells[schema.WELL].str[-1].astype(int) % 2, "A549", "HeLa")
    treated = cells[schema.COMPOUND] == "drug"
    cells.loc[treated, schema.TREATMENT] += " [" + pd.Series(line)[treated] + "]"
    with pytest.raises(SelectionError, match=r"name one of 'drug \[A549\]', 'drug \[HeLa\]'"):
        targets.dose_series(cells, "drug")
    for asked in ("A549", "HeLa"):
        series = targets.dose_series(cells, f"drug [{asked}]")
        assert [d.treatment for d in series] == [f"drug@0.1 [{asked}]", f"drug@1 [{asked}]"]
        for dose in series:
            assert (cells[schema.TREATMENT].iloc[dose.rows] == dose.treatment).all() and len(dose.rows) == 2
        assert targets.series_of(cells, f"drug@1 [{asked}]") == f"drug [{asked}]"
    cells[schema.CONCENTRATION] = np.nan
    with pytest.raises(SelectionError, match="no cell of a known concentration"):
        targets.dose_series(cells, "drug")


def drawn_wells(rng, each=3, noise=0.08, doses_=(0.03, 0.1, 0.3, 1.0, 3.0, 10.0)):
    c = np.repeat(doses_, each)
    return c, 1.1 * c**1.5 / (c**1.5 + 0.5**1.5) + noise * rng.normal(size=len(c))


def test_the_curve_finds_the_planted_half_and_its_interval_covers():
    rng = np.random.default_rng(0)
    held = n = 0
    for _ in range(120):
        curve, _ = doses.fitted(*drawn_wells(rng))
        if curve is not None:
            n += 1
            held += curve.ec50_low <= 0.5 <= curve.ec50_high
    assert n > 110 and held / n > 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / n)
    curve, reason = doses.fitted(*drawn_wells(rng, noise=0.001))
    assert reason == "" and (curve.ec50, curve.slope, curve.top) == pytest.approx((0.5, 1.5, 1.1), rel=0.02)
    assert curve.at(curve.ec50) == pytest.approx(curve.top / 2)
    by_chance = doses.fitted(*drawn_wells(rng, noise=0.001), noise=0.03**2)[0]  # closer than their cells allow
    from_few = doses.fitted(*drawn_wells(rng, noise=0.001), 0.1)[0]
    for wider in (by_chance, from_few):
        assert np.log(wider.ec50_high / wider.ec50_low) > 5 * np.log(curve.ec50_high / curve.ec50_low)


def test_a_compound_that_does_nothing_gets_no_curve():
    rng = np.random.default_rng(1)
    given = 0
    for _ in range(60):
        c, _ = drawn_wells(rng)
        given += doses.fitted(c, 0.1 * rng.normal(size=len(c)))[0] is not None
    assert given <= 6
    assert doses.fitted(np.array([1.0, 2, 3, 4]), np.arange(4.0)) == (None, "4 wells, it takes 5")


def test_the_verb_tells_places_and_why_there_is_no_curve(small, tmp_path):
    screen = Screen.create(tmp_path / "small.screen", ScreenRecord("small", small.generator.channels))
    write_table(screen.cells_path, small.cells, provenance("ingest"))
    arrays = {"mean": small.generator.mean, "components": small.generator.components}
    arrays = {k: v.astype(np.float32) for k, v in arrays.items()}
    bundle.save(tmp_path / "linear", arrays, bundle.new_config("linear", "pca", small.generator.channels, 24, 68), {})
    record = provenance("embed", inputs={"cells": screen.cells_digest()})
    screen.write_embeddings("linear", list(small.cells[schema.CELL_ID]), small.z, record)
    verb = ["dose", str(screen.path), str(tmp_path / "linear"), "grow"]
    result = CliRunner().invoke(main_app, [*verb, "--json", "--out", str(tmp_path / "grow.csv")])
    assert result.exit_code == 0, result.exception
    document = json.loads(result.stdout)
    found = doses.dose_response(small.cells, small.z, "DMSO", "grow")
    assert document["doses"] == found.document()["doses"] and document["curve"] is None
    assert [d["treatment"] for d in document["doses"]] == ["grow@0.3", "grow@3"]
    assert document["reason"] == "2 concentrations, it takes 4"
    assert document["provenance"]["config"]["compound"] == "grow"
    table = pd.read_csv(tmp_path / "grow.csv")
    np.testing.assert_allclose(table["mean"], found.doses["mean"])
    said = CliRunner().invoke(main_app, verb).stdout
    assert "0: as 24 control cells of 4 wells are on average" in said
    again = CliRunner().invoke(main_app, [*verb, "--out", str(tmp_path / "grow.csv")])
    assert isinstance(again.exception, ScreenError) and "is there already" in str(again.exception)
    assert CliRunner().invoke(main_app, [*verb, "--out", str(tmp_path / "grow.png")]).exit_code == 2
    with pytest.raises(SelectionError, match="is the control itself"):
        doses.dose_response(small.cells, small.z, "DMSO", "DMSO")
