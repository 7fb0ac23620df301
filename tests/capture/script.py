"""What the scripted model answers: a plan by the number of the call, and numbers that no two calls share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CACHED = (0, 768, 896, 1024, 1152, 1280)
REASONING = (12, 16, 8, 12, 16, 12)
CACHE_WRITES = ((316, 0), (0, 0), (348, 104), (0, 0), (380, 0), (0, 128))
"""Anthropic: tokens written to the cache for five minutes, and for an hour."""

SAME, OTHER = {"city": "alpha", "days": 7}, {"city": "beta", "days": 8}
TOOL_CALLS = (SAME, SAME, SAME, OTHER)
"""The tool is called three times with the same arguments, once with others; then the model is done."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Tokens of the n-th call (from 0), each counted in one class only."""

    number: int

    @property
    def plain(self) -> int:
        return 237 + 37 * self.number

    @property
    def cached(self) -> int:
        return CACHED[self.number % len(CACHED)]

    @property
    def output(self) -> int:
        return 51 + 11 * self.number

    @property
    def reasoning(self) -> int:
        return REASONING[self.number % len(REASONING)]

    @property
    def writes(self) -> tuple[int, int]:
        return CACHE_WRITES[self.number % len(CACHE_WRITES)]


def wanted_tool(number: int, tools: list[str]) -> tuple[str, dict[str, Any]] | None:
    """The tool that the n-th answer calls, of those offered; None where it is a text.

    Agents that end by calling a tool of their own (`final_answer`) get that call at the end.
    """
    ending = next((name for name in tools if name in ("final_answer", "finish")), None)
    work = [name for name in tools if name != ending]
    if work and number < len(TOOL_CALLS):
        return work[0], TOOL_CALLS[number]
    return (ending, {"answer": "done"}) if ending else None
