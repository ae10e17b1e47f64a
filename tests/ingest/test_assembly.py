"""Raw fields become a screen: every fault is named, the rest goes on, and a killed run ends as an undisturbed one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from cytovae import contents as files
from cytovae import schema
from cytovae.cli import console, data  # noqa: F401  (data registers its verbs)
from cytovae.config import ScreenRecord
from cytovae.errors import BusyError, IngestError
from cytovae.ingest import assembly, layouts
from cytovae.ingest.nuclei import NucleiOptions
from cytovae.patches import PatchStore
from cytovae.screen import Screen, read_provenance, write_table
from tests.ingest.drawn import CHANNELS, Raw, draw, write_raw


def ingest(raw: Raw, path: Path, options: assembly.IngestOptions | None = None, **more) -> assembly.Outcome:
    layout = layouts.bbbc021.read(raw.folder)
    return assembly.ingest_fields(layout, raw.folder, path, ScreenRecord("s", layout.channels), options, **more)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def faults(screen: Screen) -> dict[str, tuple[str, str, str]]:
    fields = screen.fields()
    said = fields[fields[schema.CODE] != ""]
    return {f: (s, c, r) for f, s, c, r in said[[schema.FIELD, "status", "code", "reason"]].itertuples(index=False)}


def test_every_cell_becomes_the_patch_around_its_nucleus(raw: Raw, tmp_path: Path) -> None:
    screen = ingest(raw, tmp_path / "a.screen").screen
    cells, store = screen.cells(), PatchStore(screen.patches_path)
    assert list(cells.columns) == list(schema.CELL_COLUMNS)
    assert len(cells) == len(store) == 6 * 6
    assert cells[schema.CELL_ID].is_unique
    for name, group in cells.groupby(schema.FIELD):
        found = group[[schema.CENTER_Y, schema.CENTER_X]].to_numpy()
        gaps = np.linalg.norm(raw.truth[name][:, None] - found[None], axis=2)
        assert gaps.min(axis=1).max() < 2
        plate, well, _ = name.split("/")
        planes = [tifffile.imread(raw.file(well, c, plate)) for c in range(3)]
        for row, (y, x) in zip(group.index, np.rint(found).astype(int), strict=True):
            naive = np.stack([plane[y - 34 : y + 34, x - 34 : x + 34] for plane in planes], axis=-1)
            assert np.array_equal(store.read([row])[0], naive)


def test_metadata_come_from_the_tables(raw: Raw, tmp_path: Path) -> None:
    cells = ingest(raw, tmp_path / "a.screen").screen.cells()
    taxol = cells[cells[schema.COMPOUND] == "taxol"]
    assert set(taxol[schema.TREATMENT]) == {"taxol@0.3"}
    assert set(taxol[schema.MOA]) == {"Microtubule stabilizers"}
    assert set(taxol[schema.BATCH]) == {"Week1", "Week2"}
    assert set(taxol[schema.WELL]) == {"B03"}
    assert not cells[schema.BLANK].any()


def test_cells_whose_patch_would_leave_the_field_are_left_out_and_counted(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", plates=("Week1_001",), wells=("B02",))
    inside, outside = [(40, 200), (285, 360)], [(25, 100), (160, 385)]
    field = draw(inside + outside)
    for channel in range(3):
        tifffile.imwrite(raw.file("B02", channel), field[..., channel])
    outcome = ingest(raw, tmp_path / "a.screen")
    assert (outcome.n_cells, outcome.n_border) == (2, 2)
    assert outcome.screen.fields()[schema.N_BORDER].tolist() == [2]


def spoil_missing(raw: Raw) -> str:
    raw.file("B03", 2).unlink()
    return "Actin"


def spoil_truncated(raw: Raw) -> str:
    path = raw.file("B03", 1)
    path.write_bytes(path.read_bytes()[:100_000])
    return path.name


def spoil_foreign(raw: Raw) -> str:
    path = raw.file("B03", 0)
    path.write_bytes(b"<html>404 not found</html>" * 50)
    return path.name


def spoil_empty_file(raw: Raw) -> str:
    path = raw.file("B03", 0)
    path.write_bytes(b"")
    return path.name


def spoil_depth(raw: Raw) -> str:
    path = raw.file("B03", 0)
    tifffile.imwrite(path, (tifffile.imread(path) // 16).astype(np.uint8))
    return path.name


def spoil_size(raw: Raw) -> str:
    path = raw.file("B03", 1)
    tifffile.imwrite(path, tifffile.imread(path)[:-2])
    return path.name


def spoil_empty(raw: Raw) -> str:
    field = draw([])
    for channel in range(3):
        tifffile.imwrite(raw.file("B03", channel), field[..., channel])
    return raw.file("B03", 0).name


def spoil_nan(raw: Raw) -> str:
    path = raw.file("B03", 2)
    plane = tifffile.imread(path).astype(np.float32)
    plane[5, 5] = np.nan
    tifffile.imwrite(path, plane)
    return path.name


def spoil_dead(raw: Raw) -> str:
    path = raw.file("B03", 2)
    tifffile.imwrite(path, np.full_like(tifffile.imread(path), 7))
    return path.name


def spoil_colour(raw: Raw) -> str:
    path = raw.file("B03", 2)
    tifffile.imwrite(path, np.zeros((*tifffile.imread(path).shape, 3), np.uint16), photometric="rgb")
    return path.name


SPOILT = [
    (spoil_missing, "missing-file", "does not exist"),
    (spoil_truncated, "unreadable-file", "truncated"),
    (spoil_foreign, "unreadable-file", "cannot be read"),
    (spoil_empty_file, "unreadable-file", "cannot be read"),
    (spoil_depth, "wrong-bit-depth", "uint8, not the uint16"),
    (spoil_size, "size-mismatch", "318 x 400"),
    (spoil_empty, "empty-field", "no nucleus"),
    (spoil_nan, "nan", "1 values that are no number"),
    (spoil_dead, "constant-channel", "nothing but the value 7"),
    (spoil_colour, "wrong-shape", "(320, 400, 3)"),
]


@pytest.mark.parametrize(("spoil", "code", "words"), SPOILT, ids=[s[0].__name__ for s in SPOILT])
def test_a_broken_field_is_named_and_the_rest_goes_on(raw: Raw, tmp_path: Path, spoil, code: str, words: str) -> None:
    named = spoil(raw)
    outcome = ingest(raw, tmp_path / "a.screen")
    said = faults(outcome.screen)
    assert list(said) == ["Week1_001/B03/s1"]
    status, found, reason = said["Week1_001/B03/s1"]
    assert (status, found) == ("refused", code)
    assert named in reason
    assert words in reason
    assert outcome.n_cells == 5 * 6
    assert outcome.codes == {code: 1}
    assert "Week1_001/B03/s1" not in set(outcome.screen.cells()[schema.FIELD])


def test_rows_without_image_and_images_without_row_are_reported(raw: Raw, tmp_path: Path) -> None:
    for channel in range(3):
        raw.file("C04", channel).unlink()
    raw.edit_table(lambda t: t[~((t.Image_Metadata_Well_DAPI == "B03") & (t.Image_Metadata_Plate_DAPI == "Week2_002"))])
    outcome = ingest(raw, tmp_path / "a.screen")
    said = faults(outcome.screen)
    assert said["Week1_001/C04/s1"][:2] == ("absent", "row-without-image")
    orphans = [name for name, (_, code, _) in said.items() if code == "image-without-row"]
    assert len(orphans) == 3
    assert all("Week2_002_B03" in name for name in orphans)
    assert outcome.n_cells == 4 * 6


def test_a_compound_missing_from_the_moa_table_is_kept_as_unknown_and_said(raw: Raw, tmp_path: Path) -> None:
    table = pd.read_csv(raw.moa_table)
    table[table.compound != "emetine"].to_csv(raw.moa_table, index=False)
    outcome = ingest(raw, tmp_path / "a.screen")
    cells = outcome.screen.cells()
    assert set(cells.loc[cells[schema.COMPOUND] == "emetine", schema.MOA]) == {schema.UNKNOWN_MOA}
    assert outcome.codes == {"unknown-moa": 2}
    assert "BBBC021_v1_moa.csv gives no mechanism for 'emetine'" in faults(outcome.screen)["Week1_001/C04/s1"][2]
    assert outcome.n_cells == 36


def test_a_concentration_within_tolerance_is_joined_and_said(raw: Raw, tmp_path: Path) -> None:
    raw.edit_table(lambda t: t.replace({"Image_Metadata_Concentration": {0.3: 0.30003}}))
    outcome = ingest(raw, tmp_path / "a.screen")
    cells = outcome.screen.cells()
    taxol = cells[cells[schema.COMPOUND] == "taxol"]
    assert set(taxol[schema.MOA]) == {"Microtubule stabilizers"}
    assert set(taxol[schema.CONCENTRATION]) == {0.3}
    assert outcome.codes == {"concentration-within-tolerance": 2}
    raw.edit_table(lambda t: t.replace({"Image_Metadata_Concentration": {0.30003: 0.31}}))
    other = ingest(raw, tmp_path / "b.screen")
    assert other.codes == {"unknown-moa": 2}


def test_a_field_that_stands_twice_in_the_table_is_read_once(raw: Raw, tmp_path: Path) -> None:
    raw.edit_table(lambda t: pd.concat([t, t.iloc[:1]]))
    outcome = ingest(raw, tmp_path / "a.screen")
    assert outcome.codes == {"duplicate-field": 1}
    assert outcome.n_cells == 36
    assert outcome.screen.cells()[schema.CELL_ID].is_unique


def test_rows_that_lack_a_compound_or_a_number_are_refused(raw: Raw, tmp_path: Path) -> None:
    def blot(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype({"Image_Metadata_Concentration": object})
        table.loc[0, "Image_Metadata_Compound"] = None
        table.loc[1, "Image_Metadata_Concentration"] = "much"
        return table

    raw.edit_table(blot)
    assert ingest(raw, tmp_path / "a.screen").codes == {"bad-concentration": 1, "incomplete-row": 1}


def test_no_usable_field_is_an_error_that_writes_nothing(raw: Raw, tmp_path: Path) -> None:
    for path in raw.folder.rglob("*w1*.tif"):
        path.write_bytes(b"nothing")
    before = set(tmp_path.iterdir())
    with pytest.raises(IngestError, match=r"no field of .* is usable: 6 unreadable-file, the first: .*tif"):
        ingest(raw, tmp_path / "a.screen")
    for path in raw.folder.rglob("*.tif"):
        path.unlink()
    with pytest.raises(IngestError, match="6 row-without-image"):
        ingest(raw, tmp_path / "a.screen")
    assert set(tmp_path.iterdir()) == before


def test_the_verb_ends_1_with_one_sentence_where_nothing_is_usable(raw: Raw, tmp_path: Path) -> None:
    for path in raw.folder.rglob("*.tif"):
        path.unlink()
    command = [sys.executable, "-m", "cytovae", "ingest", "bbbc021", str(raw.folder), str(tmp_path / "a.screen")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.strip().splitlines()[-1].startswith("cytovae: no field of")
    assert not (tmp_path / "a.screen").exists()


def test_a_finished_ingest_is_not_done_again(raw: Raw, tmp_path: Path) -> None:
    first = ingest(raw, tmp_path / "a.screen")
    stamp = first.screen.cells_path.stat().st_mtime_ns
    again = ingest(raw, tmp_path / "a.screen")
    assert not first.already
    assert again.already
    assert again.n_cells == first.n_cells
    assert again.screen.cells_path.stat().st_mtime_ns == stamp


def test_another_screen_in_the_way_is_replaced_only_when_asked(raw: Raw, tmp_path: Path) -> None:
    ingest(raw, tmp_path / "a.screen")
    (tmp_path / "a.screen" / "embeddings").mkdir()
    raw.file("B03", 0).unlink()
    with pytest.raises(IngestError, match=r"already holds something .*--overwrite"):
        ingest(raw, tmp_path / "a.screen")
    assert ingest(raw, tmp_path / "a.screen", overwrite=True).n_cells == 30
    assert not (tmp_path / "a.screen" / "embeddings").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.screen", "raw"]


def rewrite(path: Path, pixels: np.ndarray) -> None:
    """Other pixels in a file, its name, size and time of last change as they were."""
    before = path.stat()
    tifffile.imwrite(path, pixels)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_image_changed_in_place_is_noticed(raw: Raw, tmp_path: Path) -> None:
    ingest(raw, tmp_path / "a.screen")
    path = raw.file("B03", 1)
    rewrite(path, tifffile.imread(path)[::-1])
    name = path.relative_to(raw.folder).as_posix()
    with pytest.raises(IngestError, match=rf"with other options: 1 image file changed \({name}\); .*--overwrite"):
        ingest(raw, tmp_path / "a.screen")
    path.unlink()
    with pytest.raises(IngestError, match=rf"options: 1 image file lost \({name}\); .*--overwrite"):
        ingest(raw, tmp_path / "a.screen")
    path.with_name("stranger.tif").write_bytes(b"new")
    with pytest.raises(IngestError, match=rf"1 image file lost \({name}\), 1 image file added \(.*stranger.tif\); .*"):
        ingest(raw, tmp_path / "a.screen")


def test_a_stopped_ingest_does_not_go_on_with_images_changed_since(raw: Raw, tmp_path: Path, monkeypatch) -> None:
    make_part, made = assembly._make_part, []

    def stop_after_one(task) -> None:
        if made:
            raise KeyboardInterrupt
        made.append(task.number)
        make_part(task)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(assembly, "_make_part", stop_after_one)
        ingest(raw, tmp_path / "a.screen")
    path = raw.file("B02", 1)
    rewrite(path, tifffile.imread(path)[::-1])
    ingest(raw, tmp_path / "a.screen")
    assert contents(tmp_path / "a.screen") == contents(ingest(raw, tmp_path / "b.screen").screen.path)


def test_the_same_images_elsewhere_or_written_anew_are_the_same(raw: Raw, tmp_path: Path, monkeypatch) -> None:
    made = ingest(raw, tmp_path / "a.screen").screen.cells_digest()
    shutil.copytree(raw.folder, tmp_path / "copy", copy_function=shutil.copyfile)
    copy = Raw(tmp_path / "copy", raw.truth)
    assert ingest(copy, tmp_path / "a.screen").already
    assert ingest(copy, tmp_path / "b.screen").screen.cells_digest() == made
    read: list[Path] = []
    digest_file = files.digest_file
    monkeypatch.setattr(files, "digest_file", lambda path: (read.append(path), digest_file(path))[1])
    assert ingest(copy, tmp_path / "a.screen").already
    assert read == []
    copy.file("B03", 1).touch()
    assert ingest(copy, tmp_path / "a.screen").already
    assert read == [copy.file("B03", 1)]


def test_what_differs_from_a_screen_in_the_way_is_said(raw: Raw, tmp_path: Path) -> None:
    ingest(raw, tmp_path / "a.screen")
    with pytest.raises(IngestError, match=r"options: options.illumination was 'none' and is 'plate'; give another"):
        ingest(raw, tmp_path / "a.screen", assembly.IngestOptions(illumination="plate"))
    raw.edit_table(lambda t: t.replace({"Image_Metadata_Compound": {"taxol": "emetine"}}))
    with pytest.raises(IngestError, match=r"BBBC021_v1_image.csv changed, what the tables say of the fields changed;"):
        ingest(raw, tmp_path / "a.screen")


def as_made_before(screen: Screen, **inputs: str | None) -> None:
    """The screen as cytovae 0.0 would have recorded it: without digests of every image, other inputs changed."""
    record = read_provenance(screen.cells_path)
    changed = {**record["inputs"], **inputs}
    record |= {"cytovae": "0.0", "inputs": {name: value for name, value in changed.items() if value is not None}}
    write_table(screen.cells_path, screen.cells(), record)
    (screen.path / "images.parquet").unlink(missing_ok=True)


def test_what_an_older_version_did_not_record_is_not_said_to_have_changed(raw: Raw, tmp_path: Path) -> None:
    screen = ingest(raw, tmp_path / "a.screen").screen
    as_made_before(screen, images="0" * 64)
    with pytest.raises(IngestError, match=r"options: cytovae 0.0 made it and kept no digest of the image files; give"):
        ingest(raw, screen.path)
    as_made_before(screen, rows=None)
    said = "options: cytovae 0.0 made it and kept no digest of what the tables say of the fields; give .*--overwrite"
    with pytest.raises(IngestError, match=said):
        ingest(raw, screen.path)


def test_another_wording_of_what_is_said_of_fields_is_the_same_screen(raw: Raw, tmp_path: Path) -> None:
    raw.moa_table.write_text("compound,concentration,moa\nDMSO,0,DMSO\n")
    layout = layouts.bbbc021.read(raw.folder)
    record = ScreenRecord("s", layout.channels)
    assert assembly.ingest_fields(layout, raw.folder, tmp_path / "a.screen", record).codes == {"unknown-moa": 4}
    layout.fields["reason"] = layout.fields["reason"].str.upper()
    assert assembly.ingest_fields(layout, raw.folder, tmp_path / "a.screen", record).already


@pytest.mark.parametrize("name", ["cells.parquet", "images.parquet"])
@pytest.mark.parametrize("table", [b"garbage", pd.DataFrame({"other": [1]})])
def test_tables_that_cannot_be_understood_are_as_good_as_none(raw: Raw, tmp_path: Path, name: str, table) -> None:
    path = ingest(raw, tmp_path / "a.screen").screen.path / name
    path.write_bytes(table) if isinstance(table, bytes) else table.to_parquet(path)
    if name == "images.parquet":
        assert ingest(raw, path.parent).already
        assert len(pd.read_parquet(path)) == 18
        return
    with pytest.raises(IngestError, match="no ingest has made it; give another name, or --overwrite"):
        ingest(raw, path.parent)
    assert ingest(raw, path.parent, overwrite=True).n_cells == 36


def test_images_are_read_only_under_the_lock_and_after_the_options_are_compared(
    raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest_file = files.digest_file
    ingest(raw, tmp_path / "a.screen")
    for path in raw.folder.rglob("*.tif"):
        path.touch()

    def meanwhile(path: Path) -> str:
        with pytest.raises(BusyError, match="another ingest is at work"):
            ingest(raw, tmp_path / "b.screen")
        return digest_file(path)

    monkeypatch.setattr(files, "digest_file", meanwhile)
    assert ingest(raw, tmp_path / "b.screen").n_cells == 36
    monkeypatch.setattr(files, "digest_file", lambda path: pytest.fail(f"{path} was read"))
    with pytest.raises(IngestError, match="illumination was 'none' and is 'plate'"):
        ingest(raw, tmp_path / "a.screen", assembly.IngestOptions(illumination="plate"))


def test_digests_are_told_and_kept_when_a_run_is_killed(
    raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = contents(ingest(raw, tmp_path / "whole.screen").screen.path)
    digest_file, read = files.digest_file, []

    def some(path: Path) -> str:
        if len(read) == 10:
            raise KeyboardInterrupt
        read.append(path)
        return digest_file(path)

    monkeypatch.setattr(files, "_SAVE_EVERY_S", 0)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(files, "digest_file", some)
        ingest(raw, tmp_path / "a.screen")
    again: list[Path] = []
    monkeypatch.setattr(files, "digest_file", lambda path: (again.append(path), digest_file(path))[1])
    told: list[tuple[int, int]] = []
    ingest(raw, tmp_path / "a.screen", progress=lambda done, total: told.append((done, total)))
    assert len(read) == 10
    assert len(again) == 8
    assert set(read).isdisjoint(again)
    assert told == [(6 * done // 8, 6) for done in range(1, 9)] + [(0, 6), (4, 6), (6, 6)]
    assert contents(tmp_path / "a.screen") == whole


def test_what_is_no_screen_is_not_touched(raw: Raw, tmp_path: Path) -> None:
    (tmp_path / "a.screen").mkdir()
    (tmp_path / "a.screen" / "thesis.txt").write_text("precious")
    with pytest.raises(IngestError, match="already holds"):
        ingest(raw, tmp_path / "a.screen")
    assert (tmp_path / "a.screen" / "thesis.txt").read_text() == "precious"


def test_workers_do_not_change_the_bytes(raw: Raw, tmp_path: Path) -> None:
    options = assembly.IngestOptions(illumination="plate")
    alone = ingest(raw, tmp_path / "a.screen", options)
    several = ingest(raw, tmp_path / "b.screen", options, workers=2)
    assert contents(alone.screen.path) == contents(several.screen.path)


def test_stopped_at_any_part_it_goes_on_and_ends_in_the_same_bytes(raw: Raw, tmp_path: Path, monkeypatch) -> None:
    whole = ingest(raw, tmp_path / "whole.screen")
    made: list[int] = []
    make_part = assembly._make_part

    def stop_after_one(task) -> None:
        if made:
            raise KeyboardInterrupt
        made.append(task.number)
        make_part(task)

    monkeypatch.setattr(assembly, "_make_part", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        ingest(raw, tmp_path / "a.screen")
    assert not (tmp_path / "a.screen").exists()
    again: list[int] = []
    monkeypatch.setattr(assembly, "_make_part", lambda task: (again.append(task.number), make_part(task)))
    ingest(raw, tmp_path / "a.screen")
    assert made == [0]
    assert again == [1]
    assert contents(tmp_path / "a.screen") == contents(whole.screen.path)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", sites=4)
    whole = ingest(raw, tmp_path / "whole.screen")
    script = (
        "import sys; from pathlib import Path; from cytovae.config import ScreenRecord\n"
        "from cytovae.ingest import assembly, layouts\n"
        "raw, out = map(Path, sys.argv[1:])\n"
        "layout = layouts.bbbc021.read(raw)\n"
        "assembly.ingest_fields(layout, raw, out, ScreenRecord('s', layout.channels))\n"
    )
    target = tmp_path / "a.screen"
    command = [sys.executable, "-c", script, str(raw.folder), str(target)]
    killed = 0
    work = tmp_path / "a.screen.ingest"
    for parts_before in (0, 1, 2, 4):
        running = subprocess.Popen(command, cwd=Path.cwd())
        deadline = time.monotonic() + 60
        while running.poll() is None and time.monotonic() < deadline:
            if work.exists() and len(list((work / "results").glob("*.json"))) > parts_before - 1:
                break
            time.sleep(0.002)
        running.send_signal(signal.SIGKILL)
        killed += running.wait() == -signal.SIGKILL
    assert killed >= 3
    subprocess.run(command, check=True)
    assert contents(target) == contents(whole.screen.path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.screen", "raw", "whole.screen"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_while_tidying_up_it_ends_in_the_same_bytes(
    raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    whole = contents(ingest(raw, tmp_path / "whole.screen").screen.path)
    ingest(raw, tmp_path / "a.screen", assembly.IngestOptions(illumination="plate"))
    clear_away = assembly._clear_away

    def cut_short(*folders: Path) -> None:
        if (tmp_path / ".a.screen.old").exists():
            raise KeyboardInterrupt
        clear_away(*folders)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(assembly, "_clear_away", cut_short)
        ingest(raw, tmp_path / "a.screen", overwrite=True)
    ingest(raw, tmp_path / "a.screen", overwrite=overwrite)
    assert contents(tmp_path / "a.screen") == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.screen", "raw", "whole.screen"]


def test_two_ingests_into_one_screen_do_not_meet(raw: Raw, tmp_path: Path, monkeypatch) -> None:
    make_part = assembly._make_part

    def meanwhile(task) -> None:
        with pytest.raises(BusyError, match="another ingest is at work"):
            ingest(raw, tmp_path / "a.screen")
        make_part(task)

    monkeypatch.setattr(assembly, "_make_part", meanwhile)
    assert ingest(raw, tmp_path / "a.screen").n_cells == 36


def test_the_stored_order_of_channels_is_fixed(raw: Raw) -> None:
    assert layouts.bbbc021.read(raw.folder).channels == CHANNELS


def test_nuclei_of_another_size_than_assumed_are_noticed(raw: Raw, tmp_path: Path) -> None:
    fits = ingest(raw, tmp_path / "a.screen")
    assert fits.nucleus_width_px == pytest.approx(32, abs=2)
    assert fits.width_fits
    wide = assembly.IngestOptions(nuclei=NucleiOptions(diameter_px=60))
    other = ingest(raw, tmp_path / "b.screen", wide)
    assert other.nucleus_width_px == pytest.approx(32, abs=2)
    assert not other.width_fits


def test_a_field_of_another_size_than_its_plates_is_not_corrected_and_said(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", plates=("Week1_001",), sites=4)
    for channel in range(3):
        path = raw.file("C04", channel, site=3)
        tifffile.imwrite(path, tifffile.imread(path)[:-16])
    plain = ingest(raw, tmp_path / "plain.screen").screen
    outcome = ingest(raw, tmp_path / "a.screen", assembly.IngestOptions(illumination="plate"))
    assert outcome.codes == {"not-corrected": 1}
    assert outcome.fields == {"ok": 12}
    reason = (
        "the field has 304 x 400 px and its plate's illumination is that of fields of about 320 x 400 px, "
        "so its illumination was not corrected"
    )
    assert faults(outcome.screen) == {"Week1_001/C04/s3": ("ok", "not-corrected", reason)}

    def patches_of(screen: Screen, corrected: bool) -> np.ndarray:
        rows = np.flatnonzero((screen.cells()[schema.FIELD] != "Week1_001/C04/s3") == corrected)
        return PatchStore(screen.patches_path).read(rows)

    assert np.array_equal(patches_of(plain, False), patches_of(outcome.screen, False))
    assert not np.array_equal(patches_of(plain, True), patches_of(outcome.screen, True))
    words = ["ingest", "bbbc021", str(raw.folder), str(tmp_path / "b.screen"), "--illumination", "plate"]
    ended = CliRunner().invoke(console.app, [*words, "--workers", "1"])
    assert ended.exit_code == 0
    assert "1 not-corrected\n'cytovae info" in ended.stdout


def test_the_most_common_size_of_a_plate_is_corrected_though_its_first_field_is_odd(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", plates=("Week1_001",), sites=4)
    for channel in range(3):
        path = raw.file("B02", channel, site=1)
        tifffile.imwrite(path, tifffile.imread(path)[:-16])
    outcome = ingest(raw, tmp_path / "a.screen", assembly.IngestOptions(illumination="plate"))
    said = faults(outcome.screen)
    assert list(said) == ["Week1_001/B02/s1"]
    assert "has 304 x 400 px and its plate's illumination is that of fields of about 320 x 400" in said.popitem()[1][2]


def test_a_plate_with_too_few_fields_is_said_once(raw: Raw, tmp_path: Path) -> None:
    for channel in range(3):
        path = raw.file("C04", channel)
        tifffile.imwrite(path, tifffile.imread(path)[:-16])
    outcome = ingest(raw, tmp_path / "a.screen", assembly.IngestOptions(illumination="plate"))
    assert outcome.codes == {"not-corrected": 6}
    assert {r for _, _, r in faults(outcome.screen).values()} == {
        "of the fields read of its plate fewer than 8 are usable and of one size, so its illumination was not corrected"
    }
