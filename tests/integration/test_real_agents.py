"""Claude Code, Codex, Gemini CLI and Qwen Code, set up as docs/coding-agents.md says, through the shipped files.

Each runs once for each block of that page, against a scripted model server whose log is the truth.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from backend import Backend
from captures import Capture
from real_parts import ROOT, Loop
from tests.capture.model_server import ModelServer
from tools.programs import eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PAGE = (ROOT / "docs" / "coding-agents.md").read_text()
PROMPT = "How is the weather?"
CODEX_MODEL = """
model = "gpt-5.1"
model_provider = "scripted"
[model_providers.scripted]
name = "scripted"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "OPENAI_API_KEY"
"""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of the page: which agent's it is, in what form it is written, and the settings."""

    agent: str
    form: str
    text: str


def _blocks() -> list[Block]:
    found = []
    for section in PAGE.split("\n## ")[1:]:
        title = section.partition("\n")[0]
        for form, text in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL):
            found.append(Block(title, form, text))
    return found


BLOCKS = _blocks()


def test_the_page_has_settings_for_each_agent() -> None:
    assert {block.agent for block in BLOCKS} == set(_AGENTS)


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{block.agent}-{index}" for index, block in enumerate(BLOCKS)])
def test_the_ledger_is_what_the_model_server_billed(
    block: Block,
    otelcol: None,
    coding_agents: dict[str, Path],
    model: ModelServer,
    backend: Backend,
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with Loop(tmp_path / "loop", backend.port) as loop:
        settings = block.text.replace(":4317", f":{loop.otlp}").replace(":4318", f":{loop.http}")
        command, environment = _AGENTS[block.agent](
            coding_agents, home, model.url, Block(block.agent, block.form, settings)
        )
        _run(command, home, environment)
        calls = Capture("", (), {"calls": model.log}).calls
        assert len(calls) > 3

        def agrees() -> None:
            total = loop.ledger()["total"]
            assert total["calls"] == len(calls)
            for name in ("input", "output", "cache_read", "cache_write", "cache_write_1h"):
                assert total["tokens"][name] == sum(call.tokens[name] for call in calls)
            assert Decimal(total["cost_usd_exact"]) == sum(round(call.cost, 12) for call in calls)

        eventually(agrees)


def _run(command: list[str], home: Path, environment: dict[str, str]) -> None:
    """Run an agent with nothing of this machine's user but PATH."""
    own = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run(
        command,
        cwd=home,
        env={**own, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "The weather is fine." in done.stdout


def _exports(text: str) -> dict[str, str]:
    """The variables that lines of a shell export."""
    return dict(re.findall(r"^export (\w+)=(\S+)", text, re.MULTILINE))


def _claude(programs: dict[str, Path], home: Path, url: str, block: Block) -> tuple[list[str], dict[str, str]]:
    environment = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "none",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    if block.form == "json":
        (home / ".claude").mkdir()
        (home / ".claude" / "settings.json").write_text(block.text)
    else:
        environment |= _exports(block.text)
    return [str(programs["claude"]), "-p", PROMPT, "--model", "claude-sonnet-4-6"], environment


def _codex(programs: dict[str, Path], home: Path, url: str, block: Block) -> tuple[list[str], dict[str, str]]:
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text(CODEX_MODEL.format(url=url) + block.text)
    return [str(programs["codex"]), "exec", "--skip-git-repo-check", PROMPT], {"OPENAI_API_KEY": "none"}


def _gemini(programs: dict[str, Path], home: Path, url: str, block: Block) -> tuple[list[str], dict[str, str]]:
    settings: dict[str, Any] = json.loads(block.text) if block.form == "json" else {}
    settings["security"] = {"auth": {"selectedType": "gemini-api-key"}}
    (home / ".gemini").mkdir()
    (home / ".gemini" / "settings.json").write_text(json.dumps(settings))
    environment = {"GEMINI_API_KEY": "none", "GOOGLE_GEMINI_BASE_URL": url}
    if block.form == "sh":
        environment |= _exports(block.text)
    return [str(programs["gemini"]), "--skip-trust", "-m", "gemini-2.5-pro", "-p", PROMPT], environment


def _qwen(programs: dict[str, Path], home: Path, url: str, block: Block) -> tuple[list[str], dict[str, str]]:
    settings: dict[str, Any] = json.loads(block.text)
    settings["security"] = {"auth": {"selectedType": "openai"}}
    (home / ".qwen").mkdir()
    (home / ".qwen" / "settings.json").write_text(json.dumps(settings))
    environment = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_MODEL": "gpt-4o"}
    return [str(programs["qwen"]), "-y", "-p", PROMPT], environment


_AGENTS = {"Claude Code": _claude, "Codex": _codex, "Gemini CLI": _gemini, "Qwen Code": _qwen}
