"""Access control of the HTTP API: a bearer token, and protection from other sites' pages in a user's browser."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from http import HTTPStatus

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spanledger_processor.receivers.auth import Authenticator, readable
from spanledger_processor.server.web_page import PATHS as PAGE

PROBES = frozenset({"/livez", "/readyz"})
"""Paths that need no token and answer under any host name: probes have neither, and the answers hold no data."""

_LOCAL_SUFFIXES = (".localhost", ".internal", ".svc", ".svc.cluster.local")
"""Of names that no public name server answers for: this machine (RFC 6761), private networks (such as Docker's
host.docker.internal) and services of a Kubernetes cluster.
"""

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
]


class Access:
    """Serves `app` to authorised requests.

    A page of another site can make a browser send requests here, and by DNS rebinding also read the answers: its own
    name then leads to this address. Such a request carries that name as `Host`, so only addresses, names that cannot be
    registered by a stranger and `allowed_hosts` are answered. A token that fits is proof enough: browsers send none by
    themselves. An `Origin` other than the `Host` is always refused. https://owasp.org/www-community/attacks/csrf
    """

    def __init__(self, app: ASGIApp, authenticator: Authenticator, allowed_hosts: Collection[str]) -> None:
        self._app = app
        self._authenticator = authenticator
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an ASGI request."""
        path = scope["path"]
        refusal = None if path in PROBES else self._refusal(Headers(scope=scope), needs_token=path not in PAGE)

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                added = [(name, value) for name, value in _HEADERS if name not in present]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await (self._app if refusal is None else refusal)(scope, receive, send_safely)

    def _refusal(self, headers: Headers, *, needs_token: bool) -> Response | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return _refuse(HTTPStatus.FORBIDDEN, "pages of other sites may not ask (Origin)")
        if needs_token and not self._authenticator.accepts(readable(headers.items())):
            message = "show the token of api.auth.bearer_token: authorization: Bearer TOKEN"
            return _refuse(HTTPStatus.UNAUTHORIZED, message, {"www-authenticate": "Bearer"})
        if not (self._authenticator.demands_token or self._is_ours(host)):
            name = host if host.isprintable() and len(host) < 300 else "this host"
            return _refuse(HTTPStatus.FORBIDDEN, f"not asked for under the name {name}: add it to api.allowed_hosts")
        return None

    def _is_ours(self, host: str) -> bool:
        """Return whether no stranger's name server can have sent a browser here; HTTP/1.0 may name no host at all."""
        name = _without_port(host).lower().rstrip(".")
        if "." not in name or name.endswith(_LOCAL_SUFFIXES) or name in self._allowed_hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _without_port(host: str) -> str:
    if host.startswith("["):
        return ""  # an IPv6 address: no name at all
    return host.partition(":")[0]


def _refuse(status: HTTPStatus, message: str, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps({"error": message}), status, headers, media_type="application/json")
