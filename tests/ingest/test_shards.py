"""A screen made in shards, or on a cluster, is that of one process byte for byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cytovae import locks
from cytovae.cli import console, data  # noqa: F401  (data registers its verbs)
from cytovae.cluster import Shard
from cytovae.config import ScreenRecord
from cytovae.errors import IngestError
from cytovae.ingest import assembly, layouts
from cytovae.ingest.illumination import Correction
from cytovae.patches import Storage
from cytovae.screen import Screen
from tests.ingest.drawn import Raw, write_raw
from tests.ingest.test_assembly import contents


def ingest(raw: Raw, path: Path, kept: Storage = Storage.STORED, **more) -> assembly.Outcome | None:
    layout = layouts.bbbc021.read(raw.folder)
    options = assembly.IngestOptions(illumination=Correction.PLATE, patches=kept)
    return assembly.ingest_fields(layout, raw.folder, path, ScreenRecord("s", layout.channels), options, **more)


@pytest.mark.parametrize("kept", list(Storage))
def test_shards_in_any_order_make_the_screen_of_one_process_byte_for_byte(tmp_path: Path, kept: Storage) -> None:
    raw = write_raw(tmp_path / "raw", sites=3)
    raw.file("B03", 2).unlink()
    ingest(raw, tmp_path / "one" / "s", kept)
    path = tmp_path / "many" / "s"
    for number in (3, 1):
        assert ingest(raw, path, kept, shard=Shard(number, 3)) is None
    assert not path.exists()
    with pytest.raises(IngestError, match=r"parts of .* are not made yet, the first being 2"):
        assembly.merge(path)
    ingest(raw, path, kept, shard=Shard(2, 3))
    ingest(raw, path, kept, shard=Shard(2, 3))  # a job that was run twice
    assembly.merge(path)
    assert contents(path) == contents(tmp_path / "one" / "s")
    assert sorted(p.name for p in path.parent.iterdir()) == ["s"]
    killed = os.fork()  # a merge that is killed in its last moment leaves its lock
    if killed == 0:
        with locks.held(path, "ingest"):
            os._exit(0)
    os.waitpid(killed, 0)
    assert locks.abandoned(path)
    assert assembly.merge(path) is None
    assert sorted(p.name for p in path.parent.iterdir()) == ["s"]
    with pytest.raises(IngestError, match="nothing to merge"):
        assembly.merge(path.with_name("t"))


def test_shards_of_other_options_or_of_files_that_changed_are_refused(tmp_path: Path) -> None:
    raw, path = write_raw(tmp_path / "raw", sites=3), tmp_path / "s"
    ingest(raw, path, shard=Shard(1, 2))
    with pytest.raises(IngestError, match="was begun with other data or options"):
        ingest(raw, path, Storage.ON_DEMAND, shard=Shard(2, 2))
    file = raw.file("B02")
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(IngestError, match=r"1 image file changed .* since this shard was begun"):
        ingest(raw, path, shard=Shard(1, 2))


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_makes_the_screen_of_one_process_byte_for_byte(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", sites=3)
    ingest(raw, tmp_path / "one")
    ingest(raw, tmp_path / "many", workers="local:2")
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


def test_the_verbs_say_what_is_left_to_do(raw: Raw, tmp_path: Path) -> None:
    words = ["ingest", "bbbc021", str(raw.folder), str(tmp_path / "s"), "--workers", "1"]
    for number in (1, 2):
        ended = CliRunner().invoke(console.app, [*words, "--shard", f"{number}/2"], catch_exceptions=False)
        assert ended.exit_code == 0 and "'cytovae merge SCREEN' ends it" in ended.output
    ended = CliRunner().invoke(console.app, ["merge", str(tmp_path / "s")], catch_exceptions=False)
    assert ended.exit_code == 0 and len(Screen.open(tmp_path / "s").cells()) == 36
    ended = CliRunner().invoke(console.app, [*words, "--shard", "1/2", "--overwrite"])
    assert ended.exit_code == 2


@pytest.mark.parametrize("kept", list(Storage))
def test_a_merge_that_ended_while_it_tidied_up_takes_nothing_from_the_screen(
    tmp_path: Path, kept: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, path = write_raw(tmp_path / "raw", sites=1), tmp_path / "many" / "s"
    ingest(raw, path, kept, shard=Shard(1, 1))
    with monkeypatch.context() as killed:
        killed.setattr(assembly, "put_away", lambda work: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            assembly.merge(path)
    before = contents(path)
    again = assembly.merge(path)
    assert again and again.already
    with monkeypatch.context() as meanwhile:  # another ended between the look and the lock
        meanwhile.setattr(assembly, "is_sharded", lambda path: True)
        again = assembly.merge(path)
    assert again and again.already
    assert contents(path) == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["s"]
