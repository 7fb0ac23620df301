"""kill -9 at any moment: what was acknowledged is stored, and nothing is stored by halves."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from lmdb.verify import verify

from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.store import Table
from stores import cost_of, count, open_store

_SUPPORT = Path(__file__).parents[1] / "support"
_NAMES = [f"sender {number}" for number in range(4)]


def _write_and_die(folder: Path, durability: str, lines: int) -> Counter[str]:
    """What the process had acknowledged when it was killed, some time after so many lines."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_SUPPORT), *sys.path])}
    command = [sys.executable, str(_SUPPORT / "killed_writer.py"), str(folder), durability]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = Counter(process.stdout.readline().strip() for _ in range(lines))
        process.kill()
        acknowledged.update(line.strip() for line in process.stdout if line.endswith("\n"))
    assert acknowledged.total() >= lines, "the writer ended by itself"
    return acknowledged


def _stored(store: LmdbStore) -> Counter[str]:
    """Whole works by sender."""
    with store.snapshot() as reader:
        costs = {name: cost_of(reader, name) for name in _NAMES}
        works = sum(costs.values()) // 3
        assert cost_of(reader, "all") == 3 * works
        assert count(reader, Table.SPAN) == works
    assert all(cost % 3 == 0 for cost in costs.values())
    return Counter({name: cost // 3 for name, cost in costs.items()})


@pytest.mark.parametrize("seed", range(4))
def test_what_was_acknowledged_survives(tmp_path: Path, seed: int) -> None:
    """Several lives on one folder. Each may have stored at most one work a sender more than it had said."""
    chance = random.Random(seed)
    before: Counter[str] = Counter()
    for _ in range(4):
        said = _write_and_die(tmp_path, "sync", chance.randrange(1, 200))
        store = open_store(tmp_path)
        after = _stored(store)
        store.close()
        for name in _NAMES:
            assert after[name] - before[name] - said[name] in (0, 1)
        before = after
    assert verify(str(tmp_path / "ledger")) == []  # type: ignore[no-untyped-call]


def test_async_loses_whole_works_only(tmp_path: Path) -> None:
    """Nothing is asked of what the last second held; what is there is whole, and opens."""
    for lines in (50, 500, 4000):
        _write_and_die(tmp_path, "async", lines)
        store = open_store(tmp_path)
        stored = _stored(store)
        store.close()
    assert stored.total() > 0
    assert verify(str(tmp_path / "ledger")) == []  # type: ignore[no-untyped-call]
