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
from cytovae.ingest import assembly, layouts
from cytovae.ingest.layouts.files import Microscope
from cytovae.patches import PatchStore
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
    with pytest.raises(IngestError, match="z-planes 1 to 2, each a file of its own; choose one of them with --z N"):
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
