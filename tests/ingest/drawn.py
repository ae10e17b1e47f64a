"""Small raw screens in the collection's layout, drawn as plain discs: fast, and independent of the phantom."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import tifffile

CHANNELS = ("DNA", "Tubulin", "Actin")
CODES = (1, 2, 4)
SHAPE = (320, 400)


def draw(
    centres: npt.ArrayLike, shape: tuple[int, int] = SHAPE, radius: float = 16.0, seed: int = 0
) -> npt.NDArray[np.uint16]:
    """A field (H, W, 3) of round cells over noise: nuclei in the first channel, wider bodies in the others."""
    rng = np.random.default_rng(seed)
    field = np.empty((*shape, 3), dtype=np.float64)
    for channel, (size, height) in enumerate(((radius, 1500), (1.6 * radius, 900), (1.9 * radius, 1200))):
        plane = np.zeros(shape, dtype=np.float32)
        for y, x in np.asarray(centres, dtype=float).reshape(-1, 2):
            cv2.circle(plane, (round(x * 16), round(y * 16)), round(size * 16), 1.0, -1, cv2.LINE_8, 4)
        field[..., channel] = 400 + height * cv2.GaussianBlur(plane, (0, 0), 1.2) + rng.normal(0, 25, shape)
    return np.clip(field, 0, 65535).astype(np.uint16)


def grid(count: int, shape: tuple[int, int] = SHAPE, seed: int = 0) -> npt.NDArray[np.float64]:
    """Centres (count, 2) that lie apart from each other and from the border."""
    rng = np.random.default_rng(seed)
    ys, xs = np.arange(50, shape[0] - 45, 52), np.arange(50, shape[1] - 45, 52)
    every = np.array([(y, x) for y in ys for x in xs], dtype=float)
    return rng.permutation(every)[:count] + rng.uniform(-5, 5, (count, 2))


@dataclasses.dataclass
class Raw:
    """A raw screen on disk."""

    folder: Path
    truth: dict[str, npt.NDArray[np.float64]]  # field name -> centres

    @property
    def image_table(self) -> Path:
        return self.folder / "BBBC021_v1_image.csv"

    @property
    def moa_table(self) -> Path:
        return self.folder / "BBBC021_v1_moa.csv"

    def file(self, well: str, channel: int = 0, plate: str = "Week1_001", site: int = 1) -> Path:
        return next(self.folder.glob(f"*/{plate}/*_{well}_s{site}_w{CODES[channel]}*.tif"))

    def edit_table(self, change) -> None:
        table = pd.read_csv(self.image_table)
        change(table).to_csv(self.image_table, index=False)


def write_raw(folder: Path, plates=("Week1_001", "Week2_002"), wells=("B02", "B03", "C04"), sites=1, count=6) -> Raw:
    rows, truth = [], {}
    treatments = {"B02": ("DMSO", 0.0), "B03": ("taxol", 0.3), "C04": ("emetine", 1.0)}
    for p, plate in enumerate(plates):
        week = plate.split("_")[0]
        (folder / week / plate).mkdir(parents=True)
        for w, well in enumerate(wells):
            for site in range(1, sites + 1):
                seed = 100 * p + 10 * w + site
                centres = grid(count, seed=seed)
                field = draw(centres, seed=seed)
                truth[f"{plate}/{well}/s{site}"] = centres
                row = {"TableNumber": 1, "ImageNumber": len(rows) + 1}
                for channel, (name, code) in enumerate(zip(("DAPI", "Tubulin", "Actin"), CODES, strict=True)):
                    file = f"{plate}_{well}_s{site}_w{code}{seed:08X}.tif"
                    tifffile.imwrite(folder / week / plate / file, field[..., channel])
                    row[f"Image_FileName_{name}"] = file
                    row[f"Image_PathName_{name}"] = f"{week}/{plate}"
                compound, concentration = treatments[well]
                row |= {
                    "Image_Metadata_Plate_DAPI": plate,
                    "Image_Metadata_Well_DAPI": well,
                    "Replicate": p + 1,
                    "Image_Metadata_Compound": compound,
                    "Image_Metadata_Concentration": concentration,
                }
                rows.append(row)
    raw = Raw(folder, truth)
    pd.DataFrame(rows).to_csv(raw.image_table, index=False)
    moa = [("DMSO", 0.0, "DMSO"), ("taxol", 0.3, "Microtubule stabilizers"), ("emetine", 1.0, "Protein synthesis")]
    pd.DataFrame(moa, columns=["compound", "concentration", "moa"]).to_csv(raw.moa_table, index=False)
    return raw
