"""What the examples in docstrings may use: `demo`, a screen of four cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="session")
def four_cells(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import cytovae

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:68, :68] - 33.5
    blobs = [np.exp(-(x**2 + y**2) / (2 * radius**2)) for radius in (8, 9, 15, 16)]
    images = np.stack([np.stack([b, np.roll(b, 5, 0), 1 - b], axis=-1) for b in blobs]) * 30_000
    table = pd.DataFrame(
        {
            "cell_id": list("abcd"),
            "plate": "Week1_1",
            "well": ["A01", "A01", "A02", "A02"],
            "compound": ["DMSO", "DMSO", "taxol", "taxol"],
            "concentration_uM": [0, 0, 0.3, 0.3],
            "moa": ["DMSO", "DMSO", "stabiliser", "stabiliser"],
        }
    )
    noisy = (images + rng.uniform(0, 2000, images.shape)).astype(np.uint16)
    return cytovae.ingest_crops(
        noisy, table, ["DNA", "Tubulin", "Actin"], tmp_path_factory.mktemp("examples") / "demo.screen"
    )


@pytest.fixture(autouse=True)
def names_in_examples(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    if isinstance(request.node, pytest.DoctestItem) and "demo" in request.node.dtest.docstring:
        doctest_namespace["demo"] = request.getfixturevalue("four_cells")
