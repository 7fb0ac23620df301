"""tilth's event logs in both of its forms, with totals that are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sidecars import DATA

RECORDED = DATA / "mux" / "tilth-pr5-events.jsonl"
RECORDED_TASKS = {
    ("T1", "worker"): 4480,
    ("T1", "judge"): 2895,
    ("T1", "self_improve"): 1560,
    ("T0", "worker"): 920,
}
"""Tokens by task and kind (its README)."""
RECORDED_MODELS = {"deepseek/deepseek-v4-flash": 6040, "anthropic/claude-sonnet-4.5": 2895, "unknown": 920}

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def session(root: Path, name: str, content: str) -> Path:
    """A session's log below a home."""
    folder = root / "sessions" / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "events.jsonl"
    path.write_text(content, "utf-8")
    return path


def event(kind: str, payload: dict[str, Any], **more: Any) -> str:
    """One line."""
    return json.dumps({"ts": "2026-11-23T10:00:00Z", "type": kind, "payload": payload, **more}) + "\n"


def todays_form() -> str:
    """An iteration as tilth writes it today: a worker's call, its tool, an evaluator's call, and one that failed."""
    ids = {"trace_id": TRACE, "span_id": SPAN}
    worker = {
        "task_id": "T1",
        "model": "deepseek/deepseek-v4-flash",
        "prompt_tokens": 1000,
        "cached_tokens": 600,
        "eval_tokens": 200,
        "reasoning_tokens": 50,
        "cost": 0.0123,
        "finish_reason": "tool_calls",
        "provider": "openrouter",
        "response_id": "gen-1",
    }
    evaluator = worker | {"phase": "evaluator", "prompt_tokens": 300, "cached_tokens": 0, "response_id": "gen-2"}
    failed = worker | {"prompt_tokens": 0, "eval_tokens": 0, "health": "provider_error", "cost": None}
    return (
        event("session_start", {"source": "/src/widget"})
        + event("model_call", worker, **ids)
        + event("tool_call", {"task_id": "T1", "iter": 1, "tool": "bash", "args": {"cmd": "make"}}, **ids)
        + event("model_call", evaluator, **ids)
        + event("model_call", failed, **ids)
    )
