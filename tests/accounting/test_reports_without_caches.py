"""Reports of one call of Anthropic's of which some leave caches out of the input: counted once, by the one that tells.

The provider's own counts (docs/formats/genai.md#21-inclusive-or-exclusive) are 23 tokens of input, 200 read from the
cache, 40 written to it, and 77 of output.
"""

from __future__ import annotations

import itertools

import pytest

from concurrent_calls import Scenario, false_merges
from ledger_in_memory import NOW, MemoryLedger, make_fact
from spanledger_processor.accounting.call_hashes import _PERIOD_NS
from spanledger_processor.accounting.count_once import match
from spanledger_processor.accounting.decide import span_of
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.accounting.incremental import Incremental
from spanledger_processor.accounting.one_call import DOUBTS
from spanledger_processor.accounting.trace import Trace
from spanledger_processor.model import Usage

MS = 10**6
SDK, LANGTRACE, AGENTOPS, MONOCLE = (
    "com.anthropic.sdk.python",
    "langtrace_python_sdk.instrumentation.anthropic.instrumentation",
    "anthropic",
    "monocle_apptrace",
)
USAGE = {
    SDK: Usage(263, 77, cache_read=200, cache_write=40, cache_write_1h=0),
    LANGTRACE: Usage(23, 77),
    AGENTOPS: Usage(23, 77),
    MONOCLE: Usage(223, 77, cache_read=200),
}
"""As each library tells the call (docs/dialects.md)."""
COST = {SDK: 500, LANGTRACE: 150, AGENTOPS: 150, MONOCLE: 350}
LESS = [LANGTRACE, AGENTOPS, MONOCLE]


def _report(  # the SDK's own span is made when the request is sent, within those of instrumentations
    scope: str,
    name: str = "",
    *,
    trace: str = "t1",
    parent: str = "",
    usage: Usage | None = None,
    start: int | None = None,
    end: int | None = None,
    provider: str = "anthropic",
    model: str = "claude-sonnet-4-5",
) -> Fact:
    first, last = (MS, 100 * MS) if scope == SDK else (0, 101 * MS)
    first, last = first if start is None else start, last if end is None else end
    more = {"scope": scope, "model": model, "trace": trace, "start": first, "length": last - first}
    if scope == SDK:
        more["response_id"] = "msg_e795906143dfb3483bcc0023"
    fact = make_fact(name or scope, parent, "llm", COST[scope], **more)  # type: ignore[arg-type]
    assert fact.call is not None
    fact.call.provider, fact.call.usage = provider, usage or USAGE[scope]
    return fact


def _is_counted_by_the_sdk(ledger: MemoryLedger) -> bool:
    return (ledger.total.cost, ledger.total.calls, ledger.total.usage[:4]) == (500, 1, (263, 77, 200, 40))


@pytest.mark.parametrize("traces", ["one", "each its own"])
@pytest.mark.parametrize("other", LESS)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_call_that_one_library_tells_without_caches_counts_once(
    ledger: MemoryLedger, other: str, traces: str, *, is_first: bool
) -> None:
    reports = [_report(SDK), _report(other, trace="t1" if traces == "one" else "t2")]
    for report in reports[:: -1 if is_first else 1]:
        ledger.take([report])
    assert _is_counted_by_the_sdk(ledger)
    assert ledger.sent == 500 + ledger.correction


@pytest.mark.parametrize("traces", [1, 4])
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_all_of_them_at_once_count_once_in_any_order(ledger: MemoryLedger, order: tuple[int, ...], traces: int) -> None:
    reports = [_report(scope, trace=f"t{number % traces}") for number, scope in enumerate([SDK, *LESS])]
    for place in order:
        ledger.take([reports[place]])
    assert _is_counted_by_the_sdk(ledger)


@pytest.mark.parametrize("other", LESS)
@pytest.mark.parametrize("upper", ["SDK", "other"])
@pytest.mark.parametrize("is_first", [True, False])
def test_one_below_the_other_counts_by_the_one_that_tells_caches(
    ledger: MemoryLedger, other: str, upper: str, *, is_first: bool
) -> None:
    sdk = _report(SDK, "sdk", parent="" if upper == "SDK" else "other", start=0, end=101 * MS)
    less = _report(other, "other", parent="sdk" if upper == "SDK" else "")
    for report in [less, sdk] if is_first else [sdk, less]:
        ledger.take([report])
    assert _is_counted_by_the_sdk(ledger)


def test_they_are_found_at_the_edge_of_a_period(ledger: MemoryLedger) -> None:
    """Calls of two traces are remembered by when they ended, in periods (`cross_trace_index`)."""
    edge = _PERIOD_NS - NOW % _PERIOD_NS
    for number, order in enumerate([(SDK, LANGTRACE), (LANGTRACE, SDK)]):
        for scope in order:
            end = edge + (MS if scope == LANGTRACE else -MS) // 2
            report = _report(scope, f"{scope}{number}", trace=f"{scope}{number}", start=edge - 50 * MS, end=end)
            assert report.call is not None
            report.call.response_id = report.call.response_id and f"msg_{number}95906143dfb3483bcc0023"
            report.call.usage = Usage(*(23 if scope == LANGTRACE else 263, 77 + number, *_caches(scope)))
            ledger.take([report])
    assert (ledger.total.cost, ledger.total.calls) == (1000, 2)


def _caches(scope: str) -> tuple[int | None, int | None]:
    usage = USAGE[scope]
    return usage.cache_read, usage.cache_write


@pytest.mark.parametrize("traces", ["one", "each its own"])
@pytest.mark.parametrize(
    ("what", "other", "is_in_doubt"),
    [
        ("another input", _report(LANGTRACE, usage=Usage(24, 77)), False),
        ("another output", _report(LANGTRACE, usage=Usage(23, 78)), False),
        ("input with the reads, of which it tells none", _report(LANGTRACE, usage=Usage(63, 77)), False),
        ("another count of reads", _report(MONOCLE, usage=Usage(223, 77, cache_read=190)), False),
        ("caches told, and not there", _report(LANGTRACE, usage=Usage(23, 77, cache_read=0, cache_write=0)), False),
        ("another model", _report(LANGTRACE, model="claude-haiku-4-5"), False),
        ("another provider, with the caches in its input", _report(LANGTRACE, model="gpt-5", provider="openai"), False),
        ("the same library", _report(SDK, "again", usage=Usage(23, 77)), False),
        ("times that do not hold each other", _report(LANGTRACE, start=50 * MS, end=200 * MS), False),
        ("times that are not close", _report(LANGTRACE, end=400 * MS), True),
    ],
)  # fmt: skip
def test_calls_that_contradict_are_two(
    ledger: MemoryLedger, what: str, other: Fact, traces: str, *, is_in_doubt: bool
) -> None:
    assert other.call is not None
    other.trace_id = b"t1" if traces == "one" else b"t2"
    if other.scope == SDK:
        other.call.response_id = ""
    decisions = ledger.take([_report(SDK), other])
    assert ledger.total.calls == 2, what
    assert any(one.cost is not None and one.cost.estimate for one in decisions) == is_in_doubt, what


@pytest.mark.parametrize("traces", ["one", "each its own"])
def test_of_few_output_tokens_both_count_and_the_later_is_an_estimate(ledger: MemoryLedger, traces: str) -> None:
    """Beside a large cache the rest of the input is often equal: a short answer proves nothing, in one trace either."""
    sdk = _report(SDK, usage=Usage(263, 9, cache_read=200, cache_write=40))
    less = _report(AGENTOPS, usage=Usage(23, 9), trace="t1" if traces == "one" else "t2")
    decisions = ledger.take([sdk, less])
    assert ledger.total.calls == 2
    assert [one.cost is not None and one.cost.estimate for one in decisions].count(True) == 1


def test_calls_side_by_side_are_paired_one_to_one(ledger: MemoryLedger) -> None:
    calls = [_report(SDK, f"s{n}", start=(n + 1) * MS, end=(99 + n) * MS) for n in range(3)]
    for number, call in enumerate(calls):
        assert call.call is not None
        call.call.response_id = f"msg_{number}"
    ledger.take([*calls, *(_report(LANGTRACE, f"l{n}", start=n * MS, end=(100 + n) * MS) for n in range(2))])
    assert (ledger.total.cost, ledger.total.calls) == (1500, 3)


@pytest.mark.parametrize("order", list(itertools.permutations([SDK, LANGTRACE, MONOCLE])))
def test_what_is_known_of_a_long_trace_leaves_them_to_the_rules(order: tuple[str, ...]) -> None:
    trace = Trace()
    trace.add(span_of(_report(order[0])))
    known = Incremental.of(trace, match(trace).roles)
    assert known is not None
    second = span_of(_report(order[1]))
    trace.add(second)
    assert not known.add(trace, [second])


def test_nothing_is_looked_for_without_caches_where_a_trace_has_one_library() -> None:
    trace, later = Trace(), [_report(SDK, f"s{n}", start=n * MS, end=(n + 1) * MS) for n in range(4)]
    for number, call in enumerate(later):
        assert call.call is not None
        call.call.response_id = f"msg_{number}"
    first, *spans = map(span_of, later)
    trace.add(first)
    known = Incremental.of(trace, match(trace).roles)
    assert known is not None
    for span in spans:
        trace.add(span)
        assert known.add(trace, [span])
    found = match(trace)
    assert known.roles == found.roles
    assert not [reason for reason in found.reasons.values() if reason.code in DOUBTS]


@pytest.mark.parametrize("sessions", [True, False])
def test_different_calls_with_equal_inputs_beside_a_cache_stay_apart(*, sessions: bool) -> None:
    assert false_merges(Scenario("cached", sessions=sessions, calls=1000, seconds=360)) == 0


@pytest.mark.parametrize("traces", [(0, 0, 1, 1), (0, 0, 1, 2), (0, 1, 0, 2), (0, 2, 0, 1)])
@pytest.mark.parametrize("told", [True, False])
def test_reports_of_a_few_traces_are_not_duplicates_of_one_another_in_a_ring(
    traces: tuple[int, ...], *, told: bool
) -> None:
    """A richer report beside a duplicate of what has given way to a third: none of them was counted."""
    usages = (
        {LANGTRACE: Usage(263, 77), AGENTOPS: Usage(263, 77), MONOCLE: Usage(263, 77, cache_read=200)} if told else {}
    )
    for order in itertools.permutations(range(4)):
        ledger = MemoryLedger()
        for place in order:
            scope = [SDK, *LESS][place]
            ledger.take([_report(scope, trace=f"t{traces[place]}", usage=usages.get(scope))])
        assert _is_counted_by_the_sdk(ledger), order
        assert ledger.sent == 500 + ledger.correction
