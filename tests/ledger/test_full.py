"""A ledger or a disk that is full: nothing half-written, and everything goes on when there is room again."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.store import StateBrokenError, StateError, Table
from stores import Clock, cost_of, count, enter, open_store, remember, span, spend

_SUPPORT = Path(__file__).parents[1] / "support"


def _fill(store: LmdbStore, clock: Clock, most: int = 5000) -> int:
    """Count calls, each with a span to be remembered, until the store takes no more; how many it took."""
    for number in range(most):
        try:
            with store.unit() as unit:
                enter(unit, spend("s"), clock())
                enter(unit, remember(f"{number} {inner}" for inner in range(50)), clock())
        except StateBrokenError:
            raise
        except StateError as error:
            assert "full" in str(error) or "no space left" in str(error)  # noqa: PT017 - which one depends on what is full
            return number
    raise AssertionError("never full")


def _same(store: LmdbStore, taken: int) -> None:
    with store.snapshot() as reader:
        assert cost_of(reader, "s") == taken
        assert count(reader, Table.SPAN) == 50 * taken


@pytest.mark.parametrize("size_mib", [1, 4])
def test_a_full_ledger_takes_nothing_by_halves_and_recovers(tmp_path: Path, size_mib: int) -> None:
    clock = Clock()
    store = open_store(tmp_path, clock=clock, size_mib=size_mib, spans_hours=0.1)
    taken = _fill(store, clock)
    _same(store, taken)
    clock.forward(0.2)
    for _ in range(2000):
        if not store.tend():
            break
    with store.snapshot() as reader:
        assert (count(reader, Table.SPAN), cost_of(reader, "s")) == (0, taken)
    with store.unit() as unit:
        enter(unit, spend("s"), clock())
    store.close()
    store = open_store(tmp_path, read_only=True)
    with store.snapshot() as reader:
        assert cost_of(reader, "s") == taken + 1
    store.close()


def test_the_oldest_go_early_before_it_is_full(tmp_path: Path) -> None:
    """Retention is capped by size: what came within the last quarter of an hour is not forgotten for that."""
    clock = Clock()
    store = open_store(tmp_path, clock=clock, size_mib=4, spans_hours=24)
    for number in range(400):
        clock.forward(0.05)
        with store.unit() as unit:
            enter(unit, spend("s"), clock())
            enter(unit, remember(f"{number} {inner}" for inner in range(100)), clock())
    with store.snapshot() as reader:
        assert cost_of(reader, "s") == 400
        assert reader.get(span("0 0")) is None
        assert all(reader.get(span(f"{number} 0")) for number in range(396, 400))
    store.close()


def test_one_unit_too_large_harms_no_other(tmp_path: Path) -> None:
    clock = Clock()
    store = open_store(tmp_path, clock=clock, size_mib=1)
    with pytest.raises(StateError, match="full"), store.unit() as unit:
        enter(unit, remember(map(str, range(20_000))), clock())
    with store.unit() as unit:
        enter(unit, spend("s"), clock())
    with store.snapshot() as reader:
        assert (count(reader, Table.SPAN), cost_of(reader, "s")) == (0, 1)
    store.close()


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs", folder], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _may_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            with _small_disk(Path(folder) / "disk"):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


@contextmanager
def _full_disk(disk: Path) -> Iterator[None]:
    """Take what is left of a small disk."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    yield
    ballast.unlink()


@pytest.mark.skipif(not _may_mount(), reason="may not mount a small disk; test_a_file_that_may_not_grow stands in")
def test_a_disk_without_room(tmp_path: Path) -> None:
    with _small_disk(tmp_path / "disk"):
        clock = Clock()
        state = tmp_path / "disk" / "state"
        store = open_store(state, clock=clock, size_mib=64)
        with store.unit() as unit:
            enter(unit, spend("before"), clock())
        with _full_disk(tmp_path / "disk"):
            taken = _fill(store, clock)
            _same(store, taken)
        with store.unit() as unit:
            enter(unit, spend("s"), clock())
        store.close()
        with _full_disk(tmp_path / "disk"), pytest.raises(StateError, match="no space left"):
            open_store(state, size_mib=64)
        store = open_store(state, size_mib=64)
        with store.snapshot() as reader:
            assert (cost_of(reader, "before"), cost_of(reader, "s")) == (1, taken + 1)
        store.close()


_WITH_A_LIMIT = """
import resource, sys
from pathlib import Path
from stores import Clock, cost_of, enter, open_store, spend
from test_full import _fill, _same
clock = Clock()
store = open_store(Path(sys.argv[1]), clock=clock, size_mib=64)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
taken = _fill(store, clock)
_same(store, taken)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with store.unit() as unit:
    enter(unit, spend("s"), clock())
with store.snapshot() as reader:
    assert cost_of(reader, "s") == taken + 1
store.close()
print("recovered")
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """The limit of a process on its files stands for a full disk where nothing can be mounted."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_SUPPORT), str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", _WITH_A_LIMIT, str(tmp_path)]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert ended.stdout == "recovered\n", ended.stderr
