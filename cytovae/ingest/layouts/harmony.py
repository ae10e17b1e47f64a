"""``Index.xml``, which Harmony (Opera, Operetta) writes beside its images: plate, channels, pixel size, files."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from cytovae.errors import IngestError

NAMES = ("Index.xml", "Index.idx.xml", "Index.ref.xml")


@dataclasses.dataclass(frozen=True)
class Index:
    """What one index says.

    Parameters
    ----------
    path : Path
        Where it lies.
    plate : str
        The plate's name; nothing where it gives none.
    channels : dict of str to str
        Number of a channel, as the file names have it -> what it is called.
    pixel_size_um : float or None
        Edge of a pixel (um).
    places : dict of str to tuple of int
        File -> row, column and field, from 1, and number of its channel.
    """

    path: Path
    plate: str
    channels: dict[str, str]
    pixel_size_um: float | None
    places: dict[str, tuple[int, int, int, int]]


def find(folder: Path) -> Path | None:
    """The index of a folder of images; None where there is none.

    Raises
    ------
    IngestError
        There are several.
    """
    there = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(there) > 1:
        raise IngestError(f"{folder} holds {' and '.join(p.name for p in there)}; leave the one that is meant")
    return there[0] if there else None


def read(path: Path) -> Index:
    """An index of Harmony 4 to 7: channels named with every image, or once in the maps before the images.

    Raises
    ------
    IngestError
        It is no such file, or something in it is not understood: which, and where.
    """
    with path.open("rb") as handle:
        if re.search(rb"<!(DOCTYPE|ENTITY)", handle.read(4096)):
            raise IngestError(f"{path} declares a document type, which an index of Harmony does not")
    plates: set[str] = set()
    called: dict[str, set[str]] = {}
    sizes: set[float] = set()
    places: dict[str, tuple[int, int, int, int]] = {}
    try:
        elements = ElementTree.iterparse(path, events=("start", "end"))
        root = next(elements)[1]
        if _tag(root) != "EvaluationInputData":
            raise IngestError(f"{path} is no index of Harmony: it begins with <{_tag(root)}>")
        for event, element in elements:
            tag = _tag(element)
            if event == "start":
                continue
            if tag == "PlateID" and (element.text or "").strip():
                plates.add(str(element.text).strip())
            elif tag == "Entry" and "ChannelID" in element.attrib:
                _describe(element, element.attrib["ChannelID"], called, sizes, path)
            elif tag == "Image" and len(element):  # of a well it is a reference, without anything in it
                file, place = _place(element, path)
                if places.setdefault(file, place) != place:
                    raise IngestError(f"{path} lists {file} as several channels or fields")
                _describe(element, str(place[3]), called, sizes, path)
                element.clear()
    except ElementTree.ParseError as broken:
        raise IngestError(f"{path} cannot be read as XML: {broken}") from None
    if not places:
        raise IngestError(f"{path} lists no image")
    if len(plates) > 1:
        raise IngestError(f"{path} holds several plates ({', '.join(sorted(plates))}); export each by itself")
    for channel, names in called.items():
        if len(names) > 1:
            raise IngestError(f"{path} calls channel {channel} {' and '.join(sorted(names))}")
    if sizes and max(sizes) > 1.001 * min(sizes):
        raise IngestError(f"{path} gives pixels of {', '.join(f'{s:g}' for s in sorted(sizes))} um; one size is needed")
    size = min(sizes) if sizes else None
    channels = {str(int(channel)): next(iter(names)) for channel, names in called.items()}
    return Index(path, next(iter(plates), ""), channels, size, places)


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _texts(element: ElementTree.Element) -> dict[str, str]:
    return {_tag(child): (child.text or "").strip() for child in element}


def _place(image: ElementTree.Element, path: Path) -> tuple[str, tuple[int, int, int, int]]:
    """The file of an image, and where it belongs."""
    said = _texts(image)
    file = said.get("URL", "")
    name = PurePosixPath(file)
    if not file or name.is_absolute() or "\\" in file or ".." in name.parts or ":" in file:
        raise IngestError(f"{path} gives the URL {file!r} of an image, not the name of a file beside it")
    for child in image:
        if _tag(child) == "URL" and child.attrib.get("BufferNo", "0") != "0":
            raise IngestError(f"{path} keeps several images in {file}; export each as a TIFF of its own")
    try:
        row, column, site, channel = (int(said[name]) for name in ("Row", "Col", "FieldID", "ChannelID"))
    except (KeyError, ValueError):
        raise IngestError(f"{path} does not give Row, Col, FieldID and ChannelID of {file} as whole numbers") from None
    return file, (row, column, site, channel)


def _describe(
    element: ElementTree.Element, channel: str, called: dict[str, set[str]], sizes: set[float], path: Path
) -> None:
    """Take what an image, or an entry of the maps, says of its channel."""
    said = _texts(element)
    if not channel.isdecimal():
        raise IngestError(f"{path} numbers a channel {channel!r}")
    if said.get("ChannelName"):
        called.setdefault(channel, set()).add(said["ChannelName"])
    for child in element:
        if _tag(child) not in ("ImageResolutionX", "ImageResolutionY"):
            continue
        try:
            metres = float(child.text or "")
        except ValueError:
            metres = math.nan
        unit = child.attrib.get("Unit", "m")
        if unit != "m" or not 1e-9 < metres < 1e-3:
            raise IngestError(f"{path} gives {_tag(child)} as {child.text!r} {unit}, not as a length in m")
        sizes.add(metres * 1e6)
