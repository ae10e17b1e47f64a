"""Files of microscopes' makers: what bioio gives of them becomes planes; what it does not say is refused."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytovae import schema
from cytovae.config import ScreenRecord
from cytovae.errors import DependencyError, ImageError
from cytovae.images import Plane, read_field, read_plane
from cytovae.ingest import assembly, layouts
from cytovae.patches import PatchStore
from tests.ingest.drawn import draw, grid

STACK = np.random.default_rng(0).integers(0, 9000, (2, 3, 40, 50), dtype=np.uint16)  # (C, Z, Y, X)
NAMES = {"DNA": Plane(names=("Hoechst",), z="max"), "Actin": Plane(names=("phalloidin",), z="2")}


def as_zeiss_writes(path: Path, pixels: np.ndarray, names: tuple[str, ...]) -> None:
    """A CZI file of (C, Z, Y, X), by Zeiss's own library."""
    czi = pytest.importorskip("pylibCZIrw.czi")
    pytest.importorskip("bioio_czi")
    with czi.create_czi(str(path)) as document:
        for c, stack in enumerate(pixels):
            for z, plane in enumerate(stack):
                document.write(plane[..., None], plane={"C": c, "Z": z, "T": 0})
        document.write_metadata(document_name="a", channel_names=dict(enumerate(names)))


def test_a_czi_file_is_taken_apart_by_its_channel_names(tmp_path: Path) -> None:
    as_zeiss_writes(tmp_path / "a.czi", STACK, ("Hoechst", "Phalloidin"))
    field = read_field(dict.fromkeys(NAMES, tmp_path / "a.czi"), planes=NAMES)
    assert np.array_equal(field[..., 0], STACK[0].max(axis=0)) and np.array_equal(field[..., 1], STACK[1, 1])
    with pytest.raises(ImageError, match="z-stack of 3 planes"):
        read_plane(tmp_path / "a.czi", Plane(names=("Hoechst",)))
    (tmp_path / "a.czi").write_bytes((tmp_path / "a.czi").read_bytes()[:300])
    with pytest.raises(ImageError, match="cannot be read"):
        read_plane(tmp_path / "a.czi", Plane(names=("Hoechst",)))


def test_czi_files_become_a_screen(tmp_path: Path) -> None:
    fields = {}
    for k, well in enumerate(("B02", "C03")):
        fields[well] = draw(grid(4, seed=k), seed=k)
        as_zeiss_writes(tmp_path / f"{well}.czi", np.moveaxis(fields[well], -1, 0)[:, None], ("Hoechst", "FITC", "Cy5"))
    called = {"DNA": "Hoechst", "Tubulin": "FITC", "Actin": "Cy5"}
    layout = layouts.files.read(tmp_path, called, r"(?P<well>[A-Z]\d+)\.czi")
    made = assembly.ingest_fields(layout, tmp_path, tmp_path / "a.screen", ScreenRecord("s", layout.channels))
    cells, store = made.screen.cells(), PatchStore(made.screen.patches_path)
    assert len(cells) == 8
    for row in (0, 7):
        y, x = np.rint(cells.loc[row, [schema.CENTER_Y, schema.CENTER_X]].to_numpy(float)).astype(int)
        field = fields[cells.loc[row, schema.WELL]]
        assert np.array_equal(store.read([row])[0], field[y - 34 : y + 34, x - 34 : x + 34])


class Dims:
    def __init__(self, order: str, shape: tuple[int, ...]) -> None:
        self.order, self._of = order, dict(zip(order, shape, strict=True))
        self.Y, self.X = self._of["Y"], self._of["X"]

    def __getitem__(self, axis: str) -> tuple[int]:
        return (self._of[axis],)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.SimpleNamespace:
    """In the place of bioio an image that tests describe, so that the rules are tried where bioio is not installed."""
    said = types.SimpleNamespace(scenes=("one",), order="TCZYX", pixels=STACK[None], names=["Hoechst", "Phalloidin"])

    class BioImage:
        def __init__(self, path: Path) -> None:
            if path.read_bytes() == b"unknown":
                raise type("UnsupportedFileFormatError", (Exception,), {})("no reader")
            self.scenes, self.channel_names = said.scenes, said.names
            self.dims = Dims(said.order, said.pixels.shape)

        def get_image_data(self, axes: str, **at: int) -> Any:
            index = tuple(at.get(axis, slice(None)) for axis in "TCZ")
            found = said.pixels[index]
            assert found.ndim == len(axes)
            return found

    monkeypatch.setitem(sys.modules, "bioio", types.SimpleNamespace(BioImage=BioImage))
    (tmp_path / "a.nd2").write_bytes(b"image")
    return said


def test_planes_are_told_by_name_and_z_and_the_rest_is_refused(stand_in: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.nd2"
    field = read_field(dict.fromkeys(NAMES, path), planes=NAMES)
    assert np.array_equal(field[..., 0], STACK[0].max(axis=0)) and np.array_equal(field[..., 1], STACK[1, 1])
    with pytest.raises(
        ImageError, match="holds 2 channels, called Hoechst, Phalloidin, and not just one is called DAPI"
    ):
        read_plane(path, Plane(names=("DAPI",), z="max"))
    stand_in.scenes = ("A1", "A2")
    with pytest.raises(ImageError, match=r"holds 2 scenes \(A1, A2, ...\); write each to a file of its own"):
        read_plane(path, NAMES["DNA"])
    stand_in.scenes, stand_in.pixels = ("A1",), np.stack([STACK, STACK])
    with pytest.raises(ImageError, match="2 time points"):
        read_plane(path, NAMES["DNA"])
    stand_in.order, stand_in.pixels = "TCZYXS", STACK[None, ..., None]
    with pytest.raises(ImageError, match="image of axes TCZYXS"):
        read_plane(path, NAMES["DNA"])


def test_what_is_not_installed_is_said_with_how_to_get_it(
    stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b.lif").write_bytes(b"unknown")
    with pytest.raises(DependencyError, match="plug-in for lif files: pip install bioio bioio-lif"):
        read_plane(tmp_path / "b.lif")
    monkeypatch.setitem(sys.modules, "bioio", None)
    layout = layouts.files.read(tmp_path, {"DNA": "Hoechst"}, r"(?P<well>[a-z])\.nd2")
    with pytest.raises(DependencyError, match="pip install bioio bioio-nd2"):
        assembly.ingest_fields(layout, tmp_path, tmp_path / "a.screen", ScreenRecord("s", layout.channels))
