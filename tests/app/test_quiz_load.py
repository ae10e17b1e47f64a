"""Raters at once on the real server, which is killed meanwhile: what was acknowledged is stored, once."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import re
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import websockets
from websockets.sync.client import ClientConnection, connect

from cytovae.quiz import deck
from cytovae.quiz.answers import Store

from ..databases import PostgreSQL
from ..quiz.conftest import Identity, Screen
from .conftest import PATIENCE, _serve

RATERS = int(os.environ.get("CYTOVAE_RATERS", "12"))
"""At once; `make torture` takes fifty."""
CARDS = 4
CARD = "cytovae.card"
LOST = (OSError, TimeoutError, websockets.WebSocketException)


class AppServer:
    """The app as users run it, at whatever address it has just been started on."""

    def __init__(self, folder: Path, screen: Path, models: Path, database: str) -> None:
        self._start = functools.partial(_serve, folder, [screen], models, {"CYTOVAE_QUIZ_DB": database})
        self._running: tuple[subprocess.Popen[bytes], str] = self._start()

    @property
    def address(self) -> str:
        return self._running[1].replace("http://", "ws://") + "/_stcore/stream"

    def kill(self) -> None:
        """SIGKILL, and a new server."""
        self._running[0].kill()
        self._running[0].wait(timeout=20)
        self._running = self._start()

    def stop(self) -> None:
        self._running[0].kill()
        self._running[0].wait(timeout=20)


class Session:
    """One browser session without a browser: Streamlit's own messages over its websocket."""

    def __init__(self, address: str, link: str, max_queue: int = 16) -> None:
        self.link = link
        self.component = ""
        self.page = ""
        self._opened = contextlib.ExitStack()
        self.socket: ClientConnection = self._opened.enter_context(
            connect(
                address,
                subprotocols=[websockets.Subprotocol("streamlit")],
                max_size=None,
                max_queue=max_queue,
                open_timeout=60 * PATIENCE,
                ping_interval=None,  # a slow answer is no lost connection
                proxy=None,
            )
        )

    def run(self, value: dict[str, Any] | None = None, page: str = "quiz") -> tuple[int | None, str]:
        """Let the page run, with an answer or without: the position of the card it shows, if any, and its words."""
        self.send(value, page)
        return self.read()

    def send(self, value: dict[str, Any] | None = None, page: str = "") -> None:
        """Ask for a run of the page, and do not wait for it."""
        from streamlit.proto.BackMsg_pb2 import BackMsg

        message = BackMsg()
        message.rerun_script.query_string = self.link
        message.rerun_script.page_script_hash = self.page
        message.rerun_script.page_name = "" if self.page else page
        if value is not None:
            message.rerun_script.widget_states.widgets.add(id=self.component, json_value="{}")
            state = message.rerun_script.widget_states.widgets.add()
            state.id = f"$$STREAMLIT_INTERNAL_KEY_{self.component}__events"
            state.json_trigger_value = json.dumps([{"event": "call", "value": value}])
        self.socket.send(message.SerializeToString())

    def read(self) -> tuple[int | None, str]:
        """What the page shows, once its run has ended."""
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        position, words = None, []
        while True:
            told = ForwardMsg.FromString(self.socket.recv(timeout=300 * PATIENCE))
            if told.WhichOneof("type") == "script_finished":
                return position, " ".join(words)
            if told.WhichOneof("type") == "navigation":
                self.page = told.navigation.page_script_hash
            if told.WhichOneof("type") != "delta":
                continue
            element = told.delta.new_element
            if element.WhichOneof("type") == "bidi_component" and element.bidi_component.component_name == CARD:
                self.component = element.bidi_component.id
                position = struct.unpack_from("<6H", element.bidi_component.bytes)[3]
            elif element.WhichOneof("type") in ("heading", "alert", "markdown"):
                words.append(getattr(element, element.WhichOneof("type")).body)

    def close(self) -> None:
        with contextlib.suppress(*LOST):
            self._opened.close()


def planned(rater: int, position: int, attempt: int) -> bool:
    """An answer that differs between raters, cards and attempts, so that no other can be taken for it."""
    return random.Random(f"{rater} {position} {attempt}").random() < 0.5


def rate(server: AppServer, token: str, rater: int, said: list[list[bool]], gate: threading.Barrier) -> None:
    """Answer a deck to its end through whatever happens; ``said[position]`` collects every attempt at a card.

    A card is acknowledged once the server shows the next one. It must never be shown again.
    """
    acknowledged, waited, end = 0, False, time.monotonic() + 700 * PATIENCE
    session: Session | None = None
    shown: int | None = None
    while time.monotonic() < end:
        try:
            if session is None:
                session = Session(server.address, f"deck={token}")
                shown, words = session.run()
            if shown is None and "synthetic cells for real" in words:
                session.close()
                assert all(said), f"rater {rater} was shown a result before the last card"
                return
            if shown is None:  # the database is away: "Try again"
                time.sleep(0.2)
                shown, words = session.run()
                continue
            assert acknowledged <= shown <= sum(map(bool, said)), f"rater {rater}: an acknowledged answer was lost"
            acknowledged = shown
            if shown == CARDS // 2 and not waited:
                waited = True
                gate.wait(timeout=300 * PATIENCE)  # all of them are between two cards, then all of them go on at once
            said[shown].append(planned(rater, shown, len(said[shown])))
            value = {"position": shown, "real": said[shown][-1], "seconds": float(len(said[shown]))}
            shown, words = session.run(value)
        except LOST:
            if session is not None:
                session.close()
            session, shown = None, None
            time.sleep(0.2)
    raise AssertionError(f"rater {rater} did not come to an end; card {acknowledged + 1}")


def dealt(store: Store, raters: int) -> list[str]:
    """A deck for each rater."""
    small = Screen(edge_px=8)
    options = deck.DeckOptions(CARDS // 2, CARDS // 2, hidden_px=1)
    made = [
        deck.deal(small.cells, small.read, Identity((8, 8, 3)), np.random.default_rng(seed), options)
        for seed in range(raters)
    ]
    return [
        store.open_deck(
            one, rater=f"rater {k}", expertise="", screen="Small", model="m", channels=("DNA", "Tubulin", "Actin")
        )
        for k, one in enumerate(made)
    ]


@pytest.fixture
def server(url: str, tiny: Any, tmp_path: Path) -> Iterator[AppServer]:
    made = AppServer(tmp_path, tiny.screen, tiny.models, url)
    yield made
    made.stop()


@pytest.mark.slow
@pytest.mark.timeout(900 * PATIENCE)
def test_raters_lose_no_answer_while_server_and_database_are_killed(
    server: AppServer, url: str, request: pytest.FixtureRequest
) -> None:
    store = Store(url)
    tokens = dealt(store, RATERS)
    said: list[list[list[bool]]] = [[[] for _ in range(CARDS)] for _ in tokens]
    failures: list[BaseException] = []
    killed_between = threading.Event()

    def between() -> None:
        """All raters stand between two answers."""
        server.kill()
        if url.startswith("postgresql"):
            database: PostgreSQL = request.getfixturevalue("postgresql")
            database.stop()
            database.start()
        killed_between.set()

    gate = threading.Barrier(RATERS, action=between)

    def work(rater: int) -> None:
        try:
            rate(server, tokens[rater], rater, said[rater], gate)
        except BaseException as failed:
            failures.append(failed)
            gate.abort()

    threads = [threading.Thread(target=work, args=(rater,)) for rater in range(RATERS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if killed_between.wait(timeout=1):
            time.sleep(1.5)  # in the middle of the answers that follow
            server.kill()
            break
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    assert killed_between.is_set()

    calls = store.calls()
    assert len(calls) == RATERS * CARDS  # none lost, none doubled
    for rater, token in enumerate(tokens):
        mine, _ = store.result(token)
        assert mine["position"].tolist() == list(range(CARDS))
        assert mine["called_real"].tolist() == [attempts[-1] for attempts in said[rater]]
        assert mine["seconds"].tolist() == [len(attempts) for attempts in said[rater]]
    store.close()


def test_a_session_reaches_no_deck_but_the_one_its_link_names(server: AppServer, url: str) -> None:
    store = Store(url)
    mine, other = dealt(store, 2)
    session = Session(server.address, f"deck={mine}")
    assert session.run()[0] == 0
    for guess in ("1", "2", other[:-1], other + "x", f"{other}&deck={mine}x", "%", ""):
        session.link = f"deck={guess}"
        position, words = session.run({"position": 0, "real": True, "seconds": 1.0})
        assert position is None
        assert other not in words
        assert not re.search("cell-\\d{4}|drug", words)
    assert store.state(other).n_answered == 0
    session.link = f"deck={mine}"
    assert session.run()[0] == 1  # the first attack answered the card that was on its own screen
    assert session.run({"position": 1, "real": True, "seconds": 1.0})[0] == 2
    session.close()
    store.close()
