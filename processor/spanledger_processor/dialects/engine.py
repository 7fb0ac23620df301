"""Read one span by the tables of one dialect: kind, models, usage, terms of the price, tool and costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.endpoints import ENDPOINT_MARKS, endpoint_provider
from spanledger_processor.dialects.normalize import Terms
from spanledger_processor.dialects.outcome import ERROR, doubt_several_answers, read_outcome
from spanledger_processor.dialects.responses import ESCAPED, ID_MARKS, answer_id, is_response, marks_of
from spanledger_processor.dialects.schema import NO_TOKENS, Attributes, CostKey, Dialect, Keys, Mark, ScopedSpan
from spanledger_processor.dialects.usage import read_usage_of
from spanledger_processor.dialects.usage_objects import read_context
from spanledger_processor.dialects.usage_shapes import STANDARD
from spanledger_processor.dialects.values import first, first_text, flag, identifier, money, text
from spanledger_processor.model import CALLS, CONTAINERS, Call, Granularity, Kind, ReportedCost, ToolCall
from spanledger_processor.units import Pico

OPERATION = "gen_ai.operation.name"
_DECISION, _DENIED = "gen_ai.tool.call.decision", "deny"
"""Proposed to the convention: open-telemetry/semantic-conventions-genai, pull request 535."""
_LONGEST_TIER = 64
_TERM_MARKS = (
    *(b"ervice_tier", b"erviceTier", b"speed", b"erformanceConfig", b"erformance_config", b"inference_geo"),
    ESCAPED,
)
"""An object in whose text none of these stands says nothing of tier, speed or region."""
_PROVISIONED = ":provisioned-model/"
"""In the ARN of provisioned throughput: https://docs.aws.amazon.com/bedrock/latest/userguide/prov-throughput.html."""
_COUNTS_TOKENS = (".count_tokens", ".countTokens")
"""How spans of requests end that only ask how many tokens a prompt has: no model answers, and nothing is billed.
https://platform.claude.com/docs/en/build-with-claude/token-counting, https://ai.google.dev/gemini-api/docs/tokens."""
_LONGEST_ENDPOINT = 200
_HOSTS = ("api.openai.com", "-aiplatform.googleapis.com", ".rep.googleapis.com", ".mistral.ai")
_HOST_MARKS = tuple(host.encode() for host in _HOSTS)
_REGION = re.compile(r"(?:^|//)(?:([a-z]{2})\.api\.openai\.com|api\.(eu|us)\.mistral\.ai)(?:$|[:/])")
"""Regional endpoints, which cost a tenth more: https://platform.openai.com/docs/guides/your-data,
https://docs.mistral.ai/inference/regional-inference."""
_VERTEX_REGION = re.compile(
    r"(?:^|//)(?:([a-z]{2,12}-[a-z]{2,12}\d{1,2})-aiplatform|aiplatform\.([a-z0-9-]{2,32})\.rep)"
    r"\.googleapis\.com(?:$|[:/])"
)
_SURCHARGED = re.compile(r"claude-(?:[a-z]+-)?(?:4-[5-9]|[5-9])(?!\d)")
"""Claude on Vertex AI from 4.5 on costs a tenth more at a regional or multi-region endpoint than at the global one:
https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai."""


def tells_usage(dialect: Dialect) -> bool:
    """Return whether a vocabulary's tables have a place for usage; without one no rule finds any."""
    return (
        dialect.tokens is not NO_TOKENS
        or dialect.aggregated is not NO_TOKENS
        or bool(dialect.usage_texts or dialect.fallback_texts)
    )


def kind_of(dialect: Dialect, view: ScopedSpan) -> Kind | None:
    """Return the kind that a span has in a vocabulary, None where it is none of its GenAI spans."""
    if dialect.kind_of is not None:
        kind = dialect.kind_of(view)
        if kind is not None:
            return kind
    for kinds in dialect.kinds:
        value = text(view.attributes.get(kinds.key))
        kind = kinds.table.get(value) or kinds.table.get(value.lower())
        if kind is not None:
            return kind
    if dialect.kind_else is not None:
        kind = dialect.kind_else(view)
        if kind is not None:
            return kind
    return dialect.otherwise


def read(dialect: Dialect, view: ScopedSpan, kind: Kind) -> Call:
    """Read a span by a vocabulary."""
    call = Call(dialect.name, kind)
    call.request_model = first_text(view, dialect.request_model)
    call.response_model = first_text(view, dialect.response_model)
    call.provider = first_text(view, dialect.provider) or dialect.fixed_provider
    if kind == "tool":
        call.tool = _tool(dialect, view)
    else:
        call.response_id = response_id(dialect, view, kind)
        call.endpoint_provider = _asked_provider(dialect, view.attributes)
    terms = read_usage_of(call, dialect, view)
    if dialect.agent:
        call.agent_id = first_text(view, dialect.agent, identifier)
        call.agent_parent_id = first_text(view, dialect.agent_parent, identifier)
    if dialect.costs:
        call.reported = reported(dialect.costs, view)
    _take_terms(call, dialect, view, terms)
    for rule in dialect.rules:
        rule(view, call)
    for rule in dialect.tool_rules if call.tool is not None else ():
        rule(view, call)
    if call.kind in CALLS and view.name.endswith(_COUNTS_TOKENS):
        _take_for_a_count(call)
    if call.kind in CALLS:
        read_outcome(call, dialect, view)
    elif call.kind == "agent" and call.usage is not None:
        doubt_several_answers(call, dialect, view)
    elif call.kind == "other" and call.usage is not None:
        call.unknown_operation = _unknown_operation(dialect, view)
    call.prices_events = dialect.prices_events and kind == "llm"
    call.granularity = granularity(call)
    return call


def _asked_provider(dialect: Dialect, attributes: Attributes) -> str:
    """Return the provider whose endpoint was asked, by the first key that tells one that is known."""
    for key in dialect.endpoints:
        if provider := attributes.derived(key, ENDPOINT_MARKS, endpoint_provider):
            return str(provider)
    return ""


def _take_for_a_count(call: Call) -> None:
    """Make a request that only counts tokens no call of a model: what it answers is no usage, and has no output."""
    if call.usage is None or not call.usage.output:
        call.kind, call.usage, call.fallback = "other", None, None


def response_id(dialect: Dialect, view: ScopedSpan, kind: Kind) -> str:
    """Return the response id of a span that is no tool's: under a key, else inside the one response that it holds."""
    identifier = first_text(view, dialect.response_id)
    if identifier or kind != "llm":
        return identifier
    ids = (answer_id(view.attributes.marked(key, ID_MARKS)) for key in dialect.answers)
    return next(filter(None, ids), "")


def _unknown_operation(dialect: Dialect, view: ScopedSpan) -> str:
    """Return the operation that a span names and no table knows."""
    for kinds in dialect.kinds:
        value = text(view.attributes.get(kinds.key)) if kinds.key == OPERATION else ""
        if value and not {value, value.lower()} & kinds.table.keys():
            return value[:_LONGEST_TIER]
    return ""


def _take_terms(call: Call, dialect: Dialect, view: ScopedSpan, terms: Terms) -> None:
    if call.usage is not None:
        has_terms = dialect.served or dialect.asked or dialect.served_in or dialect.asked_in or dialect.endpoints
        if terms.context or has_terms:
            call.price_context = _context(dialect, view, terms.context, call.model)
        call.unclassed = terms.unclassed
        call.plan = "provisioned" if _PROVISIONED in call.request_model else terms.plan
        if dialect.subscription and any(says(view.attributes, mark) for mark in dialect.subscription):
            call.plan = "subscription"
        if terms.doubt:
            call.estimate, call.note = True, terms.doubt
    if terms.reported is not None and (call.reported is None or not call.reported.billed):
        call.reported = terms.reported
    call.response_cache = terms.own_cache or (
        bool(dialect.own_cache) and any(says(view.attributes, mark) for mark in dialect.own_cache)
    )


def says(attributes: Attributes, mark: Mark) -> bool:
    """Return whether an attribute holds one of the values of a mark."""
    if mark.path:
        said = attributes.derived(mark.key, marks_of(mark.path), _said_at(mark.path)) or ""
    else:
        said = _said(attributes.get(mark.key))
    return said in mark.values


def _said(value: Any) -> str:
    said = str(value).lower() if isinstance(value, bool) else text(value).lower()
    return said if len(said) <= _LONGEST_TIER else ""


@cache
def _said_at(path: tuple[str, ...]) -> Callable[[Any], str]:
    """Return what reads a mark's value at a path; kept for all paths of the tables."""
    return lambda value: _said(_inner(value, path))


def _inner(value: Any, path: tuple[str, ...]) -> Any:
    """Return what a path leads to in an object, or in its JSON; None where there is nothing."""
    value = texts.parse(value)
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def granularity(call: Call) -> Granularity:
    """Return the part of a session that a span's usage stands for."""
    if call.granularity != "per-message":
        return call.granularity
    if call.usage is None:
        return "cost-only" if call.reported is not None else "per-message"
    return "per-turn" if call.kind in CONTAINERS else "per-message"


def _tool(dialect: Dialect, view: ScopedSpan) -> ToolCall:
    keys = dialect.tool
    name = first_text(view, keys.name) or (view.name if keys.name_from_span else "")
    call = ToolCall(name or None, first(view, keys.arguments), first_text(view, keys.call_id) or None)
    call.result = first(view, keys.result)
    call.denied = first_text(view, keys.decision) == _DENIED or any(
        event.name == _DECISION and event.attributes.get(f"{_DECISION}.outcome") == _DENIED for event in view.events
    )
    return call


def _context(
    dialect: Dialect, view: ScopedSpan, response: Mapping[str, str], model: str
) -> tuple[tuple[str, str], ...]:
    """Return tier, speed and region of a call: as served, else as asked for."""
    terms: dict[str, str] = {}
    for name, tier in _reported_terms(dialect, view.attributes, response, model):
        terms.setdefault(name, tier)
    return tuple(sorted((name, tier) for name, tier in terms.items() if tier))


def _reported_terms(
    dialect: Dialect, attributes: Attributes, response: Mapping[str, str], model: str
) -> Iterator[tuple[str, str]]:
    """Yield the terms that keys of a span report, each with its name, by precedence."""
    yield from _under(dialect.served, attributes.get)
    yield from response.items()
    for key in dialect.served_in:
        yield from attributes.derived(key, _TERM_MARKS, _terms_of_response) or ()
    for key in dialect.asked_in:
        yield from attributes.derived(key, _TERM_MARKS, _terms_of_request) or ()
    yield from _under(dialect.asked, attributes.get)
    for key in dialect.endpoints:
        endpoint = attributes.derived(key, _HOST_MARKS, _endpoint)
        if endpoint and (region := _region(endpoint, model)):
            yield "region", region


def _endpoint(value: Any) -> str:
    """Return the endpoint that a text is, or names, if it may be one of those with regions."""
    if not isinstance(value, str) or not any(host in value for host in _HOSTS):
        return ""
    value = _inner(value, ("api_base",)) if value.startswith("{") else value
    return value[:_LONGEST_ENDPOINT] if isinstance(value, str) else ""


def _under(keys: Keys, get: Callable[[str], Any]) -> Iterator[tuple[str, str]]:
    for key in keys:
        value = get(key)
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(value, str) and value:
            yield _term(key), _tier(value[:_LONGEST_TIER])


def _terms_of_response(value: Any) -> tuple[tuple[str, str], ...]:
    """Return tier, speed and region in a whole response; what a model wrote may be an object as well."""
    parsed = texts.parse(value)
    return _terms_in(parsed) if is_response(parsed) else ()


def _terms_of_request(value: Any) -> tuple[tuple[str, str], ...]:
    """Return tier, speed and region in an object."""
    return _terms_in(texts.parse(value))


def _terms_in(parsed: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(parsed, dict):
        return ()
    further = parsed.get("extra_body")
    terms = (read_context(further) if isinstance(further, dict) else {}) | read_context(parsed)
    return tuple(terms.items())


@lru_cache(maxsize=256)
def _term(key: str) -> str:
    if key.endswith("speed"):
        return "speed"
    return "region" if key.endswith(("inference_geo", "region")) else "service_tier"


@lru_cache(maxsize=256)
def _region(endpoint: str, model: str) -> str:
    """Return the region of an endpoint, "" where it names none that has a price for the model."""
    match = _REGION.search(endpoint.lower())
    if match is None and _SURCHARGED.search(model.lower()):
        match = _VERTEX_REGION.search(endpoint.lower())
    return next((region for region in match.groups() if region), "") if match is not None else ""


@lru_cache(maxsize=256)
def _tier(value: str) -> str:
    """Return what a tier asks of pricing, "" for the standard. Bounded: values come from the network."""
    tier = text(value).lower()
    return "" if tier in STANDARD else tier


_MOST_PARTS = 64


def _sum_of_parts(value: Any, unit: Pico) -> Pico | None:
    """Return the sum of the amounts in an object, None where there is none, or one that is no amount."""
    parsed = texts.parse(value)
    if not isinstance(parsed, dict) or not 0 < len(parsed) <= _MOST_PARTS:
        return None
    amounts = [money(part, unit) for part in parsed.values()]
    return None if None in amounts else sum(amount or 0 for amount in amounts)


def reported(keys: tuple[CostKey, ...], view: ScopedSpan) -> ReportedCost | None:
    """Return the first amount in USD under `keys`."""
    attributes = view.attributes
    get = attributes.get
    for cost in keys:
        inside = cost.path and not cost.parts
        value = attributes.marked(cost.key, marks_of(cost.path)) if inside else get(cost.key)
        amount = money(_inner(value, cost.path) if cost.path else value, cost.unit)
        if amount is None and cost.parts:
            amount = _sum_of_parts(value, cost.unit)
        if amount is None or (cost.currency and text(get(cost.currency)).upper() not in ("", "USD")):
            continue
        billed = cost.source == "billed" or bool(cost.said_by and text(get(cost.said_by)).lower() == "provider")
        if not amount and not billed and view.status_code == ERROR:
            return None  # what a library reckons of a request that used nothing
        reported = ReportedCost(amount, billed, cost.key, reliable=cost.reliable, means_zero=cost.means_zero)
        reported.same_list = cost.same_list
        upstreams = (money(get(key), cost.unit) for key in cost.upstream)
        reported.upstream = next((paid for paid in upstreams if paid is not None), None)
        reported.own_key = next((own for key in cost.own_key if (own := flag(get(key))) is not None), None)
        return reported
    return None
