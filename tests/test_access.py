"""Who may open the app: the file of secrets, fault by fault, and where the app listens."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cytovae import access
from cytovae.cli import apps, console
from cytovae.errors import ConfigError

GOOD = """
[auth]
redirect_uri = "https://cells.example.org/oauth2callback"
cookie_secret = "0123456789abcdef0123456789abcdef"
client_id = "cytovae"
client_secret = "do-not-tell"
server_metadata_url = "https://login.example.org/.well-known/openid-configuration"

[cytovae]
addresses = ["Anna@example.org"]
domains = ["lab.example"]
all_raters = ["anna@example.org", "lab.example"]
"""


def written(folder: Path, text: str = GOOD, mode: int = 0o600) -> Path:
    path = folder / "secrets.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("email", "verified", "enters", "sees"),
    [
        ("anna@example.org", True, True, True),
        ("ANNA@EXAMPLE.ORG", True, True, True),
        ("ben@lab.example", True, True, True),
        ("ben@example.org", True, False, False),
        ("ben@sub.lab.example", True, False, False),
        ("ben@evil-lab.example", True, False, False),
        ("ben@lab.example@evil.org", True, False, False),
        ("evil@evil.org@lab.example", True, False, False),
        ("anna@example.org", False, False, False),
        ("anna@example.org", None, False, False),
        ("anna@example.org", "true", False, False),
        ("@lab.example", True, False, False),
        ("lab.example", True, False, False),
        ("", True, False, False),
        (["anna@example.org"], True, False, False),
    ],
)
def test_who_may_come_in(tmp_path: Path, email: object, verified: object, enters: bool, sees: bool) -> None:
    found = access.read(written(tmp_path))
    claims = {"email": email} | ({} if verified is None else {"email_verified": verified})
    assert (found.admits(claims), found.sees_all_raters(claims)) == (enters, sees)


def test_an_address_that_a_provider_does_not_speak_of_verifying_needs_the_files_word(tmp_path: Path) -> None:
    found = access.read(written(tmp_path, GOOD + "unverified = true\n"))
    assert found.admits({"email": "anna@example.org"})
    assert not found.admits({"email": "anna@example.org", "email_verified": False})


def test_a_role_is_for_those_who_may_come_in(tmp_path: Path) -> None:
    found = access.read(written(tmp_path, GOOD.replace('"anna@example.org", ', '"carl@else.org", ')))
    assert not found.sees_all_raters({"email": "carl@else.org", "email_verified": True})
    assert not found.sees_all_raters({"email": "anna@example.org", "email_verified": True})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[auth]", "[aut]", "has no table [auth]"),
        ("[cytovae]", "[cytova]", "has no table [cytovae]"),
        ('client_secret = "do-not-tell"', "", "client_secret is missing"),
        ('"do-not-tell"', '" "', "client_secret is missing"),
        ('"do-not-tell"', "5", "client_secret is missing"),
        ("0123456789abcdef0123456789abcdef", "short", "cookie_secret has 5 characters"),
        ("https://cells", "http://cells", "redirect_uri must begin with https://"),
        ("https://login", "http://login", "server_metadata_url must begin with https://"),
        ("https://login.example.org/", "https://[", "server_metadata_url must begin with https://"),
        ("oauth2callback", "callback", "ends with /oauth2callback"),
        ("domains =", "domain =", "knows no 'domain'"),
        ('["lab.example"]', '"lab.example"', "domains is a list"),
        ('["lab.example"]', '["@lab.example"]', "'@lab.example' among domains is not a domain"),
        ('["lab.example"]', '["*.example"]', "is not a domain"),
        ('["lab.example"]', '["org"]', "is not a domain"),
        ('["Anna@example.org"]', '["example.org"]', "is not an address"),
        ('addresses = ["Anna@example.org"]\ndomains = ["lab.example"]', "", "lets nobody in"),
        ("all_raters", 'unverified = "yes"\nall_raters', "unverified is true or false"),
        ("[auth]", "[auth", "is not TOML"),
    ],
)
def test_every_fault_is_one_sentence_without_a_secret(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as refused:
        access.read(written(tmp_path, GOOD.replace(old, new)))
    assert said in str(refused.value)
    assert "do-not-tell" not in str(refused.value)
    assert "0123456789abcdef" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_below_a_path_the_provider_sends_people_back_below_it(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(ConfigError, match=r"the app's own address and ends with /genes/oauth2callback"):
        access.read(path, "/genes" + access.CALLBACK)
    access.read(written(tmp_path, GOOD.replace("/oauth2", "/genes/oauth2")), "/genes" + access.CALLBACK)


@pytest.mark.parametrize(
    ("path", "below"), [("", ""), ("/", ""), ("genes", "/genes"), ("/lab/genes-2/", "/lab/genes-2")]
)
def test_a_path_to_serve_below_is_written_one_way(path: str, below: str) -> None:
    assert apps.below(path) == below


@pytest.mark.parametrize("path", ["..", "a/../b", "a//b", "a b", "a?b", "a#b", "%2e", "http://x", "gène", "a\nb"])
def test_what_is_no_path_to_serve_below_is_refused(path: str) -> None:
    done = CliRunner().invoke(console.app, ["app", "none.screen", "--base-path", path])
    assert done.exit_code == 2
    assert "is no path to serve below" in " ".join(done.output.split()).replace("│ ", "")


@pytest.mark.skipif(sys.platform == "win32", reason="modes of files are POSIX's")
@pytest.mark.parametrize(
    ("mode", "fits"), [(0o600, True), (0o400, True), (0o640, True), (0o644, False), (0o660, False)]
)
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int, fits: bool) -> None:
    path = written(tmp_path, mode=mode)
    if fits:
        access.read(path)
        return
    with pytest.raises(ConfigError, match="open to others"):
        access.read(path)


def test_what_is_no_file_of_secrets_is_refused(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none", "cannot be read"), (tmp_path, "is not a file")):
        with pytest.raises(ConfigError, match=said):
            access.read(path)
    big = written(tmp_path, "#" * 70_000)
    with pytest.raises(ConfigError, match="at most"):
        access.read(big)
    big.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not TOML in UTF-8"):
        access.read(big)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.4", "cells.example.org"])
def test_without_a_login_only_this_machine_is_served(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apps.bound(address, None, False) == "127.0.0.1"
    assert f"on this machine alone (127.0.0.1), not on {address}" in capsys.readouterr().err
    assert apps.bound(address, None, True) == apps.bound(address, tmp_path, False) == address
    assert apps.bound("localhost", None, False) == "localhost"
    assert apps.bound("::1", None, False) == "::1"
    assert capsys.readouterr().err == ""


def test_the_verb_refuses_a_bad_file_and_two_words_at_once(tmp_path: Path) -> None:
    done = CliRunner().invoke(console.app, ["app", "none.screen", "--auth", "a", "--no-login"])
    assert done.exit_code == 2
    with pytest.raises(ConfigError, match="cannot be read"):
        apps.app_command([tmp_path], auth=tmp_path / "none")
