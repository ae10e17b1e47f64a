"""The light of a plate is found from its own fields, and dividing by it makes cells comparable."""

from __future__ import annotations

import numpy as np
import pytest

from cytovae.fields import correct
from cytovae.ingest import illumination
from tests.ingest.drawn import draw

SHAPE = (320, 400)


def light() -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    plane = 1.3 - 0.8 * ((y / SHAPE[0] - 0.35) ** 2 + (x / SHAPE[1] - 0.6) ** 2)
    return (plane / plane.mean())[..., None]


def fields(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    out = []
    for i in range(n):
        cells = draw(rng.uniform(0, [SHAPE[0], SHAPE[1]], (30, 2)), SHAPE, seed=i).astype(float) - 400
        out.append(np.clip(cells * light() + 400, 0, 65535).astype(np.uint16))
    return out


def test_the_estimate_follows_the_true_light() -> None:
    found = illumination.estimate(fields(60))
    true = light()[4::8, 4::8, 0][: found.shape[0], : found.shape[1]]
    assert found.shape == (40, 50, 3)
    assert np.allclose(found.mean(axis=(0, 1)), 1, atol=1e-3)
    for channel in range(3):
        assert np.corrcoef(found[..., channel].ravel(), true.ravel())[0, 1] > 0.92


def test_correcting_evens_out_the_field() -> None:
    even = np.full((*SHAPE, 3), 1000.0)
    lit = (even * light() + 400).astype(np.uint16)
    lit[::4, ::4][:40] = 400  # some background, so that the dark level can be seen
    corrected = correct(lit, light()[::8, ::8].repeat(3, axis=2).astype(np.float32))
    bright = lit[..., 0] > 500
    before, after = lit[..., 0][bright].astype(float), corrected[..., 0][bright].astype(float)
    assert corrected.dtype == np.uint16
    assert after.std() < 0.2 * before.std()
    assert np.median(corrected[lit == 400]) == pytest.approx(400, abs=1)


def test_too_few_fields_correct_nothing() -> None:
    few = illumination.estimate(fields(illumination.MIN_FIELDS - 1))
    assert (few == 1).all()
    field = fields(1)[0]
    assert np.array_equal(correct(field, few), field)
