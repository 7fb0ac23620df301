"""Commands as users type them, and ledgers for them to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from ledger_in_memory import NOW
from spanledger_processor.accounting.account import enter
from spanledger_processor.cli import main
from spanledger_processor.config import load
from spanledger_processor.server.wiring import make_stage, open_store
from spanledger_processor.signing.signer import Signer

KEY = b"a key for tests, long enough"


def run(*arguments: str, given: bytes | None = None, env: Mapping[str, str] | None = None) -> Result:
    """Run `spanledger` with these arguments inside this process; `given` is its standard input, `env` is added."""
    return CliRunner().invoke(main, list(arguments), input=given, env=env, catch_exceptions=False)


def output(*arguments: str, given: bytes | None = None, env: Mapping[str, str] | None = None) -> str:
    """Return what a command that succeeds prints."""
    result = run(*arguments, given=given, env=env)
    assert result.exit_code == 0, result.output
    return result.stdout


def answer(*arguments: str, given: bytes | None = None, env: Mapping[str, str] | None = None) -> Any:
    """Return what a command that succeeds says with --json."""
    return json.loads(output(*arguments, "--json", given=given, env=env))


def ledger(folder: Path, *bodies: bytes, now_ns: int = NOW, sets: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Account for trace requests in the ledger of a state folder; gives the options that name it."""
    settings = (f"state.path={folder}", *sets)
    config = load(None, settings, {"HOME": "/nowhere"})
    stage = make_stage(config, Signer(KEY))
    store = open_store(config)
    for body in bodies:
        for batch in stage.read(body, {}, now_ns).batches:
            with store.unit() as unit:
                enter(batch, unit)
    store.close()
    return tuple(option for value in settings for option in ("--set", value))
