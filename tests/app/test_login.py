"""The app behind a login: a real provider of OpenID Connect, a real server, a real browser."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from cytovae.cli import apps
from cytovae.quiz.answers import Store

from .conftest import PATIENCE, ROOT, Loaded
from .provider import CLIENT, SECRET, Provider
from .test_quiz_load import dealt

COOKIE_SECRET = "the-secret-that-signs-cookies-of-the-test"
WHO = """
[auth]
redirect_uri = "{url}/oauth2callback"
cookie_secret = "{cookie}"
client_id = "{client}"
client_secret = "{secret}"
server_metadata_url = "{discovery}"

[cytovae]
addresses = ["anna@example.org"]
domains = ["lab.example"]
all_raters = ["anna@example.org"]
"""


ANNA = {"email": "Anna@Example.org", "email_verified": True}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Guarded:
    """The app as `cytovae app --auth` starts it, its provider, and all that it wrote."""

    def __init__(self, folder: Path, tiny: Loaded, *more: str, url: str = "") -> None:
        self.provider, self.port, self.folder = Provider(), free_port(), folder
        self.url = url or f"http://localhost:{self.port}"
        self.file, self.log = folder / "secrets.toml", folder / "log"
        self.database = f"sqlite:///{folder}/quiz.sqlite"
        text = WHO.format(
            url=self.url, cookie=COOKIE_SECRET, client=CLIENT, secret=SECRET, discovery=self.provider.discovery
        )
        self.file.write_text(text)
        self.file.chmod(0o600)
        words = ["app", str(tiny.screen), "--models", str(tiny.models), "--port", str(self.port)]
        words += ["--auth", str(self.file), *more]
        with self.log.open("wb") as log:
            self.server = subprocess.Popen(
                [sys.executable, "-m", "cytovae", *words, "--quiz-db", self.database],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        apps.wait_healthy(
            self.server, f"http://localhost:{self.port}{urllib.parse.urlsplit(self.url).path}", 60 * PATIENCE
        )

    def deck(self) -> str:
        """The token of a deck that waits for its first answer."""
        store = Store(self.database)
        (token,) = dealt(store, 1)
        store.close()
        return token

    def close(self) -> None:
        self.server.terminate()
        self.server.wait(timeout=20)
        self.provider.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, tiny: Loaded) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("guarded"), tiny)
    yield made
    made.close()


def log_in(page: Any, guarded: Guarded, person: dict[str, Any]) -> None:
    guarded.provider.person = person
    page.goto(guarded.url)
    page.get_by_role("button", name="Log in").click()


@pytest.mark.browser
def test_whoever_is_on_the_list_comes_in_and_sees_what_their_role_allows(
    guarded: Guarded, tab: Callable[..., Any]
) -> None:
    anna = tab()
    anna.goto(guarded.url)
    anna.get_by_text("Please log in").wait_for()
    expect(anna.get_by_role("heading")).to_have_text(["cytovae"])
    assert not anna.locator("img, canvas, [data-testid=stSelectbox]").count()
    log_in(anna, guarded, ANNA)
    anna.get_by_text("Logged in as").wait_for()
    anna.goto(f"{guarded.url}/quiz")
    anna.get_by_role("tab", name="All raters").click()
    anna.get_by_text("Nobody has finished a deck yet").wait_for()

    ben = tab()
    log_in(ben, guarded, {"email": "ben@lab.example", "email_verified": True})
    ben.get_by_text("Logged in as").wait_for()
    ben.goto(f"{guarded.url}/quiz")
    ben.get_by_role("tab", name="All raters").click()
    ben.get_by_text("shown to those alone").wait_for()

    # whoever is taken off the list is out at the next click; a list with a fault opens the app to nobody
    written = guarded.file.read_text()
    guarded.file.write_text(written.replace("anna@", "carl@"))
    anna.reload()
    anna.get_by_text("may not open this app").wait_for()
    guarded.file.write_text(written.replace("domains", "domain"))
    anna.reload()
    anna.get_by_text("knows no 'domain'").wait_for()
    assert not anna.locator("[data-testid=stSelectbox]").count()
    guarded.file.write_text(written)
    ben.reload()
    ben.get_by_role("button", name="Log out").click()
    ben.get_by_role("button", name="Log in").wait_for()


@pytest.mark.browser
def test_others_stay_outside(guarded: Guarded, tab: Callable[..., Any]) -> None:
    stranger = tab()
    log_in(stranger, guarded, {"email": "eve@sub.lab.example", "email_verified": True})
    stranger.get_by_text("may not open this app").wait_for()
    stranger.goto(f"{guarded.url}/quiz?deck=1")
    stranger.get_by_text("may not open this app").wait_for()
    assert not stranger.locator("[data-testid=stSelectbox]").count()
    pretending = tab()  # the provider has not verified that the address is theirs
    log_in(pretending, guarded, {"email": "anna@example.org", "email_verified": False})
    pretending.get_by_text("may not open this app").wait_for()


@pytest.mark.browser
def test_the_link_of_a_quiz_opens_after_the_login_and_once(guarded: Guarded, tab: Callable[..., Any]) -> None:
    guarded.provider.person = ANNA
    link = f"{guarded.url}/quiz?deck={guarded.deck()}"
    page = tab()
    page.goto(link)
    page.wait_for_function("sessionStorage.length > 0")
    page.get_by_role("button", name="Log in").click()
    page.locator('.quiz[data-position="0"]').wait_for()
    page.wait_for_url(link)
    page.wait_for_function("!Object.keys(sessionStorage).filter((key) => key.startsWith('cytovae-way')).length")
    page.get_by_role("button", name="Log out").click()
    page.get_by_text("Please log in").wait_for()
    log_in(page, guarded, ANNA)
    page.get_by_role("heading", name="What does the drug do to the cell?").first.wait_for()


@pytest.mark.browser
def test_what_a_tab_keeps_leads_to_no_other_site_and_not_for_long(guarded: Guarded, tab: Callable[..., Any]) -> None:
    page = tab()
    page.goto(guarded.url)
    page.get_by_text("Please log in").wait_for()
    source = urllib.parse.quote((ROOT / "app/common/components/way.js").read_text())
    come_back = """async ([source, kept, base, minutes]) => {
      sessionStorage.setItem(`cytovae-way ${base}`, JSON.stringify([kept, Date.now() - 60000 * minutes]));
      const { default: way } = await import(`data:text/javascript,${source}`);
      setTimeout(() => way({ data: { base, back: true } }), 20);
    }"""
    elsewhere: list[Any] = ["https://evil.example/", "//evil.example/", "/\\evil.example/", "\\\\evil.example", ""]
    elsewhere += ["https:evil.example", "javascript:document.title = 'x'", "data:text/html,x", 7, None]
    outside = ("/drugs/quiz", "/genes", "/genes/../drugs", "/genes/%2e%2e/drugs")
    tried = [(kept, "/", 0) for kept in elsewhere] + [(kept, "/genes/", 0) for kept in outside]
    for kept, base, minutes in [*tried, ("/quiz?deck=1", "/", 16)]:
        page.evaluate(come_back, [source, kept, base, minutes])
        page.wait_for_function("base => sessionStorage.getItem(`cytovae-way ${base}`) === null", arg=base)
        page.wait_for_timeout(100)
        assert urllib.parse.urlsplit(page.url).netloc == urllib.parse.urlsplit(guarded.url).netloc
        assert urllib.parse.urlsplit(page.url).query == ""
    page.evaluate(come_back, [source, "/quiz?deck=1#step=2", "/", 14])  # it leads somewhere: the attack is built right
    page.wait_for_url(f"{guarded.url}/quiz?deck=1#step=2")


@pytest.mark.browser
def test_a_cookie_that_the_server_did_not_sign_is_nobody(guarded: Guarded, tab: Callable[..., Any]) -> None:
    from streamlit.web.server.starlette.starlette_app_utils import create_signed_value

    said = {"email": "anna@example.org", "email_verified": True, "is_logged_in": True, "origin": guarded.url}
    for secret in ("", "another-secret-of-more-than-32-characters"):
        page = tab()
        value = create_signed_value(secret, "_streamlit_user", json.dumps(said)).decode() if secret else "e30"
        page.context.add_cookies([{"name": "_streamlit_user", "value": value, "url": guarded.url}])
        page.goto(guarded.url)
        page.get_by_text("Please log in").wait_for()
        page.context.clear_cookies()
    page = tab()  # and the one it did sign is somebody: the attack is built right
    value = create_signed_value(COOKIE_SECRET, "_streamlit_user", json.dumps(said)).decode()
    page.context.add_cookies([{"name": "_streamlit_user", "value": value, "url": guarded.url}])
    page.goto(guarded.url)
    page.get_by_text("Logged in as").wait_for()


@pytest.mark.browser
def test_the_log_holds_no_secret(guarded: Guarded, tab: Callable[..., Any]) -> None:
    page = tab()
    page.goto(f"{guarded.url}/oauth2callback?code=stolen&state=made-up")  # a callback nobody asked for
    page.get_by_text("Please log in").wait_for()
    time.sleep(0.2)
    log = guarded.log.read_text()
    assert "cytovae" in log  # it is the log
    assert guarded.provider.logins
    assert SECRET not in log
    assert COOKIE_SECRET not in log
    assert "access_token" not in log
