"""Options and records as frozen dataclasses, to and from plain dicts; an unknown key is an error.

Only what more than one room reads is here; an option that one room alone knows stands in that room.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from typing import Any, TypeVar

from cytovae.errors import ConfigError, did_you_mean

T = TypeVar("T")
Choice = TypeVar("Choice", bound=enum.StrEnum)

PATCH_SIZE_PX = 68
"""Edge of a cell patch (METHOD.md, Input)."""
MAX_PLANE_PX = 2**28
"""Pixels of one plane of an image file at most, 16,384 x 16,384; a file that claims more is refused, unread."""
MAX_PATCH_PX = 2048
"""Edge of a patch at most (px)."""
MAX_NAME = 1000
"""Characters at most of what a plate, well, compound, cell or screen is called."""
MAX_JSON_BYTES = 64 * 2**20
"""Size at most of a JSON document that is read."""


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as a dict of JSON types (tuples become lists)."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """A dataclass from a dict.

    Raises
    ------
    ConfigError
        A key is unknown, a key without a default is missing, or a value is of another type than the key's.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{kind.__name__} is written as keys and values, not as {values!r:.60}")
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
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    hints = typing.get_type_hints(kind)
    for key, value in given.items():
        if not _fits(value, hints[key]):
            raise ConfigError(f"{key} of {kind.__name__} cannot be {values[key]!r:.60}; it is {_words(hints[key])}")
    return kind(**given)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of a type; what is neither plain nor a tuple of plain ones is not judged."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(v, typing.get_args(hint)[0]) for v in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in (str, bool, type(None)) else True


def _words(hint: Any) -> str:
    """A type in words."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_words(one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return f"a list, each {_words(typing.get_args(hint)[0])}"
    known = {str: "text", bool: "true or false", int: "a whole number", float: "a number", type(None): "null"}
    return known.get(hint, str(hint))


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
        for what, said in (("screen", self.name), ("control", self.control), *(("channel", c) for c in self.channels)):
            if len(said) > MAX_NAME or not said.isprintable():
                raise ConfigError(f"the name of a {what} is at most {MAX_NAME} printable characters, not {said!r:.60}")
        if not 8 <= self.patch_size_px <= MAX_PATCH_PX:
            raise ConfigError(f"a patch is 8 to {MAX_PATCH_PX} px wide, not {self.patch_size_px}")
        if self.pixel_size_um is not None and not self.pixel_size_um > 0:
            raise ConfigError(f"a pixel size is positive, not {self.pixel_size_um} um")
