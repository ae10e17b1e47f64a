"""Cells to wells to treatments."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pycytominer import aggregate, consensus

from cytovae import schema
from cytovae.errors import ProfileError
from cytovae.profiling import profiles, published

KEYS = [schema.PLATE, schema.WELL]


def test_well_means_are_pycytominers(make_cells, rng):
    cells = make_cells()
    z = rng.normal(size=(len(cells), 4)).astype(np.float32)
    names = profiles.feature_names(4)
    theirs = aggregate(
        pd.concat([cells, pd.DataFrame(z, columns=names)], axis=1), strata=KEYS, features=names, operation="mean"
    ).sort_values(KEYS)
    ours = profiles.wells(cells, z)
    assert ours[KEYS].to_numpy().tolist() == theirs[KEYS].to_numpy().tolist()
    np.testing.assert_allclose(ours[names], theirs[names], rtol=1e-6)


def test_well_standard_deviations_are_pandas(make_cells, rng):
    cells = make_cells()
    z = 1e4 + rng.normal(size=(len(cells), 3))  # a spread far below the mean: one-pass formulas cancel here
    theirs = pd.DataFrame(z).groupby([cells[schema.PLATE], cells[schema.WELL]]).std(ddof=0)
    ours = profiles.wells(cells, z, "mean+sd")
    np.testing.assert_allclose(ours[["z000_sd", "z001_sd", "z002_sd"]], theirs, rtol=1e-6)


def test_a_well_of_one_cell_has_no_spread(make_cells, rng):
    cells = make_cells(per_well=1)
    ours = profiles.wells(cells, rng.normal(size=(len(cells), 2)), "mean+sd")
    assert (ours[["z000_sd", "z001_sd"]] == 0).all(axis=None)
    assert (ours[schema.N_CELLS] == 1).all()


def test_treatments_are_pycytominers_consensus(make_cells, rng):
    wells = profiles.wells(make_cells(), rng.normal(size=(len(make_cells()), 4)))
    names = profiles.feature_names(4)
    theirs = consensus(wells, replicate_columns=[schema.TREATMENT], features=names, operation="median")
    ours = profiles.treatments(wells)
    theirs = theirs.set_index(schema.TREATMENT).loc[ours[schema.TREATMENT]]
    np.testing.assert_allclose(ours[names], theirs[names], rtol=1e-6)


def test_treatments_count_wells_cells_and_batches(make_cells, rng):
    cells = make_cells(n_plates=4, compounds=2, per_well=5, controls=3, batches=2)
    ours = profiles.treatments(profiles.wells(cells, rng.normal(size=(len(cells), 2)))).set_index(schema.TREATMENT)
    assert list(ours.columns[:6]) == [c for c in profiles.TREATMENT_METADATA if c != schema.TREATMENT]
    assert ours.loc["drug0@1", schema.N_WELLS] == 4
    assert ours.loc["drug0@1", schema.N_CELLS] == 20
    assert ours.loc["drug0@1", schema.BATCH] == "Week0|Week1"
    assert ours.loc["DMSO@0", schema.N_WELLS] == 12


@pytest.mark.parametrize("summary", profiles.Summary)
def test_neither_row_order_nor_blocks_matter(make_cells, rng, monkeypatch, summary):
    cells = make_cells()
    z = rng.normal(size=(len(cells), 4)).astype(np.float32)
    whole = profiles.wells(cells, z, summary)
    order = rng.permutation(len(cells))
    monkeypatch.setattr(profiles, "BLOCK_CELLS", 7)
    shuffled = profiles.wells(cells.iloc[order].reset_index(drop=True), z[order], summary)
    pd.testing.assert_frame_equal(whole, shuffled, rtol=1e-6)


def test_blank_cells_are_left_out(make_cells, rng):
    cells = make_cells()
    z = rng.normal(size=(len(cells), 4))
    blank = rng.random(len(cells)) < 0.3
    whole_well = (cells[schema.WELL] == "B04") & (cells[schema.PLATE] == "Week0_0")
    blank |= whole_well.to_numpy()
    without = profiles.wells(cells[~blank].reset_index(drop=True), z[~blank], "mean+sd")
    cells[schema.BLANK] = blank
    pd.testing.assert_frame_equal(profiles.wells(cells, np.where(blank[:, None], np.nan, z), "mean+sd"), without)
    assert not ((without[schema.WELL] == "B04") & (without[schema.PLATE] == "Week0_0")).any()


def test_memory_stays_flat_over_a_memory_map(make_cells, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(profiles, "BLOCK_CELLS", 2_048)
    cells = make_cells(n_plates=2, compounds=2, per_well=2_000, controls=1)
    cells = pd.concat([cells] * 6, ignore_index=True)  # 72,000 cells x 256: 74 MB on disk
    path = tmp_path / "z.npy"
    z = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(cells), 256))
    z[:] = 1.0
    z.flush()
    z = np.load(path, mmap_mode="r")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    wells = profiles.wells(cells, z)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert np.all(wells["z000"] == 1)
    assert peak < 40e6  # a block is 4 MB and the cells' own table 20 MB; the embeddings are 74 MB


def test_a_well_of_two_treatments_is_refused(make_cells, rng):
    cells = make_cells()
    cells.loc[0, schema.TREATMENT] = "other@1"
    with pytest.raises(ProfileError, match=r"well B00 on plate Week0_0 disagree .*DMSO@0, other@1"):
        profiles.wells(cells, rng.normal(size=(len(cells), 2)))


def test_a_treatment_of_two_mechanisms_is_refused(make_cells, rng):
    wells = profiles.wells(make_cells(), rng.normal(size=(len(make_cells()), 2)))
    wells.loc[wells.index[wells[schema.TREATMENT] == "drug1@1"][0], schema.MOA] = "other"
    with pytest.raises(ProfileError, match=r"drug1@1 disagree .*moa0, other"):
        profiles.treatments(wells)


def test_what_cannot_be_profiled_is_refused(make_cells, rng):
    cells = make_cells()
    z = rng.normal(size=(len(cells), 2))
    with pytest.raises(ProfileError, match="do not describe"):
        profiles.wells(cells, z[1:])
    with pytest.raises(ProfileError, match="not finite"):
        profiles.wells(cells, np.where(np.arange(len(z))[:, None] == 3, np.inf, z))
    with pytest.raises(ProfileError, match=r"one of mean, mean\+sd, not 'median'"):
        profiles.wells(cells, z, "median")
    cells[schema.BLANK] = True
    with pytest.raises(ProfileError, match="none of"):
        profiles.wells(cells, z)


def tables(rng, n_plates=3, controls=4, treated=5, d=6):
    """A per-well table, an image table and a mechanism table, as a collection publishes them."""
    image, wells = [], []
    for p in range(n_plates):
        for w in range(controls + treated):
            compound, dose = ("DMSO", 0.0) if w < controls else (f"drug{w}", 0.3)
            wells.append((f"Week1_{p}", f"B{w:02d}"))
            image += [(f"Week1_{p}", f"B{w:02d}", compound, dose * (1 + 1e-9 * p), s) for s in range(2)]
    table = pd.DataFrame(wells, columns=["Image_Metadata_Plate", "Image_Metadata_Well"])
    table = pd.concat([table, pd.DataFrame(rng.normal(5, 2, (len(table), d)), columns=list("abcdef")[:d])], axis=1)
    images = pd.DataFrame(
        image,
        columns=[
            "Image_Metadata_Plate_DAPI",
            "Image_Metadata_Well_DAPI",
            "Image_Metadata_Compound",
            "Image_Metadata_Concentration",
            "site",
        ],
    )
    moa = pd.DataFrame(
        {"compound": [f"drug{w}" for w in range(4, 8)], "concentration": 0.3, "moa": ["x", "x", "y", "y"]}
    )
    return table, images, moa


def test_published_profiles_join_by_plate_well_and_concentration_within_tolerance(rng):
    joined = published.join_published(*tables(rng))
    assert set(joined[schema.TREATMENT]) == {"DMSO@0", *(f"drug{w}@0.3" for w in range(4, 9))}
    assert dict(zip(joined[schema.COMPOUND], joined[schema.MOA], strict=True)) == {
        "DMSO": "unknown",
        "drug4": "x",
        "drug5": "x",
        "drug6": "y",
        "drug7": "y",
        "drug8": "unknown",
    }
    assert schema.feature_columns(joined) == list("abcdef")


def test_published_profiles_that_do_not_join_are_refused(rng):
    table, images, moa = tables(rng)
    with pytest.raises(ProfileError, match="2 of 27 wells are not in the image table, the first Week1_0 B00"):
        published.join_published(table, images.iloc[4:], moa)
    twice = images.copy()
    twice.loc[0, "Image_Metadata_Compound"] = "other"
    with pytest.raises(ProfileError, match="well B00 of plate Week1_0 more than one treatment"):
        published.join_published(table, twice, moa)
    with pytest.raises(ProfileError, match="well B00 of plate Week1_0 twice"):
        published.join_published(pd.concat([table, table]), images, moa)
    with pytest.raises(ProfileError, match="one column for the well"):
        published.join_published(table.drop(columns="Image_Metadata_Well"), images, moa)


def test_standardised_controls_have_mean_0_and_sd_1_on_every_plate(rng):
    joined = published.join_published(*tables(rng))
    standard, dropped = profiles.standardise(joined, "DMSO")
    assert dropped == []
    for _, plate in standard[standard[schema.COMPOUND] == "DMSO"].groupby(schema.PLATE):
        np.testing.assert_allclose(plate[list("abcdef")].mean(), 0, atol=1e-12)
        np.testing.assert_allclose(plate[list("abcdef")].std(ddof=0), 1, rtol=1e-12)


def test_features_not_finite_or_flat_among_the_controls_of_any_plate_are_dropped(rng):
    joined = published.join_published(*tables(rng, controls=6))
    joined.loc[25, "b"] = np.inf  # one well of one plate
    joined.loc[3, "f"] = np.nan
    flat = (joined[schema.COMPOUND] == "DMSO") & (joined[schema.PLATE] == "Week1_1")
    joined.loc[flat, "d"] = 0.1  # constant on one plate, in a value whose s.d. does not round to zero
    assert joined.loc[flat, "d"].to_numpy().std() > 0
    standard, dropped = profiles.standardise(joined, "DMSO")
    assert dropped == ["b", "d", "f"]
    assert schema.feature_columns(standard) == ["a", "c", "e"]


def test_a_plate_without_controls_is_refused(rng):
    joined = published.join_published(*tables(rng))
    gone = joined[(joined[schema.COMPOUND] != "DMSO") | (joined[schema.PLATE] != "Week1_2")]
    with pytest.raises(ProfileError, match=r"plate Week1_2 has 0 control wells \(DMSO\)"):
        profiles.standardise(gone.reset_index(drop=True), "DMSO")


def test_distance_to_controls_is_that_to_their_mean():
    values = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 3.0], [5.0, 0.0]], np.float32)
    found = profiles.distance_to_controls(values, np.array([True, True, False, False]))
    np.testing.assert_allclose(found, [1, 1, 3, 4])
    with pytest.raises(ProfileError, match="no control profile among these"):
        profiles.distance_to_controls(values, np.zeros(4, bool))


def test_names_in_a_table_of_profiles_are_read_as_they_are_written(tmp_path):
    path = tmp_path / "wells.csv"
    path.write_text(
        "Metadata_Plate,Metadata_Well,Metadata_Compound,Metadata_Concentration,Metadata_MoA,Swelling\n"
        "001,A01,None,1,NA,1.5\n1,A01,NA,0.5,x,nan\n2,A01,x,0.5,,1\n"
    )
    wells = published.read_wells(path)
    assert wells[schema.PLATE].tolist() == ["001", "1", "2"]
    assert wells[schema.TREATMENT].tolist() == ["None@1", "NA@0.5", "x@0.5"]
    assert wells[schema.MOA].tolist() == [schema.UNKNOWN_MOA, "x", schema.UNKNOWN_MOA]
    assert wells["Swelling"].isna().tolist() == [False, True, False]


def test_own_columns_go_on_to_wells_and_treatments(make_cells, rng):
    cells = make_cells(n_plates=2, compounds=2, per_well=5, controls=3)
    of_plate = cells[schema.PLATE].astype("category").cat.codes
    cells = cells.assign(
        Metadata_cell_line=np.where(of_plate == 0, "U2OS", "A549"),
        Metadata_time="24 h",
        Metadata_area=np.arange(len(cells)),
    )
    wells = profiles.wells(cells, rng.normal(size=(len(cells), 2)))
    assert schema.own_columns(wells) == ["Metadata_cell_line", "Metadata_time"]  # the area is of a cell, not of a well
    theirs = cells.groupby([schema.PLATE, schema.WELL])["Metadata_cell_line"].first()
    assert wells.set_index([schema.PLATE, schema.WELL])["Metadata_cell_line"].to_dict() == theirs.to_dict()
    treatments = profiles.treatments(wells).set_index(schema.TREATMENT)
    assert treatments.loc["drug0@1", ["Metadata_cell_line", "Metadata_time"]].tolist() == ["A549|U2OS", "24 h"]
    assert "Metadata_cell_line" not in schema.feature_columns(wells)
