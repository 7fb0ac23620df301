"""Names of files put aside, as lumberjack (the Collector's rotation) gives them: `spans-2026-01-31T23-59-59.123.jsonl`.

Source: natefinch/lumberjack v2, backupName and millRunOnce; times are UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from spanledger_exporters.settings import RotationSettings

_FORMAT = "%Y-%m-%dT%H-%M-%S.%f"
_MICROSECONDS_CUT = -3
_TIME_LENGTH = len("2026-01-31T23-59-59.123")


def backup(path: Path, now: datetime) -> Path:
    """Where `path` is put aside at `now`; a moment later where a file of that name exists."""
    prefix, suffix = _parts(path)
    while True:
        stamp = now.astimezone(UTC).strftime(_FORMAT)[:_MICROSECONDS_CUT]
        aside = path.with_name(f"{prefix}{stamp}{suffix}")
        if not aside.exists():
            return aside
        now += timedelta(milliseconds=1)


def outdated(path: Path, names: Iterable[str], rotation: RotationSettings, now: datetime) -> list[str]:
    """Which of the `names` in the folder of `path` are files put aside that are kept no longer."""
    found = ((put_aside_at(path, name), name) for name in names)
    newest_first = sorted(((when, name) for when, name in found if when is not None), reverse=True)
    kept = rotation.max_backups or len(newest_first)
    oldest = now - timedelta(days=rotation.max_days) if rotation.max_days else datetime.min.replace(tzinfo=UTC)
    return [name for index, (when, name) in enumerate(newest_first) if index >= kept or when < oldest]


def put_aside_at(path: Path, name: str) -> datetime | None:
    """The time in the name of a file that was put aside for `path`; None for any other file."""
    prefix, suffix = _parts(path)
    stamp = name[len(prefix) : len(name) - len(suffix)]
    if name != f"{prefix}{stamp}{suffix}" or len(stamp) != _TIME_LENGTH:
        return None
    try:
        return datetime.strptime(stamp, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


def _parts(path: Path) -> tuple[str, str]:
    """What stands before and after the time: the extension is what follows the last dot, as in Go."""
    stem, dot, extension = path.name.rpartition(".")
    return (f"{stem}-", f".{extension}") if dot else (f"{path.name}-", "")
