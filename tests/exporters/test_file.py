"""The file: whole lines of OTLP-JSON, or nothing, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from requests_out import data_points, exporting, log_records, settings, soon, spans
from spanledger_exporters import ACCEPTED, DestinationError, Exporter, Result, Verdict, build

MIB = 2**20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "spans.jsonl"


def started(path: Path, **given: Any) -> AbstractAsyncContextManager[Exporter]:
    return exporting("file", path=str(path), **given)


def names(line: str) -> list[str]:
    """The names of the spans in one line."""
    scopes = (scope for resource in json.loads(line)["resourceSpans"] for scope in resource["scopeSpans"])
    return [span["name"] for scope in scopes for span in scope["spans"]]


async def test_one_request_a_line_of_every_signal(path: Path) -> None:
    """As the Collector's file exporter writes it: the request itself, without anything around it."""
    async with started(path) as exporter:
        assert await exporter.send("traces", spans("a", "b"), soon()) == ACCEPTED
        assert await exporter.send("logs", log_records("hello\nworld"), soon()) == ACCEPTED
        assert await exporter.send("metrics", data_points(1), soon()) == ACCEPTED
    text = path.read_text()
    assert text.endswith("}\n")
    first, second, third = text.splitlines()
    assert names(first) == ["a", "b"]
    assert [*json.loads(second)] == ["resourceLogs"]
    assert [*json.loads(third)] == ["resourceMetrics"]


async def test_it_is_in_the_file_before_the_answer(path: Path) -> None:
    async with started(path) as exporter:
        for count in range(1, 4):
            await exporter.send("traces", spans("a"), soon())
            assert len(path.read_bytes().splitlines()) == count


async def test_only_its_owner_may_read_it(path: Path) -> None:
    """The file and the folder that was made for it; a file that stands there already is made so."""
    path.parent.mkdir(mode=0o700)
    path.touch(mode=0o644)
    async with started(path) as exporter:
        assert path.stat().st_mode & 0o777 == 0o600
        await exporter.send("traces", spans("a"), soon())
    below = path.parent / "new" / "spans.jsonl"
    async with started(below):
        assert below.stat().st_mode & 0o777 == 0o600
        assert below.parent.stat().st_mode & 0o777 == 0o700


async def test_what_is_there_is_appended_to(path: Path) -> None:
    for name in ("a", "b"):
        async with started(path) as exporter:
            await exporter.send("traces", spans(name), soon())
    assert [names(line) for line in path.read_text().splitlines()] == [["a"], ["b"]]


async def test_no_line_is_glued_to_one_that_a_crash_cut_off(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"resourceSpans":[]}\n{"resourceSp')
    async with started(path) as exporter:
        await exporter.send("traces", spans("a"), soon())
        await exporter.send("traces", spans("b"), soon())
    whole, half, *rest = path.read_text().splitlines()
    assert (whole, half) == ('{"resourceSpans":[]}', '{"resourceSp')
    assert [names(line) for line in rest] == [["a"], ["b"]]


async def test_requests_sent_at_once_are_in_the_order_they_came(path: Path) -> None:
    async with started(path) as exporter:
        results = await asyncio.gather(*(exporter.send("traces", spans(str(n)), soon()) for n in range(200)))
    assert set(results) == {ACCEPTED}
    assert [names(line) for line in path.read_text().splitlines()] == [[str(n)] for n in range(200)]


async def test_what_is_no_request_is_refused_for_good_and_harms_no_other(path: Path) -> None:
    async with started(path) as exporter:
        good, bad = await asyncio.gather(
            exporter.send("traces", spans("a"), soon()), exporter.send("traces", b"\xff", soon())
        )
    assert (good, bad.verdict) == (ACCEPTED, Verdict.PERMANENT)
    assert bad.reason.startswith("cannot be written as JSON: ")
    assert [names(line) for line in path.read_text().splitlines()] == [["a"]]


async def test_nothing_is_written_after_the_deadline(path: Path) -> None:
    async with started(path) as exporter:
        result = await exporter.send("traces", spans("a"), soon(-1))
        assert result == Result(Verdict.RETRYABLE, "the disk did not keep up")
        assert await exporter.send("traces", spans("b"), soon()) == ACCEPTED
    assert [names(line) for line in path.read_text().splitlines()] == [["b"]]


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size`: a write ends early, the next one fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_retryable_and_leaves_no_half_line(path: Path) -> None:
    async with started(path) as exporter:
        assert await exporter.send("traces", spans("a"), soon()) == ACCEPTED
        before = path.read_bytes()
        with room_for(len(before) + 1000):
            result = await exporter.send("traces", spans("x" * 5000), soon())
            assert result == Result(Verdict.RETRYABLE, "File too large")
            assert path.read_bytes() == before
            assert await exporter.send("traces", spans("small"), soon()) == ACCEPTED
        assert await exporter.send("traces", spans("y" * 5000), soon()) == ACCEPTED
    assert [names(line) for line in path.read_text().splitlines()] == [["a"], ["small"], ["y" * 5000]]


async def test_no_room_for_the_newline_before_half_a_line_either(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"half")
    async with started(path) as exporter:
        with room_for(5):
            assert (await exporter.send("traces", spans("a"), soon())).verdict is Verdict.RETRYABLE
        assert path.read_bytes() == b"half"
        assert await exporter.send("traces", spans("a"), soon()) == ACCEPTED
    half, line = path.read_text().splitlines()
    assert (half, names(line)) == ("half", ["a"])


_WRITER = """
import asyncio, sys
from spanledger_exporters import Verdict, build
from spanledger_exporters.settings import TYPES
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

async def main(path):
    exporter = build("file", TYPES["file"].model_validate({"path": path}))
    await exporter.start()
    for number in range(10**6):
        request = ExportTraceServiceRequest()
        request.resource_spans.add().scope_spans.add().spans.add(name=f"{number} " + "x" * 3_000_000)
        result = await exporter.send("traces", request.SerializeToString(), asyncio.get_running_loop().time() + 60)
        assert result.verdict is Verdict.ACCEPTED
        print(number, flush=True)

asyncio.run(main(sys.argv[1]))
"""


async def test_killed_while_it_writes(path: Path) -> None:
    """Every request that was answered is there, whole; what a kill cut off is a line of its own."""
    for _ in range(3):
        path.unlink(missing_ok=True)
        command = [sys.executable, "-c", _WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:  # noqa: ASYNC220
            assert writer.stdout is not None
            answered = [int(writer.stdout.readline()) for _ in range(3)]
            writer.send_signal(signal.SIGKILL)
            answered += [int(number) for number in writer.stdout.read().split()]
        async with started(path) as exporter:
            assert await exporter.send("traces", spans("after"), soon()) == ACCEPTED
        *lines, last = path.read_text().splitlines()
        assert names(last) == ["after"]
        assert [int(names(line)[0].split()[0]) for line in lines[: len(answered)]] == answered
        assert len(lines) <= len(answered) + 1


def files(path: Path) -> list[Path]:
    """Files put aside, the oldest first, then the file itself."""
    return [*sorted(path.parent.glob("spans-*.jsonl")), path]


async def test_rotation_by_size_loses_no_line(path: Path) -> None:
    """A line that does not fit begins a fresh file; all of them are readable by their owner only."""
    rotation = {"max_megabytes": 1, "max_backups": 0}
    async with started(path, rotation=rotation) as exporter:
        requests = (exporter.send("traces", spans(str(n), "x" * 400_000), soon()) for n in range(9))
        assert set(await asyncio.gather(*requests)) == {ACCEPTED}
    assert len(files(path)) == 5
    assert [names(line)[0] for file in files(path) for line in file.read_text().splitlines()] == [*"012345678"]
    assert all(file.stat().st_size <= MIB and file.stat().st_mode & 0o777 == 0o600 for file in files(path))


async def test_a_line_longer_than_a_file_may_be_gets_a_file_of_its_own(path: Path) -> None:
    """Lumberjack refuses it, which would lose the data."""
    async with started(path, rotation={"max_megabytes": 1}) as exporter:
        for name in ("a", "b" * 2 * MIB, "c"):
            assert await exporter.send("traces", spans(name), soon()) == ACCEPTED
    assert [names(file.read_text())[0][0] for file in files(path)] == ["a", "b", "c"]


async def test_only_so_many_files_put_aside_are_kept(path: Path) -> None:
    async with started(path, rotation={"max_megabytes": 1, "max_backups": 2}) as exporter:
        for name in "abcde":
            await exporter.send("traces", spans(name * MIB), soon())
    assert [names(file.read_text())[0][0] for file in files(path)] == ["c", "d", "e"]


async def test_old_files_are_deleted_at_the_start(path: Path) -> None:
    path.parent.mkdir()
    for name in ("spans-2020-01-01T00-00-00.000.jsonl", "notes-2020-01-01T00-00-00.000.jsonl"):
        path.with_name(name).touch()
    async with started(path, rotation={"max_days": 30}):
        pass
    assert sorted(file.name for file in path.parent.iterdir()) == ["notes-2020-01-01T00-00-00.000.jsonl", "spans.jsonl"]


async def test_a_rotation_that_fails_is_retryable_and_made_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with started(path, rotation={"max_megabytes": 1}) as exporter:
        await exporter.send("traces", spans("a" * MIB), soon())
        with monkeypatch.context() as broken:
            broken.setattr(Path, "rename", _no_space)
            result = await exporter.send("traces", spans("b" * MIB), soon())
            assert result == Result(Verdict.RETRYABLE, "No space left on device")
        assert await exporter.send("traces", spans("b" * MIB), soon()) == ACCEPTED
    assert [names(file.read_text())[0][0] for file in files(path)] == ["a", "b"]


def _no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced", "folder gone"])
async def test_a_file_that_somebody_took_away_is_begun_anew(how: str, path: Path) -> None:
    """Else what is answered for would go where nobody finds it."""
    async with started(path) as exporter:
        assert await exporter.send("traces", spans("a"), soon()) == ACCEPTED
        if how == "folder gone":
            path.parent.rename(path.parent.with_name("elsewhere"))
        elif how == "deleted":
            path.unlink()
        else:
            path.rename(path.with_name("elsewhere"))
        if how == "replaced":
            path.write_text("theirs")
        assert await exporter.send("traces", spans("b"), soon()) == ACCEPTED
    *before, line = path.read_text().splitlines()
    assert (before, names(line)) == (["theirs"] if how == "replaced" else [], ["b"])


async def test_a_file_that_somebody_emptied_is_gone_on_with(path: Path) -> None:
    """As logrotate's copytruncate does; a full disk then must not fill it up to its former size."""
    async with started(path) as exporter:
        assert await exporter.send("traces", spans("a" * 5000), soon()) == ACCEPTED
        os.truncate(path, 0)
        with room_for(1000):
            assert (await exporter.send("traces", spans("b" * 5000), soon())).verdict is Verdict.RETRYABLE
        assert path.read_bytes() == b""
        assert await exporter.send("traces", spans("c"), soon()) == ACCEPTED
    assert [names(line) for line in path.read_text().splitlines()] == [["c"]]


async def test_no_answer_before_it_survives_a_power_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that cannot promise it has not taken the request."""

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with started(path) as exporter:
        with monkeypatch.context() as broken:
            broken.setattr(os, "fdatasync", fail)
            results = await asyncio.gather(
                exporter.send("traces", spans("a"), soon()), exporter.send("traces", b"\xff", soon())
            )
        assert results[0] == Result(Verdict.RETRYABLE, "Input/output error")
        assert results[1].verdict is Verdict.PERMANENT
        assert await exporter.send("traces", spans("a"), soon()) == ACCEPTED


async def test_a_second_writer_is_kept_out(path: Path) -> None:
    async with started(path):
        with pytest.raises(DestinationError, match=r"exporters\.file: path: .* is being written by another exporter"):
            async with started(path):
                pass
    async with started(path) as exporter:
        assert await exporter.send("traces", spans("a"), soon()) == ACCEPTED


@pytest.mark.parametrize("place", ["folder", "device", "below a file"])
async def test_a_path_that_cannot_be_written_is_told_at_the_start(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = {"folder": tmp_path, "device": Path("/dev/null"), "below a file": tmp_path / "file" / "x"}[place]
    with pytest.raises(DestinationError) as reported:
        async with started(path):
            pass
    assert str(reported.value).startswith(f"exporters.file: path: {path}: ")


async def test_closing_finishes_what_waits(path: Path) -> None:
    exporter = build("file", settings("file", path=str(path)))
    await exporter.start()
    sends = [asyncio.create_task(exporter.send("traces", spans(str(n)), soon())) for n in range(5)]
    await asyncio.sleep(0)
    await exporter.close()
    assert {await send for send in sends} == {ACCEPTED}
    assert len(path.read_text().splitlines()) == 5


async def test_a_sender_that_gives_up_before_its_turn_leaves_nothing(path: Path) -> None:
    """Cancelled in the same moment it was sent; others are not harmed."""
    async with started(path) as exporter:
        given_up = asyncio.create_task(exporter.send("traces", spans("a"), soon()))
        other = asyncio.create_task(exporter.send("traces", spans("b"), soon()))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await other == ACCEPTED
        with pytest.raises(asyncio.CancelledError):
            await given_up
    assert ["b"] in [names(line) for line in path.read_text().splitlines()]
