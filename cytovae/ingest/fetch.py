"""BBBC021 from its source: tables and image archives, resumable and checked.

A transfer that breaks off is taken up where it stopped (HTTP Range, bound to the file's ETag so that no two versions
are mixed). An archive is checked by its length, by its sha256 where one is known, and by the CRC of every image that is
taken out of it. What has been done stands in ``fetched.json``.
"""

from __future__ import annotations

import csv
import dataclasses
import http.client
import json
import shutil
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from cytovae.errors import FULL, IngestError, did_you_mean
from cytovae.ingest.layouts.bbbc021 import CHANNELS
from cytovae.schema import Progress
from cytovae.screen import digest_file, whole_file, write_json

BASE_URL = "https://data.broadinstitute.org/bbbc/BBBC021"
IMAGE_TABLE, MOA_TABLE = "BBBC021_v1_image.csv", "BBBC021_v1_moa.csv"
RECORD = "fetched.json"

_CHUNK = 1 << 20
_TRIES = 5


@dataclasses.dataclass(frozen=True)
class Fetched:
    """What a fetch did.

    Parameters
    ----------
    plates : tuple of str
        All plates asked for, now there.
    already : tuple of str
        Those of them that were there before.
    images : int
        Image files of these plates.
    absent : tuple of str
        Files that the table names, but that are in no archive.
    """

    plates: tuple[str, ...]
    already: tuple[str, ...]
    images: int
    absent: tuple[str, ...]


def archive_name(plate: str) -> str:
    """The collection's name for a plate's archive."""
    return f"BBBC021_v1_images_{plate}.zip"


def bbbc021(
    raw: Path,
    plates: Sequence[str] | None = None,
    *,
    base_url: str = BASE_URL,
    sha256: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
    keep_archives: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    wait_s: float = 2.0,
) -> Fetched:
    """Tables and images of BBBC021, laid out as ``cytovae ingest bbbc021`` reads them.

    Parameters
    ----------
    raw : Path
        Folder to fill.
    plates : sequence of str, optional
        Which plates; without it all 55 (about 40 GB), an empty one for the tables alone.
    base_url : str
        Where the files lie.
    sha256 : mapping of str to str, optional
        File name -> expected digest.
    only : collection of str, optional
        Images to take out of the archives, by their places below `raw`; without it all.
    keep_archives : bool
        Keep the zip files beside the images.
    overwrite : bool
        Fetch again what is there.
    progress : callable, optional
        Called with bytes received and bytes in all of the archive in transfer.
    wait_s : float
        Pause before a broken transfer is taken up again; doubled every time.

    Raises
    ------
    IngestError
        A plate is unknown, the source cannot be reached or sends something else than expected, or the disk is full.
    """
    raw.mkdir(parents=True, exist_ok=True)
    done: dict[str, dict[str, object]] = {}
    if (raw / RECORD).exists() and not overwrite:
        done = json.loads((raw / RECORD).read_text())

    def get(name: str) -> Path:
        return download(
            f"{base_url.rstrip('/')}/{urllib.parse.quote(name)}",
            raw / name,
            sha256=(sha256 or {}).get(name),
            progress=progress,
            wait_s=wait_s,
        )

    lacking = [name for name in (IMAGE_TABLE, MOA_TABLE) if overwrite or not (raw / name).exists()]
    for name in lacking:
        get(name)
    try:
        files = _plates_of(raw)
    except IngestError as wrong:
        if IMAGE_TABLE not in lacking:
            raise
        (raw / IMAGE_TABLE).unlink()
        raise IngestError(f"{wrong}; the table, fetched just now, was removed") from None
    chosen = tuple(sorted(files) if plates is None else plates)
    for plate in chosen:
        if plate not in files:
            raise IngestError(
                f"the collection has no plate {plate!r}{did_you_mean(plate, files)}; its {len(files)} plates are "
                f"{', '.join(sorted(files)[:3])}, ..."
            )
    if only is not None:
        files = {plate: [name for name in files[plate] if name in only] for plate in chosen}
    already = tuple(plate for plate in chosen if _is_there(raw, files[plate], done.get(plate)))
    for plate in chosen:
        if plate in already:
            continue
        _check_links(raw, files[plate])
        archive = get(archive_name(plate))
        absent = _extract(archive, raw, files[plate])
        done[plate] = {"archive": archive.name, "sha256": digest_file(archive), "absent": absent}
        write_json(raw / RECORD, done)
        if not keep_archives:
            archive.unlink()
    absent_now = tuple(str(name) for plate in chosen for name in _absent(done[plate]))
    images = sum(len(files[plate]) for plate in chosen) - len(absent_now)
    return Fetched(chosen, already, images, absent_now)


def _plates_of(raw: Path) -> dict[str, list[str]]:
    """Plate -> its images' places below `raw`, as the image table that lies there names them.

    Raises
    ------
    IngestError
        It is no such table, or a name leads outside `raw`.
    """
    table = raw / IMAGE_TABLE
    files = _files_of_plates(table)
    for plate in files:
        for name in (archive_name(plate), *files[plate]):
            _check_inside(name, raw, table)
    return files


def reach(base_url: str, timeout_s: float = 10.0) -> None:
    """Ask the source for its first table and hang up: whether it can be reached at all.

    Raises
    ------
    IngestError
        It cannot; says what was tried. A source that answers with a refusal is reached.
    """
    url = f"{base_url.rstrip('/')}/{IMAGE_TABLE}"
    if urllib.parse.urlparse(url).scheme not in ("http", "https"):
        raise IngestError(f"{url} is no http or https address")
    try:
        urllib.request.urlopen(url, timeout=timeout_s).close()
    except urllib.error.HTTPError:
        return
    except (OSError, http.client.HTTPException) as broken:
        reason = str(getattr(broken, "reason", broken)) or type(broken).__name__
        raise IngestError(
            f"{base_url} cannot be reached: asked once for {IMAGE_TABLE}, {timeout_s:.0f} s at most ({reason}); try "
            "again when the network is there, or name another source or a folder that holds the images"
        ) from None


def _absent(record: Mapping[str, object]) -> list[str]:
    said = record.get("absent")
    return [str(name) for name in said] if isinstance(said, list) else []


def _check_inside(name: str, folder: Path, named_by: Path) -> None:
    """Refuse a name that does not lie in a folder: absolute, with a drive letter, or up and out of it by ``..``.

    Raises
    ------
    IngestError
        Says who names it.
    """
    path = PureWindowsPath(name)  # knows both kinds of slashes
    if path.anchor or ".." in path.parts or "\0" in name:
        raise IngestError(
            f"{named_by} names {name!r}, which leads outside {folder}; nothing was written there: take the file from "
            "a source you trust"
        )


def _check_links(folder: Path, names: Sequence[str]) -> None:
    """Refuse names in a folder of which a link would lead outside.

    Raises
    ------
    IngestError
        Names the first.
    """
    inside = folder.resolve()
    for name in names:
        if not (place := (folder / name).resolve()).is_relative_to(inside):
            raise IngestError(
                f"{folder / name} leads outside {folder} by a link, to {place}; remove the link, or name a RAW_DIR "
                "that holds all its files itself"
            )


def _files_of_plates(table: Path) -> dict[str, list[str]]:
    """Plate -> its files, as the image table places them below the folder; rows that name none tell nothing."""
    files: dict[str, list[str]] = {}
    with table.open(newline="") as handle:
        for row in csv.DictReader(handle):
            try:
                plate = row["Image_Metadata_Plate_DAPI"]
                places = [(row[f"Image_PathName_{c}"], row[f"Image_FileName_{c}"]) for c in CHANNELS.values()]
            except KeyError as lacking:
                raise IngestError(f"{table} is not the collection's image table: it has no column {lacking}") from None
            if all(part and part.strip() for part in (plate, *(part for place in places for part in place))):
                files.setdefault(plate, []).extend(f"{folder}/{file}" for folder, file in places)
    if not files:
        raise IngestError(f"{table} is not the collection's image table: no row names a plate, its folders and files")
    return files


def _is_there(raw: Path, files: Sequence[str], record: Mapping[str, object] | None) -> bool:
    """Whether a plate has been fetched and its files still stand."""
    if record is None:
        return False
    absent = set(_absent(record))
    return all((raw / name).is_file() for name in files if name not in absent)


def _extract(archive: Path, raw: Path, files: Sequence[str]) -> list[str]:
    """Take a plate's images out of its archive to where the table places them; the files it does not hold.

    Raises
    ------
    IngestError
        The archive is damaged; it is removed, so that the next run fetches it anew. Or a name of the archive leads
        outside `raw`, or one of the images is a link in it.
    """
    try:
        with zipfile.ZipFile(archive) as held:
            for member in held.namelist():
                _check_inside(member, raw, archive)
            members = {PurePosixPath(info.filename.replace("\\", "/")).name: info for info in held.infolist()}
            absent = []
            for name in files:
                info = members.get(PurePosixPath(name).name)
                if info is None:
                    absent.append(name)
                    continue
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise IngestError(
                        f"{archive} holds {info.filename!r} as a link and not as an image; "
                        "take the archive from a source you trust"
                    )
                target = raw / name
                if target.exists() and target.stat().st_size == info.file_size:
                    continue
                with held.open(info) as source, whole_file(target) as beside, beside.open("wb") as handle:
                    shutil.copyfileobj(source, handle, _CHUNK)  # checks the CRC at its end
    except (zipfile.BadZipFile, EOFError) as broken:
        archive.unlink()
        raise IngestError(f"{archive} is damaged ({broken}) and was removed; run the same command again") from None
    if files and len(absent) == len(files):
        raise IngestError(f"{archive} holds none of the images that the table names")
    return absent


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    progress: Progress | None = None,
    wait_s: float = 2.0,
) -> Path:
    """A file from the web, whole; a transfer that broke off is resumed, in this run or the next.

    Parameters
    ----------
    url : str
        http or https.
    target : Path
        Where to put it; ``<name>.part`` beside it holds what has come so far.
    sha256 : str, optional
        Expected digest.
    progress : callable, optional
        Called with bytes received and in all.
    wait_s : float
        Pause before the first new try; doubled every time.

    Raises
    ------
    IngestError
        The file is not there, the transfer breaks off again and again, the disk has no room, or the digest is another.
    """
    if urllib.parse.urlparse(url).scheme not in ("http", "https"):
        raise IngestError(f"{url} is no http or https address")
    part, state = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json")
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(wait_s * 2 ** (attempt - 1))
        try:
            if _transfer(url, part, state, progress):
                break
            reason = "the transfer broke off"
        except urllib.error.HTTPError as refused:
            if refused.code == 416:  # what is there does not fit what the source has now
                part.unlink(missing_ok=True)
                reason = "the file changed at its source"
            elif 400 <= refused.code < 500:
                raise IngestError(f"{url} cannot be fetched: {refused.code} {refused.reason}") from None
            else:
                reason = f"{refused.code} {refused.reason}"
        except (OSError, http.client.HTTPException) as broken:
            if getattr(broken, "errno", None) in FULL:
                raise IngestError(
                    f"{part.parent} has no more room for {url} ({broken}); what came of it is kept: free some space "
                    "and run the same command to go on"
                ) from None
            reason = str(getattr(broken, "reason", broken)) or type(broken).__name__
    else:
        raise IngestError(f"{url} could not be fetched in {_TRIES} tries ({reason}); run the same command to go on")
    if sha256 is not None and (found := digest_file(part)) != sha256.lower():
        part.unlink()
        state.unlink(missing_ok=True)
        raise IngestError(f"{url} has sha256 {found}, not {sha256.lower()} as expected; what came was removed")
    part.replace(target)
    state.unlink(missing_ok=True)
    return target


def _transfer(url: str, part: Path, state: Path, progress: Progress | None) -> bool:
    """One request for what is still lacking; whether the file is whole afterwards."""
    had = part.stat().st_size if part.exists() else 0
    known = json.loads(state.read_text()) if had and state.exists() else {}
    if had and known.get("total") == had:
        return True
    request = urllib.request.Request(url)
    if had and known.get("tag"):
        request.add_header("Range", f"bytes={had}-")
        request.add_header("If-Range", known["tag"])
    with urllib.request.urlopen(request, timeout=60) as answer:
        going_on = answer.status == 206
        if not going_on:
            had = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {had}-"):
            raise OSError(
                f"the source sent {answer.headers.get('Content-Range')} when asked for what follows byte {had}"
            )
        length = answer.headers.get("Content-Length")
        total = had + int(length) if length else None
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if tag and tag.startswith("W/"):
            tag = None  # a weak tag does not vouch for bytes
        write_json(state, {"tag": tag, "total": total})
        if total is not None and shutil.disk_usage(part.parent).free < total - had:
            raise IngestError(
                f"{part.parent} has no room for {url}, {(total - had) / 1e9:.1f} GB; fetch fewer plates at once"
            )
        with part.open("ab" if going_on else "wb") as handle:
            while chunk := answer.read(_CHUNK):
                handle.write(chunk)
                had += len(chunk)
                if progress:
                    progress(had, total or had)
    return total is None or had == total


def read_checksums(path: Path) -> dict[str, str]:
    """File name -> sha256, from a file as ``sha256sum`` writes it.

    Raises
    ------
    IngestError
        A line is not a digest and a name.
    """
    sums = {}
    for line in path.read_text().splitlines():
        digest, _, name = line.partition(" ")
        if len(digest) != 64 or not name.strip():
            raise IngestError(f"{path} is not as sha256sum writes it: {line[:80]!r}")
        sums[PurePosixPath(name.strip().lstrip("*")).name] = digest
    return sums
