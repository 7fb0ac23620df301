"""YAML text to plain values: the YAML 1.2 core schema, keys always text, and every key once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from spanledger_processor.config.problems import ConfigError, Place, line

_CORE = (
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", tuple("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        tuple("-+.0123456789"),
    ),
    ("merge", r"<<", ("<",)),
)
_TAG = "tag:yaml.org,2002:"
_LONGEST_INT = 40


class _Loader(yaml.SafeLoader):
    """PyYAML is YAML 1.1, where `on` is true, 010 is 8 and 1:30 is 90; the Collector's users expect 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name


def _int(loader: _Loader, node: yaml.ScalarNode) -> int | str:
    text = loader.construct_scalar(node)
    if len(text) > _LONGEST_INT:
        return text
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


for _name, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), list(_first))
_Loader.add_constructor(_TAG + "int", _int)


def parse(text: str | bytes, where: str) -> Any:
    """The value that `text` holds; None if it holds nothing. `where` names it in messages.

    Raises:
        ConfigError: not YAML, or a key stands twice.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        problems: list[str] = []
        value = None if node is None else _value(loader, node, (), problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        spot = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise ConfigError([f"{spot}: {_safe(error.problem or error.context or 'not YAML')}"]) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigError([f"{where}: not YAML text in UTF-8"]) from None
    except RecursionError:
        raise ConfigError([f"{where}: nested too deep, or an anchor that holds itself"]) from None
    if problems:
        raise ConfigError(problems)
    return value


def parse_file(path: Path) -> dict[str, Any]:
    """The keys and values of the file at `path`."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    document = parse(text, str(path))
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError([f"{path}: should be a section of keys and values"])
    return document


def _value(loader: _Loader, node: yaml.Node, place: Place, problems: list[str]) -> Any:
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        return _mapping(loader, node, place, problems)
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_value(loader, item, (*place, index), problems) for index, item in enumerate(node.value)]
    return loader.construct_object(node, deep=True)


def _mapping(loader: _Loader, node: yaml.MappingNode, place: Place, problems: list[str]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    own: dict[str, Any] = {}
    first: dict[str, int] = {}
    for key_node, value_node in node.value:
        here = key_node.start_mark.line + 1
        if key_node.tag == _TAG + "merge":
            for source in _sources(_value(loader, value_node, place, problems)):
                merged = {**source, **merged}
            continue
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(line(place, f"line {here}: a key should be text"))
            continue
        key = key_node.value
        if key in first:
            problems.append(line((*place, key), f"stands twice, on line {first[key]} and line {here}"))
        first.setdefault(key, here)
        own[key] = _value(loader, value_node, (*place, key), problems)
    return {**merged, **own}


def _sources(value: Any) -> list[dict[str, Any]]:
    return [source for source in (value if isinstance(value, list) else [value]) if isinstance(source, dict)]


def _safe(problem: str) -> str:
    """PyYAML quotes what it stumbled over, which may be part of a secret; its own token names are in <>."""
    return re.sub(r"'(?!<)[^'\\]{2,}'", "something here", problem)
