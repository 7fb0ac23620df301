"""Files that cannot be used: one clear message each, counted, tried again when they change, and in nobody's way."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mux_homes import DOCUMENTS, WRITTEN_MS, bucket, put, row, shut_to_us, usage
from sidecars import Endpoint, by_model, scan, sidecar
from spanledger_sidecar.files import MAX_BYTES
from spanledger_sidecar.loop import SOURCES, SourceName
from spanledger_sidecar.records import EARLIEST_MS, LATEST_MS
from xum_homes import HOMES

MODEL = "anthropic:claude-x"
GOOD = usage({MODEL: bucket(5, 5)})


def _document(name: str) -> Callable[[Path], object]:
    return lambda path: path.write_bytes((DOCUMENTS / "16-bad" / name).read_bytes())


def _link(path: Path) -> None:
    target = path.with_name("elsewhere.json")
    target.write_text(GOOD, "utf-8")
    path.symlink_to(target)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (_document("truncated.json"), "is no JSON"),
    "an array": (_document("array-root.json"), "holds a JSON list where an object is expected"),
    "another version": (_document("version-2.json"), "is of version 2, only version 1 is known"),
    "empty": (_document("empty.json"), "is empty"),
    "not UTF-8": (lambda path: path.write_bytes(b'{"version": 1, "byModel": {"\xff": {}}}'), "is no JSON"),
    "without models": (lambda path: path.write_text('{"version": 1}'), "has no usage by model"),
    "nested without end": (lambda path: path.write_text("[" * 100_000), "is no JSON"),
    "a link": (_link, "is a symbolic link, which is not followed"),
    "a folder": (lambda path: path.mkdir(), "is not a regular file"),
    "a pipe": (lambda path: os.mkfifo(path), "is not a regular file"),
    "huge": (_sparse, "is larger than 64 MiB"),
}


@pytest.mark.parametrize("kind", BAD)
def test_one_message_and_the_others_go_on(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make, message = BAD[kind]
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, GOOD, workspace="good")
    path = root / "sessions" / "bad" / "session-usage.json"
    path.parent.mkdir()
    make(path)
    with caplog.at_level(logging.WARNING), sidecar(tmp_path / "state", endpoint, root) as made:
        made.once()
        put(root, row("m1", MODEL, 1, 1), "chat.jsonl", "bad")
        made.once()
        assert [record.getMessage() for record in caplog.records if str(path) in record.getMessage()] == [
            f"{path} {message}" + caplog.records[0].getMessage().partition(message)[2]
        ]
        assert made.sources[0].errors.count == 1
        if path.is_dir():
            path.rmdir()
        put(root, usage({MODEL: bucket(3, 3)}), workspace="bad")
        made.once()
    assert by_model(endpoint.usage()) == {("good", MODEL): (5, 0, 0, 5, 0), ("bad", MODEL): (3, 0, 0, 3, 0)}


def test_a_file_that_is_damaged_for_a_while_loses_nothing(tmp_path: Path) -> None:
    endpoint, root = Endpoint(), tmp_path / "mux"
    for content in (usage({MODEL: bucket(1, 1)}), "{", usage({MODEL: bucket(5, 5)})):
        put(root, content)
        scan(tmp_path / "state", endpoint, root)
    assert sum(map(sum, by_model(endpoint.usage()).values())) == 10


def test_damaged_lines_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A last line that is half written is no damage, nor are half characters, which JavaScript writes."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    half = row("m2", MODEL, 2, 2).replace('"parts": []', r'"parts": [{"type": "text", "text": "\ud83d"}]')
    lines = ["{broken\n", row("m1", MODEL, 1, 1), half, row("m3", MODEL, 4, 4)[:50]]
    put(root, "".join(lines), "chat.jsonl")
    scan(tmp_path / "state", endpoint, root)
    assert sum(map(sum, by_model(endpoint.usage()).values())) == 6
    assert "damaged lines, which are left out: 1;" in caplog.text


def test_a_huge_line_is_damage(tmp_path: Path) -> None:
    endpoint, root = Endpoint(), tmp_path / "mux"
    path = put(root, row("m1", MODEL, 1, 1), "chat.jsonl")
    with path.open("ab") as file:
        file.truncate(MAX_BYTES + 10_000)
    with path.open("ab") as file:
        file.write(b"\n" + row("m2", MODEL, 1, 1).encode())
    with sidecar(tmp_path / "state", endpoint, root) as made:
        made.once()
        assert made.sources[0].errors.count == 1
    assert len(endpoint.usage()) == 2


def test_a_linked_workspace_is_not_followed(tmp_path: Path) -> None:
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(tmp_path / "elsewhere", GOOD)
    put(root, GOOD, workspace="good")
    (root / "sessions" / "linked").symlink_to(tmp_path / "elsewhere" / "sessions" / "7ac41be902")
    with sidecar(tmp_path / "state", endpoint, root) as made:
        made.once()
        assert made.sources[0].errors.count == 1
    assert set(by_model(endpoint.usage())) == {("good", MODEL)}


def test_a_workspace_in_two_homes_counts_once(tmp_path: Path) -> None:
    endpoint = Endpoint()
    put(tmp_path / "a", GOOD)
    put(tmp_path / "b", usage({MODEL: bucket(4, 4)}))
    for _ in range(3):
        scan(tmp_path / "state", endpoint, tmp_path / "a", tmp_path / "b")
    assert sum(map(sum, by_model(endpoint.usage()).values())) == 10


def test_a_workspace_that_may_not_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, GOOD, workspace="good")
    path = put(root, GOOD, workspace="shut")
    with sidecar(tmp_path / "state", endpoint, root) as made:
        shut_to_us(path.parent, monkeypatch)
        made.once()
        assert made.sources[0].errors.named()[path] == "cannot be opened: Permission denied"
        assert [why for why in made.sources[0].errors.named().values() if "bug" in why] == []
        assert made.sources[0].counts.unread == 1
    assert set(by_model(endpoint.usage())) == {("good", MODEL)}


@pytest.mark.parametrize("source", SOURCES)
def test_sessions_that_may_not_be_listed_are_named(
    source: SourceName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = put(tmp_path / "home", GOOD).parent.parent
    with sidecar(tmp_path / "state", Endpoint(), tmp_path / "home", source=source) as made:
        shut_to_us(sessions, monkeypatch)
        made.once()
        assert made.sources[0].errors.named() == {sessions: "cannot be listed: Permission denied"}


@pytest.mark.parametrize("source", SOURCES)
def test_a_link_among_the_sessions_is_named(source: SourceName, tmp_path: Path) -> None:
    link = put(tmp_path / "home", GOOD).parent.with_name("linked")
    link.symlink_to(tmp_path)
    with sidecar(tmp_path / "state", Endpoint(), tmp_path / "home", source=source) as made:
        made.once()
        assert made.sources[0].errors.named() == {link: "is a symbolic link, which is not followed"}


@pytest.mark.parametrize("odd", [2**53, 10**30, "1000", True, [1], {"n": 1}])
def test_a_number_of_tokens_that_is_none_is_named(odd: Any, tmp_path: Path) -> None:
    """As 0, nobody could tell it from a turn without input."""
    root = tmp_path / "mux"
    in_sum = put(root, usage({MODEL: bucket(odd, 5)}), workspace="sum")
    in_chat = put(root, row("m1", MODEL, odd, 1), "chat.jsonl", "chat")
    tools: dict[str, Any] = {"toolModelUsages": [{"model": MODEL, "usage": {"inputTokens": odd}}]}
    in_tool = put(root, row("m2", MODEL, 1, 1, **tools), "chat.jsonl", "tool")
    call = {
        "timestamp": WRITTEN_MS,
        "model": MODEL,
        "source": "status",
        "usage": {"inputTokens": 1, "outputTokens": odd},
    }
    headless = put(root, json.dumps(call) + "\n", "headless-usage.jsonl", "headless")
    endpoint = Endpoint()
    with sidecar(tmp_path / "state", endpoint, root) as made:
        made.once()
        why = "holds numbers of tokens that are none, so that nobody knows how much was used: 1"
        assert made.sources[0].errors.named() == dict.fromkeys([in_sum, in_chat, in_tool, headless], why)
    untold = {
        (span.attributes["gen_ai.conversation.id"], direction)
        for span in endpoint.spans.values()
        for direction in ("input", "output")
        if f"gen_ai.usage.{direction}_tokens" not in span.attributes
        and "nobody knows how much was used" in str(span.attributes["spanledger.note"])
    }
    assert untold == {("sum", "input"), ("chat", "input"), ("tool", "input"), ("headless", "output")}
    assert len(endpoint.spans) == 5


@pytest.mark.parametrize("usual", [None, -1, 0, 5.0])
def test_what_files_hold_in_place_of_a_number_is_not_named(usual: Any, tmp_path: Path) -> None:
    put(tmp_path / "mux", usage({MODEL: bucket(usual, 5)}))
    put(tmp_path / "mux", row("m1", MODEL, usual, 1), "chat.jsonl")
    with sidecar(tmp_path / "state", Endpoint(), tmp_path / "mux") as made:
        made.once()
        assert made.sources[0].errors.named() == {}


def test_a_name_that_is_no_text_is_left_out(tmp_path: Path) -> None:
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, GOOD, workspace="good")
    put(root, GOOD, workspace="caf\udce9")
    odd = json.dumps({"parts": [{"toolName": "ba\ud800sh", "input": {"text": "\udfff"}}]})[1:-1]
    put(root, row("m1", MODEL, 1, 1).replace('"parts": []', odd), "chat.jsonl", "good")
    with sidecar(tmp_path / "state", endpoint, root) as made:
        made.once()
        assert made.sources[0].errors.count == 1
    assert set(by_model(endpoint.usage())) == {("good", MODEL)}
    assert [span.name for span in endpoint.named("execute_tool")] == ["execute_tool ba?sh"]


ODD: list[Any] = ["\ud800", None, -1, 2**64, 1_795_000_000_000_000, {"a": 1}]
XUM = HOMES / "interrupt" / "xumroot"


def _changed(value: Any, odd: Any) -> Iterator[Any]:
    """`value`, with one of all that is in it replaced by `odd`, one after the other."""
    yield odd
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        for changed in _changed(item, odd):
            yield {**value, key: changed} if isinstance(value, dict) else [*value[:key], changed, *value[key + 1 :]]


def _versions(path: Path, odd: Any) -> Iterator[str]:
    """A file of Xum's, with one value of it replaced, one after the other."""
    lines = path.read_text("utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text("utf-8")]
    for place, line in enumerate(lines):
        for changed in _changed(json.loads(line), odd):
            yield "".join(f"{one}\n" for one in (*lines[:place], json.dumps(changed), *lines[place + 1 :]))


@pytest.mark.parametrize("odd", ODD)
def test_any_value_may_be_odd(odd: Any, tmp_path: Path) -> None:
    """In every place of every file that is read: none of it is a bug, and what is sent has numbers and times."""
    endpoint, roots = Endpoint(), [tmp_path / "mux"]
    (folder,) = (XUM / "sessions").iterdir()
    files = {path.name: path.read_text("utf-8") for path in folder.glob("*.json*")}
    for path in folder.glob("*.json*"):
        for number, content in enumerate(_versions(path, odd)):
            name = f"{path.stem}-{number}"
            for file, text in (files | {path.name: content}).items():
                put(roots[0], text.replace('"assistant-', f'"{name}-'), file, name)
    for number, content in enumerate(_versions(XUM / "config.json", odd)):
        roots.append(tmp_path / f"mux-{number}")
        put(roots[-1], GOOD, workspace=f"config-{number}")
        (roots[-1] / "config.json").write_text(content.replace(folder.name, f"config-{number}"), "utf-8")
    with sidecar(tmp_path / "state", endpoint, *roots) as made:
        made.once()
        assert [why for why in made.sources[0].errors.named().values() if "bug" in why] == []
    assert {f"config-{number}" for number in range(len(roots) - 1)} <= {name for name, _ in by_model(endpoint.usage())}
    for span in endpoint.spans.values():
        assert EARLIEST_MS <= span.start_ns // 10**6 <= span.end_ns // 10**6 < LATEST_MS
        assert all(0 <= int(str(span.attributes[key])) < 2**63 for key in span.attributes if key.endswith("_tokens"))


def test_nothing_under_the_home_is_written_or_locked(tmp_path: Path) -> None:
    """Read-only files in read-only folders are enough, and nothing of them has changed."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, GOOD)
    put(root, row("m1", MODEL, 1, 1), "chat.jsonl")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    scan(tmp_path / "state", endpoint, root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_secrets_of_the_configuration_are_kept_nowhere(tmp_path: Path) -> None:
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, GOOD)
    config = '{"muxGovernorToken": "sk-very-secret", "projects": [["/src/p", {"workspaces": [{"id": "7ac41be902"}]}]]}'
    (root / "config.json").write_text(config, "utf-8")
    endpoint.down = True
    scan(tmp_path / "state", endpoint, root)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert b"file:mux" in stored
    assert b"secret" not in stored


def test_a_bug_with_one_workspace_stops_no_other_and_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, row("m1", MODEL, 3, 3), "chat.jsonl", "a-bad")
    put(root, GOOD, workspace="good")
    with sidecar(tmp_path / "state", endpoint, root) as made:
        with monkeypatch.context() as patched:
            patched.setattr("spanledger_sidecar.sources.mux.build.turn", lambda *_: 1 / 0)
            made.once()
        assert set(by_model(endpoint.usage())) == {("good", MODEL)}
        assert made.sources[0].errors.count == 1
        made.once()
    assert set(by_model(endpoint.usage())) == {("good", MODEL), ("a-bad", MODEL)}
