"""DNA image -> nucleus centres: threshold above the local background, split touching nuclei, join fragments.

The work is done at half resolution, which makes it fast; centres are centroids, exact to about a pixel.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from cytovae.errors import ConfigError

_OWN_LEVEL = 0.6  # an object reaches as far as it is brighter than this fraction of its mean
_SCALE = 2  # images are binned 2 x 2 before anything else


@dataclasses.dataclass(frozen=True)
class NucleiOptions:
    """How nuclei are found.

    Parameters
    ----------
    diameter_px : float
        Usual diameter of an interphase nucleus (px); about 34 in BBBC021.
    min_area : float
        Smallest object kept, as a fraction of a usual nucleus's area; what is smaller is debris, unless it lies
        among other fragments that together are large enough.
    fragment_area : float
        An object below this fraction of a usual nucleus's area may be a piece of a cell's nucleus.
    fragment_distance : float
        No two pieces of one cell lie farther apart than this many diameters.
    fragment_contrast : float
        Nor do they differ more in the logarithm of their mean intensity.
    joined_area : float
        Nor are they together larger than this many usual nuclei.
    min_contrast : float
        Least height above the local background, in standard deviations of the background noise (binned pixels).
    """

    diameter_px: float = 34.0
    min_area: float = 0.15
    fragment_area: float = 0.7
    fragment_distance: float = 1.1
    fragment_contrast: float = 0.3
    joined_area: float = 1.5
    min_contrast: float = 8.0

    def __post_init__(self) -> None:
        if not self.diameter_px >= 6:
            raise ConfigError(f"a nucleus is at least 6 px wide to be found, not {self.diameter_px}")


def find_nuclei(dna: npt.NDArray[Any], options: NucleiOptions | None = None) -> npt.NDArray[np.float32]:
    """Centres of the nuclei of a field.

    Parameters
    ----------
    dna : (H, W) array
        DNA channel, any intensity scale.
    options : NucleiOptions, optional
        How to look.

    Returns
    -------
    (n, 2) float32
        Centre y, x (px; the centre of the first pixel is 0, 0), sorted by y, then x.
    """
    return survey(dna, options or NucleiOptions())[0]


def of_labels(labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], float]:
    """Centres of the nuclei of a label image.

    Parameters
    ----------
    labels : (H, W) int64
        0 outside, and a number for each nucleus.

    Returns
    -------
    tuple of ((n, 2) float64, (n,) int64, float)
        Centroids y, x (px) by rising label; the labels; and the diameter of a disc of the median area (px; 0 without
        any).
    """
    ys, xs = np.nonzero(labels)
    numbers, which, area = np.unique(labels[ys, xs], return_inverse=True, return_counts=True)
    centres = np.stack([np.bincount(which, weights=v, minlength=len(numbers)) / area for v in (ys, xs)], axis=1)
    return centres, numbers, float(np.sqrt(np.median(area) * 4 / np.pi)) if len(numbers) else 0.0


def survey(dna: npt.NDArray[Any], options: NucleiOptions) -> tuple[npt.NDArray[np.float32], float]:
    """Centres of the nuclei of a field as `find_nuclei` gives them, and how wide the nuclei are (px; 0 without any).

    The width is that of a disc of the median area, every object weighted by its area so that pieces and debris count
    little; it tells whether ``options.diameter_px`` fits the images.
    """
    image = _binned(dna)
    labels, count = segment(image, options)
    if not count:
        return np.empty((0, 2), dtype=np.float32), 0.0
    usual = np.pi / 4 * (options.diameter_px / _SCALE) ** 2
    objects = _objects(labels, count, image)
    rising = np.sort(objects.area)
    median = rising[np.searchsorted(np.cumsum(rising), rising.sum() / 2)]
    objects = _joined_fragments(objects, usual, options)
    objects = objects[objects.area >= options.min_area * usual].view(np.recarray)
    objects = _completed_at_border(objects, image.shape)
    centres = np.stack([objects.y, objects.x], axis=1)
    centres = (centres[((centres >= -0.5) & (centres < np.array(image.shape) - 0.5)).all(axis=1)] + 0.5) * _SCALE - 0.5
    in_order = centres[np.lexsort((centres[:, 1], centres[:, 0]))].astype(np.float32)
    return in_order, float(_SCALE * np.sqrt(median * 4 / np.pi))


def width_in_crop(dna: npt.NDArray[Any]) -> float | None:
    """How wide the nucleus in the middle of a crop is: that of a disc of the area above Otsu's threshold there.

    Parameters
    ----------
    dna : (H, W) array

    Returns
    -------
    float or None
        In px; None where the middle is dark.
    """
    import cv2

    smooth = cv2.blur(dna.astype(np.float32), (3, 3))
    bright = (smooth > _otsu(np.asarray(smooth, np.float32))).astype(np.uint8)
    _, labels, about, _ = cv2.connectedComponentsWithStats(bright)
    middle = labels[dna.shape[0] // 2, dna.shape[1] // 2]
    return float(2 * np.sqrt(about[middle, cv2.CC_STAT_AREA] / np.pi)) if middle else None


def _binned(dna: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    import cv2

    height, width = (edge // _SCALE for edge in dna.shape)
    even = np.ascontiguousarray(dna[: height * _SCALE, : width * _SCALE], dtype=np.float32)
    return np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA))


def segment(image: npt.NDArray[np.float32], options: NucleiOptions) -> tuple[npt.NDArray[np.int32], int]:
    """Nuclei of a binned DNA image: labels (H, W) int32, 0 outside, and how many there are.

    Two passes: the first finds where something is; the second cuts each object at a fraction of its own brightness,
    so that the glow of a bright mitotic cell is not part of it and dim nuclei keep their outline.
    """
    above, mask = foreground(image, options)
    rough, count = split(mask, options.diameter_px / _SCALE, waist=None)
    if not count:
        return rough, 0
    inside = rough > 0
    areas = np.bincount(rough[inside], minlength=count + 1)
    means = np.bincount(rough[inside], weights=above[inside], minlength=count + 1) / np.maximum(areas, 1)
    own = (inside & (above > _OWN_LEVEL * means[rough])).astype(np.uint8)
    return split(_opened(own), options.diameter_px / _SCALE)


def _opened(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))))


def background(image: npt.NDArray[np.float32], tile_px: int) -> npt.NDArray[np.float32]:
    """The slowly varying background: the 10th percentile of tiles, smoothed and interpolated.

    Parameters
    ----------
    image : (H, W) float32
    tile_px : int
        Edge of a tile; several nuclei wide, so that a tile is never all nucleus.

    Returns
    -------
    (H, W) float32
    """
    import cv2

    height, width = image.shape
    rows, columns = max(1, round(height / tile_px)), max(1, round(width / tile_px))
    tiles = np.empty((rows, columns), dtype=np.float32)
    ys, xs = np.linspace(0, height, rows + 1).astype(int), np.linspace(0, width, columns + 1).astype(int)
    for r in range(rows):
        for c in range(columns):
            tiles[r, c] = np.percentile(image[ys[r] : ys[r + 1] : 2, xs[c] : xs[c + 1] : 2], 10)
    tiles = cv2.medianBlur(tiles, 3) if min(tiles.shape) >= 3 else tiles
    return np.asarray(cv2.resize(tiles, (width, height), interpolation=cv2.INTER_CUBIC))


def foreground(
    image: npt.NDArray[np.float32], options: NucleiOptions
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Where nuclei are.

    Parameters
    ----------
    image : (H, W) float32
        Binned DNA image.

    Returns
    -------
    tuple of ((H, W) float32, (H, W) uint8)
        Intensity above the local background; and 1 inside nuclei, 0 outside.
    """
    import cv2

    diameter = options.diameter_px / _SCALE
    above = cv2.GaussianBlur(image, (0, 0), 1.0) - background(image, round(7 * diameter))
    some = above[::2, ::2]
    centre = float(np.median(some))
    quiet = some[some < centre]
    noise = 1.4826 * float(np.median(np.abs(quiet - centre))) if quiet.size else 0.0
    floor = centre + options.min_contrast * max(noise, 1e-6)
    if float(above.max()) <= floor:
        return above, np.zeros(image.shape, dtype=np.uint8)
    # On a logarithmic scale a bright mitotic cell does not lift the threshold above its dim neighbours.
    bright = above[above > floor]
    level = float(np.exp(_otsu(np.log(np.clip(above, floor / 4, None))))) if bright.size > 16 else floor
    mask = (above > max(floor, level)).astype(np.uint8)
    return above, _filled(_opened(mask), diameter)


def _otsu(values: npt.NDArray[np.float32]) -> float:
    """Otsu's threshold of values on their own scale."""
    import cv2

    low, high = float(values.min()), float(values.max())
    if high <= low:
        return high
    scaled = ((values - low) * (255 / (high - low))).astype(np.uint8)
    level, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_OTSU)
    return low + (level + 0.5) * (high - low) / 255


def _filled(mask: npt.NDArray[np.uint8], diameter: float) -> npt.NDArray[np.uint8]:
    """Holes smaller than a nucleus closed."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < 0.3 * diameter**2
    small[0] = False  # label 0 is the mask itself
    return np.asarray(mask | small[labels].astype(np.uint8)) if count > 1 else mask


def split(
    mask: npt.NDArray[np.uint8], diameter: float, waist: float | None = 0.95
) -> tuple[npt.NDArray[np.int32], int]:
    """Touching nuclei taken apart where the distance to the outside has a waist: a watershed of that distance.

    Every pixel belongs to the maximum its steepest way up leads to; two neighbouring basins are one nucleus when
    the pass between them is nearly as high as the lower of their maxima.

    Parameters
    ----------
    mask : (H, W) uint8
        1 inside nuclei.
    diameter : float
        Usual diameter of a nucleus in the mask's pixels.
    waist : float
        Basins are joined when the pass is at least this fraction of the lower maximum; None joins none.

    Returns
    -------
    tuple of ((H, W) int32, int)
        Labels 1..n (0 outside), and n.
    """
    import cv2

    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    distance = cv2.GaussianBlur(distance, (0, 0), max(0.5, diameter / 17)) * mask
    # Padded by a pixel and taken as one row, so that a neighbour is a step along it and only nuclei need be looked at.
    ridge = np.asarray(cv2.copyMakeBorder(distance, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0), np.float32).ravel()
    stride = mask.shape[1] + 2
    ys, xs = np.nonzero(mask)
    inside = (ys + 1) * stride + xs + 1
    best, up = ridge[inside], inside.copy()
    for step in (-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1):
        beside = ridge[inside + step]
        higher = beside > best
        best[higher] = beside[higher]
        up[higher] = inside[higher] + step
    place = np.zeros(ridge.size, dtype=np.int32)
    place[inside] = np.arange(inside.size)
    up = place[up]
    while not np.array_equal(up, above := up[up]):
        up = above
    tops = np.flatnonzero(up == np.arange(up.size))
    number = np.zeros(up.size, dtype=np.int32)
    number[tops] = np.arange(1, tops.size + 1)
    basins = np.zeros(ridge.size, dtype=np.int32)
    basins[inside] = number[up]
    if waist is not None:
        joined = _joined_basins(basins, ridge, inside, stride, ridge[inside[tops]], waist)
        basins = joined[basins]
    return basins.reshape(-1, stride)[1:-1, 1:-1], int(basins.max(initial=0))


def _joined_basins(
    basins: npt.NDArray[np.int32],
    ridge: npt.NDArray[np.float32],
    inside: npt.NDArray[np.int64],
    stride: int,
    heights: npt.NDArray[np.float32],
    waist: float,
) -> npt.NDArray[np.int32]:
    """For every basin 0..n the number of the nucleus it belongs to, after joining basins over high passes."""
    pairs, passes = [], []
    for step in (1, stride, stride - 1, stride + 1):
        one, other = basins[inside], basins[inside + step]
        border = (one != other) & (other > 0)
        low, high = np.minimum(one, other)[border], np.maximum(one, other)[border]
        pairs.append(low.astype(np.int64) * (len(heights) + 1) + high)
        passes.append(np.minimum(ridge[inside], ridge[inside + step])[border])
    edges, levels = np.concatenate(pairs), np.concatenate(passes)
    falling = np.argsort(-levels, kind="stable")
    _, first = np.unique(edges[falling], return_index=True)  # of each pair the highest pass
    root = list(range(len(heights) + 1))
    top = [0.0, *map(float, heights)]

    def find(basin: int) -> int:
        while root[basin] != basin:
            root[basin] = root[root[basin]]
            basin = root[basin]
        return basin

    for e in falling[np.sort(first)]:
        a, b = (find(int(side)) for side in divmod(int(edges[e]), len(heights) + 1))
        if a != b and levels[e] >= waist * min(top[a], top[b]):
            lower, higher = sorted((a, b), key=top.__getitem__)
            root[lower] = higher
    roots = np.array([find(basin) for basin in range(len(root))])
    return np.searchsorted(np.unique(roots), roots).astype(np.int32)


def _objects(labels: npt.NDArray[np.int32], count: int, image: npt.NDArray[np.float32]) -> np.recarray:
    """Objects 1..count: centroid y and x, area, mean intensity, and first and last row and column (binned px)."""
    from scipy.ndimage import find_objects

    ys, xs = np.nonzero(labels)
    which = labels[ys, xs] - 1
    objects = np.recarray(count, dtype=[(name, float) for name in _MEASURES])
    objects.area = np.bincount(which, minlength=count)
    for name, values in (("y", ys), ("x", xs), ("level", image[ys, xs])):
        objects[name] = np.bincount(which, weights=values, minlength=count) / np.maximum(objects.area, 1)
    boxes = [box or (slice(0, 1), slice(0, 1)) for box in find_objects(labels, count)]
    for axis, (first, last) in enumerate((("top", "bottom"), ("left", "right"))):
        objects[first] = [box[axis].start for box in boxes]
        objects[last] = [box[axis].stop - 1 for box in boxes]
    return objects[objects.area > 0].view(np.recarray)


_MEASURES = ("y", "x", "area", "level", "top", "bottom", "left", "right")


def _joined_fragments(objects: np.recarray, usual: float, options: NucleiOptions) -> np.recarray:
    """Pieces of one nucleus as one object at their common centroid, the others as they are.

    Nearest pieces are joined first, as long as every two pieces of a group are near each other and of like brightness
    and together they are no larger than the nucleus of one cell.
    """
    from scipy.spatial import KDTree

    small = np.flatnonzero(objects.area < options.fragment_area * usual)
    if small.size < 2:
        return objects
    pieces = objects[small].view(np.recarray)
    places = np.stack([pieces.y, pieces.x], axis=1)
    brightness = np.log(np.maximum(pieces.level, 1e-6))
    reach = options.fragment_distance * options.diameter_px / _SCALE
    pairs = KDTree(places).query_pairs(reach, output_type="ndarray")
    pairs = pairs[np.argsort(np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1), kind="stable")]
    group = np.arange(len(pieces))
    for one, other in pairs:
        if group[one] == group[other]:
            continue
        members = np.flatnonzero((group == group[one]) | (group == group[other]))
        spread = np.linalg.norm(places[members, None] - places[None, members], axis=2).max()
        alike = np.ptp(brightness[members]) <= options.fragment_contrast
        if spread <= reach and alike and pieces.area[members].sum() <= options.joined_area * usual:
            group[members] = group[one]
    _, group = np.unique(group, return_inverse=True)
    joined = np.recarray(group.max() + 1, dtype=objects.dtype)
    joined.area = np.bincount(group, weights=pieces.area)
    for name in ("y", "x", "level"):
        joined[name] = np.bincount(group, weights=pieces[name] * pieces.area) / joined.area
    for name, extreme in (("top", np.min), ("left", np.min), ("bottom", np.max), ("right", np.max)):
        joined[name] = [extreme(pieces[name][group == g]) for g in range(len(joined))]
    return np.concatenate([np.delete(objects, small), joined]).view(np.recarray)


def _completed_at_border(objects: np.recarray, shape: tuple[int, ...]) -> np.recarray:
    """Nuclei cut by the field's edge centred where the whole nucleus would have its centre, as a round one."""
    objects = objects.copy()
    height, width = objects.bottom - objects.top + 1, objects.right - objects.left + 1
    for name, low, high, extent, across, last in (
        ("y", "top", "bottom", height, width, shape[0] - 1),
        ("x", "left", "right", width, height, shape[1] - 1),
    ):
        cut = extent < across
        first, end = cut & (objects[low] == 0), cut & (objects[high] == last)
        objects[name] = np.where(first, objects[high] - across / 2, objects[name])
        objects[name] = np.where(end, objects[low] + across / 2, objects[name])
    return objects
