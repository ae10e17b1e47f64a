"""Paths as files: figures, animations, pages and tables, as bytes with their provenance inside. Nothing here writes.

A scale bar is in um only where the pixel size is known, else in px.
"""

from __future__ import annotations

from cytovae.explore.render.colours import (
    COLOURS,
    LOOKS,
    OVERLAID,
    Limits,
    Look,
    composite,
    difference,
    scale_bar,
    shared_limits,
)
from cytovae.explore.render.strip import StripRow, gif, path_rows, population_rows, strip
from cytovae.explore.render.tables import PROVENANCE, csv, document, json_bytes, provenance_in, table
from cytovae.explore.render.webpage import webpage

__all__ = [
    "COLOURS",
    "LOOKS",
    "OVERLAID",
    "PROVENANCE",
    "Limits",
    "Look",
    "StripRow",
    "composite",
    "csv",
    "difference",
    "document",
    "gif",
    "json_bytes",
    "path_rows",
    "population_rows",
    "provenance_in",
    "scale_bar",
    "shared_limits",
    "strip",
    "table",
    "webpage",
]
