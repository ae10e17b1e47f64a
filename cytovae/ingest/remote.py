"""Images that a table names by address, fetched into a folder: ``s3://``, ``http://`` and ``https://``, by fsspec.

Every file appears whole or not at all, so a run that was stopped is taken up by the same call.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from cytovae.errors import FULL, DependencyError, IngestError, first_line
from cytovae.schema import Progress
from cytovae.screen import whole_file

_NEEDS = {"s3": "s3fs", "http": "aiohttp", "https": "aiohttp"}
_THREADS = 8
_TRIES = 4


@dataclasses.dataclass(frozen=True)
class FetchedImages:
    """What a fetch did.

    Parameters
    ----------
    files : int
        Asked for.
    already : int
        Of them there before.
    absent : tuple of str
        Addresses at which there is nothing.
    """

    files: int
    already: int
    absent: tuple[str, ...]


def fetch(
    wanted: Mapping[str, PurePosixPath],
    folder: Path,
    *,
    signed: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    wait_s: float = 2.0,
) -> FetchedImages:
    """Fetch files to their places below a folder.

    Parameters
    ----------
    wanted : mapping of str to PurePosixPath
        Address -> place (see `cytovae.ingest.layouts.loaddata.addresses`).
    folder : Path
    signed : bool
        Whether requests to S3 are signed with the credentials that boto finds; without it they are anonymous.
    overwrite : bool
        Fetch again what is there.
    progress : callable, optional
        Called with files done and files to fetch.
    wait_s : float
        Pause before a transfer that failed is tried again; doubled every time.

    Raises
    ------
    DependencyError
        A kind of address needs a package that is not installed.
    IngestError
        An address is of another kind, is not to be read, or fails again and again; what came is kept.
    """
    systems: dict[str, Any] = {}
    for address in wanted:
        scheme = address.partition("://")[0].lower()
        if scheme not in systems:
            systems[scheme] = _system(scheme, address, signed)
    todo = [address for address, place in wanted.items() if overwrite or not (folder / place).is_file()]

    def get(address: str) -> bool:
        return _get(systems[address.partition("://")[0].lower()], address, folder / wanted[address], signed, wait_s)

    absent = []
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for done, (address, there) in enumerate(zip(todo, pool.map(get, todo), strict=True), 1):
                if not there:
                    absent.append(address)
                if progress:
                    progress(done, len(todo))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return FetchedImages(len(wanted), len(wanted) - len(todo), tuple(absent))


def _system(scheme: str, address: str, signed: bool) -> Any:
    """What fsspec reads a kind of address with."""
    if scheme not in _NEEDS:
        raise IngestError(f"{address} begins with {scheme}://, and images are fetched by {', '.join(_NEEDS)} alone")
    try:
        import fsspec

        return fsspec.filesystem(scheme, **({} if signed or scheme != "s3" else {"anon": True}))
    except ImportError:
        raise DependencyError(
            f"{scheme}:// addresses need the package {_NEEDS[scheme]}: pip install 'cytovae[cloud]'"
        ) from None


def _get(system: Any, address: str, target: Path, signed: bool, wait_s: float) -> bool:
    """Fetch one file; whether there is one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(_TRIES):
        try:
            with whole_file(target) as beside:
                system.get_file(address, str(beside))
            return True
        except FileNotFoundError:
            return False
        except PermissionError:
            more = "" if signed else "; give --signed if your AWS credentials allow it"
            raise IngestError(f"{address} is not to be read{more}") from None
        except Exception as broken:  # each kind of address fails in ways of its own
            if getattr(broken, "errno", None) in FULL:
                said = f"{address} does not fit on the disk; free some space and run the same command again"
                raise IngestError(said) from None
            if attempt == _TRIES - 1:
                raise IngestError(
                    f"{address} cannot be fetched: {first_line(broken)}; what came is kept, and the same goes on"
                ) from None
            time.sleep(wait_s * 2**attempt)
    raise AssertionError
