"""Images named by address are fetched whole, once, and found by the same table; illumination files divide them."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
import tifffile
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from cytovae import schema
from cytovae.cli import console, data  # noqa: F401  (data registers its verbs)
from cytovae.config import ScreenRecord
from cytovae.errors import ConfigError, DependencyError, IngestError, TableError
from cytovae.ingest import assembly, joining, layouts, remote
from cytovae.ingest.illumination import Correction
from cytovae.patches import PatchStore, Storage
from tests.ingest.drawn import SHAPE, Raw
from tests.ingest.test_layouts import COLUMNS, loaddata

CHANNELS = ",".join(f"{c}={column}" for c, column in COLUMNS.items())


class Quiet(http.server.SimpleHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()


@pytest.fixture
def site(raw: Raw) -> Iterator[str]:
    """The raw screen's folder behind an http server."""
    Quiet.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(raw.folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def lit(raw: Raw) -> pd.DataFrame:
    """The table with illumination files, another for each channel, and one that differs from plate to plate."""
    table, y = loaddata(raw), np.linspace(1, 2, SHAPE[0])[:, None] * np.ones(SHAPE)
    for k, column in enumerate(COLUMNS.values()):
        for p, plate in enumerate(("Week1_001", "Week2_002")):
            (raw.folder / "illum" / plate).mkdir(parents=True, exist_ok=True)
            np.save(raw.folder / "illum" / plate / f"{plate}_{column}.npy", (y if k else y.T[0, 0] + p * y) ** (k + 1))
        name = column.replace("Orig", "Illum")
        table[f"FileName_{name}"] = table["Metadata_Plate"] + f"_{column}.npy"
        table[f"PathName_{name}"] = "illum/" + table["Metadata_Plate"]
    return table


def addressed(table: pd.DataFrame, site: str, name: str) -> pd.DataFrame:
    """The same files by address: a column of addresses, or, as JUMP writes them, a folder that is an address."""
    table = table.copy()
    for column in [c.removeprefix("FileName_") for c in table if c.startswith("FileName_")]:
        folder, file = table.pop(f"PathName_{column}"), table.pop(f"FileName_{column}")
        if name == "URL":
            table[f"URL_{column}"] = site + "/" + folder + "/" + file
        else:
            table[f"PathName_{column}"], table[f"FileName_{column}"] = site + "/" + folder + "/", file
    return table


def run(*words: object) -> dict:
    ended = CliRunner().invoke(console.app, [str(word) for word in (*words, "--json")], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


def patches(path: Path) -> np.ndarray:
    store = PatchStore(path / "patches")
    return store.read(np.arange(len(store)))


def test_a_gzipped_table_of_addresses_becomes_a_screen(raw: Raw, site: str, tmp_path: Path) -> None:
    plain = lit(raw)
    plain.to_csv(raw.folder / "plain.csv", index=False)
    table = tmp_path / "load_data.csv.gz"
    addressed(plain, site, "PathName").to_csv(table, index=False)
    addressed(plain, site, "URL").to_csv(tmp_path / "urls.csv", index=False)
    assert layouts.loaddata.addresses(table, COLUMNS) == layouts.loaddata.addresses(tmp_path / "urls.csv", COLUMNS)
    with pytest.raises(TableError, match="http://; fetch them first with 'cytovae fetch loaddata'"):
        layouts.loaddata.read(table, COLUMNS, images=tmp_path)
    done = run("fetch", "loaddata", table, tmp_path / "images", "--channels", CHANNELS)
    assert (done["files"], done["already"], done["absent"]) == (6 * 3 + 2 * 3, 0, [])
    lost = next((tmp_path / "images").glob("127*/Week1/*/*_w1*.tif"))
    content = lost.read_bytes()
    lost.unlink()
    Quiet.asked.clear()
    assert run("fetch", "loaddata", table, tmp_path / "images", "--channels", CHANNELS)["already"] == 23
    assert len(Quiet.asked) == 1 and lost.read_bytes() == content
    words = ("--channels", CHANNELS, "--illumination", "files", "--workers", 1)
    run("ingest", "loaddata", table, tmp_path / "a.screen", "--images", tmp_path / "images", *words)
    run("ingest", "loaddata", raw.folder / "plain.csv", tmp_path / "b.screen", *words)
    assert np.array_equal(patches(tmp_path / "a.screen"), patches(tmp_path / "b.screen"))
    read = [
        layouts.loaddata.read(t, COLUMNS, images=tmp_path / "images", illumination=True)
        for t in (table, tmp_path / "urls.csv")
    ]
    assert read[0].fields["light_DNA"].equals(read[1].fields["light_DNA"])


def test_what_is_not_there_is_said_and_the_rest_comes(raw: Raw, site: str, tmp_path: Path) -> None:
    table = addressed(loaddata(raw), site, "URL")
    table.loc[2, "URL_OrigDNA"] = f"{site}/nothing/here.tif"
    table.to_csv(tmp_path / "t.csv", index=False)
    done = run("fetch", "loaddata", tmp_path / "t.csv", tmp_path / "images", "--channels", CHANNELS)
    assert done["absent"] == [f"{site}/nothing/here.tif"] and done["files"] == 18
    layout = layouts.loaddata.read(tmp_path / "t.csv", COLUMNS, images=tmp_path / "images")
    assert layout.fields["status"].value_counts().to_dict() == {"ok": 5, "refused": 1}


def test_s3_is_read_anonymously_unless_told(raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    class Bucket(MemoryFileSystem):
        protocol = "s3"
        cachable = False

        def __init__(self, **options: object) -> None:
            opened.append(options)
            super().__init__()

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + path.removeprefix("s3://").strip("/")

    table = loaddata(raw)
    for row in table.itertuples():
        for column in COLUMNS.values():
            place = f"{getattr(row, f'PathName_{column}')}/{getattr(row, f'FileName_{column}')}"
            Bucket().pipe_file(f"s3://cells/jump/{place}", (raw.folder / place).read_bytes())
    addressed(table, "s3://cells/jump", "PathName").to_csv(tmp_path / "t.csv", index=False)
    wanted = layouts.loaddata.addresses(tmp_path / "t.csv", COLUMNS)
    opened.clear()
    monkeypatch.setattr(fsspec, "filesystem", lambda scheme, **options: {"s3": Bucket}[scheme](**options))
    assert remote.fetch(wanted, tmp_path / "images").files == 18
    assert remote.fetch(wanted, tmp_path / "more", signed=True).absent == ()
    assert opened == [{"anon": True}, {}]
    Bucket.store.clear()
    first = tmp_path / "images" / "cells" / "jump" / raw.file("B02").relative_to(raw.folder)
    assert first.read_bytes() == raw.file("B02").read_bytes()
    assert (
        layouts.loaddata.read(tmp_path / "t.csv", COLUMNS, images=tmp_path / "images").fields["status"].eq("ok").all()
    )

    def without(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", without)
    with pytest.raises(DependencyError, match=r"s3:// addresses need the package s3fs: pip install 'cytovae\[cloud\]'"):
        remote.fetch(wanted, tmp_path / "images")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftp://host/b.tif", "begins with ftp://, and images are fetched by s3, http, https alone"),
        ("https://host/../../a.tif", "has no place below a folder"),
        ("https://host", "has no place below a folder"),
        ("https://host/a.tif?x=2", "would lie in the same file"),
    ],
)
def test_addresses_that_lead_astray_are_refused(raw: Raw, tmp_path: Path, address: str, said: str) -> None:
    table = loaddata(raw).assign(URL_OrigDNA=address, URL_OrigTub="https://host/a.tif?x=1")
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises((TableError, IngestError), match=said.replace("?", r"\?")):
        remote.fetch(layouts.loaddata.addresses(tmp_path / "t.csv", COLUMNS), tmp_path / "images")
    assert not (tmp_path / "images").exists()


def test_a_server_that_fails_is_tried_again_and_then_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        tries = 0

        def get_file(self, address: str, path: str) -> None:
            Path(path).write_bytes(b"half")
            Failing.tries += 1
            if Failing.tries != 3:
                raise ConnectionError("reset")

    monkeypatch.setattr(fsspec, "filesystem", lambda *_, **__: Failing())
    place = layouts.loaddata.PurePosixPath("host/a.tif")
    remote.fetch({"https://host/a.tif": place}, tmp_path, wait_s=0)
    assert (tmp_path / place).read_bytes() == b"half" and Failing.tries == 3
    with pytest.raises(IngestError, match=r"https://host/b.tif cannot be fetched: .*reset; what came is kept"):
        remote.fetch({"https://host/b.tif": place.with_name("b.tif")}, tmp_path, wait_s=0)
    assert [p.name for p in (tmp_path / "host").iterdir()] == ["a.tif"]


@pytest.mark.parametrize("kept", list(Storage))
def test_fields_are_divided_by_the_files_the_table_names(raw: Raw, tmp_path: Path, kept: Storage) -> None:
    table = lit(raw)
    table.to_csv(raw.folder / "t.csv", index=False)
    layout = layouts.loaddata.read(raw.folder / "t.csv", COLUMNS, illumination=True)
    options = assembly.IngestOptions(illumination=Correction.FILES, patches=kept)
    path, record = tmp_path / "a.screen", ScreenRecord("s", layout.channels)
    screen = assembly.ingest_fields(layout, raw.folder, path, record, options).screen
    cells, found = screen.cells(), patches(path)
    for row in (0, len(cells) - 1):
        plate, well = cells.loc[row, [schema.PLATE, schema.WELL]]
        y, x = np.rint(cells.loc[row, [schema.CENTER_Y, schema.CENTER_X]].to_numpy(float)).astype(int)
        for k, column in enumerate(COLUMNS.values()):
            light = np.load(raw.folder / "illum" / plate / f"{plate}_{column}.npy")
            even = np.rint(tifffile.imread(raw.file(well, k, plate)) / light)
            assert np.array_equal(found[row, ..., k], even[y - 34 : y + 34, x - 34 : x + 34])
    assert screen.fields()["light_DNA"].nunique() == 2
    held = pd.read_parquet(path / "images.parquet")
    assert held["name"].str.endswith("Week1_001_OrigDNA.npy").sum() == 1
    assert assembly.ingest_fields(layout, raw.folder, path, record, options).already
    np.save(raw.folder / "illum" / "Week1_001" / "Week1_001_OrigDNA.npy", np.full(SHAPE, 3.0))
    with pytest.raises(IngestError, match=r"1 image file changed \(illum/Week1_001/Week1_001_OrigDNA.npy\)"):
        assembly.ingest_fields(layout, raw.folder, path, record, options)


def test_illumination_that_does_not_fit_is_refused_by_name(raw: Raw, tmp_path: Path) -> None:
    table = lit(raw)
    folder = raw.folder / "illum" / "Week1_001"
    for name, light in (("small", np.ones((10, 10))), ("zero", np.zeros(SHAPE)), ("words", np.full(SHAPE, "a"))):
        np.save(folder / f"{name}.npy", light)
    table.loc[:3, "FileName_IllumDNA"] = ["small.npy", "zero.npy", "words.npy", "gone.npy"]
    table.loc[3, "PathName_IllumDNA"] = "illum/Week1_001"
    table.to_csv(raw.folder / "t.csv", index=False)
    layout = layouts.loaddata.read(raw.folder / "t.csv", COLUMNS, illumination=True)
    options, record = assembly.IngestOptions(illumination=Correction.FILES), ScreenRecord("s", layout.channels)
    outcome = assembly.ingest_fields(layout, raw.folder, tmp_path / "a.screen", record, options)
    assert outcome.fields == {"ok": 2, "refused": 4}
    seen = {"size-mismatch": 1, "wrong-illumination": 2, "missing-file": 1}
    assert {code: outcome.codes[code] for code in seen} == seen
    plain = layouts.loaddata.read(raw.folder / "t.csv", COLUMNS)
    with pytest.raises(ConfigError, match="--illumination files is for LoadData tables"):
        assembly.ingest_fields(plain, raw.folder, tmp_path / "b.screen", record, options)
    with pytest.raises(TableError, match="lacks the columns FileName_IllumDNA, FileName_IllumTub"):
        loaddata(raw).to_csv(raw.folder / "t.csv", index=False)
        layouts.loaddata.read(raw.folder / "t.csv", COLUMNS, illumination=True)


def test_illumination_files_that_are_not_used_are_mentioned(raw: Raw, tmp_path: Path) -> None:
    lit(raw).to_csv(raw.folder / "t.csv", index=False)
    words = ["ingest", "loaddata", str(raw.folder / "t.csv"), str(tmp_path / "a.screen"), "--channels", CHANNELS]
    ran = CliRunner().invoke(console.app, [*words, "--workers", "1"])
    assert ran.exit_code == 0 and "--illumination files divides by them" in ran.stderr


@pytest.mark.parametrize("kept", list(Storage))
def test_plates_divided_by_files_are_appended(raw: Raw, tmp_path: Path, kept: Storage) -> None:
    table, options = lit(raw), assembly.IngestOptions(illumination=Correction.FILES, patches=kept)
    screens = []
    for name, rows in (("both", slice(None)), ("a", slice(3)), ("b", slice(3, None))):
        table[rows].to_csv(raw.folder / "t.csv", index=False)
        layout = layouts.loaddata.read(raw.folder / "t.csv", COLUMNS, illumination=True)
        record = ScreenRecord("s", layout.channels)
        screens.append(assembly.ingest_fields(layout, raw.folder, tmp_path / name, record, options).screen)
    both, one, other = screens
    assert joining.append(one, [other]).plates == ("Week2_002",)
    assert np.array_equal(patches(one.path), patches(both.path))
    assert one.fields()["light_DNA"].tolist() == both.fields()["light_DNA"].tolist()
