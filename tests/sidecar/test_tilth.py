"""tilth's event logs: both forms, their defaults, and logs that grow, break off and come back."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import tilth_logs
from sidecars import Endpoint, scan
from spanledger_sidecar.spans import Span
from tilth_logs import RECORDED, SPAN, TRACE, event


def _look(folder: Path, endpoint: Endpoint, **options: object) -> None:
    assert scan(folder / "state", endpoint, folder / "home", source="tilth", **options)


def _totals(endpoint: Endpoint, key: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for span in endpoint.usage():
        found[str(span.attributes[key])] += _total(span)
    return found


def _total(span: Span) -> int:
    values = [span.attributes[f"gen_ai.usage.{name}_tokens"] for name in ("input", "output")]
    return sum(value for value in values if isinstance(value, int))


def test_known_totals_of_a_recorded_log(tmp_path: Path) -> None:
    endpoint = Endpoint()
    tilth_logs.session(tmp_path / "home", "s1", tilth_logs.RECORDED.read_text("utf-8"))
    _look(tmp_path, endpoint)
    by_task: Counter[tuple[str, str]] = Counter()
    for span in endpoint.usage():
        task = (str(span.attributes["spanledger.task.id"]), str(span.attributes["spanledger.task.kind"]))
        by_task[task] += _total(span)
    assert by_task == tilth_logs.RECORDED_TASKS
    assert _totals(endpoint, "gen_ai.request.model") == tilth_logs.RECORDED_MODELS


def test_todays_form(tmp_path: Path) -> None:
    """The iteration's span id goes to its first call; its tool hangs below, other calls stand beside and not below."""
    endpoint = Endpoint()
    tilth_logs.session(tmp_path / "home", "s1", tilth_logs.todays_form())
    _look(tmp_path, endpoint)
    worker, evaluator = endpoint.usage()
    (tool,) = endpoint.named("execute_tool")
    assert {span.trace_id.hex() for span in (worker, evaluator, tool)} == {TRACE}
    assert worker.span_id.hex() == tool.parent_id.hex() == SPAN
    assert evaluator.parent_id == b""
    assert worker.attributes == worker.attributes | {
        "spanledger.source": "file:tilth",
        "spanledger.granularity": "per-message",
        "spanledger.task.kind": "worker",
        "gen_ai.conversation.id": "s1",
        "gen_ai.provider.name": "openrouter",
        "gen_ai.response.id": "gen-1",
        "gen_ai.response.finish_reasons": ["tool_calls"],
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.cache_read.input_tokens": 600,
        "gen_ai.usage.output_tokens": 200,
        "gen_ai.usage.reasoning.output_tokens": 50,
        "spanledger.cost.reported_usd": 0.0123,
    }
    assert evaluator.attributes["spanledger.task.kind"] == "evaluator"
    assert tool.attributes["spanledger.tool.signature_scope"] == "full"


def test_a_log_that_grows_is_read_on_from_where_it_was(tmp_path: Path) -> None:
    """Also where the last line was seen before it was whole."""
    endpoint = Endpoint()
    lines = [event("model_call", {"task_id": "T1", "prompt_tokens": n, "eval_tokens": 1}) for n in range(1, 6)]
    content = "".join(lines)
    for end in (0, len(lines[0]), len(lines[0]) + 30, len(content) - 1, len(content)):
        tilth_logs.session(tmp_path / "home", "s1", content[:end])
        _look(tmp_path, endpoint)
    assert sorted(_total(span) for span in endpoint.usage()) == [2, 3, 4, 5, 6]
    assert endpoint.repeats == 0


def test_lines_that_are_no_events_are_left_out(tmp_path: Path) -> None:
    endpoint = Endpoint()
    call = event("model_call", {"prompt_tokens": 5, "eval_tokens": 5})
    rest = ["not json\n", "[]\n", "\n", '{"type": "model_call"}\n', event("model_call", {"prompt_tokens": None})]
    tilth_logs.session(tmp_path / "home", "s1", "".join([*rest, call]))
    _look(tmp_path, endpoint)
    (span,) = endpoint.usage()
    assert span.attributes["spanledger.task.id"] == span.attributes["gen_ai.request.model"] == "unknown"


def test_first_run_counts_what_comes_from_then_on(tmp_path: Path) -> None:
    endpoint = Endpoint()
    old = event("model_call", {"prompt_tokens": 5, "eval_tokens": 5})
    path = tilth_logs.session(tmp_path / "home", "s1", old)
    _look(tmp_path, endpoint, since_ms=None)
    assert not endpoint.spans
    path.write_text(old + old, "utf-8")
    _look(tmp_path, endpoint, since_ms=None)
    assert len(endpoint.usage()) == 1


def test_a_log_that_was_put_back_from_a_copy_counts_what_is_new(tmp_path: Path) -> None:
    """Shorter, then grown again by the same events and by another: an event is known by what it says."""
    endpoint = Endpoint()
    call = event("model_call", {"prompt_tokens": 5, "eval_tokens": 5})
    other = event("model_call", {"prompt_tokens": 7, "eval_tokens": 5})
    path = tilth_logs.session(tmp_path / "home", "s1", call * 3)
    _look(tmp_path, endpoint)
    for content in (call, call * 2, call * 3 + other, other + call * 2, call * 3 + other):
        path.write_text(content, "utf-8")
        _look(tmp_path, endpoint)
    assert len(endpoint.usage()) == 4


def test_the_same_ids_from_a_log_that_lost_a_line_and_a_state_that_is_lost(tmp_path: Path) -> None:
    """An endpoint that has them knows them again, whatever stands before them in the file."""
    endpoint = Endpoint()
    lines = RECORDED.read_text("utf-8").splitlines(keepends=True)
    tilth_logs.session(tmp_path / "home", "s1", "".join(lines))
    _look(tmp_path, endpoint)
    counted = set(endpoint.spans)
    tilth_logs.session(tmp_path / "home", "s1", "".join(lines[1:]))
    shutil.rmtree(tmp_path / "state")
    _look(tmp_path, endpoint)
    assert set(endpoint.spans) == counted
