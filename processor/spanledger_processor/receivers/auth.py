"""Who may send: bearer token and certificates; and which of a request's headers the pipeline sees."""

from __future__ import annotations

import hmac
import logging
import ssl
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import grpc

from spanledger_exporters.tls import Stamp, stamp
from spanledger_processor.config.receivers import Auth, ServerTls

log = logging.getLogger(__name__)

_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie", "api-key", "x-api-key", "x-auth-token"})


class Authenticator:
    """Checks the bearer token, in constant time; accepts every request where none is configured."""

    def __init__(self, auth: Auth) -> None:
        self.replace(auth)

    def replace(self, auth: Auth) -> None:
        """Ask for another token from now on, or for none."""
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
    """Return headers by lower-case name; binary ones are left out.

    The values of a name that repeats are joined by ", " (https://www.rfc-editor.org/rfc/rfc9110#section-5.3): so no one
    of them passes for the only one. A value comes in as Latin-1, in which each byte is a character, and is UTF-8 where
    its bytes are: that is what senders mean by them.
    """
    result: dict[str, str] = {}
    for name, value in headers:
        if isinstance(value, str):
            key, text = name.lower(), value if value.isascii() else _unicode(value)
            result[key] = f"{result[key]}, {text}" if key in result else text
    return result


def _unicode(value: str) -> str:
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


CARRIED = "spanledger-headers-bin"
"""Metadata of the Collector component with headers of its sender that gRPC cannot carry under their own names."""


def carried_headers(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """Return the headers in `CARRIED`, which has a line "name:value" for each value; as OTLP/HTTP brings them."""
    pairs: list[tuple[str, str]] = []
    for key, lines in metadata:
        if key == CARRIED and isinstance(lines, bytes):
            split = (line.partition(":") for line in lines.decode("latin-1").split("\n"))
            pairs += [(name, value) for name, colon, value in split if colon]
    return readable(pairs)


def without_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that the pipeline may see."""
    return {name: value for name, value in headers.items() if name not in _CREDENTIALS}


class ServerCertificates:
    """The certificates of a listener, read again for the next connection when their files have changed.

    `setting` is the configuration path that errors name; `alpn` is the protocol spoken, where TLS has to say so.

    Raises:
        OSError: a file cannot be read, or holds no certificate or key that fits.
    """

    def __init__(self, settings: ServerTls, setting: str, alpn: str = "") -> None:
        self._setting = setting
        self._alpn = alpn
        self._lock = threading.Lock()  # gRPC asks from threads of its own
        self.replace(settings)

    def replace(self, settings: ServerTls) -> None:
        """Use other files from now on; keeps those in use where it raises OSError."""
        now = _stamp(settings)
        context = _context(settings, self._setting)
        if self._alpn:
            context.set_alpn_protocols([self._alpn])
        configuration = _configuration(settings)
        with self._lock:
            self._settings, self._stamp, self._context, self._configuration = settings, now, context, configuration

    def ssl_context(self) -> ssl.SSLContext:
        """Return the context of an HTTP listener, each of whose connections gets the certificates that are current."""
        first = self._context

        def current(connection: ssl.SSLObject, _name: str | None, context: ssl.SSLContext) -> None:
            self._follow_files()
            if self._context is not context:
                connection.context = self._context

        first.sni_callback = current
        return first

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return the credentials of a gRPC listener, which speaks TLS 1.2 and 1.3."""

        def current() -> grpc.ServerCertificateConfiguration:
            self._follow_files()
            return self._configuration

        demanded = self._settings.client_ca_file is not None
        return grpc.dynamic_ssl_server_credentials(self._configuration, current, require_client_authentication=demanded)

    def _follow_files(self) -> None:
        if _stamp(self._settings) == self._stamp:
            return
        try:
            self.replace(self._settings)
        except OSError as error:
            self._stamp = _stamp(self._settings)
            log.error("changed certificates cannot be used, and the old ones stay in use: %s", error)
        else:
            log.info("%s: certificates have changed and are in use", self._setting)


def _stamp(settings: ServerTls) -> Stamp:
    return stamp((settings.cert_file, settings.key_file, settings.client_ca_file))


def _context(settings: ServerTls, setting: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    except OSError as error:
        files = f"{settings.cert_file}, {settings.key_file}"
        why = _why(error, settings.cert_file, settings.key_file)
        raise OSError(
            f"{setting}.cert_file, {setting}.key_file: no usable certificate and key in {files}: {why}"
        ) from error
    if settings.client_ca_file:
        try:
            context.load_verify_locations(settings.client_ca_file)
        except OSError as error:
            why = _why(error, settings.client_ca_file)
            raise OSError(
                f"{setting}.client_ca_file: no usable certificates in {settings.client_ca_file}: {why}"
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _why(error: OSError, *files: str) -> str:
    """Return in words why nothing could be loaded from `files`: OpenSSL names neither file nor cause."""
    for file in files:
        try:
            if b"-----BEGIN " not in Path(file).read_bytes():
                return f"{file} is not a PEM file"
        except OSError as unread:
            return f"{file}: {unread.strerror}"
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    return str(error)


def _configuration(settings: ServerTls) -> grpc.ServerCertificateConfiguration:
    pair = (Path(settings.key_file).read_bytes(), Path(settings.cert_file).read_bytes())
    authorities = Path(settings.client_ca_file).read_bytes() if settings.client_ca_file else None
    return grpc.ssl_server_certificate_configuration([pair], authorities)
