"""The patch store gives back what was written, from memory map and from threads alike."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from cytovae import patches
from cytovae.errors import ScreenError
from cytovae.patches import Parts, PartWriter, PatchStore, cut, normalise, part_path, write_part

PATCHES = np.random.default_rng(0).integers(0, 65536, (60, 12, 10, 3), dtype=np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_part(tmp_path, 0, PATCHES[:7])
    write_part(tmp_path, 2, PATCHES[7:40])
    write_part(tmp_path, 5, PATCHES[40:])
    return tmp_path


def test_a_part_is_a_plain_npy_file(folder: Path) -> None:
    assert np.array_equal(np.load(part_path(folder, 2)), PATCHES[7:40])
    assert sorted(p.name for p in folder.iterdir()) == ["part-00000.npy", "part-00002.npy", "part-00005.npy"]


def test_written_in_pieces_it_is_the_file_numpy_writes(tmp_path: Path) -> None:
    with PartWriter(tmp_path, 0) as part:
        for first in range(0, 60, 7):
            part.append(PATCHES[first : first + 7])
    np.save(tmp_path / "numpy.npy", PATCHES)
    assert part_path(tmp_path, 0).read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_a_part_broken_off_or_empty_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"), PartWriter(tmp_path, 0) as part:
        part.append(PATCHES)
        raise RuntimeError("power cut")
    with PartWriter(tmp_path, 1):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory map", "threads"])
def test_rows_come_in_the_order_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch, on_disk: bool) -> None:
    monkeypatch.setattr(Parts, "_on_disk", lambda *_: on_disk)
    store = PatchStore(folder)
    assert len(store) == 60
    for seed in range(5):
        rows = np.random.default_rng(seed).integers(0, 60, 104)
        assert np.array_equal(store.read(rows), PATCHES[rows])
    assert store.read([]).shape == (0, 12, 10, 3)


def test_blocks_are_everything_once_and_in_order(folder: Path) -> None:
    blocks = list(PatchStore(folder).blocks(16))
    assert [start for start, _ in blocks] == [0, 16, 32, 48]
    assert np.array_equal(np.concatenate([block for _, block in blocks]), PATCHES)


@pytest.mark.parametrize("on_disk", [False, True])
def test_few_files_are_open_however_many_parts_there_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, on_disk: bool
) -> None:
    monkeypatch.setattr(patches, "_OPEN", 2)
    monkeypatch.setattr(Parts, "_on_disk", lambda *_: on_disk)
    before = len(list(Path("/dev/fd").iterdir()))
    store = PatchStore(folder)
    rows = np.random.default_rng(1).permutation(60)
    assert np.array_equal(store.read(rows), PATCHES[rows])
    assert len(list(Path("/dev/fd").iterdir())) - before <= 4 < 2 * len(list(folder.glob("part-*")))


def test_a_store_goes_to_another_process(folder: Path) -> None:
    assert np.array_equal(pickle.loads(pickle.dumps(PatchStore(folder))).read([59, 0]), PATCHES[[59, 0]])


@pytest.mark.parametrize("rows", [[-1], [60], [0, 1000]])
def test_rows_that_are_not_there_are_refused(folder: Path, rows: list[int]) -> None:
    with pytest.raises(ScreenError, match="holds 60 patches"):
        PatchStore(folder).read(rows)


def test_broken_stores_say_so(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ScreenError, match="holds no patches"):
        PatchStore(tmp_path / "empty")
    with pytest.raises(ScreenError, match="uint16"):
        write_part(tmp_path, 9, PATCHES.astype(np.float32))
    np.save(part_path(folder, 7), PATCHES[:, :6])
    with pytest.raises(ScreenError, match="differ in shape"):
        PatchStore(folder)
    part_path(folder, 7).unlink()
    data = part_path(folder, 2).read_bytes()
    part_path(folder, 2).write_bytes(data[: len(data) // 2])
    with pytest.raises(ScreenError, match="is damaged"):
        PatchStore(folder)


def test_what_is_not_in_the_cache_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PatchStore(folder)
    rows = np.arange(20)

    def would_wait(*_: object) -> int:
        raise BlockingIOError

    part, within = np.zeros(20, np.int64), rows % 7
    assert not store._kept._on_disk(part, within)
    monkeypatch.setattr(patches.os, "preadv", would_wait)
    assert store._kept._on_disk(part, within)


def test_patches_are_cut_where_they_fit_and_nowhere_else() -> None:
    field = np.random.default_rng(1).integers(0, 65536, (50, 60, 2), dtype=np.uint16)
    rng = np.random.default_rng(2)
    centres = rng.uniform(-5, 65, (300, 2))
    found, inside = cut(field, centres, 8)
    naive, fits = [], []
    for y, x in np.rint(centres).astype(int):
        ok = y - 4 >= 0 and x - 4 >= 0 and y + 4 <= 50 and x + 4 <= 60
        fits.append(ok)
        if ok:
            naive.append(field[y - 4 : y + 4, x - 4 : x + 4])
    assert inside.tolist() == fits
    assert 20 < sum(fits) < 300
    assert np.array_equal(found, np.stack(naive))


def test_each_channel_of_each_patch_is_divided_by_its_own_maximum() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 5000, (4, 6, 6, 3)).astype(np.uint16)
    images[1, ..., 2] = 0
    got = normalise(images)
    for n in range(4):
        for c in range(3):
            top = images[n, ..., c].max()
            np.testing.assert_allclose(got[n, ..., c], images[n, ..., c] / top if top else 0.0, rtol=1e-6)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(normalise(got), got)


def test_negative_values_of_a_decoder_count_as_nothing() -> None:
    assert normalise(np.array([[[[-2.0], [4.0]]]])).ravel().tolist() == [0.0, 1.0]
