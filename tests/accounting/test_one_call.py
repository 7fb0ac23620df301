"""Two reports are taken for one call on evidence only, and each answer has its reason."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from ledger_in_memory import MemoryLedger, make_fact
from spanledger_processor.accounting.decide import span_of
from spanledger_processor.accounting.facts import ORIGIN, Evidence, Fact
from spanledger_processor.accounting.one_call import one_call
from spanledger_processor.ledger.store import Table
from spanledger_processor.model import Cost, Usage

SECOND = 10**9
_LANGCHAIN_JS = "@arizeai/openinference-instrumentation-langchain"


def _report(scope: str, **changes: Any) -> Fact:
    """A call of 812 tokens in and 77 out, told by the library `scope`."""
    origin: dict[str, str] = changes.pop("origin", {})
    ids: tuple[bytes, ...] = changes.pop("ids", ())
    output, cache_read, reasoning = (
        changes.pop(*one) for one in (("output", 77), ("cache_read", None), ("reasoning", None))
    )
    is_passed_on, is_stored = changes.pop("fallback", False), changes.pop("stored", False)
    asked, answered = changes.pop("asked", ""), changes.pop("answered", "")
    tier = changes.pop("tier", "")
    given = {"scope": scope, "length": SECOND, "model": "gpt-4o", "trace": scope, **changes}
    fact = make_fact(scope, "", given.pop("kind", "llm"), 812, **given)
    assert fact.call is not None
    fact.call.usage = Usage(812, output, cache_read, reasoning=reasoning)
    if is_stored:
        fact.cost = Cost(0, "response_cache")
    if is_passed_on:
        fact.call.usage, fact.call.fallback = None, fact.call.usage
    fact.call.price_context = (("service_tier", tier),) if tier else ()
    fact.call.request_model, fact.call.response_model = asked or fact.call.request_model, answered
    fact.evidence = Evidence(ids=ids, origin=tuple(origin.get(what, "").encode() for what in ORIGIN) if origin else ())
    return fact


CASES: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    ("nothing speaks against it", {}, {}, "equal usage", "equal usage"),
    ("one names what the other does not", {"session": "s", "origin": {"user": "u"}}, {}, "equal usage", "equal usage"),
    ("a class that only one tells", {"cache_read": 5}, {}, "equal usage", "equal usage"),
    ("another class", {"cache_read": 5}, {"cache_read": 6}, "usage", "usage"),
    ("sessions", {"session": "s"}, {"session": "t"}, "session", "session"),
    ("services", {"origin": {"service": "a"}}, {"origin": {"service": "b"}}, "service", "service"),
    ("hosts", {"origin": {"host": "a"}}, {"origin": {"host": "b"}}, "host", "host"),
    ("processes", {"origin": {"process": "a"}}, {"origin": {"process": "b"}}, "process", "process"),
    ("languages", {"origin": {"language": "python"}}, {"origin": {"language": "go"}}, "language", "language"),
    ("users", {"origin": {"user": "a"}}, {"origin": {"user": "b"}}, "user", "user"),
    ("tiers", {"tier": "flex"}, {"tier": "priority"}, "tier", "tier"),
    ("a tier that only one tells", {"tier": "flex"}, {}, "equal usage", "equal usage"),
    ("a smaller model", {"model": "gpt-4o-mini"}, {}, "model", "model"),
    ("a later model", {"model": "claude-sonnet-4-5"}, {"model": "claude-sonnet-4"}, "model", "model"),
    ("a vendor", {"model": "openai/gpt-4o"}, {}, "equal usage", "equal usage"),
    ("a date", {"model": "gpt-4o-2024-08-06"}, {}, "equal usage", "equal usage"),
    ("a tag", {"model": "gpt-4o[1m]"}, {}, "equal usage", "equal usage"),
    (
        "a region",
        {"model": "us.anthropic.claude-sonnet-4-20250514-v1:0"},
        {"model": "claude-sonnet-4"},
        "equal usage",
        "equal usage",
    ),
    (
        "the model that was asked",
        {"asked": "mine", "answered": "gpt-4o"},
        {"model": "mine"},
        "equal usage",
        "equal usage",
    ),
    ("answers of a router", {"asked": "auto", "answered": "a"}, {"asked": "auto", "answered": "b"}, "model", "model"),
    ("one library", {}, {"scope": "one"}, "library", "library"),
    ("few tokens", {"output": 1}, {"output": 1}, "equal usage", "few"),
    ("reasoning that one leaves out", {"output": 47}, {"output": 77, "reasoning": 30}, "equal usage", "equal usage"),
    ("reasoning that both tell", {"output": 47, "reasoning": 30}, {"reasoning": 30}, "usage", "usage"),
    ("few tokens but for reasoning", {"output": 12}, {"output": 40, "reasoning": 28}, "equal usage", "few"),
    ("an embedding", {"kind": "embedding", "output": 0}, {"kind": "embedding", "output": 0}, "equal usage", "few"),
    ("kinds", {"kind": "embedding"}, {}, "kind", "kind"),
    ("times that only touch", {"start": -SECOND // 2}, {}, "time", "time"),
    ("a long call around a short one", {"length": 30 * SECOND}, {"start": 12 * SECOND}, "equal usage", "loose"),
    (
        "a framework's call, which makes the SDK's client first",
        {"length": 3 * SECOND},
        {"scope": "com.anthropic.sdk.python", "start": 2 * SECOND},
        "equal usage",
        "equal usage",
    ),
    (
        "a framework's call, which went on after the SDK's",
        {"length": 3 * SECOND},
        {"scope": "com.anthropic.sdk.python"},
        "equal usage",
        "loose",
    ),
    ("response ids", {"response_id": "r1"}, {"response_id": "r2"}, "other id", "other id"),
    ("an id on one side", {"response_id": "r1"}, {}, "equal usage", "equal usage"),
    ("the same id", {"response_id": "r1"}, {"response_id": "r1"}, "same id", "same id"),
    (
        "the same id, few tokens",
        {"response_id": "r", "output": 1},
        {"response_id": "r", "output": 1},
        "same id",
        "same id",
    ),
    ("the same id, other usage", {"response_id": "r"}, {"response_id": "r", "output": 78}, "reused id", "reused id"),
    (
        "the same id, a stream that was cut before its output was told",
        {"response_id": "r", "output": 1},
        {"response_id": "r", "output": None},
        "same id",
        "same id",
    ),
    (
        "an id that nobody else has, a stream that one of them adds up wrongly",
        {"response_id": "msg_01XFDUDYJgAACzvnptvVoYEL", "output": 77},
        {"response_id": "msg_01XFDUDYJgAACzvnptvVoYEL", "output": 78},
        "same id",
        "same id",
    ),
    (
        "an id that nobody else has, other usage",
        {"response_id": "msg_01XFDUDYJgAACzvnptvVoYEL", "cache_read": 5},
        {"response_id": "msg_01XFDUDYJgAACzvnptvVoYEL", "cache_read": 6},
        "reused id",
        "reused id",
    ),
    ("a stream that was cut, without an id", {}, {"output": None}, "usage", "usage"),
    ("the same id, a model", {"response_id": "r"}, {"response_id": "r", "model": "o3"}, "model", "model"),
    (
        "the same id, sessions",
        {"response_id": "r", "session": "s"},
        {"response_id": "r", "session": "t"},
        "session",
        "session",
    ),
    (
        "an id that anybody may use, services",
        {"response_id": "chatcmpl-1", "origin": {"service": "a"}},
        {"response_id": "chatcmpl-1", "origin": {"service": "b"}},
        "service",
        "service",
    ),
    (
        "a proxy's report and its client's",
        {"response_id": "chatcmpl-9f2a7c41d0b8e653", "origin": {"service": "a", "host": "x"}},
        {"response_id": "chatcmpl-9f2a7c41d0b8e653", "origin": {"service": "proxy", "host": "y"}},
        "same id",
        "same id",
    ),
    (
        "an id again, later",
        {"response_id": "m1"},
        {"response_id": "m1", "scope": "one", "start": 100 * SECOND},
        "time",
        "time",
    ),
    (
        "a report of another library, a moment later",
        {"response_id": "m1"},
        {"response_id": "m1", "start": 2 * SECOND},
        "same id",
        "same id",
    ),
    (
        "an answer that is passed on again, later",
        {"response_id": "m1", "fallback": True},
        {"response_id": "m1", "scope": "one", "start": 100 * SECOND, "fallback": True},
        "same id",
        "same id",
    ),
    ("a gateway's call id", {"ids": (b"1", b"2")}, {"ids": (b"2",), "output": 77}, "same id", "same id"),
    ("a gateway's call id, other usage", {"ids": (b"2",)}, {"ids": (b"2",), "output": 78}, "reused id", "reused id"),
]


@pytest.mark.parametrize(
    ("change", "other_change", "in_one", "in_two"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_the_evidence_decides(change: dict[str, Any], other_change: dict[str, Any], in_one: str, in_two: str) -> None:
    other_change = dict(other_change)
    one, other = _report("one", **dict(change)), _report(other_change.pop("scope", "two"), **other_change)
    spans = span_of(one), span_of(other)
    for a, b in (spans, spans[::-1]):
        assert one_call(a, b, one_trace=True) == in_one
        assert one_call(a, b, one_trace=False) == in_two


@pytest.mark.parametrize("order", [1, -1])
def test_an_answer_out_of_a_cache_is_no_report_of_the_call_whose_id_it_keeps(order: int) -> None:
    """Else the richer of the two, which cost nothing, would count in the call's place."""
    call = _report("one", response_id="m1")
    stored = _report("two", response_id="m1", start=2 * SECOND, stored=True)
    assert one_call(span_of(call), span_of(stored), one_trace=True) == "time"
    ledger = MemoryLedger()
    for fact in (call, stored)[::order]:
        ledger.take([fact])
    assert (ledger.total.cost, ledger.total.calls) == (812, 1)


@pytest.mark.parametrize(
    ("change", "other_change", "in_two"), [(*c[1:3], c[4]) for c in CASES], ids=[c[0] for c in CASES]
)
@pytest.mark.parametrize("first", [0, 1])
def test_the_ledger_counts_by_it_in_either_order(
    change: dict[str, Any], other_change: dict[str, Any], in_two: str, first: int
) -> None:
    other_change = dict(other_change)
    one, other = _report("one", **dict(change)), _report(other_change.pop("scope", "two"), **other_change)
    other = replace(other, trace_id=b"another", span_id=b"another")
    ledger = MemoryLedger()
    for fact in (one, other)[:: 1 if first else -1]:
        ledger.take([fact])
    assert ledger.total.calls == (1 if in_two in ("same id", "equal usage") else 2)


_UNIQUE = "msg_01XFDUDYJgAACzvnptvVoYEL"


@pytest.mark.parametrize("library", ["opentelemetry.instrumentation.anthropic", _LANGCHAIN_JS])
@pytest.mark.parametrize("traces", [("t", "t"), ("t", "u")])
@pytest.mark.parametrize("exact_first", [True, False])
def test_of_two_outputs_that_of_the_library_that_adds_them_up_does_not_count(
    ledger: MemoryLedger, library: str, traces: tuple[str, str], *, exact_first: bool
) -> None:
    """A stream of 77 tokens that began with 1: docs/formats/genai.md, Anthropic's streams tell usage twice."""
    reports = [
        _report("com.anthropic.sdk.python", response_id=_UNIQUE, trace=traces[0]),
        _report(library, response_id=_UNIQUE, output=78, trace=traces[1]),
    ]
    for report in reports if exact_first else reversed(reports):
        ledger.take([report])
    assert (ledger.total.calls, ledger.total.usage[1]) == (1, 77)


def test_a_library_that_adds_outputs_up_counts_where_the_other_tells_less(ledger: MemoryLedger) -> None:
    fewer = _report("com.anthropic.sdk.python", response_id=_UNIQUE, trace="t")
    assert fewer.call is not None
    fewer.call.usage, fewer.cost = None, None
    ledger.take([fewer, _report("opentelemetry.instrumentation.anthropic", response_id=_UNIQUE, output=78, trace="t")])
    assert (ledger.total.calls, ledger.total.usage[1]) == (1, 78)


def test_equal_outputs_of_such_a_library_count_as_of_any(ledger: MemoryLedger) -> None:
    """Which of two equal reports counts is left to what they name: here the session."""
    ledger.take([_report("one", response_id=_UNIQUE, trace="t")])
    ledger.take([_report("opentelemetry.instrumentation.anthropic", response_id=_UNIQUE, trace="u", session="s")])
    assert (ledger.total.calls, ledger.total.usage[1]) == (1, 77)
    assert ledger.table(Table.SESSION)["s"].calls == 1


def _stream(scope: str, usage: Usage | None, **changes: Any) -> Fact:
    """A call of one trace whose library saw this much of its stream's usage."""
    report = _report(scope, **{"trace": "t", **changes})
    assert report.call is not None
    report.call.usage, report.call.answered = usage, True
    report.cost = report.cost if usage is not None and usage.input else Cost(unpriced="no_usage")
    return report


_LESS: list[tuple[str, list[Fact], int]] = [
    ("two tell no usage", [_stream("one", None), _stream("two", None)], 1),
    ("three tell no usage", [_stream("one", None), _stream("two", None), _stream("three", None)], 1),
    ("no input, and all", [_stream("one", Usage(None, 77)), _stream("two", Usage(812, 77))], 1),
    ("twice no input", [_stream("one", Usage(0, 77)), _stream("two", Usage(None, 77))], 1),
    ("other outputs", [_stream("one", Usage(None, 77)), _stream("two", Usage(812, 78))], 2),
    ("few tokens", [_stream("one", Usage(None, 7)), _stream("two", Usage(812, 7))], 2),
    ("no usage, and all", [_stream("one", None), _stream("two", Usage(812, 77))], 2),
    ("two models", [_stream("one", None), _stream("two", None, model="gpt-4o-mini")], 2),
    ("two sessions", [_stream("one", None, session="s"), _stream("two", None, session="r")], 2),
    ("two traces", [_stream("one", None), _stream("two", None, trace="u")], 2),
    ("times not close", [_stream("one", None), _stream("two", None, start=SECOND // 3, length=SECOND // 2)], 2),
    ("one library", [_stream("one", None), replace(_stream("one", None), span_id=b"again")], 2),
]


@pytest.mark.parametrize(
    ("reports", "calls"), [(two, calls) for _, two, calls in _LESS], ids=[name for name, *_ in _LESS]
)
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("backwards", [True, False])
def test_streams_of_which_libraries_tell_less_are_one_call(
    ledger: MemoryLedger, reports: list[Fact], calls: int, *, at_once: bool, backwards: bool
) -> None:
    """LangChain for Python 1.7.10 tells no usage of OpenAI's streams, and no input of Anthropic's that end short."""
    ordered = deepcopy(reports[::-1] if backwards else reports)
    for part in [ordered] if at_once else [[report] for report in ordered]:
        ledger.take(part)
    assert ledger.total.calls == calls
    outputs = [report.call.usage.output or 0 for report in reports if report.call and report.call.usage]
    assert ledger.total.usage[1] == (sum(outputs) if calls == 2 else max(outputs, default=0))


def test_streams_side_by_side_pair_one_to_one(ledger: MemoryLedger) -> None:
    for place in range(3):
        for scope in ("one", "two"):
            ledger.take([replace(_stream(scope, None), span_id=f"{scope}{place}".encode())])
    assert ledger.total.calls == 3
