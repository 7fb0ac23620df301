"""A UTC day as people name it on a command line."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import click

_DAY_NS = 86_400 * 10**9
_BACK = re.compile(r"([0-9]{1,6})d", re.ASCII)
_WORDS = {"today": 0, "yesterday": 1}


class Since(click.ParamType[int]):
    """2026-01-31, today, yesterday, or 7d: the last 7 days, today included. Gives days since 1970."""

    name = "day"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        today = time.time_ns() // _DAY_NS
        if value in _WORDS:
            return today - _WORDS[value]
        if (back := _BACK.fullmatch(value)) and int(back[1]) > 0:
            return max(0, today - int(back[1]) + 1)
        try:
            return int(datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) // 86_400
        except ValueError:
            self.fail("write a day such as 2026-01-31, today, yesterday, or 7d for the last 7 days", param, ctx)


SINCE = Since()
