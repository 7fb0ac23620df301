"""What is read of a file: YAML 1.2 as the Collector's users write it, each key once."""

from __future__ import annotations

from pathlib import Path

import pytest

from configurations import loaded, problems
from spanledger_processor.config import ConfigError, load
from spanledger_processor.config.reading import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("010", 10),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0x1F", 31),
        ("0o17", 15),
        ("1e3", 1000.0),
        ("~", None),
        ("true", True),
        ("2026-01-31", "2026-01-31"),
        ("{1: a, true: b, ~: c}", {"1": "a", "true": "b", "~": "c"}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ("", None),
        ("# nothing", None),
    ],
)
def test_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    assert parse(text, "here") == value


def test_a_key_that_stands_twice() -> None:
    text = "state:\n  max_size_mib: 1\napi: {}\nstate:\n  max_size_mib: 2\n"
    assert problems(text) == ("state: occurs twice, on line 1 and line 4",)


def test_a_key_that_stands_twice_further_down() -> None:
    text = "exporters:\n  debug:\n    required: true\n    required: false\n"
    assert problems(text) == ("exporters.debug.required: occurs twice, on line 3 and line 4",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1, 2", "line 1, column "),
        ("a: 1\n b: 2", "line 2, column "),
        ("a:\n\tkey: 1", "line 2, column 1"),
        ("- a\n- b", "should be a section of keys and values"),
        ("just text", "should be a section of keys and values"),
        ("a: !!python/object:os.system {}", "line 1, column 4"),
        ("a: 1\n---\nb: 2", "line 2, column 1"),
        ("a: &x [*x]", "anchor"),
        ("? [a, b]\n: 1", "a key should be text"),
        ("a: \udcff", "UTF-8"),
        ("a: *nobody", "line 1, column 4"),
        ("[" * 5000, "nested too deep"),
    ],
)
def test_what_is_no_configuration_is_told_with_the_place(text: str, says: str) -> None:
    reported = problems(text)
    assert len(reported) == 1
    assert says in reported[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1\n", "expected ',' or ']', but got '<stream end>'"),
        ("a: {b: 1\n", "expected ',' or '}', but got '<stream end>'"),
        ("a: ['sesame' 'sesame']", "expected ',' or ']', but got '<scalar>'"),
        ("a:\n\tkey: 1", r"found character '\t' that cannot start any token"),
        ("a: *sesame", "found undefined alias something here"),
        ("a: !'sesame' 1", "could not determine a constructor for the tag something here"),
        ("a: !sesame 1", "could not determine a constructor for the tag something here"),
        ("a: !s!esame 1", "found undefined tag handle something here"),
        ('a: "\\sesame"', "found unknown escape character 's'"),
    ],
)
def test_what_is_wrong_is_told_as_it_stands_without_the_texts_of_the_file(text: str, says: str) -> None:
    (reported,) = problems(text)
    assert reported.endswith(says)
    assert "esame" not in reported


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: cannot be read: No such file or directory"):
        load(tmp_path / "nothing.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_an_empty_file_is_the_defaults() -> None:
    assert loaded("# nothing yet\n") == load(None, (), {"HOME": "/home/someone"})
