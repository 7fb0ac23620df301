"""`${env:NAME}`, `${env:NAME:-default}` and `$$` in values, as in the Collector; keys are left alone.

One thing is stricter: a variable that is not set and has no default is an error, where the Collector puts an empty
string. What a variable holds stays text, and is read as a number or a boolean where one is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from spanledger_processor.config.problems import ConfigError, Place, line

_MARK = re.compile(r"\$(?:\$|\{(?P<body>[^{}]*)(?P<end>\})?)")
_BODY = re.compile(r"(?:env:)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<or>:-(?P<default>.*))?", re.ASCII | re.DOTALL)
_SCHEME = re.compile(r"(?!env:)[A-Za-z][A-Za-z0-9+.-]+:(?!-)", re.ASCII)


def expand(document: Any, environ: Mapping[str, str]) -> Any:
    """`document` with every variable replaced.

    Raises:
        ConfigError: a variable is not set, or a reference is not one.
    """
    problems: list[str] = []
    expanded = _expand(document, environ, (), problems)
    if problems:
        raise ConfigError(problems)
    return expanded


def _expand(value: Any, environ: Mapping[str, str], place: Place, problems: list[str]) -> Any:
    if isinstance(value, dict):
        return {key: _expand(inner, environ, (*place, key), problems) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, environ, (*place, index), problems) for index, inner in enumerate(value)]
    if not isinstance(value, str) or "$" not in value:
        return value

    def replaced(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        try:
            return _lookup(match, environ)
        except ValueError as error:
            problems.append(line(place, str(error)))
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
