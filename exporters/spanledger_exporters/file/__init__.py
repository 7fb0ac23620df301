"""OTLP-JSON in a file: one request a line, as the Collector's file exporter writes it."""

from spanledger_exporters.file.exporter import File

__all__ = ["File"]
