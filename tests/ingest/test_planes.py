"""Files of several planes: what is meant is read from the file or the option, and refused where neither says it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from cytovae.errors import ConfigError, ImageError
from cytovae.images import Plane, read_crops, read_field, read_labels, read_plane
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


def test_a_file_of_a_set_shows_its_own_image_and_opens_no_other(tmp_path: Path) -> None:
    write_set(tmp_path, ["A01.ome.tif", "A02.ome.tif"])
    (tmp_path / "A01.ome.tif").rename(tmp_path / "elsewhere.tif")
    with pytest.MonkeyPatch.context() as patched:
        opened: list[str] = []
        plain = tifffile.TiffFile.__init__
        patched.setattr(
            tifffile.TiffFile, "__init__", lambda s, f, **k: opened.append(Path(f).name) or plain(s, f, **k)
        )
        plane = read_plane(tmp_path / "A02.ome.tif", Plane(names=("FITC",)), shared=True)
    assert np.array_equal(plane, STACK[1, 1])
    assert set(opened) == {"A02.ome.tif"}
    moved = read_plane(tmp_path / "elsewhere.tif", Plane(names=("Hoechst",)), shared=True)
    assert np.array_equal(moved, STACK[0, 0])
    (crop,) = read_crops(tmp_path, ["A02.ome.tif"], 2, None)
    assert np.array_equal(np.moveaxis(crop, -1, 0), STACK[:2, 1])


def write_set(folder: Path, files: list[str]) -> None:
    """OME-TIFFs each of which describes all of them, as Bio-Formats writes them: file i shows plane i of `STACK`."""
    pixels = 'DimensionOrder="XYCZT" Type="uint16" SizeX="30" SizeY="20" SizeC="2" SizeZ="1" SizeT="1"'
    described = ""
    for i, file in enumerate(files):
        channels = "".join(f'<Channel ID="Channel:{i}:{c}" Name="{n}"/>' for c, n in enumerate(("Hoechst", "FITC")))
        lies = "".join(
            f'<TiffData IFD="{c}" FirstC="{c}" PlaneCount="1"><UUID FileName="{file}">urn:uuid:{i}</UUID></TiffData>'
            for c in range(2)
        )
        described += f'<Image ID="Image:{i}"><Pixels ID="Pixels:{i}" {pixels}>{channels}{lies}</Pixels></Image>'
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    for i, file in enumerate(files):
        whole = f'<OME xmlns="{schema}" UUID="urn:uuid:{i}">{described}</OME>'
        with tifffile.TiffWriter(folder / file) as tiff:
            for c in range(2):
                about = whole if c == 0 else None
                tiff.write(STACK[c, i], description=about, metadata=None, contiguous=False)


def test_several_images_in_one_file_are_refused_and_levels_of_a_pyramid_are_not(tmp_path: Path) -> None:
    fields, sizes, pyramid = (tmp_path / name for name in ("fields.ome.tif", "sizes.tif", "pyramid.tif"))
    with tifffile.TiffWriter(fields, ome=True) as tiff:
        for z in range(2):
            tiff.write(STACK[:, z], metadata={"axes": "CYX", "Channel": {"Name": ["DNA", "x", "y"]}})
    with tifffile.TiffWriter(sizes) as tiff:
        tiff.write(STACK[0, 0], contiguous=False)
        tiff.write(STACK[0, 0, :10, :15], contiguous=False)
    with tifffile.TiffWriter(pyramid) as tiff:
        tiff.write(STACK[0, 0], metadata=None)
        tiff.write(STACK[0, 0, ::2, ::2], subfiletype=1, metadata=None)
    for path in (fields, sizes):
        with pytest.raises(ImageError, match=r"holds 2 images.* write each to a file of its own") as refused:
            read_plane(path, Plane(names=("DNA",)), shared=path == fields)
        assert refused.value.code == "several-planes"
    with pytest.raises(ImageError, match="holds 2 images"):
        read_labels(sizes)
    assert np.array_equal(read_plane(pyramid), STACK[0, 0])


def test_two_channels_are_never_one_plane(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK[0, 0])
    cv2.imwrite(str(tmp_path / "a.png"), STACK[0, 0])
    several = write(tmp_path / "b.tif", STACK[:, 0], "QYX")
    for path, planes in (
        (tmp_path / "a.tif", NAMES),
        (tmp_path / "a.png", NAMES),
        (several, {"DNA": Plane(0), "Actin": Plane(1), "ER": Plane(1)}),
    ):
        with pytest.raises(ImageError, match=r"are the same plane of .* name a file for each") as refused:
            read_field(dict.fromkeys(NAMES, path), planes=planes)
        assert refused.value.code == "several-planes"


@pytest.mark.parametrize("imagej", [False, True])
def test_a_page_of_the_table_and_a_word_for_the_stack_are_not_both_taken(tmp_path: Path, imagej: bool) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], imagej=imagej, metadata={"axes": "ZYX"})
    with pytest.raises(ImageError, match="leave out --z, or take the columns Frame_ out"):
        read_plane(tmp_path / "a.tif", Plane(frame=0, z="max"))
    assert np.array_equal(read_plane(tmp_path / "a.tif", Plane(frame=0)), STACK[0, 0])
    tifffile.imwrite(tmp_path / "b.tif", STACK[0, 0])
    assert np.array_equal(read_plane(tmp_path / "b.tif", Plane(frame=0, z="max")), STACK[0, 0])
