"""Bundles are exchanged with a hub by revision, verified; the hub is a folder here, and no network is used."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalEntryNotFoundError
from typer.testing import CliRunner

from cytovae.cli import verbs
from cytovae.errors import BundleError
from cytovae.learn import bundle, hub

SHIPPED = bundle.shipped_dir() / "bbbc021-ae"


class FolderHub:
    """What we use of `HfApi`, on a folder: a folder per repository and commit."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[tuple[str, str | None]] = []

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        assert private and exist_ok
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, *, repo_id: str, folder_path: Path, revision: str | None, allow_patterns, commit_message):
        commit = f"c{len(list((self.root / repo_id).iterdir()))}" + "0" * 38
        (self.root / repo_id / commit).mkdir()
        for name in allow_patterns:
            shutil.copy(Path(folder_path) / name, self.root / repo_id / commit / name)
        return SimpleNamespace(oid=commit)

    def repo_info(self, repo_id: str, *, revision: str | None):
        self.asked.append((repo_id, revision))
        if not (self.root / repo_id).is_dir():
            raise LocalEntryNotFoundError(f"Repository Not Found: {repo_id}")
        commits = sorted(p.name for p in (self.root / repo_id).iterdir())
        return SimpleNamespace(sha=next(c for c in reversed(commits) if c.startswith(revision or "")))

    def snapshot_download(self, repo_id: str, *, revision: str, local_dir: Path, allow_patterns) -> str:
        (Path(local_dir) / ".cache").mkdir()
        for file in (self.root / repo_id / revision).iterdir():
            if file.name in allow_patterns:
                shutil.copy(file, Path(local_dir) / file.name)
        return str(local_dir)


@pytest.fixture
def folder_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderHub:
    made = FolderHub(tmp_path / "hub")
    monkeypatch.setattr(hub, "open_hub", lambda: made)
    return made


@pytest.mark.parametrize("name", ["create_repo", "upload_folder", "repo_info", "snapshot_download"])
def test_the_folder_takes_what_the_hub_takes(name: str) -> None:
    theirs = inspect.signature(getattr(HfApi, name)).parameters
    assert set(inspect.signature(getattr(FolderHub, name)).parameters) <= set(theirs)


def run(*words: object):
    return CliRunner().invoke(verbs.app, [str(word) for word in words])


def test_a_bundle_comes_back_as_it_went(folder_hub: FolderHub, tmp_path: Path) -> None:
    pushed = json.loads(run("models", "push", SHIPPED, "lab/ae", "--json").stdout)
    pulled = run("models", "pull", "lab/ae", tmp_path / "mine", "--json")
    document = json.loads(pulled.stdout)
    assert document["commit"] == pushed["commit"] and document["name"] == "mine"
    assert document["weights"] == bundle.describe(SHIPPED)["weights"]
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == sorted(hub.FILES)
    assert bundle.load(tmp_path / "mine").latent_size == 256


def test_a_revision_gives_that_commit_and_no_other(folder_hub: FolderHub, tmp_path: Path) -> None:
    first = hub.push(SHIPPED, "lab/ae").commit
    hub.push(SHIPPED.parent / "bbbc021-vae", "lab/ae")
    assert hub.pull("lab/ae", tmp_path / "new").config["model"] == "vae"
    old = hub.pull("lab/ae", tmp_path / "old", first)
    assert (old.config["model"], old.commit) == ("ae", first)


def test_the_licence_is_told_at_download(folder_hub: FolderHub, tmp_path: Path) -> None:
    hub.push(SHIPPED, "lab/real")
    assert "licence of its training images: CC BY-NC-SA 3.0" in run("models", "pull", "lab/real", tmp_path / "r").stdout


def test_what_was_changed_on_the_way_is_thrown_away(folder_hub: FolderHub, tmp_path: Path) -> None:
    commit = hub.push(SHIPPED, "lab/ae").commit
    (folder_hub.root / "lab/ae" / commit / bundle.METRICS).write_text("{}")
    with pytest.raises(BundleError, match=r"thrown away: lab/ae at c0.*metrics.json is not the file"):
        hub.pull("lab/ae", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_a_repository_that_is_not_there_is_one_sentence(folder_hub: FolderHub, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="pulling lab/none failed: Repository Not Found"):
        hub.pull("lab/none", tmp_path / "mine")


def test_a_bundle_without_a_licence_is_not_pushed(folder_hub: FolderHub, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(bundle, "licence", lambda config: bundle.NO_LICENCE)
    with pytest.raises(BundleError, match="does not say under what licence"):
        hub.push(SHIPPED, "lab/ae")


def test_what_is_there_is_left_alone(folder_hub: FolderHub, tmp_path: Path) -> None:
    hub.push(SHIPPED, "lab/ae")
    hub.pull("lab/ae", tmp_path / "mine")
    folder_hub.asked.clear()
    again = run("models", "pull", "lab/ae", tmp_path / "mine")
    assert again.exit_code == 0 and not folder_hub.asked
    assert "is already there; --overwrite makes it again" in again.stderr


def test_list_and_verify(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "models" / "one")
    listed = json.loads(run("models", "list", "--models", tmp_path / "models", "--json").stdout)["models"]
    assert [(m["name"], m["model"], m["licence"]) for m in listed] == [("one", "ae", "CC BY-NC-SA 3.0")]
    assert run("models", "verify", "--models", tmp_path / "models").stdout.startswith("one: whole, weights ")
    with (tmp_path / "models" / "one" / bundle.CARD).open("a") as card:
        card.write("more\n")
    refused = run("models", "verify", "one", "--models", tmp_path / "models")
    assert isinstance(refused.exception, BundleError) and "README.md is not the file" in str(refused.exception)
