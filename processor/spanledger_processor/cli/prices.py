"""`spanledger prices MODEL`: what a model costs, and how its name was understood."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import click

from spanledger_processor.cli import show
from spanledger_processor.cli.asking import Where, asks
from spanledger_processor.cli.options import FAILED, as_json, fail
from spanledger_processor.cli.reading import DAY
from spanledger_processor.server.answers import quotation
from spanledger_processor.server.routes import day_of
from spanledger_processor.server.wiring import make_pricer


@click.command()
@click.argument("model")
@click.option("--provider", default="", metavar="NAME", help="Who sells it, as on the span (gen_ai.provider.name).")
@click.option("--at", type=DAY, help="UTC day of the call, such as 2026-01-31; now if not given.")
@asks
@as_json
def prices(model: str, provider: str, at: str | None, where: Where, *, as_json: bool) -> None:
    """Show the rates that calls of MODEL are priced with, and how its name is read.

    Exit code 1 where there are none: such a call is counted as unpriced, never as 0.
    """
    if where.remote is None:
        at_ns = time.time_ns() if at is None else day_of(at) * 86_400 * 10**9
        result = quotation(model, provider, at_ns, make_pricer(where.config()))
    else:
        with where.open() as source:
            answer = source.ask("/api/v1/prices/{model}", {"model": model}, {"provider": provider or None, "at": at})
            assert answer is not None
            result = answer
    if as_json:
        show.show_json(result)
    else:
        for line in _lines(result):
            click.echo(show.plain(line))
    if result["unpriced"]:
        fail(f"A call of it is counted as unpriced ({result['unpriced']}), never as 0.", FAILED)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    of = f'of provider "{found["provider"]}"' if found["provider"] else "(no provider named)"
    yield f'model "{found["model"]}" {of}'
    yield from found["read_as"]
    for tier in found["tiers"]:
        if tier["input_above"]:
            yield f"for a call with more than {tier['input_above']:,} tokens of input:"
        yield from (f"  {rate['class']:<17}${rate['usd_exact']} / {rate['per']}" for rate in tier["rates"])
    if found["unpriced"]:
        yield f"unpriced: {found['meaning']}"
    if found["changes_during_the_day"]:
        yield "the price changes during the day (UTC); this is the one at the time asked for"
