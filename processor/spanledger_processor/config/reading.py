"""Reading of YAML text, `--set` and variables into plain values: YAML 1.2 core schema, keys always text and unique.

Each problem is one line with the dotted path of the setting, and never holds a value, which may be secret.
"""

from __future__ import annotations

import difflib
import inspect
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from spanledger_exporters.settings import TYPES

Location: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top down."""


class ConfigError(Exception):
    """The configuration cannot be used; the message has one line a problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


_ONE_PIPELINE = "there is one pipeline and no service.pipelines: every exporter gets each signal it takes; remove it"
_ELSEWHERE: Mapping[Location, str] = {
    ("service",): f"{_ONE_PIPELINE} (service.telemetry is telemetry here, at the top)",
    ("processors",): "unknown key, did you mean processor? There is one, and its settings are right below it",
    ("extensions",): "there are none: health and metrics are at api.endpoint, tokens at protocols.*.auth; remove it",
    ("connectors",): "there are none; remove it",
}
"""Sections of a Collector's configuration that do not exist here, with the hint for each."""

_WORDS = {
    "missing": "is required",
    "string_type": "should be text; put it in quotes",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "int_parsing_size": "should be a smaller whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "decimal_type": "should be a number",
    "decimal_parsing": "should be a number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "frozen_set_type": "should be a list",
    "dict_type": "should be a section of keys and values",
    "mapping_type": "should be a section of keys and values",
    "model_type": "should be a section of keys and values",
    "model_attributes_type": "should be a section of keys and values",
    "path_type": "should be a path",
    "string_too_short": "should not be empty",
}


def dotted(location: Iterable[str | int]) -> str:
    """Return a location as a dotted path: receivers.otlp, overrides[0].input; a key with a dot in quotes."""
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (f'"{step}"' if "." in step else step)
    return text


def line(location: Iterable[str | int], message: str) -> str:
    """Return a problem as one line."""
    path = dotted(location)
    text = " ".join(message.split())
    return f"{path}: {text}" if path else text


_FOLLOWS = "default_factory_not_called"
"""Of a key whose default depends on others, of which one is wrong: that one has a line of its own."""


def from_validation(model: type[BaseModel], error: ValidationError) -> list[str]:
    """Return the lines of the problems that validation by `model` found."""
    errors = error.errors(include_url=False, include_input=False)
    return [line(problem["loc"], _message(model, problem)) for problem in errors if problem["type"] != _FOLLOWS]


def _message(model: type[BaseModel], problem: ErrorDetails) -> str:
    location, kind = problem["loc"], problem["type"]
    if kind == "extra_forbidden":
        return _unknown(model, location)
    if known := _WORDS.get(kind):
        return known
    return problem["msg"].removeprefix("Value error, ").removeprefix("Input ")


def _unknown(model: type[BaseModel], location: Location) -> str:
    if hint := _ELSEWHERE.get(location):
        return hint
    section, name = _section(model, location[:-1]), str(location[-1])
    known = list(section.model_fields) if section else []
    if "/" in name and name.partition("/")[0] in known:
        return "unknown key: there is one of each; known here: " + ", ".join(known)
    elsewhere = [*_paths_of(name, model)] if len(location) <= _MISPLACED else []
    near = elsewhere if len(elsewhere) == 1 else difflib.get_close_matches(name, known, n=1)
    if near:
        return f"unknown key, did you mean {near[0]}?"
    return f"unknown key; known here: {', '.join(known)}" if known else "unknown key"


_MISPLACED = 2
"""Steps to a key that may stand in a wrong section: further down one of another meaning has the same name."""


def _paths_of(name: str, model: type[BaseModel], section: Location = ()) -> Iterator[str]:
    """Yield the path of each key of a name, in whichever section it is known, but for those of lists and of names."""
    for key, field in model.model_fields.items():
        if key == name:
            yield dotted((*section, key))
        below = model_in(field.annotation)
        if below is not None and typing.get_origin(field.annotation) not in (tuple, Mapping):
            yield from _paths_of(name, below, (*section, key))


def _section(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """Return the model of the section at `location`."""
    if location[:1] == ("exporters",) and len(location) > 1:
        settings = TYPES.get(str(location[1]).partition("/")[0])
        return _section(settings, location[2:]) if settings else None
    current: type[BaseModel] | None = model
    for step in location:
        if current is None:
            return None
        if isinstance(step, str):
            field = current.model_fields.get(step)
            current = model_in(field.annotation) if field else None
    return current


def model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field holds, bare, optional, annotated or in a tuple."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(model_in, typing.get_args(annotation))), None)


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


def parse(text: str | bytes, name: str) -> Any:
    """Return the value that `text` holds; None if it holds nothing. `name` names it in messages.

    Raises:
        ConfigError: not YAML, or a key occurs twice.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        problems: list[str] = []
        value = None if node is None else _value(loader, node, (), problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        spot = f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name
        raise ConfigError([f"{spot}: {_safe(error.problem or error.context or 'not YAML')}"]) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigError([f"{name}: not YAML text in UTF-8"]) from None
    except RecursionError:
        raise ConfigError([f"{name}: nested too deep, or an anchor that holds itself"]) from None
    if problems:
        raise ConfigError(problems)
    return value


def parse_file(path: Path) -> dict[str, Any]:
    """Return the keys and values of the file at `path`."""
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


def merged(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Return `earlier` with `later` over it: sections merge deep, and every other value, a list too, is replaced."""
    both = {**earlier, **later}
    for key in earlier.keys() & later.keys():
        if isinstance(earlier[key], dict) and isinstance(later[key], dict):
            both[key] = merged(earlier[key], later[key])
    return both


def _value(loader: _Loader, node: yaml.Node, location: Location, problems: list[str]) -> Any:
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        return _mapping(loader, node, location, problems)
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_value(loader, item, (*location, index), problems) for index, item in enumerate(node.value)]
    return loader.construct_object(node, deep=True)


def _mapping(loader: _Loader, node: yaml.MappingNode, location: Location, problems: list[str]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    own: dict[str, Any] = {}
    first: dict[str, int] = {}
    for key_node, value_node in node.value:
        number = key_node.start_mark.line + 1
        if key_node.tag == _TAG + "merge":
            for source in _sources(_value(loader, value_node, location, problems)):
                merged = {**source, **merged}
            continue
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(line(location, f"line {number}: a key should be text"))
            continue
        key = key_node.value
        if key in first:
            problems.append(line((*location, key), f"occurs twice, on line {first[key]} and line {number}"))
        first.setdefault(key, number)
        own[key] = _value(loader, value_node, (*location, key), problems)
    return {**merged, **own}


def _sources(value: Any) -> list[dict[str, Any]]:
    return [source for source in (value if isinstance(value, list) else [value]) if isinstance(source, dict)]


_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_TELLS_NOTHING = re.compile(r"<[\w ]+>|\\?.?|\\[xuU][0-9a-f]+")
"""Quotations of PyYAML's that are no text of the file's: its names of tokens, and single characters."""


def _safe(problem: str) -> str:
    """Return a message without what PyYAML quotes of the text, which may be secret."""

    def shown(quoted: re.Match[str]) -> str:
        return quoted[0] if _TELLS_NOTHING.fullmatch(quoted[1] or quoted[2] or "") else "something here"

    return _QUOTED.sub(shown, problem)


_STEP = re.compile(r'"([^"]+)"|\'([^\']+)\'|([^."\'][^.]*)')


def assign(document: dict[str, Any], sets: Sequence[str]) -> None:
    """Set the values of `sets` in `document`, in order.

    A step that holds a dot itself is put in quotes (exporters."otlp_grpc/eu.west".endpoint), or needs none where
    the document has it already.

    Raises:
        ConfigError: not of the form path=value, or the path leads through something that is no section.
    """
    problems: list[str] = []
    for position, text in enumerate(sets, start=1):
        path, equals, value = text.partition("=")
        option = f"--set {path}" if equals else f"--set number {position}"
        try:
            if not equals:
                raise ValueError("write path.to.key=value")
            _put(document, path.strip(), parse(value, option))
        except ConfigError as error:
            problems += (
                f"{problem} (a value is read as YAML: text that looks otherwise goes in quotes)"
                for problem in error.problems
            )
        except ValueError as error:
            problems.append(line((), f"{option}: {error}"))
    if problems:
        raise ConfigError(problems)


def _put(document: dict[str, Any], path: str, value: Any) -> None:
    section, rest = document, path
    while True:
        step, rest = _step(section, rest)
        if not rest:
            section[step] = value
            return
        below = section.get(step)
        if below is None:
            below = section[step] = {}
        if not isinstance(below, dict):
            raise ValueError(f"{step} is not a section of keys and values")
        section = below


def _step(section: dict[str, Any], path: str) -> tuple[str, str]:
    """Return the first step of `path` and the rest of it: the longest key that is there, else up to the next dot."""
    there = [key for key in section if path == key or path.startswith(f"{key}.")]
    if there:
        step = max(there, key=len)
        return step, path[len(step) + 1 :]
    match = _STEP.match(path)
    after = path[match.end() :] if match else ""
    if match is None or (after and not after.startswith(".")) or after == ".":
        raise ValueError("write path.to.key=value; a key that holds a dot goes in quotes")
    return match[1] or match[2] or match[3], after[1:]


_MARK = re.compile(r"\$(?:\$|\{(?P<body>[^{}]*)(?P<end>\})?)")
_BODY = re.compile(r"(?:env:)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<or>:-(?P<default>.*))?", re.ASCII | re.DOTALL)
_SCHEME = re.compile(r"(?!env:)[A-Za-z][A-Za-z0-9+.-]+:(?!-)", re.ASCII)


def expand(document: Any, environ: Mapping[str, str]) -> Any:
    """Return `document` with every variable replaced.

    Raises:
        ConfigError: a variable is not set, or a reference is not one.
    """
    problems: list[str] = []
    expanded = _expand(document, environ, (), problems)
    if problems:
        raise ConfigError(problems)
    return expanded


def _expand(value: Any, environ: Mapping[str, str], location: Location, problems: list[str]) -> Any:
    if isinstance(value, dict):
        return {key: _expand(inner, environ, (*location, key), problems) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, environ, (*location, index), problems) for index, inner in enumerate(value)]
    if not isinstance(value, str) or "$" not in value:
        return value

    def replaced(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        try:
            return _lookup(match, environ)
        except ValueError as error:
            problems.append(line(location, str(error)))
            return ""

    return _MARK.sub(replaced, value)


def _lookup(match: re.Match[str], environ: Mapping[str, str]) -> str:
    body = match["body"]
    if _SCHEME.match(body):
        raise ValueError("only ${env:NAME} can be referred to, no other source; for a literal $ write $$")
    reference = _BODY.fullmatch(body)
    if match["end"] is None or reference is None:
        raise ValueError("write ${env:NAME} or ${env:NAME:-default}, nothing nested; for a literal $ write $$")
    name = reference["name"]
    if name in environ:
        return environ[name]
    if reference["or"] is None:
        raise ValueError(f"environment variable {name} is not set; set it, or write ${{env:{name}:-default}}")
    return str(reference["default"])
