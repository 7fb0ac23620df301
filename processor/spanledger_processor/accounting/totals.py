"""The ledger's totals: every counted amount is part of the whole, of a session, of a run and of a model, once each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from spanledger_processor.accounting.facts import Batch, in_pairs
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.accounting.trace import COUNTED, Posting, Span, tool_label
from spanledger_processor.ledger.dimensions import AGENT, TOOL
from spanledger_processor.ledger.facts import Facts, Latest, ModelUse
from spanledger_processor.ledger.keys import (
    bounded_id,
    day_key,
    dimension_key,
    link_key,
    part_key,
    run_key,
    session_key,
    task_key,
    total_key,
)
from spanledger_processor.ledger.packing import pack
from spanledger_processor.ledger.runs import (
    INSTANCE,
    MOST_SESSIONS,
    NAMES,
    SPAWNED,
    RunsAndParent,
    has_part_in,
    named_by,
    run_of_session,
    sessions_under,
)
from spanledger_processor.ledger.store import Changes, Key, Reader
from spanledger_processor.ledger.sums import Added, Sums, count_names
from spanledger_processor.model import CONTAINERS
from spanledger_processor.units import NS_PER_MS, Pico

_NONE: Mapping[str, str] = MappingProxyType({})
_NO_LABELS = ("", "")
_NAMES_NOTHING: RunsAndParent = ((), "")

_MOST_SESSIONS_OF_RUNS = 2 * MOST_SESSIONS
"""Sessions that are added up for all runs of a request: those of 512 runs of a thousand took half a minute."""


class Totals:
    """Posts spans to the totals of a reader, and takes them out again.

    Postings are gathered first, by where they go, and entered once: `enter`. What is read here decides on no amount,
    only on what spans say of their run and of running totals.
    """

    def __init__(self, batch: Batch, reader: Reader, changes: Changes) -> None:
        self._tenant = batch.tenant
        self._tenant_label = {"tenant": bounded_id(batch.tenant_name)} if batch.tenant_name else _NONE
        self._watched = batch.watched
        self._reader = reader
        self._changes = changes
        self._now_ns, self._now_ms = batch.now_ns, batch.now_ns // NS_PER_MS
        self._stored: dict[Key, Sums] = {}
        self._groups: dict[tuple[str, str, str], Sums] = {}
        self._days: dict[tuple[int, str, str, str, tuple[str, ...]], Sums] = {}
        self._speeds: dict[tuple[int, str, str], tuple[list[int], list[int]]] = {}
        """Buckets that are entered, and that are taken out, by day, provider and model."""
        self._tasks: dict[tuple[str, str, str, str, str], Sums] = {}
        self._tools: dict[tuple[int, str], Sums] = {}
        """By day and tool."""
        self._parts: dict[tuple[str, str, str], Sums] = {}
        self._notes: dict[str, _Notes] = {}
        self._described: dict[str, dict[str, str]] = {}
        """Names and projects of sessions, where their spans tell them."""
        self._sessions_left = _MOST_SESSIONS_OF_RUNS
        self._under: dict[str, list[str] | None] = {}
        """Sessions that may be part of a run, by run."""
        self._linked: dict[tuple[bytes, str], set[str]] = {}
        """Links that are new."""

    def post(self, span: Span, posting: Posting, sign: int = 1, *, trace_id: bytes) -> None:
        """Post `span` of a trace (sign 1), or take it out again (sign -1)."""
        added = span.added(posting.role, sign, self._now_ns)
        self._of_group(span, posting).enter(added)
        if span.session_labels != _NO_LABELS:
            self._describe(span, posting)
        if posting.role == COUNTED and span.claim is not None:
            for totals, key in self._of_claim(span, posting):
                _of(totals, key).enter(added)
            self.post_speeds(span, span.claim.day, span.speeds, sign)
        elif span.fee:
            detail = span.detail
            day = (detail.day, "", tool_label(detail.tool), posting.agent, detail.dimensions)
            _of(self._days, day).enter(added)
        self._post_tool(span, posting, added, sign)
        if posting.session:
            self._notes_of(posting.session).take(span, posting, added, sign, trace_id)
            for sums in self._of_parts(span, posting, sign):
                sums.enter(added)
                _enter_outcome(sums, span, sign)
            if span.detail.tool and span.again and (span.loops or span.fails):
                _enter_outcome(_of(self._parts, (posting.session, TOOL, span.detail.tool)), span, sign)

    def _post_tool(self, span: Span, posting: Posting, added: Added, sign: int) -> None:
        """Enter a span's data on tools: an execution by its day, and what results of tools brought into a call."""
        tool, claim = span.detail.tool, span.claim
        if tool and not span.again:
            of_day = _of(self._tools, (span.detail.day, tool))
            of_day.enter(added)
            _enter_outcome(of_day, span, sign)
        elif tool and (span.loops or span.fails):
            _enter_outcome(_of(self._tools, (span.detail.day, tool)), span, sign)
        for name in posting.asked:
            self._post_asked(span, posting, name, Sums(tool_calls=sign), Facts(), sign)
        for name in posting.stuck:
            self._post_asked(span, posting, name, Sums(), Facts(loops=1), sign)
        for fed in posting.fed if claim is not None else ():
            facts = Facts(fed=(fed.results, fed.tokens, fed.cost, fed.unpriced))
            _facts_of(_of(self._tools, (claim.day, fed.tool))).add(facts, sign)  # type: ignore[union-attr]
            if posting.session:
                _facts_of(_of(self._parts, (posting.session, TOOL, fed.tool))).add(facts, sign)

    def _post_asked(self, span: Span, posting: Posting, tool: str, sums: Sums, facts: Facts, sign: int) -> None:
        """Post a tool call that has no span of its own where the span that asks for it is posted."""
        self._of_group(span, posting).add(sums)
        day = span.claim.day if span.claim is not None else span.detail.day
        of_tool = [_of(self._tools, (day, tool))]
        if posting.session:
            self._notes_of(posting.session).loops += sign * facts.loops
            of_tool.append(_of(self._parts, (posting.session, TOOL, tool)))
            if posting.agent:
                of_tool.append(_of(self._parts, (posting.session, AGENT, posting.agent)))
        for into in of_tool:
            into.add(sums)
            _facts_of(into).add(facts, sign)

    def _describe(self, span: Span, posting: Posting) -> None:
        """Note the name and the project of a span's session."""
        if posting.session:
            labels = self._described.setdefault(posting.session, {})
            for name, label in zip(("name", "project"), span.session_labels, strict=True):
                if label:
                    labels[name] = min(bounded_id(label), labels.get(name, bounded_id(label)))

    def post_claims(self, span: Span, posting: Posting, sums: Sums) -> None:
        """Enter the sums of counted spans, of any sessions, whose claims go where that of `span` does."""
        for number, (totals, key) in enumerate(self._of_claim(span, posting)):
            _enter(totals, key, sums.copy() if number else sums)

    def post_speeds(self, span: Span, day: int, buckets: Iterable[int], sign: int = 1) -> None:
        """Enter how fast calls were that were made on a day of the model that `span` calls (`sums.speeds_of`)."""
        if span.claim is None:
            return
        key = day, span.claim.provider, span.claim.listed
        speeds = self._speeds.get(key) or self._speeds.setdefault(key, ([], []))
        speeds[sign < 0].extend(buckets)

    def post_group(self, span: Span, posting: Posting, sums: Sums, calls: GroupedCalls) -> None:
        """Enter the sums of calls of the session and run of `span`, and what the session gets of them."""
        if posting.session:
            if span.session_labels != _NO_LABELS:
                self._describe(span, posting)
            self._notes_of(posting.session).take_group(span, posting, calls)
            number = len(calls.starts)
            for into in self._of_parts(span, posting, number):
                into.add(sums)
                _enter_outcome(into, span, number)
        _enter(self._groups, (posting.session, posting.run, span.parent_session), sums)

    def _of_group(self, span: Span, posting: Posting) -> Sums:
        """Return the sums that gather the session and the run of a span."""
        return _of(self._groups, (posting.session, posting.run, span.parent_session))

    def _of_claim(self, span: Span, posting: Posting) -> list[tuple[dict[Any, Sums], tuple[Any, ...]]]:
        """Return the further totals that gather the claim of a counted span, with its key in them: those of its day and
        model, and of its task.
        """
        claim = span.claim
        if claim is None:
            return []
        model = claim.listed
        day = (claim.day, claim.provider, model, posting.agent, span.detail.dimensions)
        gathered: list[tuple[dict[Any, Sums], tuple[Any, ...]]] = [(self._days, day)]
        if claim.task_id or claim.task_kind:
            gathered.append((self._tasks, (posting.session, claim.task_id, claim.task_kind, claim.provider, model)))
        return gathered

    def _notes_of(self, session: str) -> _Notes:
        notes = self._notes.get(session)
        if notes is None:
            notes = self._notes[session] = _Notes()
        return notes

    def _of_parts(self, span: Span, posting: Posting, number: int) -> list[Sums]:
        """Return the sums that gather a session's part by the agent of so many spans like `span`, and by its tool;
        negative: they are taken out.
        """
        session = posting.session
        gathered: list[Sums] = []
        if posting.agent:
            gathered.append(_of(self._parts, (session, AGENT, posting.agent)))
            if posting.agent_parent:
                count_names(gathered[0].parents, {bounded_id(posting.agent_parent): number})
        if span.detail.tool and not span.again:
            gathered.append(_of(self._parts, (session, TOOL, span.detail.tool)))
        return gathered

    def _enter_sessions(self) -> None:
        for session, notes in self._notes.items():
            change = self._changes.add[session_key(self._tenant, session)]
            change.facts = notes.facts()
            if self._watched:
                change.summarized_ns = 1
            known = self._known(session_key(self._tenant, session)).facts
            for instance in notes.instances.difference(known.values.get("instance", ()) if known else ()):
                self._claim_link(INSTANCE, instance, session)
        for (session, kind, name), sums in self._parts.items():
            labels = {"session": bounded_id(session), "kind": kind, "id": bounded_id(name)}
            self._add(part_key(self._tenant, session, kind, name), sums, labels)

    def enter(self) -> None:
        """Enter what was posted; to be called once."""
        whole = Sums()
        for (session, run, named_parent), sums in self._groups.items():
            parent = "" if bounded_id(named_parent) == bounded_id(session) else named_parent
            models, sums.models = sums.models, {}  # the whole has none
            whole.add(sums)
            sums.models = models
            labels = {"id": bounded_id(session), **self._described.get(session, _NONE)}
            self._link(session, run, parent)
            key = session_key(self._tenant, session)
            if run:
                self._add(run_key(self._tenant, run), sums.copy(), {"id": bounded_id(run)})
                sums.elsewhere = sums.copy()
                count_names(sums.named, {bounded_id(run): sums.spans})
            if parent:
                count_names(sums.parents, {bounded_id(parent): sums.spans})
            self._add(key, sums, labels)
        if self._groups:
            self._add(total_key(self._tenant), whole, self._tenant_label)
        self._enter_sessions()
        self._enter_days_and_tasks()

    def _link(self, session: str, run: str, parent: str) -> None:
        """Link a run to the sessions that it may hold."""
        known = self._known(session_key(self._tenant, session))
        if session and run and bounded_id(run) not in known.named:
            self._claim_link(NAMES, run, session)
        if session and parent and bounded_id(parent) not in known.parents:
            self._claim_link(SPAWNED, parent, session)

    def _claim_link(self, kind: bytes, above: str, session: str) -> None:
        session = bounded_id(session)
        self._changes.create[link_key(self._tenant, kind, above, session)] = pack([1, self._now_ms, session])
        self._linked.setdefault((kind, bounded_id(above)), set()).add(session)

    def run_of(self, session_id: str) -> Named:
        """Return the run of a session for which no trace names one."""
        return Named(*run_of_session(bounded_id(session_id), self._names))

    def groups(self) -> Iterable[tuple[str, str]]:
        """Return the session and the run, as far as its trace names one, of what was posted or taken out."""
        return {(session, run): None for session, run, _ in self._groups}

    def claims(self) -> Iterable[tuple[int, str, str, str, tuple[str, ...]]]:
        """Return the day, provider, model, agent and dimensions of what was posted at a cost, or taken out."""
        return self._days.keys()

    def session_cost(self, session_id: str) -> Pico:
        """Return the running total of a session, with all that was entered so far."""
        return self._cost(session_key(self._tenant, session_id))

    def session(self, session_id: str) -> Sums:
        """Return a copy of the totals of a session, with all that was entered so far."""
        key = session_key(self._tenant, session_id)
        session = self._known(key).copy()
        if (change := self._changes.add.get(key)) is not None:
            session.add(change)
        return session

    def sessions_of_run(self, run_id: str) -> list[Sums]:
        """Return the sessions of which some part belongs to a run; none where `run_cost` is None."""
        under, run_id = self._sessions_under(run_id) or (), bounded_id(run_id)
        parts = (one for one in under if has_part_in(run_id, self.run_of(one).id, self._names(one)[0]))
        return [session for session in map(self.session, parts) if session.spans]

    def run_cost(self, run_id: str) -> Pico | None:
        """Return the running total of a run, with all that was entered; None if too many sessions are part of it, or
        of the runs that were asked for before.
        """
        sessions = self._sessions_under(run_id)
        if sessions is None:
            return None
        total = self._cost(run_key(self._tenant, run_id))
        for session in sessions:
            key = session_key(self._tenant, session)
            stored, change = self._known(key), self._changes.add.get(key)
            own = _own_cost(stored) + (_own_cost(change) if change else 0)
            if own and self.run_of(session).id == bounded_id(run_id):
                total += own
        return total

    def _sessions_under(self, run_id: str) -> list[str] | None:
        """Return the sessions that may be part of a run; None if they are too many."""
        if run_id not in self._under:
            most = min(MOST_SESSIONS, self._sessions_left)
            sessions = sessions_under(self._reader, self._tenant, run_id, self._linked, most=max(most, 1))
            self._sessions_left -= most if sessions is None else len(sessions) - 1
            self._under[run_id] = sessions
        return self._under[run_id]

    def _enter_days_and_tasks(self) -> None:
        described: dict[tuple[int, str, tuple[str, ...]], Sums] = {}
        for (day, provider, model, agent, dimensions), sums in self._days.items():
            key = day_key(self._tenant, day, provider, model)
            if agent or dimensions:
                _of(described, (day, agent, dimensions)).add(sums)
            self._add(key, sums, {"day": str(day), "provider": bounded_id(provider), "model": bounded_id(model)})
        for (day, provider, model), (entered, taken_out) in self._speeds.items():
            speeds = Counter(entered)
            speeds.subtract(taken_out)
            of_day = self._changes.add[day_key(self._tenant, day, provider, model)]
            of_day.speeds = {bucket: calls for bucket, calls in speeds.items() if calls}
        values: dict[tuple[str, int, str], Sums] = {}
        for (day, agent, dimensions), sums in described.items():
            if agent:
                _of(values, (AGENT, day, agent)).add(sums)
            for name, value in in_pairs(dimensions):
                _of(values, (name, day, value)).add(sums)
        for (name, day, value), sums in values.items():
            labels = {"day": str(day), "dimension": name, "value": bounded_id(value)}
            self._add(dimension_key(self._tenant, name, day, value), sums, labels)
        for (day, tool), sums in self._tools.items():
            labels = {"day": str(day), "dimension": TOOL, "value": bounded_id(tool)}
            self._add(dimension_key(self._tenant, TOOL, day, tool), sums, labels)
        for (session, task, kind, provider, model), sums in self._tasks.items():
            key = task_key(self._tenant, session, task, kind, provider, model)
            labels = {"session": session, "id": task, "kind": kind, "provider": provider, "model": model}
            self._add(key, sums, {name: bounded_id(label) for name, label in labels.items()})

    def _names(self, session_id: str) -> RunsAndParent:
        """Return the runs that a session names, and its parent."""
        key = session_key(self._tenant, session_id)
        stored, change = self._known(key), self._changes.add.get(key)
        if change is not None and (change.named or change.parents):
            both = Sums(named=stored.named.copy(), parents=stored.parents.copy())
            count_names(both.named, change.named)
            count_names(both.parents, change.parents)
            return named_by(both)
        return named_by(stored) if stored.named or stored.parents else _NAMES_NOTHING

    def _cost(self, key: Key) -> Pico:
        change = self._changes.add.get(key)
        return self._known(key).cost + (change.cost if change else 0)

    def _add(self, key: Key, sums: Sums, labels: Mapping[str, str] = _NONE) -> None:
        """Add `sums`, which from now on are the change's."""
        change = self._changes.add.get(key)
        if change is None:
            change = self._changes.add[key] = sums
        else:
            change.add(sums)
        for name, text in labels.items():
            change.labels.setdefault(name, text)

    def _known(self, key: Key) -> Sums:
        total = self._stored.get(key)
        if total is None:
            total = self._stored[key] = self._reader.sums(key)
        return total


class GroupedCalls(NamedTuple):
    """Calls of one session that are posted alike, by columns; the one that ended last, and what they used by the label
    of their models.
    """

    starts: Sequence[int]
    ends: Sequence[int]
    inputs: Sequence[int]
    costs: Sequence[Pico]
    latest: Latest
    used: Mapping[str, ModelUse]


@dataclass(slots=True)
class _Notes:
    """The facts of one session's spans, gathered until all of them are known."""

    turns: int = 0
    failed: int = 0
    denied: int = 0
    loops: int = 0
    latest: Latest | None = None
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    sizes: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    """Starts, and the input tokens of each."""
    costs: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    """Starts, and the cost of each."""
    dimensions: set[tuple[str, ...]] = field(default_factory=set)
    instances: set[str] = field(default_factory=set)
    used: list[tuple[str, ModelUse]] = field(default_factory=list)

    def take(self, span: Span, posting: Posting, added: Added, sign: int, trace_id: bytes) -> None:
        """Gather the facts of one span, of which `added` goes to its totals."""
        detail = span.detail
        self.turns += sign * posting.turn
        self.failed += sign * span.fails
        if not span.again:
            self.denied += sign * detail.denied
        self.loops += sign * span.loops
        claim = span.claim if posting.role == COUNTED else None
        if claim is not None and not claim.cached:
            counts = claim.spend.counts
            self.used.append((claim.label, (sign, *(counts if sign > 0 else [-count for count in counts]))))
        if claim is not None and claim.amount:
            _put(self.costs, span.spent_ns, sign * claim.amount)
        elif detail.fee and not span.again:
            _put(self.costs, span.spent_ns, sign * detail.fee)
        if sign < 0:
            return
        start_ns, end_ns = added.first_ns, added.last_ns
        latest = end_ns, trace_id, span.span_id
        if self.latest is None or latest > self.latest:
            self.latest = latest
        if span.kind in CONTAINERS:
            self.starts += start_ns, end_ns
            self.ends += start_ns, end_ns
        else:
            self.starts.append(start_ns)
            self.ends.append(end_ns)
        if span.kind == "llm" and (size := span.context):
            _put(self.sizes, start_ns, size)
        self._say(span)

    def take_group(self, span: Span, posting: Posting, calls: GroupedCalls) -> None:
        """Gather the facts of several calls that differ from that of `span` in these values alone."""
        detail, number = span.detail, len(calls.starts)
        self.turns += number * posting.turn
        self.failed += number * span.fails
        self.denied += number * detail.denied
        self.starts += calls.starts
        self.ends += calls.ends
        if span.is_model_call:
            _put_all(self.sizes, calls.starts, calls.inputs)
        _put_all(self.costs, calls.starts, calls.costs)
        self.used += calls.used.items()
        if self.latest is None or calls.latest > self.latest:
            self.latest = calls.latest
        self._say(span)

    def _say(self, span: Span) -> None:
        if span.detail.dimensions:
            self.dimensions.add(span.detail.dimensions)
        if span.instance:
            self.instances.add(bounded_id(span.instance))

    def facts(self) -> Facts:
        """Return all of it."""
        facts = Facts(self.turns, self.failed, self.denied, loops=self.loops, latest=self.latest)
        facts.act(self.starts, self.ends)
        facts.grow(*self.sizes)
        facts.spend(*self.costs)
        for model, use in self.used:
            facts.use(model, use)
        for dimensions in self.dimensions:
            for name, value in in_pairs(dimensions):
                facts.say(name, value)
        if self.instances:
            facts.say("instance", *self.instances)
        return facts


def _put(columns: tuple[list[int], list[int]], start_ns: int, value: int) -> None:
    """Put a value and the start of its call into columns of them."""
    starts, values = columns
    starts.append(start_ns)
    values.append(value)


def _put_all(columns: tuple[list[int], list[int]], starts_ns: Sequence[int], each: Sequence[int]) -> None:
    """Put values, less those that are 0, and the starts of their calls into columns of them."""
    starts, values = columns
    if 0 in each:
        starts_ns, each = [*compress(starts_ns, each)], [*filter(None, each)]
    starts += starts_ns
    values += each


def _facts_of(sums: Sums) -> Facts:
    sums.facts = sums.facts or Facts()
    return sums.facts


def _enter_outcome(sums: Sums, span: Span, number: int) -> None:
    """Add to the facts of an agent or a tool what so many spans like `span` tell; negative: take it out again."""
    detail = span.detail
    if not (span.fails or detail.denied or span.loops):
        return  # nearly always
    facts = _facts_of(sums)
    if span.fails:
        facts.failed += number
    if detail.denied and not span.again:
        facts.denied += number
    facts.loops += number * span.loops


_Key = TypeVar("_Key")


def _of(sums: dict[_Key, Sums], key: _Key) -> Sums:
    total = sums.get(key)
    if total is None:
        total = sums[key] = Sums()
    return total


def _enter(totals: dict[_Key, Sums], key: _Key, sums: Sums) -> None:
    """Add `sums`, which belong to `totals` from then on."""
    total = totals.setdefault(key, sums)
    if total is not sums:
        total.add(sums)


def _own_cost(sums: Sums) -> Pico:
    return sums.cost - (sums.elsewhere.cost if sums.elsewhere is not None else 0)
