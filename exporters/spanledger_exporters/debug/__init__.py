"""Readable lines on the terminal, without content."""

from spanledger_exporters.debug.exporter import Debug

__all__ = ["Debug"]
