"""Configurations from text: what they come to, or what is wrong with them."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from spanledger_processor.config import Config, ConfigError, load

HOME = {"HOME": "/home/someone"}


def loaded(text: str = "", sets: Sequence[str] = (), environ: Mapping[str, str] = HOME) -> Config:
    """The configuration that a file with `text` makes."""
    with tempfile.NamedTemporaryFile("wb", suffix=".yaml") as file:
        file.write(textwrap.dedent(text).encode("utf-8", "surrogateescape"))
        file.flush()
        return load(Path(file.name), sets, environ)


def problems(text: str = "", sets: Sequence[str] = (), environ: Mapping[str, str] = HOME) -> tuple[str, ...]:
    """What is wrong with it, a line each; the name of the file is left out."""
    with pytest.raises(ConfigError) as caught:
        loaded(text, sets, environ)
    reported = caught.value.problems
    assert str(caught.value) == "\n".join(reported)
    assert all("\n" not in problem for problem in reported)
    return reported
