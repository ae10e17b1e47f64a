"""A simulated screen with known phenotypes, in the raw layout of BBBC021: the design, and the writing of it.

Every plate belongs to a week (the experimental batch, with its own stains, focus and crowding); a week's compounds lie
on all its plates, one well each, beside wells of DMSO. A mechanism's compounds lie in different weeks. Names say
``phantom``, so that nothing here can be taken for a measurement of a real compound.

What is written::

    RAW_DIR/
    ├── BBBC021_v1_image.csv, BBBC021_v1_moa.csv     the collection's columns
    ├── Week1/Week1_00101/Week1_00101_B02_s1_w1<UUID>.tif ...     w1 DNA, w2 tubulin, w4 actin
    ├── truth/cells.csv                              one row per cell whose nucleus lies in a field
    ├── truth/nuclei.csv                            one row per nucleus: a multinucleate cell has several
    ├── truth/wells.csv                              strength and number of cells of every well
    └── phantom.json                                 options and totals; written last
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytovae import __version__, schema
from cytovae.cluster import cores, share_out
from cytovae.config import from_dict, to_dict
from cytovae.errors import ConfigError, IngestError
from cytovae.phantom.cells import Optics, draw_field
from cytovae.phantom.traits import MECHANISMS
from cytovae.schema import Progress
from cytovae.screen import whole_file, write_json

IMAGE_TABLE = "BBBC021_v1_image.csv"
MOA_TABLE = "BBBC021_v1_moa.csv"
RECORD = "phantom.json"
_PARTS = ".phantom"
_BEGUN = f"{_PARTS}/options.json"
CONTROL = "DMSO"
WAVELENGTHS = (1, 2, 4)
"""File name codes of DNA, tubulin and actin in the collection."""

SLUGS = {
    "Actin disruptors": "actin",
    "Aurora kinase inhibitors": "aurora",
    "Cholesterol-lowering": "cholesterol",
    "DNA damage": "dna-damage",
    "DNA replication": "dna-replication",
    "Eg5 inhibitors": "eg5",
    "Epithelial": "epithelial",
    "Kinase inhibitors": "kinase",
    "Microtubule destabilizers": "mt-destabilizer",
    "Microtubule stabilizers": "mt-stabilizer",
    "Protein degradation": "protein-degradation",
    "Protein synthesis": "protein-synthesis",
}
_LETTERS = ("A", "B", "C")
_TOP_UM = (10.0, 1.0, 30.0)  # highest concentration of compounds A, B, C
_LADDER = (1.0, 0.3, 0.1, 0.03)  # concentrations against the highest
_LEVELS = tuple(
    (level, letter) for half in ((0, 1), (2, 3)) for letters in ((0, 1), (2,)) for level in half for letter in letters
)
MAX_TREATMENTS = len(MECHANISMS) * len(_LEVELS)
HILL = 1.6
EC50_OF_TOP = 1 / 6
"""The half-maximal concentration of every compound, as a part of its highest."""

_ROWS, _COLUMNS = "BCDEFG", range(2, 12)
_CONTROL_WELLS = ("B02", "D02", "F02", "C11", "E11", "G11", "C02", "E02", "G02", "B11", "D11", "F11")


@dataclass(frozen=True)
class PhantomOptions:
    """The size and the seed of a phantom screen.

    Parameters
    ----------
    treatments : int
        Compounds at a concentration, without DMSO. From 24 on every mechanism has two compounds in two weeks; from 36
        on, two concentrations as well.
    wells : int
        Wells of each treatment: one on each replicate plate of its week.
    cells : int
        Cells of an untreated well on average.
    seed : int
    weeks : int
        Experimental batches, at least 2 where a mechanism shall be found across them.
    controls : int
        DMSO wells on every plate, 1 to 12.
    sites : int
        Fields of a well.
    width_px, height_px : int
        Of a field; the collection's are 1280 x 1024.
    """

    treatments: int = 48
    wells: int = 2
    cells: int = 40
    seed: int = 0
    weeks: int = 3
    controls: int = 6
    sites: int = 1
    width_px: int = 640
    height_px: int = 512

    def __post_init__(self) -> None:
        limits = {
            "treatments": (1, MAX_TREATMENTS), "wells": (1, 99), "cells": (1, 4000), "seed": (0, 2**63 - 1),
            "weeks": (1, 9), "controls": (1, len(_CONTROL_WELLS)), "sites": (1, 9),
            "width_px": (128, 4096), "height_px": (128, 4096),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"a phantom screen takes {name} from {low} to {high}, not {value}")
        crowd = self.cells / self.sites * 280_000 / (self.width_px * self.height_px)
        if crowd > 75:
            raise ConfigError(
                f"{self.cells} cells do not fit in {self.sites} field(s) of {self.width_px} x {self.height_px} px; "
                "ask for fewer cells, more sites or larger fields"
            )
        busiest = max(np.bincount([t.week for t in treatments(self)]))
        free = len(_ROWS) * len(_COLUMNS) - self.controls
        if busiest > free:
            raise ConfigError(
                f"{busiest} treatments of one week do not fit on a plate with {free} free wells; ask for more weeks"
            )


@dataclass(frozen=True)
class Treatment:
    """One compound of the phantom screen at one concentration.

    Parameters
    ----------
    compound, moa : str
    concentration_uM : float
    strength : float
        Mean strength of the mechanism in [0, 1]: the Hill equation.
    week : int
        Index of the week, from 0.
    """

    compound: str
    moa: str
    concentration_uM: float
    strength: float
    week: int


def treatments(options: PhantomOptions) -> list[Treatment]:
    """The treatments of a screen: every mechanism's compound A at its highest concentration, then B, and so on."""
    chosen = []
    for level, letter in _LEVELS:
        for i, moa in enumerate(sorted(MECHANISMS)):
            part = _LADDER[level]
            chosen.append(
                Treatment(
                    compound=f"phantom-{SLUGS[moa]}-{_LETTERS[letter]}",
                    moa=moa,
                    concentration_uM=round(_TOP_UM[letter] * part, 6),
                    strength=float(part**HILL / (part**HILL + EC50_OF_TOP**HILL)),
                    week=(i + letter) % options.weeks,
                )
            )
    return chosen[: options.treatments]


@dataclass(frozen=True)
class _Field:
    """All that one field is drawn from."""

    plate: str
    well: str
    site: int
    replicate: int
    compound: str
    concentration_uM: float
    moa: str
    strength: float
    cells: float
    optics: Optics
    key: tuple[int, ...]

    def name(self, wavelength: int) -> str:
        code = uuid.uuid5(uuid.NAMESPACE_URL, f"cytovae phantom {self.key} w{wavelength}")
        return f"{self.plate}_{self.well}_s{self.site}_w{wavelength}{str(code).upper()}.tif"

    @property
    def folder(self) -> str:
        return f"{schema.batch_of(self.plate)}/{self.plate}"


def _individual(compound: str) -> dict[str, float]:
    """What is a compound's own beside its mechanism: factors on a few traits, the same in every screen."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(compound.encode()).digest()[:8], "big"))
    names = ("nucleus_area", "cell_radius", "tubulin", "actin", "elongation", "density", "chromatin", "stress_fibres")
    return {name: float(np.exp(0.07 * rng.standard_normal())) for name in names}


def _optics(options: PhantomOptions, week: int, plate: int) -> tuple[Optics, float]:
    """Stains, light, focus of a plate, and its crowding: mostly the week's, a little its own."""
    by_week = np.random.default_rng([options.seed, 1, week])
    own = np.random.default_rng([options.seed, 2, plate])
    gain = np.exp(0.20 * by_week.standard_normal(3) + 0.05 * own.standard_normal(3))
    background = np.array([14.0, 9.0, 16.0]) * np.exp(0.25 * by_week.standard_normal(3) + 0.08 * own.standard_normal(3))
    blur = 0.95 * np.exp(0.16 * by_week.standard_normal() + 0.06 * own.standard_normal())
    crowding = float(np.exp(0.12 * by_week.standard_normal() + 0.03 * own.standard_normal()))
    shade = []
    for _ in WAVELENGTHS:
        loss, (y, x) = by_week.uniform(0.08, 0.24), by_week.uniform(-0.15, 0.15, 2)
        shade.append((float(loss), float(y), float(x)))
    lens = Optics(
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        background=(float(background[0]), float(background[1]), float(background[2])),
        blur_px=float(blur),
        shade=tuple(shade),
    )
    return lens, crowding


def _fields(options: PhantomOptions) -> list[_Field]:
    """Every field of the screen, plate by plate, well by well."""
    fields = []
    chosen = treatments(options)
    for week in range(options.weeks):
        here = [t for t in chosen if t.week == week]
        for replicate in range(options.wells):
            number = week * options.wells + replicate
            plate = f"Week{week + 1}_{100 * (week + 1) + replicate + 1:05d}"
            optics, crowding = _optics(options, week, number)
            rng = np.random.default_rng([options.seed, 3, number])
            controls = _CONTROL_WELLS[: options.controls]
            free = [f"{r}{c:02d}" for r in _ROWS for c in _COLUMNS if f"{r}{c:02d}" not in controls]
            spots = sorted(rng.choice(len(free), len(here), replace=False).tolist())
            content: dict[str, Treatment | None] = dict.fromkeys(controls)
            content |= {free[k]: here[j] for k, j in zip(spots, rng.permutation(len(here)), strict=True)}
            for w, well in enumerate(sorted(content)):
                for site in range(1, options.sites + 1):
                    key = (options.seed, 4, number, w, site)
                    cells = options.cells / options.sites * crowding
                    fields.append(_field(plate, well, site, replicate + 1, content[well], cells, optics, key))
    return fields


def _field(
    plate: str,
    well: str,
    site: int,
    replicate: int,
    treatment: Treatment | None,
    cells: float,
    optics: Optics,
    key: tuple[int, ...],
) -> _Field:
    """One field of a well; its staining and focus a little off the plate's."""
    rng = np.random.default_rng([*key, 0])
    dna, tubulin, actin = (float(g * np.exp(0.04 * rng.standard_normal())) for g in optics.gain)
    blur = float(optics.blur_px * np.exp(abs(0.18 * rng.standard_normal())))
    return _Field(
        plate=plate,
        well=well,
        site=site,
        replicate=replicate,
        compound=treatment.compound if treatment else CONTROL,
        concentration_uM=treatment.concentration_uM if treatment else 0.0,
        moa=treatment.moa if treatment else CONTROL,
        strength=treatment.strength if treatment else 0.0,
        cells=cells,
        optics=dataclasses.replace(optics, gain=(dna, tubulin, actin), blur_px=blur),
        key=key,
    )


def _draw(root: Path, options: PhantomOptions, field: _Field) -> None:
    """Draw and write one field; its truth last, so that a truth file says the field is whole."""
    import tifffile

    if _truth_part(root, field, "cells").exists():
        return
    counts, cells, nuclei = draw_field(
        None if field.moa == CONTROL else field.moa,
        field.strength,
        _individual(field.compound) if field.moa != CONTROL else {},
        field.cells,
        (options.height_px, options.width_px),
        field.optics,
        np.random.default_rng([*field.key, 1]),
    )
    for c, wavelength in enumerate(WAVELENGTHS):
        with whole_file(root / field.folder / field.name(wavelength)) as beside:
            tifffile.imwrite(
                beside, counts[..., c], photometric="minisblack", metadata=None, software=None, datetime=None,
                description=f"phantom: a simulated field, not a measurement; cytovae, seed {options.seed}",
            )  # fmt: skip
    place: dict[str, str | float] = {
        "plate": field.plate,
        "well": field.well,
        "site": field.site,
        "compound": field.compound,
        "concentration_uM": field.concentration_uM,
        "moa": field.moa,
        "dose_strength": field.strength,
    }
    for kind, table in (("nuclei", nuclei), ("cells", cells)):
        for position, (name, value) in enumerate(place.items()):
            table.insert(position, name, value)
        with whole_file(_truth_part(root, field, kind)) as beside:
            beside.write_text(_csv(table))


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _truth_part(root: Path, field: _Field, kind: str) -> Path:
    return root / _PARTS / f"{field.plate}_{field.well}_s{field.site}.{kind}.csv"


def _truth(root: Path, fields: list[_Field], kind: str) -> pd.DataFrame:
    """The truth of all fields."""
    parts = [pd.read_csv(_truth_part(root, f, kind)) for f in fields]
    return pd.concat([p for p in parts if len(p)] or parts[:1], ignore_index=True)


def _image_table(fields: list[_Field]) -> pd.DataFrame:
    """The collection's image table for these fields."""
    plates = {plate: number for number, plate in enumerate(dict.fromkeys(f.plate for f in fields), start=1)}
    return pd.DataFrame(
        [
            {
                "TableNumber": plates[f.plate],
                "ImageNumber": number,
                "Image_FileName_DAPI": f.name(1),
                "Image_PathName_DAPI": f.folder,
                "Image_FileName_Tubulin": f.name(2),
                "Image_PathName_Tubulin": f.folder,
                "Image_FileName_Actin": f.name(4),
                "Image_PathName_Actin": f.folder,
                "Image_Metadata_Plate_DAPI": f.plate,
                "Image_Metadata_Well_DAPI": f.well,
                "Replicate": f.replicate,
                "Image_Metadata_Compound": f.compound,
                "Image_Metadata_Concentration": f.concentration_uM,
            }
            for number, f in enumerate(fields, start=1)
        ]
    )


def _moa_table(options: PhantomOptions) -> str:
    """The collection's MoA table, in its own quoting."""
    rows = [(t.compound, t.concentration_uM, t.moa) for t in treatments(options)] + [(CONTROL, 0.0, CONTROL)]
    return '"compound",concentration,"moa"\n' + "".join(f'"{c}",{x:.6f},"{m}"\n' for c, x, m in sorted(rows))


def _well_table(fields: list[_Field], cells: pd.DataFrame) -> pd.DataFrame:
    """One row per well: what was in it, how strong, how many cells."""
    wells = pd.DataFrame(
        {
            "plate": [f.plate for f in fields],
            "well": [f.well for f in fields],
            "batch": [schema.batch_of(f.plate) for f in fields],
            "replicate": [f.replicate for f in fields],
            "compound": [f.compound for f in fields],
            "concentration_uM": [f.concentration_uM for f in fields],
            "moa": [f.moa for f in fields],
            "dose_strength": [f.strength for f in fields],
            "gain_dna": [f.optics.gain[0] for f in fields],
            "gain_tubulin": [f.optics.gain[1] for f in fields],
            "gain_actin": [f.optics.gain[2] for f in fields],
            "blur_px": [f.optics.blur_px for f in fields],
        }
    )
    keys = ["plate", "well"]
    wells = wells.groupby(keys, sort=False, as_index=False).first()
    counts = cells.groupby(keys, as_index=False).size().rename(columns={"size": "cells"})
    wells = wells.merge(counts, on=keys, how="left")
    return wells.assign(cells=wells["cells"].fillna(0).astype(int))


def _clear(root: Path, weeks: int) -> None:
    """Remove what an earlier run wrote here, and only that."""
    for week in range(1, weeks + 1):
        shutil.rmtree(root / f"Week{week}", ignore_errors=True)
    for folder in ("truth", _PARTS):
        shutil.rmtree(root / folder, ignore_errors=True)
    for name in (IMAGE_TABLE, MOA_TABLE, RECORD):
        (root / name).unlink(missing_ok=True)


def _found(root: Path) -> tuple[dict[str, Any], bool] | None:
    """The record of the phantom screen that lies in a folder, and whether it is whole rather than begun."""
    for path, whole in ((root / RECORD, True), (root / _BEGUN, False)):
        if path.exists():
            try:
                record = json.loads(path.read_text())
                return {**record, "options": from_dict(PhantomOptions, record["options"])}, whole
            except (ValueError, KeyError, TypeError, ConfigError):
                raise IngestError(f"{path} does not tell of a phantom screen; name a new or an empty folder") from None
    if root.is_dir() and any(p.name != _PARTS for p in root.iterdir()):
        raise IngestError(f"{root} holds files that are no phantom screen; name a new or an empty folder")
    return None


def write(
    raw_dir: str | Path,
    options: PhantomOptions,
    processes: int | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a phantom screen, or go on where a stopped run left off; the same options give the same bytes.

    Parameters
    ----------
    raw_dir : Path
        New or empty, or with the same phantom screen, begun or whole.
    options : PhantomOptions
    processes : int, optional
        How many draw at the same time; by default as many as there are cores. The bytes do not depend on it.
    progress : callable, optional
        Called with fields done and in all.
    overwrite : bool
        Remove a phantom screen that is there and write anew.

    Returns
    -------
    dict
        ``options``, totals (``cells``, ``nuclei``, ``fields``, ``wells``, ``plates``, ``treatments``, ``mechanisms``,
        ``weeks``), and ``already_there``: whether it was whole before.

    Raises
    ------
    IngestError
        The folder holds something else, or a phantom screen with other options; or a drawing process died.
    """
    root = Path(raw_dir)
    found = _found(root)
    if found and overwrite:
        _clear(root, found[0]["options"].weeks)
    elif found:
        record, whole = found
        there = to_dict(record["options"])
        other = [f"{k}={there[k]}" for k, v in to_dict(options).items() if v != there[k]]
        if other:
            raise IngestError(
                f"{root} holds a phantom screen with other options ({', '.join(other)}); "
                "name another folder or overwrite it"
            )
        if whole:
            shutil.rmtree(root / _PARTS, ignore_errors=True)
            return {**record, "options": there, "already_there": True}
        if record["cytovae"] != __version__:
            raise IngestError(
                f"{root} was begun by cytovae {record['cytovae']} and this is {__version__}; overwrite it"
            )
    for left in root.glob("Week*/*/.*.part"):  # of a killed run
        left.unlink(missing_ok=True)
    write_json(root / _BEGUN, {"options": to_dict(options), "cytovae": __version__})

    fields = _fields(options)
    drawn = share_out(functools.partial(_draw, root, options), fields, processes or cores())
    for done, _ in enumerate(drawn, start=1):
        if progress:
            progress(done, len(fields))

    cells, nuclei = _truth(root, fields, "cells"), _truth(root, fields, "nuclei")
    texts = {
        "truth/cells.csv": _csv(cells),
        "truth/nuclei.csv": _csv(nuclei),
        "truth/wells.csv": _csv(_well_table(fields, cells)),
        IMAGE_TABLE: _image_table(fields).to_csv(index=False, lineterminator="\n"),
        MOA_TABLE: _moa_table(options),
    }
    for name, text in texts.items():
        with whole_file(root / name) as beside:
            beside.write_text(text)
    record = {
        "cytovae": __version__,
        "options": to_dict(options),
        "cells": len(cells),
        "nuclei": len(nuclei),
        "fields": len(fields),
        "wells": len({(f.plate, f.well) for f in fields}),
        "plates": len({f.plate for f in fields}),
        "treatments": options.treatments,
        "mechanisms": len({t.moa for t in treatments(options)}),
        "weeks": options.weeks,
    }
    write_json(root / RECORD, record)
    shutil.rmtree(root / _PARTS)
    return {**record, "already_there": False}


DEMO = PhantomOptions()
"""The phantom screen of ``cytovae demo``."""
