"""`spanledger prices MODEL`: what a model costs, and how its name was understood."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import click

from spanledger_processor.cli.options import FAILED, ConfigFiles, as_json, configuration, configured, fail
from spanledger_processor.cli.show import show_json
from spanledger_processor.pricing import Quotation, describe
from spanledger_processor.pricing.explain import plain
from spanledger_processor.server.wiring import make_pricer


@click.command()
@click.argument("model")
@click.option("--provider", default="", metavar="NAME", help="Who sells it, as on the span (gen_ai.provider.name).")
@click.option(
    "--at",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DAY",
    help="UTC day of the call, such as 2026-01-31; today if not given.",
)
@configuration
@as_json
def prices(
    model: str, provider: str, at: datetime | None, path: ConfigFiles, sets: tuple[str, ...], *, as_json: bool
) -> None:
    """Show the rates that calls of MODEL are priced with, and how its name is read.

    Exit code 1 where there are none: such a call is counted as unpriced, never as 0.
    """
    at_ns = time.time_ns() if at is None else int(at.replace(tzinfo=UTC).timestamp()) * 10**9
    found = describe(model, provider, at_ns, make_pricer(configured(path, sets)))
    if as_json:
        show_json(_as_dict(model, provider, found))
    else:
        for line in found.text():
            click.echo(line)
    if found.unpriced:
        fail(f"A call of it is counted as unpriced ({found.unpriced}), never as 0.", FAILED)


def _as_dict(model: str, provider: str, found: Quotation) -> dict[str, Any]:
    return {
        "model": model,
        "provider": provider,
        "read_as": list(found.names[1:]),
        "price": found.price or None,
        "unpriced": found.unpriced,
        "tiers": [
            {
                "input_above": start,
                "rates": [
                    {"class": rate.label, "usd": float(rate.usd), "usd_exact": plain(rate.usd), "per": rate.unit}
                    for rate in rates
                ],
            }
            for start, rates in found.tiers
        ],
        "changes_during_the_day": found.changes,
    }
