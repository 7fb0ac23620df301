"""What changed in a workspace since the last look, as records: every token once (facts 1.8, in that order)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from spanledger_sidecar.records import Record
from spanledger_sidecar.sources.mux import build
from spanledger_sidecar.sources.mux.build import Timing
from spanledger_sidecar.sources.mux.chat import Row
from spanledger_sidecar.sources.mux.children import Owed, roll_up
from spanledger_sidecar.sources.mux.parts import Part, share
from spanledger_sidecar.sources.mux.state import Ledger, Workspace
from spanledger_sidecar.sources.mux.usage_file import Bucket, Turn, UsageFile
from spanledger_sidecar.tokens import ZERO, Five, missing, settled, taken


class Family(Protocol):
    """The other workspaces, and which of them each row belongs to."""

    def owner(self, claim: bytes) -> str | None: ...

    def take(self, claim: bytes, workspace: str) -> None: ...

    def workspace(self, workspace: str) -> Workspace: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """`since_ms`: what ended before is old (0: nothing is). `settle_ms`: how long a finer row is waited for."""

    since_ms: int = 0
    now_ms: int = 0
    settle_ms: int = 0


@dataclass(slots=True)
class Files:
    """The files of one workspace as they were read, the usage file before the chat files.

    `usage` is None where there is none to read, or nothing about it changed what is known; `written_ms` is when it
    was written. `rows` are all that stand in the finer files. `chat` is true where there are finer files. `began_ms` is
    the earliest time known of the workspace (0: none). `first` marks one that was not known before, `arrived` one that
    appeared in a home that was watched already.
    """

    usage: UsageFile | None = None
    written_ms: int = 0
    rows: list[Row] = field(default_factory=list)
    chat: bool = False
    timing: Timing | None = None
    began_ms: int = 0
    first: bool = False
    arrived: bool = False


@dataclass(slots=True)
class Outcome:
    """Records to emit, in order; when to look again for what is held back (ms since 1970, 0: never)."""

    records: list[Record] = field(default_factory=list)
    again_ms: int = 0
    rebaselined: bool = False


def explain(workspace: Workspace, files: Files, rules: Rules, family: Family) -> Outcome:
    """Bring `workspace` up to `files`, and say what is to be emitted for that."""
    return _Explanation(workspace, files, rules, family).run()


class _Explanation:
    def __init__(self, workspace: Workspace, files: Files, rules: Rules, family: Family) -> None:
        self.workspace = workspace
        self.files = files
        self.usage = files.usage
        self.rules = rules
        self.family = family
        self.outcome = Outcome()
        self.stand: dict[str, Five] = defaultdict(lambda: ZERO)
        self.copied: dict[str, Five] = defaultdict(lambda: ZERO)
        self.rows = self._new_rows()
        self.parts: dict[str, list[Part]] = defaultdict(list)
        self.owed: list[Owed] = []
        self.before: dict[str, Five] = {}
        self.without_span: set[bytes] = set()
        self.last: Turn | None = self.usage.last if self.usage else None

    def run(self) -> Outcome:
        old = self.files.first and self._is_old()
        rebuilt = self._rebuilt()
        self._look_at_file()
        if old:
            self._leave_out()
        elif rebuilt:
            self._rebaseline()
        else:
            self._start_fork()
            self._roll_up()
        self._add_rows(included=old or rebuilt)
        self._add_file_only(old=old, rebuilt=rebuilt)
        self._emit()
        self._remember(settled_all=old or rebuilt)
        return self.outcome

    def _new_rows(self) -> list[Row]:
        """Rows that no workspace has taken yet; sums up all of the chat, and those that another has (a fork's)."""
        rows: list[Row] = []
        distinct = {row.claim: row for row in self.files.rows}
        for row in sorted(distinct.values(), key=lambda row: row.end_ms):
            owner = self.family.owner(row.claim)
            if row.in_chat:
                self.stand[row.key] = self.stand[row.key].plus(row.tokens)
            if owner is None:
                rows.append(row)
            elif owner != self.workspace.id:
                self.copied[row.key] = self.copied[row.key].plus(row.tokens)
        return rows

    def _is_old(self) -> bool:
        """Whether it is from before the first run, so that only what is dated later is new."""
        since_ms = self.rules.since_ms
        dated = [row.end_ms for row in self.rows if row.end_ms]
        if self.last is not None:
            dated.append(self.last.end_ms)
        if dated and min(dated) < since_ms:
            return True
        return bool(since_ms) and not self.files.arrived and self.files.began_ms < since_ms

    def _rebuilt(self) -> bool:
        """Whether Mux made the file anew, so that its sums begin again (facts 1.7)."""
        if self.usage is None or not self.workspace.seen_file:
            return False
        if any(child not in self.usage.children for child in self.workspace.rolled):
            return True
        models = self.usage.models
        return self._holds_copies() or any(
            _begun_again(ledger.file, models.get(key, Bucket())) for key, ledger in self.workspace.models.items()
        )

    def _holds_copies(self) -> bool:
        """A fork's file that was made anew from its chat: it has gained the rows that were copied as well."""
        assert self.usage is not None
        if not self.copied:
            return False
        more = False
        for key, bucket in self.usage.models.items():
            if not self._same(bucket.tokens, self._told(key)):
                return False
            more |= not self._own(key).holds(missing(bucket.tokens, self.workspace.ledger(key).file))
        return more

    def _told(self, key: str) -> Five:
        """What a file made anew has of a model: all of the chat, and what came since outside of it."""
        outside = _sum(row.tokens for row in self.rows if row.key == key and not row.in_chat)
        return self.stand[key].plus(outside)

    def _own(self, key: str) -> Five:
        """What new rows of its own tell of a model."""
        return _sum(row.tokens for row in self.rows if row.key == key)

    @staticmethod
    def _same(one: Five, other: Five) -> bool:
        return (one.inputs, one.outputs) == (other.inputs, other.outputs)

    def _look_at_file(self) -> None:
        for key, bucket in self.usage.models.items() if self.usage else ():
            ledger = self.workspace.ledger(key)
            self.before[key] = ledger.file.at_most(ledger.covered)
            ledger.file, ledger.cost, ledger.complete = bucket.tokens, bucket.cost, bucket.complete

    def _leave_out(self) -> None:
        """All that is there counts as known; what a row tells of it later takes from there."""
        since_ms = self.rules.since_ms
        old = [row for row in self.rows if row.end_ms < since_ms]
        told: dict[str, Five] = defaultdict(lambda: ZERO)
        for row in self.rows:
            if row.end_ms < since_ms or self._in_file(row):
                told[row.key] = told[row.key].plus(row.tokens)
        for key in set(told) | set(self.usage.models if self.usage else ()):
            ledger = self.workspace.ledger(key)
            ledger.covered = ledger.file.at_least(told[key])
            ledger.loose = missing(ledger.file, told[key])
        if self.usage is not None:
            self.workspace.rolled = list(self.usage.children)
        for row in old:
            self.family.take(row.claim, self.workspace.id)
            self.workspace.has_rows |= bool(row.tokens.total)
        self.rows = self.rows[len(old) :]

    def _rebaseline(self) -> None:
        assert self.usage is not None
        workspace = self.workspace
        self.outcome.rebaselined = True
        workspace.rebaselines += 1
        workspace.models = {key: workspace.models[key] for key in self.usage.models}
        for key, ledger in workspace.models.items():
            ledger.covered = ledger.file
            ledger.loose = missing(ledger.file, self._told(key))
            ledger.paid = ZERO
            self.before[key] = ZERO
        workspace.rolled = list(self.usage.children)

    def _start_fork(self) -> None:
        """A fork starts from nothing; one by an old version starts with a copy of the file, as its rows show."""
        if not self.files.first or self.usage is None or not self.copied:
            return
        ledger = self.workspace.ledger
        if all(ledger(key).file.holds(there.plus(self._own(key))) for key, there in self.copied.items()):
            for key, there in self.copied.items():
                self.workspace.ledger(key).covered = there
                self.before[key] = there

    def _roll_up(self) -> None:
        workspace = self.workspace
        for name, entry in self.usage.children.items() if self.usage else ():
            if name in workspace.rolled or name == workspace.id:
                continue
            gained = {key: missing(ledger.file, ledger.covered) for key, ledger in workspace.models.items()}
            child = self.family.workspace(name)
            owed = roll_up(workspace, child, entry, gained)
            if owed is not None and not (owed.unbounded and self.files.first):
                self.owed.append(owed)
            for key in gained:
                ledger = workspace.ledger(key)
                self.before[key] = self.before.get(key, ZERO).plus(
                    missing(gained[key], missing(ledger.file, ledger.covered))
                )
            workspace.rolled.append(name)

    def _add_rows(self, *, included: bool) -> None:
        self.rows = [row for row in self.rows if not self._too_early(row)]
        for row in self.rows:
            self.family.take(row.claim, self.workspace.id)
            if row.tokens.total and not self._known(row):
                self._add(self._part(row, included=included and self._in_file(row)))
            else:
                self.without_span.add(row.span_id)
            self.workspace.has_rows |= bool(row.tokens.total)

    def _too_early(self, row: Row) -> bool:
        """Whether the usage file, which follows the chat file in a moment, has yet to tell what the row cost."""
        due_ms = row.end_ms + self.rules.settle_ms
        if self.usage is None or self._in_file(row) or self.rules.now_ms >= due_ms:
            return False
        self.outcome.again_ms = max(self.outcome.again_ms, due_ms)
        return True

    def _in_file(self, row: Row) -> bool:
        """Whether the usage file was written after the row's end."""
        return self.usage is None or self.files.written_ms >= row.end_ms

    def _known(self, row: Row) -> bool:
        """Whether the row's usage was emitted before, as a part of what only the usage file showed then."""
        ledger = self.workspace.ledger(row.key)
        if missing(ledger.file, ledger.covered).holds(row.tokens) or not ledger.loose.holds(row.tokens):
            return False
        if not self._in_file(row):
            return False
        ledger.loose = ledger.loose.minus(taken(ledger.loose, row.tokens))
        return True

    def _part(self, row: Row, *, included: bool) -> Part:
        part = Part(self.workspace, row.key, row.tokens, row)
        if not included:
            part.exact = self._exact(row)
            part.tokens = part.exact.bucket.tokens if part.exact is not None else row.tokens
            ledger = self.workspace.ledger(row.key)
            ledger.covered = ledger.covered.plus(part.tokens)
        return part

    def _exact(self, row: Row) -> Turn | None:
        """The last request, if it is this row: it has the classes and the cost that a row may lack. Used once."""
        last = self.last
        if last is None or last.key != row.key or not -1000 <= last.end_ms - row.end_ms <= 60_000:
            return None
        if not self._same(last.bucket.tokens, row.tokens):
            return None
        self.last = None
        return last

    def _add(self, part: Part) -> None:
        self.parts[part.key].append(part)

    def _add_file_only(self, *, old: bool, rebuilt: bool) -> None:
        """What only the usage file shows: the last request where nothing finer is there, and what is left over."""
        if self.usage is None or rebuilt:
            return
        hold = self.files.chat and not old and self.rules.now_ms < self.files.written_ms + self.rules.settle_ms
        if old:
            self._add_last_request(old=True)
            return
        if not hold:
            self._add_last_request(old=False)
        for key in self.usage.models:
            self._add_left_over(key, hold=hold)

    def _add_last_request(self, *, old: bool) -> None:
        last, workspace = self.last, self.workspace
        if last is None or workspace.has_rows or last.key not in workspace.models:
            return
        if last.end_ms <= workspace.last_request_ms or (old and last.end_ms < self.rules.since_ms):
            return
        ledger = workspace.ledger(last.key)
        there = ledger.file if old else missing(ledger.file, ledger.covered)
        if not last.bucket.tokens.total or not there.holds(last.bucket.tokens):
            return
        self._add(Part(workspace, last.key, last.bucket.tokens, exact=last))
        if not old:
            ledger.covered = ledger.covered.plus(last.bucket.tokens)
            ledger.loose = ledger.loose.plus(last.bucket.tokens)

    def _add_left_over(self, key: str, *, hold: bool) -> None:
        ledger = self.workspace.ledger(key)
        left = missing(ledger.file, ledger.covered)
        for owed in sorted(self.owed, key=lambda owed: owed.first_key != key):
            part = owed.take(left)
            if part.total:
                left = missing(left, part)
                ledger.covered = ledger.covered.plus(part)
                self._credit(owed.child.ledger(key), part)
                self._add(Part(owed.child, key, part))
        if not left.total:
            ledger.covered = settled(ledger.file, ledger.covered)
        elif hold:
            self.outcome.again_ms = self.files.written_ms + self.rules.settle_ms
        else:
            ledger.covered = settled(ledger.file, ledger.covered.plus(left))
            ledger.loose = ledger.loose.plus(left)
            self._add(Part(self.workspace, key, left))

    @staticmethod
    def _credit(ledger: Ledger, part: Five) -> None:
        ledger.file, ledger.covered, ledger.loose = (
            ledger.file.plus(part),
            ledger.covered.plus(part),
            ledger.loose.plus(part),
        )

    def _emit(self) -> None:
        records = self.outcome.records
        for key, bucket in self.usage.models.items() if self.usage else ():
            share(self.parts.get(key, ()), self.workspace.ledger(key), bucket, self.before.get(key, ZERO))
        for key, parts in self.parts.items():
            for part in parts:
                records.append(self._record(part, self._bucket(key)))
        for row in self.rows:
            for tool in row.tools:
                records.append(build.tool(self.workspace, tool, self.without_span))

    def _bucket(self, key: str) -> Bucket:
        return (self.usage.models.get(key) if self.usage else None) or Bucket()

    def _record(self, part: Part, bucket: Bucket) -> Record:
        if part.row is not None:
            if part.cost is None and part.row.cost is not None:
                part.cost, part.charged = part.row.cost, True
            return build.turn(part, part.row)
        since_ms = self.workspace.changed_ms or self.files.began_ms
        if part.exact is not None:
            return build.last_request(part, part.exact, since_ms, self.files.timing)
        if part.owner is not self.workspace:
            child = part.owner.ledger(part.key)
            child.cost = child.paid = child.cost.plus(Five(part.cost or 0))
            child.complete = child.complete and part.cost is not None
            return build.aggregate(part, bucket, (since_ms, self.files.written_ms), build.CHILD)
        note = build.REMAINDER if self.workspace.has_rows else build.AGGREGATE
        return build.aggregate(part, bucket, (since_ms, self._end_ms(part.key)), note)

    def _end_ms(self, key: str) -> int:
        """When usage that only totals show ended: with the model's last request if that is new, else with the file."""
        last = self.usage.last if self.usage else None
        if last is not None and last.key == key and last.end_ms > self.workspace.last_request_ms:
            return last.end_ms
        return self.files.written_ms

    def _remember(self, *, settled_all: bool) -> None:
        workspace = self.workspace
        if self.usage is None:
            return
        if self.usage.last is not None and (settled_all or not self.outcome.again_ms):
            workspace.last_request_ms = self.usage.last.end_ms
        workspace.seen_file = True
        if settled_all:
            for ledger in workspace.models.values():
                ledger.paid = ledger.cost
        if self.outcome.records or settled_all or not workspace.changed_ms:
            workspace.changed_ms = self.files.written_ms


def _sum(amounts: Iterable[Five]) -> Five:
    total = ZERO
    for amount in amounts:
        total = total.plus(amount)
    return total


def _begun_again(before: Five, bucket: Bucket) -> bool:
    """Whether a model's bucket lost anything, or says that it holds one request where there were others."""
    if any(now < then for now, then in zip(bucket.tokens, before, strict=True)):
        return True
    return bool(bucket.named) and before.total > 0 and bucket.tokens != before
