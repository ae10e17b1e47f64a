"""What `cytovae app` serves: the app, and under `/ready` whether its screens and the quiz's database can be read."""

from __future__ import annotations

import logging
import os
import threading

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import logger as streamlit_logger
from streamlit.web.server.starlette.starlette_server_config import SESSION_COOKIE_NAME

import cytovae
from cytovae.errors import CytovaeError
from cytovae.logs import LOG, JsonLines, LogForm

SECONDS = 5.0
"""How long one who asks waits for another's check to end."""
_LOGGER = logging.getLogger("cytovae.server")
_ONE_AT_A_TIME = threading.Lock()


def _screen_trouble(path: str) -> str:
    import numpy as np  # tables and arrays take long to load: the server is healthy before they are

    from cytovae.patches import PatchStore
    from cytovae.screen import Screen

    try:
        screen = Screen.open(path)
        if not screen.cells_path.exists():
            return f"{path} holds no cells yet"
        store = PatchStore(screen.patches_path)
        if len(store):
            store.read(np.array([len(store) - 1]))
    except (CytovaeError, OSError, ValueError) as closed:
        return str(closed)
    return ""


def _quiz_trouble() -> str:
    from app.common import loaders

    try:
        loaders.quiz_store().unfinished()
    except CytovaeError as closed:
        return str(closed)
    return ""


def ready(_: Request) -> JSONResponse:
    """Status 200 where every screen and the quiz's database answer, else 503 and counts; the reasons are in the log."""
    from app.common import loaders  # Streamlit's caches ask for the runtime, which is there by now

    if not _ONE_AT_A_TIME.acquire(timeout=SECONDS):
        return JSONResponse({"ready": False, "busy": True}, 503)
    try:
        paths = [path for path in os.environ.get(loaders.SCREENS, "").split(os.pathsep) if path]
        troubles = {path: said for path in paths if (said := _screen_trouble(path))}
        quiz = _quiz_trouble()
    finally:
        _ONE_AT_A_TIME.release()
    for said in [*troubles.values(), *([quiz] if quiz else [])]:
        _LOGGER.error("not ready: %s", said)
    good = not troubles and not quiz
    told = {
        "ready": good,
        "version": cytovae.__version__,
        "screens": len(paths),
        "screens_that_open": len(paths) - len(troubles),
        "quiz": not quiz,
    }
    return JSONResponse(told, 200 if good else 503, headers={"Cache-Control": "no-store"})


def _log_as_json() -> None:
    """Every logger there is or will be: Streamlit gives each of its own a handler."""

    def fit(logger: logging.Logger) -> None:
        logger.handlers[:] = [handler]

    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], force=True)
    logging.captureWarnings(True)
    streamlit_logger.setup_formatter = fit  # type: ignore[assignment]
    streamlit_logger.update_formatter()


class OwnCookie:
    """Keep the cookie of a login that is under way below the app's path: several apps may share an address."""

    def __init__(self, app: ASGIApp, base: str) -> None:
        self._app, self._base = app, base.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [self._own(*header) for header in message["headers"]]
            await send(message)

        await self._app(scope, receive, sent)

    def _own(self, name: bytes, value: bytes) -> tuple[bytes, bytes]:
        if name.lower() == b"set-cookie" and value.startswith(f"{SESSION_COOKIE_NAME}=".encode()):
            value = value.replace(b"; path=/;", b"; path=" + self._base + b";")
        return name, value


if os.environ.get(LOG) == LogForm.JSON:
    _log_as_json()
BASE = "/".join(["", *filter(None, (st.get_option("server.baseUrlPath") or "").split("/"))])
"""The path below which all is served, as ``/genes``; empty where it is the root."""
app = st.App(
    "main.py",
    routes=[Route(f"{BASE}/ready", ready)],
    middleware=[Middleware(OwnCookie, base=BASE)] if BASE else None,
)
