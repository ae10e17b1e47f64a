"""A linear generator, painted cells and small tables for the tests of paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from cytovae import schema
from cytovae.patches import normalise

SIZE = 68
CHANNELS = ("DNA", "Tubulin", "Actin")


class Linear:
    """Principal components as a generator: the smallest thing that fills the protocol."""

    name = "linear"
    patch_size_px = SIZE
    channels = CHANNELS

    def __init__(self, images: np.ndarray, latent_size: int) -> None:
        x = normalise(images).reshape(len(images), -1).astype(np.float64)
        self.mean = x.mean(axis=0)
        self.components = np.linalg.svd(x - self.mean, full_matrices=False)[2][:latent_size]
        self.latent_size = latent_size

    def encode(self, images: np.ndarray) -> np.ndarray:
        x = normalise(images).reshape(len(images), -1)
        return ((x - self.mean) @ self.components.T).astype(np.float32)

    def decode(self, z: np.ndarray) -> np.ndarray:
        return (z @ self.components + self.mean).reshape(-1, SIZE, SIZE, 3).astype(np.float32)


def paint(nucleus_px: float, cell_px: float, actin: float = 0.6, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """One cell: a nucleus, a round body, an actin rim; (H, W, 3) uint16."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    r = np.hypot(y - shift[0], x - shift[1])
    dna = 9000.0 / (1 + np.exp(1.5 * (r - nucleus_px)))
    tubulin = 5000.0 * np.clip(1.2 - r / cell_px, 0, 1) * (r < cell_px)
    rim = np.exp(-(((r - cell_px + 3) / 2.0) ** 2))
    body = 8000.0 * np.clip(actin * (r < cell_px) + rim * 0.4, 0, None)
    return np.rint(np.stack([dna, tubulin, body], axis=2) + 200).astype(np.uint16)


@dataclass
class Small:
    cells: pd.DataFrame
    images: np.ndarray
    z: np.ndarray
    generator: Linear


def table(rows: list[tuple[str, str, str, float]]) -> pd.DataFrame:
    """Cells from (plate, well, compound, concentration)."""
    cells = pd.DataFrame(rows, columns=[schema.PLATE, schema.WELL, schema.COMPOUND, schema.CONCENTRATION])
    cells[schema.CELL_ID] = [f"cell-{i:04d}" for i in range(len(cells))]
    cells[schema.BATCH] = [schema.batch_of(p) for p in cells[schema.PLATE]]
    pairs = zip(cells[schema.COMPOUND], cells[schema.CONCENTRATION], strict=True)
    cells[schema.TREATMENT] = [schema.treatment_name(c, d) for c, d in pairs]
    cells[schema.MOA] = np.where(cells[schema.COMPOUND] == "DMSO", "DMSO", "Growth")
    cells[schema.BLANK] = False
    cells[schema.FIELD] = cells[schema.PLATE] + "/" + cells[schema.WELL] + "/s1"
    cells[schema.SITE] = "1"
    cells[schema.REPLICATE] = "1"
    cells[schema.OBJECT] = range(len(cells))
    cells[[schema.CENTER_Y, schema.CENTER_X]] = np.nan
    return cells[list(schema.CELL_COLUMNS)]


@pytest.fixture(scope="session")
def small() -> Small:
    """72 painted cells on two plates: DMSO, 'grow' (larger nuclei) at two doses, 'dim' (less actin)."""
    rng = np.random.default_rng(1)
    rows, images = [], []
    for plate in ("Week1_A", "Week2_B"):
        for well, compound, dose, nucleus, actin in (
            ("B02", "DMSO", 0.0, 10.0, 0.6),
            ("B03", "DMSO", 0.0, 10.0, 0.6),
            ("C02", "grow", 0.3, 12.0, 0.6),
            ("C03", "grow", 3.0, 15.0, 0.6),
            ("D02", "dim", 1.0, 10.0, 0.2),
            ("D03", "dim", 1.0, 10.0, 0.2),
        ):
            for _ in range(6):
                rows.append((plate, well, compound, dose))
                shift = tuple(rng.normal(0, 0.7, 2))
                images.append(paint(rng.normal(nucleus, 0.5), rng.normal(26, 1.5), rng.normal(actin, 0.04), shift))
    stack = np.stack(images)
    generator = Linear(stack, 24)
    return Small(table(rows), stack, generator.encode(stack), generator)


@pytest.fixture(scope="session")
def make_table() -> Callable[[list[tuple[str, str, str, float]]], pd.DataFrame]:
    return table


@pytest.fixture(scope="session")
def painter() -> Callable[..., np.ndarray]:
    return paint
