"""The files of a queue: what was kept comes back in order after any end, and what is damaged is set aside."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger_exporters import Signal, queue
from spanledger_exporters.queue import Entry, SegmentLog

SIGNALS: tuple[Signal, ...] = ("traces", "logs", "metrics")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a lock here: it is held for good."""
    monkeypatch.setattr(queue, "_LOCK_SECONDS", 0.0)


def opened(folder: Path) -> tuple[SegmentLog, list[Entry]]:
    log = SegmentLog(folder, "otlp_grpc")
    return log, log.open()


def kept(log: SegmentLog, *bodies: bytes, signal: Signal = "traces") -> list[Entry]:
    entries = [log.append(signal, body, len(body)) for body in bodies]
    log.sync()
    return entries


def abandoned(log: SegmentLog) -> None:
    """As a process that is killed leaves it: only the system's lock is let go."""
    os.close(log._lock)
    log._lock = -1


def bodies(log: SegmentLog, entries: Sequence[Entry]) -> list[bytes | None]:
    return [log.read(entry) for entry in entries]


def files(folder: Path, ending: str = "seg") -> list[Path]:
    return sorted(folder.glob(f"*.{ending}"))


def test_what_was_kept_comes_back_in_order_and_what_was_acknowledged_does_not(tmp_path: Path) -> None:
    log, waiting = opened(tmp_path / "queue")
    assert waiting == []
    entries = kept(log, b"a", b"", b"c" * 100_000, b"d")
    log.acknowledge(entries[2])
    abandoned(log)
    again, waiting = opened(tmp_path / "queue")
    assert bodies(again, waiting) == [b"a", b"", b"d"]
    assert [(entry.signal, entry.items) for entry in waiting] == [("traces", 1), ("traces", 0), ("traces", 1)]


@given(
    st.lists(st.tuples(st.sampled_from(SIGNALS), st.binary(max_size=200)), max_size=12),
    st.sets(st.integers(0, 11)),
    st.integers(1, 400),
)
def test_any_requests_over_any_segments(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[Signal, bytes]], done: set[int], largest: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "_SEGMENT_BYTES", largest)
        folder = tmp_path_factory.mktemp("queue")
        log, _ = opened(folder)
        entries = [kept(log, body, signal=signal)[0] for signal, body in requests]
        for place in done & set(range(len(entries))):
            log.acknowledge(entries[place])
        abandoned(log)
        again, waiting = opened(folder)
        left = [request for place, request in enumerate(requests) if place not in done]
        assert [(entry.signal, again.read(entry)) for entry in waiting] == left
        again.close()


def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    log, _ = opened(tmp_path / "queue")
    first, _ = kept(log, b"a", b"b")
    log.acknowledge(first)
    assert stat.S_IMODE((tmp_path / "queue").stat().st_mode) == 0o700
    names = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "queue").iterdir()}
    assert names == {"": 0o600, ".seg": 0o600, ".done": 0o600}


def test_what_is_delivered_does_not_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_DRAINED_BYTES", 100)
    log, _ = opened(tmp_path)
    for _ in range(3):
        (entry,) = kept(log, bytes(200))
        assert len(files(tmp_path)) == 1
        log.acknowledge(entry)
        assert files(tmp_path) == files(tmp_path, "done") == []
    log.acknowledge(kept(log, b"short")[0])
    log.close()
    assert files(tmp_path) == files(tmp_path, "done") == []


def test_a_folder_has_one_user(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    with pytest.raises(BlockingIOError):
        SegmentLog(tmp_path, "other").open()
    log.close()
    opened(tmp_path)


@pytest.mark.parametrize("missing", range(1, 22))
def test_a_record_cut_off_by_a_crash_was_not_answered_and_is_left_out(tmp_path: Path, missing: int) -> None:
    """17 bytes of header and checksum, 5 of the body."""
    log, _ = opened(tmp_path)
    kept(log, b"first", b"later")
    abandoned(log)
    (path,) = files(tmp_path)
    os.truncate(path, path.stat().st_size - missing)
    again, waiting = opened(tmp_path)
    assert bodies(again, waiting) == [b"first"]
    assert again.set_aside == 0


def flipped(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


_RECORD = 17 + 5


@pytest.mark.parametrize(
    ("at", "left"),
    [
        pytest.param(0, [], id="the magic"),
        pytest.param(8 + _RECORD, [b"body0"], id="a size"),
        pytest.param(8 + _RECORD + 13, [b"body0"], id="a header's checksum"),
        pytest.param(8 + _RECORD + 17, [b"body0", b"body2"], id="a body"),
    ],
)
def test_a_damaged_segment_is_set_aside_and_what_can_be_read_of_it_goes_on(
    tmp_path: Path, at: int, left: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    log, _ = opened(tmp_path)
    kept(log, b"body0", b"body1", b"body2")
    abandoned(log)
    (path,) = files(tmp_path)
    flipped(path, at)
    damaged = path.read_bytes()
    again, waiting = opened(tmp_path)
    assert bodies(again, waiting) == left
    assert again.set_aside == 1
    (aside,) = files(tmp_path, "corrupt")
    assert (aside.read_bytes(), stat.S_IMODE(aside.stat().st_mode)) == (damaged, 0o600)
    assert f"it is kept as {aside}" in caplog.text
    for entry in waiting:
        again.acknowledge(entry)
    kept(again, b"new")
    abandoned(again)
    assert aside.exists()
    last, waiting = opened(tmp_path)
    assert bodies(last, waiting) == [b"new"]
    assert last.set_aside == 0


def test_what_becomes_unreadable_later_is_told(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    (entry,) = kept(log, b"body0")
    flipped(files(tmp_path)[0], 8 + 17)
    assert log.read(entry) is None


def test_damaged_acknowledgements_send_again(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    entries = kept(log, b"a", b"b", b"c")
    log.acknowledge(entries[0])
    log.acknowledge(entries[1])
    abandoned(log)
    (done,) = files(tmp_path, "done")
    flipped(done, 3)
    again, waiting = opened(tmp_path)
    assert bodies(again, waiting) == [b"a", b"c"]


def failing(monkeypatch: pytest.MonkeyPatch, call: str, when: Iterator[bool]) -> None:
    """Let a call of the system fail as on a full disk."""
    real = getattr(os, call)

    def maybe(*args: object) -> object:
        if next(when):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    monkeypatch.setattr(os, call, maybe)


@pytest.mark.parametrize("call", ["write", "fdatasync", "fsync"])
def test_a_full_disk_keeps_nothing_and_the_queue_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    log, _ = opened(tmp_path)
    kept(log, b"before")
    log._leave()
    with monkeypatch.context() as patch:
        failing(patch, call, itertools.repeat(True))
        with pytest.raises(OSError, match="No space"):
            kept(log, b"lost")
    kept(log, b"after")
    abandoned(log)
    again, waiting = opened(tmp_path)
    found = bodies(again, waiting)
    # what could not be synced may be there all the same: its sender sends it again
    assert found == [b"before", *([b"lost"] if call == "fdatasync" else []), b"after"]


def test_half_a_record_on_a_full_disk_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = opened(tmp_path)
    kept(log, b"before")
    (segment,) = files(tmp_path)
    size, real = segment.stat().st_size, os.write

    def half(fd: int, content: memoryview) -> int:
        if len(content) > 40:
            return real(fd, content[:40])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            log.append("traces", bytes(60), 1)
    assert segment.stat().st_size == size
    kept(log, b"after")
    abandoned(log)
    again, waiting = opened(tmp_path)
    assert bodies(again, waiting) == [b"before", b"after"]
    assert again.set_aside == 0


def test_what_a_worker_left_is_taken_over_once_it_runs_no_more(tmp_path: Path) -> None:
    worker, _ = opened(tmp_path / "worker-2")
    gone, _ = opened(tmp_path / "worker-3")
    kept(worker, b"runs")
    entries = kept(gone, b"x", b"left")
    gone.acknowledge(entries[0])
    abandoned(gone)
    log, waiting = opened(tmp_path)
    assert bodies(log, waiting) == [b"left"]
    assert files(tmp_path / "worker-3") == []
    assert len(files(tmp_path / "worker-2")) == 1
