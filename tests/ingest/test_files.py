"""Names that microscopes give their files say plate, well, site and channel; nothing else is guessed from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from cytovae import schema
from cytovae.cli import console, data  # noqa: F401  (data registers its verbs)
from cytovae.config import ScreenRecord
from cytovae.errors import ConfigError, IngestError
from cytovae.ingest import assembly, joining, layouts
from cytovae.ingest.layouts.files import Microscope
from cytovae.patches import PatchStore, Storage
from cytovae.screen import read_table
from tests.ingest.drawn import draw, grid

WELLS = (("B02", "DMSO"), ("C11", "taxol"))
GUID = "0DA9E3C5-1D6B-4F4C-9A3E-5B1F0C7D2E11"
NAMES: dict[str, tuple[Callable[[str, int, int], str], tuple[str, str, str]]] = {
    "operetta": (
        lambda well, site, c: f"P1/Images/r{ord(well[0]) - 64:02d}c{well[1:]}f{site:02d}p01-ch{c + 1}sk1fk1fl1.tiff",
        ("1", "2", "3"),
    ),
    "imagexpress": (lambda well, site, c: f"P1/TimePoint_1/screen_{well}_s{site}_w{c + 1}{GUID}.tif", ("1", "2", "3")),
    "incell": (
        lambda well, site, c: (
            f"P1/{well[0]} - {well[1:]}(fld {site} wv {('UV - DAPI', 'FITC - FITC', 'Red - Cy5')[c]}).tif"
        ),
        ("UV - DAPI", "FITC - FITC", "Red - Cy5"),
    ),
    r"(?P<plate>\w+)-(?P<well>[A-H]\d+)-(?P<site>\d)-(?P<channel>\w+)\.tif": (
        lambda well, site, c: f"deep/er/P1-{well}-{site}-{'xyz'[c]}.tif",
        ("x", "y", "z"),
    ),
}


def write(folder: Path, naming: str) -> dict[str, np.ndarray]:
    """Fields named so; their pixels by field."""
    fields = {}
    for w, (well, _) in enumerate(WELLS):
        for site in (1, 2):
            pixels = fields[f"P1/{well}/s{site}"] = draw(grid(4, seed=w * 9 + site), seed=w * 9 + site)
            for channel in range(3):
                path = folder / NAMES[naming][0](well, site, channel)
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, pixels[..., channel])
    return fields


def channels(naming: str) -> dict[str, str]:
    return dict(zip(("DNA", "Tubulin", "Actin"), NAMES[naming][1], strict=True))


@pytest.mark.parametrize("naming", NAMES)
def test_fields_are_found_by_their_names_and_wells_by_the_plate_map(tmp_path: Path, naming: str) -> None:
    truth = write(tmp_path / "raw", naming)
    plates = pd.DataFrame({"well": [w for w, _ in WELLS], "compound": [c for _, c in WELLS], "concentration": [0, 1]})
    plates.to_csv(tmp_path / "map.csv", index=False)
    design = layouts.Design(plate_map=tmp_path / "map.csv")
    layout = layouts.files.read(tmp_path / "raw", channels(naming), naming, design=design)
    assert layout.fields[schema.FIELD].tolist() == sorted(truth)
    outcome = assembly.ingest_fields(
        layout, tmp_path / "raw", tmp_path / "a.screen", ScreenRecord("s", layout.channels)
    )
    cells, store = outcome.screen.cells(), PatchStore(outcome.screen.patches_path)
    assert len(cells) == 16
    assert set(zip(cells[schema.WELL], cells[schema.TREATMENT], strict=True)) == {("B02", "DMSO@0"), ("C11", "taxol@1")}
    for row in range(len(cells)):
        y, x = np.rint(cells.loc[row, [schema.CENTER_Y, schema.CENTER_X]].to_numpy(float)).astype(int)
        field = truth[cells.loc[row, schema.FIELD]]
        assert np.array_equal(store.read([row])[0], field[y - 34 : y + 34, x - 34 : x + 34])


def test_what_names_leave_open_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "operetta")
    three = channels("operetta")
    with pytest.raises(ConfigError, match=r"no file of .* is of the channel DNA=7; there are 1, 2, 3"):
        layouts.files.read(tmp_path, {**three, "DNA": "7"}, Microscope.OPERETTA)
    with pytest.raises(
        IngestError, match=r"no file of .* is named as incell names them: the first of its 12 images is 'r"
    ):
        layouts.files.read(tmp_path, three, Microscope.INCELL)
    with pytest.raises(ConfigError, match=r"must name the group 'well'.*or give operetta, imagexpress, incell"):
        layouts.files.read(tmp_path, three, r"(?P<place>.*)\.tif")
    images = tmp_path / "P1" / "Images"
    one = images / "r02c02f01p01-ch1sk1fk1fl1.tiff"
    (images / one.name.replace("p01", "p02")).write_bytes(one.read_bytes())
    with pytest.raises(IngestError, match="z-planes 1 to 2, each a file of its own; say what becomes"):
        layouts.files.read(tmp_path, three, Microscope.OPERETTA)
    fields = layouts.files.read(tmp_path, three, Microscope.OPERETTA, z="1").fields
    assert len(fields) == 4 and (fields["status"] == "ok").all()
    (images / one.name.replace("p01", "p02")).rename(images / one.name.replace("sk1", "sk2"))
    with pytest.raises(IngestError, match=r"2 time points \(1, 2\)"):
        layouts.files.read(tmp_path, three, Microscope.OPERETTA)
    (images / one.name.replace("sk1", "sk2")).unlink()
    one.unlink()
    fields = layouts.files.read(tmp_path, three, Microscope.OPERETTA).fields.set_index(schema.FIELD)
    assert fields.loc["P1/B02/s1", "status"] == "refused" and "its channel DNA (1)" in fields.loc["P1/B02/s1", "reason"]
    assert (fields["status"] == "ok").sum() == 3


def write_planes(folder: Path, naming: str, depth: int = 3) -> dict[str, np.ndarray]:
    """Fields of which every z-plane is a file; the planes (Z, H, W, C) by field."""
    write(folder, naming)
    stacks: dict[str, np.ndarray] = {}
    for w, (well, _) in enumerate(WELLS):
        for site in (1, 2):
            seed = w * 9 + site
            stack = np.stack([draw(grid(4, seed=seed), seed=seed + 100 * z) // (4 - z) for z in range(depth)])
            stacks[f"P1/{well}/s{site}"] = stack
            for channel in range(3):
                first = folder / NAMES[naming][0](well, site, channel)
                for z in range(depth):
                    path = first.with_name(first.name.replace("p01", f"p{z + 1:02d}"))
                    if naming == "imagexpress":
                        path = first.parent / f"ZStep_{z + 1}" / first.name
                        path.parent.mkdir(exist_ok=True)
                    tifffile.imwrite(path, stack[z, ..., channel])
                if naming == "imagexpress":
                    first.unlink()
    return stacks


def ingest_planes(raw: Path, naming: str, z: str, **more) -> assembly.Outcome:
    layout = layouts.files.read(raw, channels(naming), naming, z=z)
    screen = raw.with_name(f"{naming}{z}{more.get('patches', '')}.screen")
    return assembly.ingest_fields(
        layout, raw, screen, ScreenRecord("s", layout.channels), assembly.IngestOptions(z=z, **more)
    )


@pytest.mark.parametrize("naming", ["operetta", "imagexpress"])
@pytest.mark.parametrize("z", ["max", "sum", "2"])
def test_a_z_stack_of_a_file_a_plane_becomes_one_plane(tmp_path: Path, naming: str, z: str) -> None:
    stacks = write_planes(tmp_path / "raw", naming)
    stored = ingest_planes(tmp_path / "raw", naming, z)
    seen = ingest_planes(tmp_path / "raw", naming, z, patches=Storage.ON_DEMAND)
    cells, count = stored.screen.cells(), stored.n_cells
    assert count == 16
    for patches in (PatchStore(one.screen.patches_path).read(np.arange(count)) for one in (stored, seen)):
        for row in range(count):
            stack = stacks[cells.loc[row, schema.FIELD]]
            plane = {"max": stack.max(axis=0), "sum": stack.sum(axis=0), "2": stack[1]}[z]
            y, x = np.rint(cells.loc[row, [schema.CENTER_Y, schema.CENTER_X]].to_numpy(float)).astype(int)
            assert np.array_equal(patches[row], plane[y - 34 : y + 34, x - 34 : x + 34])
    digests = read_table(stored.screen.path / "images.parquet")
    assert len(digests) == (12 if z == "2" else 36)


def test_a_field_that_lacks_a_z_plane_is_refused_and_so_are_projections_beside_planes(tmp_path: Path) -> None:
    write_planes(tmp_path / "raw", "imagexpress")
    folder = tmp_path / "raw" / "P1" / "TimePoint_1"
    next((folder / "ZStep_2").glob("*_C11_s2_w2*")).unlink()
    fields = layouts.files.read(tmp_path / "raw", channels("imagexpress"), "imagexpress", z="max").fields
    fields = fields.set_index(schema.FIELD)
    assert (fields["status"] == "ok").sum() == 3
    assert "does not hold all 3 z-planes of its channel Tubulin (2)" in fields.loc["P1/C11/s2", "reason"]
    (folder / "ZStep_3").rename(folder / "ZStep_0")
    with pytest.raises(IngestError, match="ZStep_0, in which MetaXpress puts projections"):
        layouts.files.read(tmp_path / "raw", channels("imagexpress"), "imagexpress", z="sum")


def test_appended_screens_find_all_files_of_their_stacks(tmp_path: Path) -> None:
    screens = []
    for plate in ("P1", "P2"):
        raw = tmp_path / plate / "raw"
        write_planes(raw, "operetta")
        (raw / "P1").rename(raw / plate)
        screens.append(ingest_planes(raw, "operetta", "max", patches=Storage.ON_DEMAND).screen)
    before = [PatchStore(screen.patches_path).read(np.arange(16)) for screen in screens]
    joining.append(screens[0], screens[1:])
    joined = assembly.Screen.open(screens[0].path)
    assert np.array_equal(PatchStore(joined.patches_path).read(np.arange(32)), np.concatenate(before))


def test_thumbnails_are_no_fields(tmp_path: Path) -> None:
    write(tmp_path, "imagexpress")
    folder = tmp_path / "P1" / "TimePoint_1"
    for path in list(folder.iterdir()):
        (folder / path.name.replace(GUID, f"_thumb{GUID}")).write_bytes(path.read_bytes())
    assert len(layouts.files.read(tmp_path, channels("imagexpress"), Microscope.IMAGEXPRESS).fields) == 4


def test_one_ome_tiff_a_field_is_taken_apart_by_its_channel_names(tmp_path: Path) -> None:
    pixels = draw(grid(4, seed=1), seed=1)
    about = {"axes": "CYX", "Channel": {"Name": ["Alexa 568", "Hoechst"]}}
    (tmp_path / "raw").mkdir()
    for well in ("A01", "A02"):
        tifffile.imwrite(
            tmp_path / "raw" / f"{well}.ome.tif", np.moveaxis(pixels[..., [2, 0]], -1, 0), metadata=about, ome=True
        )
    arguments = ["ingest", "files", str(tmp_path / "raw"), str(tmp_path / "a.screen"), "--workers", "1", "--json"]
    arguments += ["--microscope", r"(?P<well>[A-Z]\d+)\.ome\.tif", "--channels", "DNA=Hoechst,Actin=Alexa 568"]
    result = CliRunner().invoke(console.app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["cells"] == 8
    screen = assembly.Screen.open(tmp_path / "a.screen")
    y, x = np.rint(screen.cells().loc[0, [schema.CENTER_Y, schema.CENTER_X]].to_numpy(float)).astype(int)
    patch = PatchStore(screen.patches_path).read([0])[0]
    assert np.array_equal(patch, pixels[y - 34 : y + 34, x - 34 : x + 34][..., [0, 2]])


@pytest.mark.parametrize("verb", ["loaddata", "files", "crops"])
def test_the_help_shows_an_example_in_five_lines(verb: str) -> None:
    result = CliRunner().invoke(
        console.app, ["ingest", verb, "--help"], env={"COLUMNS": "160", "TERMINAL_WIDTH": "160"}
    )
    assert result.exit_code == 0
    assert f"cytovae ingest {verb}" in result.output and "in five lines" in result.output


@pytest.mark.parametrize("pairs", ["DNA=1,Tubulin=1", "DNA=1,DNA=2"])
def test_no_image_and_no_channel_stands_twice(tmp_path: Path, pairs: str) -> None:
    words = [
        "ingest",
        "files",
        str(tmp_path),
        str(tmp_path / "a.screen"),
        "--microscope",
        "incell",
        "--channels",
        pairs,
    ]
    refused = CliRunner().invoke(console.app, words)
    assert refused.exit_code == 2
    assert "stands twice in" in refused.output
