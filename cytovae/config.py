"""Options and records as frozen dataclasses, to and from plain dicts; an unknown key is an error.

Only what more than one room reads is here; an option that one room alone knows stands in that room.
"""

from __future__ import annotations

import dataclasses
import enum
import typing
from typing import Any, TypeVar

from cytovae.errors import ConfigError, did_you_mean

T = TypeVar("T")
Choice = TypeVar("Choice", bound=enum.StrEnum)

PATCH_SIZE_PX = 68
"""Edge of a cell patch (METHOD.md, Input)."""


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as a dict of JSON types (tuples become lists)."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """A dataclass from a dict.

    Raises
    ------
    ConfigError
        A key is unknown, or a key without a default is missing.
    """
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, kind))}
    for key in values:
        if key not in fields:
            raise ConfigError(f"{kind.__name__} has no option {key!r}{did_you_mean(key, fields)}")
    absent = [
        f.name
        for f in fields.values()
        if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if absent:
        raise ConfigError(f"{kind.__name__} needs {', '.join(absent)}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def choice(kind: type[Choice], value: str, what: str) -> Choice:
    """The member that a word names.

    Raises
    ------
    ConfigError
        There is none.
    """
    try:
        return kind(value)
    except ValueError:
        raise ConfigError(f"unknown {what} {str(value)!r}; choose {', '.join(kind)}") from None


@dataclasses.dataclass(frozen=True)
class ScreenRecord:
    """What a screen is: the content of ``screen.json``.

    Parameters
    ----------
    name : str
        What to call it.
    channels : tuple of str
        Names of the patch channels in their stored order; the first three are shown as red, green, blue.
    pixel_size_um : float or None
        Edge of a pixel in the object plane (um); None where it is not known.
    patch_size_px : int
        Edge of a patch.
    control : str
        Compound name of the untreated cells.
    scale : float or None
        What the edges of images were multiplied by before patches were cut; None where patches are as acquired.
    source, licence : str
        Where the images come from and under what licence they are.
    version : int
        Of the folder's layout.
    """

    name: str
    channels: tuple[str, ...]
    pixel_size_um: float | None = None
    patch_size_px: int = PATCH_SIZE_PX
    control: str = "DMSO"
    scale: float | None = None
    source: str = ""
    licence: str = ""
    version: int = 1

    def __post_init__(self) -> None:
        if not self.channels or len(set(self.channels)) != len(self.channels):
            raise ConfigError(f"a screen needs distinct channel names, not {list(self.channels)}")
        if self.patch_size_px < 8:
            raise ConfigError(f"a patch is at least 8 px wide, not {self.patch_size_px}")
        if self.pixel_size_um is not None and not self.pixel_size_um > 0:
            raise ConfigError(f"a pixel size is positive, not {self.pixel_size_um} um")
