"""Files of several planes: what is meant is read from the file or the option, and refused where neither says it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cytovae.errors import ConfigError, ImageError
from cytovae.images import Plane, read_field, read_plane
from cytovae.ingest import assembly

STACK = np.random.default_rng(0).integers(0, 9000, (3, 5, 20, 30), dtype=np.uint16)  # (C, Z, Y, X)
NAMES = {"DNA": Plane(names=("OrigDNA", "DNA")), "Actin": Plane(names=("Phalloidin",)), "ER": Plane(names=("er",))}


def write(path: Path, pixels: np.ndarray, axes: str, names: list[str] | None = None) -> Path:
    about = {"axes": axes} | ({"Channel": {"Name": names}} if names else {})
    tifffile.imwrite(path, pixels, metadata=about, photometric="minisblack", ome=path.name.endswith(".ome.tif"))
    return path


def test_channels_of_one_ome_tiff_are_told_by_its_names_and_not_by_page_0(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif", STACK[:, 0], "CYX", ["ER", "OrigDNA", "Phalloidin"])
    field = read_field(dict.fromkeys(NAMES, path), planes=NAMES)
    for channel, place in enumerate((1, 2, 0)):
        assert np.array_equal(field[..., channel], STACK[place, 0])


def test_channels_of_one_file_that_does_not_name_them_are_refused(tmp_path: Path) -> None:
    for path in (
        write(tmp_path / "a.tif", STACK[:, 0], "QYX"),
        write(tmp_path / "b.ome.tif", STACK[:, 0], "CYX"),
        write(tmp_path / "c.ome.tif", STACK[:, 0], "CYX", ["x", "y", "z"]),
    ):
        with pytest.raises(ImageError, match="column Frame_<name>") as refused:
            read_field(dict.fromkeys(NAMES, path), planes=NAMES)
        assert refused.value.code == "several-planes"
    told = {c: Plane(frame) for frame, c in enumerate(NAMES)}
    assert np.array_equal(read_field(dict.fromkeys(NAMES, path), planes=told)[..., 1], STACK[1, 0])


@pytest.mark.parametrize("name", ["a.ome.tif", "b.tif"])
def test_a_z_stack_needs_a_word(tmp_path: Path, name: str) -> None:
    stack = STACK[0]
    path = write(tmp_path / name, stack, "ZYX")
    with pytest.raises(ImageError, match="--z"):
        read_plane(path)
    assert np.array_equal(read_plane(path, Plane(z="max")), stack.max(axis=0))
    assert np.array_equal(read_plane(path, Plane(z="sum")), stack.sum(axis=0))
    assert np.array_equal(read_plane(path, Plane(z="2")), stack[1])
    with pytest.raises(ImageError, match="has 5 z-planes, so no plane 6"):
        read_plane(path, Plane(z="6"))
    bright = write(tmp_path / f"bright{name}", np.full_like(stack, 60000), "ZYX")
    with pytest.raises(ImageError, match="add up to 300000, beyond 65535; use --z max"):
        read_plane(bright, Plane(z="sum"))


def test_channels_and_z_of_one_file_are_told_apart(tmp_path: Path) -> None:
    for axes, stack in (("CZYX", STACK), ("ZCYX", np.moveaxis(STACK, 0, 1))):
        path = write(tmp_path / f"{axes}.ome.tif", stack, axes, ["ER", "OrigDNA", "Phalloidin"])
        plane = read_plane(path, Plane(names=("Phalloidin",), z="max"), shared=True)
        assert np.array_equal(plane, STACK[2].max(axis=0))


def test_an_imagej_stack_is_no_single_plane(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(ImageError, match="z-stack of 5 planes"):
        read_plane(tmp_path / "a.tif")
    assert np.array_equal(read_plane(tmp_path / "a.tif", Plane(z="3")), STACK[0, 2])


def test_time_points_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="5 time points"):
        read_plane(write(tmp_path / "a.ome.tif", STACK[0], "TYX"), Plane(z="max"))


def test_what_says_nothing_of_a_stack_is_refused() -> None:
    for word in ("mean", "0", "-1", ""):
        with pytest.raises(ConfigError, match="'max' or 'sum', or one plane"):
            assembly.IngestOptions(z=word)
