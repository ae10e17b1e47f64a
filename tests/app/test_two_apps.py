"""Two apps with logins at one address, each below a path of its own, behind the proxy of `packaging/proxy`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cytovae.cli import apps

from .conftest import PATIENCE, Loaded
from .test_login import ANNA, Guarded, free_port
from .test_proxy import NGINX, ask, nginx

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt-get install nginx-light)")


@pytest.fixture(scope="module")
def both(tiny: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Guarded, Guarded]]:
    port = free_port()
    drugs, genes = (
        Guarded(tmp_path_factory.mktemp(name), tiny, "--base-path", name, url=f"http://localhost:{port}/{name}")
        for name in ("drugs", "genes")
    )
    changes = (
        ("server app:8501", f"server 127.0.0.1:{drugs.port}"),
        ("# upstream genes { server genes:8501; }", f"upstream genes {{ server 127.0.0.1:{genes.port}; }}"),
        ("# ~^/genes(/|$) genes;", "~^/genes(/|$) genes;"),
        ('    auth_basic "cytovae";\n', ""),
    )
    with nginx(port, *changes):
        yield f"http://localhost:{port}", drugs, genes
    drugs.close()
    genes.close()


@pytest.mark.browser
def test_a_login_at_one_leaves_the_other_alone(both: tuple[str, Guarded, Guarded], tab: Callable[..., Any]) -> None:
    url, drugs, genes = both
    drugs.provider.person = genes.provider.person = ANNA
    one = tab()
    other = one.context.new_page()
    answers: dict[Any, list[tuple[int, str]]] = {one: [], other: []}
    for page, seen in answers.items():
        page.set_default_timeout(30_000 * PATIENCE)
        page.on("response", lambda answer, seen=seen: seen.append((answer.status, answer.url)))
    drugs.provider.answers.clear()  # the login at one app is under way ...
    link = f"{url}/drugs/quiz?deck={drugs.deck()}"
    one.goto(link)
    one.wait_for_function("sessionStorage.length > 0")
    one.get_by_role("button", name="Log in").click()
    while not drugs.provider.asked.is_set():
        one.wait_for_timeout(50)
    other.goto(f"{url}/genes")  # ... while one at the other begins and ends
    other.get_by_role("button", name="Log in").click()
    other.get_by_text("Logged in as").wait_for()
    other.locator("canvas").first.wait_for()
    drugs.provider.answers.set()
    one.locator('.quiz[data-position="0"]').wait_for()
    one.wait_for_url(link)
    for page, guarded in ((one, drugs), (other, genes)):
        own = [(status, where) for status, where in answers[page] if where.startswith(url)]
        assert [where for _, where in own if not where.startswith(guarded.url)] == []
        # Streamlit looks for its server below the page first
        failed = [where for status, where in own if status >= 400]
        assert [where for where in failed if not where.startswith(f"{guarded.url}/quiz/_stcore/")] == []
        assert any("/static/" in where for _, where in own)
        assert any("/media/" in where for _, where in own)
    other.get_by_role("button", name="Log out").click()
    other.get_by_text("Please log in").wait_for()
    one.reload()
    one.locator('.quiz[data-position="0"]').wait_for()


def test_each_is_ready_below_its_path_and_tells_nobody_outside(both: tuple[str, Guarded, Guarded]) -> None:
    url, drugs, genes = both
    for guarded, name in ((drugs, "drugs"), (genes, "genes")):
        apps.check(f"http://127.0.0.1:{guarded.port}/{name}")
        assert ask(f"{url}/{name}/_stcore/health")[2] == b"ok"
        for inside in ("ready", "_stcore/metrics", "_stcore/upload_file/a/b"):
            assert ask(f"{url}/{name}/{inside}")[0] == 404
