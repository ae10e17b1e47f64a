"""OME-Zarr (NGFF 0.4 and 0.5) on disk: what plates, wells and images say of themselves, and pixels through zarr."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cytovae.errors import DependencyError, ImageError, IngestError, first_line
from cytovae.screen import require_file

VERSIONS = ("0.4", "0.5")
AXES = "TCZYX"
"""The axes an image may have, in this order; the last two it must have."""

_UM = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3}


def is_group(path: Path) -> bool:
    """Whether a folder is a zarr group."""
    return (path / "zarr.json").is_file() or (path / ".zgroup").is_file()


def metadata(path: Path) -> dict[str, Any]:
    """What a group says of itself: ``plate``, ``well``, ``multiscales``, ``omero`` ..., as NGFF has it.

    Raises
    ------
    IngestError
        It cannot be read, or is of another version.
    """
    try:
        if (path / "zarr.json").is_file():
            said = json.loads((path / "zarr.json").read_text()).get("attributes", {}).get("ome", {})
            version = said.get("version")
        else:
            said = json.loads((path / ".zattrs").read_text()) if (path / ".zattrs").is_file() else {}
            parts = [said.get("plate"), said.get("well"), *said.get("multiscales", [])]
            version = next((part["version"] for part in parts if part and "version" in part), "0.4")
    except (OSError, ValueError, AttributeError, TypeError, KeyError, RecursionError) as broken:
        raise IngestError(f"the metadata of {path} cannot be read: {first_line(broken)}") from None
    if said and version not in VERSIONS:
        raise IngestError(
            f"{path} is OME-Zarr {first_line(ValueError(version))}; versions {' and '.join(VERSIONS)} are read"
        )
    return dict(said)


def inside(path: object) -> str:
    """A path that metadata name, where it stays below what names it; ValueError where it is another."""
    if not isinstance(path, str) or not path or path[0] == "/" or "\0" in path or ".." in path.split("/"):
        raise ValueError(f"a path below it instead of {path!r:.80}")
    return path


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image at full resolution, not yet read.

    Parameters
    ----------
    path : Path
        Its array.
    axes : str
        Such as ``CZYX``.
    names : list of str
        What it calls its channels; none where it does not say.
    pixel_size_um : float or None
        Edge of a pixel; None where it is not said, or pixels are not square.
    """

    path: Path
    axes: str
    names: list[str]
    pixel_size_um: float | None

    def array(self) -> Any:
        """The zarr array.

        Raises
        ------
        OSError
            What describes it is a pipe or folder, which zarr would wait for; zarr raises others, of many kinds.
        """
        for name in ("zarr.json", ".zarray", ".zattrs"):
            require_file(self.path / name)
        return _zarr().open_array(self.path, mode="r")

    def absent_chunks(self) -> tuple[int, int]:
        """How many of its chunks are not there (they read as 0), and how many there should be; 0 where unreadable."""
        try:
            array = self.array()
            return int(array.nchunks - array.nchunks_initialized), int(array.nchunks)
        except Exception:  # zarr fails in many ways on damaged metadata; reading says which
            return 0, 0


def bad_chunk(path: Path, array: Any, index: tuple[Any, ...]) -> str:
    """The first chunk of those meant that zarr would not notice to be bad, in words; empty where none is.

    A pipe would be waited for without end, and a folder passed over. Blosc is not told how long a chunk is: of one that
    was cut off it gives whatever lay in memory. Other codecs notice.

    Parameters
    ----------
    path : Path
        The array's folder.
    array : zarr.Array
    index : tuple of int or slice
        Of its first axes.
    """
    about = array.metadata
    codecs = [about.compressor] if about.zarr_format == 2 else about.codecs
    blosc = any("blosc" in type(codec).__name__.lower() for codec in codecs)
    sizes = array.shards or array.chunks  # what lies in a file of its own
    each = [range(-(-n // size)) for n, size in zip(array.shape, sizes, strict=True)]
    for axis, at in enumerate(index):
        each[axis] = range(at // sizes[axis], at // sizes[axis] + 1) if isinstance(at, int) else each[axis]
    for place in itertools.product(*each):
        chunk = path / about.encode_chunk_key(place)
        if chunk.exists() and not chunk.is_file():
            return f"{chunk} cannot be read: it is a folder, pipe or device, not a file"
        if blosc and chunk.is_file():
            with chunk.open("rb") as opened:
                head = opened.read(16)
            says, has = int.from_bytes(head[12:16], "little"), chunk.stat().st_size
            if len(head) < 16 or says != has:
                return f"{chunk} cannot be read: it has {has:,} bytes and says {says:,}, so it was cut off or damaged"
    return ""


def picture(path: Path) -> Picture:
    """The image in a folder.

    Raises
    ------
    ImageError
        ``missing-file``, ``unreadable-file`` (of another version, or no image), or ``wrong-shape`` (other axes).
    """
    if not is_group(path):
        raise ImageError("missing-file", f"{path} holds no image")
    try:
        said = metadata(path)
    except IngestError as strange:
        raise ImageError("unreadable-file", str(strange)) from None
    try:
        scales = said["multiscales"][0]
        axes = "".join(axis["name"].upper() for axis in scales["axes"])
        first = scales["datasets"][0]
        steps = [*first.get("coordinateTransformations", []), *scales.get("coordinateTransformations", [])]
        scale = np.prod([step["scale"] for step in steps if step["type"] == "scale"], axis=0)
        units = [str(axis.get("unit")) for axis in scales["axes"]]
        names = [
            " ".join(str(channel.get("label", "")).split()) for channel in said.get("omero", {}).get("channels", [])
        ]
        place, size = inside(first["path"]), None
        if np.size(scale) == len(axes) and units[-1] in _UM and units[-1] == units[-2]:
            edges = np.asarray(scale, np.float64)[-2:] * _UM[units[-1]]
            size = round(float(edges[1]), 9) if np.isclose(*edges) and np.isfinite(edges[1]) and edges[1] > 0 else None
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as lacking:
        raise ImageError(
            "unreadable-file", f"{path} is no OME-Zarr image that can be read: it lacks {first_line(lacking)}"
        ) from None
    if axes[-2:] != "YX" or axes != "".join(axis for axis in AXES if axis in axes):
        raise ImageError(
            "wrong-shape",
            f"{path} has the axes {first_line(ValueError(axes))}, not some of {AXES} in this order with Y and X last",
        )
    return Picture(path / place, axes, names, size)


def write_plate(
    path: Path,
    name: str,
    wells: Mapping[tuple[str, str], Callable[[], npt.NDArray[np.uint16]]],
    channels: Sequence[str],
    pixel_size_um: float | None,
    more: Mapping[str, Any],
) -> None:
    """A plate of NGFF 0.5 with one field a well.

    Parameters
    ----------
    path : Path
        Its folder, to be made.
    name : str
    wells : mapping of (row, column) to callable
        Gives the field of a well, (C, H, W) uint16, when it is its turn.
    channels : sequence of str
    pixel_size_um : float or None
    more : mapping
        Attributes of the plate beside NGFF's.
    """
    plate = _zarr().open_group(path, mode="w", zarr_format=3)
    rows, columns = (sorted({well[k] for well in wells}, key=lambda text: (len(text), text)) for k in (0, 1))
    listed = []
    for (row, column), field in wells.items():
        well = plate.create_group(f"{row}/{column}")
        well.attrs["ome"] = {"version": "0.5", "well": {"version": "0.5", "images": [{"path": "0"}]}}
        _write_image(well.create_group("0"), field(), channels, pixel_size_um)
        place = {"rowIndex": rows.index(row), "columnIndex": columns.index(column)}
        listed.append({"path": f"{row}/{column}", **place})
    said = {
        "version": "0.5",
        "name": name,
        "field_count": 1,
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": listed,
    }
    plate.attrs.update({"ome": {"version": "0.5", "plate": said}, **more})


def _write_image(
    group: Any, pixels: npt.NDArray[np.uint16], channels: Sequence[str], pixel_size_um: float | None
) -> None:
    size = pixel_size_um or 1.0
    space = {"type": "space"} | ({"unit": "micrometer"} if pixel_size_um else {})
    axes = [{"name": "c", "type": "channel"}, {"name": "y", **space}, {"name": "x", **space}]
    scale = [{"type": "scale", "scale": [1.0, size, size]}]
    colours = ("FF0000", "00FF00", "0000FF", "FFFFFF")
    window = {"min": 0, "max": 65535, "start": 0}
    shown = [
        {
            "label": channel,
            "color": colours[min(place, 3)],
            "active": place < 3,
            "window": {**window, "end": int(pixels[place].max(initial=1))},
        }
        for place, channel in enumerate(channels)
    ]
    array = group.create_array(
        "0", shape=pixels.shape, chunks=(1, *pixels.shape[1:]), dtype="uint16", dimension_names=["c", "y", "x"]
    )
    array[:] = pixels
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"name": "cells", "axes": axes, "datasets": datasets}],
        "omero": {"channels": shown},
    }


def _zarr() -> Any:
    try:
        import zarr
    except ImportError:
        raise DependencyError("OME-Zarr needs the package zarr: pip install 'cytovae[ome-zarr]'") from None
    return zarr
