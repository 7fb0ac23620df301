"""What tests of exporters share."""

from __future__ import annotations

import pytest

from certificates import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For `localhost`, of an authority that this system does not know."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For `localhost` too, of another authority."""
    return Certificates(tmp_path_factory.mktemp("strangers"))
