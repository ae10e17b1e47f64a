"""Who lies where: one file a layout, each giving one table of fields or crops.

Channels are declared, never guessed, and stored in the order DNA, Tubulin, Actin (shown red, green, blue); channels of
other names follow in the order declared.
"""

from cytovae.ingest.layouts import bbbc021, crops, files, loaddata, omezarr, tables
from cytovae.ingest.layouts.crops import SOURCE, CropLayout
from cytovae.ingest.layouts.tables import (
    ABSENT,
    OK,
    REFUSED,
    UNTOLD,
    Design,
    Layout,
    Unit,
    field_name,
    frame_column,
    light_column,
    lit,
    note,
    path_column,
    stored_order,
)

__all__ = [
    "ABSENT",
    "OK",
    "REFUSED",
    "SOURCE",
    "UNTOLD",
    "CropLayout",
    "Design",
    "Layout",
    "Unit",
    "bbbc021",
    "crops",
    "field_name",
    "files",
    "frame_column",
    "light_column",
    "lit",
    "loaddata",
    "note",
    "omezarr",
    "path_column",
    "stored_order",
    "tables",
]
