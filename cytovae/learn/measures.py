"""How good reconstructions are: closeness, structure, sharpness, and the traces that up-sampling leaves.

Everything works on ``(n, H, W, C)`` float arrays of originals and reconstructions, both on the scale of normalised
patches (about 0 to 1), and needs no network but the stated fixed one of the Frechet distance.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

SSIM_WINDOW_PX = 7
GRID_PERIODS_PX = (2, 4)
N_BANDS = 4
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
    height, width = images.shape[1:3]
    taper = np.outer(np.hanning(height), np.hanning(width))
    total = np.zeros((height, width))
    for start in range(0, len(images), _BLOCK):
        block = np.asarray(images[start : start + _BLOCK], np.float64)
        block = (block - block.mean(axis=(1, 2), keepdims=True)) * taper[None, :, :, None]
        total += np.square(np.abs(np.fft.fft2(block, axes=(1, 2)))).sum(axis=(0, 3))
    mean: npt.NDArray[np.float64] = total / (len(images) * images.shape[3])
    return mean


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
    frequency = radial_frequency(*original.shape[1:3])
    band = np.minimum((frequency / (0.5 / n_bands)).astype(int), n_bands - 1).ravel()
    before = np.bincount(band, power_spectrum(original).ravel(), n_bands)
    after = np.bincount(band, power_spectrum(reconstruction).ravel(), n_bands)
    return [float(x) for x in after / np.maximum(before, np.finfo(float).tiny)]


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


def features(images: Array) -> npt.NDArray[np.float64]:
    """What the fixed network (`FEATURE_NET`) sees in each cell: means and s.d. over positions of its last two layers.

    Parameters
    ----------
    images : (n, H, W, C) float

    Returns
    -------
    (n, 96) float64
    """
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


def measure(original: Array, reconstruction: Array) -> dict[str, float | int | str | list[float]]:
    """All measures of reconstructions against their originals.

    Parameters
    ----------
    original, reconstruction : (n, H, W, C) float
        Normalised patches, and what a model made of them.

    Returns
    -------
    dict
        ``n_cells, mse, ssim, sharpness_ratio, frechet, frechet_features, spectrum_bands, grid_ratio``; ``grid_ratio``
        is that of the reconstructions, ``grid_ratio_original`` that of the real cells.
    """
    return {
        "n_cells": len(original),
        "mse": mse(original, reconstruction),
        "ssim": float(ssim(original, reconstruction).mean()),
        "sharpness_ratio": sharpness_ratio(original, reconstruction),
        "frechet": frechet_distance(original, reconstruction),
        "frechet_features": FEATURE_NET,
        "spectrum_bands": spectrum_bands(original, reconstruction),
        "grid_ratio": grid_ratio(reconstruction),
        "grid_ratio_original": grid_ratio(original),
    }
