"""A small OpenID Connect provider: it knows one client, and lets in whoever the test says is sitting there."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "cytovae-test", "the-client-secret-of-the-test"


class Provider:
    """Serves discovery, keys, authorize and token (authorization code with PKCE) on a port of its own."""

    def __init__(self) -> None:
        self.person: dict[str, Any] = {}
        """Claims of whoever sits before the browser."""
        self.logins = 0
        self.asked, self.answers = threading.Event(), threading.Event()  # a person thinks before the second is set
        self.answers.set()
        self._key = RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"})
        self._codes: dict[str, dict[str, str]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._get(self)

            def do_POST(self) -> None:
                provider._post(self)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.discovery = f"{self.url}/.well-known/openid-configuration"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _get(self, asked: BaseHTTPRequestHandler) -> None:
        path, _, query = asked.path.partition("?")
        given = dict(urllib.parse.parse_qsl(query))
        if path == "/.well-known/openid-configuration":
            names = {name: f"{self.url}/{name}" for name in ("authorize", "token", "jwks")}
            _answer(
                asked,
                {
                    "issuer": self.url,
                    "authorization_endpoint": names["authorize"],
                    "token_endpoint": names["token"],
                    "jwks_uri": names["jwks"],
                    "response_types_supported": ["code"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256"],
                    "code_challenge_methods_supported": ["S256"],
                },
            )
        elif path == "/jwks":
            _answer(asked, {"keys": [self._key.as_dict(private=False)]})
        elif path == "/authorize":
            assert given["client_id"] == CLIENT
            assert given["response_type"] == "code"
            assert given["code_challenge_method"] == "S256"
            self.asked.set()
            self.answers.wait(600)
            code = secrets.token_urlsafe(8)
            self._codes[code] = given
            back = urllib.parse.urlencode({"code": code, "state": given["state"]})
            asked.send_response(302)
            asked.send_header("Location", f"{given['redirect_uri']}?{back}")
            asked.end_headers()
        else:
            asked.send_error(404)

    def _post(self, asked: BaseHTTPRequestHandler) -> None:
        given = dict(urllib.parse.parse_qsl(asked.rfile.read(int(asked.headers["Content-Length"])).decode()))
        known = self._codes.pop(given.get("code", ""), None)
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        verifier = base64.urlsafe_b64encode(hashlib.sha256(given.get("code_verifier", "").encode()).digest())
        if (
            known is None
            or asked.headers.get("Authorization") != f"Basic {basic}"
            or verifier.decode().rstrip("=") != known["code_challenge"]
        ):
            asked.send_error(400)
            return
        now = int(time.time())
        claims = {
            **{"iss": self.url, "aud": CLIENT, "sub": "somebody", "iat": now, "exp": now + 600},
            **{"nonce": known["nonce"], **self.person},
        }
        self.logins += 1
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self._key)
        _answer(asked, {"access_token": "access", "token_type": "Bearer", "expires_in": 600, "id_token": token})


def _answer(asked: BaseHTTPRequestHandler, said: dict[str, Any]) -> None:
    body = json.dumps(said).encode()
    asked.send_response(200)
    asked.send_header("Content-Type", "application/json")
    asked.send_header("Content-Length", str(len(body)))
    asked.end_headers()
    asked.wfile.write(body)
