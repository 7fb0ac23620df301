"""Measure the ledger process of `serve --workers` alone, with all the work that it can take.

    python -m benchmarks.ledger_process [--load 100] [--spans 512] [--requests 240]

Two workers' ends of its link hand it what was read before, each with four batches under way, which is half of the load
of `python -m benchmarks`: so they wait for the ledger together, as where workers have cores enough. Printed is the CPU
time of the process a span, and of it that of each thread (the ledger's, the event loop's), from /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.stage import _requests
from benchmarks.systems import _OF_THIS_TREE, _serve, interpreter
from spanledger_processor.accounting.facts import Batch
from spanledger_processor.config import load as load_config
from spanledger_processor.server.ledger_link import RemoteLedger
from spanledger_processor.server.wiring import make_stage
from spanledger_processor.signing import Signer

_WORKERS, _UNDER_WAY = 2, 4
_WARM = 24
"""Requests before what is measured."""


async def _account(path: str, batches: Iterator[Batch]) -> None:
    """Have all batches accounted for."""
    ledgers = [RemoteLedger(path, dict) for _ in range(_WORKERS)]

    async def sender(ledger: RemoteLedger) -> None:
        for batch in batches:
            await ledger.account(batch)

    for ledger in ledgers:
        await ledger.start()
    await asyncio.gather(*(sender(ledger) for ledger in ledgers for _ in range(_UNDER_WAY)))
    for ledger in ledgers:
        await ledger.close()


def _cpu_s(process: int) -> dict[str, float]:
    """Return the CPU seconds of each thread."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return {thread.name: int((thread / "schedstat").read_text().split()[0]) / 1e9 for thread in threads}


def main() -> None:
    """Read the options and print one line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger_process", description=__doc__)
    parser.add_argument("--load", default="100", help="percentage of GenAI spans")
    parser.add_argument("--spans", type=int, default=512, help="spans a request")
    parser.add_argument("--requests", type=int, default=240)
    options = parser.parse_args()
    stage = make_stage(load_config(None), Signer(b"the key of this benchmark, long."))
    requests = _requests(_WARM + options.requests, options.load, options.spans)
    batches = [batch for body, _ in requests for batch in stage.read(body, {}, time.time_ns()).batches]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/ledger"
        ready, its_end = os.pipe()
        command = [*_serve(Path(folder), "spanledger.yaml", {}), "--link", path, "--part", "ledger"]
        process = subprocess.Popen(
            [*command, "--ready-fd", str(its_end)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": _OF_THIS_TREE},
            stdin=subprocess.PIPE,
            pass_fds=(its_end,),
        )
        os.close(its_end)
        os.read(ready, 1)
        asyncio.run(_account(path, iter(batches[:_WARM])))
        before = _cpu_s(process.pid)
        asyncio.run(_account(path, iter(batches[_WARM:])))
        spent = _cpu_s(process.pid)
        process.terminate()
        process.wait()
    spans = options.requests * options.spans
    each = sorted(
        (1e6 * (seconds - before.get(thread, 0.0)) / spans for thread, seconds in spent.items()), reverse=True
    )
    of_threads = ", ".join(f"{one:.1f}" for one in reversed(each) if one > 0.05)
    print(f"{interpreter()}: {sum(each):.1f} us CPU a span, by thread {of_threads}")


if __name__ == "__main__":
    main()
