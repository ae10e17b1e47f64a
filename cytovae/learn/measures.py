"""How good reconstructions are: closeness, structure, sharpness, invented detail, the traces that up-sampling leaves.

Everything works on ``(n, H, W, C)`` float arrays of originals and reconstructions, both on the scale of normalised
patches (about 0 to 1), and needs no network but the stated fixed one of the Frechet distance.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cytovae.errors import BundleError

Array = npt.NDArray[np.floating]

SSIM_WINDOW_PX = 7
GRID_PERIODS_PX = (2, 4)
N_BANDS = 4
FRAME_PX = 4
READABLE = 0.5
"""How far a size has to stand between the coherence of mismatched cells (0) and that of equal images (1)."""
FEATURE_NET = "fixed random-weight convolutional network, seed 0: 3 layers of 5 x 5, 8-16-32 channels, ReLU"
_BLOCK = 256


def mse(original: Array, reconstruction: Array) -> float:
    """Mean squared difference over cells, pixels and channels."""
    return float(np.mean(np.square(np.asarray(original, np.float64) - reconstruction)))


def ssim(original: Array, reconstruction: Array) -> npt.NDArray[np.float64]:
    """Structural similarity of each cell (Wang et al. 2004): 7 x 7 uniform window, data range 1, mean over channels.

    Parameters
    ----------
    original, reconstruction : (n, H, W, C) float

    Returns
    -------
    (n,) float64
        1 where they are equal.
    """
    from scipy.ndimage import uniform_filter

    size = (1, SSIM_WINDOW_PX, SSIM_WINDOW_PX, 1)
    values = SSIM_WINDOW_PX**2
    unbiased = values / (values - 1)
    c1, c2 = 0.01**2, 0.03**2
    edge = SSIM_WINDOW_PX // 2
    inner = (slice(None), slice(edge, -edge), slice(edge, -edge))
    out = np.empty(len(original))
    for start in range(0, len(original), _BLOCK):
        a = np.asarray(original[start : start + _BLOCK], np.float64)
        b = np.asarray(reconstruction[start : start + _BLOCK], np.float64)
        mean_a, mean_b = uniform_filter(a, size), uniform_filter(b, size)
        var_a = unbiased * (uniform_filter(a * a, size) - mean_a**2)
        var_b = unbiased * (uniform_filter(b * b, size) - mean_b**2)
        cov = unbiased * (uniform_filter(a * b, size) - mean_a * mean_b)
        score = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
        out[start : start + _BLOCK] = score[inner].mean(axis=(1, 2, 3))
    return out


def power_spectrum(images: Array) -> npt.NDArray[np.float64]:
    """Mean power over cells and channels at each spatial frequency, each channel's mean taken off first.

    A Hann window is laid over each patch. Without it the step between opposite edges leaks into all frequencies and
    makes up most of the energy of the upper half, in sharp and blurred patches alike.

    Parameters
    ----------
    images : (n, H, W, C) float

    Returns
    -------
    (H, W) float64
        In the order of ``numpy.fft.fft2``.
    """
    total = np.zeros(images.shape[1:3])
    for start in range(0, len(images), _BLOCK):
        total += np.square(np.abs(_transform(images[start : start + _BLOCK]))).sum(axis=(0, 3))
    mean: npt.NDArray[np.float64] = total / (len(images) * images.shape[3])
    return mean


def _transform(images: Array) -> npt.NDArray[np.complex128]:
    """Fourier transform of each channel of each patch, its mean taken off, under the Hann window."""
    block = np.asarray(images, np.float64)
    taper = np.outer(np.hanning(block.shape[1]), np.hanning(block.shape[2]))
    block = (block - block.mean(axis=(1, 2), keepdims=True)) * taper[None, :, :, None]
    out: npt.NDArray[np.complex128] = np.fft.fft2(block, axes=(1, 2))
    return out


def radial_frequency(height: int, width: int) -> npt.NDArray[np.float64]:
    """Spatial frequency (cycles per pixel) of each bin of ``numpy.fft.fft2``.

    Returns
    -------
    (height, width) float64
        From 0; 0.5 is the highest along an axis.
    """
    frequency: npt.NDArray[np.float64] = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    return frequency


def spectrum_bands(original: Array, reconstruction: Array, n_bands: int = N_BANDS) -> list[float]:
    """Energy in bands of spatial frequency, reconstruction over original.

    Parameters
    ----------
    original, reconstruction : (n, H, W, C) float
    n_bands : int
        Equal parts of 0 to 0.5 cycles per pixel; what lies beyond, in the corners, counts to the last.

    Returns
    -------
    list of float
        From low to high frequency; 1 is best.
    """
    band = _bands(original, n_bands).ravel()
    before = np.bincount(band, power_spectrum(original).ravel(), n_bands)
    after = np.bincount(band, power_spectrum(reconstruction).ravel(), n_bands)
    return [float(x) for x in after / np.maximum(before, np.finfo(float).tiny)]


def _bands(images: Array, n_bands: int) -> npt.NDArray[np.int64]:
    """The band of each spatial frequency: equal parts of 0 to 0.5 cycles per pixel, the corners in the last."""
    frequency = radial_frequency(images.shape[1], images.shape[2])
    return np.minimum((frequency / (0.5 / n_bands)).astype(np.int64), n_bands - 1)


class CrossSpectra(NamedTuple):
    """Spectra of originals and reconstructions and what they share, summed over cells and channels.

    Parameters
    ----------
    original, reconstruction : (H, W) float64
        Power.
    shared : (H, W) complex128
        Cross-spectrum of each original with its own reconstruction.
    mismatched : (H, W) complex128
        Cross-spectrum of each original with the reconstruction of another cell.
    """

    original: npt.NDArray[np.float64]
    reconstruction: npt.NDArray[np.float64]
    shared: npt.NDArray[np.complex128]
    mismatched: npt.NDArray[np.complex128]


def cross_spectra(original: Array, reconstruction: Array) -> CrossSpectra:
    """What `coherence` is made of, under the window of `power_spectrum`.

    For `CrossSpectra.mismatched` the reconstructions are moved on by half the number of cells.

    Parameters
    ----------
    original, reconstruction : (n, H, W, C) float
    """
    n, shape = len(original), original.shape[1:3]
    power = [np.zeros(shape), np.zeros(shape)]
    cross = [np.zeros(shape, complex), np.zeros(shape, complex)]
    for start in range(0, n, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, n))
        real, made = _transform(original[rows]), _transform(reconstruction[rows])
        other = _transform(reconstruction[(rows + n // 2) % n])
        for total, part in zip(power, (real, made), strict=True):
            total += np.square(np.abs(part)).sum(axis=(0, 3))
        for total, part in zip(cross, (made, other), strict=True):
            total += (real * part.conj()).sum(axis=(0, 3))
    return CrossSpectra(power[0], power[1], cross[0], cross[1])


def coherence(spectra: CrossSpectra, band: npt.NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """How much of the detail of each size is the cell's own: correlation of originals and reconstructions by band.

    In each band the cross-spectrum is summed over its frequencies, cells and channels and divided by the root of the
    two summed powers; with bands one frequency wide this is the Fourier ring correlation (Saxton and Baumeister 1982).
    Its square is the share of the detail that the two have in common. It does not ask how strong the detail is (that
    is `spectrum_bands`): a sharp texture that the model made up has energy and no coherence.

    Parameters
    ----------
    spectra : CrossSpectra
    band : (H, W) int
        Of each frequency, from 0.

    Returns
    -------
    tuple of (list of float, list of float)
        By band, 0 to 1: the coherence, and its floor, which is that of mismatched cells. The floor is high where all
        cells are alike, as in the coarsest band.
    """
    band = band.ravel()
    before, after = (np.bincount(band, power.ravel()) for power in (spectra.original, spectra.reconstruction))
    scale = np.maximum(np.sqrt(before * after), np.finfo(float).tiny)

    def correlation(cross: npt.NDArray[np.complex128]) -> list[float]:
        summed = np.bincount(band, cross.real.ravel()) + 1j * np.bincount(band, cross.imag.ravel())
        return [float(x) for x in np.abs(summed) / scale]

    return correlation(spectra.shared), correlation(spectra.mismatched)


def readable_px(spectra: CrossSpectra) -> float | None:
    """Down to what size a decoded picture can be read: the smallest wavelength that still follows the cell.

    The rule: frequencies are taken in rings as wide as one bin, from coarse to fine. A ring is readable where its
    coherence lies at least halfway (`READABLE`) from its floor, the coherence of mismatched cells, to 1. The answer is
    the wavelength of the last ring before the first that is not readable.

    Parameters
    ----------
    spectra : CrossSpectra

    Returns
    -------
    float or None
        Pixels; None where not even the coarsest ring is readable.
    """
    height, width = spectra.original.shape
    edge = max(height, width)
    ring = np.rint(radial_frequency(height, width) * edge).astype(np.int64)
    found, floor = coherence(spectra, ring)
    clear = [c >= f + READABLE * (1.0 - f) for c, f in zip(found, floor, strict=True)][1 : edge // 2 + 1]
    n_readable = clear.index(False) if False in clear else len(clear)
    return edge / n_readable if n_readable else None


def frame_ratio(original: Array, reconstruction: Array) -> float:
    """Mean squared error in the outer `FRAME_PX` pixels over that of the inside; above 1 the border is worse.

    Parameters
    ----------
    original, reconstruction : (n, H, W, C) float
    """
    height, width = original.shape[1:3]
    total = np.zeros((height, width))
    for start in range(0, len(original), _BLOCK):
        block = np.asarray(original[start : start + _BLOCK], np.float64) - reconstruction[start : start + _BLOCK]
        total += np.square(block).sum(axis=(0, 3))
    inside = np.zeros((height, width), dtype=bool)
    inside[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX] = True
    return float(total[~inside].mean() / max(total[inside].mean(), np.finfo(float).tiny))


def sharpness_ratio(original: Array, reconstruction: Array) -> float:
    """Energy in the upper half of spatial frequencies (from 0.25 cycles per pixel), reconstruction over original.

    Parameters
    ----------
    original, reconstruction : (n, H, W, C) float
    """
    upper = radial_frequency(*original.shape[1:3]) >= 0.25
    before = power_spectrum(original)[upper].sum()
    return float(power_spectrum(reconstruction)[upper].sum() / max(before, np.finfo(float).tiny))


def grid_ratio(images: Array) -> float:
    """Energy on the frequencies of a grid of 2 or 4 px over that of their neighbourhood.

    Up-sampling by 2 leaves a pattern of these periods; it shows as peaks on the lattice of frequencies k / 4 cycles
    per pixel. Each lattice point (its 3 x 3 bins) is compared with the ring three to five bins away, by geometric
    means, so that the fall of power with frequency cancels. 1 means no grid.

    Parameters
    ----------
    images : (n, H, W, C) float
        H and W divisible by 4.
    """
    power = power_spectrum(images)
    log_power = np.log(np.maximum(power, np.finfo(float).tiny))
    height, width = power.shape
    step_y, step_x = height // max(GRID_PERIODS_PX), width // max(GRID_PERIODS_PX)
    away = np.arange(-5, 6)
    distance = np.maximum(np.abs(away)[:, None], np.abs(away)[None, :])
    logs = []
    for y in range(0, height, step_y):
        for x in range(0, width, step_x):
            if x == y == 0:
                continue
            around = log_power[np.ix_((y + away) % height, (x + away) % width)]
            logs.append(around[distance <= 1].mean() - around[distance >= 3].mean())
    return float(np.exp(np.mean(logs)))


@functools.cache
def _feature_kernels(channels: int) -> tuple[npt.NDArray[np.float32], ...]:
    rng = np.random.default_rng(0)
    widths = (channels, 8, 16, 32)
    return tuple(
        rng.normal(0.0, np.sqrt(2.0 / (25 * i)), (o, i, 5, 5)).astype(np.float32) for i, o in itertools.pairwise(widths)
    )


SMALLEST_PX = 36
"""Edge of the smallest cells that `features` sees."""


def features(images: Array) -> npt.NDArray[np.float64]:
    """What the fixed network (`FEATURE_NET`) sees in each cell: means and s.d. over positions of its last two layers.

    Parameters
    ----------
    images : (n, H, W, C) float

    Returns
    -------
    (n, 96) float64

    Raises
    ------
    BundleError
        The cells are smaller than `SMALLEST_PX`.
    """
    if min(images.shape[1:3]) < SMALLEST_PX:
        raise BundleError(
            f"patches of {images.shape[1]} px are too small to be measured, which takes {SMALLEST_PX} px; "
            "ingest with another --patch-size-px"
        )
    import torch
    import torch.nn.functional as F

    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), _BLOCK):
            block = np.ascontiguousarray(images[start : start + _BLOCK], dtype=np.float32)
            x = torch.from_numpy(block).permute(0, 3, 1, 2)
            seen = []
            for kernel in _feature_kernels(images.shape[3]):
                x = F.relu(F.conv2d(x, torch.from_numpy(kernel)))  # (n, 8 | 16 | 32, H, W)
                seen += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
                x = F.avg_pool2d(x, 2)
            parts.append(torch.cat(seen[2:], dim=1).double().numpy())
    return np.concatenate(parts)


def frechet_distance(original: Array, reconstruction: Array) -> float:
    """Frechet distance of two sets of cells in the features of the fixed network (`FEATURE_NET`).

    A squared distance, each feature in units of its standard deviation over the originals; a feature that hardly
    varies is not blown up: no unit is smaller than a tenth of the features' root mean square deviation.

    Parameters
    ----------
    original, reconstruction : (n, H, W, C) float
        n of at least 2.
    """
    a, b = features(original), features(reconstruction)
    scale = np.maximum(a.std(axis=0), 0.1 * np.sqrt(a.var(axis=0).mean()))
    scale[scale == 0] = 1.0
    a, b = a / scale, b / scale
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0.0)).sum()
    distance = np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    return float(max(distance, 0.0))


def measure(original: Array, reconstruction: Array) -> dict[str, float | int | str | list[float] | None]:
    """All measures of reconstructions against their originals.

    Parameters
    ----------
    original, reconstruction : (n, H, W, C) float
        Normalised patches, and what a model made of them.

    Returns
    -------
    dict
        ``n_cells, mse, ssim, sharpness_ratio, frechet, frechet_features, spectrum_bands, coherence, coherence_floor,
        readable_px, frame_ratio, grid_ratio``; ``grid_ratio`` is that of the reconstructions, ``grid_ratio_original``
        that of the real cells.
    """
    spectra = cross_spectra(original, reconstruction)
    shared, floor = coherence(spectra, _bands(original, N_BANDS))
    return {
        "n_cells": len(original),
        "mse": mse(original, reconstruction),
        "ssim": float(ssim(original, reconstruction).mean()),
        "sharpness_ratio": sharpness_ratio(original, reconstruction),
        "frechet": frechet_distance(original, reconstruction),
        "frechet_features": FEATURE_NET,
        "spectrum_bands": spectrum_bands(original, reconstruction),
        "coherence": shared,
        "coherence_floor": floor,
        "readable_px": readable_px(spectra),
        "frame_ratio": frame_ratio(original, reconstruction),
        "grid_ratio": grid_ratio(reconstruction),
        "grid_ratio_original": grid_ratio(original),
    }
