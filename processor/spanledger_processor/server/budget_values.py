"""Values of budgets: what is used by the most used of them, for the metrics, and those that nothing is known by, most
likely a slip, where nothing would ever count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from spanledger_processor.accounting.trace import tool_label
from spanledger_processor.ledger.budgets import PERIODS_OF_DAYS, BudgetRule
from spanledger_processor.ledger.budgets import rows as rows_of
from spanledger_processor.ledger.dimensions import MODEL, PROVIDER
from spanledger_processor.ledger.keys import total_key
from spanledger_processor.ledger.queries import models, tenant_name, tenants_of
from spanledger_processor.ledger.rows import Row
from spanledger_processor.ledger.store import Reader, Snapshot, StateError
from spanledger_processor.pricing import Pricer
from spanledger_processor.pricing.providers import GATEWAYS, seller_of
from spanledger_processor.units import NS_PER_DAY

_DAYS, _TENANTS = 31, 100
"""Latest days, and tenants, of the ledger that are looked at, so that it takes no time on a large one."""


_MEASURED_TENANTS, _MEASURED_VALUES = 32, 20
"""Tenants, those that spent most, and the most used values of a budget of one, that have series in the metrics."""


def most_used(rules: Sequence[BudgetRule], reader: Reader, now_ns: int) -> Iterator[tuple[tuple[str, ...], Row]]:
    """Yield what is used of budgets that go by days, the most used first of each tenant: budget, period, name of the
    tenant and value, and the row that the API has.
    """
    of_days = [rule for rule in rules if rule.period in PERIODS_OF_DAYS]
    if not of_days:
        return
    tenants = sorted(tenants_of(reader), key=lambda tenant: -reader.sums(total_key(tenant)).cost)
    for tenant in tenants[:_MEASURED_TENANTS]:
        name, shown = tenant_name(reader, tenant), Counter[str]()
        for row in rows_of(reader, tenant, of_days, now_ns, None):
            shown[row["budget"]] += 1
            if shown[row["budget"]] <= _MEASURED_VALUES:
                yield (row["budget"], row["period"], name, row["value"]), row


def unknown_values(
    rules: Sequence[BudgetRule], pricer: Pricer, now_ns: int, snapshot: Snapshot | None = None
) -> list[str]:
    """Return a sentence on each budget whose model or provider neither the price list nor the ledger has.

    Without a snapshot, or where there is none, the ledger is not looked at.
    """
    if snapshot is not None:
        try:
            with snapshot() as reader:
                return [*_unknown(rules, pricer, now_ns, reader)]
        except StateError:
            pass
    return [*_unknown(rules, pricer, now_ns, None)]


def _unknown(rules: Sequence[BudgetRule], pricer: Pricer, now_ns: int, reader: Reader | None) -> Iterator[str]:
    today = now_ns // NS_PER_DAY
    for rule in rules:
        if not rule.value or rule.dimension not in (MODEL, PROVIDER):
            continue
        if _is_listed(rule, pricer, today) or (reader is not None and _has_spent(rule, reader, today)):
            continue
        nobody = "neither the price list nor the ledger has" if reader is not None else "the price list does not have"
        yield f"processor.budgets: {rule.name}: {nobody} the {rule.dimension} {rule.value!r}: nothing may count there"


def _is_listed(rule: BudgetRule, pricer: Pricer, today: int) -> bool:
    if rule.dimension == PROVIDER:
        return rule.value in GATEWAYS or bool(seller_of(rule.value))
    if rule.value.startswith(tool_label("")):
        return True  # what tools cost by themselves is of no list
    provider, separator, model = rule.value.partition("/")
    if not separator:
        provider, model = "", rule.value
    return pricer.resolve(provider, model, today).unpriced is None


def _has_spent(rule: BudgetRule, reader: Reader, today: int) -> bool:
    tenants = [tenant for tenant in tenants_of(reader) if rule.concerns(tenant)][:_TENANTS]
    rows = (row for tenant in tenants for row in models(reader, tenant, today - _DAYS))
    return any(rule.value_of(row["provider"], row["model"], "", {}) is not None for row in rows)
