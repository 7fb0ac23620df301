"""Attributes that only Spanledger writes, on spans as they come in (docs/contract.md#forged-attributes).

A span of ours that comes back says under `spanledger.*` what its decision says, byte for byte, and so passes as it is.
Whatever else stands there is moved aside, but for what synthesized spans bring and what names a session, run, agent or
task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import DecodeError

from spanledger_processor import synthesized
from spanledger_processor.otlp import schema
from spanledger_processor.otlp.encoding import delimited
from spanledger_processor.otlp.values import Attributes
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.otlp.wire import LENGTH, MalformedError, fields

OWN = b"spanledger."
FORGED = b"spanledger.forged."
"""Stands in the place of `OWN` where an attribute was moved aside."""
KIND = "spanledger.kind"
NOT_OWN = b"spanledger_"
"""Replaces `OWN` everywhere in a span whose attributes cannot be parsed; it has the same length."""
SUMMARY = "summary"
"""The kind of a span that sums up a session, made of the ledger: it is passed on and never counted."""
SUMMARY_GRANULARITY = "session-summary"
TENANT = "spanledger.tenant"
MISSED = "spanledger.missed"
"""The attribute of the Collector component on a span that could not be enriched."""

_OWN, _FORGED = OWN.decode(), FORGED.decode()
_BROUGHT_KEYS = frozenset(
    {
        synthesized.GRANULARITY,
        synthesized.NOTE,
        synthesized.SESSION_CLOSED,
        synthesized.REPORTED_USD,
        synthesized.ESTIMATE,
        synthesized.TOOL_SIGNATURE,
        synthesized.TOOL_SIGNATURE_SCOPE,
    }
)
_KEPT = frozenset({synthesized.REPORTED_USD})
"""Attributes of a synthesized span that are written as they came: the last digits of an exact amount may differ."""
_ATTRIBUTES = 9


def as_sent(span: bytes, attributes: Attributes, aliases: frozenset[str]) -> Attributes:
    """Return a marked span's attributes without `aliases` behind the mark: Spanledger wrote them, they are no report.

    Raises:
        MalformedError: the span cannot be read.
    """
    keys = [key for key, _, _ in _pieces(span)]
    written = aliases.intersection(keys[keys.index(KIND) :]).difference(keys[: keys.index(KIND)])
    return attributes.without(written) if written else attributes


class Ids(Protocol):
    """Derives ids from the signing key, so that nobody without it can forge them."""

    def ids(self, identity: bytes) -> tuple[bytes, bytes]:
        """Return a trace id and a span id."""
        ...


def summary_ids(signer: Ids, tenant: str, session_id: str, last_ns: int) -> tuple[bytes, bytes]:
    """Return the trace id and the span id of a session's summary up to a last activity."""
    parts = (part.encode("utf-8", "surrogatepass") for part in (tenant, session_id))
    return signer.ids(b"summary %d:" % last_ns + b"".join(b"%d:%b" % (len(part), part) for part in parts))


def is_summary(view: SpanView, signer: Ids) -> bool:
    """Return whether a span is a summary of ours that came back, through a loop of pipelines."""
    attributes = view.attributes
    if attributes.get(KIND) != SUMMARY:
        return False
    tenant, session_id = attributes.get(TENANT) or "", attributes.get(synthesized.SESSION_ID)
    if not isinstance(tenant, str) or not isinstance(session_id, str):
        return False
    return (view.trace_id, view.span_id) == summary_ids(signer, tenant, session_id, view.end_ns)


@dataclass(frozen=True, slots=True)
class RewritePlan:
    """What becomes of a span: `extra` is appended; attributes are moved aside and left out by their places among all.

    Of attributes that would have one name aside the first is moved, the others are left out; so is what stands at
    `missed`, marks of a Collector component. `known` is true for a span that says all that was decided on it: one of
    ours that came back. `unreadable`: its attributes cannot be parsed.
    """

    extra: bytes
    moved: tuple[int, ...] = ()
    left_out: tuple[int, ...] = ()
    missed: tuple[int, ...] = ()
    known: bool = False
    unreadable: bool = False

    @property
    def forged_places(self) -> list[int]:
        """Return the places of all forged attributes, in rising order."""
        return sorted((*self.moved, *self.left_out))


def plan_rewrite(span: bytes, attributes: Attributes, decided: bytes, names: frozenset[str]) -> RewritePlan:
    """Return what becomes of an encoded span, by the encoded attributes `decided` for it, empty for a plain span.

    `names` are the keys by which any span may name a session, run, agent or task.

    Raises:
        MalformedError: the span cannot be read.
    """
    missing = {key: (value, piece) for key, value, piece in _pieces(decided)}
    written = frozenset(missing)
    is_synthesized = synthesized.SOURCE in attributes
    there = _pieces(span)
    aside = {key for key, _, _ in there if key.startswith(_FORGED)}
    moved: list[int] = []
    left_out: list[int] = []
    missed: list[int] = []
    for index, (key, value, _) in enumerate(there):
        if not key.startswith(_OWN):
            missing.pop(key, None)  # an alias never stands over what came in
        elif key in missing and (missing[key][0] == value or (is_synthesized and key in _KEPT)):
            del missing[key]
        elif key == MISSED:
            missed.append(index)
        elif key in written or not (key in names or key in aside or (is_synthesized and _may_bring(key))):
            (left_out if (new := _new_name(key)) in aside else moved).append(index)
            aside.add(new)
    known = bool(decided) and not any(key.startswith(_OWN) for key in missing)
    extra = b"".join(piece for _, piece in missing.values())
    return RewritePlan(extra, tuple(moved), tuple(left_out), tuple(missed) if extra else (), known)


def _new_name(key: str) -> str:
    return _FORGED + key[len(_OWN) :]


def _may_bring(key: str) -> bool:
    return key in _BROUGHT_KEYS or key == synthesized.SOURCE or key.startswith(f"{synthesized.SOURCE}.")


def _pieces(encoded: bytes) -> list[tuple[str, bytes, bytes]]:
    """Return key, AnyValue and whole field of each attribute, in order; a key of no valid UTF-8 with U+FFFD."""
    pieces, at = [], 0
    for field in fields(encoded, 0, len(encoded)):
        if field.number == _ATTRIBUTES and field.wire_type == LENGTH:
            try:
                entry = schema.Entry.FromString(encoded[field.start : field.end])
            except DecodeError:
                raise MalformedError("span: an attribute cannot be read") from None
            pieces.append((schema.text(entry.key), entry.value, encoded[at : field.end]))
        at = field.end
    return pieces


def rewrite(span: bytes, plan: RewritePlan) -> bytes:
    """Return an encoded span with attributes moved aside, left out and appended; every other byte stays as it came."""
    if plan.unreadable:
        return without_marks(span)
    pieces: list[bytes] = []
    moved, left_out = frozenset(plan.moved), frozenset(plan.left_out + plan.missed)
    index, at = -1, 0
    for field in fields(span, 0, len(span)):
        is_attribute = field.number == _ATTRIBUTES and field.wire_type == LENGTH
        index += is_attribute
        if is_attribute and index in moved:
            pieces.append(delimited(_ATTRIBUTES, _aside(span[field.start : field.end])))
        elif not (is_attribute and index in left_out):
            pieces.append(span[at : field.end])
        at = field.end
    return b"".join((*pieces, plan.extra))


def without_marks(encoded: bytes) -> bytes:
    """Return bytes that nobody here can read with no name of Spanledger's in them; all lengths stay."""
    return encoded.replace(OWN, NOT_OWN)


def _aside(attribute: bytes) -> bytes:
    """Return a KeyValue under `FORGED`."""
    pieces, at = [], 0
    for field in fields(attribute, 0, len(attribute)):
        content = attribute[field.start : field.end]
        is_key = field.number == 1 and field.wire_type == LENGTH and content.startswith(OWN)
        pieces.append(delimited(1, FORGED + content[len(OWN) :]) if is_key else attribute[at : field.end])
        at = field.end
    return b"".join(pieces)
