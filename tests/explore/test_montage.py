"""A mechanism by dose: which cells stand for it, and the figure as a file."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytovae import schema
from cytovae.errors import ConfigError, SelectionError
from cytovae.explore import montage, render

DOSES = (("DMSO", 0.0, "DMSO"), ("a", 1.0, "kill"), ("a", 3.0, "kill"), ("b", 1.0, "kill"), ("c", 1.0, "heal"))


@pytest.fixture
def cells():
    rows = [(f"{c}{d:g}_{i}", c, d, moa, i == 5) for c, d, moa in DOSES for i in range(6)]
    return pd.DataFrame(rows, columns=[schema.CELL_ID, schema.COMPOUND, schema.CONCENTRATION, schema.MOA, schema.BLANK])


@pytest.fixture
def embeddings(cells):
    z = np.random.default_rng(0).normal(size=(len(cells), 4)).astype(np.float32)
    z[cells[schema.BLANK]] *= 100  # blank cells are never chosen
    return z + 3 * (cells[schema.COMPOUND] == "a").to_numpy()[:, None]


def test_the_cells_are_those_found_by_hand(cells, embeddings):
    found = montage.choose(cells, embeddings, "kill")
    assert [(p.compound, p.concentration, p.n_cells) for p in found.places] == [("a", 1, 5), ("a", 3, 5), ("b", 1, 5)]
    good = ~cells[schema.BLANK]
    centre = embeddings[good & (cells[schema.COMPOUND] == "DMSO")].mean(axis=0)
    for place in found.places:
        of = good & (cells[schema.COMPOUND] == place.compound) & (cells[schema.CONCENTRATION] == place.concentration)
        mine, ids = embeddings[of], cells.loc[of, schema.CELL_ID].to_numpy()
        mean = mine.mean(axis=0)
        assert place.typical == ids[np.argmin([np.linalg.norm(z - mean) for z in mine])]
        far = {name: np.dot(z - centre, mean - centre) for name, z in zip(ids, mine, strict=True)}
        assert place.changed == max((name for name in far if name != place.typical), key=far.__getitem__)


def test_order_of_rows_does_not_count(cells, embeddings):
    order = np.random.default_rng(1).permutation(len(cells))
    again = montage.choose(cells.iloc[order].reset_index(drop=True), embeddings[order], "kill")
    assert again == montage.choose(cells, embeddings, "kill")


def test_unknown_mechanism_is_one_sentence(cells, embeddings):
    with pytest.raises(SelectionError, match="no treated cell has the mechanism 'kil'; did you mean 'kill'"):
        montage.choose(cells, embeddings, "kil")


@pytest.mark.parametrize("form", montage.Form)
def test_figure_is_the_file_it_claims_to_be(cells, embeddings, form):
    chosen = montage.choose(cells, embeddings, "kill")
    rng, asked = np.random.default_rng(2), []

    def pictures(ids):
        asked.extend(ids)
        return rng.random((len(ids), 12, 12, 2), dtype=np.float32)

    made = montage.figure(chosen, pictures, ("DNA", "Actin"), 0.5, form, made={"stage": "montage"})
    assert len(asked) == len(set(asked)) == len(chosen.cell_ids)
    if form == montage.Form.PDF:
        assert made.startswith(b"%PDF") and b"montage" in made
        return
    assert render.provenance_in(made, f".{form}") == {"stage": "montage"}
    if form == montage.Form.SVG:
        assert made.count(b"<image") == 2 + 2 * 3  # two controls, two cells of each treatment
        for words in (b"typical", b"most changed", "3 µM".encode(), b"5 cells"):
            assert words in made
    else:
        assert Image.open(io.BytesIO(made)).width > 148 + 2 * 24


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"written as .png, .svg, .pdf, not '.gif'"):
        montage.Form.of(tmp_path / "x.gif")
