"""zstd over gRPC: the relay renames the encoding in header frames, and everything else passes as it is."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from certificates import Certificates
from otlp_receivers import Receivers, exporter, opened, traces
from spanledger_processor.listener import bind
from spanledger_processor.receivers import header_rewriter, zstd_relay
from spanledger_processor.receivers.grpc import host_of
from spanledger_processor.receivers.header_rewriter import HeaderRewriter
from spanledger_processor.receivers.zstd_relay import ZstdRelay

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LITERAL = b"\x40"
"""A literal with a new name, to be kept in the table."""
HUFFMAN = {
    "zstd": bytes.fromhex("83f684c9"),
    "gzip": bytes.fromhex("839bd9ab"),
    "snappy": bytes.fromhex("854543aebf5f"),
}
"""`gzip` as RFC 7541 writes it in its examples (C.6.3), the others by its appendix B: z 1111011, s 01000, t 01001,
d 100100; s 01000, n 101010, a 00011, p 101011, p 101011, y 1111010; filled up with ones."""


def frame(kind: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, 4, 0, 0, 0, 1)) + payload


def plain(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()


def passed(data: bytes, cuts: tuple[int, ...] = ()) -> bytes:
    rewriter = HeaderRewriter()
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return b"".join(rewriter.feed(data[begin:end]) for begin, end in itertools.pairwise(places))


@given(st.sampled_from(("zstd", "snappy")), st.lists(st.integers(0, 2000), max_size=8))
def test_in_header_frames_the_encoding_becomes_gzip_in_any_pieces(encoding: str, cuts: list[int]) -> None:
    header = LITERAL + plain("grpc-encoding")
    theirs, gzipped = header + plain(encoding), header + plain("gzip")
    before = frame(1, theirs + b"after") + frame(0, theirs) + frame(9, theirs)
    after = frame(1, gzipped + b"after") + frame(0, theirs) + frame(9, gzipped)
    assert passed(PREFACE + before, tuple(cuts)) == PREFACE + after


@pytest.mark.parametrize("encoding", HUFFMAN)
def test_huffman_codes_too(encoding: str) -> None:
    assert header_rewriter._huffman(encoding) == HUFFMAN[encoding]
    name = header_rewriter._huffman("grpc-encoding")
    block = LITERAL + name + HUFFMAN[encoding]
    assert passed(PREFACE + frame(1, block)) == PREFACE + frame(1, LITERAL + name + HUFFMAN["gzip"])


@given(st.binary(min_size=1, max_size=300_000))
def test_what_has_nothing_to_rename_is_not_copied(data: bytes) -> None:
    rewriter = HeaderRewriter()
    rewriter.feed(PREFACE + frame(0, b"")[:3] + b"\0" + bytes(5))
    body = len(data).to_bytes(3, "big") + bytes(6) + data
    assert rewriter.feed(body) is body


@given(
    st.lists(st.sampled_from((16_383, 16_384, 16_384, 16_384, 16_385, -1)), max_size=8),
    st.lists(st.integers(0, 2**17), max_size=4),
)
def test_long_frames_are_passed_over_together_and_no_header_frame_with_them(sizes: list[int], cuts: list[int]) -> None:
    """Sizes of data frames, each full of what looks like a header frame; -1 is a header frame."""
    header = frame(1, LITERAL + plain("grpc-encoding") + plain("zstd"))
    frames = [header if size < 0 else frame(0, (header * size)[:size]) for size in sizes]
    renamed = frame(1, LITERAL + plain("grpc-encoding") + plain("gzip"))
    wanted = [renamed if one is header else one for one in frames]
    assert passed(PREFACE + b"".join(frames) + header, tuple(cuts)) == PREFACE + b"".join(wanted) + renamed


def test_few_heads_of_long_frames_are_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []

    def read(data: bytes, at: int) -> tuple[int, ...]:
        looked_at.append(at)
        return (int.from_bytes(data[at : at + 4], "big"),)

    monkeypatch.setattr(header_rewriter, "_LENGTH_AND_TYPE", read)
    data = PREFACE + frame(1, b"") + frame(0, b"x" * 16_384) * 31 + frame(0, b"end")
    assert passed(data) == data
    assert len(looked_at) == 3


@given(st.binary(max_size=500), st.lists(st.integers(0, 500), max_size=4))
def test_whatever_else_comes_passes(noise: bytes, cuts: list[int]) -> None:
    data = PREFACE + noise + frame(0, b"x" * 70_000) + frame(4, b"")
    assert len(passed(data, tuple(cuts))) <= len(data)
    assert passed(PREFACE + frame(0, noise) + frame(1, b"") + frame(6, noise), tuple(cuts)) == (
        PREFACE + frame(0, noise) + frame(1, b"") + frame(6, noise)
    )


def with_zstd(**more: Any) -> Mapping[str, Any]:
    return {"protocols": {"grpc": {"zstd": True, **more}, "http": {}}}


async def test_other_senders_notice_nothing() -> None:
    """Plain and gzip; the pipeline learns the host that a request comes from."""
    body = traces(payload=300_000)
    async with opened(with_zstd()) as receivers:
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate):
            assert await receivers.export("traces", body, compression=compression) == b""
        assert [handled.body for handled in receivers.pipeline.handled] == [body] * 3
        assert await receivers.export("traces", b"") == b""
        assert receivers.seen.held == 0


async def test_bytes_that_come_before_grpc_is_connected_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Python 3.11.2 reads from a connection that `connection_made` paused, as soon as that has returned."""
    came, asked = asyncio.Event(), list[str]()
    connect, received = zstd_relay._Accepted.connect, zstd_relay._Accepted.data_received

    async def connect_late(accepted: zstd_relay._Accepted) -> None:
        assert accepted.transport is not None
        accepted.transport.resume_reading()  # as that version does
        await came.wait()
        await connect(accepted)

    def data_received(accepted: zstd_relay._Accepted, data: bytes) -> None:
        asked.append("before" if accepted.other is None else "after")
        received(accepted, data)
        came.set()

    monkeypatch.setattr(zstd_relay._Accepted, "connect", connect_late)
    monkeypatch.setattr(zstd_relay._Accepted, "data_received", data_received)
    certificates = Certificates(tmp_path)
    async with opened(with_zstd(tls=certificates.server_settings(mutual=False))) as receivers:
        assert await over_tls(receivers, certificates, None, None) == b""
    assert asked[:2] == ["before", "after"]


@pytest.mark.parametrize("relay", [True, False])
async def test_a_host_is_one_sender_by_both_protocols(relay: bool) -> None:  # noqa: FBT001 - a case of a table
    """So that its share of the memory, its turn and its rate limit are one."""
    async with opened({"protocols": {"grpc": {"zstd": relay}, "http": {}}}) as receivers:
        await receivers.export("traces", traces())
        await receivers.post("/v1/traces", traces("again"))
        assert [handled.sender for handled in receivers.pipeline.handled] == ["127.0.0.1"] * 2


@pytest.mark.parametrize(
    ("peer", "host"), [("ipv4:10.0.0.1:5000", "10.0.0.1"), ("ipv6:%5B::1%5D:5000", "::1"), ("unix:", "unix")]
)
def test_the_host_of_a_peer(peer: str, host: str) -> None:
    assert host_of(peer) == host


async def test_a_bomb_is_refused_for_good_with_the_reason() -> None:
    """Bytes that look compressed are, whatever the sender called them."""
    async with opened(with_zstd(max_recv_msg_size_mib=1)) as receivers:
        for packed in (zstd.compress(bytes(1 << 21)), gzip.compress(bytes(1 << 21))):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await receivers.export("traces", packed)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "larger than 1048576 bytes" in (caught.value.details() or "")
        assert receivers.seen.held == 0


@pytest.mark.parametrize("mutual", ["mutual", "one way"])
async def test_tls_ends_at_the_relay(tmp_path: Path, mutual: str) -> None:
    certificates = Certificates(tmp_path)
    tls = certificates.server_settings(mutual=mutual == "mutual")
    async with opened(with_zstd(tls=tls)) as receivers:
        pair = (certificates.key("client").read_bytes(), certificates.cert("client").read_bytes())
        assert await over_tls(receivers, certificates, *pair) == b""
        if mutual == "mutual":
            with pytest.raises(grpc.aio.AioRpcError):
                await over_tls(receivers, certificates, None, None)


async def over_tls(receivers: Receivers, made: Certificates, key: bytes | None, cert: bytes | None) -> Any:
    credentials = grpc.ssl_channel_credentials(made.authority.read_bytes(), key, cert)
    async with grpc.aio.secure_channel(receivers.grpc_address, credentials) as channel:
        return await exporter(channel)(traces(), timeout=10)


async def test_many_at_once_and_large_ones() -> None:
    body = traces(payload=4 << 20)
    async with opened(with_zstd()) as receivers:
        await asyncio.gather(*(receivers.export("traces", body) for _ in range(8)))
        assert {handled.body for handled in receivers.pipeline.handled} == {body}
        assert len(receivers.pipeline.handled) == 8


async def test_no_connection_is_open_once_it_has_stopped() -> None:
    """Also where gRPC's side stays open."""
    relay, connected = ZstdRelay(10), asyncio.Event()

    def keep(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept.append(writer)
        connected.set()

    kept: list[asyncio.StreamWriter] = []
    inner = await asyncio.start_unix_server(keep, relay.socket_path)
    port = await relay.start(("127.0.0.1", 0), "relay", None, 5, share_port=False)
    with socket.socket() as client:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
        await connected.wait()
        await relay.stop()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(4096) == b""  # BlockingIOError where it is open
    inner.close()
    for writer in kept:
        writer.close()
        await writer.wait_closed()


def test_what_a_listener_accepts_sends_small_frames_at_once() -> None:
    """Flow control's frames waited for acknowledgements that clients put off for 40 ms (RFC 1122, section 4.2.3.2)."""
    with bind(("127.0.0.1", 0), "receivers") as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
