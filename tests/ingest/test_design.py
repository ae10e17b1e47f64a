"""What was done to the wells: plate maps, own columns, treatments of other columns, controls."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from cytovae import schema
from cytovae.cli import console, data  # noqa: F401  (data registers its verbs)
from cytovae.config import ScreenRecord
from cytovae.errors import ConfigError, TableError
from cytovae.ingest import assembly, layouts, request
from cytovae.ingest.layouts import Design
from tests.ingest.drawn import CHANNELS, Raw
from tests.ingest.test_layouts import COLUMNS, loaddata


def read(raw: Raw, table: pd.DataFrame, design: Design | None = None, **more) -> layouts.Layout:
    table.to_csv(raw.folder / "load_data.csv", index=False)
    return layouts.loaddata.read(raw.folder / "load_data.csv", COLUMNS, design=design, **more)


def treatments(layout: layouts.Layout) -> list[str]:
    return sorted(layout.fields[schema.TREATMENT].unique())


def crops(tmp_path: Path, table: pd.DataFrame, design: Design | None = None) -> layouts.CropLayout:
    np.save(tmp_path / "cells.npy", np.random.default_rng(0).integers(0, 999, (len(table), 68, 68, 3), dtype=np.uint16))
    table.to_csv(tmp_path / "cells.csv", index=False)
    return layouts.crops.read(tmp_path / "cells.npy", tmp_path / "cells.csv", CHANNELS, design=design)


CROPS = pd.DataFrame(
    {
        "cell_id": ["a", "b", "c", "d"],
        "plate": "P1",
        "well": ["A01", "A01", "A02", "A03"],
        "compound": ["DMSO", "DMSO", "taxol", "emetine"],
        "concentration_uM": ["", "", "0.3", "1"],
    }
)


def test_controls_without_a_concentration_are_kept_in_crops_as_in_fields(raw: Raw, tmp_path: Path) -> None:
    cells = crops(tmp_path, CROPS).cells
    assert (cells["status"] == "ok").all()
    assert cells[schema.TREATMENT].tolist() == ["DMSO@0", "DMSO@0", "taxol@0.3", "emetine@1"]
    table = loaddata(raw)
    table["Metadata_Concentration"] = table["Metadata_Concentration"].where(table["Metadata_Compound"] != "DMSO")
    assert treatments(read(raw, table)) == ["DMSO@0", "emetine@1", "taxol@0.3"]


def test_a_control_of_another_spelling_is_refused_by_name(raw: Raw, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no compound is spelled 'dmso', but there is 'DMSO'; give --control 'DMSO'"):
        read(raw, loaddata(raw), Design(control="dmso"))
    with pytest.raises(TableError, match="there is 'DMSO'"):
        crops(tmp_path, CROPS, Design(control="dmso "))


def test_controls_of_two_spellings_are_refused_and_white_space_is_none(raw: Raw, tmp_path: Path) -> None:
    table = loaddata(raw)
    mixed = table.assign(Metadata_Compound=["DMSO", "taxol", "emetine", "dmso", "taxol ", " emetine"])
    with pytest.raises(TableError, match=r"the control is spelled 'DMSO' and, in 1 of 6 rows, 'dmso', which would be"):
        read(raw, mixed)
    assert treatments(read(raw, mixed.replace("dmso", "DMSO "))) == ["DMSO@0", "emetine@1", "taxol@0.3"]
    pd.DataFrame({"well": ["B02", "B03", "C04"], "compound": ["DMSO", "dmso", "x"], "concentration": 0}).to_csv(
        tmp_path / "map.csv", index=False
    )
    with pytest.raises(TableError, match="spell them alike"):
        bare = table.drop(columns=["Metadata_Compound", "Metadata_Concentration"])
        read(raw, bare, Design(plate_map=tmp_path / "map.csv"))


def test_a_well_written_in_several_ways_is_one_well(raw: Raw, tmp_path: Path) -> None:
    table = loaddata(raw).iloc[:3].assign(Metadata_Plate="P", Metadata_Well=["b2", "B02", "B002"])
    table = table.assign(Metadata_Compound="DMSO", Metadata_Concentration=0)
    for given in (table.assign(Metadata_Site=[1, 2, 3]), table.drop(columns="Metadata_Site")):
        assert read(raw, given).fields[schema.FIELD].tolist() == ["P/B02/s1", "P/B02/s2", "P/B02/s3"]
    centres = "Metadata_Plate,Metadata_Well,Metadata_Site,Location_Center_X,Location_Center_Y\nP,B2,1,80,81\n"
    (tmp_path / "nuclei.csv").write_text(centres)
    assert read(raw, table, centres=tmp_path / "nuclei.csv").centres[schema.FIELD].tolist() == ["P/B02/s1"]
    assert crops(tmp_path, CROPS.assign(well=["A1", "a01", "A2", "A3"])).cells[schema.WELL].nunique() == 3


def test_no_control_is_said_before_the_work_with_the_compounds_there_are(raw: Raw, tmp_path: Path) -> None:
    loaddata(raw).to_csv(raw.folder / "load_data.csv", index=False)
    arguments = ["ingest", "loaddata", str(raw.folder / "load_data.csv"), str(tmp_path / "a.screen")]
    arguments += ["--channels", "DNA=OrigDNA,Tubulin=OrigTub,Actin=OrigAct", "--control", "water", "--workers", "1"]
    result = CliRunner().invoke(console.app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    words = "no well holds the control 'water'"
    assert words in result.stderr and "'DMSO', 'emetine', 'taxol'" in result.stderr
    assert words in json.loads(result.stdout)["without_control"]


def test_cells_of_several_lines_never_become_one_treatment_in_silence(raw: Raw) -> None:
    table = loaddata(raw)
    table["Metadata_CellLine"] = np.where(table["Metadata_Plate"] == "Week1_001", "U2OS", "A549")
    with pytest.raises(TableError, match=r"several Metadata_CellLine \(A549, U2OS\).*concentration,CellLine"):
        read(raw, table)
    apart = read(raw, table, Design(treatment=("compound", "concentration", "cell_line")))
    assert treatments(apart) == [
        f"{name} [{line}]" for name in ("DMSO@0", "emetine@1", "taxol@0.3") for line in ("A549", "U2OS")
    ]
    assert set(apart.fields[schema.COMPOUND]) == {"DMSO", "emetine", "taxol"}
    merged = read(raw, table, Design(treatment=("compound", "concentration")))
    assert treatments(merged) == ["DMSO@0", "emetine@1", "taxol@0.3"]
    with pytest.raises(TableError, match="lacks the column donor of --treatment-columns; it has Metadata_CellLine"):
        read(raw, table, Design(treatment=("compound", "donor")))


def twice(raw: Raw, column: str) -> pd.DataFrame:
    """The table with every field twice, told apart by a column, of images of their own; without sites."""
    table = loaddata(raw).drop(columns="Metadata_Site")
    later = table.copy()
    for name in (c for c in table if c.startswith("FileName_")):
        later[name] = "later_" + table[name]
        for folder, file in zip(table[name.replace("File", "Path")], table[name], strict=True):
            shutil.copy(raw.folder / folder / file, raw.folder / folder / f"later_{file}")
    return pd.concat([table.assign(**{column: "0"}), later.assign(**{column: "24"})], ignore_index=True)


@pytest.mark.parametrize("name", ["T", "Frame", "Timepoint_h", "Day", "ZPlane", "Round"])
def test_time_points_and_planes_never_become_sites_in_silence(raw: Raw, name: str) -> None:
    table = twice(raw, column := f"Metadata_{name}")
    with pytest.raises(TableError, match=rf"has no Metadata_Site, and rows of one well differ in {column} \(0, 24\)"):
        read(raw, table)
    with pytest.raises(TableError, match=rf"gives one field several times, with {column} \(0, 24\)"):
        read(raw, table.assign(Metadata_Site=1))
    sites = {schema.SITE: column}
    assert set(read(raw, table, Design(sites)).fields[schema.SITE]) == {0, 24}
    together = read(raw, table, Design(treatment=("compound", "concentration"))).fields
    assert set(together[schema.SITE]) == {1, 2} and (together["status"] == "ok").all()


def test_places_of_fields_do_not_stand_in_the_way_of_their_numbers(raw: Raw) -> None:
    table = twice(raw, "Metadata_PositionX").assign(Metadata_Stamp=range(12))
    assert set(read(raw, table).fields[schema.SITE]) == {1, 2}


def test_an_image_is_of_one_field(raw: Raw) -> None:
    table = loaddata(raw).drop(columns="Metadata_Site")
    with pytest.raises(TableError, match=r"gives Week1_001/B02/s1 and Week1_001/B02/s2 the same image of DNA, Week1/"):
        read(raw, pd.concat([table, table]))
    table.loc[1, "FileName_OrigTub"] = table.loc[0, "FileName_OrigTub"]
    with pytest.raises(TableError, match=r"gives Week1_001/B02/s1 and Week1_001/B03/s1 the same image of Tubulin"):
        read(raw, table)
    assert (read(raw, table.assign(Frame_OrigTub=range(6))).fields["status"] == "ok").all()
    raw.edit_table(lambda t: pd.concat([t, t[:1].assign(Image_Metadata_Well_DAPI="D05")]))
    with pytest.raises(TableError, match="the image table gives Week1_001/B02/s1 and Week1_001/D05/s1 the same image"):
        layouts.bbbc021.read(raw.folder)


@pytest.mark.parametrize(("unit", "factor"), [("nM", 1e3), ("mM", 1e-3), ("M", 1e-6), ("uM", 1.0)])
def test_doses_of_any_unit_become_micromolar(raw: Raw, tmp_path: Path, unit: str, factor: float) -> None:
    table = loaddata(raw).rename(columns={"Metadata_Concentration": f"dose_{unit}"})
    table[f"dose_{unit}"] *= factor
    asked = request.Fields(column={"concentration": f"dose_{unit}"}, concentration_unit=unit)
    layout = read(raw, table, asked.design)
    assert treatments(layout) == ["DMSO@0", "emetine@1", "taxol@0.3"]
    assert sorted(set(layout.fields[schema.CONCENTRATION])) == [0, 0.3, 1]
    assert ("--concentration-unit" in layout.inputs) == (unit != "uM")
    if unit != "uM":
        with pytest.raises(ConfigError, match=f"says that doses are in {unit}, and they would be read as uM"):
            read(raw, table, Design({schema.CONCENTRATION: f"dose_{unit}"}))
    plates = pd.DataFrame({"well": ["B02", "B03", "C04"], "compound": list("xyz"), "concentration_uM": 1})
    plates.to_csv(tmp_path / "map.csv", index=False)
    with pytest.raises(ConfigError, match="the column 'concentration_uM' says that doses are in uM, and they would be"):
        design = Design(plate_map=tmp_path / "map.csv", unit=layouts.Unit.NM)
        read(raw, table.drop(columns=["Metadata_Compound", f"dose_{unit}"]), design)
    with pytest.raises(ConfigError, match="give --concentration-unit uM, or rename the column"):
        crops(tmp_path, CROPS, Design(unit=layouts.Unit.MM))


def test_a_dose_below_nothing_is_refused(raw: Raw, tmp_path: Path) -> None:
    fields = read(raw, loaddata(raw).assign(Metadata_Concentration=[0, -6.5, 1, 0, 0.3, 1])).fields
    bad = fields[fields["code"] == "bad-concentration"]
    assert bad["reason"].tolist() == [
        "the table gives '-6.5' as its concentration, and none is below 0 µM; logarithms have to be taken back first"
    ]


def test_the_collections_doses_and_mechanisms_may_be_in_another_unit(raw: Raw) -> None:
    raw.edit_table(lambda t: t.assign(Image_Metadata_Concentration=t["Image_Metadata_Concentration"] * 1000))
    raw.moa_table.write_text(raw.moa_table.read_text().replace("0.3", "300").replace("1.0", "1000"))
    fields = layouts.bbbc021.read(raw.folder, design=Design(unit=layouts.Unit.NM)).fields
    assert set(fields[schema.TREATMENT]) == {"DMSO@0", "emetine@1", "taxol@0.3"} and set(fields["code"]) == {""}


def test_a_screen_without_doses_is_told_by_its_treatment_columns(raw: Raw) -> None:
    table = loaddata(raw).drop(columns="Metadata_Concentration").rename(columns={"Metadata_Compound": "Metadata_Gene"})
    gene = {schema.COMPOUND: "Metadata_Gene"}
    with pytest.raises(TableError, match=r"no Metadata_Concentration .*--treatment-columns compound"):
        read(raw, table, Design(gene))
    layout = read(raw, table, Design(gene, treatment=("compound",)))
    assert treatments(layout) == ["DMSO", "emetine", "taxol"]
    assert (layout.fields["status"] == "ok").all()
    with pytest.raises(ConfigError, match="begin with compound"):
        Design(treatment=("cell_line",))


def test_a_plate_map_tells_what_the_table_does_not(raw: Raw, tmp_path: Path) -> None:
    plates = pd.DataFrame(
        {
            "well": ["b2", "B003", "C4"],
            "drug": ["DMSO", "taxol", "emetine"],
            "concentration": ["", "0.3", "1"],
            "moa": ["", "Microtubule stabilizers", ""],
            "cell_line": ["U2OS", "U2OS", "U2OS"],
        }
    )
    plates.to_csv(tmp_path / "map.csv", index=False)
    design = Design({schema.COMPOUND: "drug"}, tmp_path / "map.csv")
    layout = read(raw, loaddata(raw).drop(columns=["Metadata_Compound", "Metadata_Concentration"]), design)
    assert treatments(layout) == ["DMSO@0", "emetine@1", "taxol@0.3"]
    by_well = layout.fields.set_index(schema.WELL)
    assert set(by_well.loc["B03", schema.MOA]) == {"Microtubule stabilizers"}
    assert set(by_well["Metadata_cell_line"]) == {"U2OS"}
    assert "map.csv" in layout.inputs
    with pytest.raises(TableError, match="disagree about Metadata_Concentration of well B03"):
        plates.assign(concentration=["0", "0.4", "1"]).to_csv(tmp_path / "map.csv", index=False)
        read(raw, loaddata(raw), design)
    with pytest.raises(TableError, match="names 1 wells more than once, the first B02"):
        pd.concat([plates, plates[:1].assign(well="B02")]).to_csv(tmp_path / "map.csv", index=False)
        read(raw, loaddata(raw), design)


def test_a_plate_map_by_plate_leaves_other_plates_alone(raw: Raw, tmp_path: Path) -> None:
    plates = pd.DataFrame({"plate": "Week1_001", "well": ["B02", "B03", "C04"], "compound": ["DMSO", "x", "y"]})
    plates.assign(concentration=1).to_csv(tmp_path / "map.csv", index=False)
    bare = loaddata(raw).drop(columns=["Metadata_Compound", "Metadata_Concentration"])
    fields = read(raw, bare, Design(plate_map=tmp_path / "map.csv")).fields
    assert fields.groupby(schema.PLATE)["code"].unique().map(sorted).to_dict() == {
        "Week1_001": ["unknown-moa"],
        "Week2_002": ["incomplete-row"],
    }


def test_a_plate_map_says_each_thing_once(raw: Raw, tmp_path: Path) -> None:
    bare, path = loaddata(raw).drop(columns=["Metadata_Compound", "Metadata_Concentration"]), tmp_path / "map.csv"
    plates = pd.DataFrame({"well": ["B02", "B03", "C04"], "compound": ["DMSO", "taxol", "emetine"]})
    plates = plates.assign(concentration_uM=[0, 0.3, 1], concentration=[0, 300, 1000])
    plates.to_csv(path, index=False)
    with pytest.raises(TableError, match=r"2 columns of one meaning, concentration_uM and concentration; .*name the"):
        read(raw, bare, Design(plate_map=path))
    chosen = Design({schema.CONCENTRATION: "concentration_uM"}, path)
    assert treatments(read(raw, bare, chosen)) == ["DMSO@0", "emetine@1", "taxol@0.3"]
    for name in ("Well", "Metadata_Compound"):
        plates.drop(columns="concentration").assign(**{name: plates["well"]}).to_csv(path, index=False)
        with pytest.raises(TableError, match=f"2 columns of one meaning, .* and {name};"):
            read(raw, bare, Design(plate_map=path))


def test_a_plate_map_of_other_plates_is_refused_with_both_names(raw: Raw, tmp_path: Path) -> None:
    plates = pd.DataFrame({"plate": "Week 1", "well": ["B02", "B03"], "compound": ["DMSO", "x"], "concentration": 0})
    plates.to_csv(tmp_path / "map.csv", index=False)
    words = r"map.csv has the plates 'Week 1', and the images are of 'Week1_001', 'Week2_002'; name them alike"
    with pytest.raises(TableError, match=words):
        read(raw, loaddata(raw), Design(plate_map=tmp_path / "map.csv"))


def test_a_table_that_tells_what_was_done_never_gives_invented_compounds(raw: Raw, tmp_path: Path) -> None:
    bare, path = loaddata(raw).drop(columns=["Metadata_Compound", "Metadata_Concentration"]), tmp_path / "map.csv"
    with pytest.raises(
        TableError, match=r"load_data.csv has Metadata_Gene and no Metadata_Compound.*--column compound="
    ):
        read(raw, bare.assign(Metadata_Gene="TP53", Metadata_Count=1))
    pd.DataFrame({"Well": ["B02", "B03", "C04"], "Drug": list("xyz"), "Conc (uM)": 1}).to_csv(path, index=False)
    with pytest.raises(TableError, match=r"map.csv has Well, Drug, Conc \(uM\) and no Metadata_Compound"):
        read(raw, bare, Design(plate_map=path))
    pattern = r".*_(?P<well>[A-Z]\d\d)_s(?P<site>\d)_w(?P<channel>\d).*\.tif"
    asked = dict(zip(CHANNELS, "124", strict=True))
    with pytest.raises(TableError, match="name the column that says what was done to the wells"):
        layouts.files.read(raw.folder, asked, pattern, design=Design(plate_map=path))
    named = Design({schema.COMPOUND: "Drug", schema.CONCENTRATION: "Conc (uM)"}, path)
    assert treatments(layouts.files.read(raw.folder, asked, pattern, design=named)) == ["x@1", "y@1", "z@1"]


def test_a_well_holds_one_treatment_and_a_treatment_one_mechanism(raw: Raw, tmp_path: Path) -> None:
    mixed = CROPS.assign(well="A01")
    words = r"gives well A01 on plate P1 several treatments \('DMSO@0', 'emetine@1', 'taxol@0.3'\)"
    with pytest.raises(TableError, match=words):
        crops(tmp_path, mixed)
    with pytest.raises(TableError, match=r"well A01 on plate P1 several batches \('1', '2'\)"):
        crops(tmp_path, CROPS.assign(batch=list("1234")))
    with pytest.raises(TableError, match=r"gives emetine@1 several mechanisms \('a', 'b'\), and 1 more likewise;"):
        read(raw, loaddata(raw).assign(Metadata_MoA=["DMSO", "a", "a", "DMSO", "b", "b"]))
    some = loaddata(raw).assign(Metadata_MoA=["DMSO", "a", "b", "", "a", ""])
    some.loc[3, "Metadata_Compound"] = ""
    assert read(raw, some).fields["code"].tolist() == ["", "", "", "incomplete-row", "", "unknown-moa"]


def test_nothing_is_said_of_the_control_where_nothing_is_usable(raw: Raw) -> None:
    fields = read(raw, loaddata(raw).assign(Metadata_Compound="")).fields
    assert layouts.tables.without_control(fields, "DMSO") == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"well;compound;concentration\nB02;taxol;0,3\n", "its cells are parted by semicolons"),
        (b"well\tcompound\nB02\ttaxol\n", "parted by tabs"),
        ("well,compound\nB02,taxol\n".encode("utf-16"), "holds NUL bytes, as UTF-16"),
        ("well,compound\nB02,t\u00e4xol\n".encode("latin-1"), "not in UTF-8: byte 0xe4 is not"),
    ],
)
def test_a_table_of_another_writing_is_refused_with_how_to_save_it(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / "map.csv").write_bytes(text)
    with pytest.raises(TableError, match=f"{words}.*save it as comma-separated text in UTF-8"):
        layouts.tables.head(tmp_path / "map.csv")


def test_own_metadata_go_on_to_fields_and_cells_as_they_are_written(raw: Raw, tmp_path: Path) -> None:
    table = loaddata(raw).assign(Metadata_Passage="007", Metadata_CellCount=5)
    layout = read(raw, table)
    record = ScreenRecord("s", layout.channels)
    screen = assembly.ingest_fields(layout, raw.folder, tmp_path / "a.screen", record).screen
    for rows in (screen.cells(), screen.fields()):
        assert set(rows["Metadata_Passage"]) == {"007"}
    assert "Metadata_CellCount" not in screen.cells()  # the word is ours
    cells = assembly.ingest_crops(
        crops(tmp_path, CROPS.assign(Metadata_Batchlet=list("wxyz"))), tmp_path / "b.screen", record
    )
    assert cells.screen.cells()["Metadata_Batchlet"].tolist() == ["w", "x", "y", "z"]


def test_all_missing_columns_are_named_at_once(raw: Raw, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="lacks the columns Metadata_Plate, Metadata_Well, drug, FileName_OrigAct;"):
        table = loaddata(raw).drop(columns=["Metadata_Plate", "Metadata_Well", "FileName_OrigAct"])
        read(raw, table, Design({schema.COMPOUND: "drug"}))
    with pytest.raises(TableError, match=r"lacks the columns .*Metadata_Plate.*Metadata_Well.*compound"):
        crops(tmp_path, CROPS.drop(columns=["plate", "well", "compound"]))


def test_every_verb_of_fields_has_the_same_options() -> None:
    verbs = typer.main.get_command(console.app).commands["ingest"].commands
    of = {name: {o for p in verb.params for o in p.opts if o.startswith("--")} for name, verb in verbs.items()}
    shared = {"--z", "--labels", "--column", "--plate-map", "--treatment-columns", "--rescale", "--patch-size-px"}
    assert all(shared <= options for name, options in of.items() if name != "crops")
    assert shared - of["crops"] == {"--z", "--labels"}


def test_columns_of_bbbc021_may_have_other_names_and_further_ones_are_kept(raw: Raw) -> None:
    raw.edit_table(
        lambda t: t.assign(Line=["U2OS", "A549", "U2OS"] * 2, place=5).rename(
            columns={"Image_Metadata_Compound": "drug"}
        )
    )
    columns = {schema.COMPOUND: "drug", "Metadata_cell_line": "Line", schema.SITE: "place"}
    layout = layouts.bbbc021.read(raw.folder, design=Design(columns, treatment=("compound", "cell_line")))
    assert treatments(layout) == ["DMSO [U2OS]", "emetine [U2OS]", "taxol [A549]"]
    assert set(layout.fields[schema.SITE]) == {5}
    with pytest.raises(TableError, match="lacks the column passage;"):
        layouts.bbbc021.read(raw.folder, design=Design({**columns, "Metadata_passage": "passage"}))
    with pytest.raises(ConfigError, match="mechanisms of this layout come from"):
        layouts.bbbc021.read(raw.folder, design=Design({schema.MOA: "moa"}))


def test_wells_that_differ_and_are_taken_together_are_mentioned(raw: Raw, tmp_path: Path) -> None:
    table = loaddata(raw).assign(Metadata_barcode=range(6), Metadata_same="x", Metadata_X_um=1.5)
    table["Metadata_day"] = np.where(table["Metadata_Plate"] == "Week1_001", "1", "8")
    table["Metadata_gene"] = table["Metadata_Compound"].str.upper()  # the same within a treatment
    layout = read(raw, table)
    said = layouts.tables.merged(layout.fields, Design())
    assert said == (
        "wells of one treatment differ in Metadata_day (2 values) and are taken together; --treatment-columns "
        "compound,concentration,day keeps them apart"
    )
    for asked in (("compound", "concentration"), ("compound", "concentration", "day")):
        assert layouts.tables.merged(layout.fields, Design(treatment=asked)) == ""
    words = ["ingest", "loaddata", str(raw.folder / "load_data.csv"), str(tmp_path / "a.screen"), "--workers", "1"]
    channels = ",".join(f"{c}={column}" for c, column in COLUMNS.items())
    ran = CliRunner().invoke(console.app, [*words, "--channels", channels], catch_exceptions=False)
    assert said in ran.stderr
