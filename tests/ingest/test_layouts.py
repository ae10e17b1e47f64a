"""LoadData tables, known centres and the collection's tables are read as they are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from cytovae import schema
from cytovae.config import ScreenRecord
from cytovae.errors import ConfigError, IngestError, TableError
from cytovae.ingest import assembly, layouts
from cytovae.ingest.layouts import Design
from cytovae.ingest.layouts.centres import read as centres_of
from cytovae.patches import PatchStore
from tests.ingest.drawn import CHANNELS, Raw

COLUMNS = {"DNA": "OrigDNA", "Tubulin": "OrigTub", "Actin": "OrigAct"}


def loaddata(raw: Raw, **more: str) -> pd.DataFrame:
    """The raw screen's table as CellProfiler writes it."""
    table = pd.read_csv(raw.image_table)
    out = pd.DataFrame(
        {
            "Metadata_Plate": table.Image_Metadata_Plate_DAPI,
            "Metadata_Well": table.Image_Metadata_Well_DAPI,
            "Metadata_Site": 1,
            "Metadata_Compound": table.Image_Metadata_Compound,
            "Metadata_Concentration": table.Image_Metadata_Concentration,
        }
    )
    for ours, theirs in zip(COLUMNS.values(), ("DAPI", "Tubulin", "Actin"), strict=True):
        out[f"FileName_{ours}"] = table[f"Image_FileName_{theirs}"]
        out[f"PathName_{ours}"] = table[f"Image_PathName_{theirs}"]
    return out.assign(**more)


def ingest(raw: Raw, table: pd.DataFrame, path: Path, channels=COLUMNS, **more) -> assembly.Outcome:
    table.to_csv(raw.folder / "load_data.csv", index=False)
    layout = layouts.loaddata.read(raw.folder / "load_data.csv", channels, **more)
    return assembly.ingest_fields(layout, raw.folder, path, ScreenRecord("s", layout.channels))


def all_patches(outcome: assembly.Outcome) -> np.ndarray:
    store = PatchStore(outcome.screen.patches_path)
    return store.read(np.arange(len(store)))


def test_loaddata_gives_the_cells_that_the_collections_tables_give(raw: Raw, tmp_path: Path) -> None:
    layout = layouts.bbbc021.read(raw.folder)
    theirs = assembly.ingest_fields(layout, raw.folder, tmp_path / "a.screen", ScreenRecord("s", layout.channels))
    ours = ingest(raw, loaddata(raw), tmp_path / "b.screen")
    assert np.array_equal(all_patches(theirs), all_patches(ours))
    same = [schema.CELL_ID, schema.FIELD, schema.TREATMENT, schema.CENTER_Y, schema.CENTER_X, schema.BATCH]
    assert theirs.screen.cells()[same].equals(ours.screen.cells()[same])
    assert ours.codes == {"unknown-moa": 6}


def test_loaddata_stores_channels_in_their_fixed_order(raw: Raw, tmp_path: Path) -> None:
    shuffled = {c: COLUMNS[c] for c in ("Actin", "DNA", "Tubulin")}
    outcome = ingest(raw, loaddata(raw), tmp_path / "a.screen", shuffled)
    assert outcome.screen.record.channels == CHANNELS
    assert np.array_equal(all_patches(outcome), all_patches(ingest(raw, loaddata(raw), tmp_path / "b.screen")))


def test_urls_and_absolute_paths_are_understood(raw: Raw, tmp_path: Path) -> None:
    table = loaddata(raw)
    for column in COLUMNS.values():
        files = raw.folder / table.pop(f"PathName_{column}") / table.pop(f"FileName_{column}")
        table[f"URL_{column}"] = [path.as_uri() for path in files]
    assert ingest(raw, table, tmp_path / "a.screen").n_cells == 36
    table["URL_OrigDNA"] = "https://example.org/a.tif"
    with pytest.raises(TableError, match="https://; fetch them first with 'cytovae fetch loaddata'"):
        ingest(raw, table, tmp_path / "b.screen")


def test_frames_of_one_stack_are_told_apart(raw: Raw, tmp_path: Path) -> None:
    table = loaddata(raw)
    plain = ingest(raw, table, tmp_path / "a.screen")
    for i, row in table.iterrows():
        planes = [tifffile.imread(raw.folder / row[f"PathName_{c}"] / row[f"FileName_{c}"]) for c in COLUMNS.values()]
        name = f"stack{i}.ome.tif"
        tifffile.imwrite(raw.folder / name, np.stack(planes), metadata={"axes": "CYX"}, photometric="minisblack")
        for frame, column in enumerate(COLUMNS.values()):
            table.loc[i, [f"PathName_{column}", f"FileName_{column}"]] = [".", name]
            table.loc[i, f"Frame_{column}"] = frame
    stacked = ingest(raw, table, tmp_path / "b.screen")
    assert np.array_equal(all_patches(plain), all_patches(stacked))


def test_an_image_that_is_not_the_first_of_its_file_is_refused(raw: Raw, tmp_path: Path) -> None:
    table = loaddata(raw, Series_OrigDNA=0, Series_OrigTub=0)
    assert ingest(raw, table, tmp_path / "a.screen").n_cells == 36
    table.loc[3, "Series_OrigTub"] = 2
    with pytest.raises(TableError, match=r"asks in Series_OrigTub for image 2 of .*tif, and only image 0"):
        ingest(raw, table, tmp_path / "b.screen")


def test_known_centres_are_taken_as_they_are(raw: Raw, tmp_path: Path) -> None:
    centres = pd.DataFrame(
        {
            "ImageNumber": [1, 1, 2, 2],
            "ObjectNumber": [3, 9, 1, 2],
            "Location_Center_X": [100.0, 210.4, 90.0, 2.0],
            "Location_Center_Y": [120.0, 80.6, 90.0, 90.0],
        }
    )
    centres.to_csv(tmp_path / "Nuclei.csv", index=False)
    outcome = ingest(raw, loaddata(raw), tmp_path / "a.screen", centres=tmp_path / "Nuclei.csv")
    cells = outcome.screen.cells()
    assert cells[schema.OBJECT].tolist() == [3, 9, 1]
    assert cells[schema.CENTER_X].tolist() == [100.0, 210.4, 90.0]
    assert outcome.n_border == 1
    assert outcome.codes["empty-field"] == 4
    plane = tifffile.imread(raw.file("B02", 0))
    assert np.array_equal(all_patches(outcome)[1, ..., 0], plane[81 - 34 : 81 + 34, 210 - 34 : 210 + 34])


def test_columns_of_other_names_are_named(raw: Raw, tmp_path: Path) -> None:
    table = loaddata(raw).rename(columns={"Metadata_Compound": "drug"}).assign(moa="something")
    named = {schema.COMPOUND: "drug", schema.MOA: "moa"}
    outcome = ingest(raw, table, tmp_path / "a.screen", design=layouts.Design(named))
    assert set(outcome.screen.cells()[schema.COMPOUND]) == {"DMSO", "taxol", "emetine"}
    assert outcome.codes == {}
    with pytest.raises(TableError, match="lacks the column drugs"):
        ingest(raw, table, tmp_path / "b.screen", design=layouts.Design({schema.COMPOUND: "drugs"}))


def test_without_compounds_every_well_is_its_own_treatment(raw: Raw, tmp_path: Path) -> None:
    table = loaddata(raw).drop(columns=["Metadata_Compound", "Metadata_Concentration", "Metadata_Site"])
    cells = ingest(raw, table, tmp_path / "a.screen").screen.cells()
    assert cells[schema.COMPOUND].nunique() == 6
    assert "Week1_001/B02" in set(cells[schema.COMPOUND])


def test_a_missing_file_column_is_named(raw: Raw, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="lacks the column FileName_Nope"):
        ingest(raw, loaddata(raw), tmp_path / "a.screen", {**COLUMNS, "DNA": "Nope"})
    with pytest.raises(ConfigError, match="must be called DNA"):
        ingest(raw, loaddata(raw), tmp_path / "a.screen", {"Nuclei": "OrigDNA"})


def test_folders_may_be_links_even_in_a_circle(raw: Raw, tmp_path: Path) -> None:
    (raw.folder / "Week1").rename(tmp_path / "elsewhere")
    (raw.folder / "Week1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(raw.folder)
    assert set(layouts.bbbc021.read(raw.folder).fields["status"]) == {"ok"}


def test_tables_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="there is no folder"):
        layouts.bbbc021.read(tmp_path / "nowhere")
    with pytest.raises(IngestError, match="give the table with --image-table"):
        layouts.bbbc021.read(tmp_path)
    with pytest.raises(TableError, match="does not exist"):
        layouts.loaddata.read(tmp_path / "none.csv", COLUMNS)


def test_the_real_tables_and_fields_are_read(bbbc021: Path, tmp_path: Path) -> None:
    tables = bbbc021 / "tables"
    layout = layouts.bbbc021.read(bbbc021 / "fields", tables / "BBBC021_v1_image.csv", tables / "BBBC021_v1_moa.csv")
    assert len(layout.fields) == 13_200
    assert layout.fields[schema.PLATE].nunique() == 55
    assert layout.fields[schema.FIELD].is_unique
    scored = layout.fields[layout.fields[schema.MOA] != schema.UNKNOWN_MOA]
    assert scored.loc[scored[schema.COMPOUND] != "DMSO", schema.TREATMENT].nunique() == 103
    outcome = assembly.ingest_fields(
        layout, bbbc021 / "fields", tmp_path / "a.screen", ScreenRecord("real", layout.channels)
    )
    fields = outcome.screen.fields().set_index(schema.FIELD)
    assert outcome.codes == {"missing-file": 1, "row-without-image": 13_198}
    assert outcome.fields == {"absent": 13_198, "ok": 1, "refused": 1}
    broken = fields.loc["Week2_24381/B02/s3"]
    assert broken["code"] == "missing-file"
    assert "the Actin file Week2/Week2_24381/Week2_180607_B02_s3_w4" in broken["reason"]
    whole = fields.loc["Week2_24381/B02/s1"]
    assert whole[schema.N_CELLS] + whole[schema.N_BORDER] == pytest.approx(190, rel=0.04)


CENTRES = "Metadata_Plate,Metadata_Well,Metadata_Site,ObjectNumber,Location_Center_X,Location_Center_Y\n"


def test_a_blank_row_among_centres_changes_no_field(tmp_path):
    path = tmp_path / "nuclei.csv"
    path.write_text(CENTRES + "P,A1,1,1,80,81\n,,,,,\nP,A1,1,2,90,91\n")
    centres = centres_of(path, pd.DataFrame())
    assert centres[schema.FIELD].tolist() == ["P/A01/s1"] * 2
    assert centres[["x", "y"]].to_numpy().tolist() == [[80.0, 81.0], [90.0, 91.0]]


def test_repeated_object_numbers_of_a_field_are_refused(tmp_path):
    path = tmp_path / "nuclei.csv"
    path.write_text(CENTRES + "P,A1,1,1,80,80\nP,A1,1,1,100,100\n")
    with pytest.raises(TableError, match="repeats 1 object numbers within a field, the first 1 in P/A01/s1"):
        centres_of(path, pd.DataFrame())


def test_names_that_look_like_numbers_or_like_nothing_stay_as_they_are_written(raw: Raw, tmp_path: Path) -> None:
    table = loaddata(raw)
    plates, wells, compounds = ["001", "1", "1e5", "01"], ["NA", "1e5", "007", "null"], ["None", "NA", "nan", "null"]
    table = table.iloc[:4].assign(Metadata_Plate=plates, Metadata_Well=wells, Metadata_Compound=compounds)
    outcome = ingest(raw, table.assign(Metadata_MoA=["001", "true", "Nano", " "]), tmp_path / "a.screen")
    fields = outcome.screen.fields().set_index(schema.PLATE).loc[plates]
    assert fields[schema.FIELD].tolist() == ["001/NA/s1", "1/1e5/s1", "1e5/007/s1", "01/null/s1"]
    assert fields[schema.COMPOUND].tolist() == compounds
    assert fields[schema.MOA].tolist() == ["001", "true", "Nano", schema.UNKNOWN_MOA]
    assert outcome.codes == {"unknown-moa": 1}


MISSING = ["", " ", "NA", "N/A", "nan", " NaN ", "null"]


@pytest.mark.parametrize("word", [*MISSING, "None"])
def test_a_mechanism_written_as_missing_is_unknown(raw: Raw, tmp_path: Path, word: str) -> None:
    outcome = ingest(raw, loaddata(raw).assign(Metadata_MoA=word), tmp_path / "a.screen")
    assert set(outcome.screen.cells()[schema.MOA]) == {schema.UNKNOWN_MOA}
    assert outcome.codes == {"unknown-moa": 6}
    raw.moa_table.write_text(raw.moa_table.read_text().replace("Protein synthesis", word))
    fields = layouts.bbbc021.read(raw.folder).fields.set_index(schema.COMPOUND)
    assert set(fields.loc["emetine", schema.MOA]) == {schema.UNKNOWN_MOA}
    assert set(fields.loc["emetine", "reason"]) == {"BBBC021_v1_moa.csv gives no mechanism for 'emetine'"}


@pytest.mark.parametrize("word", MISSING)
def test_a_number_written_as_missing_is_missing_in_every_column(raw: Raw, tmp_path: Path, word: str) -> None:
    table = loaddata(raw).astype({"Metadata_Concentration": object}).assign(Metadata_Replicate=word, Frame_OrigDNA=word)
    table.loc[table.Metadata_Compound == "DMSO", "Metadata_Concentration"] = word
    outcome = ingest(raw, table, tmp_path / "a.screen")
    assert set(outcome.screen.cells()[schema.TREATMENT]) == {"DMSO@0", "taxol@0.3", "emetine@1"}
    raw.moa_table.write_text(raw.moa_table.read_text() + f"DMSO,{word},DMSO\nlost,{word},DNA damage\n")
    assert set(layouts.bbbc021.read(raw.folder).fields["code"]) == {""}
    path = tmp_path / "nuclei.csv"
    path.write_text(CENTRES + f"P,A1,1,1,80,81\nP,A1,{word},2,80,81\nP,A1,1,{word},80,81\nP,A1,1,3,{word},81\n")
    assert centres_of(path, pd.DataFrame())[schema.OBJECT].tolist() == [1]


def test_only_the_columns_that_are_needed_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, kept = tmp_path / "nuclei.csv", []
    path.write_text(
        "Metadata_Plate,A,Metadata_Well,B,Metadata_Site,ObjectNumber,Location_Center_X,C,Location_Center_Y\n"
    )
    path.write_text(path.read_text() + "P,a,A1,b,1,7,80,c,81\n")
    read = layouts.tables.read_csv
    monkeypatch.setattr(layouts.tables, "read_csv", lambda *args: (kept.append(read(*args)), kept[-1])[1])
    centres = centres_of(path, pd.DataFrame())
    assert centres.iloc[0].to_dict() == {"y": 81.0, "x": 80.0, schema.FIELD: "P/A01/s1", schema.OBJECT: 7}
    assert set(kept[0].columns).isdisjoint("ABC")


def test_the_collections_tables_are_joined_as_they_are_written(raw: Raw) -> None:
    for path in (raw.image_table, raw.moa_table):
        path.write_text(path.read_text().replace("taxol", "None").replace("emetine", "1e5"))
    raw.moa_table.write_text(raw.moa_table.read_text() + "lost,0.3,\n,,\n")
    fields = layouts.bbbc021.read(raw.folder).fields
    assert set(fields["code"]) == {""}
    mechanisms = fields.groupby(schema.TREATMENT)[schema.MOA].first().to_dict()
    assert mechanisms == {"1e5@1": "Protein synthesis", "DMSO@0": "DMSO", "None@0.3": "Microtubule stabilizers"}


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("Metadata_Site", "s1", "column Metadata_Site of .*load_data.csv must hold whole numbers .*the first 's1'"),
        ("Metadata_Site", "1.5", "must hold whole numbers up to 2[*][*]53, and 1 of its 6 rows do not, .* '1.5'"),
        ("Metadata_Site", "1e300", "must hold whole numbers up to 2[*][*]53, and 1 of its 6 rows do not, .* '1e300'"),
        ("Metadata_Site", "9007199254740994", "must hold whole numbers up to .* '9007199254740994'"),
        ("Metadata_Replicate", "one", "column Metadata_Replicate of .* must hold whole numbers .*the first 'one'"),
        ("Frame_OrigDNA", "first", "column Frame_OrigDNA of .* must hold whole numbers .*the first 'first'"),
    ],
)
def test_what_is_no_number_where_one_is_needed_is_named(
    raw: Raw, tmp_path: Path, column: str, value: str, words: str
) -> None:
    table = loaddata(raw)
    table[column] = ["1", value, "", " ", "2.0", "3"]
    with pytest.raises(TableError, match=words):
        ingest(raw, table, tmp_path / "a.screen")


def test_a_concentration_that_is_no_number_is_said_as_it_is_written(raw: Raw, tmp_path: Path) -> None:
    table = loaddata(raw).assign(Metadata_Concentration=["", "", "high", "0", "1e-1", "1"])
    fields = ingest(raw, table, tmp_path / "a.screen").screen.fields()
    bad = fields.loc[fields["code"].str.contains("bad-concentration"), "reason"].tolist()
    assert [reason.split(";")[0] for reason in bad] == [
        "the table gives nothing as its concentration, where a number of µM is needed",
        "the table gives 'high' as its concentration, where a number of µM is needed",
    ]
    raw.moa_table.write_text("compound,concentration,moa\ntaxol,low,DNA damage\n")
    with pytest.raises(TableError, match=r"column concentration of .*moa.csv must hold numbers, .*the first 'low'"):
        layouts.bbbc021.read(raw.folder)


def test_centres_find_plates_that_are_written_alike_and_only_these(tmp_path):
    path = tmp_path / "nuclei.csv"
    path.write_text(CENTRES + "001,NA,1.0,1,80,81\n1,NA,1,1,90,91\n1,NA,1,2,nan,NaN\n")
    centres = centres_of(path, pd.DataFrame())
    assert centres[schema.FIELD].tolist() == ["001/NA/s1", "1/NA/s1"]
    path.write_text(CENTRES + "P,A1,1,1,80,left\n")
    with pytest.raises(TableError, match=r"column Location_Center_Y of .* must hold numbers, .* first 'left'"):
        centres_of(path, pd.DataFrame())
    path.write_text("ImageNumber,Location_Center_X,Location_Center_Y\nfirst,1,1\n")
    with pytest.raises(TableError, match=r"column ImageNumber of .* must hold whole numbers .* first 'first'"):
        centres_of(path, pd.DataFrame({"row": [1], schema.FIELD: ["P/A1/s1"]}))
    path.write_text("Location_Center_X,Location_Center_Y\n1,1\n")
    with pytest.raises(TableError, match="must say the field of a centre"):
        centres_of(path, pd.DataFrame())


def test_a_table_without_rows_is_named(raw: Raw, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"load_data.csv holds no rows"):
        ingest(raw, loaddata(raw).iloc[:0], tmp_path / "a.screen")


def test_other_columns_of_the_same_table_are_another_screen(raw: Raw, tmp_path: Path) -> None:
    table = loaddata(raw).assign(drug="other")
    ingest(raw, table, tmp_path / "a.screen")
    with pytest.raises(IngestError, match="what the tables say of the fields changed; give another name"):
        ingest(raw, table, tmp_path / "a.screen", design=layouts.Design({schema.COMPOUND: "drug"}))
    swapped = {**COLUMNS, "Tubulin": "OrigAct", "Actin": "OrigTub"}
    with pytest.raises(IngestError, match="what the tables say of the fields changed; give another name"):
        ingest(raw, table, tmp_path / "a.screen", swapped)


def test_files_are_taken_though_an_address_stands_beside_them(raw: Raw, tmp_path: Path) -> None:
    table = loaddata(raw)
    for column in COLUMNS.values():
        table[f"URL_{column}"] = "s3://bucket/images/" + table[f"FileName_{column}"]
    assert ingest(raw, table, tmp_path / "a.screen").n_cells == 36


@pytest.mark.parametrize("root", ["/mnt/other/machine", "D:\\screens\\2024"])
def test_files_of_another_machine_are_found_under_the_folder_given(raw: Raw, tmp_path: Path, root: str) -> None:
    here = ingest(raw, loaddata(raw), tmp_path / "a.screen")
    table, slash = loaddata(raw), "\\" if "\\" in root else "/"
    for column in COLUMNS.values():
        table[f"PathName_{column}"] = root + slash + table[f"PathName_{column}"].str.replace("/", slash)
    there = ingest(raw, table, tmp_path / "b.screen", images=raw.folder)
    assert np.array_equal(all_patches(here), all_patches(there))


def test_addresses_of_images_that_were_fetched_are_found_under_the_folder_given(raw: Raw, tmp_path: Path) -> None:
    here, table = ingest(raw, loaddata(raw), tmp_path / "a.screen"), loaddata(raw)
    for column in COLUMNS.values():
        table[f"URL_{column}"] = (
            "s3://cpg/images/" + table.pop(f"PathName_{column}") + "/" + table.pop(f"FileName_{column}")
        )
    there = ingest(raw, table, tmp_path / "b.screen", images=raw.folder)
    assert np.array_equal(all_patches(here), all_patches(there))


def test_two_rows_never_share_a_file_found_by_its_name_alone(raw: Raw, tmp_path: Path) -> None:
    table = loaddata(raw)
    for column in COLUMNS.values():
        (raw.folder / f"{column}.tif").write_bytes(raw.file("B02").read_bytes())
        table[f"PathName_{column}"] = ["/far/" + well for well in table["Metadata_Plate"]]
        table[f"FileName_{column}"] = f"{column}.tif"
    with pytest.raises(TableError, match=r"both are found as .*OrigDNA.tif only; give with --images"):
        ingest(raw, table, tmp_path / "a.screen", images=raw.folder)


def test_a_table_is_read_gzipped_or_as_parquet_as_if_it_were_a_csv(raw: Raw) -> None:
    table = loaddata(raw).assign(Metadata_n=[1, 2, None, 4, 5, 6], Metadata_k=range(6), Metadata_word=["001", None] * 3)
    table["Metadata_n"] = table["Metadata_n"].astype("Int64")
    table.to_csv(raw.folder / "load_data.csv", index=False)
    table.to_csv(raw.folder / "load_data.csv.gz", index=False)
    table.to_parquet(raw.folder / "load_data.parquet")
    plain, *others = (
        layouts.loaddata.read(raw.folder / f"load_data.{kind}", COLUMNS).fields.drop(columns=schema.REASON)
        for kind in ("csv", "csv.gz", "parquet")
    )
    assert len(plain) == 6 and plain["Metadata_n"].tolist() == ["1", "2", "", "4", "5", "6"]
    for other in others:
        pd.testing.assert_frame_equal(plain, other)
    (raw.folder / "load_data.parquet").write_bytes(b"damaged")
    with pytest.raises(TableError, match=r"load_data.parquet cannot be read as a table"):
        layouts.loaddata.read(raw.folder / "load_data.parquet", COLUMNS)


def test_columns_may_begin_with_image_as_in_cellprofilers_image_csv(raw: Raw, tmp_path: Path) -> None:
    plain = loaddata(raw).rename(columns={"Metadata_Compound": "Metadata_drug"})
    before = ("FileName_", "PathName_", "Metadata_")
    written = plain.rename(columns={c: f"Image_{c}" for c in plain if c.startswith(before)})
    assert {"Image_FileName_OrigDNA", "Image_Metadata_Plate", "Image_Metadata_drug"} <= set(written)
    read = []
    for name, table, drug in (("plain", plain, "Metadata_drug"), ("image", written, "Image_Metadata_drug")):
        path = raw.folder / f"{name}.csv"
        table.to_csv(path, index=False)
        design = Design(columns={"Metadata_Compound": drug})
        read.append(layouts.loaddata.read(path, COLUMNS, images=raw.folder, design=design).fields)
    mentioned = [schema.REASON]  # the table's name stands in it
    assert read[0].drop(columns=mentioned).equals(read[1].drop(columns=mentioned))
