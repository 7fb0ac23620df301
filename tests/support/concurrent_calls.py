"""Really different calls at the same time, told by one of two libraries each, in a trace of its own and without ids.

What is merged of them is merged falsely: `false_merges` accounts for them and counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from ledger_in_memory import NOW, TENANT
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import ORIGIN, Batch, Evidence, Fact
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.queries import total
from spanledger_processor.model import Call, Cost, Usage

SECOND = 10**9
LIBRARIES = ("opentelemetry.instrumentation.openai_v2", "openinference.instrumentation.openai")
IN_REQUEST = 50

Counts = Literal["realistic", "classifier", "equal", "cached"]


@dataclass(frozen=True)
class Scenario:
    """`calls` in `seconds`, over `services`, each call of 0.5 s to 3 s.

    `counts`: "realistic" has prompts around 1,500 tokens and answers around 150, log-normal; "classifier" one prompt
    length for all within 20 tokens, and answers of one to nine; "equal" the very same counts for every call, 502 and
    77; "cached" four tokens of input beside a cache of Anthropic's, which the second library leaves out, and such
    answers as "realistic". `sessions` is whether each call names one of its own.
    """

    counts: Counts
    services: int = 1
    sessions: bool = False
    calls: int = 10_000
    seconds: int = 3600
    seed: int = 7


def false_merges(scenario: Scenario) -> int:
    """Account for all calls of a scenario in order of their ends; how many were taken for another one."""
    store = MemoryStore()
    facts = sorted(_calls(scenario), key=lambda fact: fact.end_ns)
    for first in range(0, len(facts), IN_REQUEST):
        batch = Batch(TENANT, facts[first : first + IN_REQUEST], NOW)
        with store.unit() as unit:
            unit.apply(enter(batch, unit).changes, NOW)
    with store.snapshot() as reader:
        return scenario.calls - int(total(reader, TENANT)["calls"])


def _calls(scenario: Scenario) -> Iterator[Fact]:
    random = Random(scenario.seed)
    for number in range(scenario.calls):
        start = NOW - scenario.seconds * SECOND + random.randrange(scenario.seconds * SECOND)
        end = start + random.randrange(SECOND // 2, 3 * SECOND)
        name = number.to_bytes(8, "big")
        fact = Fact(name * 2, name, b"", start, end, random.choice(LIBRARIES))
        if scenario.sessions:
            fact.session = Named(f"s{number}", "attribute")
        service = f"service {random.randrange(scenario.services)}".encode()
        fact.evidence = Evidence(origin=tuple(service if what == "service" else b"" for what in ORIGIN))
        given, output = _counts(scenario.counts, random)
        fact.call = Call("otel", "llm", provider="openai", request_model="gpt-4o-mini", usage=Usage(given, output))
        if scenario.counts == "cached":
            fact.call.provider, fact.call.request_model = "anthropic", "claude-sonnet-4-5"
            if fact.scope == LIBRARIES[0]:
                read = int(random.lognormvariate(9.0, 0.8))
                fact.call.usage = Usage(given + read, output, cache_read=read, cache_write=0)
        fact.cost = Cost(given, "computed", given, input=given, price="p")
        yield fact


def _counts(counts: Counts, random: Random) -> tuple[int, int]:
    if counts == "realistic":
        return int(random.lognormvariate(7.3, 0.8)), int(random.lognormvariate(5.0, 0.9)) + 1
    if counts == "classifier":
        return random.randrange(800, 820), random.randrange(1, 10)
    return (4, int(random.lognormvariate(5.0, 0.9)) + 1) if counts == "cached" else (502, 77)
