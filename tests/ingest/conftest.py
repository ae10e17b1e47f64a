"""Fixtures of the ingest tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ingest.drawn import Raw, write_raw


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    return write_raw(tmp_path / "raw")
