from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cytovae.errors import BundleError
from cytovae.explore.generator import Generator
from cytovae.learn import generators

MODULE = """
import numpy as np


class Halves:
    name, patch_size_px, channels, latent_size = "halves", 4, ("DNA",), 2

    def encode(self, images):
        return images.reshape(len(images), 2, -1).mean(axis=2).astype(np.float32)

    def decode(self, z):
        return np.repeat(z, 8, axis=1).reshape(-1, 4, 4, 1).astype(np.float32)


def make():
    return Halves()


class Half:
    name = "half"

    def encode(self, images):
        return images


number = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere_generators.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_factory_gives_a_generator() -> None:
    made = generators.open_model("elsewhere_generators:make")
    assert isinstance(made, Generator)
    z = np.array([[0.25, 0.75]], np.float32)
    np.testing.assert_array_equal(made.encode(made.decode(z)), z)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("elsewhere_generators:", "is written package.module:factory, not 'elsewhere_generators:'"),
        ("no_such_module:make", "'no_such_module:make' cannot be loaded: No module named 'no_such_module'"),
        ("elsewhere_generators:absent", "cannot be loaded: module 'elsewhere_generators' has no attribute 'absent'"),
        ("elsewhere_generators:number", "is a int, not a function to call"),
        ("elsewhere_generators:Half", "is no generator: it has no patch_size_px, channels, latent_size, decode"),
    ],
)
def test_what_is_no_generator_is_refused(named: str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        generators.open_model(named)


def test_a_bundle_is_opened_by_its_name() -> None:
    assert generators.open_model("phantom-ae").name == "phantom-ae"
