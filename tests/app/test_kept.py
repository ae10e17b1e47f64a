"""What the app keeps is bounded by bytes, and each answer is worked out once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.common import kept

MB = 10**6


def zeros(n: int) -> np.ndarray:
    return np.zeros(n, np.uint8)


def test_answers_go_that_were_asked_for_longest_ago_until_all_fit() -> None:
    store = kept.Kept(lambda: 3 * MB + 10_000)
    made: list[str] = []

    def ask(key: str, size: int = MB) -> Any:
        return store.get("room", key, lambda: (made.append(key), zeros(size))[1])

    for key in "abc":
        ask(key)
    ask("a")
    ask("d")  # b goes
    assert made == [*"abcd"] and 3 * MB <= store.bytes <= 3 * MB + 10_000
    for key in "acd":
        ask(key)
    assert made == [*"abcd"]
    ask("b")
    assert made == [*"abcdb"]
    ask("huge", 9 * MB)  # stays, alone: a page must not work it out at each of its runs
    ask("huge", 9 * MB)
    assert made[5:] == ["huge"] and len(store) == 1
    store.clear()
    assert (store.bytes, len(store)) == (0, 0)


def test_memory_that_answers_share_counts_once_and_until_the_last_has_gone() -> None:
    store, shared = kept.Kept(lambda: 100 * MB), zeros(MB)
    store.get("embeddings", 1, lambda: shared)
    store.get("material", 1, lambda: {"z": shared[::2], "frames": [zeros(MB)]})
    assert 2 * MB <= store.bytes < 2.1 * MB
    store.clear("embeddings")
    assert 2 * MB <= store.bytes < 2.1 * MB
    store.clear("material")
    assert store.bytes == 0


def test_an_answer_in_another_counts_once_and_for_as_long_as_either_stays() -> None:
    store, inner = kept.Kept(lambda: 100 * MB), {"a": zeros(MB), "b": [zeros(MB)]}
    store.get("null", 1, lambda: inner)
    store.get("view", 1, lambda: {"null": inner, "frames": zeros(MB)})
    held = store.bytes
    assert 3 * MB <= held < 3.1 * MB
    store.clear("null")
    assert 3 * MB <= store.bytes < held
    store.clear("view")
    assert store.bytes == 0


def test_tables_and_objects_weigh_what_they_hold_and_files_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", zeros(MB))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert sum(kept.buffers([mapped, mapped[10:]]).values()) == 0
    table = pd.DataFrame({"x": np.zeros(1000), "name": ["cell"] * 1000})
    seen = sum(kept.buffers(table).values())
    assert 0.5 < seen / table.memory_usage(deep=True).sum() < 2

    class Held:
        def __init__(self) -> None:
            self.inner = [(zeros(500), "x")]

    assert sum(kept.buffers(Held()).values()) == 501


def test_a_room_keeps_no_more_answers_than_it_may() -> None:
    store = kept.Kept(lambda: 100 * MB)
    for k in range(5):
        store.get("small", k, lambda: 1, entries=2)
        store.get("other", k, lambda: 1, entries=9)
    assert len(store) == 2 + 5


def test_one_session_works_and_the_others_wait_and_go_on_if_it_leaves() -> None:
    class Left(BaseException):
        pass

    store, begun, gate = kept.Kept(lambda: MB), threading.Event(), threading.Event()
    worked: list[str] = []

    def leaving() -> None:
        worked.append("first")
        begun.set()
        gate.wait(30)
        raise Left

    def first() -> None:
        with pytest.raises(Left):
            store.get("room", 1, leaving)

    got: list[int] = []
    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert begun.wait(30)
    for _ in range(3):
        threads.append(
            threading.Thread(target=lambda: got.append(store.get("room", 1, lambda: (worked.append("next"), 7)[1])))
        )
        threads[-1].start()
    gate.set()
    for thread in threads:
        thread.join(30)
    assert worked == ["first", "next"] and got == [7, 7, 7]


def test_who_waits_may_leave_before_the_answer_is_there() -> None:
    class Left(BaseException):
        pass

    def check() -> None:
        raise Left

    store, begun, gate = kept.Kept(lambda: MB, check), threading.Event(), threading.Event()
    working = threading.Thread(target=lambda: store.get("room", 1, lambda: (begun.set(), gate.wait(30))[1]))
    working.start()
    assert begun.wait(30)
    with pytest.raises(Left):
        store.get("room", 1, lambda: False)
    gate.set()
    working.join(30)
    assert store.get("room", 1, lambda: False) is True


def test_arguments_are_told_apart_by_what_they_hold() -> None:
    a, b = np.arange(4), np.arange(4)
    assert kept.key_of([a, "x"]) == kept.key_of((b, "x")) != kept.key_of((b.astype(float), "x"))
    with pytest.raises(TypeError):
        kept.key_of({})


def test_the_budget_is_said_or_a_quarter_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kept.MEGABYTES, "250")
    assert kept.budget() == 250 * MB
    monkeypatch.delenv(kept.MEGABYTES)
    assert 10 * MB < kept.budget() < 10**13
