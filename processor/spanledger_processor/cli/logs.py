"""The process's own log, on standard error."""

from __future__ import annotations

import logging

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")


def set_up(level: str, form: str) -> None:
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
