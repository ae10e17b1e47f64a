"""Small tables whose answers are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from cytovae import schema


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def make_cells(rng: np.random.Generator) -> Callable[..., pd.DataFrame]:
    """Cells of a screen: in each plate a few control wells and one well per treatment."""

    def make(
        n_plates: int = 4, compounds: int = 6, per_well: int = 5, controls: int = 3, batches: int = 2
    ) -> pd.DataFrame:
        rows = []
        for p in range(n_plates):
            wells = [("DMSO", 0.0)] * controls + [(f"drug{k}", 1.0) for k in range(compounds)]
            for w, (compound, dose) in enumerate(wells):
                for c in range(per_well):
                    rows.append(
                        {
                            schema.CELL_ID: f"{p}-{w}-{c}",
                            schema.FIELD: f"P{p}/{w}/s{c % 2}",
                            schema.PLATE: f"Week{p % batches}_{p}",
                            schema.WELL: f"B{w:02d}",
                            schema.SITE: c % 2,
                            schema.REPLICATE: 0,
                            schema.BATCH: f"Week{p % batches}",
                            schema.COMPOUND: compound,
                            schema.CONCENTRATION: dose,
                            schema.TREATMENT: schema.treatment_name(compound, dose),
                            schema.MOA: "DMSO" if compound == "DMSO" else f"moa{int(compound[4:]) // 2}",
                            schema.OBJECT: c,
                            schema.CENTER_Y: np.nan,
                            schema.CENTER_X: np.nan,
                            schema.BLANK: False,
                        }
                    )
        return pd.DataFrame(rows)[list(schema.CELL_COLUMNS)]

    return make


@pytest.fixture
def make_treatments(rng: np.random.Generator) -> Callable[..., pd.DataFrame]:
    """Treatment profiles of random compounds, mechanisms and batches."""

    def make(n: int = 40, compounds: int = 14, moas: int = 5, batches: int = 4, d: int = 6) -> pd.DataFrame:
        compound = rng.integers(compounds, size=n)
        features = rng.normal(size=(n, d))
        several = [
            "|".join(sorted({f"Week{b}" for b in rng.integers(batches, size=rng.integers(1, 3))})) for _ in range(n)
        ]
        table = pd.DataFrame(
            {
                schema.COMPOUND: [f"drug{c}" for c in compound],
                schema.CONCENTRATION: np.arange(n, dtype=float),
                schema.TREATMENT: [f"drug{c}@{k}" for k, c in enumerate(compound)],
                schema.MOA: [f"moa{c % moas}" for c in compound],
                schema.BATCH: several,
                schema.N_CELLS: 10,
                schema.N_WELLS: 3,
            }
        )
        return pd.concat([table, pd.DataFrame(features, columns=[f"z{k:03d}" for k in range(d)])], axis=1)

    return make
