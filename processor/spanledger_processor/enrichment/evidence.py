"""The origin of a call, and its ids other than its response's, by which two calls of equal counts are distinguished.

Names and ids are kept as short hashes: they are only ever compared, and users' names stay out of the state.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Any, Protocol, TypeAlias

from spanledger_processor.accounting.facts import NO_EVIDENCE, ORIGIN, Evidence
from spanledger_processor.dialects.registry import USER_KEYS

_SERVICE = ("service.name",)
_ENVIRONMENT = ("deployment.environment.name", "deployment.environment")
_ORIGIN = (
    _SERVICE,
    ("host.name",),
    ("host.id",),
    ("k8s.pod.uid", "k8s.pod.name"),
    ("service.instance.id",),
    ("process.pid",),
    ("telemetry.sdk.language",),
    (),
    ("service.namespace",),
    _ENVIRONMENT,
    ("container.id",),
    (),
)
"""Resource attributes in the order of `facts.ORIGIN`; the user's are in `USER_KEYS`, the tier is of the call."""

_NAMED_BY_SDKS = (_ORIGIN.index(_SERVICE), _ORIGIN.index(_ENVIRONMENT))
_USER = ORIGIN.index("user")

_CALL_IDS = (
    "litellm.call_id",
    "request_id",
    "anthropic.request.id",
    "openai.request_id",
    "gen_ai.request.id",
    "aws.request_id",
    "http.response.header.x-request-id",
)
"""Ids of one request to a provider or gateway. `request_id` is Claude Code's."""

_SPAN_KEYS = frozenset(USER_KEYS + _CALL_IDS)

EvidenceKeys: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""Keys of a span's user, best first, and those of call ids."""
NO_KEYS: EvidenceKeys = ((), ())

_NO_NAMES = ("unknown_service", "default")
"""What SDKs (OpenTelemetry's, OpenLIT's) call a service or an environment that nobody named."""


class Attributes(Protocol):
    """Attributes of a span or resource."""

    def get(self, key: str, /) -> Any: ...

    def among(self, keys: frozenset[str], /) -> frozenset[str]: ...


def resource_evidence(resource: Attributes) -> Evidence:
    """Return the origin of a resource's spans."""
    names = [next((text for key in keys if (text := _text(resource.get(key)))), "") for keys in _ORIGIN]
    for place in _NAMED_BY_SDKS:
        if names[place].partition(":")[0] in _NO_NAMES:
            names[place] = ""
    names[_USER] = _first(resource, USER_KEYS)
    return Evidence(origin=tuple(map(_short, names))) if any(names) else NO_EVIDENCE


def span_evidence(attributes: Attributes, resource: Evidence) -> Evidence:
    """Return the evidence of a span and its resource."""
    return evidence_under(evidence_keys(attributes), attributes, resource)


def evidence_under(keys: EvidenceKeys, attributes: Attributes, resource: Evidence) -> Evidence:
    """Return the evidence of a span that has these keys, and of its resource."""
    users, call_ids = keys
    if not users and not call_ids:
        return resource
    user = _first(attributes, users)
    ids = tuple([_short(text) for key in call_ids if (text := _text(attributes.get(key)))])
    if not user:
        return resource._replace(ids=ids) if ids else resource
    origin = resource.origin or (b"",) * len(ORIGIN)
    return Evidence(ids=ids, origin=(*origin[:_USER], _short(user), *origin[_USER + 1 :]))


def evidence_keys(attributes: Attributes) -> EvidenceKeys:
    """Return the keys of a span that `span_evidence` reads."""
    return _keys_present(attributes.among(_SPAN_KEYS))


@lru_cache(maxsize=1024)
def _keys_present(present: frozenset[str]) -> EvidenceKeys:
    """Return those of these keys that a span has; the sets are as many as spans' shapes."""
    return tuple(key for key in USER_KEYS if key in present), tuple(key for key in _CALL_IDS if key in present)


def _first(attributes: Attributes, keys: tuple[str, ...]) -> str:
    for key in keys:
        if text := _text(attributes.get(key)):
            return text
    return ""


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


@lru_cache(maxsize=4096)
def _short(text: str) -> bytes:
    """Return an eight-byte hash of a name or an id, b"" for none."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() if text else b""
