"""Verbs that open the browser app: `app` on screens there are, `demo` on a simulated one."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

import cytovae
from cytovae import access
from cytovae.cli import console
from cytovae.errors import ConfigError, CytovaeError
from cytovae.logs import LOG, JsonLines, LogForm
from cytovae.screen import Screen

ModelsOption = Annotated[
    Path | None, typer.Option("--models", help="Folder of model bundles; the shipped ones where not given.")
]
PortOption = Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the app.")]
QuizOption = Annotated[
    str | None,
    typer.Option("--quiz-db", help="SQLAlchemy URL of the quiz's database; a SQLite file in your data folder else."),
]
AddressOption = Annotated[
    str, typer.Option("--address", help="Address to serve on; other than this machine's own only with a login.")
]
AuthOption = Annotated[
    Path | None, typer.Option("--auth", metavar="FILE", help="Ask for a login, as this file of secrets (TOML) says.")
]
NoLoginOption = Annotated[
    bool, typer.Option("--no-login", help="Serve on --address without a login, behind a proxy that has one.")
]
BaseOption = Annotated[
    str, typer.Option("--base-path", metavar="PATH", help="Serve below this path, such as genes; behind a proxy.")
]
LogOption = Annotated[LogForm, typer.Option("--log", help="Write log lines as text or as JSON.")]
LOCAL = "127.0.0.1"
STOP_SECONDS = 10
"""How long the app may take to end."""
CHECK_SECONDS = 10


def app_root() -> Path:
    """The folder that holds ``app/`` and ``models/``: inside the installed package, or the clone."""
    package = Path(cytovae.__file__).parent
    for root in (package / "_shipped", package.parent):
        if (root / "app" / "main.py").is_file():
            return root
    raise ConfigError(f"the app is not beside {package}; install cytovae again")


def bound(address: str, auth: Path | None, no_login: bool) -> str:
    """The address to serve on: this machine's own where nobody would be asked who they are."""
    if auth is not None and no_login:
        raise typer.BadParameter("--auth asks for a login and --no-login for none; give one of them")
    if auth is not None or no_login or access.is_local(address):
        return address
    console.say(
        f"cytovae: without a login the app is served on this machine alone ({LOCAL}), not on {address}; "
        "give --auth FILE, or --no-login behind a proxy that has a login"
    )
    return LOCAL


def below(path: str) -> str:
    """The path to serve below, as ``/genes``; empty where it is the root."""
    parts = path.strip("/")
    if parts and not re.fullmatch(r"[\w-]+(/[\w-]+)*", parts, re.ASCII):
        raise typer.BadParameter(
            f"{path!r} is no path to serve below; it is made of letters, digits, - and _, such as genes or lab/genes",
            param_hint="--base-path",
        )
    return f"/{parts}" if parts else ""


def check_auth(auth: Path | None, base: str = "") -> None:
    """Raise where a login cannot be asked for as this file says."""
    if auth is None:
        return
    access.read(auth, base + access.CALLBACK)
    if not all(importlib.util.find_spec(name) for name in ("authlib", "httpx")):
        raise ConfigError("a login needs Authlib; install it with: pip install 'cytovae[auth]'")


def refuse_used_port(address: str, port: int) -> None:
    """Raise where something else listens on the port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as taken:
            raise ConfigError(f"port {port} cannot be used ({taken.strerror}); choose another with --port") from None


def start_app(
    screens: Sequence[Path],
    models: Path | None,
    address: str,
    port: int,
    quiz_db: str | None = None,
    auth: Path | None = None,
    log: LogForm = LogForm.TEXT,
    base: str = "",
) -> subprocess.Popen[bytes]:
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
        LOG: log,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")])),
    }
    if quiz_db is not None:
        environment["CYTOVAE_QUIZ_DB"] = quiz_db
    command = [sys.executable, "-m", "streamlit", "run", str(root / "app" / "server.py")]
    command += [f"--server.port={port}", f"--server.address={address}", f"--server.baseUrlPath={base}"]
    if auth is not None:
        environment["CYTOVAE_AUTH"] = str(auth.resolve())
        command.append(f"--secrets.files={auth.resolve()}")
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


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
    raise CytovaeError(f"the app was not healthy within {seconds:g} s")


@contextlib.contextmanager
def ended_with_us(server: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the app whenever the block ends, by SIGTERM and Ctrl-C too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    except KeyboardInterrupt:
        console.say("cytovae: stopped")
    finally:
        server.terminate()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def announcer(log: LogForm) -> Callable[[str], None]:
    """How to say a line to whoever started the app."""
    if log is LogForm.TEXT:
        return console.say
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    own = logging.Logger("cytovae")
    own.addHandler(handler)
    return own.info


def check(url: str) -> None:
    """Ask a running app whether its screens and its quiz's database answer.

    Raises
    ------
    CytovaeError
        They do not, or nothing answers there.
    """
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/ready", timeout=CHECK_SECONDS) as answer:
            told = json.loads(answer.read(10_000))
            good = told["ready"] is True
    except urllib.error.HTTPError as refused:
        try:
            told = json.loads(refused.read(10_000))
            words = f"{told['screens_that_open']} of {told['screens']} screens open, quiz {told['quiz']}"
        except (ValueError, KeyError, TypeError):
            words = f"status {refused.code}"
        raise CytovaeError(f"the app at {url} is not ready ({words}); its log says why") from None
    except (OSError, ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise CytovaeError(f"no app of cytovae answers at {url}; give the address that 'cytovae app' printed")
    console.say(f"cytovae {told['version']} at {url} is ready: {told['screens']} screens and the quiz answer")


def url_of(address: str, port: int, base: str = "") -> str:
    """The address a person types."""
    return f"http://{'localhost' if address in ('0.0.0.0', '127.0.0.1', '::') else address}:{port}{base}"


@console.app.command("app")
def app_command(
    screens: Annotated[list[Path] | None, typer.Argument(help="Screen folders.")] = None,
    models: ModelsOption = None,
    port: PortOption = 8501,
    address: AddressOption = LOCAL,
    quiz_db: QuizOption = None,
    auth: AuthOption = None,
    no_login: NoLoginOption = False,
    base_path: BaseOption = "",
    log: LogOption = LogForm.TEXT,
    check_url: Annotated[
        str | None,
        typer.Option("--check", metavar="URL", help="Ask a running app whether its screens and quiz answer, and end."),
    ] = None,
) -> None:
    """Open the app on one or more screens."""
    if check_url is not None:
        check(check_url)
        return
    if not screens:
        raise typer.BadParameter("name one screen or more", param_hint="SCREENS")
    address, base = bound(address, auth, no_login), below(base_path)
    check_auth(auth, base)
    for path in screens:
        Screen.open(path)
    server = start_app(screens, models, address, port, quiz_db, auth, log, base)
    say, url = announcer(log), url_of(address, port, base)
    with ended_with_us(server):
        wait_healthy(server, url)
        say(f"cytovae {cytovae.__version__} is at {url} (Ctrl-C ends it)")
        server.wait()
    say("cytovae has ended")


@console.app.command()
def demo(
    folder: Annotated[Path, typer.Option("--dir", help="Where the demo screen is made and kept.")] = Path(
        "cytovae-demo"
    ),
    port: PortOption = 8501,
    address: AddressOption = LOCAL,
    auth: AuthOption = None,
    no_login: NoLoginOption = False,
    no_app: Annotated[bool, typer.Option("--no-app", help="Make everything, open nothing.")] = False,
    browser: Annotated[bool, typer.Option(help="Open a browser where there is a display.")] = True,
) -> None:
    """Make the simulated screen, embed and profile it with the shipped models, open the app."""
    from cytovae import demo as library

    models = app_root() / "models"
    address = bound(address, auth, no_login)
    check_auth(auth)
    if not no_app:
        refuse_used_port(address, port)
    started = time.monotonic()
    screen = library.prepare(folder, models, console.progress)
    if no_app:
        library.deepen(screen, models, console.progress, console.say)
        console.say(f"the demo screen is at {screen.path}")
        return
    server = start_app([screen.path], models, address, port, auth=auth)
    with ended_with_us(server):
        wait_healthy(server, url_of(address, port))
        took = time.monotonic() - started
        console.say(f"cytovae {cytovae.__version__} is at {url_of(address, port)} after {took:.0f} s (Ctrl-C ends it)")
        if browser and (os.environ.get("DISPLAY") or sys.platform in ("darwin", "win32")):
            import webbrowser

            webbrowser.open(url_of(address, port))
        try:
            library.deepen(screen, models, console.progress, console.say)
        except (CytovaeError, OSError) as failed:  # the app goes on without
            console.say(f"cytovae: {failed}; the app shows what there is")
        server.wait()
