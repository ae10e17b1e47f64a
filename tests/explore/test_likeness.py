"""Which treatments look like a cell or a group: against a naive loop; how often controls are said to look like one."""

from __future__ import annotations

import numpy as np
import pytest

from cytovae import schema
from cytovae.errors import SelectionError
from cytovae.explore import likeness, targets

CONTROLS = 8


def made_screen(make_table, rng, *, d=12, moved=2.0, few_on_last=False):
    """Three treatments of two wells each on two plates, A and B alike, C another way; plates differ by an offset."""
    rows, points = [], []
    ways = {"A": np.eye(d)[0], "B": np.eye(d)[0] + 0.3 * np.eye(d)[1], "C": np.eye(d)[2]}
    for p, plate in enumerate(("Week1_P1", "Week1_P2")):
        offset = 5.0 * np.eye(d)[3 + p]
        n = 1 if few_on_last and p else CONTROLS
        layout = [("DMSO", 0.0, f"A{w:02d}", n) for w in (1, 2, 3)]
        layout += [(c, 1.0, f"B{w:02d}", 4) for w, c in enumerate("ABC")]
        for compound, dose, well, cells in layout:
            for _ in range(cells):
                rows.append((plate, well, compound, dose))
                points.append(rng.normal(0, 1, d) + offset + moved * ways.get(compound, np.zeros(d)))
    return make_table(rows), np.array(points, np.float32)


@pytest.mark.parametrize("few", [False, True])
def test_displacements_are_from_the_mean_of_the_controls_near_each_cell(make_table, few):
    cells, z = made_screen(make_table, np.random.default_rng(0), few_on_last=few)
    found = likeness.displacements(cells, z, "DMSO")
    for row in range(len(cells)):
        near = np.setdiff1d(targets.controls_near(cells, "DMSO", row)[0], [row])
        np.testing.assert_allclose(found[row], z[row] - z[near].astype(np.float64).mean(axis=0), atol=1e-5)


def test_cosines_and_exemplars_are_those_of_a_naive_loop(make_table):
    rng = np.random.default_rng(1)
    cells, z = made_screen(make_table, rng)
    ways = likeness.displacements(cells, z, "DMSO").astype(np.float64)
    asked = targets.rows_of(cells, "A@1")[:3]
    found = likeness.alike(cells, ways, "DMSO", asked, rng)
    query = ways[asked].mean(axis=0)
    for _, line in found.table.iterrows():
        mine = np.setdiff1d(targets.rows_of(cells, line["treatment"]), asked)
        mean = ways[mine].mean(axis=0)
        assert line["cosine"] == pytest.approx(mean @ query / np.linalg.norm(mean) / np.linalg.norm(query))
        each = [ways[r] @ query / np.linalg.norm(ways[r]) for r in mine]
        assert line["row"] == mine[int(np.argmax(each))]
        assert line["n_cells"] == len(mine)
    assert found.table["cosine"].is_monotonic_decreasing
    assert set(found.table["treatment"]) == {"A@1", "B@1", "C@1"}


def test_cells_of_a_drug_look_like_the_drug_of_the_same_mechanism(make_table):
    rng = np.random.default_rng(2)
    cells, z = made_screen(make_table, rng, moved=4.0)
    ways = likeness.displacements(cells, z, "DMSO")
    everyone = targets.rows_of(cells, "A@1")
    found = likeness.alike(cells, ways, "DMSO", everyone, rng)
    assert found.table["treatment"].iloc[0] == "B@1" and found.n_cells == len(everyone)
    assert found.p < 0.05 and found.sentence.startswith("The 8 cells look most like B 1 µM")


def test_control_cells_are_said_to_look_like_a_drug_no_more_often_than_stated(make_table):
    rng, said, n = np.random.default_rng(3), 0, 150
    for _ in range(n):
        cells, z = made_screen(make_table, rng)
        ways = likeness.displacements(cells, z, "DMSO")
        asked = rng.choice(targets.controls(cells, "DMSO"), 1)
        said += likeness.alike(cells, ways, "DMSO", asked, rng).p <= 0.05
    assert said / n < 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)


def test_nothing_to_compare_is_refused_in_a_sentence(make_table):
    rng = np.random.default_rng(4)
    cells, z = made_screen(make_table, rng)
    ways = likeness.displacements(cells, z, "DMSO")
    with pytest.raises(SelectionError, match="no cells are selected"):
        likeness.alike(cells, ways, "DMSO", [], rng)
    with pytest.raises(SelectionError, match="no treatment has 3 cells"):
        likeness.alike(cells, ways, "DMSO", np.flatnonzero(cells[schema.COMPOUND] != "DMSO"), rng)
    with pytest.raises(SelectionError, match="one DMSO cell"):
        likeness.displacements(cells[(cells[schema.COMPOUND] != "DMSO") | (np.arange(len(cells)) == 0)], z, "DMSO")
