"""Work shared out over shards and clusters is done once, whoever dies."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path

import pytest

from cytovae import cluster
from cytovae.cluster import Shard, share_out
from cytovae.errors import ConfigError, IngestError
from cytovae.ingest import assembly


@pytest.mark.parametrize(("units", "of"), [(10, 3), (2, 5), (256, 7), (0, 2)])
def test_shards_together_are_all_units_once_and_about_equal(units: int, of: int) -> None:
    shares = [Shard(number, of).share(range(units)) for number in range(1, of + 1)]
    assert [unit for share in shares for unit in share] == list(range(units))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "a/3", "1/2/3", "-1/3"])
def test_a_shard_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="a shard is written i/n"):
        Shard.parse(text)


def work_or_die(folder: Path, number: int) -> None:
    """A unit of work that, the first time number 3 is tried, takes its worker with it."""
    with (folder / "tries.txt").open("a") as tries:
        tries.write(f"{number}\n")
    if number == 3 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / f"{number}.done").write_text(str(number))


@pytest.mark.filterwarnings("ignore")
def test_a_killed_worker_of_a_cluster_costs_its_unit_only(tmp_path: Path) -> None:
    jobs = [(number, 1, tmp_path / f"{number}.done") for number in range(8)]
    heard: list[tuple[int, int]] = []
    assembly._run(functools.partial(work_or_die, tmp_path), jobs, "local:2", lambda *said: heard.append(said))
    assert (tmp_path / "died").exists()
    assert sorted((tmp_path / "tries.txt").read_text().split()) == sorted([*map(str, range(8)), "3"])
    assert heard[-1] == (8, 8) and [done for done, _ in heard] == sorted(done for done, _ in heard)


def test_processes_that_cannot_share_memory_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")  # what a semaphore says, without a name

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", denied)
    with pytest.raises(IngestError, match=r"Permission denied.*/dev/shm, must be writable"):
        list(share_out(str, [1, 2], 2))
    assert list(share_out(str, [1, 2], 1)) == ["1", "2"]


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    for name in ("nowhere", ""):
        with pytest.raises(ConfigError, match=rf"a cluster is tcp://HOST:PORT, .* not '{name}'"):
            list(share_out(str, [1], name))
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers at tls://127\.0\.0\.1:9"):
        list(share_out(str, [1], "tls://127.0.0.1:9"))  # without a certificate


@pytest.mark.parametrize("text", ["{", "[]", '{"address": 3}', '{"address": "here"}', "{}", "\0"])
def test_a_scheduler_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "scheduler.json").write_text(text)
    with pytest.raises(ConfigError, match=r"scheduler.json (cannot be understood|is no scheduler file of Dask)"):
        list(share_out(str, [1], str(tmp_path / "scheduler.json")))


@pytest.mark.filterwarnings("ignore")
def test_slurm_jobs_are_what_the_configuration_of_dask_jobqueue_says() -> None:
    dask = pytest.importorskip("dask")
    with dask.config.set({"jobqueue.slurm.walltime": "02:00:00", "jobqueue.slurm.queue": "short"}):
        made = cluster.slurm()
        try:
            script = made.job_script()
        finally:
            made.close()
    for line in ("#SBATCH -p short", "#SBATCH -t 02:00:00", "#SBATCH --cpus-per-task=1", "#SBATCH --mem=4G"):
        assert line in script
    assert "distributed.cli.dask_worker" in script or "dask worker" in script
