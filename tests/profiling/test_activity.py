"""Activity: found where it is, and not claimed more often than it says where there is none."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity
from typer.testing import CliRunner

from cytovae import schema
from cytovae.cli import profiles as _verbs  # noqa: F401  (registers them)
from cytovae.cli.console import app
from cytovae.config import ScreenRecord
from cytovae.errors import ProfileError
from cytovae.profiling import activity, report, study, whiten
from cytovae.screen import Screen, provenance, read_provenance, write_table


def test_the_map_is_scikit_learns(rng):
    values, plates = rng.normal(size=(24, 5)), np.repeat(["a", "b"], 12)
    treated = np.arange(24) % 4 == 0
    found = activity.test(values, plates, treated, rng, 9)
    centred = np.concatenate([values[plates == p] - values[plates == p].mean(axis=0) for p in ("a", "b")])
    similar = cosine_similarity(centred / centred.std(axis=0))
    others = ~np.eye(24, dtype=bool)
    each = [average_precision_score(treated[others[k]], similar[k][others[k]]) for k in np.flatnonzero(treated)]
    assert found["map"] == pytest.approx(np.mean(each))
    pairs = similar[np.ix_(treated, treated)][~np.eye(6, dtype=bool)]
    assert found["similarity"] == pytest.approx(pairs.mean())


def test_relabelling_keeps_the_number_of_every_plate(rng):
    plates, treated = np.array(list("aaaabbbbb")), np.array([1, 0, 0, 0, 1, 1, 0, 0, 0], dtype=bool)
    drawn = activity._relabelled(treated, plates, rng, 4_000)
    assert (drawn[:, plates == "a"].sum(axis=1) == 1).all() and (drawn[:, plates == "b"].sum(axis=1) == 2).all()
    np.testing.assert_allclose(drawn.mean(axis=0), [0.25] * 4 + [0.4] * 5, atol=0.04)


@pytest.mark.parametrize("shape", [(3, 1, 6), (1, 8, 40)], ids=["wells on three plates", "cells on one plate"])
def test_what_is_not_active_is_called_active_at_the_nominal_rate(rng, shape):
    """Plates differ, and controls are all there is; a null that ignores plates fails here."""
    n_plates, own, controls = shape
    p = []
    for _ in range(400):
        plates = np.repeat(np.arange(n_plates), own + controls)
        values = 3 * rng.normal(size=(n_plates, 6))[plates] + rng.normal(size=(len(plates), 6))
        treated = np.tile(np.arange(own + controls) < own, n_plates)
        p.append(activity.test(values, plates, treated, rng, 99)["p"])
    assert 0.025 < np.mean(np.array(p) <= 0.05) < 0.075


def with_effect(cells, rng, size, d=6):
    """Embeddings in which plates differ and the compounds drug0 to drug2 do something."""
    plate = pd.factorize(cells[schema.PLATE])[0]
    z = rng.normal(size=(len(cells), d)) + 2 * rng.normal(size=(plate.max() + 1, d))[plate]
    for k in range(3):
        z[cells[schema.COMPOUND] == f"drug{k}"] += size * np.eye(d)[k]
    return z.astype(np.float32)


def test_active_treatments_are_found_and_the_others_are_not(make_cells, rng):
    cells = make_cells(n_plates=4, compounds=10, per_well=12, controls=6)
    table = activity.measure(cells, with_effect(cells, rng, 3.0), n_null=199).set_index(schema.TREATMENT)
    for _, doses in table.groupby(schema.COMPOUND):
        assert (doses["p_compound"] == min(doses["p"].min() * len(doses), 1.0)).all()
    assert len(table) == 10 and set(table["unit"]) == {"wells"} and set(table["n_controls"]) == {24}
    assert set(table["n_wells"]) == {4} and set(table["n_control_wells"]) == {24}
    assert table.index[table["active"]].tolist() == ["drug0@1", "drug1@1", "drug2@1"]
    assert table.loc[table["active"], "replicating"].all()
    assert table.loc[table["active"], "grit"].min() > table.loc[~table["active"], "grit"].max()


def test_a_compound_of_many_doses_is_not_active_by_their_number():
    rng = np.random.default_rng(0)
    shared = rng.uniform(size=(4000, 1))  # doses share plates and controls, so their p-values go together
    own = rng.uniform(size=(4000, 6))
    p = np.where(rng.uniform(size=own.shape) < 0.5, shared, own)
    assert (p.min(axis=1) <= 0.05).mean() > 0.1
    assert np.mean([activity.compound_p(pd.Series(row)) <= 0.05 for row in p]) <= 0.05 + 2.6 * np.sqrt(0.0475 / 4000)
    assert np.isnan(activity.compound_p(pd.Series([np.nan])))


def test_a_test_by_cells_takes_what_sets_a_well_apart_for_an_effect_and_one_by_wells_does_not():
    from benchmarks.evidence_profiles import Wells, active_by_chance

    rng = np.random.default_rng(0)
    assert active_by_chance(Wells(), "cells", 0.3, 32, 60, rng) > 0.6
    assert active_by_chance(Wells(plates=3), "wells", 0.3, 32, 120, rng) < 0.13


def test_where_wells_are_few_cells_are_asked_and_where_controls_are_few_nothing_is_claimed(make_cells, rng):
    cells = make_cells(n_plates=2, compounds=4, per_well=12, controls=2)
    z = with_effect(cells, rng, 3.0)
    table = activity.measure(cells, z, n_null=99)
    assert set(table["unit"]) == {"cells"} and set(table["n_units"]) == {24}
    assert set(table["n_wells"]) == {2} and set(table["n_control_wells"]) == {4}
    said = activity.counted(table.iloc[0])
    assert (
        said == "24 cells of 2 wells against cells of 4 control wells: what sets a well apart counts as the treatment's"
    )
    few = (cells[schema.COMPOUND] != "DMSO") | (np.arange(len(cells)) == 0)
    table = activity.measure(cells[few].reset_index(drop=True), z[few], n_null=99)
    assert table["p"].notna().sum() == 0 or set(table.loc[table["p"].notna(), "n_controls"]) == {1}
    with pytest.raises(ProfileError, match="no usable DMSO cells"):
        activity.measure(cells[cells[schema.COMPOUND] != "DMSO"], z[cells[schema.COMPOUND] != "DMSO"])


def test_controls_that_pose_as_treatments_show_wells_that_differ(make_cells, rng):
    cells = make_cells(n_plates=12, compounds=1, per_well=10, controls=6)
    z = rng.normal(size=(len(cells), 6))
    p, what = activity.posing(cells, z)
    assert what == "wells" and len(p) == 72 and np.mean(p <= 0.05) < 0.15
    well = pd.factorize(cells[schema.PLATE] + cells[schema.WELL])[0]
    p, _ = activity.posing(cells, z + 2 * rng.normal(size=(well.max() + 1, 6))[well])
    assert np.mean(p <= 0.05) > 0.5
    one = cells[(cells[schema.COMPOUND] != "DMSO") | cells[schema.WELL].eq("B00")].reset_index(drop=True)
    assert len(activity.posing(one, z[: len(one)])[0]) == 0


def test_the_verb_keeps_its_answer_and_the_profiles_carry_it(tmp_path, make_cells, rng):
    cells = make_cells(n_plates=4, compounds=6, controls=6)
    screen = Screen.create(tmp_path / "s.screen", ScreenRecord(name="s", channels=("DNA",)))
    write_table(screen.cells_path, cells, provenance("ingest"))
    record = provenance("embed", inputs={"cells": screen.cells_digest()})
    screen.write_embeddings("m", cells[schema.CELL_ID].tolist(), with_effect(cells, rng, 4.0), record)
    study.profile(screen, "m", "mean", whiten.Options("none"))
    assert study.stored_activity(screen, "m") is None
    words = ["activity", str(screen.path), "m", "--json"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    (found,) = json.loads(done.stdout)["activity"]
    assert (found["bundle"], found["n_treatments"], found["n_tested"], found["n_active"]) == ("m", 6, 6, 3)
    assert {"map", "p", "p_corrected", "grit", "unit", "n_controls"} <= set(found["treatments"][0])
    assert found["treatments"][0]["rests_on"] == "4 wells against 24 control wells"
    assert "already there" in CliRunner().invoke(app, words).stderr
    assert read_provenance(screen.path / "profiles" / "m" / "activity.parquet")["step"] == "activity"
    assert len(study.stored_activity(screen, "m")) == 6
    for fresh in (False, True):  # put beside profiles that were there, and into those made since
        held = study.profile(screen, "m", "mean", whiten.Options("none"), overwrite=fresh).treatments
        assert held["Metadata_Active"].sum() == 3 and held["Metadata_ActivityP"].isna().sum() == 1  # the controls
        assert schema.feature_columns(held) == [f"z{k:03d}" for k in range(6)]
    shown = CliRunner().invoke(app, ["activity", str(screen.path), "m"]).stdout
    assert "3 of 6 tested treatments are active" in shown and "no activity shown" in shown
    assert activity.CAUTION not in shown
    few = (cells[schema.COMPOUND] == "DMSO") | (cells[schema.PLATE] == cells[schema.PLATE].iloc[0])
    table = activity.measure(cells[few].reset_index(drop=True), with_effect(cells, rng, 4.0)[few], n_null=99)
    assert (
        "6 were tested by cells, their wells being too few: what sets a well" in report.activity_sheet("m", table).title
    )
    screen.write_embeddings("m", cells[schema.CELL_ID].tolist(), with_effect(cells, rng, 0.0), record)
    assert study.stored_activity(screen, "m") is None  # of other embeddings
