"""OTLP over HTTP: protobuf or JSON, one URL for each signal."""

from __future__ import annotations

import asyncio
import email.utils
import errno
import gzip
import os
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy

import cramjam
import httpx2
import lz4.frame
from backports import zstd
from google.rpc.status_pb2 import Status

from spanledger_exporters import tls
from spanledger_exporters.interface import USER_AGENT, Result, Signal, Verdict, one_line
from spanledger_exporters.responses import JSON, LONGEST_WAIT, PROTOBUF, Body, Protocol, reason, success, with_hint
from spanledger_exporters.settings import HttpCompression, OtlpHttpSettings, without_query
from spanledger_processor.otlp.json_form import to_json
from spanledger_processor.otlp.wire import MalformedError

_LONGEST_ANSWER = 64 * 2**10
"""Bytes of an answer that are read; a message for people is shorter."""
_LARGE = 32 * 2**10
"""Bytes of a request whose encoding would hold up the event loop noticeably."""
_CONNECTIONS = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=90.0)
"""As the Collector's: what is under way is bounded by the receivers, idle connections are kept for 90 s."""
_FAST = 1
"""The level of zlib: costs a third of the default, and telemetry comes out nearly as small."""
_COMPRESS: Mapping[HttpCompression, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body, _FAST),
    "zstd": zstd.compress,
    "zlib": lambda body: zlib.compress(body, _FAST),
    "deflate": lambda body: zlib.compress(body, _FAST),
    "snappy": lambda body: bytes(cramjam.snappy.compress_raw(body)),
    "x-snappy-framed": lambda body: bytes(cramjam.snappy.compress(body)),
    "lz4": lz4.frame.compress,
    "none": lambda body: body,
}
"""As confighttp of the Collector names and writes them: deflate is a zlib stream, snappy one block."""
_MEDIA_TYPES = {"proto": PROTOBUF, "json": JSON}


class OtlpHttp:
    """One OTLP/HTTP destination. A send is one attempt. Redirects are not followed: the headers may hold secrets."""

    def __init__(self, name: str, settings: OtlpHttpSettings) -> None:
        self.name = name
        self.required = settings.required
        self.signals = settings.takes
        self._settings = settings
        self._client: httpx2.AsyncClient | None = None

    def address(self, signal: Signal) -> str:
        """Return the URL, without a query, which may hold a secret."""
        return without_query(self._settings.urls[signal])

    async def start(self) -> None:
        """Make the client, which connects when it is first used."""
        headers = {"user-agent": USER_AGENT, "accept-encoding": "identity"}
        headers |= {key.lower(): value.get_secret_value() for key, value in self._settings.headers.items()}
        headers["content-type"] = _MEDIA_TYPES[self._settings.encoding]
        if self._settings.compression != "none":
            headers["content-encoding"] = self._settings.compression
        context = tls.context(self.name, self._settings.tls)
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        self._client = httpx2.AsyncClient(
            headers=headers, verify=context, timeout=None, limits=_CONNECTIONS, cookies=no_cookies
        )

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        """Export once, within the configured timeout and by the deadline."""
        protocol: Protocol = "https" if self._settings.urls[signal].lower().startswith("https:") else "http"
        return with_hint(await self._send(signal, body, deadline), protocol, signal)

    async def _send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        end = min(deadline, asyncio.get_running_loop().time() + self._settings.timeout)
        try:
            async with asyncio.timeout_at(end):
                return await self._post(signal, await self._encoded(signal, body))
        except TimeoutError:
            return Result(Verdict.RETRYABLE, "no answer in time")
        except httpx2.TransportError as error:
            return Result(Verdict.RETRYABLE, one_line(_why(error)) or type(error).__name__)
        except MalformedError as error:
            return Result(Verdict.PERMANENT, one_line(f"cannot be written as JSON: {error}"))

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _encoded(self, signal: Signal, body: bytes) -> bytes:
        if len(body) < _LARGE:
            return self._encode(signal, body)
        return await asyncio.to_thread(self._encode, signal, body)

    def _encode(self, signal: Signal, body: bytes) -> bytes:
        if self._settings.encoding == "json":
            body = to_json(signal, body)
        return _COMPRESS[self._settings.compression](body)

    async def _post(self, signal: Signal, content: bytes) -> Result:
        assert self._client is not None, "start() comes first"
        url = self._settings.urls[signal]
        name = self._settings.tls.server_name_override
        extensions = {"sni_hostname": name} if name else None
        async with self._client.stream("POST", url, content=content, extensions=extensions) as response:
            body = await _read(response)
        if response.is_success:
            return success(signal, body)
        if response.has_redirect_location:
            return Result(Verdict.PERMANENT, _redirected(response))
        now = datetime.now(UTC)
        return failure(response.status_code, body, response.headers.get("retry-after", ""), now)


async def _read(response: httpx2.Response) -> Body:
    """Return the answer's body; nothing of one that is too long to read or encoded though we asked for none."""
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    content = b""
    if response.headers.get("content-encoding", "identity") != "identity":
        return Body(content, media_type)
    async for part in response.aiter_raw():
        content += part
        if len(content) > _LONGEST_ANSWER:
            return Body(b"", media_type)
    return Body(content, media_type)


def _why(error: httpx2.TransportError) -> str:
    """Return why a request could not be sent; of a connection that was not made, what the system says and not that all
    attempts failed.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return f"cannot connect: {os.strerror(errno.ECONNREFUSED)}"
        cause = cause.__cause__ or cause.__context__
    return str(error)


def _redirected(response: httpx2.Response) -> str:
    """Return a reason that names where to, without the query, which may hold a secret."""
    target = without_query(response.headers["location"])
    return one_line(f"HTTP {response.status_code}: redirected to {target}; redirects are not followed: set that URL")


_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500


def failure(status: int, body: Body, retry_after: str, now: datetime) -> Result:
    """Return the result of an answer that is no success; `retry_after` is that header, empty if there is none."""
    reported = reason(f"HTTP {status}", _message(body))
    if status == _TOO_MANY_REQUESTS or status >= _SERVER_ERROR:
        return Result(Verdict.RETRYABLE, reported, wait(retry_after, now))
    return Result(Verdict.PERMANENT, reported)


def wait(retry_after: str, now: datetime) -> float | None:
    """Return seconds to wait by a Retry-After header (seconds or an HTTP-date); None if missing or unreadable."""
    value = retry_after.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), LONGEST_WAIT)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max(0.0, (when - now).total_seconds()), LONGEST_WAIT)


def _message(body: Body) -> str:
    """Return the message of the google.rpc.Status in a failure's body, or the body itself where it is plain text."""
    if body.media_type == "text/plain":
        return body.content.decode(errors="replace").strip()
    status = body.parse(Status())
    return str(status.message) if status is not None else ""
