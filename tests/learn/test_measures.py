from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg
from skimage.metrics import structural_similarity

from cytovae.learn import measures


def images(seed: int, n: int = 4, size: int = 68) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(np.cumsum(rng.normal(size=(n, size, size, 3)), axis=1), axis=2)
    low, high = smooth.min(axis=(1, 2), keepdims=True), smooth.max(axis=(1, 2), keepdims=True)
    return ((smooth - low) / (high - low)).astype(np.float32)


def test_ssim_is_that_of_scikit_image() -> None:
    a = images(0)
    b = np.clip(a + np.random.default_rng(1).normal(0, 0.1, a.shape), 0, 1).astype(np.float32)
    expected = [
        structural_similarity(x.astype(float), y.astype(float), data_range=1.0, channel_axis=-1)
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(measures.ssim(a, b), expected, rtol=1e-9)


def test_equal_images_measure_perfectly() -> None:
    a = images(2, n=120)
    found = measures.measure(a, a)
    assert found["mse"] == 0.0
    assert found["ssim"] == pytest.approx(1.0)
    assert found["sharpness_ratio"] == pytest.approx(1.0)
    assert found["spectrum_bands"] == pytest.approx([1.0] * 4)
    assert found["frechet"] == pytest.approx(0.0, abs=1e-6)
    assert found["grid_ratio"] == found["grid_ratio_original"]
    assert found["n_cells"] == 120


def test_sharpness_counts_the_upper_half_of_frequencies_alone() -> None:
    x = np.arange(68)
    fine, coarse = np.cos(2 * np.pi * 20 / 68 * x), np.cos(2 * np.pi * 5 / 68 * x)
    real = np.broadcast_to((fine + coarse)[None, None, :, None], (1, 68, 68, 3))
    half = np.broadcast_to((0.5 * fine + 3 * coarse)[None, None, :, None], (1, 68, 68, 3))
    assert measures.sharpness_ratio(real, half) == pytest.approx(0.25, rel=1e-3)
    bands = measures.spectrum_bands(real, half)
    assert bands[0] == pytest.approx(9.0, rel=1e-3)
    assert bands[2] == pytest.approx(0.25, rel=1e-3)


def test_a_step_between_opposite_edges_does_not_count_as_sharp() -> None:
    ramp = np.broadcast_to(np.linspace(0, 1, 68)[None, None, :, None], (1, 68, 68, 3))
    noisy = ramp + np.random.default_rng(9).normal(0, 0.02, ramp.shape)
    assert measures.sharpness_ratio(noisy, ramp) < 0.01


def test_energy_of_the_spectrum_is_that_of_the_pixels() -> None:
    a = images(3)
    centred = (a - a.mean(axis=(1, 2), keepdims=True)) * np.outer(np.hanning(68), np.hanning(68))[None, :, :, None]
    assert measures.power_spectrum(a).sum() == pytest.approx(68 * 68 * np.square(centred).sum() / 12, rel=1e-5)


def test_a_grid_shows_and_noise_does_not() -> None:
    noise = np.random.default_rng(4).normal(size=(200, 68, 68, 3))
    assert measures.grid_ratio(noise) == pytest.approx(1.0, abs=0.03)
    y, x = np.mgrid[:68, :68]
    for period in (2, 4):
        grid = ((x % period == 0) | (y % period == 0)).astype(float)[None, :, :, None]
        assert measures.grid_ratio(noise + 0.5 * grid) > 1.15


def test_frechet_distance_of_shifted_normals_is_the_textbook_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(400, 6)), rng.normal(size=(300, 6)) @ np.diag([1, 2, 1, 0.5, 1, 1]) + 0.7
    monkeypatch.setattr(measures, "features", lambda x: x)
    scale = a.std(axis=0)
    p, q = a / scale, b / scale
    s, t = np.cov(p, rowvar=False), np.cov(q, rowvar=False)
    expected = np.square(p.mean(0) - q.mean(0)).sum() + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)
    assert measures.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_features_do_not_depend_on_the_number_of_cells() -> None:
    a = images(6, n=5)
    np.testing.assert_allclose(measures.features(a)[:2], measures.features(a[:2]), rtol=1e-5, atol=1e-6)


def test_blurred_images_are_further_and_less_sharp() -> None:
    from scipy.ndimage import gaussian_filter

    a = np.clip(images(7, n=60) + np.random.default_rng(8).normal(0, 0.05, (60, 68, 68, 3)), 0, 1)
    blurred = gaussian_filter(a, (0, 1.5, 1.5, 0))
    lightly = gaussian_filter(a, (0, 0.5, 0.5, 0))
    assert measures.sharpness_ratio(a, blurred) < measures.sharpness_ratio(a, lightly) < 1
    assert measures.frechet_distance(a, blurred) > measures.frechet_distance(a, lightly) > 0


def naive_correlation(a: np.ndarray, b: np.ndarray, low: float, high: float) -> float:
    """Of the images band-passed by their transform, as a plain correlation of pixels."""
    frequency = np.hypot(np.fft.fftfreq(68)[:, None], np.fft.fftfreq(68)[None, :])
    keep = (frequency >= low) & (frequency < high)
    taper = np.outer(np.hanning(68), np.hanning(68))
    products = []
    for x, y in zip(a.astype(float), b.astype(float), strict=True):
        for c in range(a.shape[3]):
            p, q = (
                np.fft.ifft2(np.fft.fft2((image[..., c] - image[..., c].mean()) * taper) * keep).real
                for image in (x, y)
            )
            products.append([(p * q).sum(), (p * p).sum(), (q * q).sum()])
    shared, one, other = np.sum(products, axis=0)
    return float(abs(shared) / np.sqrt(one * other))


def test_coherence_is_the_correlation_of_band_passed_images() -> None:
    a = images(10, n=6)
    b = 0.3 * a + 0.1 * np.random.default_rng(11).normal(size=a.shape)
    found = measures.measure(a, b)
    edges = [0, 0.125, 0.25, 0.375, 2]
    expected = [naive_correlation(a, b, *edges[i : i + 2]) for i in range(4)]
    assert found["coherence"] == pytest.approx(expected, rel=1e-9)
    moved = np.roll(b, -3, axis=0)
    floor = [naive_correlation(a, moved, *edges[i : i + 2]) for i in range(4)]
    assert found["coherence_floor"] == pytest.approx(floor, rel=1e-9, abs=1e-12)


def test_invented_detail_has_energy_and_no_coherence() -> None:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(12)
    real, own = rng.normal(size=(2, 300, 68, 68, 1))
    blurred = gaussian_filter(real, (0, 3, 3, 0))
    invented = blurred + own - gaussian_filter(own, (0, 3, 3, 0))
    found = measures.measure(real, invented)
    assert found["spectrum_bands"][3] == pytest.approx(1.0, abs=0.1)  # type: ignore[index]
    assert found["coherence"][3] < 0.01  # type: ignore[index,operator]
    assert max(found["coherence_floor"]) < 0.05  # type: ignore[type-var,operator]
    # of a blur of 3 px half of the amplitude is left at a wavelength of 2 pi 3 / sqrt(2 ln 2) = 16 px
    assert found["readable_px"] == pytest.approx(16, abs=3)
    assert measures.measure(real, own)["readable_px"] is None
    assert measures.measure(real, real)["readable_px"] == 2.0


def test_the_frame_is_the_outer_four_pixels() -> None:
    a = np.zeros((3, 20, 20, 2))
    b = np.full_like(a, 0.1)
    b[:, 4:-4, 4:-4] = 0.05
    assert measures.frame_ratio(a, b) == pytest.approx(4.0)
    b[:, 4, 4] = 9.0
    assert measures.frame_ratio(a, b) < 1
