"""Who may send: bearer token and certificates; and which of a request's headers the pipeline sees."""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path

import grpc

from spanledger_processor.config.receivers import Auth, ServerTls

_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie", "api-key", "x-api-key", "x-auth-token"})


class Authenticator:
    """Checks the bearer token, in constant time; accepts every request where none is configured."""

    def __init__(self, auth: Auth) -> None:
        token = auth.bearer_token
        self._token = None if token is None else token.get_secret_value().encode()

    @property
    def demands_token(self) -> bool:
        """Return whether a token is configured."""
        return self._token is not None

    def accepts(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request with these headers (lower-case names, credentials included) may go on."""
        if self._token is None:
            return True
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(shown.strip().encode("utf-8", "replace"), self._token)
        return same and scheme.lower() == "bearer"


def readable(headers: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """Return headers by lower-case name; binary ones are left out, and of a name that repeats the last one counts."""
    return {name.lower(): value for name, value in headers if isinstance(value, str)}


def without_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that the pipeline may see."""
    return {name: value for name, value in headers.items() if name not in _CREDENTIALS}


def ssl_context(settings: ServerTls, where: str) -> ssl.SSLContext:
    """Return the context of an HTTP listener. `where` is the configuration path that errors name.

    Raises:
        OSError: a file cannot be read, or holds no certificate or key that fits.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    except OSError as error:
        raise OSError(f"{where}.cert_file, {where}.key_file: no usable certificate and key: {error}") from error
    if settings.client_ca_file:
        try:
            context.load_verify_locations(settings.client_ca_file)
        except OSError as error:
            raise OSError(f"{where}.client_ca_file: no usable certificates: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def grpc_credentials(settings: ServerTls, where: str) -> grpc.ServerCredentials:
    """Return the credentials of a gRPC listener, which speaks TLS 1.2 and 1.3.

    The files are checked first, since gRPC does so only when somebody connects.

    Raises:
        OSError: as for `ssl_context`.
    """
    ssl_context(settings, where)
    pair = (Path(settings.key_file).read_bytes(), Path(settings.cert_file).read_bytes())
    authorities = Path(settings.client_ca_file).read_bytes() if settings.client_ca_file else None
    return grpc.ssl_server_credentials([pair], authorities, require_client_auth=authorities is not None)
