"""Spans that Spanledger made."""

from __future__ import annotations

from dialect_view import read, span
from spanledger_processor import synthesized
from spanledger_processor.model import CLASS_NAMES
from spanledger_processor.units import USD


def test_a_files_span() -> None:
    found = read(
        span(
            {
                "spanledger.source": "file:mux",
                "spanledger.granularity": "per-session-aggregate",
                "spanledger.note": "n",
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "m",
                "gen_ai.usage.input_tokens": 1,
                "gen_ai.usage.output_tokens": 1,
                "spanledger.cost.reported_usd": 0.25,
                "gen_ai.usage.cost": 0.25,
                "spanledger.task.id": "t",
                "spanledger.task.kind": "judge",
                "spanledger.session.parent_id": "p",
                "spanledger.source.service_tier": "flex",
            }
        )
    )
    assert (found.source, found.granularity, found.note) == ("file:mux", "per-session-aggregate", "n")
    assert (found.task_id, found.task_kind, found.session_parent_id) == ("t", "judge", "p")
    assert found.reported is not None
    assert (found.reported.amount, found.reported.billed) == (USD // 4, False)
    assert found.price_context == (("service_tier", "flex"),)
    assert found.present == {"gen_ai.usage.cost"}


def test_what_was_really_charged() -> None:
    found = read(
        span(
            {
                "spanledger.source": "file:mux",
                "spanledger.cost.reported_usd": 0.0,
                "spanledger.source.charged": True,
                "gen_ai.operation.name": "chat",
            }
        )
    )
    assert found.reported is not None
    assert (found.reported.amount, found.reported.billed) == (0, True)


def test_a_closing_span() -> None:
    found = read(span({"spanledger.source": "file:mux", "spanledger.session.closed": True}))
    assert (found.kind, found.session_closed, found.usage) == ("other", True, None)


def test_a_tool_call_that_its_source_signed() -> None:
    found = read(
        span(
            {
                "spanledger.source": "file:mux",
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "bash",
                "spanledger.tool.signature": "h1:00000000:1",
                "spanledger.tool.signature_scope": "truncated",
            }
        )
    )
    assert found.tool is not None
    assert (found.tool.signature, found.tool.signature_scope) == ("h1:00000000:1", "truncated")


def test_every_usage_class_has_its_key_on_synthesized_spans() -> None:
    assert tuple(sorted(synthesized.USAGE)) == tuple(sorted(CLASS_NAMES))
    told = {key: 1000 - 10 * number for number, key in enumerate(synthesized.USAGE.values())}
    usage = read(span({synthesized.SOURCE: "log:x", **told})).usage
    assert usage is not None
    assert [getattr(usage, name) for name in synthesized.USAGE] == list(told.values())
