"""Problems with a configuration, told so that they can be mended: one line each, with the dotted path. No values."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from spanledger_exporters.settings import TYPES

Place: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top down."""


class ConfigError(Exception):
    """The configuration cannot be used; the message has one line a problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


_ONE_PIPELINE = "there is one pipeline and no service.pipelines: every exporter gets each signal it takes; remove it"
_ELSEWHERE: Mapping[Place, str] = {
    ("service",): f"{_ONE_PIPELINE} (service.telemetry is telemetry here, at the top)",
    ("processors",): "unknown key, did you mean processor? There is one, and its settings stand right below it",
    ("extensions",): "there are none: health and metrics are at api.endpoint, tokens at protocols.*.auth; remove it",
    ("connectors",): "there are none; remove it",
}
"""What a Collector's configuration has and this one has not."""

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


def dotted(place: Iterable[str | int]) -> str:
    """Return the path as people write it: receivers.otlp, overrides[0].input; a key with a dot in quotes."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (f'"{step}"' if "." in step else step)
    return text


def line(place: Iterable[str | int], message: str) -> str:
    """Return one problem on one line."""
    path = dotted(place)
    told = " ".join(message.split())
    return f"{path}: {told}" if path else told


def from_validation(model: type[BaseModel], error: ValidationError) -> list[str]:
    """Return the lines for what `model` found wrong."""
    told = error.errors(include_url=False, include_input=False)
    return [line(problem["loc"], _message(model, problem)) for problem in told]


def _message(model: type[BaseModel], problem: ErrorDetails) -> str:
    place, kind = problem["loc"], problem["type"]
    if kind == "extra_forbidden":
        return _unknown(model, place)
    if known := _WORDS.get(kind):
        return known
    return problem["msg"].removeprefix("Value error, ").removeprefix("Input ")


def _unknown(model: type[BaseModel], place: Place) -> str:
    if hint := _ELSEWHERE.get(place):
        return hint
    if place[:-1] == ("receivers",):
        return "unknown key: there is one receiver, otlp"
    section = _section(model, place[:-1])
    known = list(section.model_fields) if section else []
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    if near:
        return f"unknown key, did you mean {near[0]}?"
    return f"unknown key; known here: {', '.join(known)}" if known else "unknown key"


def _section(model: type[BaseModel], place: Place) -> type[BaseModel] | None:
    """Return the model that stands at `place`."""
    if place[:1] == ("exporters",) and len(place) > 1:
        settings = TYPES.get(str(place[1]).partition("/")[0])
        return _section(settings, place[2:]) if settings else None
    current: type[BaseModel] | None = model
    for step in place:
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
