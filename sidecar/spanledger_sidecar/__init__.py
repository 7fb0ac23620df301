"""Agents' usage files as OTLP spans: watched, read once whatever the files do, and sent to any OTLP endpoint."""
