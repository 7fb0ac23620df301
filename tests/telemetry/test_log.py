"""The process's own log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from spanledger_processor.telemetry.log import INTERVAL, RateLimit, on_suppressed, set_up


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes; what logging was before is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield io.StringIO()
    root.handlers = handlers
    root.setLevel(level)


def test_text(stream: io.StringIO) -> None:
    set_up("info", "text", stream)
    logging.getLogger("spanledger_processor.server.handler").warning("slow: %d", 3)
    time, line = stream.getvalue().split(" ", 1)
    assert time.endswith("Z")
    assert line == "WARNING server.handler: slow: 3\n"


def test_json(stream: io.StringIO) -> None:
    set_up("info", "json", stream)
    logging.getLogger("spanledger_exporters.delivery").error("down \udcff")
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {"level": "ERROR", "logger": "exporters.delivery", "message": "down ?"}


def test_the_level(stream: io.StringIO) -> None:
    set_up("warning", "text", stream)
    logging.getLogger("spanledger_processor.x").info("no")
    logging.getLogger("uvicorn.error").warning("yes")
    assert "no" not in stream.getvalue()
    assert "yes" in stream.getvalue()


@pytest.mark.parametrize("library", ["uvicorn.error", "watchfiles.main"])
def test_libraries_are_quiet_about_what_is_normal(library: str, stream: io.StringIO) -> None:
    set_up("debug", "text", stream)
    logging.getLogger(library).info("Started server process")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_an_exception_says_is_not_written_its_place_is(stream: io.StringIO, form: str) -> None:
    """Its text may be made of a prompt."""
    set_up("info", form, stream)
    try:
        try:
            int("secret prompt")
        except ValueError as error:
            raise KeyError("secret key") from error
    except KeyError:
        logging.getLogger("spanledger_processor.x").exception("failed")
    assert "secret" not in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    assert "KeyError" in stream.getvalue()
    assert "test_log.py:" in stream.getvalue()


def test_a_message_cannot_forge_a_line(stream: io.StringIO) -> None:
    set_up("info", "text", stream)
    logging.getLogger("spanledger_processor.x").warning("from %s", "a\nERROR forged\x1b[31m")
    assert stream.getvalue().count("\n") == 1
    assert "\\nERROR forged\\x1b[31m" in stream.getvalue()


def test_what_repeats_is_written_once_an_interval_and_counted(stream: io.StringIO) -> None:
    set_up("info", "text", stream)
    reported: list[None] = []
    on_suppressed(lambda: reported.append(None))
    log = logging.getLogger("spanledger_processor.x")
    for number in range(5):
        log.warning("down: %d", number)
    log.warning("something else")
    assert len(stream.getvalue().splitlines()) == 2
    assert len(reported) == 4


def test_one_kind_of_trouble_does_not_hide_another_of_the_same_place(stream: io.StringIO) -> None:
    set_up("info", "text", stream)
    for cause in ("unauthenticated", "encoding", "unauthenticated", "malformed"):
        logging.getLogger("spanledger_processor.x").error("refused (%s)", cause, extra={"kind": cause})
    lines = stream.getvalue().splitlines()
    assert [line.partition("refused ")[2] for line in lines] == ["(unauthenticated)", "(encoding)", "(malformed)"]


class Clock:
    """Stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def record(message: str, *args: object, level: int = logging.WARNING) -> logging.LogRecord:
    """As a logger makes it."""
    return logging.LogRecord("x", level, __file__, 1, message, args, None)


def test_after_the_interval_it_is_written_again_with_how_many_were_left_out() -> None:
    clock = Clock()
    sparing = RateLimit(clock)
    assert [sparing.filter(record("down: %d", number)) for number in range(3)] == [True, False, False]
    clock.now = INTERVAL
    again = record("down: %d", 9)
    assert sparing.filter(again)
    assert again.repeated == 2  # type: ignore[attr-defined]


def test_information_with_other_details_is_another_message() -> None:
    """Both listeners are told at the start, though one line of code tells them."""
    sparing = RateLimit(Clock())
    assert sparing.filter(record("%s listens", "grpc", level=logging.INFO))
    assert sparing.filter(record("%s listens", "http", level=logging.INFO))


def test_what_is_remembered_is_bounded() -> None:
    sparing = RateLimit(Clock())
    for number in range(5000):
        sparing.filter(record(f"message {number}"))
    assert len(sparing._seen) <= 1000
