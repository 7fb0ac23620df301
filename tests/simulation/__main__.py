"""Run seeds: `make simulate SEEDS=1-500`, or `python -m tests.simulation 17 --verbose` for the chronicle of one."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.world import Run, simulate


def main() -> None:
    """Run the seeds that are named, and say which found something; exit 1 where one did."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seeds", help="a number, or first-last")
    parser.add_argument("--verbose", action="store_true", help="print the chronicle of every run")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    failed = 0
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for run in pool.map(simulate, seeds):
            if arguments.verbose:
                print(*run.log, sep="\n")
            if run.findings:
                failed += 1
                print(report(run), flush=True)
    print(f"{failed} of {len(seeds)} runs found something" if failed else f"{len(seeds)} runs found nothing")
    sys.exit(1 if failed else 0)


def report(run: Run) -> str:
    """Return what a run found, with all that it takes to run it again."""
    return "\n".join(
        [
            f"seed {run.seed} at commit {_commit()}: make simulate SEEDS={run.seed}",
            *(f"  {finding}" for finding in run.findings[:10]),
            f"  {len(run.findings)} findings in {', '.join(run.sources)}",
            f"  {run.options}",
        ]
    )


def _commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
