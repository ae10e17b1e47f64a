"""Bundles from and to a model hub, by repository and revision; only when a person asks for it.

What was pulled is verified before it is left in its place. Nothing else in this package talks to a hub.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cytovae.errors import BundleError, DependencyError
from cytovae.learn import bundle
from cytovae.screen import foreign, whole_folder

FILES = (bundle.CONFIG, *bundle.FILES.values())
"""What of a repository, or of a bundle's folder, is exchanged."""


@dataclasses.dataclass(frozen=True)
class Exchanged:
    """A bundle that was pulled or pushed.

    Parameters
    ----------
    repository, commit : str
        Where it lies, and as which commit: the revision that always gives these very files.
    config : dict
        The content of its ``config.json``.
    """

    repository: str
    commit: str
    config: dict[str, Any]


def open_hub() -> Any:
    """The hub's interface, with the address and login that the person's environment gives it.

    Raises
    ------
    DependencyError
        huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise DependencyError("pull and push need huggingface_hub: pip install 'cytovae[hub]'") from None
    return HfApi()


@contextlib.contextmanager
def _failing_plainly(doing: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # its bases are the HTTP client's own error, which has another name in each release, and OSError
    errors: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, HFValidationError)
    try:
        yield
    except errors as failed:
        why = next((line for line in map(str.strip, str(failed).splitlines()) if line), type(failed).__name__)
        raise BundleError(f"{doing} failed: {why}") from None


def pull(repository: str, path: Path, revision: str | None = None, hub: Any = None) -> Exchanged:
    """Bring a bundle here, verified, whole or not at all.

    Parameters
    ----------
    repository : str
        Such as ``lab/my-model``.
    path : Path
        The folder to make; a bundle that is there is replaced.
    revision : str, optional
        A commit, tag or branch; the main branch as it is now where None.
    hub : object, optional
        What `open_hub` gives.

    Raises
    ------
    BundleError
        It cannot be had, or what lies there is no whole bundle, or the folder holds other files.
    """
    if said := foreign(path, "bundle", [bundle.WEIGHTS]):
        raise BundleError(said)
    hub = hub or open_hub()
    with _failing_plainly(f"pulling {repository}"):
        commit = str(hub.repo_info(repository, revision=revision).sha)
    with whole_folder(path) as folder:
        with _failing_plainly(f"pulling {repository} at {commit[:12]}"):
            hub.snapshot_download(repository, revision=commit, local_dir=folder, allow_patterns=list(FILES))
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's own notes
        try:
            config = bundle.verify(folder)
        except BundleError as unfit:
            told = str(unfit).replace(str(folder), f"{repository} at {commit[:12]}")
            raise BundleError(f"what was pulled cannot be used and was thrown away: {told}") from None
    return Exchanged(repository, commit, {**config, "name": path.resolve().name})


def push(path: Path, repository: str, branch: str | None = None, hub: Any = None) -> Exchanged:
    """Give a bundle to a hub, verified before; the repository is made, private, where there is none.

    Parameters
    ----------
    path : Path
        The bundle.
    repository : str
        Such as ``lab/my-model``.
    branch : str, optional
        The main branch where None.
    hub : object, optional
        What `open_hub` gives.

    Raises
    ------
    BundleError
        The bundle is not whole or states no licence, or the hub does not take it.
    """
    config = bundle.verify(path)
    if bundle.licence(config) == bundle.NO_LICENCE:
        raise BundleError(
            f"{path} does not say under what licence its training images are, so nobody could use it: "
            "ingest them with --licence, and train again"
        )
    hub = hub or open_hub()
    with _failing_plainly(f"pushing {path} to {repository}"):
        hub.create_repo(repository, private=True, exist_ok=True)
        made = hub.upload_folder(
            repo_id=repository,
            folder_path=path,
            revision=branch,
            allow_patterns=list(FILES),
            commit_message=f"{config['name']}, weights {str(config['weights'])[:12]}",
        )
    return Exchanged(repository, str(made.oid), config)
