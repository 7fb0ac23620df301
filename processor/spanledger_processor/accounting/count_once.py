"""The rules by which each call counts once: which span of a trace adds its usage and cost to the ledger.

Roles are a function of the set of a trace's spans, and of what a trace that is too long keeps of forgotten spans
(`Span.carries_below`, `Span.forgotten_twin`, `Trace.awaited`, `Trace.cut`). The order in which the spans of a trace
stand or arrive never matters, nor does what other traces hold: which calls of several traces are one is decided behind
it, on calls that count in theirs (`shared_calls`). The rules, in the order in which they decide
(docs/counting.md has examples, and `explain` prints their numbers):

1. Raw answers: usage that only a raw provider answer inside a span holds is used where no span of the trace has usage
   of its own; else it is ignored.
2. Another trace: of calls of several traces that are one, one counts, and the others are duplicates; so is a span
   whose call a forgotten span of its trace counts.
3. One call: of the spans that report one call (`one_call`) the richest counts, the others are its duplicates. A span
   that holds other calls as well is no report of any of them by its id.
4. Above: a span with usage above others with usage repeats them and adds nothing, also where its usage is larger:
   counting the remainder would invent calls. Not so a call above what its answer asked for (`Library.holds_steps`).
5. Around: where the links between are not known, an agent repeats the spans with usage that it wholly contains in time.
6. Richer above: a span that repeats a single call of equal usage, and is richer, counts in that call's place; not one
   that names another model than a call that has a price. So does an agent that tells all steps of the one call right
   below it, which tells the last one's usage (`Library.tells_last_step`).
7. Without usage: a call without usage has no role where a span above it counts, or where it holds calls with usage.
8. Everything else counts: with usage and a price, or unpriced. What counts and may stand for more calls than one, or
   for forgotten ones, has a reason that says so; its role stays (`_doubts`).

What makes two spans reports of one call, and which of them is the richer, is in `one_call`.

`match` finds the roles of a trace, and changes nothing. `incremental` decides on new spans of a long trace as `match`
would, or leaves them to it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from msgspec import Struct, field

from spanledger_processor.accounting.links_and_times import NEAREST, EarliestEnds, Forest, FreePlaces
from spanledger_processor.accounting.one_call import (
    NEAR_ONE_CALL,
    ONE_CALL,
    Reason,
    ReportSource,
    equal_usage,
    holds_usage,
    may_lack_caches,
    of_one_model,
    one_call,
    order_of_reports,
    richest,
    together,
    uncached_inputs,
)
from spanledger_processor.accounting.trace import (
    COUNTED,
    DUPLICATE,
    REPEATS,
    WHAT_IS_REPORTED,
    Claim,
    Span,
    Trace,
)
from spanledger_processor.model import AGGREGATES, CALLS, CONTAINERS, INPUT, OUTPUT, REASONING

_SOURCES = 16
"""Libraries that report one call, at most."""

CallReports: TypeAlias = list[Span]
"""The reports of one call."""


class Match(Struct):
    """The role of every span that claims usage or cost: COUNTED, REPEATS, DUPLICATE + the counted span's id, or "".

    "" is for a span whose claim other spans report already. `reasons` are those of duplicates, and of spans that count
    although another one is close. `repeated` has the one call below a span that tells the same usage, and adds nothing.
    """

    roles: dict[bytes, str] = field(default_factory=dict)
    reasons: dict[bytes, Reason] = field(default_factory=dict)
    repeated: dict[bytes, bytes] = field(default_factory=dict)


def match(trace: Trace) -> Match:
    """Find the role of every span of a trace that claims usage or cost."""
    claimants = _claimants(trace)  # rule 1
    # spans that are known to be above forgotten ones that spend
    carrying = {span.span_id: 1 for span in trace.spans.values() if span.carries_below}
    if len(claimants) < 2 and not carrying and _stand_alone(trace, claimants):
        roles = {span.span_id: COUNTED for span in claimants}
        return Match(roles, _doubts(trace, claimants, roles))
    forest = Forest.above(trace.spans, [*[span.span_id for span in claimants], *carrying])
    spending = {span.span_id: 1 for span in claimants if span.spends}
    twins = {span.span_id: DUPLICATE + span.forgotten_twin for span in claimants if span.forgotten_twin}  # rule 2
    calls = [span for span in claimants if span.kind not in AGGREGATES]
    reports = _find_reports(forest, calls, spending, twins)  # rule 3
    repeating = _above(forest, trace, carrying, spending, reports.roles)  # rule 4
    others = [span.span_id for span in claimants if span.span_id not in reports.roles]
    roles = reports.roles | {span_id: REPEATS if span_id in repeating else COUNTED for span_id in others}
    roles |= dict.fromkeys(_around(forest, trace, claimants, roles), REPEATS)  # rule 5
    richer = _richer_above(forest, trace, carrying, claimants, roles)  # rule 6
    roles |= richer.roles
    roles |= dict.fromkeys(_without_usage(forest, claimants, roles), "")  # rule 7
    return Match(roles, reports.reasons | richer.reasons | _doubts(trace, claimants, roles), richer.repeated)


def _stand_alone(trace: Trace, claimants: list[Span]) -> bool:
    """Return whether no rule but the last one has a say on the only claim of a trace, as none is forgotten."""
    return not (trace.awaited or trace.cut or any(span.forgotten_twin for span in claimants))


def _claimants(trace: Trace) -> list[Span]:
    """Rule 1: return the spans that claim usage or cost, raw answers only where no other span has usage."""
    claims = [(span, span.claim) for span in trace.spans.values() if span.claim is not None]
    own_usage = any(span.spends and not claim.fallback for span, claim in claims)
    return [span for span, claim in claims if not (own_usage and claim.fallback)]


def _doubts(trace: Trace, claimants: list[Span], roles: Mapping[bytes, str]) -> dict[bytes, Reason]:
    """Return reasons of counted spans that may stand for more calls: of a library that calls again, of a cut trace."""
    reasons: dict[bytes, Reason] = {}
    for span in trace.spans.values():
        if span.kind == "tool" and (caller := trace.spans.get(span.parent_id)) is not None and calls_again(caller):
            reasons[caller.span_id] = Reason("rounds", "")
    if trace.cut:
        containers = [span.span_id for span in claimants if span.kind in CONTAINERS]
        reasons.update((span_id, Reason("cut", "")) for span_id in containers if roles[span_id] == COUNTED)
    return reasons


def calls_again(span: Span) -> bool:
    """Return whether a span stands for several calls of the model if a tool is below it."""
    return span.kind == "llm" and span.claim is not None and span.library.calls_again


def holds_steps(span: Span) -> bool:
    """Return whether what is below a call, and is none itself, is what its answer asked for: tools, agents."""
    return span.kind == "llm" and span.library.holds_steps


def _has_price(span: Span) -> bool:
    return span.claim is not None and span.claim.amount is not None


# Rule 3: reports of one call.


def _find_reports(forest: Forest, calls: list[Span], spending: dict[bytes, int], twins: dict[bytes, str]) -> Match:
    """Rule 3: return roles by rule 2 (`twins`) and duplicates among reports of one call, by id, then by equal usage."""
    matched = Match({**twins})
    by_id: dict[str | bytes, list[Span]] = defaultdict(list)
    for span in calls:
        if span.response:
            by_id[span.response].append(span)
        for identifier in span.claim.evidence.ids if span.claim is not None else ():
            by_id[identifier].append(span)
    below: dict[bytes, int] | None = None
    for group in by_id.values():
        if len(group) > 1:
            below = forest.sums_below(spending) if below is None else below
            unpaired = _without_holders(forest, _unpaired(group, matched), below)
            _enter(_join_by_id(unpaired, matched), "same id", matched)
    by_counts: dict[tuple[int, int], list[Span]] = defaultdict(list)
    for span in calls:
        for counts in _counts(span.claim):
            by_counts[counts].append(span)
    for counts in sorted(counts for counts, group in by_counts.items() if len(group) > 1):
        _enter(_join_by_usage(forest, _unpaired(by_counts[counts], matched), matched), "equal usage", matched)
    for group in _reported_without_caches(calls, by_counts):
        _enter(_join_by_usage(forest, _unpaired(group, matched), matched), "equal usage", matched)
    for group in _without_input(calls):
        _enter(_join_by_usage(forest, _unpaired(group, matched), matched), "less", matched)
    return matched


def _reported_without_caches(
    calls: list[Span], by_counts: Mapping[tuple[int, int], list[Span]]
) -> Iterator[list[Span]]:
    """Yield calls of one input and output where it is without the caches that some tell and others leave out."""
    richer: dict[tuple[int, int], list[Span]] = defaultdict(list)
    for span in calls:
        if (claim := span.claim) is not None:
            for given in uncached_inputs(claim.tokens, of_anthropic=claim.of_anthropic):
                for output in _outputs(claim):
                    richer[given, output].append(span)
    for counts in sorted(richer.keys() & by_counts.keys()):
        less = [
            span
            for span in by_counts[counts]
            if (claim := span.claim) is not None and may_lack_caches(claim.tokens, of_anthropic=claim.of_anthropic)
        ]
        if less:
            yield richer[counts] + less


def _without_input(calls: list[Span]) -> Iterator[list[Span]]:
    """Yield calls of one output of which some tell no input: streams of which libraries saw no more, or nothing."""
    outputs = {span.output for span in calls if span.kind == "llm" and not span.has_input}
    for output in sorted(outputs):
        group = [span for span in calls if span.output == output and (output or not span.spends)]
        if len(group) > 1:
            yield group


def _unpaired(group: list[Span], matched: Match) -> list[Span]:
    return [span for span in group if span.forgotten_twin or span.span_id not in matched.roles]


def _enter(calls: Iterable[CallReports], code: str, matched: Match) -> None:
    """Enter all reports of each call but the counted one: the richest, or one that is forgotten."""
    for call in calls:
        if len(call) < 2:
            continue
        twin = next((span.forgotten_twin for span in call if span.forgotten_twin), "")
        counted = b"" if twin else richest(call).span_id
        for span in call:
            if span.span_id != counted and not span.forgotten_twin:
                matched.roles[span.span_id] = DUPLICATE + (twin or counted.hex())
                matched.reasons[span.span_id] = Reason(code, twin or counted.hex())


def _counts(claim: Claim | None) -> Sequence[tuple[int, int]]:
    """Return input and output tokens under which equal usage is looked for."""
    given = claim.tokens[INPUT] if claim is not None and claim.tokens else None
    return [(given, output) for output in _outputs(claim)] if claim is not None and given else ()


def _outputs(claim: Claim) -> tuple[int, ...]:
    """Return the output tokens under which equal usage is looked for: some sources leave reasoning out."""
    output, reasoning = claim.tokens[OUTPUT] or 0, claim.tokens[REASONING] or 0
    return (output, output - reasoning) if 0 < reasoning < output else (output,)


def _without_holders(forest: Forest, group: list[Span], below: dict[bytes, int]) -> list[Span]:
    """Return the spans of a group with one id that hold no other calls that spend."""
    positions = sorted(forest.position(span.span_id) for span in group if span.spends)

    def holds(span: Span) -> bool:
        first, end = forest.range_below(span.span_id)
        return below.get(span.span_id, 0) > bisect_left(positions, end) - bisect_left(positions, first)

    return [span for span in group if not holds(span)]


def _by_end(span: Span) -> tuple[int, int, bytes]:
    return span.end_ns, span.start_ns, span.span_id


def _join_by_id(group: list[Span], matched: Match) -> list[CallReports]:
    """Put reports with one id together by call, each compared with the calls that ended last before it."""
    calls: list[CallReports] = []
    for span in sorted(group, key=_by_end):
        for call in islice(reversed(calls), NEAREST):
            codes = [one_call(span, other, one_trace=True) for other in islice(reversed(call), _SOURCES)]
            if any(code in ONE_CALL for code in codes):
                call.append(span)
                break
            _note(matched, span, call[-1], codes[0])
        else:
            calls.append([span])
    return calls


def _join_by_usage(forest: Forest, group: list[Span], matched: Match) -> list[CallReports]:
    """Put reports with equal counts and no common id together by call, one to one for each source.

    Source by source, each report joins the call nearest in time that has none of its source. Parents are rule 4's.
    """
    by_source: dict[ReportSource, list[Span]] = defaultdict(list)
    for span in group:
        by_source[span.scope, span.logged].append(span)
    calls: list[CallReports] = []
    for source in sorted(by_source)[:_SOURCES]:
        spans = sorted(by_source.pop(source), key=_by_end)
        calls = sorted(calls + _join(forest, calls, spans, matched), key=lambda call: _by_end(call[0]))
    for spans in by_source.values():
        for span in spans:
            _note(matched, span, calls[0][0], "many")
    return calls


def _join(forest: Forest, calls: list[CallReports], spans: list[Span], matched: Match) -> list[CallReports]:
    """Let each of one source's reports join one of `calls`, in order of their ends; return those left alone."""
    free = FreePlaces([call[0].end_ns for call in calls])
    alone: list[CallReports] = []
    for span in spans:
        tried = 0
        for position in free.near(span.end_ns):
            code = _reports(forest, span, calls[position])
            if code in ONE_CALL:
                free.take(position)
                calls[position].append(span)
                break
            tried += 1
            if code == "library":
                continue
            if tried == 2 * NEAREST and together(span, calls[position][0]):
                code = "many"
            _note(matched, span, calls[position][0], code)
        else:
            alone.append([span])
    return alone


def _reports(forest: Forest, span: Span, call: CallReports) -> str:
    """Return the code by which a span reports a call, or the first by which it does not."""
    code = ""
    for report in call:
        code = one_call(span, report, one_trace=True)
        if code not in ONE_CALL:
            return code
        if forest.related(span.span_id, report.span_id):
            return "time"
    return code


def _note(matched: Match, span: Span, other: Span, code: str) -> None:
    """Note the first reason of two spans that are close to one call, for both."""
    if code in NEAR_ONE_CALL:
        matched.reasons.setdefault(span.span_id, Reason(code, other.span_id.hex()))
        matched.reasons.setdefault(other.span_id, Reason(code, span.span_id.hex()))


# Rules 4 to 7: spans above and around others.


def _above(
    forest: Forest, trace: Trace, carrying: dict[bytes, int], spending: dict[bytes, int], roles: Mapping[bytes, str]
) -> set[bytes]:
    """Rule 4: return spans above others that spend something, but for their twins and what their answers asked for."""
    twins: Counter[bytes] = Counter()
    for span_id in spending:
        role = roles.get(span_id, "")
        if role and forest.is_above(twin := bytes.fromhex(role.removeprefix(DUPLICATE)), span_id):
            twins[twin] += 1
    amounts = carrying | spending
    sums = forest.sums_below(amounts)
    callers = {span_id for span_id in sums if (span := trace.spans.get(span_id)) is not None and holds_steps(span)}
    for span in trace.spans.values() if callers else ():
        if span.parent_id in callers and span.kind not in CALLS:
            twins[span.parent_id] += sums.get(span.span_id, 0) + amounts.get(span.span_id, 0)
    return carrying.keys() | {span_id for span_id, number in sums.items() if number > twins[span_id]}


def _around(forest: Forest, trace: Trace, claimants: list[Span], roles: Mapping[bytes, str]) -> list[bytes]:
    """Rule 5: return agents around spans that spend, lie wholly inside them in time and have an unknown ancestor."""
    agents = [span for span in claimants if roles[span.span_id] == COUNTED and span.kind in CONTAINERS]
    if not agents:
        return []
    unlinked = forest.unlinked()
    loose = [span for span in claimants if span.span_id in unlinked and span.spends and roles[span.span_id] != REPEATS]
    gone = (
        (*time, b"") for up, times in trace.awaited.items() for time in times if up not in trace.spans or up in unlinked
    )
    calls = EarliestEnds([*_times((span for span in loose if span.kind not in CONTAINERS), roles), *gone])
    others = EarliestEnds(_times((span for span in loose if span.kind in CONTAINERS), roles))

    def is_around(agent: Span) -> bool:
        start, end, own = agent.start_ns, agent.end_ns, agent.span_id
        return (
            calls.any_within(start, end, own)
            or others.any_within(start + 1, end, own)  # of two containers the longer one repeats
            or others.any_within(start, end - 1, own)
        )

    return [agent.span_id for agent in agents if is_around(agent)]


def _times(spans: Iterable[Span], roles: Mapping[bytes, str]) -> Iterator[tuple[int, int, bytes]]:
    for span in spans:
        role = roles[span.span_id]
        counted = bytes.fromhex(role.removeprefix(DUPLICATE)) if role.startswith(DUPLICATE) else span.span_id
        yield span.start_ns, span.end_ns, counted


def _richer_above(
    forest: Forest, trace: Trace, carrying: dict[bytes, int], claimants: list[Span], roles: Mapping[bytes, str]
) -> Match:
    """Rule 6: return spans that repeat one call of equal usage: those that know more of it in the call's place."""
    changed = Match()
    uppers = [span for span in claimants if roles[span.span_id] == REPEATS or span.forgotten_twin]
    if not uppers:
        return changed
    holding = carrying.keys() | forest.sums_below(carrying).keys()
    calls = {span.span_id: span for span in claimants if roles[span.span_id] == COUNTED and span.spends}
    for upper, call in _steps_above(trace, calls.values(), roles):
        if upper.span_id not in holding:
            _take_place(changed, upper, upper.span_id.hex(), call)
    numbers = forest.sums_below(dict.fromkeys(calls, 1))
    by_position = {forest.position(span_id): span for span_id, span in calls.items()}
    positions = sorted(by_position)
    for upper in sorted(uppers, key=order_of_reports, reverse=True):
        if numbers.get(upper.span_id) != 1 or upper.span_id in holding:
            continue
        call = by_position[positions[bisect_left(positions, forest.position(upper.span_id))]]
        if not _tells_again(upper, call):
            continue
        if call.span_id not in changed.roles and _stands_in(upper, call):
            _take_place(changed, upper, upper.forgotten_twin or upper.span_id.hex(), call)
        elif upper.kind not in AGGREGATES and not upper.forgotten_twin:
            changed.repeated[upper.span_id] = call.span_id
    return changed


def _take_place(changed: Match, upper: Span, counted: str, call: Span) -> None:
    twin = upper.forgotten_twin
    changed.roles[upper.span_id] = DUPLICATE + twin if twin else COUNTED
    changed.roles[call.span_id] = DUPLICATE + counted
    changed.reasons[call.span_id] = Reason("tells more", counted)


def _steps_above(trace: Trace, calls: Iterable[Span], roles: Mapping[bytes, str]) -> Iterator[tuple[Span, Span]]:
    """Yield the agents that tell more usage than their one call, with that call (`Library.tells_last_step`)."""
    below: dict[bytes, list[Span]] = defaultdict(list)
    for call in calls:
        if call.library.tells_last_step and call.kind not in AGGREGATES:
            below[call.parent_id].append(call)
    for parent_id, own in below.items():
        agent = trace.spans.get(parent_id)
        if agent is None or len(own) > 1 or agent.kind != "agent" or agent.scope != own[0].scope:
            continue
        if roles.get(parent_id) == REPEATS and holds_usage(agent.claim, own[0].claim):
            yield agent, own[0]


def _tells_again(upper: Span, call: Span) -> bool:
    """Return whether a span above a call tells the usage of the call again."""
    if upper.claim is None or call.claim is None or not equal_usage(upper.claim, call.claim, "known"):
        return False
    # a model that was asked for by another name has the price of the one that answered
    return bool(upper.forgotten_twin) or not _has_price(call) or of_one_model(upper.claim, call.claim)


def _stands_in(upper: Span, call: Span) -> bool:
    """Return whether a span that tells a call again counts in its place."""
    if upper.forgotten_twin:
        return True
    assert upper.claim is not None
    assert call.claim is not None
    return upper.claim.richness[WHAT_IS_REPORTED] > call.claim.richness[WHAT_IS_REPORTED]


def _without_usage(forest: Forest, claimants: list[Span], roles: Mapping[bytes, str]) -> list[bytes]:
    """Rule 7: return calls without usage that have no role: a span above them counts, or they hold calls with usage."""
    silent = [span for span in claimants if span.claim is not None and not span.claim.spends and not span.claim.tokens]
    if not silent:
        return []
    below = forest.below_any({span.span_id for span in claimants if roles[span.span_id] == COUNTED})
    return [
        span.span_id
        for span in silent
        if roles[span.span_id] == REPEATS or (roles[span.span_id] == COUNTED and span.span_id in below)
    ]
