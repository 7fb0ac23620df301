"""Real Xum homes, replayed version by version: the usage files as they were saved, the chat as far as it had got."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidecars import DATA, Tokens

HOMES = DATA / "xum"
SCENARIOS = sorted(path.name for path in HOMES.iterdir())
_CLASSES = ("input", "cached", "cacheCreate", "output", "reasoning")


@dataclass(frozen=True)
class Recorded:
    """One recorded home."""

    path: Path

    @property
    def index(self) -> list[dict[str, Any]]:
        lines = (self.path / "usage-versions" / "index.jsonl").read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def truth(self) -> tuple[dict[tuple[str, str], Tokens], dict[tuple[str, str], float]]:
        """Tokens and cost by workspace and model, by Xum's own API at the end; a removed child's are its own."""
        marks = json.loads((self.path / "marks.json").read_text("utf-8"))
        usage = {name: found["byModel"] for name, found in marks["final_usage_by_api"].items()}
        children = self._children()
        tokens, costs = {}, {}
        for workspace, models in (usage | children).items():
            for model, bucket in models.items():
                tokens[workspace, model] = tuple(bucket[name]["tokens"] for name in _CLASSES)
                costs[workspace, model] = sum(bucket[name]["cost_usd"] for name in _CLASSES)
        for child, models in children.items():
            parent = next(iter(usage))
            for model in models:
                own = tokens[child, model]
                tokens[parent, model] = tuple(a - b for a, b in zip(tokens[parent, model], own, strict=True))
                costs[parent, model] -= costs[child, model]
        return tokens, {key: round(cost, 9) for key, cost in costs.items()}

    def _children(self) -> dict[str, Any]:
        found = {}
        before = self.path / "sessions-before-child-removal"
        for folder in before.iterdir() if before.exists() else ():
            if not (self.path / "xumroot" / "sessions" / folder.name).exists():
                found[folder.name] = json.loads((folder / "session-usage.json").read_text("utf-8"))["byModel"]
        return found

    def replay(self, root: Path, *, chat: bool) -> Iterator[int]:
        """Write every version in turn as Xum wrote it; yields its time. The end is the home as it was left."""
        root.mkdir(parents=True)
        config = self.path / "config-before-child-removal.json"
        shutil.copy(config if config.exists() else self.path / "xumroot" / "config.json", root / "config.json")
        for entry in self.index:
            folder = root / "sessions" / entry["workspace"]
            folder.mkdir(parents=True, exist_ok=True)
            if entry["saved"]:
                content = (self.path / "usage-versions" / entry["saved"]).read_bytes()
            elif chat:
                content = self._chat_at(entry["workspace"], entry["unix_ms"])
            else:
                continue
            write(folder / entry["file"], content, entry["unix_ms"])
            yield entry["unix_ms"]
        if self._children():
            for child in self._children():
                shutil.rmtree(root / "sessions" / child)
            yield self.index[-1]["unix_ms"]
        if chat:
            shutil.copytree(self.path / "xumroot", root, dirs_exist_ok=True)
            yield self.index[-1]["unix_ms"]

    def _chat_at(self, workspace: str, unix_ms: int) -> bytes:
        """The rows that had ended by then, which is when Xum writes them whole."""
        places = (self.path / "xumroot" / "sessions", self.path / "sessions-before-child-removal")
        chat = next(path for place in places if (path := place / workspace / "chat.jsonl").exists())
        rows = []
        for line in chat.read_text("utf-8").splitlines():
            metadata = json.loads(line)["metadata"]
            if metadata["timestamp"] + metadata.get("duration", 0) <= unix_ms:
                rows.append(line + "\n")
        return "".join(rows).encode()


def write(path: Path, content: bytes, unix_ms: int) -> None:
    """As Xum writes: beside the file, then over it."""
    draft = path.with_name(f"{path.name}.123456")
    draft.write_bytes(content)
    os.utime(draft, ns=(unix_ms * 1_000_000, unix_ms * 1_000_000))
    draft.rename(path)
