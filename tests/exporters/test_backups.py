"""Names and ages of files put aside, as lumberjack has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from spanledger_exporters.file import backup, outdated, put_aside_at
from spanledger_exporters.settings import RotationSettings

NOW = datetime(2026, 1, 31, 23, 59, 59, 123_999, tzinfo=UTC)


def rotation(**given: Any) -> RotationSettings:
    return RotationSettings.model_validate(given)


@pytest.mark.parametrize(
    ("name", "aside"),
    [
        ("spans.jsonl", "spans-2026-01-31T23-59-59.123.jsonl"),
        ("spans", "spans-2026-01-31T23-59-59.123"),
        ("a.b.json", "a.b-2026-01-31T23-59-59.123.json"),
        (".json", "-2026-01-31T23-59-59.123.json"),
    ],
)
def test_the_time_stands_before_the_extension(tmp_path: Path, name: str, aside: str) -> None:
    assert backup(tmp_path / name, NOW) == tmp_path / aside
    assert put_aside_at(tmp_path / name, aside) == NOW.replace(microsecond=123_000)


def test_the_time_is_utc(tmp_path: Path) -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
    assert backup(tmp_path / "spans.jsonl", elsewhere).name == "spans-2026-01-31T23-59-59.123.jsonl"


def test_a_name_that_is_taken_is_never_given_again(tmp_path: Path) -> None:
    """Two rotations within a millisecond: lumberjack would lose the first file."""
    first = backup(tmp_path / "spans.jsonl", NOW)
    first.touch()
    assert backup(tmp_path / "spans.jsonl", NOW).name == "spans-2026-01-31T23-59-59.124.jsonl"


@pytest.mark.parametrize(
    "name",
    [
        "spans.jsonl",
        "spans-2026-01-31.jsonl",
        "spans-2026-01-31T23-59-59.123.json",
        "spans-2026-01-31T23-59-59.1.jsonl",
        "spans-2026-13-31T23-59-59.123.jsonl",
        "spans-2026-01-31T23-59-59.123.jsonl.gz",
        "other-2026-01-31T23-59-59.123.jsonl",
        "x",
        "",
    ],
)
def test_other_files_are_left_alone(name: str) -> None:
    path = Path("spans.jsonl")
    assert put_aside_at(path, name) is None
    assert outdated(path, [name], rotation(max_days=1, max_backups=1), NOW + timedelta(days=999)) == []


def names(*days: int) -> list[str]:
    """Names of files that were put aside so many days before NOW."""
    return [backup(Path("/nowhere/spans.jsonl"), NOW - timedelta(days=ago)).name for ago in days]


@pytest.mark.parametrize(
    ("settings", "gone"),
    [
        pytest.param({"max_backups": 2}, [3, 9], id="only the newest are kept"),
        pytest.param({"max_backups": 0}, [], id="all are kept"),
        pytest.param({"max_backups": 0, "max_days": 2}, [3, 9], id="those of the last days are kept"),
        pytest.param({"max_backups": 1, "max_days": 5}, [2, 3, 9], id="both, whatever is stricter"),
    ],
)
def test_which_are_kept(settings: dict[str, int], gone: list[int]) -> None:
    files, now = names(9, 1, 3, 2), NOW.replace(microsecond=0)
    assert set(outdated(Path("/nowhere/spans.jsonl"), files, rotation(**settings), now)) == set(names(*gone))
