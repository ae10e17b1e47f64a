"""What is asked of an ingest, whatever the layout: one list of options, asked by command line and notebook alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from cytovae.config import PATCH_SIZE_PX, ScreenRecord, choice
from cytovae.errors import ConfigError
from cytovae.ingest import assembly, layouts, scale
from cytovae.ingest.illumination import Correction
from cytovae.ingest.layouts.tables import metadata_name
from cytovae.ingest.nuclei import NucleiOptions
from cytovae.patches import Storage


@dataclasses.dataclass(frozen=True)
class Request:
    """What may be said of any screen.

    Parameters
    ----------
    name : str, optional
        What to call it; its folder's name without.
    source, licence : str, optional
        Where the images come from and under what licence they are, if not what the layout knows.
    control : str
        Compound name of untreated cells.
    pixel_size_um : float, optional
        Edge of a pixel as acquired (um); without it what the images say.
    patch_size_px : int
        Edge of a patch.
    bit_depth : int
        Bits per pixel of the files: 16 or 8.
    column : mapping of str to str
        Column, in full or short (``compound``) -> what the tables call it.
    plate_map : Path, optional
        CSV with a row per well.
    treatment_columns : tuple of str, optional
        What tells treatments apart (see `cytovae.ingest.layouts.Design`).
    concentration_unit : Unit
        What doses of the tables are counted in.
    nucleus_px : float
        Usual diameter of a nucleus as acquired (px).
    rescale : str, optional
        ``nucleus``, or a pixel size in um: to the networks' scale (see `cytovae.ingest.scale.factor`); ``none``: as
        acquired, whatever the size of the nuclei.
    """

    name: str | None = None
    source: str | None = None
    licence: str | None = None
    control: str = "DMSO"
    pixel_size_um: float | None = None
    patch_size_px: int = PATCH_SIZE_PX
    bit_depth: int = 16
    column: Mapping[str, str] = dataclasses.field(default_factory=dict)
    plate_map: Path | None = None
    treatment_columns: tuple[str, ...] | None = None
    concentration_unit: layouts.Unit = layouts.Unit.UM
    nucleus_px: float = scale.NUCLEUS_PX
    rescale: str | None = None

    @property
    def design(self) -> layouts.Design:
        """What it says of the wells."""
        columns = {metadata_name(ours): theirs for ours, theirs in self.column.items()}
        unit = choice(layouts.Unit, self.concentration_unit, "unit of concentrations")
        return layouts.Design(columns, self.plate_map, self.treatment_columns, self.control, unit)

    def record(
        self, path: Path, layout: layouts.Layout | layouts.CropLayout, known: tuple[str, str] = ("", "")
    ) -> ScreenRecord:
        """The record of the screen to make.

        Parameters
        ----------
        path : Path
            Its folder.
        layout : Layout or CropLayout
            Its channels, and the pixel size where the images say it and the request does not.
        known : tuple of str
            Source and licence as the layout knows them; a source that is given makes the layout's licence void.
        """
        record = ScreenRecord(
            name=self.name or path.stem,
            channels=layout.channels,
            pixel_size_um=self.pixel_size_um or getattr(layout, "pixel_size_um", None),
            patch_size_px=self.patch_size_px,
            control=self.control,
            source=known[0] if self.source is None else self.source,
            licence=self.licence or (known[1] if self.source is None else ""),
        )
        if self.rescale in (None, scale.NONE):
            return record
        return scale.of(record, scale.factor(self.rescale, self.nucleus_px, record.pixel_size_um))

    def _check_width(self, width: float, seen: int, what: str, record: ScreenRecord) -> None:
        """Refuse nuclei of another width than patches are made for; `seen` images are what it was measured in."""
        wanted = scale.NUCLEUS_PX * record.patch_size_px / PATCH_SIZE_PX
        ratio = width * (record.scale or 1) / wanted
        if not seen or 1 / scale.FAR <= ratio <= scale.FAR:
            return
        shown = "the nucleus and little of its cell" if ratio > 1 else "a cell and several of its neighbours"
        raise ConfigError(
            f"nuclei are about {width:.0f} px wide (median of {seen} {what}{'s' * (seen > 1)})"
            + (f", {width * record.scale:.0f} px after --rescale" if record.scale else "")
            + f", and a patch of {record.patch_size_px} px is made for {wanted:.0f} px: it would show {shown}; give "
            f"--nucleus-px {width:.0f} --rescale nucleus, or --rescale none to keep the magnification"
        )


@dataclasses.dataclass(frozen=True)
class Fields(Request):
    """What may be said of a screen of fields.

    Parameters
    ----------
    z : str, optional
        What becomes of z-stacks: ``max``, ``sum``, or the number of one plane, from 1.
    labels : str, optional
        Take nuclei from label images whose names end in this.
    illumination : Correction
        Whose illumination fields are divided by.
    patches : Storage
        Whether the screen keeps its cells' pixels, or where they lie in the fields.
    """

    z: str | None = None
    labels: str | None = None
    illumination: Correction = Correction.NONE
    patches: Storage = Storage.STORED

    def check_scale(self, layout: layouts.Layout, raw: Path, record: ScreenRecord) -> None:
        """Measure nuclei in up to three fields before any cell is cut, and refuse a magnification that fits no patch.

        Nothing is checked where the scale is told: ``rescale`` is a pixel size, or ``none``.

        Parameters
        ----------
        layout : Layout
            The fields; paths relative to `raw` or absolute.
        raw : Path
            The folder of the images.
        record : ScreenRecord
            That of the screen to make.

        Raises
        ------
        ConfigError
            Nuclei are more than 1.5 times as wide as patches are made for, or less than 1 / 1.5 times.
        """
        if self.rescale in (None, scale.NUCLEUS):
            self._check_width(*assembly.nucleus_width(layout, raw, record, self.options), "field", record)

    @property
    def options(self) -> assembly.IngestOptions:
        """How fields become patches."""
        looked_for = NucleiOptions(diameter_px=self.nucleus_px)
        return assembly.IngestOptions(
            self.bit_depth, self.illumination, looked_for, self.z, labels=self.labels, patches=self.patches
        )


@dataclasses.dataclass(frozen=True)
class Crops(Request):
    """What may be said of a screen of pre-cut cells.

    Parameters
    ----------
    fit : bool
        Cut crops of another size to their centre, or pad them.
    """

    fit: bool = False

    def check_scale(self, layout: layouts.CropLayout, record: ScreenRecord) -> None:
        """Measure nuclei in up to 60 crops, and refuse a magnification that fits no patch, as `Fields.check_scale`.

        Parameters
        ----------
        layout : CropLayout
        record : ScreenRecord
            That of the screen to make.

        Raises
        ------
        ConfigError
            Nuclei are more than 1.5 times as wide as patches are made for, or less than 1 / 1.5 times.
        """
        if self.rescale in (None, scale.NUCLEUS):
            self._check_width(*assembly.width_in_crops(layout, record, self.options), "crop", record)

    @property
    def options(self) -> assembly.IngestOptions:
        """How crops become patches."""
        return assembly.IngestOptions(bit_depth=self.bit_depth, fit=self.fit or None)
