"""A logger for each exporter: lines tell which one they are about, and repeats are left out for each by itself."""

from __future__ import annotations

import logging


def logger_of(exporter: str) -> logging.Logger:
    """The logger of the exporter with this component id."""
    return logging.getLogger(f"spanledger_exporters.{exporter}")
