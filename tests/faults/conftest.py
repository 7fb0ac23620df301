"""A server and a destination that the tests of one module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backend import Backend
from served import Served


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    """What the server sends to."""
    with Backend() as backend:
        yield backend


@pytest.fixture(scope="module")
def served(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`spanledger serve` with its defaults."""
    with Served(tmp_path_factory.mktemp("served"), backend.port) as served:
        yield served
