"""What lasts is out of the garbage collector's rounds; what is thrown away is still found."""

from __future__ import annotations

import gc
import sys
import types
import weakref
from collections.abc import Iterator

import pytest

from app.common import collector


@pytest.fixture
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


class Ring:
    def __init__(self) -> None:
        self.itself = self


def test_what_is_there_is_passed_over_until_modules_are_loaded_and_later_rings_are_still_found(
    thawed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.settle()
    monkeypatch.setitem(sys.modules, "one_more", types.ModuleType("one_more"))
    early = Ring()
    collector.settle()
    frozen = gc.get_freeze_count()
    assert frozen > 10_000
    late = Ring()
    seen = [weakref.ref(early), weakref.ref(late)]
    del early, late
    gc.collect()
    assert [each() is None for each in seen] == [False, True]
    collector.settle()
    assert gc.get_freeze_count() <= frozen  # nothing was loaded
    monkeypatch.setitem(sys.modules, "another", types.ModuleType("another"))
    collector.settle()
    assert seen[0]() is None
