"""Public names are made of the words that docs/glossary.md fixes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from spanledger_processor.cli import main
from spanledger_processor.telemetry.table import TABLE
from tools.parts import ROOT
from tracked import tracked

ROW = re.compile(r"^\| ([^|]+) \|", re.MULTILINE)
WORD = re.compile(r"[a-z0-9]+")
NAMES = ("name", "id", "attr", "arg")
"""Where `ast` keeps what was named."""
ROOMS = ("processor/spanledger_processor", "exporters/spanledger_exporters", "sidecar/spanledger_sidecar")
AVOIDED = "## Words that no name has"


def _terms() -> set[str]:
    """The words that stand in the first column of a table of the glossary."""
    text = (ROOT / "docs/glossary.md").read_text().partition(AVOIDED)[0]
    return {word for row in ROW.findall(text) for word in WORD.findall(row.lower())}


def _avoided() -> list[str]:
    rows = ROW.findall((ROOT / "docs/glossary.md").read_text().partition(AVOIDED)[2])[1:]
    return [term.strip() for row in rows for term in row.split(",") if not row.startswith("-")]


def _attributes() -> set[str]:
    """The attributes in the contract's table."""
    text = (ROOT / "docs/contract.md").read_text()
    named = {name for row in ROW.findall(text) for name in re.findall(r"`([^`]+)`", row)}
    return {name for name in named if name.startswith(("spanledger.", "."))}


def _singular(word: str) -> set[str]:
    return {word, word.removesuffix("s"), word.removesuffix("es"), re.sub("ies$", "y", word)}


def _unknown(names: set[str]) -> dict[str, str]:
    terms = _terms() | {"spanledger"}
    return {word: name for name in names for word in WORD.findall(name) if not _singular(word) & terms}


def test_attributes_are_made_of_words_of_the_glossary() -> None:
    assert len(_attributes()) > 20
    assert not _unknown(_attributes())


def test_metrics_are_made_of_words_of_the_glossary() -> None:
    assert not _unknown({row.full_name for row in TABLE})


def test_commands_are_words_of_the_glossary() -> None:
    assert not _unknown(set(main.list_commands(click.Context(main))))


def _configuration_keys() -> set[str]:
    """The keys of docs/configuration.md, which is written from the code: of its tables and of its headings."""
    text = (ROOT / "docs/configuration.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9_]+)`", text, re.MULTILINE)
    headings = re.findall(r"^#+ `([^`]+)`", text, re.MULTILINE)
    return {*rows, *(key for heading in headings for key in re.findall(r"[a-z0-9_]+", heading))}


def test_configuration_keys_are_made_of_words_of_the_glossary() -> None:
    assert len(_configuration_keys()) > 150
    assert not _unknown(_configuration_keys())


def test_a_word_that_is_not_there_is_found() -> None:
    assert _unknown({"spanledger_doors_total", "spanledger.cost.usd"}) == {"doors": "spanledger_doors_total"}


def _words(name: str) -> str:
    """The words of a name, whichever way it is written, each between blanks."""
    return f" {' '.join(re.findall(r'[A-Z]?[a-z]+|[A-Z]+(?![a-z])', name)).lower()} "


def _with_avoided(names: set[str]) -> set[str]:
    return {name for name in names for term in _avoided() if f" {term} " in _words(name)}


def _names(path: Path) -> Iterator[str]:
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text())):
        yield from (name for of in NAMES if isinstance(name := getattr(node, of, None), str))


def test_no_name_has_a_word_that_the_glossary_replaces() -> None:
    names = {name for path in tracked(".py") if str(path.relative_to(ROOT)).startswith(ROOMS) for name in _names(path)}
    assert len(names) > 5000
    assert not _with_avoided(names)


@pytest.mark.parametrize(
    "name", ["_settle_parts", "settle", "SETTLE_MS", "TellerOfTwo", "_put_down", "is_told", "handOver"]
)
def test_a_replaced_word_is_found_in_any_name(name: str) -> None:
    assert _with_avoided({name, "_is_settled", "untold", "opened"}) == {name}


def test_no_word_has_two_meanings() -> None:
    text = (ROOT / "docs/glossary.md").read_text()
    heads = [
        head.strip() for row in ROW.findall(text) for head in row.split(",") if not row.startswith(("word", "---"))
    ]
    assert len(heads) == len(set(heads)), sorted({head for head in heads if heads.count(head) > 1})
