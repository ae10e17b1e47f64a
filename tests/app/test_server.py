"""The app as a service: it knows whether it can answer, its log can be read by machines, it ends when asked to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

import cytovae
from cytovae.cli import apps
from cytovae.errors import CytovaeError

from ..databases import PostgreSQL
from .conftest import ROOT, Loaded
from .test_login import free_port


class Service:
    """A copy of the tiny screen, served by the verb with its log as JSON."""

    def __init__(self, folder: Path, tiny: Loaded, database: str) -> None:
        self.screen, self.log = folder / "copy.screen", folder / "log"
        shutil.copytree(tiny.screen, self.screen)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        words = ["app", str(self.screen), "--models", str(tiny.models), "--port", str(port), "--log", "json"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cytovae", *words, "--quiz-db", database],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        apps.wait_healthy(self.process, self.url)

    def lines(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        assert not [line for line in lines if not line.startswith("{")]
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, tiny: Loaded, postgresql: PostgreSQL) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("service"), tiny, postgresql.fresh())
    yield made
    made.process.terminate()
    made.process.wait(timeout=20)


def answer(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=20) as got:
            return got.status, json.loads(got.read())
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read())


def test_health_knows_of_screens_and_database(
    service: Service, postgresql: PostgreSQL, capsys: pytest.CaptureFixture[str]
) -> None:
    apps.check(service.url)
    assert f"cytovae {cytovae.__version__} at {service.url} is ready: 1 screens" in capsys.readouterr().err
    away = service.screen.with_name("away")
    service.screen.rename(away)
    status, told = answer(service.url)
    assert (status, told["ready"], told["screens"], told["screens_that_open"]) == (503, False, 1, 0)
    assert str(service.screen) not in json.dumps(told)  # the reason is for the log
    with pytest.raises(CytovaeError, match="0 of 1 screens open"):
        apps.check(service.url)
    away.rename(service.screen)
    assert answer(service.url)[0] == 200

    postgresql.stop()
    status, told = answer(service.url)
    assert (status, told["quiz"], told["screens_that_open"]) == (503, False, 1)
    postgresql.start()
    assert answer(service.url)[0] == 200
    assert any("not ready" in line["message"] and str(service.screen) in line["message"] for line in service.lines())


def test_what_is_no_app_of_ours_is_said(service: Service) -> None:
    for url in (f"http://127.0.0.1:{free_port()}", f"{service.url}/quiz", "no-url"):
        with pytest.raises(CytovaeError, match="no app of cytovae answers"):
            apps.check(url)


def test_paths_that_leave_their_folder_lead_to_no_file(service: Service) -> None:
    (service.screen.parent / "outside.txt").write_text("outside")
    places = ("", "media/", "static/", "component/", "_stcore/bidi-components/", "app/static/", "_stcore/")
    for place in places:
        for up in ("../" * 12, "%2e%2e/" * 12, "..%2f" * 12, "..%5c" * 12, "....//" * 12, "/" * 3):
            for name in ("etc/passwd", str(service.screen.parent / "outside.txt").lstrip("/")):
                asked = urllib.request.Request(f"{service.url}/{place}{up}{name}")
                try:
                    with urllib.request.urlopen(asked, timeout=20) as got:
                        body = got.read()
                except urllib.error.HTTPError as refused:
                    body = refused.read()
                assert b"root:" not in body
                assert body != b"outside"


def test_the_server_asks_nobody_elsewhere_for_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit import config, net_util
    from streamlit.web import bootstrap

    options = tomllib.loads((ROOT / "app" / ".streamlit" / "config.toml").read_text())
    asked: list[str] = []
    real = config.get_option
    monkeypatch.setattr(net_util, "get_external_ip", lambda: asked.append("external"))
    monkeypatch.setattr(net_util, "get_internal_ip", lambda: None)
    for table in ({}, options["logger"]):
        given = {f"logger.{name}": value for name, value in table.items()} | {"server.headless": True}
        monkeypatch.setattr(
            config, "get_option", lambda name, given=given: given[name] if name in given else real(name)
        )
        bootstrap._print_url(False)
        assert asked == ["external"]  # by Streamlit's own settings, and not again by ours


def test_it_ends_when_asked_to_and_every_line_was_json(service: Service) -> None:
    socket = service.url.replace("http", "ws") + "/_stcore/stream"
    with connect(socket, subprotocols=["streamlit"], max_size=None, proxy=None):  # a browser is looking
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=30) == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(service.url, timeout=5)
    lines = service.lines()
    assert {"time", "level", "logger", "message"} <= set.intersection(*(set(line) for line in lines))
    assert any(line["message"].startswith(f"cytovae {cytovae.__version__} is at") for line in lines)
