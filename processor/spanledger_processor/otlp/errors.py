"""What this room refuses."""

from __future__ import annotations


class MalformedError(ValueError):
    """Bytes that are not OTLP. The message names the place and what is wrong there, never what was sent."""
