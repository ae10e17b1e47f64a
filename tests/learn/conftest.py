"""A screen so small that a training on it takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytovae import schema
from cytovae.config import ScreenRecord
from cytovae.patches import write_part
from cytovae.screen import Screen, provenance, write_table


def make_screen(path: Path, n_treatments: int = 5, wells: int = 4, cells_each: int = 6, seed: int = 0) -> Screen:
    """Blobs whose size depends on the treatment; the last cell of each treatment's first well is blank."""
    rng = np.random.default_rng(seed)
    rows = []
    y, x = np.mgrid[:68, :68] - 33.5
    patches = []
    for treatment in range(n_treatments):
        compound, concentration = ("DMSO", 0.0) if treatment == 0 else (f"drug{treatment}", 0.1 * treatment)
        for well in range(wells):
            for cell in range(cells_each):
                blank = well == 0 and cell == cells_each - 1
                radius = 6 + 4 * treatment + rng.normal(0, 1)
                blob = np.exp(-(x**2 + y**2) / (2 * radius**2))
                image = np.stack([blob, np.roll(blob, 5, 0), 1 - blob], axis=-1) * 30_000 + rng.uniform(
                    0, 2000, (68, 68, 3)
                )
                patches.append(np.zeros((68, 68, 3), np.uint16) if blank else image.astype(np.uint16))
                rows.append(
                    {
                        schema.CELL_ID: f"t{treatment}w{well}c{cell}",
                        schema.FIELD: f"f{treatment}{well}",
                        schema.PLATE: f"Week{1 + well % 2}_1",
                        schema.WELL: f"{'ABCDEFGH'[treatment]}{well + 1:02d}",
                        schema.SITE: 1,
                        schema.REPLICATE: 1,
                        schema.BATCH: f"Week{1 + well % 2}",
                        schema.COMPOUND: compound,
                        schema.CONCENTRATION: concentration,
                        schema.TREATMENT: schema.treatment_name(compound, concentration),
                        schema.MOA: "none",
                        schema.OBJECT: cell,
                        schema.CENTER_Y: 34.0,
                        schema.CENTER_X: 34.0,
                        schema.BLANK: blank,
                    }
                )
    screen = Screen.create(path, ScreenRecord(name="blobs", channels=("DNA", "Tubulin", "Actin")))
    half = len(patches) // 2
    write_part(screen.patches_path, 0, np.stack(patches[:half]))
    write_part(screen.patches_path, 1, np.stack(patches[half:]))
    write_table(screen.cells_path, pd.DataFrame(rows)[list(schema.CELL_COLUMNS)], provenance("test"))
    return screen


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    """120 cells of 5 treatments; not to be written into."""
    return make_screen(tmp_path_factory.mktemp("screens") / "blobs.screen")


@pytest.fixture(scope="session")
def paint() -> Callable[..., Screen]:
    """`make_screen`."""
    return make_screen
