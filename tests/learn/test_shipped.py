"""The bundles in ``models/``: whole, light, comparable, and showing what the paper claims."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cytovae.config import ScreenRecord
from cytovae.ingest import assembly, layouts
from cytovae.learn import bundle as bundles
from cytovae.learn import reconstruct
from cytovae.screen import Screen

MODELS = Path(__file__).resolve().parents[2] / "models"
SETS = ("bbbc021", "phantom")


@pytest.mark.parametrize("name", [f"{s}-{m}" for s in SETS for m in ("ae", "vae", "vaeplus")])
def test_shipped_bundles_verify_and_round_trip(name: str) -> None:
    bundle = bundles.load(MODELS / name)
    assert bundle.config["recipe"]["recipe"] == "best"
    patches = np.random.default_rng(0).integers(1, 4000, (2, 68, 68, 3)).astype(np.uint16)
    z = bundle.encode(patches)
    assert np.isfinite(bundle.decode(z)).all()
    assert bundle.channels == ("DNA", "Tubulin", "Actin")
    card = (MODELS / name / "README.md").read_text()
    for part in ("## Data", "## Split", "## Recipe", "## Measures", "## Limits", "Licence of the data"):
        assert part in card


def test_shipped_bundles_are_together_under_30_megabytes() -> None:
    assert sum(p.stat().st_size for p in MODELS.rglob("*") if p.is_file()) < 30e6


@pytest.mark.parametrize("name", SETS)
def test_models_of_a_set_had_the_same_iterations_batches_and_split(name: str) -> None:
    configs = [bundles.describe(MODELS / f"{name}-{m}") for m in ("ae", "vae", "vaeplus")]
    for key in ("iterations", "batch_size", "seed", "rates", "augment"):
        assert len({c["recipe"][key] for c in configs}) == 1, key
    assert configs[0]["split"] == configs[1]["split"] == configs[2]["split"]
    full = 5 * configs[2]["recipe"]["period"]  # from here on all four layers weigh 1
    assert configs[2]["recipe"]["iterations"] >= 2 * full


@pytest.mark.parametrize("name", SETS)
def test_vaeplus_is_sharper_than_ae_and_vae_on_held_out_wells(name: str) -> None:
    ae, vae, plus = (bundles.read_metrics(MODELS / f"{name}-{m}") for m in ("ae", "vae", "vaeplus"))
    assert ae["n_cells"] == vae["n_cells"] == plus["n_cells"] > 1000
    for other in (ae, vae):
        assert abs(1 - plus["sharpness_ratio"]) < abs(1 - other["sharpness_ratio"])
        assert plus["grid_ratio"] < other["grid_ratio"]
        assert plus["frechet"] < other["frechet"]


@pytest.fixture(scope="module")
def real(bbbc021: Path, tmp_path_factory: pytest.TempPathFactory) -> Screen:
    crops = bbbc021 / "crops"
    layout = layouts.crops.read(crops / "cells.npz", crops / "cells.csv", ("DNA", "Tubulin", "Actin"))
    path = tmp_path_factory.mktemp("real") / "real.screen"
    return assembly.ingest_crops(layout, path, ScreenRecord("real", layout.channels)).screen


@pytest.mark.parametrize("model", ["ae", "vae", "vaeplus"])
def test_the_stated_measures_are_those_of_the_shipped_weights_on_the_real_held_out_cells(
    real: Screen, model: str
) -> None:
    bundle = bundles.load(MODELS / f"bbbc021-{model}")
    measured = reconstruct.measure(real, bundle)
    assert measured.keys() == bundle.metrics.keys()
    for name, value in bundle.metrics.items():
        wanted = value if isinstance(value, str | int) else pytest.approx(value, rel=1e-3)
        assert measured[name] == wanted, name


def test_the_real_vaeplus_meets_the_bars_it_is_said_to_meet() -> None:
    bundle = bundles.load(MODELS / "bbbc021-vaeplus")
    assert bundle.metrics["mse"] <= 0.0088
    assert bundle.metrics["ssim"] >= 0.58
    assert 0.75 <= bundle.metrics["sharpness_ratio"] <= 1.2
    assert bundle.metrics["grid_ratio"] <= 1.05
    assert bundle.metrics["frame_ratio"] <= 1.4
    assert bundle.metrics["frechet"] < 2.5
    assert bundle.metrics["coherence"][1] > 0.15


def test_the_simulated_vaeplus_meets_every_bar() -> None:
    metrics = bundles.read_metrics(MODELS / "phantom-vaeplus")
    assert 0.8 <= metrics["sharpness_ratio"] <= 1.2
    assert metrics["mse"] < 0.007
    assert metrics["frechet"] <= 4
    assert metrics["frame_ratio"] <= 1.4
