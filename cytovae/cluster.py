"""Where work runs: this process, or processes beside it, which end when asked to and when their starter is gone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from cytovae.errors import IngestError

Job = TypeVar("Job")
Made = TypeVar("Made")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_out(work: Callable[[Job], Made], jobs: Sequence[Job], processes: int) -> Iterator[Made]:
    """The results of `work` on each job, in the order of the jobs, as they come; in this process where one is enough.

    Parameters
    ----------
    work : callable
        A function at the top of a module, or a partial of one.
    jobs : sequence
    processes : int

    Raises
    ------
    IngestError
        A process died.
    """
    if processes <= 1 or len(jobs) <= 1:
        yield from map(work, jobs)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), context, initializer=_start) as pool:
        try:
            yield from pool.map(work, jobs)
        except BrokenProcessPool:
            raise IngestError(
                "a worker process was ended from outside, perhaps for want of memory; "
                "run the same command again to go on, with fewer processes if it happens again"
            ) from None
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _start() -> None:
    """One thread per worker; Ctrl-C is the starter's business; an end when the starter is gone."""
    import multiprocessing
    import signal
    import threading

    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    starter = multiprocessing.parent_process()

    def follow() -> None:
        if starter is not None:
            starter.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
