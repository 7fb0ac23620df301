"""How many of 10,000 really different concurrent calls are taken for one another, by counts, services and sessions.

PYTHONPATH=tests/support python benchmarks/rooms/false_merges.py
"""

from __future__ import annotations

from itertools import product

from concurrent_calls import Counts, Scenario, false_merges

COUNTS: tuple[Counts, ...] = ("realistic", "classifier", "equal", "cached")


def main() -> None:
    """Print one line for each scenario."""
    print(f"{'counts':12}{'services':>9}{'sessions':>9}{'calls/min':>10}{'merged':>8}{'share':>8}")
    for counts, services, sessions, seconds in product(COUNTS, (1, 2, 5), (False, True), (3600, 600)):
        merged = false_merges(scenario := Scenario(counts, services, sessions=sessions, seconds=seconds))
        rate = scenario.calls * 60 // seconds
        print(f"{counts:12}{services:9}{sessions!s:>9}{rate:10}{merged:8}{merged / scenario.calls:8.2%}", flush=True)


if __name__ == "__main__":
    main()
