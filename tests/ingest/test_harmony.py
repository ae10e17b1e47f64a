"""Harmony's Index.xml beside the images of an Operetta: plate, channels, pixel size, and what is missing.

The fixtures follow the two published forms: Harmony 4 and 5 describe a channel with every image, 6 and 7 in maps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cytovae import schema
from cytovae.config import ScreenRecord
from cytovae.errors import ConfigError, IngestError
from cytovae.ingest import assembly, layouts
from cytovae.ingest.layouts import harmony
from tests.ingest.drawn import draw, grid

CALLED = ("HOECHST 33342", "Alexa 488", "Alexa 568")
CHANNELS = {"DNA": "Hoechst 33342", "Actin": "alexa 568"}
WELLS = ((2, 2), (3, 11))


def described(channel: int, size: str) -> str:
    return (
        f"<ChannelName>{CALLED[channel]}</ChannelName>"
        f'<ImageResolutionX Unit="m">{size}</ImageResolutionX><ImageResolutionY Unit="m">{size}</ImageResolutionY>'
    )


def exported(folder: Path, version: int, plate: str = "BR0001", size: str = "6.5E-07") -> Path:
    """A measurement as Harmony exports it: ``Images/`` with TIFFs and their index, which is returned."""
    images, wells = "", ""
    (folder / "Images").mkdir(parents=True)
    for row, column in WELLS:
        field = draw(grid(4, seed=row), seed=row)
        wells += f'<Well><id>{row:02d}{column:02d}</id><Row>{row}</Row><Col>{column}</Col><Image id="1" /></Well>'
        for channel in range(3):
            name = f"r{row:02d}c{column:02d}f01p01-ch{channel + 1}sk1fk1fl1.tiff"
            tifffile.imwrite(folder / "Images" / name, field[..., channel])
            images += (
                f'<Image Version="1"><id>{row}K1F1P1R{channel}</id><State>Ok</State><URL>{name}</URL><Row>{row}</Row>'
                f"<Col>{column}</Col><FieldID>1</FieldID><PlaneID>1</PlaneID><TimepointID>1</TimepointID>"
                f"<ChannelID>{channel + 1}</ChannelID>{described(channel, size) if version < 6 else ''}</Image>\n"
            )
    entries = "".join(f'<Entry ChannelID="{c + 1}">{described(c, size)}</Entry>' for c in range(3))
    maps = f"<Maps><Map>{entries}</Map></Maps>" if version >= 6 else ""
    index = folder / "Images" / ("Index.xml" if version >= 6 else "Index.idx.xml")
    index.write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<EvaluationInputData xmlns="http://www.perkinelmer.com/PEHH/HarmonyV{version}" Version="1"><User>me</User>'
        f"<Plates><Plate><PlateID>{plate}</PlateID></Plate></Plates><Wells>{wells}</Wells>{maps}"
        f"<Images>{images}</Images></EvaluationInputData>"
    )
    return index


@pytest.mark.parametrize("version", [5, 7])
def test_the_index_names_plate_and_channels_and_says_how_large_a_pixel_is(tmp_path: Path, version: int) -> None:
    exported(tmp_path / "plate__2026-01-01", version)
    layout = layouts.files.read(tmp_path, CHANNELS, "operetta")
    assert list(layout.fields[schema.FIELD]) == ["BR0001/B02/s1", "BR0001/C11/s1"]
    assert layout.pixel_size_um == pytest.approx(0.65)
    assert layout.fields["path_Actin"].str.endswith("f01p01-ch3sk1fk1fl1.tiff").all()
    outcome = assembly.ingest_fields(layout, tmp_path, tmp_path / "a.screen", ScreenRecord("s", layout.channels))
    assert outcome.n_cells == 8
    by_number = layouts.files.read(tmp_path, {"DNA": "1", "Actin": "3"}, "operetta")
    assert by_number.fields.equals(layout.fields)


def test_another_index_is_another_screen(tmp_path: Path) -> None:
    index = exported(tmp_path, 7)
    before = layouts.files.read(tmp_path, CHANNELS, "operetta").inputs
    index.write_text(index.read_text().replace("<User>me", "<User>you"))
    assert layouts.files.read(tmp_path, CHANNELS, "operetta").inputs != before


def test_an_image_that_the_index_lists_and_is_gone_is_refused_by_name(tmp_path: Path) -> None:
    exported(tmp_path / "p", 7)
    (tmp_path / "p" / "Images" / "r03c11f01p01-ch3sk1fk1fl1.tiff").unlink()
    layout = layouts.files.read(tmp_path, CHANNELS, "operetta")
    outcome = assembly.ingest_fields(layout, tmp_path, tmp_path / "a.screen", ScreenRecord("s", layout.channels))
    assert outcome.fields == {"ok": 1, "refused": 1}
    assert outcome.codes["missing-file"] == 1


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("<Row>3</Row><Col>11</Col><FieldID>", "<Row>4</Row><Col>11</Col><FieldID>", "its name says another"),
        ("EvaluationInputData", "Experiment", "is no index of Harmony: it begins with <Experiment>"),
        ("</Images>", "", "cannot be read as XML"),
        ("<User>", "<!DOCTYPE a><User>", "document type"),
        ("<URL>r02c02f01p01-ch1sk", '<URL BufferNo="1">r02c02f01p01-ch1sk', "several images in r02"),
        ("<URL>r02c02f01p01-ch1sk", "<URL>../r02c02f01p01-ch1sk", "not the name of a file beside it"),
        ("<URL>r02c02f01p01-ch1sk", "<URL>other", "lists .*other.* not named as operetta names"),
        ("<FieldID>1", "<FieldID>one", "as whole numbers"),
        ('Unit="m">6.5E-07', 'Unit="mm">6.5E-07', "not as a length in m"),
        ('X Unit="m">6.5E-07', 'X Unit="m">7.5E-07', "one size is needed"),
        ("<PlateID>", "<PlateID>BR2</PlateID><PlateID>", "several plates"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, was: str, becomes: str, said: str) -> None:
    index = exported(tmp_path, 7)
    assert was in index.read_text()
    index.write_text(index.read_text().replace(was, becomes))
    with pytest.raises(IngestError, match=said):
        layouts.files.read(tmp_path, CHANNELS, "operetta")


def test_an_image_beside_the_index_that_it_does_not_list_is_refused(tmp_path: Path) -> None:
    index = exported(tmp_path, 7)
    tifffile.imwrite(index.parent / "r09c09f01p01-ch1sk1fk1fl1.tiff", np.ones((8, 8), np.uint16))
    with pytest.raises(IngestError, match="does not list Images/r09c09"):
        layouts.files.read(tmp_path, CHANNELS, "operetta")


def test_a_channel_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    exported(tmp_path, 5)
    with pytest.raises(ConfigError, match=r"DNA=DAPI; there are 1 \(HOECHST 33342\), 2 \(Alexa 488\)"):
        layouts.files.read(tmp_path, {"DNA": "DAPI"}, "operetta")


def test_plates_of_other_pixels_are_not_mixed(tmp_path: Path) -> None:
    exported(tmp_path / "a", 7)
    exported(tmp_path / "b", 5, "BR0002", "3.25E-07")
    with pytest.raises(IngestError, match=r"pixels of 0.325, 0.65 um"):
        layouts.files.read(tmp_path, CHANNELS, "operetta")


def test_two_indices_in_one_folder_are_refused(tmp_path: Path) -> None:
    index = exported(tmp_path, 7)
    index.with_name("Index.ref.xml").write_text(index.read_text())
    with pytest.raises(IngestError, match=r"Index.xml and Index.ref.xml"):
        harmony.find(index.parent)
