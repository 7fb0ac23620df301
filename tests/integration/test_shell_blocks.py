"""Every shell block of the documents is run as it stands there, but for ports and files of the test's own."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

from backend import Backend
from chats import chat, request
from served import COMMAND, Served
from tools.parts import ROOT
from tools.programs import Program, answers, eventually, free_port, wait_for_one_day
from tracked import tracked

pytestmark = pytest.mark.integration

RECORDED = ROOT / "tests/data/otlp/pydantic-ai/S6/001.traces.binpb"
XUM = ROOT / "tests/data/xum/two-models/xumroot"

RUN_ELSEWHERE: Mapping[str, str] = {
    "$ make demo": "tests/cli/test_demo.py",
    "$ otelcol-spanledger --config deploy/collector/component.yaml": "tests/integration/test_component.py",
    "$ otelcol --config your-configuration.yaml": "tests/integration/test_loop.py",
}
"""The beginnings of blocks, with the tests that run them; docs/libraries.md and docs/coding-agents.md have theirs."""
WITH_OWN_TESTS = {"libraries.md": "test_libraries.py", "coding-agents.md": "test_real_agents.py"}


def _blocks() -> Iterator[tuple[str, str]]:
    """The document and text of each block that is not marked as one that cannot run."""
    fence = re.compile(r"(<!-- not run by a test: .+ -->\n)?```(?:sh|bash|shell|console)\n(.*?)```", re.DOTALL)
    for path in sorted(tracked(".md")):
        for marked, text in fence.findall(path.read_text()):
            if not marked:
                yield path.name, text


BLOCKS = list(_blocks())


def block(document: str, beginning: str) -> list[str]:
    """The commands of the one block of a document that begins so."""
    (text,) = (text for name, text in BLOCKS if name == document and text.startswith(beginning))
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")] or [text]


def run(command: str, folder: Path, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command by a shell whose `spanledger` is the one under test."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    ours = programs / "spanledger"
    ours.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    ours.chmod(0o755)
    path = os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"]))
    env = {**os.environ, "HOME": str(folder), "PATH": path, **environment}
    return subprocess.run(
        ["/bin/sh", "-c", command],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        env=env,
        cwd=ROOT,
    )


def says(command: str, folder: Path, **environment: str) -> str:
    """What a command that succeeds prints."""
    result = run(command, folder, **environment)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def test_every_block_is_run_somewhere() -> None:
    here = Path(__file__).read_text()
    for document, text in BLOCKS:
        beginning = text.splitlines()[0]
        if document in WITH_OWN_TESTS:
            assert document in (Path(__file__).parent / WITH_OWN_TESTS[document]).read_text()
        elif not any(beginning.startswith(each) for each in RUN_ELSEWHERE):
            assert beginning[:20] in here, f"{document}: nothing runs the block that begins with {beginning!r}"
    for test in RUN_ELSEWHERE.values():
        assert (ROOT / test).exists()


def test_the_ledger_is_asked(served: Served, tmp_path: Path) -> None:
    served.export(RECORDED.read_bytes())
    for command in block("README.md", "$ spanledger summary --since today"):
        asked = command.replace("127.0.0.1:4320", f"127.0.0.1:{served.api}")
        assert says(asked, tmp_path, SPANLEDGER_CONFIG=str(served.config))


def test_a_workspace_is_read(served: Served, tmp_path: Path) -> None:
    (tmp_path / ".xum").symlink_to(XUM)
    read, session = block("README.md", "$ spanledger sidecar --endpoint")
    says(read.replace("127.0.0.1:4317", f"127.0.0.1:{served.grpc}"), tmp_path, SPANLEDGER_CONFIG=str(served.config))
    text = next(text for name, text in BLOCKS if name == "README.md" and text.startswith("$ spanledger sidecar"))
    printed = [line.rstrip() for line in says(session, tmp_path, SPANLEDGER_CONFIG=str(served.config)).splitlines()]
    assert {line for line in text.splitlines() if not line.startswith(("$ ", "..."))} <= {*printed}


def test_a_request_is_seen_going_through(tmp_path: Path) -> None:
    serve, send, metrics, *questions = block("debugging.md", "$ spanledger serve --set")
    ports = {"4317": free_port(), "4318": free_port(), "4320": free_port()}
    own = " ".join(
        f"--set {key}.endpoint=127.0.0.1:{ports[port]}"
        for key, port in {
            "receivers.otlp.protocols.grpc": "4317",
            "receivers.otlp.protocols.http": "4318",
            "api": "4320",
        }.items()
    )
    command = serve.replace("build/debugging", str(tmp_path)) + f" {own}"
    command = command.replace("spanledger serve", f"exec {shlex.join(COMMAND)} serve")
    ready = f"http://127.0.0.1:{ports['4320']}/readyz"
    program = Program("serve", ["/bin/sh", "-c", command], tmp_path, lambda: answers(ready))
    program.start()
    try:
        assert says(send.replace("4318", str(ports["4318"])), tmp_path) == "200\n"
        assert "spanledger_genai_spans_total" in says(metrics.replace("4320", str(ports["4320"])), tmp_path)
        summary, span = (says(each.replace("build/debugging", str(tmp_path)), tmp_path) for each in questions)
        assert "$0." in summary
        assert "gpt-4o-mini" in span
    finally:
        program.stop()


def test_a_span_is_explained(tmp_path: Path) -> None:
    (command,) = block("debugging.md", "$ spanledger explain FILE")
    assert "pydantic" in says(command.replace("FILE", str(RECORDED)), tmp_path)


def test_a_debugger_stops_where_a_request_is_accounted_for(tmp_path: Path) -> None:
    (command,) = block("debugging.md", "$ python -m pdb -c 'import spanledger_processor")
    result = run(command, tmp_path, "p len(batch.facts), batch.facts[0].call.kind\nq\n")
    assert result.returncode == 0, result.stderr
    assert "(12, 'llm')" in result.stdout


def test_where_the_debugger_stops_there_are_functions() -> None:
    rows = re.findall(r"^\| `(spanledger_[\w.]+)` \| `([\w.]+)` \|", (ROOT / "docs/debugging.md").read_text(), re.M)
    assert len(rows) > 6
    for module, name in rows:
        assert callable(attrgetter(name)(import_module(module))), f"{module}: {name}"


def test_a_recording_is_debugged(tmp_path: Path) -> None:
    (command,) = block("debugging.md", '$ make test ARGS="tests/corpus')
    arguments = shlex.split(command)[2].removeprefix("ARGS=")
    assert "passed" in says(f"python -m pytest -q {arguments}", tmp_path)


def test_refused_requests_are_sent_again(tmp_path: Path) -> None:
    """The file is the one that `dead_letter` names, and holds what the file exporter writes."""
    (command,) = block("delivery.md", "spanledger replay --config")
    letters = tmp_path / "tempo-refused.jsonl"
    more = {"exporters": {"otlp_grpc": {"dead_letter": str(letters)}}}
    with Backend() as backend, Served(tmp_path, backend.port, more) as served:
        letters.write_text('{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"refused before"}]}]}]}\n')
        replay = command.replace("spanledger.yaml", str(served.config))
        says(replay.replace("/var/lib/spanledger/tempo-refused.jsonl", str(letters)), tmp_path)
        assert any(b"refused before" in body for body in backend.received)


def test_a_hook_stops_what_is_over_its_budget(tmp_path: Path) -> None:
    (script,) = block("views.md", "#!/bin/sh")
    budgets = {"processor": {"budgets": [{"name": "tiny", "amount": 1e-9, "period": "month"}]}}
    given = '{"session_id": "s"}'
    with Backend() as backend, Served(tmp_path, backend.port, budgets) as served:
        hook = script.replace("127.0.0.1:4320", f"127.0.0.1:{served.api}")
        assert run(hook, tmp_path, given).returncode == 0
        wait_for_one_day()
        served.export(request(chat()))  # of this month, as no recording stays

        def stops() -> None:
            stopped = run(hook, tmp_path, given)
            assert stopped.returncode == 2
            assert "budget is used up" in stopped.stderr

        eventually(stops)
    assert run(hook, tmp_path, given).returncode == 0, "nothing stops where the ledger cannot be asked"
