"""Trace and span ids: hashes of what a span stands for, never of a path, so that a repeat has the same ids."""

from __future__ import annotations

from hashlib import blake2b


def trace_id(*parts: object) -> bytes:
    """16 bytes for the trace of what `parts` name."""
    return _digest(b"trace", 16, parts)


def span_id(*parts: object) -> bytes:
    """8 bytes for the span of what `parts` name."""
    return _digest(b"span", 8, parts)


def claim_key(*parts: object) -> bytes:
    """16 bytes under which it is remembered that what `parts` name was taken."""
    return _digest(b"claim", 16, parts)


def _digest(purpose: bytes, size: int, parts: tuple[object, ...]) -> bytes:
    """Parts are hashed with their lengths, so they cannot run together. No id is all zeros (OTLP's "no id")."""
    encoded = [str(part).encode("utf-8", "surrogatepass") for part in parts]
    joined = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
    digest = blake2b(joined, digest_size=size, person=purpose).digest()
    return digest if any(digest) else b"\1" * size
