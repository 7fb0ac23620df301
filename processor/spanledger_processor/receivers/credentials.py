"""Who may send, and what of a request's headers goes further."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping

from spanledger_processor.config.receivers import Auth

_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie", "api-key", "x-api-key", "x-auth-token"})


class Guard:
    """Checks the bearer token, in constant time; lets everyone in where none is configured."""

    def __init__(self, auth: Auth) -> None:
        token = auth.bearer_token
        self._token = None if token is None else token.get_secret_value().encode()

    def lets_in(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers (lower-case names, credentials included) may go on."""
        if self._token is None:
            return True
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(shown.strip().encode("utf-8", "replace"), self._token)
        return same and scheme.lower() == "bearer"


def readable(headers: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """Headers by lower-case name; binary ones are left out, and of a name that repeats the last one counts."""
    return {name.lower(): value for name, value in headers if isinstance(value, str)}


def without_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    """What the pipeline may see."""
    return {name: value for name, value in headers.items() if name not in _CREDENTIALS}
