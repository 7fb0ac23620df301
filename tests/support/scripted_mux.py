"""A double of Mux that writes its files as Mux does (docs/formats/mux.md), and knows what was really used."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sidecars import Tokens

_CLASSES = ("input", "cached", "cacheCreate", "output", "reasoning")
_CHILD = ("inputTokens", "cachedTokens", "cacheCreateTokens", "outputTokens", "reasoningTokens")
_RATES = (3e-6, 3e-7, 3.75e-6, 15e-6, 15e-6)
"""USD a token, whatever the model."""


def add(one: Tokens, other: Tokens) -> Tokens:
    return tuple(a + b for a, b in zip(one, other, strict=True))  # type: ignore[return-value]


def minus(one: Tokens, other: Tokens) -> Tokens:
    return tuple(a - b for a, b in zip(one, other, strict=True))  # type: ignore[return-value]


@dataclass
class Workspace:
    """One workspace, as Mux has it in memory."""

    id: str
    created_ms: int
    parent: str = ""
    chat: list[dict[str, Any]] = field(default_factory=list)
    archive: list[dict[str, Any]] = field(default_factory=list)
    headless: list[dict[str, Any]] = field(default_factory=list)
    models: dict[str, Tokens] = field(default_factory=dict)
    records: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    last: dict[str, Any] | None = None
    rolled: dict[str, Any] = field(default_factory=dict)
    sequence: int = 0


class ScriptedMux:
    """Mux at work on a home. `truth` is what each workspace used of each model, counted once.

    With `chat` the finer files are there; `now_ms` moves on with everything that is written. `lag_ms` is by how much
    the times of its files are behind, as on a network disk.
    """

    def __init__(self, root: Path, *, chat: bool, now_ms: int = 1_795_000_000_000) -> None:
        self.root = root
        self.with_chat = chat
        self.now_ms = now_ms
        self.lag_ms = 0
        self.workspaces: dict[str, Workspace] = {}
        self.truth: dict[tuple[str, str], Tokens] = {}
        self._made = 0
        (root / "sessions").mkdir(parents=True)

    def create(self, parent: str = "") -> str:
        """A new workspace; with a parent, a sub-agent's."""
        self._made += 1
        name = f"{self._made:010x}"
        self._tick()
        self.workspaces[name] = Workspace(name, self.now_ms, parent)
        self._config()
        self._folder(name).mkdir()
        return name

    def turn(
        self,
        name: str,
        model: str,
        tokens: Tokens,
        advisor: Tokens | None = None,
        *,
        aborted: bool = False,
        crash: bool = False,
        compaction: bool = False,
        between: Callable[[], object] = lambda: None,
    ) -> None:
        """A turn: the chat is written before the usage file, after an abort behind it.

        An advisor is asked in the middle of it: `between` is called when only the usage file has that. After a `crash`
        the usage file never gets it. A `compaction` leaves out what was written to the cache.
        """
        workspace = self.workspaces[name]
        started_ms = self._tick()
        row = self._row(workspace, "assistant", started_ms)
        workspace.chat.append(row)
        self._append_chat(workspace)
        if advisor is not None:
            self._used(workspace, "openai:advisor", advisor)
            workspace.last = self._last("openai:advisor", advisor)
            self._write_usage(workspace)
            call = {"toolName": "advisor", "timestamp": self.now_ms, "model": "openai:advisor", **_sdk(advisor)}
            between()
            row["metadata"]["toolModelUsages"] = [call]
        ended_ms = self._tick()
        row["metadata"] |= {"model": model, "duration": ended_ms - started_ms, "finishReason": "stop", **_sdk(tokens)}
        if compaction:
            row["metadata"] |= {"agentId": "compact"}
            del row["metadata"]["providerMetadata"]
        row["parts"] = [{"type": "dynamic-tool", "toolCallId": row["id"], "toolName": "bash", "input": {"script": "x"}}]
        if crash:
            self.truth[workspace.id, model] = add(self.truth.get((workspace.id, model), (0, 0, 0, 0, 0)), tokens)
            self._write_chat(workspace)
            return
        self._used(workspace, model, tokens)
        workspace.last = self._last(model, tokens)
        writes = [self._write_chat, self._write_usage]
        for write in reversed(writes) if aborted else writes:
            write(workspace)
        self._write_timing(workspace, row, ended_ms - started_ms)

    def call(self, name: str, model: str, tokens: Tokens, source: str = "workspace_status") -> None:
        """A headless call, or a turn that failed: a line of its own, and the last request stays."""
        workspace = self.workspaces[name]
        self._tick()
        workspace.headless.append({"timestamp": self.now_ms, "source": source, "model": model, **_sdk(tokens)})
        self._used(workspace, model, tokens)
        if self.with_chat:
            self._write(name, "headless-usage.jsonl", _lines(workspace.headless))
        self._write_usage(workspace)

    def unseen(self, name: str, model: str, tokens: Tokens) -> None:
        """Usage that only the usage file shows."""
        self._tick()
        self._used(self.workspaces[name], model, tokens)
        self._write_usage(self.workspaces[name])

    def refresh_cache(self, name: str) -> None:
        """A write without any usage in it."""
        self._tick()
        self._write_usage(self.workspaces[name], {"tokenStatsCache": {"computedAt": self.now_ms}})

    def rotate(self, name: str, *, crash: bool) -> None:
        """Move the chat to the archive; a crash in between leaves the rows in both."""
        workspace = self.workspaces[name]
        self._tick()
        workspace.archive += workspace.chat
        if self.with_chat:
            self._write(name, "chat-archive.jsonl", _lines(workspace.archive))
        if not crash:
            workspace.chat = []
            self._write_chat(workspace)

    def truncate(self, name: str) -> None:
        """The user deletes the newest rows; usage is never subtracted."""
        workspace = self.workspaces[name]
        self._tick()
        workspace.chat = workspace.chat[: len(workspace.chat) // 2]
        self._write_chat(workspace)

    def delete_last(self, name: str) -> None:
        """The user deletes the newest row."""
        workspace = self.workspaces[name]
        self._tick()
        workspace.chat = workspace.chat[:-1]
        self._write_chat(workspace)

    def fork(self, name: str) -> str:
        """A copy of the chat with its ids, and a usage file that starts from nothing."""
        source = self.workspaces[name]
        copy = self.create()
        workspace = self.workspaces[copy]
        workspace.chat, workspace.archive = json.loads(json.dumps([source.chat, source.archive]))
        workspace.sequence = source.sequence
        if self.with_chat and workspace.archive:
            self._write(copy, "chat-archive.jsonl", _lines(workspace.archive))
        self._write_chat(workspace)
        self._write_usage(workspace)
        timing = self._folder(name) / "session-timing.json"
        if timing.exists():
            self._write(copy, timing.name, timing.read_text("utf-8"))
        return copy

    def rebuild(self, name: str) -> None:
        """The usage file was lost: Mux makes it anew from the chat."""
        workspace = self.workspaces[name]
        self._tick()
        workspace.models, workspace.rolled, workspace.records = {}, {}, defaultdict(int)
        rows = {row["id"]: row for row in (*workspace.archive, *workspace.chat)}
        for row in rows.values():
            for usage in (row["metadata"], *row["metadata"].get("toolModelUsages", ())):
                if "usage" in usage:
                    self._record(workspace, usage["model"], _five(usage))
                    workspace.last = self._last(usage["model"], _five(usage))
        self._write_usage(workspace)

    def roll_up(self, name: str) -> None:
        """First step of a sub-agent's removal: its usage is added to its parent's."""
        child = self.workspaces[name]
        parent = self.workspaces[child.parent]
        self._tick()
        total: Tokens = (0, 0, 0, 0, 0)
        for model, tokens in child.models.items():
            total = add(total, tokens)
            self._record(parent, model, tokens)
        if not child.models:
            return
        by_class = dict(zip(_CHILD, total, strict=True))
        cost = sum(a * b for a, b in zip(total, _RATES, strict=True))
        about = {"totalCostUsd": cost, "agentType": "explore", "model": next(iter(child.models))}
        parent.rolled[name] = {"totalTokens": sum(total), **by_class, **about, "rolledUpAtMs": self.now_ms}
        self._write_usage(parent)

    def remove(self, name: str) -> None:
        """Remove a workspace; a parent keeps its chat."""
        workspace = self.workspaces.pop(name)
        self._tick()
        if self.with_chat and workspace.parent in self.workspaces:
            kept = self._folder(workspace.parent) / "subagent-transcripts" / name
            kept.mkdir(parents=True)
            (kept / "chat.jsonl").write_text(_lines([*workspace.archive, *workspace.chat]), "utf-8")
            (kept / "headless-usage.jsonl").write_text(_lines(workspace.headless), "utf-8")
        shutil.rmtree(self._folder(name))
        self._config()

    def move_home(self, target: Path) -> None:
        """Rename the home and leave a link behind, as Xum's first start does."""
        old = self.root
        old.rename(target)
        old.symlink_to(target)
        self.root = target

    def compacted(self, name: str) -> set[str]:
        """The models of the compactions that a workspace's history has."""
        rows = [row["metadata"] for row in (*self.workspaces[name].archive, *self.workspaces[name].chat)]
        return {metadata["model"] for metadata in rows if metadata.get("agentId") == "compact"}

    def _used(self, workspace: Workspace, model: str, tokens: Tokens) -> None:
        self._record(workspace, model, tokens)
        key = (workspace.id, model)
        self.truth[key] = add(self.truth.get(key, (0, 0, 0, 0, 0)), tokens)

    @staticmethod
    def _record(workspace: Workspace, model: str, tokens: Tokens) -> None:
        workspace.models[model] = add(workspace.models.get(model, (0, 0, 0, 0, 0)), tokens)
        workspace.records[model] += 1

    def _row(self, workspace: Workspace, role: str, at_ms: int) -> dict[str, Any]:
        workspace.sequence += 1
        metadata = {"timestamp": at_ms, "historySequence": workspace.sequence}
        name = f"{role}-{at_ms}-{workspace.id}"
        return {"id": name, "role": role, "workspaceId": workspace.id, "metadata": metadata, "parts": []}

    def _tick(self) -> int:
        self.now_ms += 1000
        return self.now_ms

    def _folder(self, name: str) -> Path:
        return self.root / "sessions" / name

    def _write(self, name: str, file: str, content: str) -> None:
        """As write-file-atomic: a draft beside it, then over it."""
        path = self._folder(name) / file
        draft = path.with_name(f"{file}.{self.now_ms}")
        draft.write_text(content, "utf-8")
        written_ns = (self.now_ms - self.lag_ms) * 1_000_000
        os.utime(draft, ns=(written_ns, written_ns))
        draft.rename(path)

    def _append_chat(self, workspace: Workspace) -> None:
        """A new row is appended, and may be seen half written."""
        if self.with_chat:
            with (self._folder(workspace.id) / "chat.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(workspace.chat[-1])[:40])

    def _write_chat(self, workspace: Workspace) -> None:
        if self.with_chat:
            self._write(workspace.id, "chat.jsonl", _lines(workspace.chat))

    def _write_usage(self, workspace: Workspace, extra: dict[str, Any] | None = None) -> None:
        models = {}
        for model, tokens in workspace.models.items():
            models[model] = _usage(tokens)
            if workspace.records[model] == 1:
                models[model]["model"] = model
        document: dict[str, Any] = {"byModel": models, "version": 1}
        if workspace.last is not None:
            document["lastRequest"] = workspace.last
        if workspace.rolled:
            document["rolledUpFrom"] = workspace.rolled
        self._write(workspace.id, "session-usage.json", json.dumps(document | (extra or {}), indent=2))

    def _last(self, model: str, tokens: Tokens) -> dict[str, Any]:
        return {"model": model, "usage": {**_usage(tokens), "model": model}, "timestamp": self.now_ms}

    def _write_timing(self, workspace: Workspace, row: dict[str, Any], duration_ms: int) -> None:
        usage = row["metadata"]["usage"]
        last = {
            "messageId": row["id"],
            "model": row["metadata"]["model"],
            "totalDurationMs": duration_ms,
            "ttftMs": None,
            "outputTokens": usage["outputTokens"],
        }
        self._write(workspace.id, "session-timing.json", json.dumps({"version": 2, "lastRequest": last}))

    def _config(self) -> None:
        listed = [
            {
                "id": workspace.id,
                "name": f"branch-{workspace.id}",
                "createdAt": _iso(workspace.created_ms),
                **({"parentWorkspaceId": workspace.parent} if workspace.parent else {}),
            }
            for workspace in self.workspaces.values()
        ]
        content = json.dumps({"projects": [["/src/widget", {"workspaces": listed}]], "muxGovernorToken": "secret"})
        draft = self.root / f"config.json.{self.now_ms}"
        draft.write_text(content, "utf-8")
        draft.rename(self.root / "config.json")


def _usage(tokens: Tokens) -> dict[str, Any]:
    return {
        name: {"tokens": count, "cost_usd": count * rate}
        for name, count, rate in zip(_CLASSES, tokens, _RATES, strict=True)
    }


def _sdk(tokens: Tokens) -> dict[str, Any]:
    """Usage as the AI SDK tells it: inclusive, cache writes apart."""
    given, cached, written, text, reasoning = tokens
    usage = {
        "inputTokens": given + cached + written,
        "outputTokens": text + reasoning,
        "cachedInputTokens": cached,
        "reasoningTokens": reasoning,
    }
    return {"usage": usage, "providerMetadata": {"anthropic": {"cacheCreationInputTokens": written}}}


def _five(holder: dict[str, Any]) -> Tokens:
    metadata = holder.get("providerMetadata", {"anthropic": {"cacheCreationInputTokens": 0}})
    usage, written = holder["usage"], metadata["anthropic"]["cacheCreationInputTokens"]
    cached, reasoning = usage["cachedInputTokens"], usage["reasoningTokens"]
    return usage["inputTokens"] - cached - written, cached, written, usage["outputTokens"] - reasoning, reasoning


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
