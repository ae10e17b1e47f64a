from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cytovae import schema
from cytovae.errors import SelectionError
from cytovae.explore import audit, morphology, plausible, study
from cytovae.patches import normalise


@pytest.fixture(scope="module")
def many(painter):
    """360 painted cells as they would be decoded, (n, 68, 68, 3) float."""
    rng = np.random.default_rng(4)
    return normalise(
        np.stack(
            [
                painter(rng.normal(11, 1.0), rng.normal(26, 1.5), rng.normal(0.6, 0.05), tuple(rng.normal(0, 0.7, 2)))
                for _ in range(360)
            ]
        )
    )


CHANNELS = ("DNA", "Tubulin", "Actin")


def reference(real):
    return plausible.Reference(plausible.measured(real, CHANNELS), CHANNELS)


def test_five_percent_of_real_cells_are_called_implausible(many):
    judged = reference(many[:200]).judge(many[200:])
    ranked = 200 - 200 // 3
    assert judged.implausible.mean() <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 * (1 + 160 / ranked) / 160)
    assert (judged.p > 0).all() and (judged.p <= 1).all()
    assert all(bool(why) == odd for why, odd in zip(judged.why, judged.implausible, strict=True))


def test_what_is_no_cell_is_called_so_and_told_why(many):
    against = reference(many[:200])
    cell = many[200]
    two = np.maximum(np.roll(cell, 13, axis=0), np.roll(cell, -13, axis=0))
    none = cell * np.array([0, 1, 1], np.float32)
    dim, aside = 0.5 * cell, np.roll(cell, 10, axis=1)
    judged = against.judge(np.stack([two, none, dim, aside]))
    assert judged.implausible.all()
    assert judged.why[1] == "no nucleus in the middle"
    assert judged.why[2].startswith("brightest ") and "less than in decoded cells" in judged.why[2]
    assert judged.why[3].startswith("distance of the nucleus")
    assert judged.summary.startswith("4 of 4 steps look unlike a cell (step 0: ")


def test_measures_are_those_of_the_painted_cell(painter):
    image = normalise(painter(10.0, 26.0)[None])
    row = plausible.measured(image, CHANNELS).iloc[0]
    nucleus, cell = morphology.masks(image, CHANNELS)
    assert row["nuclear area"] == nucleus.sum() == pytest.approx(np.pi * 10**2, rel=0.1)
    assert row["cell area"] == cell.sum() and row["nuclei in the middle"] == row["nuclei in view"] == 1
    assert row["length to width of the nucleus"] == pytest.approx(1.0, abs=0.03)
    assert row["distance of the nucleus from the centre"] < 0.3
    assert row["DNA brightness"] == pytest.approx(image[0, ..., 0][nucleus[0]].mean())
    assert row["brightest Actin pixel"] == 1.0


def test_pictures_without_nuclei_are_not_judged(small):
    dark = type("Dark", (), {**{k: getattr(small.generator, k) for k in ("name", "channels", "patch_size_px")}})()
    dark.encode, dark.latent_size = small.generator.encode, 24
    dark.decode = lambda z: np.zeros((len(z), 68, 68, 3), np.float32)
    with pytest.raises(SelectionError, match="a nucleus is found in 0 of 72 decoded cells"):
        reference(dark.decode(small.z))
    material = study.Material(small.cells, small.z, dark, "DMSO")
    drawn = study.draw(material, study.Request(treatment="grow@3", steps=3))
    assert drawn.evidence.pictures is None and any("is not judged" in note for note in drawn.notes)
    assert "implausible" not in study.document(drawn)["steps"][0]


def test_steps_carry_whether_they_could_be_cells(small):
    material = study.Material(small.cells, small.z, small.generator, "DMSO")
    drawn = study.draw(material, study.Request(treatment="grow@3", steps=4))
    steps = study.document(drawn)["steps"]
    assert [step["implausible"] for step in steps] == drawn.evidence.pictures.implausible.tolist()
    assert all(0 < step["plausibility"] <= 1 for step in steps)


def drawn_table(rng, n, two_nuclei):
    """Measures as they might be of n pictures, some of them with two nuclei or none, without painting any."""
    names = [f"{name} brightness" for name in CHANNELS] + [f"brightest {name} pixel" for name in CHANNELS]
    table = pd.DataFrame(rng.normal(size=(n, 6)), columns=names)
    table.insert(0, plausible.NUCLEUS, (rng.random(n) > 0.01).astype(float))
    found = table[plausible.NUCLEUS] == 1
    counts = 1.0 + (rng.random((n, 2)) < [two_nuclei, 0.4])
    for name, column in zip(plausible.COUNTS, counts.T, strict=True):
        table[name] = np.where(found, column, np.nan)
    table.loc[~found, names[:3]] = np.nan
    return table


@pytest.mark.parametrize("two_nuclei", [0.0, 0.03, 0.045, 0.06, 0.3])
def test_the_level_holds_however_many_cells_have_a_second_nucleus(two_nuclei):
    """A tie as large as the level itself took the whole of it, or passed as a whole: 0 to 12 % from draw to draw."""
    rng = np.random.default_rng(3)
    rates = []
    for _ in range(60):
        against = plausible.Reference(drawn_table(rng, 384, two_nuclei), CHANNELS)
        rates.append((against.p(drawn_table(rng, 512, two_nuclei)) <= plausible.FALSE_ALARMS).mean())
    exact = 12 / 257  # p is one of 257 values
    assert np.mean(rates) == pytest.approx(exact, abs=0.008)
    assert np.std(rates) < 1.4 * np.sqrt(exact * (1 - exact) * (1 / 258 + 1 / 512))


def test_a_picture_without_a_nucleus_is_strange_only_where_few_real_cells_have_none():
    rng = np.random.default_rng(5)
    table, none = drawn_table(rng, 384, 0.1), {plausible.NUCLEUS: 0.0}
    without = pd.DataFrame([none], columns=table.columns).fillna({c: 0.0 for c in table.columns if "pixel" in c})
    assert plausible.Reference(table, CHANNELS).p(without)[0] <= 0.05
    table.loc[rng.random(384) < 0.3, plausible.NUCLEUS] = 0.0
    assert plausible.Reference(table, CHANNELS).p(without)[0] > 0.05


def test_the_audit_counts_its_false_alarms(many, small):
    cells = small.cells.loc[np.arange(360) % 72].reset_index(drop=True)
    cells[schema.BLANK] = False
    made = type("Painted", (), {"channels": CHANNELS, "decode": staticmethod(lambda z: many[z[:, 0].astype(int)])})()
    material = study.Material(cells, np.arange(360, dtype=np.float32)[:, None], made, "DMSO")
    row = audit.plausible_false_alarms(material, np.random.default_rng(0))
    assert row.ok and row.n == 360 and row.nominal == 0.05


def test_the_audit_holds_what_is_true_and_tells_what_is_not(monkeypatch):
    rows = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        wells = rng.integers(0, 30, 800)
        rows.append(audit.plausible_rate(drawn_table(rng, 800, 0.045), wells, CHANNELS, rng))
    assert all(row.ok and row.ci95[0] <= row.observed <= row.ci95[1] and row.n == 800 for row in rows)
    p = plausible.Reference.p
    monkeypatch.setattr(plausible.Reference, "p", lambda self, table: p(self, table) / 3)  # says 5 % of 15 %
    table = drawn_table(np.random.default_rng(0), 800, 0.045)
    wells = np.random.default_rng(1).integers(0, 30, 800)
    row = audit.plausible_rate(table, wells, CHANNELS, np.random.default_rng(0))
    assert not row.ok and row.observed > 0.1
