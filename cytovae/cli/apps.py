"""Verbs that open the browser app: `app` on screens there are, `demo` on a simulated one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import cytovae
from cytovae.cli import console
from cytovae.errors import ConfigError, CytovaeError
from cytovae.screen import Screen

ModelsOption = Annotated[
    Path | None, typer.Option("--models", help="Folder of model bundles; the shipped ones where not given.")
]
PortOption = Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the app.")]
AddressOption = Annotated[str, typer.Option("--address", help="Address to serve on.")]


def app_root() -> Path:
    """The folder that holds ``app/`` and ``models/``: inside the installed package, or the clone."""
    package = Path(cytovae.__file__).parent
    for root in (package / "_shipped", package.parent):
        if (root / "app" / "main.py").is_file():
            return root
    raise ConfigError(f"the app is not beside {package}; install cytovae again")


def refuse_used_port(address: str, port: int) -> None:
    """Raise where something else listens on the port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as taken:
            raise ConfigError(f"port {port} cannot be used ({taken.strerror}); choose another with --port") from None


def start_app(screens: Sequence[Path], models: Path | None, address: str, port: int) -> subprocess.Popen[bytes]:
    """Start the app as a process of its own."""
    refuse_used_port(address, port)
    root = app_root()
    models = models or root / "models"
    if not models.is_dir():
        raise ConfigError(f"there is no folder of models at {models}; give one with --models")
    environment = {
        **os.environ,
        "CYTOVAE_SCREENS": os.pathsep.join(str(s.resolve()) for s in screens),
        "CYTOVAE_MODELS": str(models.resolve()),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")])),
    }
    command = [sys.executable, "-m", "streamlit", "run", str(root / "app" / "main.py")]
    return subprocess.Popen(
        [*command, f"--server.port={port}", f"--server.address={address}"], env=environment, stdout=subprocess.DEVNULL
    )


def wait_healthy(server: subprocess.Popen[bytes], url: str, seconds: float = 60) -> None:
    """Return when the app answers ``ok``; raise when it ended or the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            raise CytovaeError(f"the app ended at once with status {server.returncode}; its message stands above")
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1) as answer:
                if answer.read() == b"ok":
                    return
        except OSError:
            pass
        time.sleep(0.1)
    server.terminate()
    raise CytovaeError(f"the app was not healthy within {seconds:g} s")


def serve(server: subprocess.Popen[bytes]) -> None:
    """Wait for the app to end; SIGTERM and Ctrl-C end it."""
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    try:
        server.wait()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()


def url_of(address: str, port: int) -> str:
    """The address a person types."""
    return f"http://{'localhost' if address in ('0.0.0.0', '127.0.0.1', '::') else address}:{port}"


@console.app.command("app")
def app_command(
    screens: Annotated[list[Path], typer.Argument(help="Screen folders.")],
    models: ModelsOption = None,
    port: PortOption = 8501,
    address: AddressOption = "127.0.0.1",
) -> None:
    """Open the app on one or more screens."""
    for path in screens:
        Screen.open(path)
    server = start_app(screens, models, address, port)
    wait_healthy(server, url_of(address, port))
    console.say(f"cytovae is at {url_of(address, port)} (Ctrl-C ends it)")
    serve(server)
