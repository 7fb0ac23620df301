"""What the process counts about itself, by the table."""

from __future__ import annotations

from spanledger_processor.telemetry.delivery import Delivery
from spanledger_processor.telemetry.doors import Doors
from spanledger_processor.telemetry.ledger import Ledger
from spanledger_processor.telemetry.log import tell_left_out
from spanledger_processor.telemetry.registry import Registry
from spanledger_processor.telemetry.stage import Stage
from spanledger_processor.telemetry.table import TABLE


class Telemetry:
    """One observer for each room, over one registry.

    `window` is `state.retention.spans` in seconds, `budget` the bytes that may be in flight.
    """

    def __init__(self, version: str, *, window: float, budget: int) -> None:
        self.registry = Registry(TABLE)
        self.doors = Doors(self.registry)
        self.stage = Stage(self.registry, int(window * 1e9))
        self.ledger = Ledger(self.registry)
        self.delivery = Delivery(self.registry)
        tell_left_out(lambda: self.registry.count("suppressed_log_lines_total"))
        self.registry.set("build_info", 1, version)
        self.registry.set("in_flight_budget_bytes", budget)
