"""Mux homes made by hand, one file at a time."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecars import DATA

DOCUMENTS = DATA / "mux"
WRITTEN_MS = 1_787_141_725_500
WORKSPACE = "7ac41be902"


def put(root: Path, content: bytes | str, name: str = "session-usage.json", workspace: str = WORKSPACE) -> Path:
    """Write a workspace's file as Mux does: beside it, then over it."""
    path = root / "sessions" / workspace / name
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{name}.123")
    draft.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.utime(draft, ns=(WRITTEN_MS * 1_000_000, WRITTEN_MS * 1_000_000))
    draft.rename(path)
    return path


def document(name: str) -> dict[str, Any]:
    """One of the synthetic documents."""
    found: dict[str, Any] = json.loads((DOCUMENTS / name).read_text("utf-8"))
    return found


def usage(models: dict[str, Any], **more: Any) -> str:
    """A usage file."""
    return json.dumps({"byModel": models, "version": 1, **more})


def bucket(given: int = 0, answer: int = 0, cost: float | None = None, **more: Any) -> dict[str, Any]:
    """A Usage object with input and output; `cost` is the output's."""
    counts = {"input": given, "cached": 0, "cacheCreate": 0, "output": answer, "reasoning": 0}
    found: dict[str, Any] = {name: {"tokens": count} for name, count in counts.items()}
    if cost is not None:
        for name in counts:
            found[name]["cost_usd"] = cost if name == "output" else 0
    return found | more


def last(model: str, found: dict[str, Any], at_ms: int = WRITTEN_MS - 100) -> dict[str, Any]:
    """A last request."""
    return {"model": model, "usage": found, "timestamp": at_ms}


def row(name: str, model: str, given: int, answer: int, at_ms: int = WRITTEN_MS - 1000, **more: Any) -> str:
    """An assistant's row of a chat file, which took half a second."""
    metadata = {
        "timestamp": at_ms,
        "duration": 500,
        "model": model,
        "usage": {"inputTokens": given, "outputTokens": answer},
        **more,
    }
    return json.dumps({"id": name, "role": "assistant", "metadata": metadata, "parts": []}) + "\n"


def shut_to_us(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process open and see nothing in a folder, as its mode 0 would if the tests did not run as root."""

    def shut(call: Callable[..., Any], *, itself: bool) -> Callable[..., Any]:
        def asked(path: Any = ".", *rest: Any, **more: Any) -> Any:
            if not isinstance(path, int) and folder in [*([Path(path)] if itself else []), *Path(path).parents]:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return call(path, *rest, **more)

        return asked

    for name, itself in {"open": True, "scandir": True, "listdir": True, "stat": False, "lstat": False}.items():
        monkeypatch.setattr(os, name, shut(getattr(os, name), itself=itself))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and access(path, mode))
