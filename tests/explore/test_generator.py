from __future__ import annotations

import pytest

from cytovae.errors import BundleError
from cytovae.explore.generator import Generator, require_fit


def test_a_linear_model_fills_the_protocol(small):
    assert isinstance(small.generator, Generator)
    require_fit(small.generator, ("DNA", "Tubulin", "Actin"), 68, 24)


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
