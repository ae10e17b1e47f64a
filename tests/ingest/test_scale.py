"""Screens of another magnification come to the networks' scale, and crops of another size are fitted when asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cytovae import schema
from cytovae.config import ScreenRecord
from cytovae.errors import ConfigError, IngestError
from cytovae.fields import rescaled
from cytovae.ingest import assembly, layouts, scale
from cytovae.ingest.nuclei import NucleiOptions
from cytovae.patches import PatchStore
from tests.ingest.drawn import Raw, write_raw
from tests.ingest.test_design import CROPS, crops


def test_a_smaller_image_is_the_mean_of_its_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 65536, (8, 12, 5), dtype=np.uint16)
    naive = image.reshape(4, 2, 6, 2, 5).mean(axis=(1, 3))
    assert np.abs(rescaled(image, 0.5) - naive).max() <= 0.5
    flat = np.full((10, 10, 1), 777, np.uint16)
    assert (rescaled(flat, 2.5) == 777).all() and rescaled(flat, 2.5).shape == (25, 25, 1)


def test_no_pattern_appears_that_was_not_there() -> None:
    fine = np.tile(np.array([[0, 1000]], np.uint16), (90, 45))[..., None]  # stripes of one pixel
    assert np.ptp(rescaled(fine, 1 / 3).astype(int)) < 400  # every third pixel alone would give 1000


def test_crops_are_cut_or_padded_around_the_pixel_of_their_centre() -> None:
    for edge in (8, 9, 20, 21):
        crop = np.full((edge, edge, 2), 5, np.uint16)
        crop[edge // 2, edge // 2] = 900
        got = scale.fitted(crop, 14)
        assert got.shape == (14, 14, 2)
        assert np.argwhere(got[..., 0] == 900).tolist() == [[7, 7]]
        assert (np.delete(got[..., 1].ravel(), 7 * 14 + 7) == 5).all()


def test_factors_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="--pixel-size-um"):
        scale.factor("0.65", 34, None)
    with pytest.raises(ConfigError, match="the 'nucleus', to a pixel size in um, or 'none', not 'cell'"):
        scale.factor("cell", 34, None)
    with pytest.raises(ConfigError, match="at most 8 times"):
        scale.factor("nucleus", 400, None)


def test_fields_of_twice_the_magnification_give_the_patches_of_the_usual_one(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", plates=("Week1_001",))
    layout = layouts.bbbc021.read(raw.folder)
    record = ScreenRecord("s", layout.channels, pixel_size_um=0.65)
    usual = assembly.ingest_fields(layout, raw.folder, tmp_path / "a.screen", record).screen
    for path in raw.folder.glob("*/*/*.tif"):
        tifffile.imwrite(path, np.kron(tifffile.imread(path), np.ones((2, 2), np.uint16)))
    options = assembly.IngestOptions(nuclei=NucleiOptions(diameter_px=68))
    twice = scale.of(ScreenRecord("s", layout.channels, pixel_size_um=0.325), scale.factor("nucleus", 68, None))
    assert twice.pixel_size_um == 0.65
    outcome = assembly.ingest_fields(layout, raw.folder, tmp_path / "b.screen", twice, options)
    one, two = (PatchStore(s.patches_path).read(np.arange(18)) for s in (usual, outcome.screen))
    assert np.array_equal(one, two)
    here, there = (s.cells()[[schema.CENTER_Y, schema.CENTER_X]].to_numpy() for s in (usual, outcome.screen))
    assert np.allclose((here + 0.5) * 2 - 0.5, there, atol=0.02)  # places stay those of the raw field
    assert outcome.width_fits


def test_known_centres_are_places_of_the_raw_field(tmp_path: Path, raw: Raw) -> None:
    import dataclasses

    import pandas as pd

    layout = layouts.bbbc021.read(raw.folder)
    record = ScreenRecord("s", layout.channels)
    centres = pd.DataFrame({schema.FIELD: ["Week1_001/B02/s1"], schema.OBJECT: [1], "y": [160.5], "x": [200.5]})
    known = dataclasses.replace(layout, centres=centres)
    made = assembly.ingest_fields(known, raw.folder, tmp_path / "a.screen", scale.of(record, 0.5)).screen
    patch = PatchStore(made.patches_path).read([0])[0]
    plane = tifffile.imread(raw.file("B02")).astype(float).reshape(160, 2, 200, 2).mean(axis=(1, 3))
    assert np.abs(patch[..., 0] - plane[80 - 34 : 80 + 34, 100 - 34 : 100 + 34]).max() <= 0.5
    assert made.cells()[[schema.CENTER_Y, schema.CENTER_X]].to_numpy().tolist() == [[160.5, 200.5]]


def test_larger_crops_are_refused_unless_they_may_be_fitted(tmp_path: Path) -> None:
    layout = crops(tmp_path, CROPS)
    record = ScreenRecord("s", layout.channels, patch_size_px=40)
    with pytest.raises(IngestError, match="--fit cuts or pads"):
        assembly.ingest_crops(layout, tmp_path / "a.screen", record)
    made = assembly.ingest_crops(layout, tmp_path / "a.screen", record, assembly.IngestOptions(fit=True)).screen
    assert np.array_equal(PatchStore(made.patches_path).read([2])[0], np.load(tmp_path / "cells.npy")[2, 14:54, 14:54])
