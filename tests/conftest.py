"""What all tests share: where the real data lies, and small screens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .databases import postgresql, url

__all__ = ["bbbc021", "postgresql", "url"]

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def bbbc021() -> Path:
    """The folder of real BBBC021 cells, fields and tables; tests that need it skip where it is missing."""
    folder = Path(os.environ.get("CYTOVAE_BBBC021", ROOT.parent / "shared" / "bbbc021"))
    if not (folder / "crops" / "cells.npz").exists():
        pytest.skip(f"real BBBC021 data is not at {folder} (set CYTOVAE_BBBC021)")
    return folder
