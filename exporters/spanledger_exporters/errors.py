"""What can go wrong with a destination before anything is sent. What it answers is an `Outcome`, never an exception.

ExporterError
└── DestinationError    a destination cannot be used as configured
"""

from __future__ import annotations


class ExporterError(Exception):
    """Base of all errors that this package raises."""


class DestinationError(ExporterError):
    """A destination cannot be used as configured; raised when it is started. The message says what to mend."""

    def __init__(self, exporter: str, problem: str) -> None:
        super().__init__(f"exporters.{exporter}: {problem}")
        self.exporter = exporter
