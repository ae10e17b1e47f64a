"""The collection is fetched from a local server that breaks off, lies, and comes back."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytovae.config import ScreenRecord
from cytovae.errors import IngestError
from cytovae.ingest import assembly, fetch, layouts
from tests.ingest.drawn import Raw


class Source:
    """A web server with files in memory; it can break transfers off and refuse ranges."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.break_after: dict[str, list[int]] = {}  # name -> bytes sent before each break, used up
        self.fail_first: dict[str, int] = {}  # name -> how many 503 answers first
        self.ranges = True
        self.asked: list[tuple[str, str | None]] = []
        source = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                name = self.path.rsplit("/", 1)[-1]
                wanted = self.headers.get("Range")
                source.asked.append((name, wanted))
                if source.fail_first.get(name, 0) > 0:
                    source.fail_first[name] -= 1
                    self.send_error(503)
                    return
                if name not in source.files:
                    self.send_error(404)
                    return
                data = source.files[name]
                tag = '"' + hashlib.sha256(data).hexdigest()[:16] + '"'
                start = 0
                if wanted and source.ranges and self.headers.get("If-Range") == tag:
                    start = int(wanted.removeprefix("bytes=").rstrip("-"))
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                else:
                    self.send_response(200)
                self.send_header("ETag", tag)
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                breaks = source.break_after.get(name, [])
                end = start + breaks.pop(0) if breaks else len(data)
                self.wfile.write(data[start:end])

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/bbbc/BBBC021"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def archive(raw: Raw, plate: str, leave_out: str = "-") -> bytes:
    """A plate's images as the collection packs them: one folder, named by the plate."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as packed:
        for path in sorted(raw.folder.glob(f"*/{plate}/*.tif")):
            if leave_out not in path.name:
                packed.write(path, f"{plate}/{path.name}")
        packed.writestr(f"{plate}/Thumbs.db", b"not an image")
    return held.getvalue()


@pytest.fixture
def source(raw: Raw) -> Iterator[Source]:
    served = Source()
    served.files = {
        "BBBC021_v1_image.csv": raw.image_table.read_bytes(),
        "BBBC021_v1_moa.csv": raw.moa_table.read_bytes(),
        "BBBC021_v1_images_Week1_001.zip": archive(raw, "Week1_001"),
        "BBBC021_v1_images_Week2_002.zip": archive(raw, "Week2_002"),
    }
    yield served
    served.close()


def images(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.tif")}


def test_what_is_fetched_is_laid_out_as_ingest_reads_it(raw: Raw, source: Source, tmp_path: Path) -> None:
    done = fetch.bbbc021(tmp_path / "got", base_url=source.url)
    assert done.plates == ("Week1_001", "Week2_002")
    assert done.images == 18
    assert images(tmp_path / "got") == images(raw.folder)
    assert not list((tmp_path / "got").glob("*.zip*"))
    layout = layouts.bbbc021.read(tmp_path / "got")
    outcome = assembly.ingest_fields(
        layout, tmp_path / "got", tmp_path / "a.screen", ScreenRecord("s", layout.channels)
    )
    assert outcome.n_cells == 36


def test_a_broken_transfer_goes_on_where_it_stopped(raw: Raw, source: Source, tmp_path: Path) -> None:
    name = "BBBC021_v1_images_Week1_001.zip"
    source.break_after[name] = [100_000, 200_000]
    seen: list[tuple[int, int]] = []
    fetch.bbbc021(
        tmp_path / "got",
        ["Week1_001"],
        base_url=source.url,
        wait_s=0,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [wanted for asked, wanted in source.asked if asked == name] == [None, "bytes=100000-", "bytes=300000-"]
    assert seen[-1] == (len(source.files[name]),) * 2
    got = images(tmp_path / "got")
    assert got == {k: v for k, v in images(raw.folder).items() if "Week1_001" in k}


def test_a_stopped_run_is_gone_on_with_by_the_next(source: Source, tmp_path: Path) -> None:
    name = "BBBC021_v1_images_Week1_001.zip"
    source.break_after[name] = [50_000] + [0] * 9
    with pytest.raises(IngestError, match=r"could not be fetched in 5 tries .* run the same command to go on"):
        fetch.bbbc021(tmp_path / "got", ["Week1_001"], base_url=source.url, wait_s=0)
    source.break_after.clear()
    source.asked.clear()
    fetch.bbbc021(tmp_path / "got", ["Week1_001"], base_url=source.url)
    assert source.asked == [(name, "bytes=50000-")]


def test_two_versions_of_a_file_are_never_mixed(raw: Raw, source: Source, tmp_path: Path) -> None:
    name = "BBBC021_v1_images_Week1_001.zip"
    source.break_after[name] = [50_000] + [0] * 9
    with pytest.raises(IngestError):
        fetch.bbbc021(tmp_path / "got", ["Week1_001"], base_url=source.url, wait_s=0)
    source.break_after.clear()
    source.files[name] = archive(raw, "Week1_001", leave_out="C04_s1_w4")
    done = fetch.bbbc021(tmp_path / "got", ["Week1_001"], base_url=source.url)
    assert done.images == 8
    assert [Path(a).name[:21] for a in done.absent] == ["Week1_001_C04_s1_w400"]


def test_a_source_without_ranges_is_read_from_the_start(raw: Raw, source: Source, tmp_path: Path) -> None:
    source.ranges = False
    source.break_after["BBBC021_v1_images_Week1_001.zip"] = [100_000]
    source.fail_first["BBBC021_v1_images_Week1_001.zip"] = 1
    fetch.bbbc021(tmp_path / "got", ["Week1_001"], base_url=source.url, wait_s=0)
    assert len(images(tmp_path / "got")) == 9


def test_a_finished_fetch_asks_for_nothing(source: Source, tmp_path: Path) -> None:
    fetch.bbbc021(tmp_path / "got", base_url=source.url)
    source.asked.clear()
    again = fetch.bbbc021(tmp_path / "got", base_url=source.url)
    assert source.asked == []
    assert again.already == again.plates
    next((tmp_path / "got").rglob("*.tif")).unlink()
    fetch.bbbc021(tmp_path / "got", base_url=source.url)
    assert len(source.asked) == 1
    source.asked.clear()
    fetch.bbbc021(tmp_path / "got", base_url=source.url, overwrite=True)
    assert len(source.asked) == 4


def test_an_archive_with_another_digest_is_refused(source: Source, tmp_path: Path) -> None:
    name = "BBBC021_v1_images_Week1_001.zip"
    right = hashlib.sha256(source.files[name]).hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  {name}\n")
    wrong = fetch.read_checksums(tmp_path / "SHA256SUMS")
    with pytest.raises(IngestError, match=f"has sha256 {right}, not 0000"):
        fetch.bbbc021(tmp_path / "got", ["Week1_001"], base_url=source.url, sha256=wrong)
    assert not list((tmp_path / "got").glob("*.zip*"))
    assert fetch.bbbc021(tmp_path / "got", ["Week1_001"], base_url=source.url, sha256={name: right}).images == 9
    assert json.loads((tmp_path / "got" / "fetched.json").read_text())["Week1_001"]["sha256"] == right


def test_a_damaged_archive_is_removed_and_said(source: Source, tmp_path: Path) -> None:
    name = "BBBC021_v1_images_Week1_001.zip"
    data = bytearray(source.files[name])
    data[2000:2100] = np.random.default_rng(0).bytes(100)
    source.files[name] = bytes(data)
    with pytest.raises(IngestError, match=r"is damaged .* was removed; run the same command again"):
        fetch.bbbc021(tmp_path / "got", ["Week1_001"], base_url=source.url)
    assert not (tmp_path / "got" / name).exists()


def test_a_plate_or_a_file_that_is_not_there_is_named(source: Source, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="no plate 'Week1_01'; did you mean 'Week1_001'"):
        fetch.bbbc021(tmp_path / "got", ["Week1_01"], base_url=source.url)
    del source.files["BBBC021_v1_images_Week2_002.zip"]
    with pytest.raises(IngestError, match=r"Week2_002.zip cannot be fetched: 404"):
        fetch.bbbc021(tmp_path / "got", base_url=source.url)
    with pytest.raises(IngestError, match="no http or https address"):
        fetch.download("file:///etc/passwd", tmp_path / "x")


def test_a_page_in_place_of_the_table_is_refused(source: Source, tmp_path: Path) -> None:
    source.files["BBBC021_v1_image.csv"] = b"<html>\n<p>moved</p>\n"
    with pytest.raises(IngestError, match="is not the collection's image table"):
        fetch.bbbc021(tmp_path / "got", base_url=source.url)


HOSTILE = ["/etc", "../..", "Week1/../../up", "C:\\Windows", "C:up", "\\\\host\\share", "..\\up", "~/../.."]


@pytest.mark.parametrize("folder", HOSTILE)
def test_a_table_that_leads_outside_the_folder_is_refused(source: Source, tmp_path: Path, folder: str) -> None:
    name = "BBBC021_v1_image.csv"
    table = pd.read_csv(io.BytesIO(source.files[name]))
    source.files[name] = table.assign(Image_PathName_Actin=folder).to_csv(index=False).encode()
    before = set(tmp_path.rglob("*"))
    with pytest.raises(IngestError, match=r"image.csv names .* which leads outside .*got; nothing was written there"):
        fetch.bbbc021(tmp_path / "got", ["Week1_001"], base_url=source.url)
    left = {p.relative_to(tmp_path).as_posix() for p in set(tmp_path.rglob("*")) - before}
    assert left == {"got", "got/BBBC021_v1_moa.csv"}


def test_a_plate_or_a_file_name_that_leads_outside_is_refused(source: Source, tmp_path: Path) -> None:
    name = "BBBC021_v1_image.csv"
    table = pd.read_csv(io.BytesIO(source.files[name]))
    for hostile in ({"Image_Metadata_Plate_DAPI": "x/../../up"}, {"Image_FileName_DAPI": "../../../up.tif"}):
        source.files[name] = table.assign(**hostile).to_csv(index=False).encode()
        with pytest.raises(IngestError, match="which leads outside"):
            fetch.bbbc021(tmp_path / "got", base_url=source.url)
    source.files[name] = table.assign(Image_FileName_DAPI=None).to_csv(index=False).encode()
    with pytest.raises(IngestError, match=r"no row names a plate, .*; the table, fetched just now, was removed"):
        fetch.bbbc021(tmp_path / "got", base_url=source.url)


def test_an_incomplete_row_is_passed_over_and_a_table_that_was_there_stays(source: Source, tmp_path: Path) -> None:
    own, moa = tmp_path / "got" / "BBBC021_v1_image.csv", tmp_path / "got" / "BBBC021_v1_moa.csv"
    own.parent.mkdir()
    lines = source.files[own.name].decode().splitlines()
    own.write_text("\n".join([*lines, "," * lines[0].count(","), "1,2,only"]) + "\n")
    assert fetch.bbbc021(own.parent, ["Week1_001"], base_url=source.url).images == 9
    good = own.read_text()
    for wrong in ("plate\n1\n", own.read_text().replace("Week2/Week2_002", "../..")):
        own.write_text(wrong)
        source.asked.clear()
        with pytest.raises(IngestError, match=r"(no column '[^']*'|nothing was written there: take .* trust)$"):
            fetch.bbbc021(own.parent, base_url=source.url)
        assert own.read_text() == wrong
        assert source.asked == []
    own.write_text(good)
    assert moa.exists()
    assert fetch.bbbc021(own.parent, ["Week1_001"], base_url=source.url).already == ("Week1_001",)


@pytest.mark.parametrize("member", ["/tmp/up.tif", "../up.tif", "Week1_001/../../up.tif", "C:\\up.tif", "..\\up.tif"])
def test_an_archive_that_leads_outside_the_folder_is_refused(source: Source, tmp_path: Path, member: str) -> None:
    name = "BBBC021_v1_images_Week1_001.zip"
    held = io.BytesIO(source.files[name])
    with zipfile.ZipFile(held, "a") as packed:
        packed.writestr(member, b"hostile")
    source.files[name] = held.getvalue()
    with pytest.raises(IngestError, match=r"Week1_001.zip names .*up.tif', which leads outside"):
        fetch.bbbc021(tmp_path / "got", ["Week1_001"], base_url=source.url)
    assert images(tmp_path / "got") == {}


def test_links_in_an_archive_or_out_of_the_folder_are_not_followed(raw: Raw, source: Source, tmp_path: Path) -> None:
    (tmp_path / "got").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "got" / "Week1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IngestError, match=r"got/Week1/.*tif leads outside .*got by a link, to .*elsewhere/"):
        fetch.bbbc021(tmp_path / "got", ["Week1_001"], base_url=source.url)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (tmp_path / "got" / "Week1").unlink()
    link = zipfile.ZipInfo(f"Week1_001/{raw.file('B02').name}")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as packed:
        packed.writestr(link, b"/etc/passwd")
    source.files["BBBC021_v1_images_Week1_001.zip"] = held.getvalue()
    assert not list((tmp_path / "got").glob("*.zip"))  # refused before anything was sent
    with pytest.raises(IngestError, match=r"Week1_001.zip holds 'Week1_001/.*tif' as a link and not as an image"):
        fetch.bbbc021(tmp_path / "got", ["Week1_001"], base_url=source.url)
    assert images(tmp_path / "got") == {}
    (tmp_path / "linked").symlink_to(tmp_path / "got")
    assert fetch.bbbc021(tmp_path / "linked", ["Week2_002"], base_url=source.url).images == 9
