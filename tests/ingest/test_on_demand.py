"""Patches that are left in their fields are those that would be stored, and never those of another file."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cytovae import fields, images
from cytovae.config import ScreenRecord
from cytovae.errors import ScreenError
from cytovae.ingest import assembly, layouts, scale
from cytovae.ingest.illumination import Correction
from cytovae.patches import PatchStore, Storage
from cytovae.screen import Screen
from tests.ingest.drawn import Raw, write_raw


def both(raw: Raw, folder: Path, options: assembly.IngestOptions, times: float | None = None) -> tuple[Screen, Screen]:
    layout = layouts.bbbc021.read(raw.folder)
    record = ScreenRecord("s", layout.channels)
    record = record if times is None else scale.of(record, times)
    stored, left = (
        assembly.ingest_fields(layout, raw.folder, folder / kept, record, dataclasses.replace(options, patches=kept))
        for kept in Storage
    )
    return stored.screen, left.screen


def same(stored: Screen, left: Screen) -> None:
    assert stored.cells().equals(left.cells())
    assert not list(left.patches_path.glob("part-*"))
    kept, read = PatchStore(stored.patches_path), PatchStore(left.patches_path)
    assert len(kept) == len(read) == len(left.cells()) and kept.patch_shape == read.patch_shape
    rows = np.random.default_rng(0).permutation(np.tile(np.arange(len(kept)), 2))
    assert read.read(rows).tobytes() == kept.read(rows).tobytes()


@pytest.mark.parametrize("compression", [None, "zlib"], ids=["mapped", "compressed"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_patches_left_in_their_fields_are_those_stored_byte_for_byte(
    raw: Raw, tmp_path: Path, compression: str | None, byteorder: str
) -> None:
    for path in raw.folder.rglob("*.tif"):
        tifffile.imwrite(path, tifffile.imread(path), compression=compression, byteorder=byteorder)
    same(*both(raw, tmp_path, assembly.IngestOptions()))


def test_they_are_the_same_with_illumination_corrected_and_rescaled(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", wells=("B02", "B03"), sites=4)
    stored, left = both(raw, tmp_path, assembly.IngestOptions(illumination=Correction.PLATE), 1.5)
    assert (left.path / "illumination.npz").exists()
    same(stored, left)


def test_read_in_order_each_field_is_read_once(raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, left = both(raw, tmp_path, assembly.IngestOptions(), 0.9)
    read = []
    usual = images.read_field
    monkeypatch.setattr(images, "read_field", lambda paths, **more: read.append(paths) or usual(paths, **more))
    assert sum(len(block) for _, block in PatchStore(left.patches_path).blocks(4)) == len(left.cells())
    assert len(read) == len(left.fields())


def test_uncompressed_fields_are_never_read_whole(raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, left = both(raw, tmp_path, assembly.IngestOptions())
    monkeypatch.setattr(fields.Field, "acquired", lambda _: pytest.fail("a field was read whole"))
    assert PatchStore(left.patches_path).read([0, 20]).any()


def test_a_field_that_is_gone_or_was_changed_is_refused_and_its_copy_is_not(raw: Raw, tmp_path: Path) -> None:
    _, left = both(raw, tmp_path, assembly.IngestOptions())
    store = PatchStore(left.patches_path)
    before = store.read(np.arange(len(store)))
    path = raw.folder / left.fields()["path_Tubulin"].iloc[0]
    shutil.copy(path, tmp_path / "copy.tif")
    path.unlink()
    with pytest.raises(ScreenError, match=r"w2.*\.tif is gone; .*put the file back"):
        store.read([0])
    shutil.copy(tmp_path / "copy.tif", path)  # the same content at another time
    assert np.array_equal(pickle.loads(pickle.dumps(store)).read(np.arange(len(store))), before)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ScreenError, match=r"holds something else than when the screen was made"):
        store.read([0])
    os.utime(path, (0, 0))
    with pytest.raises(ScreenError, match=r"holds something else"):
        store.read([0])
    assert np.array_equal(store.read([len(store) - 1])[0], before[-1])  # other fields can be read


def test_fields_that_moved_are_found_by_the_same_ingest(raw: Raw, tmp_path: Path) -> None:
    _, left = both(raw, tmp_path, assembly.IngestOptions())
    before = PatchStore(left.patches_path).read([3])
    moved = tmp_path / "elsewhere"
    raw.folder.rename(moved)
    with pytest.raises(ScreenError, match="run the same 'cytovae ingest' again with the folder the images are in now"):
        PatchStore(left.patches_path).read([3])
    layout = layouts.bbbc021.read(moved)
    options = assembly.IngestOptions(patches=Storage.ON_DEMAND)
    assert assembly.ingest_fields(layout, moved, left.path, ScreenRecord("s", layout.channels), options).already
    assert np.array_equal(PatchStore(left.patches_path).read([3]), before)


def test_the_field_of_a_cell_is_its_files_as_acquired(raw: Raw, tmp_path: Path) -> None:
    stored, left = both(raw, tmp_path, assembly.IngestOptions(), 0.9)
    cells, table = left.cells(), left.fields().set_index("Metadata_Field")
    for row in (0, len(cells) - 1):
        names = table.loc[cells["Metadata_Field"].iloc[row], [f"path_{c}" for c in left.record.channels]]
        expected = np.stack([tifffile.imread(raw.folder / name) for name in names], axis=-1)
        found = PatchStore(left.patches_path).field_of(row)
        assert found is not None and np.array_equal(found, expected)
    assert PatchStore(stored.patches_path).field_of(0) is None
    (raw.folder / names.iloc[0]).unlink()
    with pytest.raises(ScreenError, match="is gone"):
        PatchStore(left.patches_path).field_of(len(cells) - 1)
