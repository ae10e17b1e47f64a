"""Nuclei of others: label images, and CellProfiler's tables of objects however they are headed and sorted."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage

from cytovae import images, schema
from cytovae.config import ScreenRecord
from cytovae.errors import ImageError, IngestError, TableError
from cytovae.ingest import assembly, layouts, nuclei
from tests.ingest.drawn import SHAPE, Raw
from tests.ingest.test_layouts import COLUMNS, loaddata


def labelled(centres: np.ndarray, first: int = 5) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint16)
    for k, (y, x) in enumerate(centres):
        cv2.circle(labels, (round(x), round(y)), 12 + k, first + 3 * k, -1)
    return labels


def ingest(raw: Raw, path: Path, **more) -> assembly.Outcome:
    table = loaddata(raw)
    table.to_csv(raw.folder / "load_data.csv", index=False)
    layout = layouts.loaddata.read(raw.folder / "load_data.csv", COLUMNS)
    return assembly.ingest_fields(
        layout, raw.folder, path, ScreenRecord("s", layout.channels), assembly.IngestOptions(labels="_cp_masks"), **more
    )


def test_centres_of_labels_are_their_centres_of_mass() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (30, 40)) * 7
    centres, numbers, width = nuclei.of_labels(labels)
    assert numbers.tolist() == [7, 14, 21]
    assert np.allclose(centres, ndimage.center_of_mass(np.ones_like(labels), labels, [7, 14, 21]))
    assert width == pytest.approx(2 * np.sqrt(np.median(np.bincount(labels.ravel())[[7, 14, 21]]) / np.pi))
    assert nuclei.of_labels(np.zeros((3, 3), np.int64))[0].shape == (0, 2)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy"])
def test_label_images_beside_the_dna_images_give_the_cells(raw: Raw, tmp_path: Path, suffix: str) -> None:
    places, without = np.array([[90.0, 100.0], [200.0, 300.0]]), raw.file("B03")
    for field in raw.truth:
        plate, well, _ = field.split("/")
        path = raw.file(well, 0, plate)
        beside, labels = path.with_name(f"{path.stem}_cp_masks{suffix}"), labelled(places)
        {".tif": tifffile.imwrite, ".npy": np.save, ".png": lambda p, a: cv2.imwrite(str(p), a)}[suffix](beside, labels)
    without.with_name(f"{without.stem}_cp_masks{suffix}").unlink()
    outcome = ingest(raw, tmp_path / "a.screen")
    cells = outcome.screen.cells()
    assert len(cells) == 5 * 2 and outcome.codes["missing-file"] == 1
    assert cells[[schema.CENTER_Y, schema.CENTER_X]].drop_duplicates().to_numpy().tolist() == places.tolist()
    assert set(cells[schema.OBJECT]) == {5, 8}
    assert 24 < outcome.nucleus_width_px < 27


def test_a_mask_is_no_label_image(raw: Raw, tmp_path: Path) -> None:
    whole = labelled(next(iter(raw.truth.values())))
    halved, last = whole.copy(), whole == whole.max()
    halved[:, np.flatnonzero(last.any(axis=0)).mean().astype(int)] = 0
    sparse = np.where(whole > np.unique(whole)[-3], 255, 0).astype(np.uint8)  # two nuclei
    classes = np.where(whole > 0, 1, 0).astype(np.uint8)
    classes[:9, :9] = 2
    for name, labels in (("binary", (whole > 0) * np.uint8(255)), ("sparse", sparse), ("classes", classes)):
        tifffile.imwrite(tmp_path / f"{name}.tif", labels)
        with pytest.raises(ImageError, match="separate pieces, as a mask does") as refused:
            images.read_labels(tmp_path / f"{name}.tif")
        assert refused.value.code == "wrong-labels"
    for labels in (whole, halved, np.where(last, whole, 0), np.zeros_like(whole)):
        tifffile.imwrite(tmp_path / "labels.tif", labels)
        assert np.array_equal(images.read_labels(tmp_path / "labels.tif"), labels)


def test_labels_changed_since_are_noticed(raw: Raw, tmp_path: Path) -> None:
    for path in list(raw.folder.glob("*/*/*_w1*.tif")):
        tifffile.imwrite(path.with_name(f"{path.stem}_cp_masks.tif"), labelled(np.array([[90.0, 100.0]])))
    ingest(raw, tmp_path / "a.screen")
    assert ingest(raw, tmp_path / "a.screen").already
    tifffile.imwrite(path.with_name(f"{path.stem}_cp_masks.tif"), labelled(np.array([[95.0, 100.0]])))
    with pytest.raises(IngestError, match="1 image file changed .*_cp_masks.tif"):  # noqa: RUF043
        ingest(raw, tmp_path / "a.screen")


def test_centres_follow_the_image_numbers_of_the_table_and_not_its_order(raw: Raw, tmp_path: Path) -> None:
    table = loaddata(raw).assign(ImageNumber=[11, 12, 13, 14, 15, 16])
    table[::-1].to_csv(raw.folder / "Image.csv", index=False)
    pd.DataFrame(
        {"ImageNumber": [12], "ObjectNumber": [4], "Location_Center_X": [100.0], "Location_Center_Y": [80.0]}
    ).to_csv(tmp_path / "Nuclei.csv", index=False)
    layout = layouts.loaddata.read(raw.folder / "Image.csv", COLUMNS, centres=tmp_path / "Nuclei.csv")
    plate, well = table.loc[1, ["Metadata_Plate", "Metadata_Well"]]
    assert layout.centres is not None
    assert layout.centres[schema.FIELD].tolist() == [f"{plate}/{well}/s1"]
    table.assign(ImageNumber=1).to_csv(raw.folder / "Image.csv", index=False)
    with pytest.raises(TableError, match="repeats 5 values of ImageNumber"):
        layouts.loaddata.read(raw.folder / "Image.csv", COLUMNS)


def test_two_rows_of_column_names_are_understood(raw: Raw, tmp_path: Path) -> None:
    loaddata(raw).to_csv(raw.folder / "Image.csv", index=False)
    path = tmp_path / "MyExpt_Objects.csv"
    path.write_text(
        "Image,Image,Nuclei,Nuclei,Cells,Cells\n"
        "ImageNumber,ObjectNumber,Location_Center_X,Location_Center_Y,Location_Center_X,Location_Center_Y\n"
        "1,3,100,120,400,400\n2,1,90.5,91,400,400\n"
    )
    layout = layouts.loaddata.read(raw.folder / "Image.csv", COLUMNS, centres=path)
    assert layout.centres is not None
    assert layout.centres[["y", "x", schema.OBJECT]].to_numpy().tolist() == [[120, 100, 3], [91, 90.5, 1]]
