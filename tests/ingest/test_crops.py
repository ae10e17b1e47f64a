"""Pre-cut cells become a screen, from arrays and folders, with every fault named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from cytovae import images, schema
from cytovae.config import ScreenRecord
from cytovae.errors import ConfigError, IngestError, TableError
from cytovae.ingest import assembly, layouts
from cytovae.patches import PatchStore
from cytovae.screen import Screen
from tests.ingest.drawn import draw
from tests.ingest.test_assembly import as_made_before

CHANNELS = ["DNA", "Tubulin", "Actin"]


def make_crops(n: int = 8) -> np.ndarray:
    return np.stack([draw([(34, 34)], (68, 68), seed=i) for i in range(n)])


def make_table(n: int = 8) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "cell_id": [f"cell{i}" for i in range(n)],
            "plate": ["Week1_1"] * (n // 2) + ["Week2_1"] * (n - n // 2),
            "well": ["B02", "B03"] * (n // 2),
            "site": 1,
            "replicate": 1,
            "compound": ["DMSO", "taxol"] * (n // 2),
            "concentration_uM": [0.0, 0.3] * (n // 2),
            "moa": ["DMSO", "Microtubule stabilizers"] * (n // 2),
        }
    )


@pytest.fixture
def crops() -> np.ndarray:
    return make_crops()


def ingest(tmp_path: Path, source: Path, table: pd.DataFrame, channels=CHANNELS, name="a.screen", **more):
    table.to_csv(tmp_path / "cells.csv", index=False)
    layout = layouts.crops.read(source, tmp_path / "cells.csv", channels, more.pop("batch_column", None))
    record = ScreenRecord("s", layout.channels)
    return assembly.ingest_crops(layout, tmp_path / name, record, more.pop("options", None), **more)


def save(tmp_path: Path, crops: np.ndarray, **more) -> Path:
    np.savez_compressed(tmp_path / "cells.npz", images=crops, **more)
    return tmp_path / "cells.npz"


def patches_of(screen: Screen) -> np.ndarray:
    store = PatchStore(screen.patches_path)
    return store.read(np.arange(len(store)))


def codes(outcome: assembly.Outcome) -> dict[str, str]:
    fields = outcome.screen.fields()
    said = fields[fields["code"] != ""]
    return {r.split("/", 1)[-1]: c for r, c in zip(said["path_DNA"], said["code"], strict=True)}


def test_an_array_is_taken_in_the_order_of_its_table(tmp_path: Path, crops: np.ndarray) -> None:
    outcome = ingest(tmp_path, save(tmp_path, crops), make_table())
    cells = outcome.screen.cells()
    assert np.array_equal(patches_of(outcome.screen), crops)
    assert list(cells.columns) == list(schema.CELL_COLUMNS)
    assert cells[schema.CELL_ID].tolist() == make_table().cell_id.tolist()
    assert cells[schema.TREATMENT].tolist() == ["DMSO@0", "taxol@0.3"] * 4
    assert cells[schema.BATCH].tolist() == ["Week1"] * 4 + ["Week2"] * 4
    assert cells[schema.FIELD].iloc[0] == "Week1_1/B02/s1"
    assert outcome.screen.fields()[schema.N_CELLS].tolist() == [2, 2, 2, 2]


def test_metadata_names_are_understood_too(tmp_path: Path, crops: np.ndarray) -> None:
    names = {c: f"Metadata_{c.title()}" for c in ("plate", "well", "site", "replicate", "compound")}
    names |= {"concentration_uM": schema.CONCENTRATION, "moa": schema.MOA}
    plain = ingest(tmp_path, save(tmp_path, crops), make_table()).screen.cells()
    named = ingest(tmp_path, save(tmp_path, crops), make_table().rename(columns=names), name="b.screen").screen.cells()
    assert plain.equals(named)


def test_channels_are_stored_as_dna_tubulin_actin_whatever_order_the_files_have(
    tmp_path: Path, crops: np.ndarray
) -> None:
    source = save(tmp_path, crops[..., [2, 0, 1]])
    outcome = ingest(tmp_path, source, make_table(), ["Actin", "DNA", "Tubulin"])
    assert outcome.screen.record.channels == ("DNA", "Tubulin", "Actin")
    assert np.array_equal(patches_of(outcome.screen), crops)


@pytest.mark.parametrize(
    ("channels", "words"), [(["DAPI", "Tubulin", "Actin"], "called DNA"), (["DNA", "DNA"], "twice")]
)
def test_channels_are_never_guessed(tmp_path: Path, crops: np.ndarray, channels: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ingest(tmp_path, save(tmp_path, crops), make_table(), channels)


def test_an_array_with_ids_is_joined_by_them_and_not_by_position(tmp_path: Path, crops: np.ndarray) -> None:
    table = make_table()
    order = np.random.default_rng(0).permutation(8)
    source = save(tmp_path, crops[order], cell_id=table.cell_id.to_numpy(str)[order])
    outcome = ingest(tmp_path, source, table.iloc[:-1])
    assert np.array_equal(patches_of(outcome.screen), crops[:-1])
    assert outcome.codes == {"image-without-row": 1}
    more = pd.concat([table, table.iloc[:1].assign(cell_id="lost")])
    assert ingest(tmp_path, source, more, name="b.screen").codes == {"row-without-image": 1}


def test_an_array_without_ids_must_be_as_long_as_its_table(tmp_path: Path, crops: np.ndarray) -> None:
    with pytest.raises(IngestError, match="holds 8 crops and the table 7 rows, so their order cannot be trusted"):
        ingest(tmp_path, save(tmp_path, crops), make_table().iloc[:-1])


@pytest.mark.parametrize("kind", ["npy", "tif", "png"])
def test_a_folder_of_files_gives_the_same_screen(tmp_path: Path, crops: np.ndarray, kind: str) -> None:
    folder = tmp_path / "crops"
    folder.mkdir()
    for name, crop in zip(make_table().cell_id, crops, strict=True):
        path = folder / f"{name}.{kind}"
        if kind == "npy":
            np.save(path, crop)
        elif kind == "tif":
            tifffile.imwrite(path, np.moveaxis(crop, -1, 0), photometric="minisblack")
        else:
            cv2.imwrite(str(path), crop[..., ::-1])
    outcome = ingest(tmp_path, folder, make_table())
    assert np.array_equal(patches_of(outcome.screen), crops)
    assert outcome.codes == {}


@pytest.mark.parametrize("way", ["names", "columns"])
def test_every_channel_may_be_a_file_of_its_own(tmp_path: Path, crops: np.ndarray, way: str) -> None:
    (tmp_path / "in").mkdir()
    table = make_table()
    for k, channel in enumerate(CHANNELS):
        names = [f"cell{i}_{channel.lower()}.tif" if way == "names" else f"{i}x{k}.png" for i in range(8)]
        for name, crop in zip(names, crops, strict=True):
            write = tifffile.imwrite if way == "names" else lambda p, a: cv2.imwrite(str(p), a)
            write(tmp_path / "in" / name, crop[..., k])
        if way == "columns":
            table[f"FileName_{channel}"] = names
    shuffled = ["Actin", "DNA", "Tubulin"]
    outcome = ingest(tmp_path, tmp_path / "in", table, shuffled)
    assert np.array_equal(patches_of(outcome.screen), crops)
    assert outcome.codes == {}
    gone, small = ("cell3_dna.tif", "cell4_actin.tif") if way == "names" else ("3x0.png", "4x2.png")
    (tmp_path / "in" / gone).unlink()
    write(tmp_path / "in" / small, crops[4, :60, :60, 2])
    outcome = ingest(tmp_path, tmp_path / "in", table, name="b.screen")
    assert np.array_equal(patches_of(outcome.screen), crops[[0, 1, 2, 5, 6, 7]])
    assert outcome.codes == {"row-without-image": 1, "size-mismatch": 1}
    said = outcome.screen.fields().set_index("code")
    assert "for cell cell3: " in said.loc["row-without-image", "reason"]
    assert said.loc["size-mismatch", "path_Actin"] == f"in/{small}"


def test_a_file_a_cell_is_taken_whatever_columns_the_table_has_of_its_field(tmp_path: Path, crops: np.ndarray) -> None:
    (tmp_path / "in").mkdir()
    for i, crop in enumerate(crops):
        np.save(tmp_path / "in" / f"cell{i}.npy", crop)
    table = make_table().assign(**{f"FileName_Orig{c}": f"field_{c}.tif" for c in CHANNELS})
    assert np.array_equal(patches_of(ingest(tmp_path, tmp_path / "in", table).screen), crops)
    (tmp_path / "in" / "cell0.npy").unlink()
    np.save(tmp_path / "in" / "a.npy", crops[0, ..., 0])
    twice = table.assign(**{f"FileName_Orig{c}": "a.npy" for c in CHANNELS})
    outcome = ingest(tmp_path, tmp_path / "in", twice, name="b.screen")
    assert outcome.codes == {"several-planes": 1}


def test_each_broken_crop_is_named_and_the_rest_goes_on(tmp_path: Path, crops: np.ndarray) -> None:
    folder = tmp_path / "crops"
    folder.mkdir()
    broken = {
        "cell0.npy": crops[0].astype(np.float32),
        "cell1.npy": crops[1][:60],
        "cell2.npy": (crops[2] // 16).astype(np.uint8),
        "cell3.npy": crops[3].astype(np.float64) + 0.5,
    }
    broken["cell0.npy"][3, 3, 1] = np.nan
    for name, pixels in broken.items():
        np.save(folder / name, pixels)
    tifffile.imwrite(folder / "cell4.tif", crops[4], photometric="rgb")
    data = (folder / "cell4.tif").read_bytes()
    (folder / "cell4.tif").write_bytes(data[: len(data) // 2])
    (folder / "cell5.png").write_bytes(b"no picture")
    np.save(folder / "cell7.npy", crops[7])
    np.save(folder / "stranger.npy", crops[7])
    outcome = ingest(tmp_path, folder, make_table())
    assert codes(outcome) == {
        "cell0.npy": "nan",
        "cell1.npy": "wrong-shape",
        "cell2.npy": "wrong-bit-depth",
        "cell3.npy": "wrong-bit-depth",
        "cell4.tif": "unreadable-file",
        "cell5.png": "unreadable-file",
        "cell6": "row-without-image",
        "stranger.npy": "image-without-row",
    }
    fields = outcome.screen.fields()
    reasons = fields.loc[fields["status"] == "refused", "reason"]
    assert all(any(name.split(".")[0] in reason for reason in reasons) for name in codes(outcome))
    assert outcome.screen.cells()[schema.CELL_ID].tolist() == ["cell7"]


@pytest.mark.parametrize("named", [7, 9])
def test_names_of_crops_are_as_many_as_there_are_crops(tmp_path: Path, crops: np.ndarray, named: int) -> None:
    source = save(tmp_path, crops, cell_id=np.array([f"cell{i}" for i in range(named)]))
    with pytest.raises(IngestError, match=f"holds 8 crops and {named} names of them in 'cell_id'"):
        ingest(tmp_path, source, make_table())


def test_a_cell_id_that_stands_twice_is_taken_once(tmp_path: Path, crops: np.ndarray) -> None:
    table = make_table()
    table.loc[5, "cell_id"] = "cell1"
    outcome = ingest(tmp_path, save(tmp_path, crops), table)
    assert outcome.codes == {"duplicate-cell-id": 1}
    assert np.array_equal(patches_of(outcome.screen), np.delete(crops, 5, axis=0))


def test_rows_without_a_name_a_compound_or_a_number_are_refused(tmp_path: Path, crops: np.ndarray) -> None:
    table = make_table().astype({"concentration_uM": object})
    table.loc[0, "cell_id"] = None
    table.loc[1, "compound"] = None
    table.loc[2, "concentration_uM"] = "high"
    table.loc[3, "moa"] = None
    outcome = ingest(tmp_path, save(tmp_path, crops), table)
    assert outcome.codes == {"bad-concentration": 1, "incomplete-row": 2, "unknown-moa": 1}
    assert outcome.n_cells == 5
    assert outcome.screen.cells()[schema.MOA].iloc[0] == schema.UNKNOWN_MOA


def test_codes_of_crops_stay_as_they_are_written(tmp_path: Path, crops: np.ndarray) -> None:
    codes = ["001", "1", "01", "1e5", "NA", "None", "nan", ""]
    table = make_table().assign(cell_id=codes, well=["NA", "1e5"] * 4)
    table["compound"] = ["None", "null"] * 4
    table["moa"] = ["N/A", "NA", "nan", "null", "None", "NaN", "none", "Nano"]
    cells = ingest(tmp_path, save(tmp_path, crops), table).screen.cells()
    assert cells[schema.CELL_ID].tolist() == codes[:-1]
    assert cells[schema.TREATMENT].tolist() == ["None@0", "null@0.3"] * 3 + ["None@0"]
    assert set(cells[schema.WELL]) == {"NA", "1e5"}
    assert cells[schema.MOA].tolist() == [schema.UNKNOWN_MOA] * 7
    bad = table.assign(site=["1", "2", "x", "", "1", "1", "1", "1"])
    with pytest.raises(TableError, match=r"column site of .*cells.csv must hold whole numbers .*the first 'x'"):
        ingest(tmp_path, tmp_path / "cells.npz", bad, name="b.screen")


def test_a_missing_column_is_named(tmp_path: Path, crops: np.ndarray) -> None:
    with pytest.raises(TableError, match=r"lacks a column compound or Metadata_Compound; it has cell_id"):
        ingest(tmp_path, save(tmp_path, crops), make_table().drop(columns="compound"))


def test_no_usable_crop_is_an_error_that_writes_nothing(tmp_path: Path, crops: np.ndarray) -> None:
    source = save(tmp_path, (crops // 16).astype(np.uint8))
    with pytest.raises(IngestError, match=r"no crop of .* is usable: 8 wrong-bit-depth"):
        ingest(tmp_path, source, make_table())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cells.csv", "cells.npz"]
    declared = assembly.IngestOptions(bit_depth=8)
    assert ingest(tmp_path, source, make_table(), options=declared).n_cells == 8


def test_the_batch_may_be_a_column(tmp_path: Path, crops: np.ndarray) -> None:
    table = make_table().assign(day=["mon", "tue"] * 4)
    cells = ingest(tmp_path, save(tmp_path, crops), table, batch_column="day").screen.cells()
    assert cells[schema.BATCH].tolist() == ["mon", "tue"] * 4


def test_parts_do_not_change_what_is_read(tmp_path: Path, crops: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "_CROPS_PER_PART", 3)
    screen = ingest(tmp_path, save(tmp_path, crops), make_table()).screen
    assert len(list(screen.patches_path.glob("part-*.npy"))) == 3
    assert np.array_equal(patches_of(screen), crops)


def test_a_stopped_ingest_of_crops_goes_on(tmp_path: Path, crops: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "_CROPS_PER_PART", 3)
    whole = ingest(tmp_path, save(tmp_path, crops), make_table(), name="whole.screen").screen
    make_part, made = assembly._make_crop_part, []

    def once(*args) -> None:
        if len(made) == 1:
            made.append(-1)
            raise KeyboardInterrupt
        made.append(args[4])
        make_part(*args)

    monkeypatch.setattr(assembly, "_make_crop_part", once)
    with pytest.raises(KeyboardInterrupt):
        ingest(tmp_path, tmp_path / "cells.npz", make_table())
    screen = ingest(tmp_path, tmp_path / "cells.npz", make_table()).screen
    assert made == [0, -1, 1, 2]
    for path in whole.path.rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (screen.path / path.relative_to(whole.path)).read_bytes()


def test_a_crop_without_contrast_in_dna_is_blank_and_kept(tmp_path: Path, crops: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    crops[1] = rng.normal(700, 45, crops[1].shape)  # nothing but noise
    crops[2, ..., 0] = rng.normal(360, 35, (68, 68))  # no nucleus beside bright tubulin
    crops[3, ..., 0] = 0
    crops[4, ..., 0] = 500 + np.arange(68)  # a ramp of the lamp is no cell
    crops[4, ..., 0] += rng.normal(0, 30, (68, 68)).astype(np.uint16)
    crops[5, ..., 1:] = 0  # DNA alone is a cell
    outcome = ingest(tmp_path, save(tmp_path, crops), make_table())
    assert outcome.screen.cells()[schema.BLANK].tolist() == [i in (1, 2, 3, 4) for i in range(8)]
    assert (outcome.n_cells, outcome.n_blank) == (8, 4)


def test_blankness_depends_on_neither_gain_nor_offset(crops: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(600, 40, crops.shape)
    both = np.concatenate([crops, noise])
    expected = [False] * 8 + [True] * 8
    for gain, offset in ((1, 0), (0.05, 0), (7, 300)):
        assert images.is_blank(both * gain + offset).tolist() == expected


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("offset", [0, 30])
def test_a_patch_that_flickers_by_one_grey_level_is_blank(share: float, offset: int) -> None:
    rng = np.random.default_rng(0)
    empty = (offset + (rng.random((20, 68, 68, 1)) < share)).astype(np.uint16)
    y, x = np.mgrid[:68, :68]
    lamp = offset + (x[None, ..., None] > 33) + (rng.random((20, 68, 68, 1)) < 0.02)
    assert images.is_blank(np.concatenate([empty, lamp])).all()
    dim = empty.copy()
    dim[:, np.hypot(y - 34, x - 34) < 16] += 12
    assert not images.is_blank(dim).any()


def test_a_dim_nucleus_over_a_still_background_is_a_cell() -> None:
    patch = np.zeros((1, 68, 68, 1), np.uint16)
    patch[0, 20:44, 20:44] = 4
    assert not images.is_blank(patch)[0]


def test_the_real_blank_crops_and_only_these_are_found(bbbc021: Path) -> None:
    suspect = pd.read_csv(bbbc021 / "crops" / "cells.csv")["suspect_blank"].to_numpy(bool)
    with np.load(bbbc021 / "crops" / "cells.npz") as held:
        blank = images.is_blank(held["images"])
    assert suspect.sum() == 38
    assert np.array_equal(blank, suspect)


def test_real_crops_become_a_screen_of_5734_cells(bbbc021: Path, tmp_path: Path) -> None:
    layout = layouts.crops.read(bbbc021 / "crops" / "cells.npz", bbbc021 / "crops" / "cells.csv", CHANNELS)
    outcome = assembly.ingest_crops(layout, tmp_path / "a.screen", ScreenRecord("real", layout.channels))
    assert (outcome.n_cells, outcome.n_blank, outcome.codes) == (5734, 38, {})
    cells = outcome.screen.cells()
    assert cells[schema.MOA].nunique() == 13
    assert cells[schema.PLATE].nunique() == 55
    assert cells[schema.BATCH].nunique() == 10


def test_a_crop_changed_in_place_is_noticed(tmp_path: Path, crops: np.ndarray) -> None:
    folder = tmp_path / "crops"
    folder.mkdir()
    for name, crop in zip(make_table().cell_id, crops, strict=True):
        np.save(folder / f"{name}.npy", crop)
    ingest(tmp_path, folder, make_table())
    assert ingest(tmp_path, folder, make_table()).already
    np.save(folder / "cell3.npy", crops[3][::-1])
    with pytest.raises(IngestError, match=r"options: 1 image file changed \(cell3.npy\); give .*--overwrite"):
        ingest(tmp_path, folder, make_table())


def test_crops_made_by_an_older_version_are_not_said_to_have_changed(tmp_path: Path, crops: np.ndarray) -> None:
    folder = tmp_path / "crops"
    folder.mkdir()
    for name, crop in zip(make_table().cell_id, crops, strict=True):
        np.save(folder / f"{name}.npy", crop)
    told: list[tuple[int, int]] = []
    screen = ingest(tmp_path, folder, make_table(), progress=lambda *now: told.append(now)).screen
    assert told == [(done, 8) for done in [*range(1, 9), 8]]
    as_made_before(screen, images="0" * 64)
    with pytest.raises(IngestError, match=r"options: cytovae 0.0 made it and kept no digest of the image files; give"):
        ingest(tmp_path, folder, make_table())


def test_the_same_crops_read_in_another_way_are_another_screen(tmp_path: Path, crops: np.ndarray) -> None:
    source, table = save(tmp_path, crops), make_table().assign(day="mon")
    ingest(tmp_path, source, table)
    with pytest.raises(IngestError, match=r"--channels is DNA,Actin,Tubulin, and cytovae \S+ recorded none when"):
        ingest(tmp_path, source, table, ["DNA", "Actin", "Tubulin"])
    with pytest.raises(IngestError, match=r"--batch-column is day, and cytovae \S+ recorded none when"):
        ingest(tmp_path, source, table, batch_column="day")
    assert ingest(tmp_path, source, table).already
