"""The linear baseline: principal components of the normalised pixels, as a bundle like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cytovae import schema
from cytovae.errors import TrainingError
from cytovae.learn import bundle as bundles
from cytovae.learn import reconstruct, sampling
from cytovae.patches import PatchStore
from cytovae.screen import Screen

MOST_COMPONENTS = 256
MOST_CELLS = 10_000


def fit(
    screen: Screen,
    path: Path,
    *,
    held_out: float = sampling.HELD_OUT_SHARE,
    seed: int = 0,
    progress: schema.Progress | None = None,
) -> None:
    """Fit principal components on a screen's training cells and leave a bundle at `path`.

    Parameters
    ----------
    screen : Screen
    path : Path
        The bundle's folder.
    held_out : float
        Share of wells kept out, as for the networks.
    seed : int
        Of the randomised solver, and of the choice of cells where there are more than `MOST_CELLS`.
    progress : callable, optional
        Told (done, total) stages.

    Raises
    ------
    TrainingError
        There are fewer than two cells.
    """
    from sklearn.decomposition import PCA

    cells = screen.cells()
    wells = sampling.well_names(cells)
    out = sampling.held_out_wells(cells, held_out)
    rows = sampling.training_rows(cells, out)
    if len(rows) < 2:
        raise TrainingError(f"principal components need at least 2 cells, not {len(rows)}")
    if len(rows) > MOST_CELLS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_CELLS, replace=False))
    pixels = sampling.normalise(PatchStore(screen.patches_path).read(rows)).reshape(len(rows), -1)
    size = min(MOST_COMPONENTS, len(rows) - 1, pixels.shape[1])
    found = PCA(size, svd_solver="randomized", random_state=seed).fit(pixels)
    if progress is not None:
        progress(1, 2)
    config = bundles.new_config(
        path.resolve().name,
        "pca",
        screen.record.channels,
        size,
        screen.record.patch_size_px,
        recipe={"model": "pca", "seed": seed, "held_out": held_out, "components": size},
        split=sampling.split_record(cells, out, held_out),
        data=sampling.data_record(screen, cells, rows),
    )
    arrays = {"mean": found.mean_.astype(np.float32), "components": found.components_.astype(np.float32)}
    bundles.save(path, arrays, config, {})
    if (wells.isin(out) & schema.not_blank(cells)).sum() >= 2:
        bundles.update_metrics(path, reconstruct.measure(screen, bundles.load(path)))
    if progress is not None:
        progress(2, 2)
