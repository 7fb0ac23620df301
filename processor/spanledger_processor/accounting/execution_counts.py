"""What a report of a tool's execution adds to its session, and how often the session had made the call by then."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from spanledger_processor.accounting.facts import LoopRule
from spanledger_processor.accounting.trace import Span


class Counted(NamedTuple):
    """The part of an execution that one report of it adds to its session: `again` where another report adds the call,
    `failed_before` where another one is counted for a failure, `asked_before` where an earlier release counted it with
    the model's span that asks for it, in another trace; how many more loops there are; and `failed_elsewhere` where it
    is counted for a failure that another one tells.
    """

    again: bool = False
    failed_before: bool = False
    asked_before: bool = False
    loops: int = 0
    failed_elsewhere: bool = False

    @classmethod
    def of(cls, span: Span) -> Counted:
        """Return what a span adds."""
        return cls(span.again, span.failed_before, span.asked_before, span.loops, span.failed_elsewhere)

    def give(self, span: Span) -> None:
        """Let a span add this, or take it out."""
        span.again, span.failed_before, span.asked_before, span.loops, span.failed_elsewhere = self


class ToolRepeats(Struct, frozen=True):
    """The counts at one report of a tool execution: its session made the same call `times`, `in_a_row` of them last.

    `stuck` of them came to nothing new: with one result, or with none that is known, within the window, and without a
    call of the session between them that came to another result than before. `again`: another report reported this
    execution before. `completes` is whether it is the last of so many calls in a row, or in turn, that came to nothing
    new, among those of the session that began before it; `shift` is how many more of the calls that began after it, and
    had come before, complete a loop now that it is known (fewer, if negative).
    """

    times: int
    in_a_row: int
    stuck: int
    again: bool
    completes: bool = False
    shift: int = 0

    def is_loop(self, rule: LoopRule) -> bool:
        """Return whether the call completes a loop."""
        return self.completes or self.is_repeated(rule)

    def is_repeated(self, rule: LoopRule) -> bool:
        """Return whether the call was made too often, whatever came between."""
        return 0 < rule.repeats <= self.stuck
