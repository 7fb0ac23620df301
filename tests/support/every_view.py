"""The rows of every view of a ledger: the answers of all GET routes of the API, which the commands print, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanledger_processor.config import load
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.facts import USUAL
from spanledger_processor.ledger.store import Reader, Table, tenant_hash
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.server.answers import Question
from spanledger_processor.server.routes import ROUTES, read_parameters, route_of
from spanledger_processor.server.wiring import make_pricer

TENANT = tenant_hash("")


@dataclass(frozen=True)
class Sent:
    """A span with what its resource and its scope name; a log event of its attributes and end, if it is `logged`."""

    span: Span
    resource: Mapping[str, str]
    scope: str
    logged: bool = False

    @property
    def is_genai(self) -> bool:
        """Whether it is an agent's, a call's or a tool's."""
        return any(attribute.key == "gen_ai.operation.name" for attribute in self.span.attributes)


Views: TypeAlias = dict[str, Any]
"""Answers by what was asked for."""

NO_SUMS = {
    "first": "the times of a session keep those of calls that were taken for its own",
    "last": "likewise",
    "active_seconds": "likewise",
    "state": "it follows from the last activity",
    "context": "likewise",
    "context_first": "likewise",
    "context_peak": "likewise",
    "dimensions": "likewise",
    "instances": "likewise",
    "last_span": "likewise",
    "label": "it may be the only process",
    "project": "it may be one of the dimensions",
    "late_correction_usd": "what spans were sent with, which cannot be taken back",
    "late_correction_usd_exact": "likewise",
    "compared_since": "a time of activity",
}
"""Fields that may differ by the order in which spans come, and why: docs/views.md names them."""
_DECIDED_AT_ARRIVAL = {"/api/v1/spans/{trace_id}/{span_id}"}
"""What was decided when a span came, and sent on with it."""
_OF_NO_LEDGER = {"/api/v1/prices/{model}", "/api/v1/dimensions"}


def every_view(
    reader: Reader, now_ns: int, budgets: tuple[BudgetRule, ...] = (), dimensions: tuple[str, ...] = ()
) -> Views:
    """Return the answers of all routes, for each session, run and dimension that the ledger has; rows in no order."""
    sessions = _ids(reader, Table.SESSION)
    runs = sorted({*_ids(reader, Table.RUN), *sessions})
    pricer = make_pricer(load(None, []))
    ids = {"/api/v1/dimensions/{name}": [*dimensions, "agent", "model", "provider"], "/api/v1/runs/{id}": runs}
    given = {
        "/api/v1/summary": [("by", "model,day,day_model,tool")],
        "/api/v1/runs": [("all", "true")],
    }
    views: Views = {}
    for route in ROUTES:
        if route.path in _DECIDED_AT_ARRIVAL | _OF_NO_LEDGER:
            continue
        for one in ids.get(route.path, sessions) if route.ids else [""]:
            limits = [("limit", "1000") for parameter in route.known if parameter.name == "limit"]
            values = read_parameters(route, [*limits, *given.get(route.path, [])])
            named = dict.fromkeys(route.ids, one)
            answer = route.answer(Question(reader, TENANT, pricer, now_ns, values, named, USUAL, budgets, dimensions))
            if route.path == "/api/v1/budgets" and answer is not None:
                answer = {**answer, "passed": _still_passed(answer)}
            views[f"{route.path} {one}"] = _without(answer)
    views |= {
        f"{path} {value}": _without(answer) for (path, value), answer in _of_values(reader, now_ns, views).items()
    }
    return views


def _of_values(reader: Reader, now_ns: int, views: Views) -> dict[tuple[str, str], Any]:
    """Return what is answered of each value of a dimension by itself, with the sum that the list of values has."""
    answers = {}
    lists = [view for name, view in views.items() if name.startswith("/api/v1/dimensions/")]
    for dimension, row in ((view["dimension"], row) for view in lists for row in view["values"] if row["value"]):
        for path in ("/api/v1/summary", "/api/v1/unpriced"):
            value, route = f"{dimension}:{row['value']}", route_of(path)
            values = read_parameters(route, [("dimension", value), ("limit", "1000")])
            answer = route.answer(Question(reader, TENANT, make_pricer(load(None, [])), now_ns, values))
            answers[path, value] = answer
            if path == "/api/v1/summary":
                assert {name: row[name] for name in answer["total"]} == _without(answer["total"])
    return answers


def _still_passed(answer: Any) -> list[Any]:
    """Return the thresholds that are passed by what the ledger has now, and were told: others that were told, and that
    later spans show not to have been passed, cannot be taken back.
    """
    used = {(row["budget"], row["value"]): row["used"] for row in answer["budgets"]}
    told = ((one["budget"], one["value"], one["threshold"]) for one in answer["passed"])
    return [[*one] for one in told if used.get(one[:2], 0) * 100 >= float(one[2])]


def _ids(reader: Reader, table: Table) -> list[str]:
    totals = (Sums.unpack(record) for _, record in reader.scan(table, TENANT))
    return sorted(sums.labels["id"] for sums in totals if sums.labels.get("id") and sums.spans)


def _without(answer: Any) -> Any:
    """Return an answer without what may differ, its rows in an order of their own."""
    if isinstance(answer, dict):
        return {name: _without(value) for name, value in answer.items() if name not in NO_SUMS}
    if isinstance(answer, list):
        return sorted((_without(row) for row in answer), key=lambda row: orjson.dumps(row, option=orjson.OPT_SORT_KEYS))
    return answer


def differences(one: Any, other: Any, at: str = "") -> Iterator[str]:
    """Yield where two answers differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            yield from differences(one.get(name), other.get(name), f"{at}.{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            yield from differences(mine, theirs, f"{at}[{number}]")
    elif one != other:
        yield f"{at}: {one!r:.300} != {other!r:.300}"
