"""Time of `Pricer.cost`: names already seen, new names, and genai-prices' own arithmetic beside them.

python benchmarks/rooms/pricing.py
"""

from __future__ import annotations

import itertools
import time
import timeit
from collections.abc import Callable
from datetime import UTC, datetime

import genai_prices

from spanledger_processor.model import Call, Usage
from spanledger_processor.pricing import Pricer

AT = int(datetime(2026, 11, 3, 12, tzinfo=UTC).timestamp()) * 10**9
USAGE = Usage(100_000, 2_000, 80_000, 10_000, 4_000, 500)


def microseconds(work: Callable[[], object], number: int) -> float:
    """CPU time of one call, the best of five rounds."""
    return min(timeit.repeat(work, number=number, repeat=5, timer=time.process_time)) / number * 1e6


def main() -> None:
    """Print one line a case."""
    pricer = Pricer()
    tiered = Call("otel", "llm", provider="anthropic", request_model="claude-sonnet-4-5", usage=USAGE)
    flat = Call("otel", "llm", provider="openai", request_model="gpt-4o-mini", usage=Usage(1_000, 100, 0))
    unknown = Call("otel", "llm", provider="openrouter", request_model="nobody/knows", usage=USAGE)
    numbers = itertools.count()

    def new_name() -> None:
        name = f"nobody/knows-{next(numbers)}"
        pricer.cost(Call("otel", "llm", provider="openrouter", request_model=name, usage=USAGE), AT)

    def reference() -> None:
        usage = genai_prices.Usage(input_tokens=100_000, output_tokens=2_000, cache_read_tokens=80_000)
        genai_prices.calc_price(usage, "claude-sonnet-4-5", provider_id="anthropic")

    cases: list[tuple[str, Callable[[], object], int]] = [
        ("seen: tiers, caches", lambda: pricer.cost(tiered, AT), 100_000),
        ("seen: flat", lambda: pricer.cost(flat, AT), 100_000),
        ("seen: unknown model", lambda: pricer.cost(unknown, AT), 100_000),
        ("new: unknown model, longest list", new_name, 500),
        ("genai-prices calc_price", reference, 500),
    ]
    for name, work, number in cases:
        print(f"{name:<34}{microseconds(work, number):8.2f} us")


if __name__ == "__main__":
    main()
