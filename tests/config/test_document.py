"""docs/configuration.md is what the models say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from spanledger_exporters.settings import TYPES
from spanledger_processor.config import Config
from spanledger_processor.config.document import document
from spanledger_processor.config.reading import model_in

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def _keys(model: type[BaseModel]) -> Iterator[tuple[str, str | None]]:
    for name, field in model.model_fields.items():
        yield name, field.description
        if (below := model_in(field.annotation)) is not None:
            yield from _keys(below)


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text() == document(), "run `make docs`"


def test_every_key_is_on_the_page_and_says_what_it_means() -> None:
    page = document()
    models: list[type[BaseModel]] = [Config, *TYPES.values()]
    for model in models:
        for name, description in _keys(model):
            assert description, f"{name} of {model.__name__} has no description"
            assert f"`{name}`" in page or f".{name}" in page or f"`{name}[]`" in page, name
