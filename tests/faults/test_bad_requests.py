"""Requests that are not OTLP or too large: refused for good, with the reason, at no cost to those that follow."""

from __future__ import annotations

import gzip
import zlib

import grpc
import pytest

from backend import Backend
from chats import chat, request
from served import RefusedError, Served

MIB = 2**20
LIMIT = 64 * MIB


def _answer(served: Served, body: bytes, compression: grpc.Compression | None = None) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(RefusedError) as refusal:
        served.export(body, compression=compression)
    return refusal.value.code, refusal.value.reason


def _still_works(served: Served, backend: Backend) -> None:
    span = chat()
    served.export(request(span))
    assert span.SerializeToString() in backend.received[-1]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(request(chat())[:-7], id="cut off"),
        pytest.param(b"\xff" * 100, id="no protobuf"),
        pytest.param(b"\x0a\xff\xff\xff\xff\x0f", id="a length that reaches far beyond the end"),
        pytest.param(b'{"resourceSpans": []}', id="JSON called protobuf"),
    ],
)
def test_what_is_not_otlp_is_invalid(body: bytes, served: Served, backend: Backend) -> None:
    """INVALID_ARGUMENT and 400 say why; a sender that got UNKNOWN or INTERNAL would not know whose fault it was."""
    before = len(backend.received)
    code, reason = _answer(served, body)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(reason) > 10
    response = served.post(body)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/x-protobuf"
    assert len(backend.received) == before
    _still_works(served, backend)


def test_cut_off_json_is_invalid(served: Served, backend: Backend) -> None:
    response = served.post(b'{"resourceSpans": [{"scopeSp', content_type="application/json")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert "message" in response.json()
    _still_works(served, backend)


def test_one_byte_too_many(served: Served, backend: Backend) -> None:
    """64 MiB + 1: what grpcio answers by itself, and 413. Neither is retryable: it would never fit."""
    body = bytes(LIMIT + 1)
    assert _answer(served, body)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert served.post(body).status_code == 413
    _still_works(served, backend)


def test_the_limit_itself_is_taken(served: Served, backend: Backend) -> None:
    """64 MiB exactly, over both protocols: a span with a name as long as that needs."""
    for send in (served.export, served.post):
        span = chat()
        body = request(span)
        span.name += "x" * (LIMIT - len(body) - 1000)
        body = request(span)
        span.name += "x" * (LIMIT - len(body))
        body = request(span)
        assert len(body) == LIMIT
        response = send(body)
        assert response is None or response.status_code == 200, response.text
        assert len(backend.received.pop()) > LIMIT


def test_a_bomb_is_not_unpacked(served: Served, backend: Backend) -> None:
    """1 GiB of zeros in 1 MiB of gzip is refused by both protocols, and memory stays where it was."""
    before = served.program.memory_mib()
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(16 * MIB)) for _ in range(64)) + packer.flush()
    response = served.post(bomb, content_encoding="gzip")
    assert response.status_code == 413
    assert _answer(served, bytes(LIMIT + MIB), grpc.Compression.Gzip)[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert served.program.memory_mib() < before + 4 * 64
    _still_works(served, backend)


def test_gzip_that_ends_early_is_invalid(served: Served, backend: Backend) -> None:
    response = served.post(gzip.compress(request(chat()))[:-10], content_encoding="gzip")
    assert response.status_code == 400
    _still_works(served, backend)


def test_an_unknown_encoding_is_refused(served: Served) -> None:
    """The answer says which ones are known."""
    response = served.post(request(chat()), content_encoding="br")
    assert response.status_code == 415
    assert b"gzip" in response.content
