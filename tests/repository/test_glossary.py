"""Public names are made of the words that docs/glossary.md fixes."""

from __future__ import annotations

import re

import click

from spanledger_processor.cli import main
from spanledger_processor.telemetry.table import TABLE
from tools.parts import ROOT

ROW = re.compile(r"^\| ([^|]+) \|", re.MULTILINE)
WORD = re.compile(r"[a-z0-9]+")


def _terms() -> set[str]:
    """The words that stand in the first column of a table of the glossary."""
    return {word for row in ROW.findall((ROOT / "docs/glossary.md").read_text()) for word in WORD.findall(row.lower())}


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


def test_no_word_has_two_meanings() -> None:
    text = (ROOT / "docs/glossary.md").read_text()
    heads = [
        head.strip() for row in ROW.findall(text) for head in row.split(",") if not row.startswith(("word", "---"))
    ]
    assert len(heads) == len(set(heads)), sorted({head for head in heads if heads.count(head) > 1})
