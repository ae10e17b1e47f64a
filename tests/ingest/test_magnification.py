"""A magnification that fits no patch is refused before a cell is cut."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from cytovae.cli import console, data  # noqa: F401  (data registers its verbs)
from cytovae.errors import ConfigError
from cytovae.fields import rescaled
from cytovae.ingest import assembly, layouts, request
from tests.ingest.drawn import CHANNELS, Raw, draw


def magnified(raw: Raw, times: float) -> None:
    """Its images as another objective would show them."""
    for path in raw.folder.glob("*/*/*.tif"):
        tifffile.imwrite(path, rescaled(tifffile.imread(path)[..., None], times)[..., 0])


def checked(raw: Raw, **options: Any) -> None:
    asked = request.Fields(**options)
    layout = layouts.bbbc021.read(raw.folder)
    asked.check_scale(layout, raw.folder, asked.record(raw.folder / "a.screen", layout))


def test_the_scale_of_the_networks_passes(raw: Raw) -> None:
    checked(raw)
    checked(raw, patch_size_px=64)


@pytest.mark.parametrize(("times", "shows"), [(2.0, "little of its cell"), (0.5, "several of its neighbours")])
def test_another_magnification_is_refused_with_what_to_write(raw: Raw, times: float, shows: str) -> None:
    magnified(raw, times)
    with pytest.raises(ConfigError, match=shows) as refused:
        checked(raw)
    said = str(refused.value)
    width = int(said.split("--nucleus-px ")[1].split()[0])
    assert abs(width / (32 * times) - 1) < 0.15  # discs of radius 16, blurred
    assert "median of 2 fields" in said  # the control's, one on each plate
    checked(raw, nucleus_px=width, rescale="nucleus")  # as it says
    checked(raw, rescale="none")
    checked(raw, rescale="0.6", pixel_size_um=0.3)  # told
    checked(raw, patch_size_px=round(68 * times))  # patches as much larger or smaller
    with pytest.raises(ConfigError, match="after --rescale"):
        checked(raw, rescale="nucleus")  # from a nucleus that nobody measured


def test_label_images_are_measured_where_nuclei_are_taken_from_them(raw: Raw) -> None:
    for path in raw.folder.glob("*/*/*_w1*.tif"):
        labels = np.zeros((320, 400), np.uint16)
        for k in range(5):
            labels[100:112, 40 + 60 * k : 52 + 60 * k] = k + 1
        tifffile.imwrite(path.with_name(path.stem + "_masks.tif"), labels)
    with pytest.raises(ConfigError, match="about 14 px wide"):
        checked(raw, labels="_masks")


def test_fields_without_nuclei_or_pixels_are_left_to_be_refused_by_name(raw: Raw) -> None:
    for path in raw.folder.glob("*/*/*.tif"):
        path.write_bytes(b"damaged")
    checked(raw)


def test_the_verb_refuses_before_it_cuts_and_keeps_the_magnification_where_told(raw: Raw, tmp_path: Path) -> None:
    magnified(raw, 2)
    verb = [sys.executable, "-m", "cytovae", "ingest", "bbbc021", str(raw.folder), str(tmp_path / "a.screen")]
    refused = subprocess.run(verb, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--rescale none" in refused.stderr
    assert not list(tmp_path.glob("*.screen*"))
    told = subprocess.run([*verb, "--rescale", "none"], capture_output=True, text=True, check=True)
    assert "(without --rescale" in told.stdout
    assert json.loads((tmp_path / "a.screen" / "screen.json").read_text()).get("scale") is None


def crops(tmp_path: Path, times: float, size: int = 68) -> layouts.CropLayout:
    cells = np.stack([draw([(size // 2, size // 2)], (size, size), 16 * times, k) for k in range(9)])
    np.save(tmp_path / "c.npy", cells)
    table = pd.DataFrame({"cell_id": [f"c{k}" for k in range(9)], "plate": "P", "well": "A01", "compound": "DMSO"})
    table.assign(concentration_uM=0).to_csv(tmp_path / "c.csv", index=False)
    return layouts.crops.read(tmp_path / "c.npy", tmp_path / "c.csv", CHANNELS)


@pytest.mark.parametrize(("times", "shows"), [(1.9, "little of its cell"), (0.5, "several of its neighbours")])
def test_crops_are_checked_as_fields_are(tmp_path: Path, times: float, shows: str) -> None:
    def check(layout: layouts.CropLayout, **options: Any) -> None:
        asked = request.Crops(**options)
        asked.check_scale(layout, asked.record(tmp_path / "a.screen", layout))

    check(crops(tmp_path, 1))
    layout = crops(tmp_path, times)
    with pytest.raises(ConfigError, match=rf"median of 9 crops.*{shows}") as refused:
        check(layout)
    width = int(str(refused.value).split("--nucleus-px ")[1].split()[0])
    assert abs(width / (32 * times) - 1) < 0.15
    check(layout, nucleus_px=width, rescale="nucleus")
    check(layout, rescale="none")
    verb = ["ingest", "crops", str(tmp_path / "a.screen"), "--images", str(tmp_path / "c.npy")]
    ran = CliRunner().invoke(console.app, [*verb, "--table", str(tmp_path / "c.csv"), "--channels", ",".join(CHANNELS)])
    assert isinstance(ran.exception, ConfigError) and not (tmp_path / "a.screen").exists()


def test_nuclei_of_real_crops_are_as_wide_as_patches_are_made_for(bbbc021: Path) -> None:
    folder = bbbc021 / "crops"
    layout = layouts.crops.read(folder / "cells.npz", next(folder.glob("*.csv")), CHANNELS)
    asked = request.Crops()
    width, seen = assembly.width_in_crops(layout, asked.record(bbbc021, layout), asked.options)
    assert seen > 40 and 30 < width < 42


@pytest.mark.parametrize("shape", [(1, 1), (4, 68), (8, 8)])
def test_crops_that_show_no_nucleus_are_left_to_be_refused_by_name(tmp_path: Path, shape: tuple[int, int]) -> None:
    layout = crops(tmp_path, 1)
    np.save(tmp_path / "c.npy", np.random.default_rng(0).integers(0, 9, (9, *shape, 3), dtype=np.uint16))
    asked = request.Crops()
    assert assembly.width_in_crops(layout, asked.record(tmp_path, layout), asked.options) == (0.0, 0)
