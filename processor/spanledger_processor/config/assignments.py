"""`--set path.to.key=value`: one value of the document is replaced, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from spanledger_processor.config.problems import ConfigError, line
from spanledger_processor.config.reading import parse

_STEP = re.compile(r'"([^"]+)"|\'([^\']+)\'|([^."\'][^.]*)')


def assign(document: dict[str, Any], sets: Sequence[str]) -> None:
    """Put the values of `sets` into `document`, in order.

    A step that holds a dot itself is put in quotes (exporters."otlp_grpc/eu.west".endpoint), or needs none where
    the document has it already.

    Raises:
        ConfigError: not of the form path=value, or the path leads through something that is no section.
    """
    problems: list[str] = []
    for position, text in enumerate(sets, start=1):
        path, equals, value = text.partition("=")
        where = f"--set {path}" if equals else f"--set number {position}"
        try:
            if not equals:
                raise ValueError("write path.to.key=value")
            _put(document, path.strip(), parse(value, where))
        except ConfigError as error:
            problems += (
                f"{problem} (a value is read as YAML: text that looks otherwise goes in quotes)"
                for problem in error.problems
            )
        except ValueError as error:
            problems.append(line((), f"{where}: {error}"))
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
    """The first step of `path` and what is left of it: the longest key that is there, else up to the next dot."""
    there = [key for key in section if path == key or path.startswith(f"{key}.")]
    if there:
        step = max(there, key=len)
        return step, path[len(step) + 1 :]
    match = _STEP.match(path)
    after = path[match.end() :] if match else ""
    if match is None or (after and not after.startswith(".")) or after == ".":
        raise ValueError("write path.to.key=value; a key that holds a dot goes in quotes")
    return match[1] or match[2] or match[3], after[1:]
