"""Where work runs: this process, processes beside it, the workers of a Dask cluster, or one of several equal shares.

Processes beside this one end when asked to and when their starter is gone. On a cluster every worker must see the same
files under the same names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cytovae.errors import ConfigError, DependencyError, IngestError, first_line
from cytovae.screen import read_json

Job = TypeVar("Job")
Made = TypeVar("Made")

SLURM_MEMORY = "4GB"
"""Of each job, where dask-jobqueue's own configuration says nothing."""


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of several equal shares of the work, such as one job of a job array.

    Parameters
    ----------
    number, of : int
        Which one, from 1, of how many.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard from ``i/n``.

        Raises
        ------
        ConfigError
            It is not written so, or there is no such shard.

        Examples
        --------
        >>> list(Shard.parse("2/3").share(range(10)))
        [3, 4, 5]
        """
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise ConfigError(f"a shard is written i/n, from 1/n to n/n, not {text!r}")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}-of-{self.of}"

    def share(self, units: Sequence[Job]) -> Sequence[Job]:
        """Its share of units of work, one after the other; all shards together are all units once."""
        return units[len(units) * (self.number - 1) // self.of : len(units) * self.number // self.of]


def share_out(work: Callable[[Job], Made], jobs: Sequence[Job], where: int | str = 1) -> Iterator[Made]:
    """The results of `work` on each job, in the order of the jobs, as they come; in this process where one is enough.

    Parameters
    ----------
    work : callable
        A function at the top of a module, or a partial of one.
    jobs : sequence
    where : int or str
        A number of processes, or a cluster as `client` understands it. A cluster does a job again whose worker was
        lost, so jobs must not mind.

    Raises
    ------
    IngestError
        A process died, on a cluster several times at the same job; or there cannot be several.
    ConfigError
        The cluster is not there.
    """
    if isinstance(where, str):
        with client(where) as dask:
            yield from _on_cluster(dask, work, jobs)
        return
    if where <= 1 or len(jobs) <= 1:
        yield from map(work, jobs)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")
    try:
        several = ProcessPoolExecutor(min(where, len(jobs)), context, initializer=_start)
    except OSError as failed:
        raise IngestError(
            f"several processes cannot share their work here ({failed.strerror}: the shared memory of this machine, "
            "/dev/shm, must be writable); where a verb has --workers, 1 does without"
        ) from None
    with several as pool:
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


def _on_cluster(dask: Any, work: Callable[[Job], Made], jobs: Sequence[Job]) -> Iterator[Made]:
    from distributed import KilledWorker

    futures = dask.map(work, jobs, pure=False)
    try:
        for future in futures:
            yield future.result()
    except KilledWorker as killed:
        raise IngestError(
            f"several workers of the cluster ended one after the other at the same piece of work ({killed.task}), "
            "perhaps for want of memory; what is done is kept: run the same command again to go on"
        ) from None
    finally:
        dask.cancel(futures)


@contextlib.contextmanager
def client(where: str) -> Iterator[Any]:
    """A client of a Dask cluster.

    Parameters
    ----------
    where : str
        The address of a scheduler (``tcp://host:8786``), a scheduler file, ``local:N`` for N processes here, or
        ``slurm:N`` for N jobs, each started as dask-jobqueue's own configuration says.

    Raises
    ------
    ConfigError
        It is none of these, or nobody answers there.
    DependencyError
        Dask is not installed.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise DependencyError("--cluster needs Dask: pip install 'cytovae[cluster]'") from None
    kind, _, count = where.partition(":")
    with contextlib.ExitStack() as stack:
        if kind in ("local", "slurm") and count.isdecimal() and int(count) > 0:
            if kind == "local":
                cluster = LocalCluster(n_workers=int(count), threads_per_worker=1, dashboard_address=None)
            else:
                cluster = slurm()
                cluster.scale(jobs=int(count))
            yield stack.enter_context(Client(stack.enter_context(cluster)))
            return
        address = where
        if Path(where).is_file():
            said = read_json(Path(where), ConfigError)
            address = said.get("address", "") if isinstance(said, dict) else ""
            if not isinstance(address, str) or "://" not in address:
                raise ConfigError(f"{where} is no scheduler file of Dask: it has no address such as tcp://HOST:PORT")
        elif "://" not in where:
            raise ConfigError(
                f"a cluster is tcp://HOST:PORT, the path of a scheduler file, local:N or slurm:N, not {where!r}"
            )
        try:
            dask = Client(address, timeout=30)
        except Exception as failed:  # each protocol fails in ways of its own, for want of a certificate or a package
            raise ConfigError(f"no Dask scheduler answers at {where}: {first_line(failed)}") from None
        yield stack.enter_context(dask)


def slurm() -> Any:
    """A Dask cluster of Slurm jobs: what dask-jobqueue's configuration says; without it one core and `SLURM_MEMORY`."""
    try:
        import dask
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise DependencyError("--cluster slurm:N needs dask-jobqueue: pip install 'cytovae[cluster]'") from None
    said = {"cores": 1, "processes": 1, "memory": SLURM_MEMORY}
    return SLURMCluster(**{name: dask.config.get(f"jobqueue.slurm.{name}", None) or said[name] for name in said})


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
