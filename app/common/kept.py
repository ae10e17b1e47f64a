"""What the app keeps in memory for all sessions: one store, bounded by bytes, each answer worked out once.

An array that several answers hold counts once. The answers asked for longest ago go first.
"""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
import os
import threading
import types
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MEGABYTES = "CYTOVAE_CACHE_MB"
"""Environment variable: how many megabytes of answers are kept; else a quarter of the machine's memory."""
_ENTRY = 1024
"""Bytes that any answer counts for, beside the arrays that it holds."""
_DEEP = 12
_WAIT_S = 0.5


def budget() -> int:
    """Bytes that may be kept."""
    said = os.environ.get(MEGABYTES, "")
    if said.isdecimal() and int(said):
        return int(said) * 10**6
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


def buffers(value: Any, known: Mapping[int, _Answer] | None = None) -> dict[int, int]:
    """What a value holds: identity -> bytes, of every array, table and text; files mapped into memory weigh nothing.

    Parameters
    ----------
    known : mapping, optional
        Identity of a value -> the answer that it is: what that holds is not looked for again.

    Examples
    --------
    >>> a = np.zeros(1000)
    >>> sum(buffers({"whole": a, "a part of the same": a[:10]}).values())
    8023
    """
    found: dict[int, int] = {}
    seen: set[int] = set()
    todo = [(value, 0)]
    while todo:
        each, depth = todo.pop()
        if id(each) in seen or depth > _DEEP or isinstance(each, _NOTHING):
            continue
        seen.add(id(each))
        if known and id(each) in known:
            found |= known[id(each)].held
        elif isinstance(each, np.ndarray):
            while isinstance(each.base, np.ndarray):
                each = each.base
            if not isinstance(each.base, mmap.mmap) and not isinstance(each, np.memmap):
                found[id(each)] = int(each.nbytes)
        elif isinstance(each, pd.DataFrame | pd.Series | pd.Index):
            usage = each.memory_usage(index=True) if isinstance(each, pd.DataFrame) else each.memory_usage()
            kinds = each.dtypes if isinstance(each, pd.DataFrame) else [each.dtype]
            words = sum(str(kind) == "object" for kind in kinds)
            found[id(each)] = int(np.sum(usage)) + 60 * len(each) * words  # a word of a table is some 60 bytes
        elif isinstance(each, str | bytes | bytearray):
            found[id(each)] = len(each)
        elif isinstance(each, dict):
            todo += [(inner, depth + 1) for pair in each.items() for inner in pair]
        elif isinstance(each, list | tuple | set | frozenset):
            todo += [(inner, depth + 1) for inner in each]
        elif hasattr(each, "__dict__"):
            todo += [(inner, depth + 1) for inner in vars(each).values()]
    return found


_NOTHING = (type(None), bool, int, float, type, types.ModuleType, types.FunctionType, types.MethodType, Path)


def key_of(argument: Any) -> Hashable:
    """What an argument is to the store; an array is its bytes.

    Raises
    ------
    TypeError
        It cannot be told from others.
    """
    if isinstance(argument, np.ndarray):
        return argument.shape, str(argument.dtype), hashlib.sha256(np.ascontiguousarray(argument).tobytes()).digest()
    if isinstance(argument, list | tuple):
        return tuple(key_of(each) for each in argument)
    told: Hashable = argument
    hash(told)
    return told


@dataclasses.dataclass
class _Answer:
    value: Any
    held: dict[int, int]
    room: Hashable


class Kept:
    """A store of answers.

    Parameters
    ----------
    budget : callable
        Bytes that may be held; asked anew whenever something comes in. The answer that came last stays in any case.
    check : callable
        Called while another session works out the same answer, and to be called by whoever works long: it may end the
        caller by an exception.
    """

    def __init__(self, budget: Callable[[], int], check: Callable[[], None] = lambda: None) -> None:
        self._budget, self._check = budget, check
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()
        self._users: Counter[int] = Counter()
        self._at_work: dict[Hashable, threading.Event] = {}
        self._lock = threading.Lock()
        self.bytes = 0

    def get(
        self,
        room: Hashable,
        key: Hashable,
        make: Callable[[], Any],
        entries: int = 16,
        weigh: Callable[[Any], int] = lambda value: 0,
    ) -> Any:
        """An answer, worked out where it is not there. Of those who ask at once one works; if it fails, the next does.

        Parameters
        ----------
        room, key : hashable
            Whose answer, and to what.
        make : callable
        entries : int
            How many answers of this room are kept at most.
        weigh : callable
            Bytes of an answer that do not show in its arrays.
        """
        place = (room, key)
        while True:
            with self._lock:
                if place in self._answers:
                    self._answers.move_to_end(place)
                    return self._answers[place].value
                other = self._at_work.get(place)
                if other is None:
                    mine = self._at_work[place] = threading.Event()
            if other is None:
                break
            while not other.wait(_WAIT_S):
                self._check()
        try:
            value = make()
            with self._lock:
                known = {id(answer.value): answer for answer in self._answers.values()}
            held = buffers(value, known)
            if more := weigh(value):
                held[id(value)] = more
            self._keep(place, _Answer(value, held, room), entries)
            return value
        finally:
            with self._lock:
                del self._at_work[place]
            mine.set()

    def _keep(self, place: Hashable, answer: _Answer, entries: int) -> None:
        with self._lock:
            for identity, size in answer.held.items():
                self._users[identity] += 1
                self.bytes += size if self._users[identity] == 1 else 0
            self._answers[place] = answer
            self.bytes += _ENTRY
            same = [each for each, held in self._answers.items() if held.room == answer.room]
            for each in same[: max(0, len(same) - entries)]:
                self._drop(each)
            limit = self._budget()
            while self.bytes > limit and len(self._answers) > 1:
                self._drop(next(iter(self._answers)))

    def _drop(self, place: Hashable) -> None:
        for identity, size in self._answers.pop(place).held.items():
            self._users[identity] -= 1
            if not self._users[identity]:
                del self._users[identity]
                self.bytes -= size
        self.bytes -= _ENTRY

    def clear(self, room: Hashable | None = None) -> None:
        """Forget all answers, or those of one room."""
        with self._lock:
            for each in [place for place, held in self._answers.items() if room is None or held.room == room]:
                self._drop(each)

    def __len__(self) -> int:
        return len(self._answers)
