"""The routes of the HTTP API: one table of paths, parameters and answers, which the server and the commands share.

To add a route: a function in `answers` and a row in `ROUTES`. The OpenAPI document and docs/http-api.md are made of it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias, get_args

from spanledger_processor.ledger.budgets import PERIODS, BudgetRule
from spanledger_processor.ledger.dimensions import listed
from spanledger_processor.ledger.facts import STATES, USUAL, Lifecycle
from spanledger_processor.ledger.keys import bounded_id
from spanledger_processor.ledger.pages import MOST_ROWS
from spanledger_processor.ledger.queries import has_tenant
from spanledger_processor.ledger.store import Reader, tenant_hash
from spanledger_processor.ledger.warning_rules import WARNINGS
from spanledger_processor.model import Unpriced
from spanledger_processor.pricing import Pricer
from spanledger_processor.server import answers
from spanledger_processor.server.answers import Question
from spanledger_processor.server.forms import first_line, header, lines
from spanledger_processor.server.shapes import (
    BUDGETS,
    CANDIDATES,
    DECISION,
    DIMENSION,
    DIMENSIONS,
    GONE,
    PRICE,
    RUN,
    RUNS_PAGE,
    SESSION,
    SUMMARY,
    TASK,
    TENANT,
    TIMELINE,
    TOOL_REPEAT,
    TOOLS_PAGE,
    UNPRICED,
    WARNING,
    Shape,
)
from spanledger_processor.server.unknown_names import unknown_field, unknown_model, unknown_name, unknown_parameter
from spanledger_processor.units import NS_PER_DAY

_BACK = re.compile(r"([0-9]{1,6})d", re.ASCII)
_WORDS = {"today": 0, "yesterday": 1}
DAYS = "a UTC day such as 2026-01-31, today, yesterday, or 7d: the last 7 days, today included"
_ALL = 10**9
"""More rows than there are of anything that is not given in pages."""
MOST_TEXT = 4096
"""Characters of a parameter."""


class ParameterError(ValueError):
    """A parameter that is not known, or whose value cannot be read; the message names it."""


class TenantError(LookupError):
    """The ledger has nothing of this tenant."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter: `read` turns its text into a value or raises ValueError; `schema` is that of OpenAPI."""

    name: str
    read: Callable[[str], Any]
    schema: Mapping[str, Any]
    description: str
    default: Any = None


@dataclass(frozen=True, slots=True)
class Route:
    """A path with its function and its parameters.

    `rows` names the list in the answer that is given in pages, of rows like `shape`;
    `beside` is what else such an answer has. `table` names the list of another answer that can be had as CSV, or is "."
    where the answer itself is its row.
    """

    path: str
    answer: Callable[[Question], Any]
    summary: str
    shape: Shape
    parameters: tuple[Parameter, ...] = ()
    rows: str = ""
    beside: Shape = field(default_factory=dict)
    table: str = ""

    @property
    def known(self) -> tuple[Parameter, ...]:
        """Return all parameters, with those that every route has."""
        forms = PAGES if self.rows else (_WHOLE_TABLE,) if self.table else ()
        return (*self.parameters, *forms, FIELDS, TENANT_NAME)

    @property
    def row_shape(self) -> Shape:
        """Return what a row of its CSV has."""
        return self.shape if self.rows or self.table == "." else self.shape[self.table].rows or {}

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the names in the path."""
        return tuple(re.findall(r"\{(\w+)\}", self.path))


Given: TypeAlias = Sequence[tuple[str, str]]
"""Names and values of a query."""


def read_parameters(route: Route, given: Given) -> dict[str, Any]:
    """Return a value for each parameter of a route.

    Raises:
        ParameterError: one is not known, comes twice, or has a value that cannot be read; or no day is in a range.
    """
    known = {parameter.name: parameter for parameter in route.known}
    values = {name: parameter.default for name, parameter in known.items()}
    seen: set[str] = set()
    for name, text in given:
        if name not in known:
            raise ParameterError(unknown_parameter(name, list(known)))
        if name in seen:
            raise ParameterError(f"parameter {name}: given twice")
        seen.add(name)
        if len(text) > MOST_TEXT:
            raise ParameterError(f"parameter {name}: longer than {MOST_TEXT} characters")
        try:
            values[name] = known[name].read(text)
        except ValueError as error:
            raise ParameterError(f"parameter {name}: {error}") from error
    in_csv = bool(route.table) and values["format"] == "csv"
    fields = list(route.row_shape if in_csv else route.shape)
    if (problem := unknown_field(values["fields"] or (), fields)) is not None:
        raise ParameterError(problem)
    _check_days(dict(given))
    if values.get("dimension") and "tool" in (values.get("by") or ()):
        raise ParameterError("parameter by: what tools did is kept by day alone, so not of a value of a dimension")
    if None not in (values.get("value"), values.get("session")):
        raise ParameterError("parameter value: not together with session")
    return values


def _check_days(given: Mapping[str, str]) -> None:
    since, until = given.get("since"), given.get("until")
    if since is not None and until is not None and day_of(since) > day_of(until):
        raise ParameterError(f"parameter since: {since} is after until ({until}), so that no day is between them")


def day_of(text: str) -> int:
    """Return days since 1970 of a day as people write it (`DAYS`).

    Raises:
        ValueError: it is no day.
    """
    today = time.time_ns() // NS_PER_DAY
    if text in _WORDS:
        return today - _WORDS[text]
    if (back := _BACK.fullmatch(text)) and int(back[1]) > 0:
        return max(0, today - int(back[1]) + 1)
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) // 86_400
    except ValueError:
        raise ValueError(f"write {DAYS}") from None


def _time_of(text: str) -> int:
    return day_of(text) * NS_PER_DAY


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not 1 <= int(text) <= MOST_ROWS:
        raise ValueError(f"write a number from 1 to {MOST_ROWS}")
    return int(text)


def _page_size(text: str) -> int:
    try:
        return _count(text)
    except ValueError as error:
        raise ValueError(f"{error}; format=ndjson or csv gives all rows") from None


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("write true or false")
    return text == "true"


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ValueError("write one or several names, with commas between them")
    return names


def _named_value(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (name and colon and value):
        raise ValueError("write name:value, such as user:ann")
    return name, listed(name, bounded_id(value))


def _one_of(*choices: str) -> tuple[Callable[[str], str], Mapping[str, Any]]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"write {' or '.join(choices)}")
        return text

    return read, {"type": "string", "enum": list(choices)}


def _some_of(*choices: str) -> tuple[Callable[[str], tuple[str, ...]], Mapping[str, Any]]:
    def read(text: str) -> tuple[str, ...]:
        names = _names(text) if text.strip(" ,") else ()
        if not names or not set(names) <= set(choices):
            raise ValueError(f"write one or several of {', '.join(choices)}, with commas between them")
        return names

    return read, {"type": "string", "examples": [",".join(choices)]}


_TEXT: Mapping[str, Any] = {"type": "string"}
_BOOLEAN: Mapping[str, Any] = {"type": "boolean"}
_DAY: Mapping[str, Any] = {"type": "string", "examples": ["2026-01-31", "today", "7d"]}

TENANT_NAME = Parameter("tenant", str, _TEXT, "Whose ledger; the default tenant if it is not given.", "")
FIELDS = Parameter("fields", _names, _TEXT, "Only these fields of an answer or of each row, with commas between them.")
LIMIT = Parameter(
    "limit", _count, {"type": "integer", "minimum": 1, "maximum": MOST_ROWS}, "Rows of a page, at most.", 100
)
PAGES = (
    replace(LIMIT, read=_page_size),
    Parameter("cursor", str, _TEXT, "`next_cursor` of the page before."),
    Parameter(
        "format",
        *_one_of("json", "ndjson", "csv"),
        "`json`: a page. `ndjson` (an object a line) and `csv`: all rows from `cursor` on, streamed, whatever `limit` "
        "says.",
        "json",
    ),
)
_WHOLE_TABLE = Parameter(
    "format",
    *_one_of("json", "csv"),
    "`csv`: a line for each row of the list, or one for the answer; all rows, whatever `limit` says (of a dimension "
    "1,000, and the others as one).",
    "json",
)
_SINCE = Parameter("since", day_of, _DAY, f"From this day on: {DAYS}.")
_UNTIL = Parameter("until", day_of, _DAY, "Up to the end of this day.")
_FILTERS = (
    Parameter(
        "sort",
        *_one_of("last", "cost"),
        "`last`: latest activity first. `cost`: dearest first; of more than 2,000 within 1.6 % of one cost each in any "
        "order.",
        "last",
    ),
    Parameter("since", _time_of, _DAY, f"Last active on this day or later: {DAYS}.", 0),
    Parameter("until", lambda text: _time_of(text) + NS_PER_DAY, _DAY, "Last active on this day or before."),
    Parameter("model", str, _TEXT, "Spent something on this model, with or without its provider in front."),
    Parameter("contains", str, _TEXT, "With this text in the id or the name."),
    Parameter("unpriced", *_one_of("any", *get_args(Unpriced)), "With unpriced calls: `any`, or for this reason."),
)

_OF_VALUE = Parameter(
    "dimension",
    _named_value,
    {"type": "string", "examples": ["user:ann"]},
    "Only of this value of a dimension, as `name:value` (docs/views.md#spend-by-dimension).",
)
_HAS_VALUE = replace(
    _OF_VALUE,
    description="In which something has this value of a dimension, as `name:value`, of a run in one of its sessions; "
    "of a session with many, three of a configured dimension are known.",
)

ROUTES: tuple[Route, ...] = (
    Route(
        "/api/v1/summary",
        answers.summary,
        "What was spent: the whole, by model, by day, by day and model; and what tools did.",
        SUMMARY,
        (
            _SINCE,
            _UNTIL,
            _OF_VALUE,
            Parameter(
                "by",
                *_some_of("model", "day", "day_model", "tool"),
                "Lists in the answer; default: `model`, and with a day given also `day`.",
            ),
            Parameter("limit", _count, LIMIT.schema, "Rows of each list; the others are one row, `other`.", MOST_ROWS),
        ),
    ),
    Route(
        "/api/v1/sessions",
        answers.sessions,
        "Sessions; what belongs to none is the last row, with an empty id.",
        SESSION,
        (
            *_FILTERS,
            Parameter("closed", _flag, _BOOLEAN, "`true`: that were ended. `false`: that were not."),
            Parameter("parent", str, _TEXT, "Spawned by this session."),
            Parameter("state", *_one_of(*STATES), "In this state now."),
            _HAS_VALUE,
        ),
        rows="sessions",
    ),
    Route("/api/v1/sessions/{id}", answers.session, "One session, by task and model.", SESSION, table="."),
    Route(
        "/api/v1/timeline/{id}",
        answers.timeline,
        "The latest spans of a session, by start, for as long as they are remembered (`state.retention.spans`).",
        TIMELINE,
        (Parameter("limit", _count, LIMIT.schema, "Rows of `spans`, at most.", 500),),
    ),
    Route(
        "/api/v1/runs",
        answers.runs,
        "Runs that are named or have more than one session; what belongs to none is the last row. With `all=true` the "
        "rows of all pages add up to the total of the ledger; without, what sessions spent that are runs of their own "
        "is in no row.",
        RUN,
        (
            *_FILTERS,
            _HAS_VALUE,
            Parameter("all", _flag, _BOOLEAN, "Also each session that is a run of its own.", False),
        ),
        rows="runs",
        beside=RUNS_PAGE,
    ),
    Route("/api/v1/runs/{id}", answers.run, "One run.", RUN, table="."),
    Route(
        "/api/v1/dimensions",
        answers.dimension_names,
        "The names of the dimensions: those of `processor.dimensions`, and agent, model and provider.",
        DIMENSIONS,
    ),
    Route(
        "/api/v1/dimensions/{name}",
        answers.dimension,
        "What was spent by the values of a dimension: agent, model, provider, or one of `processor.dimensions`.",
        DIMENSION,
        (
            _SINCE,
            _UNTIL,
            Parameter("limit", _count, LIMIT.schema, "Values with a row; the others are one row, `other`.", 100),
        ),
        table="values",
    ),
    Route(
        "/api/v1/candidates/{id}",
        answers.candidates,
        "Agents of a session that may have had more model or context than they needed: to look at, not a saving.",
        CANDIDATES,
        (
            Parameter(
                "models",
                _names,
                {"type": "string", "examples": ["anthropic/claude-haiku-4-5,openai/gpt-5-mini"]},
                "Models to compare with, as provider/model, with commas between them; default: four of the list.",
            ),
        ),
        table="candidates",
    ),
    Route(
        "/api/v1/budgets",
        answers.budgets,
        "What is used of each budget now, the most used first. What asks before it spends looks at `over`.",
        BUDGETS,
        (
            Parameter("name", str, _TEXT, "Of this budget."),
            Parameter("value", str, _TEXT, "Of this value of a dimension, session or run, and of budgets of all."),
            Parameter(
                "session",
                bounded_id,
                _TEXT,
                "Against which its calls count: of this session, its run, values that it has, and of all.",
            ),
            Parameter("over", _flag, _BOOLEAN, "Only those that are used up.", False),
            Parameter("period", *_some_of(*PERIODS), "Only of these periods, with commas between them."),
            Parameter("limit", _count, LIMIT.schema, "Rows of `budgets`, at most.", MOST_ROWS),
        ),
        table="budgets",
    ),
    Route(
        "/api/v1/warnings",
        answers.warnings,
        "The warnings that were given, the newest first (`processor.warnings`).",
        WARNING,
        (
            Parameter("warning", *_one_of(*WARNINGS), "Of this kind."),
            Parameter("session", bounded_id, _TEXT, "Of this session."),
            Parameter("since", _time_of, _DAY, f"Given on this day or later: {DAYS}.", 0),
            Parameter("until", lambda text: _time_of(text) + NS_PER_DAY, _DAY, "Given on this day or before."),
        ),
        rows="warnings",
    ),
    Route(
        "/api/v1/tasks",
        answers.tasks,
        "What tasks spent: a row a session, task, kind and model, the rows of one session together.",
        TASK,
        (
            Parameter("session", str, _TEXT, "Of this session."),
            Parameter("task", str, _TEXT, "Of this task id."),
            Parameter("kind", str, _TEXT, "Of this kind."),
        ),
        rows="tasks",
    ),
    Route(
        "/api/v1/tools",
        answers.tools,
        "Tool calls that a session made again with the same arguments, for as long as calls are remembered "
        "(`state.retention.spans`).",
        TOOL_REPEAT,
        (
            Parameter(
                "sort",
                *_one_of("times", "session"),
                "`times`: made most times first, of as many most in a row, then the latest; of more than 20,000 "
                "records in slices of so many. `session`: those of one session together.",
                "times",
            ),
            Parameter("session", str, _TEXT, "Of this session."),
            Parameter("loop", _flag, _BOOLEAN, "`true`: only those that completed a loop.", False),
            Parameter("since", _time_of, _DAY, f"Made again last on this day or later: {DAYS}.", 0),
            Parameter(
                "until", lambda text: _time_of(text) + NS_PER_DAY, _DAY, "Made again last on this day or before."
            ),
        ),
        rows="tools",
        beside=TOOLS_PAGE,
    ),
    Route(
        "/api/v1/unpriced",
        answers.unpriced,
        "Calls that are counted without a price, by model and reason, with what to do about it.",
        UNPRICED,
        (_SINCE, _UNTIL, _OF_VALUE, LIMIT),
        table="unpriced",
    ),
    Route(
        "/api/v1/gone",
        answers.gone,
        "Sums of sessions that are no longer kept one by one: those that were idle for `state.retention.sessions`, "
        "and the oldest of a full ledger. It is in the total, and among what belongs to no session.",
        GONE,
        (_SINCE, _UNTIL, LIMIT),
        table="gone",
    ),
    Route(
        "/api/v1/prices/{model}",
        answers.price,
        "The rates that calls of a model are priced with, and how its name is read.",
        PRICE,
        (
            Parameter("provider", str, _TEXT, "Who sells it, as on the span (gen_ai.provider.name).", ""),
            Parameter("at", day_of, _DAY, "Day of the call; default: now."),
        ),
    ),
    Route(
        "/api/v1/tenants",
        answers.tenants,
        "The tenants that have data here, the dearest first.",
        TENANT,
        table="tenants",
    ),
    Route(
        "/api/v1/spans/{trace_id}/{span_id}",
        answers.span,
        "What was decided about a span, and why, for as long as it is remembered (`state.retention.spans`).",
        DECISION,
    ),
)


OTHERS: Mapping[str, tuple[str, str]] = {
    "/api/v1/sessions/{id}/close": ("post", 'Mark a session as ended; the body is JSON: {"tenant": ""}.'),
    "/api/v1/instances/{id}/close": (
        "post",
        "Mark all sessions of a process (`service.instance.id`) as ended; likewise.",
    ),
    "/api/v1/openapi.json": ("get", "This document."),
    "/api/v1/events": ("get", "Server-sent events: the total, now and each time it has changed. Takes `tenant`."),
    "/page/{name}": ("get", "Scripts and styles of the page."),
    "/": ("get", "The page over all of this, for a browser. Asks for no token itself."),
    "/livez": ("get", "Whether the process lives. Asks for no token."),
    "/readyz": ("get", "Whether data may be sent here: 200, else 503. Asks for no token."),
    "/metrics": ("get", "Metrics in the Prometheus text format."),
}
"""Paths that are no questions to the ledger: method and meaning."""


def route_of(path: str) -> Route:
    """Return the route of a path as the table has it."""
    return next(route for route in ROUTES if route.path == path)


def answer_of(
    route: Route,
    reader: Reader,
    pricer: Pricer,
    values: Mapping[str, Any],
    ids: Mapping[str, str],
    lifecycle: Lifecycle = USUAL,
    budgets: tuple[BudgetRule, ...] = (),
    dimensions: tuple[str, ...] = (),
) -> dict[str, Any] | None:
    """Return the answer of a route; None if the ledger has none.

    Raises:
        TenantError: there is no such tenant.
        CursorError: the cursor is none of this list.
        ParameterError: there is no such dimension, budget or model.
    """
    tenant = tenant_hash(values["tenant"])
    if not has_tenant(reader, tenant):
        raise TenantError(f"no tenant {values['tenant']!r:.200} in this ledger; /api/v1/tenants lists those there are")
    question = Question(reader, tenant, pricer, time.time_ns(), values, ids, lifecycle, budgets, dimensions)
    if (problem := unknown_name(question)) is not None:
        raise ParameterError(problem)
    answer: dict[str, Any] | None = route.answer(question)
    if (
        route.rows
        and answer is not None
        and not answer[route.rows]
        and values["cursor"] is answer["next_cursor"] is None
    ):
        problem = unknown_model(question)
        if problem is not None:
            raise ParameterError(problem)
    return answer


def whole_table(route: Route, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a question so that no row of its table is left out."""
    return {**values, "limit": MOST_ROWS if route.shape is DIMENSION else _ALL} if "limit" in values else {**values}


def csv_of(route: Route, answer: Mapping[str, Any], fields: Sequence[str] | None) -> str:
    """Return the table of an answer as CSV."""
    columns = header(route.row_shape, fields)
    return first_line(columns) + lines(columns, [answer] if route.table == "." else answer[route.table])


def picked(route: Route, answer: dict[str, Any], fields: Sequence[str] | None) -> dict[str, Any]:
    """Return an answer with only some of its fields, or of those of its rows."""
    if not fields:
        return answer
    if route.rows:
        rows = [{name: row[name] for name in fields if name in row} for row in answer[route.rows]]
        return {**answer, route.rows: rows}
    return {name: answer[name] for name in fields if name in answer}
