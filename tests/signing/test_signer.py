"""Signatures of tool calls: the same for the same call however a library writes it, another for any other."""

from __future__ import annotations

import hmac
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from counted_work import lines_run
from spanledger_processor.model import ToolCall
from spanledger_processor.signing import Signer
from spanledger_processor.signing.canonical import canonical
from spanledger_processor.signing.signer import MAX_TEXT

KEY = b"0123456789abcdef0123456789abcdef"
SIGNER = Signer(KEY)


@pytest.mark.parametrize("length", [1, 31, 63, 64, 65, 200])
def test_what_is_keyed_is_an_hmac(length: int) -> None:
    key, message = bytes(range(1, length + 1)), b"a span"
    trace_id, span_id = Signer(key).ids(message)
    assert trace_id + span_id == hmac.digest(key, b"ids of " + message, "sha256")[:24]


_texts = st.text(st.characters(exclude_categories=["Cs"]))
_leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts
_values = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3), max_leaves=10
)
_arguments = st.dictionaries(_texts, _values, max_size=4)


def _sign(arguments: Any, name: str | None = "read_file", signer: Signer = SIGNER) -> tuple[str, str]:
    signature = signer.sign(ToolCall(name, arguments))
    assert signature is not None
    return signature.value, signature.scope


@given(_arguments, st.booleans(), st.sampled_from([None, 0, 2, "\t"]))
def test_an_object_and_its_json_are_one(arguments: dict[str, Any], ascii_only: bool, indent: Any) -> None:  # noqa: FBT001
    turned = dict(reversed(arguments.items()))
    text = json.dumps(turned, ensure_ascii=ascii_only, indent=indent)
    assert _sign(f"\n {text} ") == _sign(arguments) == _sign(text.encode())
    assert _sign(arguments)[1] == "full"


_plain = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))


@given(
    st.dictionaries(
        _plain,
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _plain,
        max_size=4,
    )
)
@example({"a": "it's", "b": 'he said "no"', "c": "both ' and \""})
@example({"path": "C:\\new\\table", "text": "line\nline\ttab\rback"})
@example({"control": "\x07\x7f\x85\xa0\u2028\U0001f600\ue000"})
def test_what_repr_writes_of_an_object_is_that_object(arguments: dict[str, Any]) -> None:
    """Some libraries put `str(arguments)` where JSON should be."""
    assert _sign(str(arguments)) == _sign(arguments)


@given(_arguments)
def test_nested_values_survive_repr(arguments: dict[str, Any]) -> None:
    text = str(arguments)
    assume(len(text) < 10_000)
    assert _sign(text) == _sign(arguments)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1}', '{"a": 1.0}'),
        ('{"a": 1}', '{"a": 1e0}'),
        ('{"a": 100}', '{"a": 1e2}'),
        ('{"a": "\\u00e5\\/"}', '{"a": "å/"}'),
        ('{"a": "\\ud83d\\ude00"}', '{"a": "😀"}'),
        ('{"a": "two\\nlines"}', '{"a": "two\nlines"}'),
        ('{"a": 1e400}', '{"a": 10e399}'),
        ('{"a": 1, "b": 2}', '{ "b" : 2,\r\n"a":1 }'),
        ('{"a": 1, "a": 2}', '{"a": 2}'),
        ("{'a': None, 'b': True}", '{"a": null, "b": true}'),
        ("{'a': (1, 2)}", '{"a": [1, 2]}'),
        ("ls -l", '"ls -l"'),
    ],
)
def test_spellings_of_one_call(one: str, other: str) -> None:
    assert _sign(one) == _sign(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1}', '{"a": "1"}'),
        ('{"a": 1}', '{"a": true}'),
        ('{"a": null}', "{}"),
        ('{"a": []}', '{"a": {}}'),
        ('{"a": 18446744073709551616}', '{"a": 18446744073709551617}'),
        ('{"a": 0.1}', '{"a": 0.10000000000000002}'),
        ('{"a": 1e400}', '{"a": 1e401}'),
        ('{"a": "x"}', '{"a": "x "}'),
        ('{"a": "é"}', '{"a": "e\u0301"}'),
        ("ls -l", "ls  -l"),
        ("[1, 2]", "[2, 1]"),
        ({"data": b"ab"}, {"data": "6162"}),
    ],
)
def test_other_calls_have_other_signatures(one: Any, other: Any) -> None:
    assert _sign(one) != _sign(other)


@given(_arguments, _arguments)
def test_equal_signatures_mean_equal_arguments(one: dict[str, Any], other: dict[str, Any]) -> None:
    assume(one != other and json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True))
    assert _sign(one) != _sign(other)


def test_name_and_arguments_cannot_run_together() -> None:
    assert _sign("b c", name="a") != _sign("c", name="a b")
    assert _sign({"x": 1}, name="one") != _sign({"x": 1}, name="two")
    # a text of the form of other arguments, and a name of the form of what stands before them
    text = "V" + canonical({"x": 1}).decode()
    before = canonical(text).decode().removesuffix(text)
    assert _sign(text, name="a ") != _sign({"x": 1}, name=f"a V{before}")


def test_the_call_id_does_not_matter() -> None:
    assert SIGNER.sign(ToolCall("t", "{}", "call_1")) == SIGNER.sign(ToolCall("t", "{}", "call_2"))


@pytest.mark.parametrize(
    "arguments", [None, "", "  \n", "null", "__REDACTED__", "<REDACTED>", "[REDACTED]", b"", " [REDACTED] "]
)
def test_arguments_that_are_not_known(arguments: Any) -> None:
    """Two calls whose arguments were removed are not the same call: the scope says so."""
    assert _sign(arguments) == (_sign(None)[0], "name_only")
    assert SIGNER.sign(ToolCall(None, arguments)) is None
    assert SIGNER.sign(ToolCall("", arguments)) is None


@pytest.mark.parametrize("arguments", [{}, "{}", " { } ", [], "[]", "0", "false"])
def test_a_call_that_needed_no_arguments_is_known_in_full(arguments: Any) -> None:
    assert _sign(arguments)[1] == "full"


def test_a_call_without_a_name_is_told_by_its_arguments() -> None:
    assert _sign({"a": 1}, name=None) == _sign({"a": 1}, name="")
    assert _sign({"a": 1}, name=None) != _sign({"a": 2}, name=None)


@given(_arguments.filter(bool), st.integers(1))
def test_a_text_that_was_cut_says_so(arguments: dict[str, Any], at: int) -> None:
    text = json.dumps(arguments)
    cut = text[: 1 + at % (len(text) - 1)]
    assert _sign(cut)[1] == "truncated"
    assert _sign(cut) != _sign(text)


@pytest.mark.parametrize("text", ["grep -rn TODO src", "not {json", "a [b", "SELECT '{'", '"half a text'])
def test_plain_text_is_not_cut_json(text: str) -> None:
    assert _sign(text)[1] == "full"


@pytest.mark.parametrize(
    "cut", ['{"a": "it\'s [', '{"a": "}', "{'a': '}}", '{"a": "\\"}', '{"a": [1, {"b": 2}', '["]", "]"', "{'it\\'s': 1"]
)
def test_brackets_inside_texts_do_not_close_anything(cut: str) -> None:
    assert _sign(cut)[1] == "truncated"


IGNORING = Signer(KEY, [("read_*", frozenset({"offset", "meta.id"})), ("*", frozenset({"timestamp"}))])


def test_fields_ignored_for_a_tool() -> None:
    base = _sign({"path": "a", "meta": {"kind": 1}}, signer=IGNORING)
    assert _sign({"path": "a", "offset": 5, "meta": {"id": 9, "kind": 1}}, signer=IGNORING) == base
    assert _sign('{"offset": 6, "path": "a", "timestamp": 1, "meta": {"kind": 1}}', signer=IGNORING) == base
    assert _sign({"path": "b", "meta": {"kind": 1}}, signer=IGNORING) != base


def test_fields_ignored_for_one_tool_count_for_another() -> None:
    assert _sign({"offset": 5}, "write", IGNORING) != _sign({"offset": 6}, "write", IGNORING)
    assert _sign({"offset": 5, "timestamp": 1}, "write", IGNORING) == _sign({"offset": 5}, "write", IGNORING)


def test_a_glob_tells_capitals_apart_and_very_long_names_are_matched() -> None:
    assert _sign({"offset": 5}, "Read_file", IGNORING) != _sign({"offset": 6}, "Read_file", IGNORING)
    name = "read_" + "x" * 1000
    assert _sign({"offset": 5}, name, IGNORING) == _sign({"offset": 6}, name, IGNORING)


def test_the_form_of_a_signature() -> None:
    assert re.fullmatch(r"h1:[0-9a-f]{8}:[0-9a-f]{32}", _sign({"a": 1})[0])


def test_signatures_compare_under_one_key_only() -> None:
    other = Signer(b"another key of a decent length")
    mine, theirs = _sign({"a": 1})[0].split(":"), _sign({"a": 1}, signer=other)[0].split(":")
    assert mine[0] == theirs[0] == "h1"
    assert mine[1] != theirs[1]
    assert mine[2] != theirs[2]


_ELSEWHERE = """
from spanledger_processor.model import ToolCall
from spanledger_processor.signing import Signer
from spanledger_processor.signing.signer import MAX_TEXT
print(Signer(b"0123456789abcdef0123456789abcdef").sign(ToolCall("t", {"b": {"y": 1, "x": 2}, "a": 0.1})).value)
"""


def test_another_process_makes_the_same_signature() -> None:
    """No part of it hangs on Python's hash seed."""
    environ = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", _ELSEWHERE], env=environ, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == _sign({"a": 0.1, "b": {"x": 2, "y": 1}}, "t")[0]


MIB = 2**20


@pytest.mark.parametrize(
    ("arguments", "scope"),
    [
        (json.dumps({"content": "x" * MIB}), "full"),
        ({"content": "x" * MIB}, "full"),
        (json.dumps([{"n": n, "t": "x" * 20} for n in range(20_000)]), "full"),
        (json.dumps({"content": "x" * MIB})[:-2], "truncated"),
        ('{"a": "' + '\\"' * (MIB // 2), "truncated"),
        ("{'a': '" + "\\'" * (MIB // 2), "truncated"),
        ("'" * MIB, "full"),
        ("[" * MIB, "truncated"),
        ("{" * MIB, "truncated"),
        ('{"a":' * 100_000, "truncated"),
        ("[" * 100_000 + "]" * 100_000, "full"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "full"),
        ("9" * MIB, "full"),
        ('{"a": ' + "9" * MIB + "}", "full"),
        ('{"a": 1e' + "9" * MIB + "}", "full"),
        ('{"a": 0.' + "0" * MIB + "1}", "full"),
        ("-" * MIB, "full"),
        ("{" + "'a': 1, " * 8000 + "}", "full"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "arguments",
)
@pytest.mark.timeout(20)
def test_a_mebibyte_of_anything_is_signed(arguments: Any, scope: str) -> None:
    assert _sign(arguments)[1] == scope
    assert _sign(arguments) == _sign(arguments)


def test_deep_values_that_differ_at_the_bottom_are_told_apart() -> None:
    """As text. As a value, too deep to be read, only the name is left."""
    deep = ['{"a":' * 5000 + number + "}" * 5000 for number in ("1", "2")]
    assert _sign(deep[0]) != _sign(deep[1])
    value: Any = 1
    for _ in range(5000):
        value = [value]
    assert _sign(value) == _sign(None)


def test_text_that_is_not_unicode() -> None:
    """Bytes that are not UTF-8, and lone surrogates in names, keys and values."""
    assert _sign(b"\xff\xfe") != _sign(b"\xff\xfd")
    assert _sign('{"a": "\\ud800"}') == _sign({"a": "\ud800"})
    assert _sign({"\udcff": 1}, name="\udcff")[1] == "full"


def test_results_are_compared_without_the_ids_of_their_calls() -> None:
    """LangChain's ToolMessage as OpenInference writes it (JSON) and as Python prints it."""
    as_json = '{"type": "tool", "data": {"content": "Sunny", "name": "w", "tool_call_id": "call_%d"}}'
    printed = "content='Sunny' name='w' tool_call_id='call_%d'"
    for form in (as_json, printed):
        assert SIGNER.digest(form % 1) == SIGNER.digest(form % 2) != b""
        assert SIGNER.digest(form % 1) != SIGNER.digest((form % 1).replace("Sunny", "Rain"))


def test_a_result_that_says_nothing_has_no_digest() -> None:
    assert [SIGNER.digest(value) for value in (None, "", "  ", b"")] == [b""] * 4
    assert SIGNER.digest({"a": 1}) == SIGNER.digest({"a": 1.0}) != SIGNER.digest({"a": 2})


def test_no_text_holds_up_others_for_long() -> None:
    """Counted: lines of code run. Two million values in one argument took more than a second, in one step."""
    text = json.dumps({"a": ["x"] * MAX_TEXT})
    assert lines_run(lambda: _sign(text)) < 100
    signed = _sign(text)
    assert signed == _sign(f" {text}\n")
    assert signed[1] == "full"
    assert signed != _sign(text.replace("x", "y", 1))
    assert _sign(text[:-1])[1] == "truncated"
    assert _sign(json.dumps({"a": "x" * (MAX_TEXT - 20)})) == _sign({"a": "x" * (MAX_TEXT - 20)})
