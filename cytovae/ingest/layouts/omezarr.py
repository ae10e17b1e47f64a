"""OME-Zarr plates (NGFF 0.4 and 0.5): rows, columns, wells, fields and channels as the plate itself gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cytovae import omezarr, schema
from cytovae.errors import ConfigError, ImageError, IngestError, first_line
from cytovae.ingest.layouts import centres as centre_tables
from cytovae.ingest.layouts import tables
from cytovae.screen import digest_file


def read(
    raw: Path,
    channels: Mapping[str, str],
    *,
    acquisition: int | None = None,
    centres: Path | None = None,
    design: tables.Design | None = None,
) -> tables.Layout:
    """The fields of a plate, or of all plates in a folder.

    Wells and fields that a plate lists and does not hold are said to be absent. What was done to the wells comes from a
    plate map; without one every well is its own treatment: its compound is ``<plate>/<well>``.

    Parameters
    ----------
    raw : Path
        The plate, or a folder of plates.
    channels : mapping of str to str
        Channel -> what the images call it (``omero`` metadata); of images that do not say, its place from 0.
    acquisition : int, optional
        Which acquisition, where a plate has several.
    centres : Path, optional
        CSV of known cell centres (see `cytovae.ingest.layouts.centres.read`).
    design : Design, optional
        What was done to the wells.

    Raises
    ------
    IngestError
        There is no plate, it is not understood, or its images differ in pixel size.
    ConfigError
        No image has a channel asked for, or it is not said which acquisition is meant.
    """
    design, order = design or tables.Design(), tables.stored_order(list(channels))
    if not raw.is_dir():
        raise IngestError(f"there is no folder {raw}")
    plates = [raw] if omezarr.is_group(raw) else sorted(p for p in raw.iterdir() if omezarr.is_group(p))
    rows = [row for plate in plates for row in _fields(plate, raw, acquisition)]
    if not rows:
        raise IngestError(f"{raw} is no OME-Zarr plate and holds none: no zarr group in it lists wells")
    fields = pd.DataFrame(rows)
    there = fields["path"].map(lambda path: bool(path) and omezarr.is_group(raw / path))
    paths = list(fields.loc[there, "path"])
    about = [_picture(raw / path) for path in paths]
    pictures = [picture for picture in about if picture is not None]
    sizes = {picture.pixel_size_um for picture in pictures}
    if len(sizes) > 1:
        seen = ", ".join(sorted(str(size) for size in sizes))
        raise IngestError(f"images of {raw} have pixels of {seen} um; ingest those of one size at a time")
    numbered = _check_names(pictures, channels, raw)
    for channel in order:
        fields[tables.path_column(channel)] = fields["path"]
        fields[tables.frame_column(channel)] = int(channels[channel]) if numbered else tables.UNTOLD
    fields = tables.treated(fields.assign(there=there), design, str(raw))
    fields = tables.complete(fields, design, str(design.plate_map or raw))
    unknown = fields[schema.MOA] == schema.UNKNOWN_MOA
    tables.note(fields, unknown, tables.OK, "unknown-moa", "no table gives a mechanism for " + fields[schema.TREATMENT])
    gone = fields["path"].map(
        {path: lacking for path, p in zip(paths, about, strict=True) if p and (lacking := _gone(p))}
    )
    tables.note(fields, gone.notna(), tables.OK, "missing-chunks", gone)
    said = "the plate lists this field, but holds no image of it"
    tables.note(fields, ~fields["there"], tables.ABSENT, "row-without-image", said)
    inputs = design.inputs() | {"--channels": ",".join(f"{c}={channels[c]}" for c in order)}
    known = None
    if centres is not None:
        known = centre_tables.read(centres, fields)
        inputs[centres.name] = digest_file(centres)
    names: dict[str, tuple[str, ...]] = {c: (name, c) for c, name in channels.items()}
    size = next(iter(sizes), None)
    return tables.Layout(fields.drop(columns=["path", "there"]), order, inputs, known, names, size)


def _fields(plate: Path, raw: Path, acquisition: int | None) -> Iterator[dict[str, Any]]:
    """One row for every field that a plate lists; none where the group is no plate."""
    said = omezarr.metadata(plate).get("plate")
    if said is None:
        return
    try:
        name = str(said.get("name") or plate.resolve().name.removesuffix(".zarr").removesuffix(".ome"))
        rows, columns = ([str(entry["name"]) for entry in said[axis]] for axis in ("rows", "columns"))
        wells = [(omezarr.inside(w["path"]), rows[w["rowIndex"]], columns[w["columnIndex"]]) for w in said["wells"]]
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as lacking:
        raise IngestError(f"the plate {plate} is not understood: its metadata lack {first_line(lacking)}") from None
    if odd := [path for path, row, column in wells if path != f"{row}/{column}"]:
        raise IngestError(f"the plate {plate} lists the well {odd[0]!r}, whose row and column are called otherwise")
    for path, row, column in wells:
        well = {schema.PLATE: name, schema.WELL: schema.well_name(row + column)}
        about = omezarr.metadata(plate / path)
        try:
            listed = [
                (omezarr.inside(i["path"]), i.get("acquisition")) for i in about.get("well", {}).get("images", [])
            ]
            cycles = {cycle for _, cycle in listed}
        except (KeyError, TypeError, AttributeError, ValueError) as lacking:
            said_of = f"the well {plate / path} is not understood: its metadata lack {first_line(lacking)}"
            raise IngestError(said_of) from None
        if acquisition is not None:
            listed = [image for image in listed if image[1] == acquisition]
        elif len(cycles) > 1:
            seen = ", ".join(sorted(map(repr, cycles)))[:200]
            raise ConfigError(f"the plate {plate} holds acquisitions {seen}; choose one of them with --acquisition N")
        sites = [site for site, _ in listed]
        count = all(site.isdecimal() for site in sites)
        for number, site in enumerate(sites, 1):
            where = (plate / path / site).relative_to(raw).as_posix()
            yield {**well, schema.SITE: int(site) if count else number, "path": where}
        if not sites:
            yield {**well, schema.SITE: 0, "path": ""}


def _picture(path: Path) -> omezarr.Picture | None:
    """What an image says of itself; None where it is not understood, which is said when it is read."""
    try:
        return omezarr.picture(path)
    except ImageError:
        return None


def _gone(picture: omezarr.Picture) -> str:
    """What to say of an image that lacks chunks; nothing of one that does not."""
    lacking, of = picture.absent_chunks()
    return f"{lacking} of its {of} chunks are not there and read as 0: left out as empty, or lost" if lacking else ""


def _check_names(pictures: list[omezarr.Picture], channels: Mapping[str, str], raw: Path) -> bool:
    """Whether channels are asked for by their places, since images do not name them.

    Raises
    ------
    ConfigError
        Some are asked for by names that no image has.
    """
    names = list(dict.fromkeys(name for picture in pictures for name in picture.names if name))
    if not names and pictures and all(name.isdecimal() for name in channels.values()):
        return True
    known = {name.lower() for name in names}
    missing = [f"{c}={n}" for c, n in channels.items() if n.lower() not in known and c.lower() not in known]
    if missing and pictures:
        said = ", ".join(names) or "nothing: give their places, from 0"
        raise ConfigError(f"no image of {raw} has the channel {', '.join(missing)}; they call their channels {said}")
    return False
