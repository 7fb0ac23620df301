"""Measure the way from a request's bytes to its enriched bytes over a ledger on disk, in one process.

    python -m benchmarks.stage [--sessions 0 100000 1000000] [--spans 512] [--load 100] [--calls]

For each number of `--sessions` a ledger is filled as `serve` would (`benchmarks.large_ledger`: ten minutes a million);
or a copy is taken of the one in the folder of `--filled`, its pages in memory one by one as LMDB reads them (`--cold`:
none of them). Then `--requests` requests are read, accounted for in commits
of `--per-commit`, and written out. Reported are the medians of five rounds: CPU time a span by step, spans per second
of CPU, KiB a span that were given to the kernel to write, and the process's memory without the ledger's mapped pages.
(What `write_bytes` of /proc counts is more: of a file that was just copied the kernel keeps up to hundreds of pages as
one, and counts all of them where one is written.) No two calls have the same number of tokens; every second request is
of sessions that were never seen before. `--load recorded` sends what agents' libraries send (`spans.Recorded`), after
each of its requests came once. `--calls` counts Python calls a span instead, `--profile` prints where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import mmap
import os
import pstats
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from benchmarks import large_ledger
from benchmarks import spans as load
from spanledger_processor.config import load as load_config
from spanledger_processor.enrichment import Stage, write
from spanledger_processor.ledger.environment import DATA, FOLDER
from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.store import Table, tenant_hash
from spanledger_processor.ledger.writer import count_joint, outcomes
from spanledger_processor.server.ledger_link import BatchWork
from spanledger_processor.server.wiring import make_stage
from spanledger_processor.signing import Signer

_ROUNDS = 5
_WARM = 8
"""Requests before the first round."""
_TEMPLATES = 32
RECORDED = "recorded"
_HOUR_NS = 3600 * 10**9
_STEPS = ("read", "account", "commit", "write")


def _written_bytes() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


def _forget_pages(file: Path, *, cold: bool) -> None:
    """Put a file that was copied on the disk and out of memory; unless `cold`, read its pages again, one by one."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as pages:
            pages.madvise(mmap.MADV_RANDOM)
            for at in range(0, 0 if cold else len(pages), mmap.PAGESIZE):
                _ = pages[at]


def _memory_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def _requests(wanted: int, what: str, spans: int) -> list[tuple[bytes, int]]:
    """Return requests with the numbers of their spans."""
    if what == RECORDED:
        templates = [load.Recorded(seed, spans) for seed in range(_TEMPLATES)]
        return [
            (template.renewed(number), template.spans)
            for number in range(wanted)
            for template in [templates[number % _TEMPLATES]]
        ]
    requests = []
    for number in range(wanted):
        body = load.Template(int(what), number, spans).renewed(number)
        fresh = b"session-%06d" % (number + 1) if number % 2 else b"session-000000"
        requests.append((body.replace(b"session-000000", fresh), spans))
    return requests


class _Bench:
    """One ledger, and the steps of the way over it."""

    def __init__(self, folder: Path, stage: Stage, per_commit: int) -> None:
        self._folder = folder
        self.store = self._open()
        self._stage = stage
        self._per_commit = per_commit

    def _open(self) -> LmdbStore:
        return LmdbStore.open(self._folder, max_size_mib=16_384, durability="sync", retention_ns=48 * _HOUR_NS)

    def run(self, requests: list[tuple[bytes, int]], spent: dict[str, float]) -> int:
        """Take all requests through, `per_commit` to a commit; add CPU seconds to `spent` by step.

        Returns how many spans they held.
        """
        clock = time.process_time
        for first in range(0, len(requests), self._per_commit):
            began = clock()
            now = requests[first : first + self._per_commit]
            readings = [self._stage.read(body, {}, time.time_ns()) for body, _ in now]
            read = clock()
            spent["read"] += read - began
            works = [BatchWork(batch) for reading in readings for batch in reading.batches]
            rulings: list[Any] = []
            with self.store.unit() as unit:
                while len(rulings) < len(works):  # those together that the ledger's writer takes together
                    left = works[len(rulings) :]
                    rulings += outcomes(left[: count_joint(left)], unit)
                accounted = clock()
            committed = clock()
            spent["account"] += accounted - read
            spent["commit"] += committed - accounted
            ruled = iter(rulings)
            for reading in readings:
                write(reading, [next(ruled).decisions for _ in reading.batches])
            spent["write"] += clock() - committed
        return sum(spans for _, spans in requests)


def _measure(sessions: int, options: argparse.Namespace, stage: Stage) -> None:
    warm = _TEMPLATES if options.load == RECORDED else _WARM
    requests = _requests(warm + options.requests, options.load, options.spans)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.folder) as parent:
        folder = Path(parent) / "state"
        if options.filled is not None:
            shutil.copytree(options.filled, folder)
            _forget_pages(folder / FOLDER / DATA, cold=options.cold)
        elif sessions:
            large_ledger.fill(folder, sessions)
        bench = _Bench(folder, stage, options.per_commit)
        bench.run(requests[:warm], defaultdict(float))
        requests = requests[warm:]
        if options.calls:
            _count_calls(bench, requests)
            return
        if options.profile:
            _profile(bench, requests)
            return
        rounds: list[dict[str, float]] = []
        before, began = _written_bytes(), time.perf_counter()
        size, taken = len(requests) // _ROUNDS, 0
        for number in range(_ROUNDS):
            spent: dict[str, float] = defaultdict(float)
            spans = bench.run(requests[number * size : (number + 1) * size], spent)
            rounds.append({step: spent[step] / spans * 1e6 for step in _STEPS})
            taken += spans
        kib = (_written_bytes() - before) / taken / 1024
        wall = taken / (time.perf_counter() - began)
        medians = {step: statistics.median(spent[step] for spent in rounds) for step in _STEPS}
        total = sum(medians.values())
        steps = "  ".join(f"{step} {medians[step]:6.1f}" for step in _STEPS)
        print(
            f"{_sessions_in(bench.store):>9} sessions  {steps}  total {total:6.1f} us CPU a span  "
            f"{1e6 / total:6.0f} spans/s CPU  "
            f"{wall:6.0f} spans/s  {kib:6.2f} KiB a span  {_memory_mib():5.0f} MiB",
            flush=True,
        )
        bench.store.close()


def _sessions_in(store: LmdbStore) -> int:
    with store.snapshot() as reader:
        return sum(1 for _ in reader.scan(Table.SESSION, tenant_hash("")))


def _count_calls(bench: _Bench, requests: list[tuple[bytes, int]]) -> None:
    calls: Counter[str] = Counter()

    def profile(frame: Any, event: str, _: object) -> None:
        if event == "call":
            calls[f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_qualname}"] += 1
        elif event == "c_call":
            calls["(C)"] += 1

    sys.setprofile(profile)
    number = bench.run(requests, defaultdict(float))
    sys.setprofile(None)
    c_calls = calls.pop("(C)")
    print(f"{sum(calls.values()) / number:.1f} Python calls and {c_calls / number:.1f} C calls a span, of them:")
    for name, times in calls.most_common(40):
        print(f"  {times / number:7.2f}  {name}")


def _profile(bench: _Bench, requests: list[tuple[bytes, int]]) -> None:
    profile = cProfile.Profile()
    spans = profile.runcall(bench.run, requests, defaultdict(float))
    print(f"{spans} spans")
    pstats.Stats(profile).sort_stats("tottime").print_stats(60)


def main() -> None:
    """Read the options and print one line for each number of records."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stage", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sessions", type=int, nargs="+", default=[0], help="in the ledger before")
    parser.add_argument("--filled", type=Path, help="a state folder to measure a copy of, instead")
    parser.add_argument("--cold", action="store_true", help="with --filled: begin with none of its pages in memory")
    parser.add_argument("--spans", type=int, default=512, help="spans a request")
    parser.add_argument("--load", default="100", help=f"percentage of GenAI spans, or {RECORDED}")
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--per-commit", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path("build"), help="where ledgers are made; a disk, no tmpfs")
    parser.add_argument("--calls", action="store_true", help="count Python calls a span instead")
    parser.add_argument("--profile", action="store_true", help="print where the time goes instead")
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    stage = make_stage(load_config(None), Signer(b"the key of this benchmark, long."))
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 3, 2**31 - 1)  # as `serve` does
    for sessions in options.sessions[:1] if options.filled else options.sessions:
        _measure(sessions, options, stage)


if __name__ == "__main__":
    main()
