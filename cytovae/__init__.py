"""See what a drug does to a cell: embeddings of single-cell images that decode back into cells.

The names below are loaded when they are first used, so ``import cytovae`` costs next to nothing; what they do is in
`cytovae.front`.

Examples
--------
>>> import cytovae
>>> sorted(set(cytovae.__all__) & {"open_screen", "load_model", "train"})
['load_model', 'open_screen', 'train']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cytovae.front import (
        CellTable,
        Drawing,
        OpenScreen,
        Reconstructions,
        benchmark,
        embed,
        ingest_crops,
        ingest_fields,
        interpolate,
        load_model,
        open_screen,
        profile,
        reconstruct,
        train,
    )

__version__ = "0.3.0"

__all__ = [
    "CellTable",
    "Drawing",
    "OpenScreen",
    "Reconstructions",
    "benchmark",
    "embed",
    "ingest_crops",
    "ingest_fields",
    "interpolate",
    "load_model",
    "open_screen",
    "profile",
    "reconstruct",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from cytovae import front

        return getattr(front, name)
    raise AttributeError(f"module 'cytovae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
