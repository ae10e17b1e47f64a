"""Who may open the app: the file given to ``cytovae app --auth``, read and checked.

The table ``[auth]`` is Streamlit's own: the client that the login provider knows. The table ``[cytovae]`` says who of
those that the provider lets in may come in here. The file holds secrets: nothing in this room puts a value of
``[auth]`` into a message.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cytovae.errors import ConfigError

CLIENT_KEYS = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")
"""What ``[auth]`` must hold."""
COOKIE_SECRET_CHARACTERS = 32
CALLBACK = "/oauth2callback"
MAX_BYTES = 65_536
"""Of the file."""


@dataclasses.dataclass(frozen=True)
class Access:
    """Who may come in, and who may see the answers of all raters.

    Parameters
    ----------
    addresses : frozenset of str
        E-mail addresses that may come in, in lower case.
    domains : frozenset of str
        Every address at one of these may come in; an address at a domain below one of them may not.
    all_raters : frozenset of str
        Addresses and domains that may see *All raters* of the quiz, among those that may come in.
    unverified : bool
        Take addresses of which the provider does not say that it has verified them.
    """

    addresses: frozenset[str]
    domains: frozenset[str]
    all_raters: frozenset[str]
    unverified: bool = False

    def admits(self, claims: Mapping[str, Any]) -> bool:
        """Whether who has these claims (``email``, ``email_verified``) of an OpenID Connect login may come in."""
        address = _address(claims)
        verified = claims.get("email_verified") is True or (self.unverified and "email_verified" not in claims)
        return verified and _listed(address, self.addresses | self.domains)

    def sees_all_raters(self, claims: Mapping[str, Any]) -> bool:
        """Whether who has these claims may come in and see the answers of all raters."""
        return self.admits(claims) and _listed(_address(claims), self.all_raters)


def _address(claims: Mapping[str, Any]) -> str:
    found = claims.get("email")
    return found.strip().lower() if isinstance(found, str) else ""


def _listed(address: str, names: frozenset[str]) -> bool:
    local, at, domain = address.rpartition("@")
    return bool(local and at and domain) and "@" not in local and (address in names or domain in names)


def read(path: Path, callback: str = CALLBACK) -> Access:
    """Read and check the file.

    Parameters
    ----------
    path : Path
    callback : str
        How the address ends to which the provider sends people back: that of an app below a path has the path in it.

    Raises
    ------
    ConfigError
        It cannot be used; the message says why in one sentence, and quotes no secret.
    """
    try:
        seen = path.stat()
        if not stat.S_ISREG(seen.st_mode):
            raise ConfigError(f"{path} is not a file; --auth takes a file of secrets in TOML")
        if os.name == "posix" and seen.st_mode & 0o027:
            mode = stat.S_IMODE(seen.st_mode)
            raise ConfigError(
                f"{path} holds secrets and is open to others (mode {mode:04o}); close it with 'chmod 600 {path}'"
            )
        if seen.st_size > MAX_BYTES:
            raise ConfigError(f"{path} has {seen.st_size:,} bytes; a file of secrets has at most {MAX_BYTES:,}")
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as closed:
        raise ConfigError(f"{path} cannot be read ({closed.strerror}); --auth takes a file of secrets") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        where = f" ({wrong})" if isinstance(wrong, tomllib.TOMLDecodeError) and "at line" in str(wrong) else ""
        raise ConfigError(f"{path} is not TOML in UTF-8{where}") from None
    _check_client(path, tables.get("auth"), callback)
    return _check_list(path, tables.get("cytovae"))


def _check_client(path: Path, client: Any, callback: str) -> None:
    if not isinstance(client, dict):
        raise ConfigError(f"{path} has no table [auth]; it holds {', '.join(CLIENT_KEYS)}")
    for key in CLIENT_KEYS:
        if not isinstance(client.get(key), str) or not client[key].strip():
            raise ConfigError(f"{path}: {key} is missing from [auth]; it is a text that is not empty")
    if len(client["cookie_secret"]) < COOKIE_SECRET_CHARACTERS:
        raise ConfigError(
            f"{path}: cookie_secret has {len(client['cookie_secret'])} characters, and {COOKIE_SECRET_CHARACTERS} are "
            "the least; 'openssl rand -hex 32' makes one"
        )
    for key in ("redirect_uri", "server_metadata_url"):
        try:
            parts = urlsplit(client[key])
            safe = parts.scheme == "https" or (parts.scheme == "http" and is_local(parts.hostname or ""))
        except ValueError:
            safe = False
        if not safe:
            raise ConfigError(f"{path}: {key} must begin with https:// (http:// is for this machine alone)")
    if not client["redirect_uri"].endswith(callback):
        raise ConfigError(f"{path}: redirect_uri is the app's own address and ends with {callback}")


def _check_list(path: Path, table: Any) -> Access:
    if not isinstance(table, dict):
        raise ConfigError(f"{path} has no table [cytovae]; it says who may come in, as addresses or domains")
    lists = ("addresses", "domains", "all_raters")
    if unknown := sorted(set(table) - {*lists, "unverified"}):
        raise ConfigError(f"{path}: [cytovae] knows no {unknown[0]!r}; it holds {', '.join(lists)} and unverified")
    if not isinstance(table.get("unverified", False), bool):
        raise ConfigError(f"{path}: unverified is true or false")
    for key in lists:
        names = table.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"{path}: {key} is a list of texts")
        for name in names:
            address = name.count("@") == 1 and not name.startswith("@") and not name.endswith("@")
            domain = "@" not in name and "." in name.strip(".")
            fits = {"addresses": address, "domains": domain, "all_raters": address or domain}[key]
            if not fits or any(c in name for c in " *,;"):
                what = {"addresses": "an address", "domains": "a domain"}.get(key, "an address or a domain")
                raise ConfigError(f"{path}: {name!r} among {key} is not {what}, such as anna@example.org, example.org")
    named = {key: frozenset(name.lower() for name in table.get(key, [])) for key in lists}
    if not named["addresses"] | named["domains"]:
        raise ConfigError(f"{path}: [cytovae] lets nobody in; name addresses or domains")
    return Access(**named, unverified=table.get("unverified", False))


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server that listens on this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
