"""docs/dialects.md, from the tables.

python -m spanledger_processor.dialects.document > docs/dialects.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields

from spanledger_processor.dialects import registry
from spanledger_processor.dialects.log_events import CONVENTION, SCOPES_WITH_OWN_EVENTS
from spanledger_processor.dialects.normalize import Output
from spanledger_processor.dialects.registry import DIALECTS
from spanledger_processor.dialects.schema import NO_CLASSES, CostKey, Dialect, Kinds, LogEvent, Source, Tokens
from spanledger_processor.dialects.vendors.otel import OTEL

_HEAD = """# Dialects

What Spanledger reads from the spans of each library, and how. This page is generated from the tables in
`processor/spanledger_processor/dialects/vendors/` (`python -m spanledger_processor.dialects.document`).

- A span is asked about in the order below; the first dialect that knows it names it (`spanledger.dialect`). Where that
  one finds no usage, the next that knows the span lends its own.
- Of several keys in a cell the first that holds something is taken; of several cache keys the largest, never the sum.
- Usage becomes one shape: input includes cache reads and writes, output includes reasoning. "Cache reads and writes
  exceed the input" proves a count exclusive where the table is not sure, unless the span's own total denies it; where
  the table says that the input includes them, it makes the call `inconsistent_usage`. Reasoning that is more than the
  output, or that the total has beside it, is added to it, whatever the table says: so xAI counts, and libraries that
  are made for OpenAI's form copy it.
- What was served counts (tier, speed, region); what was asked only where no response tells.
- The host that was asked says who sells, where the price list knows whose it is
  ([pricing.md](pricing.md#who-sells-where-the-librarys-name-is-not-the-seller)).
- Counts may be integers, whole doubles, or either as text; NaN is none. Anything else under a token key makes the span
  `inconsistent_usage`.
- "Read in" names the oldest and the newest release whose source was read for a row; `make sources` prints what the
  registries have that is newer. Rows without it stand on recordings, on documents, or on earlier readings.
- A class that no key tells is unknown, not zero, unless the source is known to leave out zeros.
- A call that failed counts, without a price, where its exception says that the answer could not be read as the object
  that was asked for: it was paid for, and no usage is told.
- OpenTelemetry's instrumentations of Agno, smolagents and the OpenAI Agents SDK (1.2b0 and 1.3b0, run) tell agents and
  tools, and no calls; those of DSPy, LangChain and Portkey no embeddings: instrument the client as well.
  @opentelemetry/instrumentation-aws-sdk (0.78.0, run) tells no caches of Bedrock's, whose input excludes them: what
  they cost is missing, and the call an estimate.
- Responses inside strings only add classes and terms of the price, and only where they agree with the span's own
  input and output.
"""

_NAMES = {
    "cache_read": "cache read",
    "cache_write": "cache write",
    "cache_write_5m": "cache write, 5 minutes",
    "cache_write_1h": "cache write, 1 hour",
}
_COST_SOURCES = {"billed": "billed by the one that charges", "reported": "the library's estimate"}
_LIBRARIES = {
    "calls_again": "stand for one more call of the model after each tool below, and tell the last one's usage",
    "tells_last_step": "tell the last step's usage; the agent's above tells that of all",
    "holds_steps": "hold the tools that the answer asked for, and the agents that it handed over to",
    "adds_first_count": "add the first count of a stream's output to the last, which holds it",
    "begins_late": "begin when the request is sent; a framework's around one may begin earlier",
}
_UNITS = {10**12: "USD", 10**6: "micro-USD", 100: "1e-10 USD"}


def page() -> str:
    """Return the whole page."""
    parts = [_HEAD, _contents(), *map(_dialect, DIALECTS), _libraries(), _logs(), _grouping(), _content()]
    return "\n".join(parts)


def _contents() -> str:
    rows = (f"| {number} | [`{dialect.name}`](#{dialect.name}) | {dialect.about} |" for number, dialect in _numbered())
    return "\n".join(["| | dialect | what it is |", "|---|---|---|", *rows, ""])


def _numbered() -> Iterator[tuple[int, Dialect]]:
    return enumerate(DIALECTS, 1)


def _dialect(dialect: Dialect) -> str:
    rows = {label: keys for label, keys in _rows(dialect) if keys}
    common = {} if dialect is OTEL else dict(_rows(OTEL))
    shared = [label for label, keys in rows.items() if common.get(label) == keys]
    lines = [f"## {dialect.name}", "", f"{dialect.about}.", "", "| what | where |", "|---|---|"]
    lines += [f"| {label} | {keys} |" for label, keys in rows.items() if label not in shared]
    if shared:
        lines += ["", f"As in [`otel`](#otel): {', '.join(shared)}."]
    lines += ["", *_sources(dialect.sources)]
    if dialect.notes:
        lines += ["", *(f"- {note}" for note in dialect.notes)]
    return "\n".join([*lines, ""])


def _rows(dialect: Dialect) -> Iterator[tuple[str, str]]:
    known = dialect.detection
    yield "known by a key", _code(known.keys)
    yield "known by its scope", _scopes(known.scopes, known.requires)
    yield "known by the span's name", _code(f"{name}*" for name in known.names)
    yield "model asked for", _code(dialect.request_model)
    yield "model that answered", _code(dialect.response_model)
    yield "provider", _provider(dialect)
    yield "response id", _code(dialect.response_id)
    yield "response id, else in the response under", _code(dialect.answers)
    yield from _tokens(dialect.tokens, "")
    yield from _tokens(dialect.aggregated, "summed up: ")
    yield (
        "usage in an object",
        _code(".".join((text.key, *text.path)) for text in dialect.usage_texts if text.whole),
    )
    yield (
        "provider's response, for classes and terms",
        _code(text.key for text in dialect.usage_texts if not text.whole),
    )
    yield "provider's response, if no span of the trace has usage", _code(text.key for text in dialect.fallback_texts)
    yield "tier, speed, region: served", _code(dialect.served)
    yield "tier, speed: asked", _code(dialect.asked)
    yield "tier, speed, region: in a whole response", _code(dialect.served_in)
    yield "tier, speed, region: in the request's parameters", _code(dialect.asked_in)
    yield "host that was asked", _code(dialect.endpoints)
    yield "modality of the output", _code(dialect.output_type)
    yield "tools that were offered, where their use is not told", _code(dialect.offers)
    yield "an answer began", _code(dialect.answered)
    yield "content not read", _code(dialect.content.unread)
    yield "from a cache of one's own", _code(".".join((mark.key, *mark.path)) for mark in dialect.own_cache)
    yield "a plan pays for it", _code(mark.key for mark in dialect.subscription)
    yield "tool", _code(dialect.tool.name) + (" or the span's name" if dialect.tool.name_from_span else "")
    yield "tool arguments", _code(dialect.tool.arguments)
    yield "tool call id", _code(dialect.tool.call_id)
    yield "agent", _code((*dialect.agent, *dialect.groups.agent))
    yield "agent above it", _code((*dialect.agent_parent, *dialect.groups.agent_parent))
    yield "session", _code(dialect.groups.session)
    yield "run", _code(dialect.groups.run)
    yield from ((f"kind, by `{kinds.key}`", _values(kinds)) for kinds in dialect.kinds)
    yield "cost that came in", "; ".join(map(_cost, dialect.costs))
    yield "looks like a cost, is not in USD", _code(dialect.not_costs)


def _code(keys: Iterable[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)


def _scopes(scopes: Iterable[str], requires: Iterable[str]) -> str:
    named = _code(f"{scope}*" for scope in scopes)
    return f"{named} (on spans with one of {_code(requires)})" if named else ""


def _provider(dialect: Dialect) -> str:
    keys = _code(dialect.provider)
    fixed = f"`{dialect.fixed_provider}`" if dialect.fixed_provider else ""
    return " else ".join(part for part in (keys, fixed) if part)


def _tokens(tokens: Tokens, before: str) -> Iterator[tuple[str, str]]:
    for item in fields(tokens):
        yield before + _NAMES.get(item.name, item.name), _code(getattr(tokens, item.name))


def _values(kinds: Kinds) -> str:
    by_kind: dict[str, list[str]] = {}
    for value, kind in kinds.table.items():
        by_kind.setdefault(kind, []).append(value)
    return "; ".join(f"{kind}: {_code(values)}" for kind, values in by_kind.items())


def _cost(cost: CostKey) -> str:
    parts = " or the sum of its amounts" if cost.parts else ""
    unreliable = "" if cost.reliable else ", known to be wrong"
    return (
        f"`{'.'.join((cost.key, *cost.path))}`{parts} ({_UNITS[cost.unit]}, {_COST_SOURCES[cost.source]}{unreliable})"
    )


def _libraries() -> str:
    lines = [
        "## Reports that differ from their calls",
        "",
        "What [counting](counting.md) has to know of a library, whichever vocabulary it speaks.",
        "",
        "| scope | its spans |",
        "|---|---|",
        *(
            f"| `{library.scope}` | {'; '.join(said for name, said in _LIBRARIES.items() if getattr(library, name))} |"
            for library in registry.LIBRARIES
        ),
    ]
    return "\n".join([*lines, ""])


def _sources(sources: tuple[Source, ...]) -> Iterator[str]:
    yield "| scope | version | provider | input | output | absent cache class | because | read in |"
    yield "|---|---|---|---|---|---|---|---|"
    for source in sources:
        output = "" if source.output is Output.INCLUSIVE else source.output.value
        absent = "0" if source.absent_cache_is_zero else "unknown"
        cells = (
            f"`{source.scope}*`" if source.scope else "any",
            _versions(source),
            _code(f"{provider}*" for provider in source.providers) or "any",
            source.input.value,
            output or Output.INCLUSIVE.value,
            absent,
            source.why,
            _read_in(source),
        )
        yield f"| {' | '.join(cells)} |"


def _versions(source: Source) -> str:
    since = f"from {_dotted(source.since)}" if source.since else ""
    before = f"before {_dotted(source.before)}" if source.before else ""
    has = f"with {_code(source.has)}" if source.has else ""
    lacks = f"without {_code(source.lacks)}" if source.lacks else ""
    return " ".join(part for part in (since, before, has, lacks) if part) or "any"


def _read_in(source: Source) -> str:
    """Return the releases whose source was read for a row."""
    if not source.package:
        return ""
    first, last = source.read
    name = source.package.partition(":")[2]
    return f"{name} {first}" if first == last else f"{name} {first} to {last}"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _logs() -> str:
    lines = [
        "## Log events",
        "",
        "These become spans of their own (`spanledger.source` = `log:<client>`); their content never does. A record",
        "that names a trace joins it; a tool call is signed where it is read.",
        "",
        "| client | event | becomes | session | identity | input |",
        "|---|---|---|---|---|---|",
        *map(_event, registry.LOG_EVENTS),
        f"| gen_ai | `{CONVENTION}` with usage | the call that it tells, by the dialect of its scope | as on spans |"
        " `gen_ai.response.id`, else the record | as on spans |",
        "",
        f"The convention's event is left out in the scopes {_code(SCOPES_WITH_OWN_EVENTS)}: theirs tell more.",
    ]
    return "\n".join([*lines, ""])


def _event(event: LogEvent) -> str:
    condition = "".join(f" with `{key}` = `{value}`" for key, value in event.condition.items())
    identity = _code((*event.request_id, *event.call_id)) or _code(event.identity)
    return (
        f"| {event.client} | {_code(event.names)}{condition} | `{event.operation}` | {_code(event.session)} |"
        f" {identity or 'the record'} | {'' if event.tool_name else event.input.value} |"
    )


def _content() -> str:
    by_classes: dict[tuple[str, ...], set[str]] = {}
    for content in registry.CONTENT_KEYS:
        for key, classes in (*content.unread.items(), *content.keys.items()):
            if classes != NO_CLASSES:
                by_classes.setdefault(classes, set()).add(key)
    prefixes = sorted({prefix for content in registry.CONTENT_KEYS for prefix in content.prefixes})
    plain = sorted({key for content in registry.CONTENT_KEYS for key in content.plain})
    lines = [
        "## Content",
        "",
        "What [redaction](redaction.md) takes out, beside tools' arguments and results. `*` stands for any text.",
        "",
        "| classes | keys |",
        "|---|---|",
        *(f"| {', '.join(classes)} | {_code(sorted(keys))} |" for classes, keys in sorted(by_classes.items())),
        f"| any: unknown keys that begin so | {_code(prefixes)} |",
        "",
        f"Of those that begin so these hold no content, beside what the tables above read: {_code(plain)}.",
    ]
    return "\n".join([*lines, ""])


def _grouping() -> str:
    rows = (
        ("session", registry.SESSION_KEYS),
        ("session above it", registry.SESSION_PARENT_KEYS),
        ("run", registry.RUN_KEYS),
        ("agent", registry.AGENT_KEYS),
        ("agent above it", registry.AGENT_PARENT_KEYS),
        ("task", registry.TASK_ID_KEYS),
        ("kind of task", registry.TASK_KIND_KEYS),
    )
    lines = ["## Keys that group", "", "Defaults, most trusted first, on the span and then on its resource.", ""]
    lines += ["| what | keys |", "|---|---|", *(f"| {label} | {_code(keys)} |" for label, keys in rows)]
    return "\n".join([*lines, ""])


def main() -> None:
    """Print the page."""
    sys.stdout.write(page())


if __name__ == "__main__":
    main()
