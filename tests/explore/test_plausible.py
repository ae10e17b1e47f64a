from __future__ import annotations

import numpy as np
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
    return plausible.Reference(np.arange(len(real), dtype=np.float32)[:, None], lambda _: real, CHANNELS)


def test_five_percent_of_real_cells_are_called_implausible(many):
    judged = reference(many[:200]).judge(many[200:])
    assert judged.implausible.mean() <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 * (1 + 160 / 200) / 160)
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
        plausible.Reference(small.z, dark.decode, CHANNELS)
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


def test_the_audit_counts_its_false_alarms(many, small):
    cells = small.cells.loc[np.arange(360) % 72].reset_index(drop=True)
    cells[schema.BLANK] = False
    made = type("Painted", (), {"channels": CHANNELS, "decode": staticmethod(lambda z: many[z[:, 0].astype(int)])})()
    material = study.Material(cells, np.arange(360, dtype=np.float32)[:, None], made, "DMSO")
    row = audit.plausible_false_alarms(material, np.random.default_rng(0))
    assert row.ok and row.n == 180 and row.nominal == 0.05
