from __future__ import annotations

import numpy as np
import pytest

from cytovae.errors import BundleError
from cytovae.explore.generator import Generator, normalise, require_fit


def test_a_linear_model_fills_the_protocol(small):
    assert isinstance(small.generator, Generator)
    require_fit(small.generator, ("DNA", "Tubulin", "Actin"), 68, 24)


def test_each_channel_of_each_patch_is_divided_by_its_own_maximum():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 5000, (4, 6, 6, 3)).astype(np.uint16)
    images[1, ..., 2] = 0
    got = normalise(images)
    for n in range(4):
        for c in range(3):
            top = images[n, ..., c].max()
            np.testing.assert_allclose(got[n, ..., c], images[n, ..., c] / top if top else 0.0, rtol=1e-6)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(normalise(got), got)


def test_negative_values_of_a_decoder_count_as_nothing():
    assert normalise(np.array([[[[-2.0], [4.0]]]])).ravel().tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("channels", "size", "features", "words"),
    [
        (("DNA", "Actin", "Tubulin"), 68, 24, "made for the channels DNA, Tubulin, Actin"),
        (("DNA", "Tubulin", "Actin"), 96, 24, "reads patches of 68 px, the screen's are 96 px"),
        (("DNA", "Tubulin", "Actin"), 68, 256, "has 24 features, the screen's embeddings have 256"),
    ],
)
def test_a_generator_that_does_not_fit_is_refused(small, channels, size, features, words):
    with pytest.raises(BundleError, match=words):
        require_fit(small.generator, channels, size, features)
