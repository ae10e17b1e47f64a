from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytovae.errors import ConfigError
from cytovae.explore import evidence, paths, render

CHANNELS = ("DNA", "Tubulin", "Actin")
UNIT = np.array([[0.0, 1.0]] * 3)
RECORD = {"step": "interpolate", "config": {"note": "a < b & 'c' \"d\" µ"}, "seed": 3}


@pytest.fixture(scope="module")
def drawn(small):
    g, ids = small.generator, small.cells["cell_id"]
    path = paths.interpolate(small.z[0], small.z[40], g.decode, g.encode, 5, control_id=ids[0], target_id=ids[40])
    ground = evidence.Ground(small.cells, small.z, np.random.default_rng(0))
    return path, evidence.assess(path, ground, small.z[:12], small.z[30:42], np.array([1.0, 2.0]))


def test_a_composite_is_the_stated_colours():
    pixel = np.array([1.0, 0.5, 0.25]).reshape(1, 1, 3)
    assert render.composite(pixel, UNIT)[0, 0].tolist() == [255, 128, 64]
    assert render.composite(pixel, UNIT, "mgc")[0, 0].tolist() == [204, 153, 255]  # (1, 0.75, 1.25), dimmed
    assert render.composite(pixel, UNIT, "mgc", shown=[0])[0, 0].tolist() == [255, 0, 255]
    assert render.composite(pixel, UNIT, "grey", shown=[1])[0, 0].tolist() == [128] * 3
    assert render.composite(pixel, UNIT, shown=[])[0, 0].tolist() == [0, 0, 0]


def test_of_many_channels_the_first_three_are_overlaid_and_one_channel_is_grey():
    pixel = np.array([0.2, 0.4, 0.6, 1.0, 1.0]).reshape(1, 1, 5)
    limits = np.array([[0.0, 1.0]] * 5)
    assert render.composite(pixel, limits)[0, 0].tolist() == [51, 102, 153]
    assert render.composite(pixel, limits, shown=[3])[0, 0].tolist() == [255, 255, 0]
    for look in render.LOOKS:
        assert render.composite(pixel[..., :1], limits[:1], look)[0, 0].tolist() == [51] * 3


@pytest.mark.parametrize(("look", "rows"), [("rgb", 1), ("grey", 8)])
def test_a_strip_of_eight_channels_says_which_it_shows(look, rows):
    names = tuple("abcdefgh")
    images = np.random.default_rng(0).random((2, 8, 8, 8))
    strip = [render.StripRow("path", images)]
    text = render.strip(strip, names, np.array([[0.0, 1.0]] * 8), look, form="svg").decode()
    assert text.count("<image") == 2 * rows
    assert ("not shown: d, e, f, g, h; the look grey shows every channel" in text) == (look == "rgb")
    assert all(f">{name} 0.00-1.00<" in text for name in names[: 3 if look == "rgb" else 8])


def test_limits_and_gamma_map_as_stated():
    pixel = np.array([[[0.2, 0.7, 2.0]]])
    limits = np.array([[0.2, 1.2], [0.2, 1.0], [0.0, 1.0]])
    assert render.composite(pixel, limits)[0, 0].tolist() == [0, 159, 255]
    assert render.composite(pixel, limits, gamma=2.0)[0, 0].tolist() == [0, 100, 255]


def test_limits_are_shared_by_all_images_and_never_collapse():
    images = np.random.default_rng(0).normal(0.5, 0.2, (4, 8, 8, 3))
    images[..., 2] = 0.3
    limits = render.shared_limits(images, 1, 99)
    np.testing.assert_allclose(limits[0], np.maximum(np.percentile(images[..., 0], [1, 99]), 0))
    assert limits[2].tolist() == [0.3, 1.3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"look": "sepia"}, "unknown look 'sepia'; choose rgb, mgc, grey"),
        ({"gamma": 0.0}, "gamma lies between"),
        ({"shown": [3]}, "channels 0 to 2"),
        ({"limits": [[0, 1], [1, 1], [0, 1]]}, "black < full"),
        ({"limits": [[0, 1]]}, "for each of 3 channels"),
    ],
)
def test_options_that_cannot_be_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        render.composite(np.zeros((1, 1, 3)), **{"limits": UNIT, **options})


@pytest.mark.parametrize("pixel_um", [0.1, 0.1625, 0.325, 0.65, 1.3, 10.0, None])
def test_a_scale_bar_is_round_and_fits(pixel_um):
    length, label = render.scale_bar(pixel_um, 68)
    assert 68 * 0.15 < length <= 68 * 0.4 + 1e-9
    number, unit = label.split()
    assert unit == ("px" if pixel_um is None else "µm")
    assert float(number) / (pixel_um or 1.0) == pytest.approx(length)
    assert number.replace("0", "").replace(".", "") in ("1", "2", "5")


@pytest.mark.parametrize("look", render.LOOKS)
def test_a_strip_shows_every_step_and_carries_its_provenance(drawn, small, look):
    path, found = drawn
    rows = render.path_rows(path, found, path.frames, path.frames[[0, -1]])
    content = render.strip(rows, CHANNELS, UNIT, look, 0.8, None, "title", 2, "png", RECORD)
    image = Image.open(io.BytesIO(content))
    assert image.width > 5 * 136
    assert render.provenance_in(content, ".png") == RECORD
    pixels = np.asarray(image.convert("RGB"))
    shown = (0,) if look == "grey" else None
    first = render.composite(path.frames[2], UNIT, look, 0.8, shown).repeat(2, axis=0).repeat(2, axis=1)
    assert _found_in(pixels, first)


def test_a_strip_as_svg_keeps_text_as_text(drawn):
    path, found = drawn
    rows = render.path_rows(path, found, path.frames)
    svg = render.strip(rows, CHANNELS, UNIT, pixel_size_um=0.65, title="a <b>", form="svg", record=RECORD)
    text = svg.decode()
    for step in range(5):
        assert f">{path.cosine[step]:.2f} ({path.cosine_reencoded[step]:.2f})<" in text
    assert "10 µm" in text and " px<" not in text
    assert "a &lt;b&gt;" in text
    assert render.provenance_in(svg, ".svg") == RECORD
    assert "20 px" in render.strip(rows, CHANNELS, UNIT, form="svg").decode()
    from xml.etree import ElementTree

    assert len(list(ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}image"))) == 10


def test_steps_off_the_data_are_marked(drawn):
    path, found = drawn
    off = evidence.Evidence(**{**vars(found), "off_data": np.array([False, True, False, False, False])})
    text = render.strip(render.path_rows(path, off, path.frames), CHANNELS, UNIT, form="svg").decode()
    assert text.count(">unlike any<") == 1


@pytest.mark.parametrize(("look", "panels"), [("rgb", 1), ("mgc", 1), ("grey", 3)])
def test_a_gif_goes_there_and_back(drawn, look, panels):
    path, _ = drawn
    content = render.gif(path, CHANNELS, UNIT, look, record=RECORD)
    image = Image.open(io.BytesIO(content))
    assert image.n_frames == 8  # 5 steps there, 3 between on the way back
    assert panels * 272 <= image.size[0] < (panels + 1) * 272
    assert render.provenance_in(content, ".gif") == RECORD


def test_the_legend_of_a_gif_has_the_colours_of_its_channels(drawn):
    path, _ = drawn
    with Image.open(io.BytesIO(render.gif(path, CHANNELS, UNIT, "mgc", shown=[0, 2]))) as image:
        legend = np.asarray(image.convert("RGB"))[-20:].reshape(-1, 3)
    for ink in ((204, 0, 204), (0, 204, 204)):
        assert (np.abs(legend.astype(int) - ink).max(axis=1) <= 4).any(), ink


def test_a_web_page_opens_where_it_is_told_and_says_all_in_words(drawn):
    path, found = drawn
    told = {"evidence": found, "verdict": ("shown", "More."), "notes": [], "nearest_images": path.frames}
    text = render.webpage(path, CHANNELS, UNIT, "mgc", pixel_size_um=0.65, shown=[0, 2], opens=3, **told).decode()
    assert 'id="step" type="range" min="0" max="4" value="3"' in text
    assert text.index('id="step"') < text.index('class="strip"') < text.index('id="decoded"')
    assert "--ink:rgb(255, 0, 255)" in text and "--ink:rgb(0, 255, 255)" in text and "10 µm" in text
    assert "@0" not in text and "(mgc)" not in text
    assert 'value="4"' in render.webpage(path, CHANNELS, UNIT, opens=99, **told).decode()
    grey = render.webpage(path, CHANNELS, UNIT, "grey", **told).decode()
    assert "Each channel alone, from the left: DNA, Tubulin, Actin" in grey and "--beside: 3" in grey


def test_a_long_name_under_a_picture_is_broken_and_never_cut(drawn):
    path, found = drawn
    names = {"control_id": "Week1_00102_F02_s1_0018", "target_id": "phantom-protein-degradation-B 0.03 µM"}
    rows = render.path_rows(dataclasses.replace(path, **names), found, None, path.frames[[0, -1]])
    text = render.strip(rows, CHANNELS, UNIT, form="svg").decode()
    assert ">Week1_00102_F02_s1_<" in text and ">0018<" in text
    assert ">phantom-protein-<" in text and ">degradation-B<" in text and ">0.03 µM<" in text
    assert "…" not in text


def test_the_table_holds_the_numbers_under_the_pictures(drawn):
    path, found = drawn
    table = render.table(path, found)
    assert list(table["step"]) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(table["cosine"], path.cosine)
    np.testing.assert_array_equal(table["nearest_cell"], found.nearest_ids[:, 0])
    assert {"n_features", "cosine_reencoded", "nearest_distance", "support_percentile", "gap_closed"} <= set(table)


def test_a_csv_reads_back_with_its_provenance(drawn):
    path, found = drawn
    content = render.csv(render.table(path, found), RECORD)
    back = pd.read_csv(io.BytesIO(content))
    np.testing.assert_allclose(back["cosine"], path.cosine)
    assert json.loads(back[render.PROVENANCE][4]) == RECORD
    assert render.provenance_in(content, ".csv") == RECORD


def test_a_document_is_plain_json(drawn):
    path, found = drawn
    holes = pd.DataFrame({"nucleus_area_px2": [1.0, np.nan, 3.0, 4.0, 5.0]})
    content = render.json_bytes(render.document(path, RECORD, found, holes))
    back = json.loads(content)
    assert back["control"] == path.control_id and back["target"] == path.target_id
    assert len(back["steps"]) == 5
    assert back["steps"][1]["nucleus_area_px2"] is None
    assert back["steps"][2]["nearest_cell"] == found.nearest_ids[2, 0]
    assert [f["feature"] for f in back["features"]] == list(path.order)
    assert back["length_percentile_of_null"] == found.length_percentile
    assert render.provenance_in(content, ".json") == RECORD


@pytest.mark.parametrize("suffix", [".png", ".gif", ".svg", ".csv", ".json"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b'{"a": 1}', b"a,b\n1,2\n", b"\xff\xfe"])
def test_a_file_of_someone_elses_has_no_provenance(suffix, content):
    assert render.provenance_in(content, suffix) == {}


def test_a_difference_is_blue_where_less_and_red_where_more():
    image = np.zeros((4, 4, 3))
    image[0, 0, 0], image[1, 1, 1] = 0.5, -0.5
    pictures, limit = render.difference(image)
    assert limit == 0.5 and pictures.shape == (3, 4, 4, 3)
    red, blue, white = pictures[0, 0, 0], pictures[1, 1, 1], pictures[2, 2, 2]
    assert red[0] > red[2] and blue[2] > blue[0] and white.tolist() == [255] * 3


def test_a_population_is_shown_by_its_mean_and_its_difference(small):
    many = paths.population(small.z[[0, 1, 2]], small.z[[40, 41, 42]], small.generator.decode, 4)
    mean, change = render.population_rows(many, CHANNELS)
    np.testing.assert_allclose(mean.images, many.frames.mean(axis=0))
    assert len(mean.captions) == 4 and len(change.images) == 3
    assert render.strip([mean, change], CHANNELS, UNIT, "grey").startswith(b"\x89PNG")


def test_a_strip_of_nothing_is_refused(drawn):
    with pytest.raises(ConfigError, match="at least one row"):
        render.strip([], CHANNELS, UNIT)
    with pytest.raises(ConfigError, match="png, svg or pdf, not 'bmp'"):
        render.strip(render.path_rows(drawn[0]), CHANNELS, UNIT, form="bmp")


def _found_in(big: np.ndarray, patch: np.ndarray) -> bool:
    height, width = patch.shape[:2]
    corners = np.argwhere((big[: -height + 1, : -width + 1] == patch[0, 0]).all(axis=2))
    return any(np.array_equal(big[y : y + height, x : x + width], patch) for y, x in corners)


def test_overlaid_colours_keep_their_hue_where_they_add_up_beyond_white():
    bright = np.ones((1, 1, 3))
    mixed = render.composite(bright * [1.0, 0.2, 1.0], UNIT, "mgc")[0, 0].astype(int)  # magenta and cyan share blue
    assert mixed.max() == 255 and len(set(mixed.tolist())) > 1
    np.testing.assert_allclose(mixed / mixed[2], np.array([1.0, 1.2, 2.0]) / 2.0, atol=0.01)


def test_a_channel_left_out_on_purpose_is_named(drawn):
    path, _ = drawn
    text = render.strip(render.path_rows(path), CHANNELS, UNIT, form="svg", shown=[0, 1]).decode()
    assert f"not shown: {CHANNELS[2]})" in text
