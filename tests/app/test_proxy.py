"""The proxy of `packaging/proxy`, run by Debian's nginx as an ordinary user before the real app."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.sync.client import connect

from .conftest import ROOT, Loaded
from .test_login import free_port

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
USER, PASSWORD = "anna", "a-password"
SIGNED_IN = "Basic YW5uYTphLXBhc3N3b3Jk"

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt-get install nginx-light)")


@contextlib.contextmanager
def nginx(port: int, *changes: tuple[str, str]) -> Iterator[str]:
    """nginx with the configuration of `packaging/proxy` and these changes, on a port of this machine."""
    folder = Path(tempfile.mkdtemp(prefix="cytovae-nginx-"))
    hashed = subprocess.run(
        ["openssl", "passwd", "-apr1", "-stdin"], input=PASSWORD, capture_output=True, text=True, check=True
    )
    (folder / "users").write_text(f"{USER}:{hashed.stdout}")
    text = (ROOT / "packaging" / "proxy" / "nginx.conf").read_text()
    places = "".join(
        f"  {name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    for old, new in (
        ("/run/nginx.pid", f"{folder}/pid"),
        ("/run/secrets/users", f"{folder}/users"),
        ("listen 8080", f"listen 127.0.0.1:{port}"),
        ("worker_processes auto", "worker_processes 1"),
        ("http {\n", "http {\n" + places),
        *changes,
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            os.chown(path, 65534, 65534)
        user = {"user": 65534, "group": 65534, "extra_groups": []}
    words = ["-e", "stderr", "-p", str(folder), "-c", f"{folder}/nginx.conf", "-g", "daemon off;"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([str(NGINX), *words], cwd=folder, stderr=log, **user)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        assert server.poll() is None, (folder / "log").read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def proxy(tiny: Loaded, app_server: Callable[..., str]) -> Iterator[str]:
    behind = app_server([tiny.screen], tiny.models).removeprefix("http://")
    with nginx(free_port(), ("server app:8501", f"server {behind}")) as url:
        yield url


def ask(url: str, *, signed_in: bool = True, data: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
    sent = {"Authorization": SIGNED_IN, **headers} if signed_in else headers
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, sent), timeout=30) as got:
            return got.status, got.headers, got.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, refused.read()


def test_nobody_passes_without_a_password_but_the_health_check(proxy: str) -> None:
    for path in ("/", "/quiz", "/_stcore/host-config", "/media/a.png", "/static/index.html"):
        assert ask(proxy + path, signed_in=False)[0] == 401
    assert ask(f"{proxy}/", Authorization="Basic YW5uYTp3cm9uZw==")[0] == 401
    assert ask(f"{proxy}/_stcore/health", signed_in=False)[2] == b"ok"


def test_every_answer_has_the_headers_that_keep_other_sites_out(proxy: str) -> None:
    for path, signed_in in (("/", True), ("/", False), ("/_stcore/host-config", True), ("/_stcore/metrics", True)):
        _, headers, _ = ask(proxy + path, signed_in=signed_in)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "SAMEORIGIN"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
        assert not re.search(r"\d", headers["Server"])
    _, headers, _ = ask(f"{proxy}/_stcore/health", Origin="https://evil.example")
    assert headers.get("Access-Control-Allow-Origin") != "https://evil.example"
    assert headers.get("Access-Control-Allow-Origin") != "*"


def test_what_no_page_needs_is_not_there(proxy: str) -> None:
    for path in ("/_stcore/metrics", "/ready", "/_stcore/upload_file/a/b"):
        assert ask(proxy + path)[0] == 404
    assert ask(f"{proxy}/", data=b"x" * 3_000_000)[0] == 413


def test_paths_that_leave_their_folder_lead_to_no_file(proxy: str) -> None:
    for place in ("", "media/", "static/", "component/", "app/static/"):
        for up in ("../" * 9, "%2e%2e/" * 9, "..%2f" * 9, "..%5c" * 9, "....//" * 9):
            assert b"root:" not in ask(f"{proxy}/{place}{up}etc/passwd")[2]


def test_websockets_pass_with_a_password_and_from_the_own_site_alone(proxy: str) -> None:
    address = proxy.replace("http", "ws") + "/_stcore/stream"
    more: dict[str, Any] = {"subprotocols": [websockets.Subprotocol("streamlit")], "proxy": None, "max_size": None}
    with connect(address, additional_headers={"Authorization": SIGNED_IN}, origin=websockets.Origin(proxy), **more):
        pass
    with pytest.raises(websockets.InvalidStatus, match="401"):
        connect(address, **more)
    with pytest.raises(websockets.InvalidStatus, match="403"):
        connect(
            address,
            additional_headers={"Authorization": SIGNED_IN},
            origin=websockets.Origin("https://evil.example"),
            **more,
        )


@pytest.mark.browser
def test_the_app_works_behind_it(proxy: str, tab: Callable[..., Any]) -> None:
    page = tab(http_credentials={"username": USER, "password": PASSWORD})
    refused: list[str] = []
    page.on("console", lambda line: refused.append(line.text) if "Content Security Policy" in line.text else None)
    page.goto(proxy)
    page.get_by_role("heading", name="What does the drug do to the cell?").first.wait_for()
    page.locator("img, canvas").first.wait_for()
    assert not refused
