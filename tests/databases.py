"""Databases for the tests of the quiz: SQLite files, and a PostgreSQL server that a test may kill and start again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def _program(name: str) -> str | None:
    """A program of PostgreSQL's server, on the PATH or where Debian keeps it."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(kept[-1]) if kept else None)


class PostgreSQL:
    """A server of its own in a folder of its own, run by an ordinary user: PostgreSQL refuses to be run by root."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="cytovae-postgresql-"))
        self._user = {}
        if os.geteuid() == 0:
            known = {entry.pw_name: entry for entry in pwd.getpwall()}
            entry = known.get("postgres") or known["nobody"]
            os.chown(self._folder, entry.pw_uid, entry.pw_gid)
            self._user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._run("initdb", "--auth=trust", "--username=quiz", "--encoding=UTF8", "--no-sync", str(self._data))
        self._server: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, name: str, *words: str) -> None:
        program = _program(name)
        assert program is not None
        done = subprocess.run([program, *words], cwd=self._folder, capture_output=True, text=True, **self._user)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start the server and wait until it answers."""
        program = _program("postgres")
        assert program is not None
        words = ["-D", str(self._data), "-h", "127.0.0.1", "-p", str(self._port), "-k", str(self._folder)]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [program, *words, "-c", "max_connections=200"],
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                **self._user,
            )
        import psycopg

        end = time.monotonic() + 120
        while True:
            try:
                psycopg.connect(self._address("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > end or self._server.poll() is not None:
                    raise RuntimeError((self._folder / "log").read_text()[-2000:]) from None
                time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End the server at once, without waiting for anybody: the next start recovers from its log."""
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(timeout=60)
            self._server = None

    def remove(self) -> None:
        """End the server and delete its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _address(self, database: str) -> str:
        return f"postgresql://quiz@127.0.0.1:{self._port}/{database}"

    def fresh(self) -> str:
        """An empty database, as an SQLAlchemy URL."""
        import psycopg

        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            (count,) = connection.execute("SELECT count(*) FROM pg_database").fetchone() or (0,)
            connection.execute(f"CREATE DATABASE quiz{count}".encode())
        return self._address(f"quiz{count}").replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A running PostgreSQL. Its tests skip only where it is not installed and apt cannot bring it."""
    if not _program("postgres") or not _program("initdb"):
        if shutil.which("apt-get"):
            pytest.fail("PostgreSQL's server is not installed: 'make postgresql' installs it")
        pytest.skip("PostgreSQL's server is not installed, and there is no apt-get to install it with")
    server = PostgreSQL()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'quiz.sqlite'}"
    fresh: str = request.getfixturevalue("postgresql").fresh()
    return fresh
