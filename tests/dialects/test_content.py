"""Content that a client may leave out is not read by any dialect."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dialect_view import PlainAttributes, PlainView, read, span
from spanledger_processor import dialects
from spanledger_processor.dialects import asked_tools
from spanledger_processor.dialects.content import UnreadValue, unread_values, verdict
from spanledger_processor.dialects.registry import CONTENT_KEYS
from spanledger_processor.dialects.schema import NO_CLASSES, Classes
from spanledger_processor.enrichment import evidence

PACKAGE = Path(dialects.__file__).parent
UNREAD = {value.key: value for value in unread_values()}
DECLARED = ("content", "answered")
"""What names such keys without reading their values; of `answered` it matters that there is one."""
TABLES = ("arguments", "result", "offers")
"""What names keys that are read of some spans: of tool executions, of one vocabulary; `unread_values` goes by these."""


def _pattern(key: str) -> re.Pattern[str]:
    return re.compile("[0-9]+".join(map(re.escape, key.split("*"))))


def _literals(tree: ast.AST) -> Iterator[str]:
    """Every text of a module but those of `DECLARED` and `TABLES`."""
    if isinstance(tree, ast.keyword) and tree.arg in (*DECLARED, *TABLES):
        return
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        yield tree.value
    for child in ast.iter_child_nodes(tree):
        yield from _literals(child)


@pytest.mark.parametrize("path", [*PACKAGE.rglob("*.py"), Path(evidence.__file__)], ids=lambda path: path.stem)
def test_no_code_names_such_a_key(path: Path) -> None:
    """Tables are looked through by `unread_values`; a rule in code that reads such a key would not be seen there."""
    exceptions = {
        "strands": {"gen_ai.input.messages"},  # nothing is left out of events
        "asked_tools": {*asked_tools.INPUTS},  # whose values are sent where they may be read: `read_values`
    }
    named = set(_literals(ast.parse(path.read_text()))) - exceptions.get(path.stem, set())
    assert not {text for text in named if any(_pattern(key).fullmatch(text) for key in UNREAD)}


def test_prompts_of_the_most_used_vocabularies_are_left_out() -> None:
    wanted = {
        "gen_ai.input.messages",
        "gen_ai.system_instructions",
        "gen_ai.tool.definitions",
        "gen_ai.prompt.*.content",
        "llm.input_messages.*.message.content",
        "input.value",
        "ai.prompt.messages",
    }
    assert wanted <= UNREAD.keys()


def test_a_key_that_a_configuration_reads_is_not_left_out() -> None:
    left = {value.key for value in unread_values(("gen_ai.input.messages", "gen_ai.prompt.3.content"))}
    assert left == UNREAD.keys() - {"gen_ai.input.messages", "gen_ai.prompt.*.content"}


@pytest.mark.parametrize(
    ("key", "classes"), sorted({row for content in CONTENT_KEYS for row in content.unread.items()})
)
def test_what_may_be_left_out_is_taken_out_by_redaction(key: str, classes: Classes) -> None:
    """One table serves both the component, which leaves values out, and redaction."""
    known = verdict(key.replace("*", "12"))
    assert known == ("plain" if classes == NO_CLASSES else frozenset(classes))


def test_who_reads_a_key_is_the_exception() -> None:
    """Gemini CLI and Qwen Code name a tool's arguments so, OpenInference names everything's input so."""
    messages = UNREAD["gen_ai.input.messages"]
    assert (messages.unless_keys, messages.unless_scopes) == ((), ("gemini-cli", "qwen-code"))
    assert (messages.where, "chat" in messages.values, "execute_tool" in messages.values) == (
        "gen_ai.operation.name",
        True,
        False,
    )
    value = UNREAD["input.value"]
    assert "openinference.span.kind" in value.unless_keys
    assert (value.where, "llm" in value.values, "tool" in value.values) == ("openinference.span.kind", True, False)


@pytest.mark.parametrize("value", UNREAD.values(), ids=lambda value: value.key)
def test_kinds_are_compared_in_lower_case(value: UnreadValue) -> None:
    assert [text for text in value.values if text != text.lower()] == []


class _Watched(PlainAttributes):
    """Attributes that note what is asked for."""

    def __init__(self, given: dict[str, object]) -> None:
        super().__init__(given)
        self.read: set[str] = set()

    def get(self, key: str, default: object = None, /) -> object:
        self.read.add(key)
        return super().get(key, default)


def _kinds() -> Iterator[tuple[str, str]]:
    for value in UNREAD.values():
        yield from ((value.where, kind) for kind in value.values)


@pytest.mark.parametrize(("where", "kind"), sorted(set(_kinds())))
def test_such_a_kind_reads_no_tool_arguments(where: str, kind: str) -> None:
    keys = [value.key for value in UNREAD.values() if value.where == where and kind in value.values]
    for scope in ("", "gemini-cli", "qwen-code"):
        attributes = _Watched({where: kind, "gen_ai.usage.input_tokens": 5, **dict.fromkeys(keys, '{"a": 1}')})
        call = read(PlainView(attributes, scope_name=scope))
        assert call.kind != "tool"
        assert attributes.read.isdisjoint(keys)


def test_the_tool_of_such_a_vocabulary_reads_its_arguments() -> None:
    """The counter-example: that what is asserted above is not true of every span."""
    tool = span({"openinference.span.kind": "TOOL", "input.value": '{"path": "a"}'})
    call = read(tool)
    assert call.tool is not None
    assert call.tool.arguments == '{"path": "a"}'


@pytest.mark.parametrize("key", ["agent.instructions", "agent.messages.ui", "agent.stateSnapshot"])
def test_what_voltagents_agent_was_told_is_content(key: str) -> None:
    """`@voltagent/core` 2.10.0 writes them on the agent's span, as tests/data/otlp/voltagent/steps shows."""
    assert "system_instructions" in verdict(key)
