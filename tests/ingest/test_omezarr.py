"""OME-Zarr plates as ngio writes them, in both versions; and ours, read back by ngio."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import ngio
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cytovae import contents, schema
from cytovae.cli import console, data  # noqa: F401  (data registers its verbs)
from cytovae.config import ScreenRecord
from cytovae.errors import ConfigError, ImageError, IngestError
from cytovae.images import Plane, read_labels, read_plane
from cytovae.ingest import assembly, exports, layouts
from cytovae.patches import PatchStore
from cytovae.screen import Screen
from tests.ingest.drawn import draw, grid

CHANNELS = {"DNA": "Hoechst", "Tubulin": "FITC", "Actin": "Cy5"}
PLACES = (("B", "02"), ("C", "11"))


def image(store: object, pixels: np.ndarray, axes: str, version: str, names: list[str]) -> ngio.OmeZarrContainer:
    return ngio.create_ome_zarr_from_array(
        store,
        pixels,
        pixelsize=0.65,
        axes_names=axes,
        channels_meta=names,
        levels=2,
        ngff_version=version,
        consolidation_mode="numpy",
    )


def write(path: Path, version: str, axes: str = "cyx", sites=("0", "1")) -> dict[str, np.ndarray]:
    """A plate of two wells; its fields by name, (H, W, 3)."""
    listed = [ngio.ImageInWellPath(row=r, column=c, path=site) for r, c in PLACES for site in sites]
    plate = ngio.create_empty_plate(path, name="P1", images=listed, ngff_version=version)
    fields = {}
    for w, (row, column) in enumerate(PLACES):
        for site in sites:
            seed = w * 9 + int(site)
            field = fields[f"P1/{row}{column}/s{site}"] = draw(grid(4, seed=seed), seed=seed)
            stack = np.moveaxis(field, -1, 0)[[1, 0, 2]]
            if "z" in axes:
                stack = np.stack([stack // 2, stack], axis=axes.index("z"))
            image(plate.get_image_store(row, column, site), stack, axes, version, ["FITC", "Hoechst", "Cy5"])
    return fields


def patches_are(screen: Screen, fields: dict[str, np.ndarray]) -> None:
    cells, store = screen.cells(), PatchStore(screen.patches_path)
    for row in range(len(cells)):
        y, x = np.rint(cells.loc[row, [schema.CENTER_Y, schema.CENTER_X]].to_numpy(float)).astype(int)
        field = fields[cells.loc[row, schema.FIELD]]
        np.testing.assert_array_equal(store.read([row])[0], field[y - 34 : y + 34, x - 34 : x + 34])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_plate_becomes_a_screen(tmp_path: Path, version: str) -> None:
    fields = write(tmp_path / "a.zarr", version)
    plates = pd.DataFrame({"well": ["B02", "C11"], "compound": ["DMSO", "taxol"], "concentration": [0, 1]})
    plates.to_csv(tmp_path / "map.csv", index=False)
    words = ["ingest", "ome-zarr", tmp_path / "a.zarr", tmp_path / "a.screen", "--plate-map", tmp_path / "map.csv"]
    words += ["--channels", "DNA=hoechst,Tubulin=FITC,Actin=Cy5", "--workers", 1, "--json"]
    words += ["--patches", "on-demand"] if version == "0.5" else []
    ran = CliRunner().invoke(console.app, [str(word) for word in words])
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["fields"] == {"ok": 4}
    screen = Screen.open(tmp_path / "a.screen")
    assert screen.record.channels == ("DNA", "Tubulin", "Actin") and screen.record.pixel_size_um == 0.65
    assert set(screen.cells()[schema.TREATMENT]) == {"DMSO@0", "taxol@1"}
    patches_are(screen, fields)


def test_what_the_plate_lists_and_does_not_hold_is_absent_and_the_rest_goes_on(tmp_path: Path) -> None:
    write(tmp_path / "plates" / "a.zarr", "0.4")
    listed = [ngio.ImageInWellPath(row="D", column="1", path="0")]
    ngio.create_empty_plate(tmp_path / "plates" / "b.zarr", name="P2", images=listed, ngff_version="0.5")
    gone = tmp_path / "plates" / "a.zarr" / "C" / "11"
    gone.rename(tmp_path / "elsewhere")
    layout = layouts.omezarr.read(tmp_path / "plates", CHANNELS)
    status = layout.fields.set_index(schema.FIELD)["status"].to_dict()
    assert status == {"P1/B02/s0": "ok", "P1/B02/s1": "ok", "P1/C11/s0": "absent", "P2/D01/s0": "absent"}


def test_z_is_asked_for_and_other_axes_are_refused(tmp_path: Path) -> None:
    fields = write(tmp_path / "a.zarr", "0.5", "czyx", sites=("0",))
    path = tmp_path / "a.zarr" / "B" / "02" / "0"
    with pytest.raises(ImageError, match=r"z-stack of 2 planes; say what becomes of it with --z"):
        read_plane(path, Plane(names=("Cy5",)))
    stack = read_plane(path, Plane(names=("Cy5",), z="max"))
    np.testing.assert_array_equal(stack, fields["P1/B02/s0"][..., 2])
    np.testing.assert_array_equal(read_plane(path, Plane(names=("Cy5",), z="1")), stack // 2)
    with pytest.raises(ImageError, match="2 time points"):
        image(tmp_path / "t.zarr", np.zeros((2, 1, 8, 8), np.uint16), "tcyx", "0.4", ["a"])
        read_plane(tmp_path / "t.zarr", Plane(names=("a",)))


def test_channels_are_called_as_the_images_call_them(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", "0.4", sites=("0",))
    with pytest.raises(ConfigError, match=r"has the channel DNA=DAPI; they call their channels FITC, Hoechst, Cy5"):
        layouts.omezarr.read(tmp_path / "a.zarr", {"DNA": "DAPI", "Actin": "Cy5"})
    for path in tmp_path.glob("a.zarr/*/*/0/.zattrs"):
        said = json.loads(path.read_text())
        path.write_text(json.dumps({"multiscales": said["multiscales"]}))
    with pytest.raises(ConfigError, match="they call their channels nothing: give their places, from 0"):
        layouts.omezarr.read(tmp_path / "a.zarr", {"DNA": "DAPI"})
    layout = layouts.omezarr.read(tmp_path / "a.zarr", {"DNA": "1", "Actin": "2"})
    assert layout.fields[layouts.frame_column("DNA")].tolist() == [1, 1]
    path = tmp_path / "a.zarr" / "B" / "02" / "0"
    np.testing.assert_array_equal(read_plane(path, Plane(1, ("1", "DNA"))), draw(grid(4, seed=0), seed=0)[..., 0])


def test_labels_of_the_image_are_read(tmp_path: Path) -> None:
    made = image(tmp_path / "a.zarr", np.ones((1, 20, 30), np.uint16), "cyx", "0.5", ["DNA"])
    labels = np.zeros((20, 30), np.uint32)
    labels[3:6, 4:9] = 7
    made.derive_label("nuclei").set_array(labels)
    file = assembly.label_file(tmp_path / "a.zarr", "nuclei")
    np.testing.assert_array_equal(read_labels(file), labels)
    with pytest.raises(ImageError, match="has no labels called 'cells'"):
        assembly.label_file(tmp_path / "a.zarr", "cells")


def test_other_versions_acquisitions_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="is no OME-Zarr plate and holds none"):
        layouts.omezarr.read(tmp_path, CHANNELS)
    listed = [ngio.ImageInWellPath(row="D", column="1", path=str(a), acquisition_id=a) for a in (0, 1)]
    ngio.create_empty_plate(tmp_path / "b.zarr", name="P2", images=listed, ngff_version="0.4")
    with pytest.raises(ConfigError, match="holds acquisitions 0, 1; choose one of them with --acquisition N"):
        layouts.omezarr.read(tmp_path / "b.zarr", CHANNELS)
    assert len(layouts.omezarr.read(tmp_path / "b.zarr", CHANNELS, acquisition=1).fields) == 1
    said = json.loads((tmp_path / "b.zarr" / ".zattrs").read_text())
    said["plate"]["version"] = "0.3"
    (tmp_path / "b.zarr" / ".zattrs").write_text(json.dumps(said))
    with pytest.raises(IngestError, match=r"is OME-Zarr 0.3; versions 0.4 and 0.5 are read"):
        layouts.omezarr.read(tmp_path / "b.zarr", CHANNELS)


def test_a_chunk_that_changes_changes_the_content_of_its_image(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", "0.4", sites=("0",))
    path = tmp_path / "a.zarr" / "B" / "02" / "0"
    before, stamp = contents.digest_of(path), contents.stamp_of(path)
    chunk = next(p for p in (path / "0").rglob("*") if p.name.isdecimal() and p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:99])
    assert contents.digest_of(path) != before and contents.stamp_of(path) != stamp
    with pytest.raises(ImageError, match="cannot be read"):
        read_plane(path, Plane(names=("Hoechst",)))
    chunk.unlink()
    fields = layouts.omezarr.read(tmp_path / "a.zarr", CHANNELS).fields.set_index(schema.FIELD)
    assert "1 of its 4 chunks are not there and read as 0" in fields.loc["P1/B02/s0", "reason"]
    assert "chunks" not in fields.loc["P1/C11/s0", "reason"]


def test_exported_plates_are_read_by_ngio_and_by_us(tmp_path: Path) -> None:
    fields = write(tmp_path / "a.zarr", "0.4")
    layout = layouts.omezarr.read(tmp_path / "a.zarr", CHANNELS)
    record = ScreenRecord("s", layout.channels, pixel_size_um=0.65)
    screen = assembly.ingest_fields(layout, tmp_path / "a.zarr", tmp_path / "a.screen", record).screen
    patches_are(screen, fields)
    out = tmp_path / "out"
    assert exports.to_ome_zarr(screen, out) == len(screen.cells())
    plate = ngio.open_ome_zarr_plate(out / "P1.zarr")
    assert plate.wells_paths() == ["B/02", "C/11"]
    theirs = plate.get_image("B", "02", "0").get_image()
    assert theirs.channel_labels == ["DNA", "Tubulin", "Actin"] and theirs.pixel_size.x == 0.65
    original = PatchStore(screen.patches_path).read(np.arange(len(screen.cells())))
    n = int((screen.cells()[schema.WELL] == "B02").sum())
    mosaic = np.moveaxis(theirs.get_as_numpy().reshape(3, *theirs.shape[-2:]), 0, -1)
    np.testing.assert_array_equal(mosaic[:68, 68:136], original[1])
    design = layouts.Design(plate_map=out / "plate_map.csv")
    names = {c: c for c in layout.channels}
    back = layouts.omezarr.read(out, names, centres=out / "centres.csv", design=design)
    again = assembly.ingest_fields(back, out, tmp_path / "b.screen", record).screen
    assert n and len(again.cells()) == len(original)
    np.testing.assert_array_equal(PatchStore(again.patches_path).read(np.arange(len(original))), original)
    assert again.cells()[schema.TREATMENT].tolist() == screen.cells()[schema.TREATMENT].tolist()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_chunk_that_was_cut_off_is_refused_whatever_its_codec_makes_of_it(tmp_path: Path, version: str) -> None:
    """Blosc gives what lay in memory before: in most runs the pixels of the field read last."""
    import numcodecs
    import zarr

    plane = np.random.default_rng(0).integers(0, 4000, (3, 64, 64)).astype(np.uint16)
    image(tmp_path / "a.zarr", plane, "cyx", version, ["A", "B", "C"])
    made = zarr.open_array(tmp_path / "a.zarr" / "0", mode="r")
    old = made.metadata.zarr_format == 2
    blosc = numcodecs.Blosc("lz4") if old else zarr.codecs.BloscCodec(cname="lz4")
    chunks, more = (1, 32, 64), {"zarr_format": made.metadata.zarr_format, "overwrite": True}
    again = zarr.create_array(
        tmp_path / "a.zarr" / "0", shape=plane.shape, chunks=chunks, dtype="uint16", compressors=blosc, **more
    )
    again[:] = plane
    np.testing.assert_array_equal(read_plane(tmp_path / "a.zarr", Plane(names=("B",))), plane[1])
    chunk = tmp_path / "a.zarr" / "0" / again.metadata.encode_chunk_key((1, 1, 0))
    chunk.write_bytes(chunk.read_bytes()[:88])
    with pytest.raises(ImageError, match=r"has 88 bytes and says [\d,]+, so it was cut off"):
        read_plane(tmp_path / "a.zarr", Plane(names=("B",)))
    np.testing.assert_array_equal(read_plane(tmp_path / "a.zarr", Plane(names=("A",))), plane[0])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("what", ["chunk", "array"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_folder_in_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, version: str, what: str, make: Callable[[Path], None]
) -> None:
    plane = np.ones((1, 64, 64), np.uint16)
    image(tmp_path / "a.zarr", plane, "cyx", version, ["A"])
    import zarr

    folder = tmp_path / "a.zarr" / "0"
    key = zarr.open_array(folder, mode="r").metadata.encode_chunk_key((0, 0, 0))
    file = folder / key if what == "chunk" else folder / (".zarray" if version == "0.4" else "zarr.json")
    file.unlink()
    make(file)
    with pytest.raises(ImageError, match="folder, pipe or device, not a file"):
        read_plane(tmp_path / "a.zarr", Plane(names=("A",)))


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("B/02/zarr.json", '{"attributes": {"ome": {"version": "0.5", "well": {"images": [{"path": "../../../x"}]}}}}'),
        ("B/02/zarr.json", '{"attributes": {"ome": {"version": "0.5", "well": {"images": [{"acquisition": 1}]}}}}'),
        ("B/02/zarr.json", '{"attributes": {"ome": {"version": "0.5", "well": {"images": 7}}}}'),
        ("B/02/zarr.json", "[" * 100_000),
        ("zarr.json", '{"attributes": {"ome": {"version": "0.5", "plate": {"rows": 1}}}}'),
        ("B/02/0/zarr.json", '{"attributes": {"ome": {"version": "0.5", "multiscales": [{"axes": [{"name": 1}]}]}}}'),
    ],
)
def test_metadata_that_make_no_sense_are_refused_in_one_sentence(tmp_path: Path, file: str, changed: str) -> None:
    write(tmp_path / "a.zarr", "0.5", sites=("0",))
    (tmp_path / "a.zarr" / file).write_text(changed)
    if file.startswith("B/02/0"):
        with pytest.raises(ImageError, match=r"^[^\n]{10,300}$"):
            read_plane(tmp_path / "a.zarr" / "B" / "02" / "0", Plane(names=("Hoechst",)))
        return
    with pytest.raises(IngestError, match=r"^[^\n]{10,300}$"):
        layouts.omezarr.read(tmp_path / "a.zarr", CHANNELS)
