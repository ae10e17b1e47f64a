"""Enrichment of mechanisms in a selection, against naive counts and a simulation of its error rate."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from cytovae import schema
from cytovae.errors import TableError
from cytovae.profiling import enrichment


def cells_of(compounds):
    """Cells of (compound, mechanism, number of cells)."""
    rows = [(c, moa) for c, moa, n in compounds for _ in range(n)]
    return pd.DataFrame(rows, columns=[schema.COMPOUND, schema.MOA])


SCREEN = [("DMSO", "DMSO", 10), *((f"c{k}", f"m{k % 3}", 4 + k) for k in range(9)), ("new", schema.UNKNOWN_MOA, 5)]


def naive(cells, selected, moa):
    """p by listing every set of as many compounds; counts by loops."""
    treated = [c for c in cells[schema.COMPOUND].unique() if c != "DMSO"]
    overall = selected[(cells[schema.COMPOUND] != "DMSO").to_numpy()].mean()
    inside = [c for c in treated if selected[(cells[schema.COMPOUND] == c).to_numpy()].mean() > overall]
    mine = set(cells.loc[cells[schema.MOA] == moa, schema.COMPOUND])
    k = len(mine & set(inside))
    sets = list(itertools.combinations(treated, len(inside)))
    return k, sum(len(mine & set(s)) >= k for s in sets) / len(sets)


def test_counts_and_p_agree_with_every_set_of_compounds_listed():
    cells, rng = cells_of(SCREEN), np.random.default_rng(0)
    for _ in range(4):
        selected = rng.random(len(cells)) < 0.4
        table = enrichment.of_selection(cells, selected).set_index("moa")
        assert table["n_selected"].sum() == selected.sum()
        for moa, line in table.iterrows():
            mine = (cells[schema.MOA] == moa).to_numpy()
            assert line["n_selected"] == (selected & mine).sum() and line["n_cells"] == mine.sum()
            assert line["fold"] == pytest.approx(selected[mine].sum() / selected.sum() / mine.mean())
            if moa in ("DMSO", schema.UNKNOWN_MOA):
                assert np.isnan(line["p"]) and np.isnan(line["p_corrected"])
                continue
            k, p = naive(cells, selected, moa)
            assert line["k_compounds"] == k and line["p"] == pytest.approx(p)


def test_correction_counts_mechanisms_without_a_selected_cell():
    cells = cells_of(SCREEN)
    selected = (cells[schema.MOA] == "m0").to_numpy()
    table = enrichment.of_selection(cells, selected)
    assert table["moa"].tolist() == ["m0"]
    assert table["k_compounds"].tolist() == [3] and table["p"][0] == pytest.approx(1 / 120)  # 3 of 10 compounds
    assert table["p_corrected"][0] == pytest.approx(3 / 120)  # three mechanisms are tested


def test_blank_cells_and_the_order_of_rows_do_not_count():
    cells, rng = cells_of(SCREEN), np.random.default_rng(1)
    selected = rng.random(len(cells)) < 0.5
    blank = cells.assign(**{schema.BLANK: False})
    more = pd.concat([blank, blank.assign(**{schema.BLANK: True})], ignore_index=True)
    order = rng.permutation(len(more))
    found = enrichment.of_selection(more.iloc[order], np.concatenate([selected, ~selected])[order])
    pd.testing.assert_frame_equal(found, enrichment.of_selection(cells, selected))


def test_no_selection_is_an_empty_table_and_one_that_does_not_fit_is_refused():
    cells = cells_of(SCREEN)
    assert enrichment.of_selection(cells, np.zeros(len(cells), bool)).empty
    with pytest.raises(TableError, match="3 rows does not fit"):
        enrichment.of_selection(cells, np.ones(3, bool))


def false_positives(n=120):
    """Share of random regions in which some mechanism is found at 5 %, though mechanisms are dealt out at random:
    counted by compounds, and by cells as if each were a witness of its own.
    """
    from scipy.stats import hypergeom

    rng, by_compounds, by_cells = np.random.default_rng(2), [], []
    compounds = np.repeat(np.arange(36), 20)
    for _ in range(n):
        places = rng.normal(0, 2, (36, 2))[compounds] + rng.normal(0, 1, (720, 2))
        moa = np.char.add("m", rng.permutation(np.arange(36) % 12).astype(str))[compounds]
        cells = pd.DataFrame({schema.COMPOUND: np.char.add("c", compounds.astype(str)), schema.MOA: moa})
        selected = np.linalg.norm(places - rng.normal(0, 2, 2), axis=1) < 1.5
        if not selected.any():
            continue
        by_compounds.append((enrichment.of_selection(cells, selected)["p"] <= 0.05).sum() / 12)
        k = pd.Series(selected).groupby(moa).sum()
        by_cells.append((hypergeom.sf(k - 1, 720, 60, selected.sum()) <= 0.05).mean())
    return np.mean(by_compounds), np.mean(by_cells)


def test_random_regions_are_enriched_no_oftener_than_claimed_and_counting_cells_would_be():
    by_compounds, by_cells = false_positives()
    assert by_compounds <= 0.05
    assert by_cells > 0.15
