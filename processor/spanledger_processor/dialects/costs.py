"""Costs that came in on a span."""

from __future__ import annotations

from collections.abc import Mapping

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.dialect import CostKey
from spanledger_processor.dialects.values import money
from spanledger_processor.dialects.view import View
from spanledger_processor.model import ReportedCost

ALIASES = frozenset(
    {
        "gen_ai.usage.cost",
        "langfuse.observation.cost_details",
        "llm.cost.completion",
        "llm.cost.completion_details.output",
        "llm.cost.prompt",
        "llm.cost.prompt_details.cache_read",
        "llm.cost.prompt_details.cache_write",
        "llm.cost.prompt_details.input",
        "llm.cost.total",
        "mlflow.llm.cost",
        "operation.cost",
    }
)
"""Keys that other backends read a cost from: those that came in are never overwritten."""


def reported(keys: tuple[CostKey, ...], view: View) -> ReportedCost | None:
    """The first amount under `keys`."""
    for cost in keys:
        value = view.attributes.get(cost.key)
        if cost.path:
            value = texts.parse(value)
            for step in cost.path:
                value = value.get(step) if isinstance(value, Mapping) else None
        amount = money(value, cost.unit)
        if amount is not None:
            return ReportedCost(amount, cost.trust == "billed", cost.key)
    return None
