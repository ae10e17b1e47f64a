"""A screen goes out to other tools with its provenance, and its inventory says what is in it and what is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytovae import schema
from cytovae.config import ScreenRecord
from cytovae.errors import DependencyError, ScreenError
from cytovae.ingest import assembly, exports, inventory, layouts
from cytovae.patches import PatchStore
from cytovae.screen import Screen, provenance, read_provenance
from tests.ingest.drawn import Raw


@pytest.fixture
def screen(raw: Raw, tmp_path: Path) -> Screen:
    raw.file("C04", 2).unlink()
    layout = layouts.bbbc021.read(raw.folder)
    return assembly.ingest_fields(
        layout, raw.folder, tmp_path / "a.screen", ScreenRecord("tiny", layout.channels, source="drawn")
    ).screen


@pytest.fixture
def embedded(screen: Screen) -> Screen:
    ids = screen.cells()[schema.CELL_ID].tolist()[::-1]
    values = np.arange(len(ids) * 5, dtype=np.float32).reshape(-1, 5)
    screen.write_embeddings("m", ids, values, provenance("embed", inputs={"cells": screen.cells_digest()}))
    return screen


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cytovae", *map(str, words)], capture_output=True, text=True)


def test_exported_crops_come_back_as_the_same_screen(screen: Screen, tmp_path: Path) -> None:
    assert exports.to_crops(screen, tmp_path / "out") == 30
    with np.load(tmp_path / "out" / "cells.npz") as held:
        assert held["images"].dtype == np.uint16
    layout = layouts.crops.read(tmp_path / "out" / "cells.npz", tmp_path / "out" / "cells.csv", screen.record.channels)
    back = assembly.ingest_crops(layout, tmp_path / "b.screen", screen.record).screen
    assert back.cells().equals(screen.cells())
    rows = np.arange(30)
    assert np.array_equal(PatchStore(back.patches_path).read(rows), PatchStore(screen.patches_path).read(rows))
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert record["inputs"]["cells"] == screen.cells_digest()
    assert record["config"]["screen"]["source"] == "drawn"


def test_parquet_joins_features_to_their_cells(
    embedded: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_BLOCK", 7)
    exports.to_parquet(embedded, tmp_path / "cells.parquet", "m")
    table = pd.read_parquet(tmp_path / "cells.parquet")
    assert schema.feature_columns(table) == ["z000", "z001", "z002", "z003", "z004"]
    assert table[schema.CELL_ID].tolist() == embedded.cells()[schema.CELL_ID].tolist()[::-1]
    assert np.array_equal(table[schema.feature_columns(table)].to_numpy(), np.arange(150).reshape(30, 5))
    by_id = table.set_index(schema.CELL_ID)[schema.WELL]
    assert by_id.equals(embedded.cells().set_index(schema.CELL_ID)[schema.WELL].loc[by_id.index])
    assert read_provenance(tmp_path / "cells.parquet")["config"]["model"] == "m"


def test_parquet_without_a_model_is_the_table_of_cells(screen: Screen, tmp_path: Path) -> None:
    exports.to_parquet(screen, tmp_path / "cells.parquet")
    assert pd.read_parquet(tmp_path / "cells.parquet").equals(screen.cells())


def test_anndata_holds_embedding_cells_and_provenance(embedded: Screen, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    exports.to_anndata(embedded, tmp_path / "m.h5ad", "m")
    data = anndata.read_h5ad(tmp_path / "m.h5ad")
    cells, features = embedded.embeddings("m")
    assert np.array_equal(data.X, features)
    assert data.obs_names.tolist() == cells[schema.CELL_ID].tolist()
    assert data.obs[schema.TREATMENT].tolist() == cells[schema.TREATMENT].tolist()
    assert json.loads(data.uns["cytovae"])["inputs"]["cells"] == embedded.cells_digest()


def test_anndata_names_the_extra_that_is_missing(embedded: Screen, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(DependencyError, match=r"pip install 'cytovae\[anndata\]'"):
        exports.to_anndata(embedded, tmp_path / "m.h5ad", "m")


def test_an_embedding_that_is_not_there_cannot_be_exported(screen: Screen, tmp_path: Path) -> None:
    with pytest.raises(ScreenError, match="no embeddings of 'm'"):
        exports.to_parquet(screen, tmp_path / "cells.parquet", "m")
    assert not (tmp_path / "cells.parquet").exists()


def test_the_inventory_counts_what_the_tables_hold(embedded: Screen) -> None:
    held = inventory.take(embedded)
    cells = embedded.cells()
    assert held["cells"] == len(cells) == 30
    assert held["control_cells"] == (cells[schema.COMPOUND] == "DMSO").sum()
    assert held["mechanisms"] == {"Microtubule stabilizers": 12, "Protein synthesis": 6}
    assert held["fields"] == {"ok": 5, "refused": 1}
    assert held["models"] == [{"name": "m", "cells": 30, "fits_these_cells": True}]
    [problem] = held["problems"]
    assert problem["code"] == "missing-file"
    assert problem["field"] == "Week1_001/C04/s1"
    assert any("w4" in file for file in problem["files"])
    assert any("no profiles" in said for said in held["missing"])
    json.dumps(held, allow_nan=False)


def test_the_inventory_sees_what_does_not_fit(embedded: Screen) -> None:
    index = embedded.embeddings_path("m") / "index.parquet"
    pd.read_parquet(index).to_parquet(index)  # its provenance is gone
    assert any("embeddings of m are of other cells" in said for said in inventory.take(embedded)["missing"])
    next(embedded.patches_path.glob("part-*.npy")).unlink()  # of the digests beside it nothing depends
    with pytest.raises(ScreenError, match=r"holds \d+ patches for 30 cells"):
        inventory.take(embedded)


def test_info_names_every_fault_with_file_and_reason(screen: Screen) -> None:
    shown = run("info", screen.path)
    assert shown.returncode == 0
    assert "missing-file: 1" in shown.stdout
    assert "Week1_001/C04/s1 [refused] the Actin file Week1/Week1_001/Week1_001_C04_s1_w4" in shown.stdout
    assert "missing: no embeddings: run 'cytovae embed'" in shown.stdout
    assert json.loads(run("info", screen.path, "--json").stdout)["codes"] == {"missing-file": 1}


def test_export_does_not_replace_what_is_there(screen: Screen, tmp_path: Path) -> None:
    (tmp_path / "out.parquet").write_text("mine")
    kept = run("export", screen.path, "--to", "parquet", tmp_path / "out.parquet", "--json")
    assert json.loads(kept.stdout) == {"out": str(tmp_path / "out.parquet"), "already": True}
    assert (tmp_path / "out.parquet").read_text() == "mine"
    done = run("export", screen.path, "--to", "parquet", tmp_path / "out.parquet", "--overwrite", "--json")
    assert json.loads(done.stdout)["cells"] == 30
    assert run("export", screen.path, "--to", "anndata", tmp_path / "x").returncode == 2
    assert run("export", screen.path, "--to", "tarot", tmp_path / "x").returncode == 2


def test_the_ingest_verbs_say_what_they_made(raw: Raw, tmp_path: Path) -> None:
    raw.file("B03", 1).write_bytes(b"")
    words = ("ingest", "bbbc021", raw.folder, tmp_path / "b.screen", "--workers", "1")
    made = run(*words, "--json")
    document = json.loads(made.stdout)
    assert document.pop("nucleus_width_px") == pytest.approx(32, abs=2)
    assert document == {
        "screen": str(tmp_path / "b.screen"),
        "already": False,
        "cells": 30,
        "blank_cells": 0,
        "border_cells_left_out": 0,
        "fields": {"ok": 5, "refused": 1},
        "codes": {"unreadable-file": 1},
        "without_control": "",
    }
    again = run(*words)
    assert "is already there; --overwrite makes it again" in again.stderr
    assert Screen.open(tmp_path / "b.screen").record.licence == "CC BY-NC-SA 3.0"


def test_columns_of_ones_own_go_on_into_every_export(raw: Raw, tmp_path: Path) -> None:
    def add(table: pd.DataFrame) -> pd.DataFrame:
        lines = ["A549", "U2OS"] * (len(table) // 2)
        return table.assign(line=lines, hours=["24"] * len(table))

    raw.edit_table(add)
    own = ["Metadata_cell_line", "Metadata_time"]
    design = layouts.Design({"Metadata_cell_line": "line", "Metadata_time": "hours"}, None, ("compound", "cell_line"))
    layout = layouts.bbbc021.read(raw.folder, design=design)
    screen = assembly.ingest_fields(
        layout, raw.folder, tmp_path / "o.screen", ScreenRecord("o", layout.channels)
    ).screen
    cells = screen.cells()
    assert set(cells["Metadata_cell_line"]) == {"A549", "U2OS"}
    assert set(cells["Metadata_time"]) == {"24"}
    values = np.arange(2 * len(cells), dtype=np.float32).reshape(-1, 2)
    made = provenance("embed", inputs={"cells": screen.cells_digest()})
    screen.write_embeddings("m", cells[schema.CELL_ID].tolist(), values, made)
    exports.to_parquet(screen, tmp_path / "o.parquet", "m")
    exports.to_crops(screen, tmp_path / "crops")
    read = [pd.read_parquet(tmp_path / "o.parquet"), pd.read_csv(tmp_path / "crops" / "cells.csv", dtype=str)]
    anndata = pytest.importorskip("anndata")
    exports.to_anndata(screen, tmp_path / "o.h5ad", "m")
    read.append(anndata.read_h5ad(tmp_path / "o.h5ad").obs.reset_index())
    for table in read:
        assert table[own].astype(str).equals(cells[own].astype(str))


def test_the_gallerys_folders_hold_what_pycytominer_reads(embedded: Screen, tmp_path: Path) -> None:
    from cytovae.profiling import study, whiten

    pycytominer = pytest.importorskip("pycytominer")
    with pytest.raises(ScreenError, match="run 'cytovae profile' first"):
        exports.to_cpg(embedded, tmp_path / "out", "m")
    assert not (tmp_path / "out").exists()
    study.profile(embedded, "m", "mean", whiten.Options("none"))
    out = tmp_path / "out"
    assert exports.to_cpg(embedded, out, "m") == 30
    cells, values = embedded.embeddings("m")
    names = embedded.feature_names("m")
    back = pd.concat(
        [pd.read_parquet(p) for p in sorted((out / "workspace_dl" / "embeddings" / "m").rglob("*.parquet"))]
    )
    order = cells.set_index(schema.CELL_ID).index.get_indexer(back[schema.CELL_ID])
    assert len(back) == len(cells) and np.array_equal(back[names].to_numpy(), values[order])
    one = out / "workspace_dl" / "embeddings" / "m" / "Week1" / "Week1_001" / "B02-1" / "embedding.parquet"
    assert set(pd.read_parquet(one)[schema.WELL]) == {"B02"}
    wells = pd.read_parquet(out / "workspace_dl" / "profiles" / "m" / "Week1" / "Week1_001" / "Week1_001.parquet")
    theirs = pycytominer.aggregate(
        back[back[schema.PLATE] == "Week1_001"],
        strata=[schema.PLATE, schema.WELL],
        features=names,
        operation="mean",
    )
    assert theirs[schema.WELL].tolist() == wells[schema.WELL].tolist()
    np.testing.assert_allclose(theirs[names].to_numpy(float), wells[names].to_numpy(float), rtol=1e-6)
    consensus = pd.read_parquet(out / "workspace_dl" / "consensus" / "m" / "consensus.parquet")
    assert set(consensus[schema.TREATMENT]) <= set(cells[schema.TREATMENT])
    maps = out / "workspace" / "metadata" / "platemaps" / "Week1"
    listed = pd.read_csv(maps / "barcode_platemap.csv")
    assert listed.to_dict("list") == {"Assay_Plate_Barcode": ["Week1_001"], "Plate_Map_Name": ["Week1_001"]}
    plate_map = pd.read_csv(maps / "platemap" / "Week1_001.txt", sep="\t")
    annotated = pycytominer.annotate(
        wells[[schema.PLATE, schema.WELL, *names]], plate_map, join_on=["Metadata_well_position", schema.WELL]
    )
    said = dict(zip(annotated[schema.WELL], annotated[schema.COMPOUND], strict=True))
    assert said == dict(zip(wells[schema.WELL], wells[schema.COMPOUND], strict=True))
    provenance_of = json.loads((out / "provenance.json").read_text())
    assert provenance_of["inputs"]["cells"] == embedded.cells_digest()


def test_the_gallerys_load_data_is_read_again(embedded: Screen, raw: Raw, tmp_path: Path) -> None:
    from cytovae.profiling import study, whiten

    study.profile(embedded, "m", "mean", whiten.Options("none"))
    exports.to_cpg(embedded, tmp_path / "out", "m")
    table = tmp_path / "out" / "workspace" / "load_data_csv" / "Week1" / "Week1_001" / "load_data.csv"
    read = layouts.loaddata.read(table, {c: f"Orig{c}" for c in embedded.record.channels}, images=raw.folder)
    ours = embedded.fields().query("Metadata_Plate == 'Week1_001' and Metadata_CellCount > 0")
    assert read.fields["path_DNA"].tolist() == ours["path_DNA"].tolist()
