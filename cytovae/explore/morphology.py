"""What changes along a path, in a biologist's measurements: CellProfiler's definitions (cp_measure) on patches.

Real and decoded patches are measured alike, after each channel is scaled to its own maximum; so an intensity here is a
share of the brightest pixel of the patch, not an amount of stain.

Masks, on a patch with the nucleus in its middle (`masks`): the nucleus is the Otsu-bright part of the smoothed DNA
image at the centre, cut where it narrows to less than 70 % of its width; the cell is what is connected to it, nearer to
it than to any other nucleus, and brighter in the other channels than 30 % of the way from the darkest part of the patch
to the rim of the nucleus. A cell is cut at the patch's edge; of a fragmented nucleus, one lobe may count.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae.errors import SelectionError
from cytovae.explore.intervals import pairs_interval
from cytovae.patches import Floats, normalise

Masks = npt.NDArray[np.bool_]

DNA_NAMES = ("dna", "dapi", "hoechst", "nuclei", "nucleus")
SMOOTHING_PX = 1.0
RIM_PX = 3
"""Width of the ring around the nucleus whose median brightness stands for the cell."""
CELL_LEVEL = 0.3
NECK = 0.7
MIN_NUCLEUS_PX2 = 20
TEXTURE_SCALE_PX, TEXTURE_LEVELS = 3, 32
GRANULARITY_SAMPLING = 0.5
"""Granularity is read on the patch at half size: its first term is what an opening of about 2 px takes away."""


@dataclass(frozen=True)
class Measure:
    """One measurement.

    Parameters
    ----------
    name : str
        Column of the tables.
    label : str
        In words, with its unit.
    source : str
        What it is in CellProfiler's names.
    """

    name: str
    label: str
    source: str


@dataclass(frozen=True)
class Along:
    """Measurements along a path, against real cells.

    Parameters
    ----------
    steps : DataFrame
        One row per step, one column per measure.
    spread : DataFrame
        One row per measure (index): ``control_mean``, ``control_sd``, ``control_p05``, ``control_p95`` and, where
        treated cells were given, the same of them.
    ranked : DataFrame
        What changed most first: ``measure``, ``label``, ``start``, ``end``, ``change``, ``change_sd`` (in standard
        deviations of the controls) and, where treated cells were given, ``expected_sd``: the difference of the two
        populations' means.
    raw : DataFrame or None
        What the brightness of the real cells was as acquired, see `cytovae.explore.study.raw_intensity`; None where
        there are no patches to read.
    """

    steps: pd.DataFrame
    spread: pd.DataFrame
    ranked: pd.DataFrame
    raw: pd.DataFrame | None = None


def measures(channels: Sequence[str], pixel_size_um: float | None = None) -> tuple[Measure, ...]:
    """What `measure` gives: about twenty measurements; areas in um² and lengths in um where the pixel size is known.

    Examples
    --------
    >>> [m.name for m in measures(["DNA", "Actin"], 0.65)][:3]
    ['nucleus_area_um2', 'nucleus_eccentricity', 'nucleus_solidity']
    """
    unit = "px" if pixel_size_um is None else "um"
    dna = dna_channel(channels)
    name = channels[dna]
    key = _key(name)
    out = [
        Measure(f"nucleus_area_{unit}2", f"nuclear area ({unit}²)", "Nuclei AreaShape_Area"),
        Measure("nucleus_eccentricity", "nuclear eccentricity (0 round to 1)", "Nuclei AreaShape_Eccentricity"),
        Measure("nucleus_solidity", "nuclear solidity (1 = no dents)", "Nuclei AreaShape_Solidity"),
        Measure(
            f"{key}_mean",
            f"{name} mean in the nucleus (share of the brightest pixel)",
            f"Nuclei Intensity_MeanIntensity_{name}",
        ),
        Measure(f"{key}_sd", f"{name} s.d. in the nucleus", f"Nuclei Intensity_StdIntensity_{name}"),
        Measure(f"{key}_texture", f"{name} texture contrast", f"Nuclei Texture_Contrast_{name}_3, mean of directions"),
        Measure(f"{key}_granularity", f"{name} fine granularity (%)", f"Nuclei Granularity_1_{name}"),
        Measure(f"cell_area_{unit}2", f"cell area in view ({unit}²)", "Cells AreaShape_Area"),
        Measure("cell_form_factor", "cell form factor (1 = disc)", "Cells AreaShape_FormFactor"),
        Measure("nucleus_to_cell_area", "nuclear share of the cell area", "ratio of the two areas"),
    ]
    for c, name in enumerate(channels):
        if c == dna:
            continue
        key = _key(name)
        out += [
            Measure(
                f"{key}_mean",
                f"{name} mean in the cell (share of the brightest pixel)",
                f"Cells Intensity_MeanIntensity_{name}",
            ),
            Measure(f"{key}_sd", f"{name} s.d. in the cell", f"Cells Intensity_StdIntensity_{name}"),
            Measure(
                f"{key}_texture", f"{name} texture contrast", f"Cells Texture_Contrast_{name}_3, mean of directions"
            ),
            Measure(f"{key}_granularity", f"{name} fine granularity (%)", f"Cells Granularity_1_{name}"),
            Measure(
                f"{key}_nucleus_distance_{unit}",
                f"nucleus to {name} centre of mass ({unit})",
                f"Nuclei Center to Cells Location_CenterMassIntensity_{name}",
            ),
            Measure(
                f"{key}_rim_share",
                f"share of {name} in the outer quarter",
                f"Cells RadialDistribution_FracAtD_{name}_4of4",
            ),
        ]
    return tuple(out)


def dna_channel(channels: Sequence[str]) -> int:
    """The channel that shows nuclei: the one named so, else the first."""
    for c, name in enumerate(channels):
        if any(word in name.lower() for word in DNA_NAMES):
            return c
    return 0


def masks(images: npt.NDArray, channels: Sequence[str]) -> tuple[Masks, Masks]:
    """The nucleus and the cell in the middle of each patch (see the module's head).

    Parameters
    ----------
    images : (n, H, W, C) uint16 or float
    channels : sequence of str

    Returns
    -------
    tuple of two (n, H, W) bool
        Nucleus, and the cell with its nucleus; both empty where no nucleus of `MIN_NUCLEUS_PX2` is at the centre.
    """
    return _masks(normalise(images), dna_channel(channels))


def measure(
    images: npt.NDArray,
    channels: Sequence[str],
    pixel_size_um: float | None = None,
    full: bool = False,
    check: Callable[[], None] = lambda: None,
) -> pd.DataFrame:
    """Measurements of the cell in the middle of each patch.

    Parameters
    ----------
    images : (n, H, W, C) uint16 or float
        Real or decoded.
    channels : sequence of str
    pixel_size_um : float or None
        Areas and lengths are in um where it is known, else in px.
    full : bool
        Add everything cp_measure has (about 160 columns per channel, in px, named as CellProfiler names them); slow.
    check : callable
        Called for every patch and channel; it may end the work by an exception.

    Returns
    -------
    DataFrame
        One row per patch, the columns of `measures`; not-a-number where no nucleus was found.
    """
    images = normalise(images)
    dna = dna_channel(channels)
    nucleus, cell = _masks(images, dna)
    names = [m.name for m in measures(channels, pixel_size_um)]
    found = np.flatnonzero(nucleus.any(axis=(1, 2)))
    out = pd.DataFrame(np.nan, index=range(len(images)), columns=names)
    if not len(found):
        return out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # flat or tiny objects make ratios of nothing; they come out as not-a-number
        columns = _subset(images[found], channels, dna, nucleus[found], cell[found], pixel_size_um, check)
        for name in names:
            out.loc[found, name] = columns[name]
        if full:
            more = [_everything(images[i], channels, nucleus[i], cell[i]) for i in found]
            out = out.join(pd.DataFrame(more, index=found))
    return out


def along(
    frames: npt.NDArray,
    channels: Sequence[str],
    controls: pd.DataFrame,
    treated: pd.DataFrame | None = None,
    pixel_size_um: float | None = None,
) -> Along:
    """The measurements of each step of a path, set against those of cells.

    Parameters
    ----------
    frames : (k, H, W, C)
        A path's.
    channels : sequence of str
    controls, treated : DataFrame
        `measure` of control cells and of the treatment's cells. Decoded cells (the generator's reconstructions) are
        the fair comparison for decoded steps; of real cells it shows in addition what the generator smooths away.
    pixel_size_um : float or None
        As in `measure`.

    Raises
    ------
    SelectionError
        Fewer than two control cells with a nucleus: there is no spread to compare with.
    """
    steps = measure(frames, channels, pixel_size_um)
    named = measures(channels, pixel_size_um)
    if controls.iloc[:, 0].notna().sum() < 2:
        raise SelectionError("morphology needs at least 2 control cells in which a nucleus is found")
    groups = {"control": controls} if treated is None else {"control": controls, "treated": treated}
    spread = pd.DataFrame(
        {
            f"{group}_{word}": value
            for group, table in groups.items()
            for word, value in (
                ("mean", table.mean()),
                ("sd", table.std()),
                ("p05", table.quantile(0.05)),
                ("p95", table.quantile(0.95)),
            )
        }
    ).loc[[m.name for m in named]]
    sd = spread["control_sd"].where(spread["control_sd"] > 0)
    change = steps.iloc[-1] - steps.iloc[0]
    ranked = pd.DataFrame(
        {
            "measure": [m.name for m in named],
            "label": [m.label for m in named],
            "start": steps.iloc[0].to_numpy(),
            "end": steps.iloc[-1].to_numpy(),
            "change": change.to_numpy(),
            "change_sd": (change / sd).to_numpy(),
        }
    )
    if treated is not None:
        ranked["expected_sd"] = differences(controls, treated)[[m.name for m in named]].to_numpy()
    order = ranked["change_sd"].abs().sort_values(ascending=False, na_position="last", kind="stable").index
    return Along(steps, spread, ranked.loc[order].reset_index(drop=True))


def grey_levels(images: npt.NDArray, channels: Sequence[str]) -> npt.NDArray[np.float64]:
    """Mean grey levels of the cell in the middle of each patch: of the DNA in its nucleus, of the others in the cell.

    Parameters
    ----------
    images : (n, H, W, C)
        As acquired: nothing is scaled, and no background is taken away.
    channels : sequence of str

    Returns
    -------
    (n, C) float64
        Not-a-number where no nucleus is found.
    """
    nucleus, cell = masks(images, channels)
    dna = dna_channel(channels)
    out = np.full((len(images), len(channels)), np.nan)
    for i in np.flatnonzero(nucleus.any(axis=(1, 2))):
        for c in range(len(channels)):
            out[i, c] = images[i, ..., c][nucleus[i] if c == dna else cell[i]].mean()
    return out


def differences(controls: pd.DataFrame, treated: pd.DataFrame) -> pd.Series:
    """Mean of treated minus mean of control cells, in standard deviations of the controls, by measure.

    Parameters
    ----------
    controls, treated : DataFrame
        `measure` of real cells, or of decoded ones.
    """
    sd = controls.std()
    return (treated.mean() - controls.mean()) / sd.where(sd > 0)


NOTABLE_SD = 1.0
"""A change along a path of fewer standard deviations is not told in words."""


class Beside(StrEnum):
    """What real cells do beside a change along a path."""

    SO_TOO = "do so too"
    LESS = "do so less"
    NOT = "do not"
    UNTOLD = "too few to tell"
    UNMEASURED = "not measured"


def compared(
    controls: pd.DataFrame, treated: pd.DataFrame, control_units: npt.ArrayLike, treated_units: npt.ArrayLike
) -> pd.DataFrame:
    """`differences` with 95 % intervals over wells.

    The half-width is the root of the sum of squares of those of the two means, each by its own t (Zou & Donner 2008).
    The standard deviation that all is divided by is taken as known.

    Parameters
    ----------
    controls, treated : DataFrame
        `measure` of real cells.
    control_units, treated_units : (n,) int
        What counts as one, of every row: see `cytovae.explore.targets.units`.

    Returns
    -------
    DataFrame
        ``sd``, ``low``, ``high`` by measure; null where it was found in too few cells.
    """
    sd = controls.std()
    sides = [
        pairs_interval(table.to_numpy(np.float64), units)
        for table, units in ((controls, control_units), (treated, treated_units))
    ]
    found = sides[1].mean - sides[0].mean
    half = np.hypot(sides[0].half(), sides[1].half())
    scaled = pd.DataFrame({"sd": found, "low": found - half, "high": found + half}, index=controls.columns)
    return scaled.div(sd.where(sd > 0), axis=0)


def beside(path_sd: float, low: float, high: float) -> Beside:
    """What the real cells do, as far as the interval of their difference tells.

    They do so too where the interval lies on the path's side of 0, and do not, or less, where it stays below half of
    the path's change: each is said wrongly in at most one of forty, whatever the real cells do.

    Parameters
    ----------
    path_sd : float
        The change along the path.
    low, high : float
        The 95 % interval of the real cells' difference.
    """
    if not np.isfinite([path_sd, low, high]).all():
        return Beside.UNMEASURED
    if path_sd < 0:
        path_sd, low, high = -path_sd, -high, -low
    if high < path_sd / 2:
        return Beside.LESS if low > 0 else Beside.NOT
    return Beside.SO_TOO if low > 0 else Beside.UNTOLD


def told(ranked: pd.DataFrame, real: pd.DataFrame, n: int = 3) -> list[tuple[str, Beside]]:
    """The largest changes along a path in words, each beside what the treatment's real cells do.

    Parameters
    ----------
    ranked : DataFrame
        Of an `Along`.
    real : DataFrame
        `compared` of real cells.
    n : int
        How many are told, at most.

    Returns
    -------
    list of (str, Beside)
        A sentence, and what the real cells do; empty where nothing changes by `NOTABLE_SD`.
    """
    out = []
    large = ranked[ranked["change_sd"].abs() >= NOTABLE_SD].head(n)
    for measure, label, change in large[["measure", "label", "change_sd"]].itertuples(index=False):
        what = label.split(" (")[0]
        verb = "rises" if change > 0 else "falls"
        sd, low, high = real.reindex([measure])[["sd", "low", "high"]].iloc[0].astype(float)
        seen = f"{sd:+.1f} [{low:+.1f}, {high:+.1f}]"
        says = beside(change, low, high)
        so = {
            Beside.SO_TOO: f"the treatment's real cells do so too: {seen}",
            Beside.LESS: f"the treatment's real cells do so less: {seen}",
            Beside.NOT: f"the treatment's real cells do not: {seen}",
            Beside.UNTOLD: f"real cells are too few to tell whether they do so: {seen}",
            Beside.UNMEASURED: "it could not be measured in enough real cells",
        }[says]
        sentence = f"{what[:1].upper()}{what[1:]} {verb} by {abs(change):.1f} s.d. of control cells; {so}."
        out.append((sentence, says))
    return out


def population(
    frames: npt.NDArray,
    channels: Sequence[str],
    pixel_size_um: float | None = None,
    first: npt.ArrayLike | None = None,
    second: npt.ArrayLike | None = None,
    check: Callable[[], None] = lambda: None,
) -> pd.DataFrame:
    """Mean curves with 95 % intervals over the paths of many cells.

    Parameters
    ----------
    frames : (n, k, H, W, C)
        See `cytovae.explore.paths.PopulationPath`.
    first, second : (n,), optional
        What the ends of each pair are units of, see `cytovae.explore.intervals.pairs_interval`.
    check : callable
        As of `measure`.

    Returns
    -------
    DataFrame
        Long: ``measure``, ``step``, ``mean``, ``low``, ``high``, ``change``, ``change_low``, ``change_high`` (of the
        difference to step 0 within each path) and ``n`` paths in which a nucleus was found at that step.
    """
    n, k = frames.shape[:2]
    table = measure(frames.reshape(n * k, *frames.shape[2:]), channels, pixel_size_um, check=check)
    values = table.to_numpy().reshape(n, k, -1)  # (n, k, measures)
    found, moved = (pairs_interval(v, first, second) for v in (values, values - values[:, :1]))
    mean, low, high = found.mean, found.low(), found.high()
    change, change_low, change_high = moved.mean, moved.low(), moved.high()
    count = np.isfinite(values).sum(axis=0)
    return pd.DataFrame(
        {
            "measure": np.tile(np.array(table.columns), k),
            "step": np.repeat(np.arange(k), len(table.columns)),
            "mean": mean.ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
            "change": change.ravel(),
            "change_low": change_low.ravel(),
            "change_high": change_high.ravel(),
            "n": count.ravel(),
        }
    )


def _key(channel: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in channel.lower())


def _masks(images: Floats, dna: int) -> tuple[Masks, Masks]:
    import cv2
    from scipy import ndimage

    n, height, width, n_channels = images.shape
    nucleus = np.zeros((n, height, width), dtype=bool)
    cell = np.zeros_like(nucleus)
    middle = (height - 1) / 2, (width - 1) / 2
    others = [c for c in range(n_channels) if c != dna]
    ring = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * RIM_PX + 1, 2 * RIM_PX + 1))
    for i, image in enumerate(images):
        labels = bright_parts(image[..., dna])
        ys, xs = np.nonzero(labels)
        if not len(ys):
            continue
        apart = (ys - middle[0]) ** 2 + (xs - middle[1]) ** 2
        closest = int(np.argmin(apart))
        if apart[closest] > (min(height, width) / 4) ** 2:
            continue
        centre = ys[closest], xs[closest]
        mine = _lobe(labels == labels[centre], centre)
        nucleus[i] = ndimage.binary_fill_holes(mine)
        if not others:
            cell[i] = nucleus[i]
            continue
        body = cv2.GaussianBlur(np.ascontiguousarray(image[..., others].mean(axis=2)), (0, 0), SMOOTHING_PX)
        rim = cv2.dilate(nucleus[i].astype(np.uint8), ring).astype(bool) & ~nucleus[i]
        dark = float(np.percentile(body, 1))
        level = dark + CELL_LEVEL * (float(np.median(body[rim])) - dark) if rim.any() else dark
        # each pixel to its nearest nucleus: what is nearer to a neighbour belongs to the neighbour
        _, (near_y, near_x) = ndimage.distance_transform_edt(labels == 0, return_indices=True)
        ours = nucleus[i] | ((body > level) & mine[near_y, near_x])
        _, parts = cv2.connectedComponents(ours.astype(np.uint8), connectivity=4)
        cell[i] = ndimage.binary_fill_holes(parts == parts[centre]) | nucleus[i]
    return nucleus, cell


def bright_parts(dna: npt.NDArray) -> npt.NDArray[np.int32]:
    """The Otsu-bright parts of a smoothed DNA image in [0, 1], of `MIN_NUCLEUS_PX2` at least: labels, 0 elsewhere."""
    import cv2

    smooth = cv2.GaussianBlur(np.ascontiguousarray(dna), (0, 0), SMOOTHING_PX)
    grey = np.rint(255 * np.clip(smooth, 0, 1)).astype(np.uint8)
    if grey.max() == grey.min():
        return np.zeros(grey.shape, np.int32)
    _, bright = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(bright, connectivity=8)
    big = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= MIN_NUCLEUS_PX2)
    return np.where(np.isin(labels, big[big > 0]), labels, 0).astype(np.int32)


def _lobe(part: Masks, centre: tuple[int, int]) -> Masks:
    """Of nuclei that touch, the one at `centre`: cores `NECK` times as thick as the thickest, with what is nearest."""
    import cv2
    from scipy import ndimage

    depth = cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 5)  # a nucleus cut by the patch goes on
    n, cores = cv2.connectedComponents((depth > NECK * depth.max()).astype(np.uint8))
    if n <= 2:
        return part
    _, (near_y, near_x) = ndimage.distance_transform_edt(cores == 0, return_indices=True)
    nearest = cores[near_y, near_x]
    return np.asarray(part & (nearest == nearest[centre]))


def _mosaic(images: npt.NDArray, gap: int = 2) -> npt.NDArray:
    """(n, H, W) set under each other with empty rows between: one call measures them all."""
    return np.pad(images, ((0, 0), (0, gap), (0, 0))).reshape(-1, images.shape[2])


def _subset(
    images: Floats,
    channels: Sequence[str],
    dna: int,
    nucleus: Masks,
    cell: Masks,
    pixel_size_um: float | None,
    check: Callable[[], None],
) -> dict[str, npt.NDArray[np.float64]]:
    from cp_measure.core.measuregranularity import get_granularity
    from cp_measure.core.measureobjectintensity import get_intensity
    from cp_measure.core.measureobjectintensitydistribution import get_radial_distribution
    from cp_measure.core.measureobjectsizeshape import get_sizeshape
    from cp_measure.core.measuretexture import get_texture

    n = len(images)
    unit, scale = ("px", 1.0) if pixel_size_um is None else ("um", pixel_size_um)
    number = np.arange(1, n + 1, dtype=np.int32)[:, None, None]
    labels = {"nucleus": _mosaic(nucleus * number), "cell": _mosaic(cell * number)}
    pixels = [_mosaic(images[..., c].astype(np.float64)) for c in range(len(channels))]
    shape = {k: get_sizeshape(v, pixels[dna], calculate_advanced=False) for k, v in labels.items()}

    def texture(where: str, c: int) -> npt.NDArray[np.float64]:
        given = get_texture(labels[where], pixels[c], TEXTURE_SCALE_PX, TEXTURE_LEVELS)
        return np.asarray(np.mean([v for k, v in given.items() if k.startswith("Contrast")], axis=0))

    def granularity(mask: Masks, c: int) -> npt.NDArray[np.float64]:
        # reads beyond the mask, so patch by patch
        found = []
        for i in range(n):
            check()
            spectrum = get_granularity(
                mask[i].astype(np.int32),
                images[i, ..., c].astype(np.float64),
                subsample_size=GRANULARITY_SAMPLING,
                granular_spectrum_length=1,
            )
            found.append(spectrum["Granularity_1"][0])
        return np.array(found)

    key = _key(channels[dna])
    light = get_intensity(labels["nucleus"], pixels[dna], edge_measurements=False)
    out = {
        f"nucleus_area_{unit}2": shape["nucleus"]["Area"] * scale**2,
        "nucleus_eccentricity": shape["nucleus"]["Eccentricity"],
        "nucleus_solidity": shape["nucleus"]["Solidity"],
        f"{key}_mean": light["Intensity_MeanIntensity"],
        f"{key}_sd": light["Intensity_StdIntensity"],
        f"{key}_texture": texture("nucleus", dna),
        f"{key}_granularity": granularity(nucleus, dna),
        f"cell_area_{unit}2": shape["cell"]["Area"] * scale**2,
        "cell_form_factor": shape["cell"]["FormFactor"],
        "nucleus_to_cell_area": shape["nucleus"]["Area"] / shape["cell"]["Area"],
    }
    for c, name in enumerate(channels):
        if c == dna:
            continue
        key = _key(name)
        light = get_intensity(labels["cell"], pixels[c], edge_measurements=False)
        out[f"{key}_mean"] = light["Intensity_MeanIntensity"]
        out[f"{key}_sd"] = light["Intensity_StdIntensity"]
        out[f"{key}_texture"] = texture("cell", c)
        out[f"{key}_granularity"] = granularity(cell, c)
        out[f"{key}_nucleus_distance_{unit}"] = scale * np.hypot(
            light["Location_CenterMassIntensity_X"] - shape["nucleus"]["Center_X"],
            light["Location_CenterMassIntensity_Y"] - shape["nucleus"]["Center_Y"],
        )
        out[f"{key}_rim_share"] = get_radial_distribution(labels["cell"], pixels[c])["RadialDistribution_FracAtD_4of4"]
    return {k: np.asarray(v, dtype=np.float64) for k, v in out.items()}


def _everything(image: Floats, channels: Sequence[str], nucleus: Masks, cell: Masks) -> dict[str, float]:
    from cp_measure.bulk import get_core_measurements

    shapes = ("sizeshape", "zernike", "feret")
    out: dict[str, float] = {}
    for compartment, mask in (("Nuclei", nucleus), ("Cells", cell)):
        label = mask.astype(np.int32)
        for kind, function in get_core_measurements().items():
            if kind in shapes:
                for key, value in function(label, None).items():
                    out[f"{compartment}_AreaShape_{key}"] = float(np.ravel(value)[0])
                continue
            for c, channel in enumerate(channels):
                for key, value in function(label, image[..., c].astype(np.float64)).items():
                    prefix = f"{compartment}_Texture" if kind == "texture" else compartment
                    out[f"{prefix}_{key}_{channel}"] = float(np.ravel(value)[0])
    return out
