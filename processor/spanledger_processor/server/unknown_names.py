"""Names in a question, or of its parameters, that nothing is known by: a slip, which an empty answer would hide.

A dimension and a budget have to be configured, or in the ledger; a model in the ledger, or one that the price list
has. Ids and values of dimensions come from whoever sends spans, and may be asked for before the first of them is here:
what nothing is known of is an empty answer.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Final

from spanledger_processor.accounting.trace import tool_label
from spanledger_processor.ledger import dimensions
from spanledger_processor.ledger.queries import models
from spanledger_processor.pricing.price_list import listed_models
from spanledger_processor.server.answers import Question, thresholds_passed
from spanledger_processor.units import NS_PER_DAY

_DAYS: Final = 400
"""Latest days of the ledger whose models are looked at, so that it takes no time on a large one."""


def unknown_parameter(name: str, known: Sequence[str]) -> str:
    """Return a sentence on a parameter that a route does not know."""
    near = difflib.get_close_matches(name, known, n=1)
    shown = name if name.isprintable() and len(name) <= 64 else "of this name"
    guess = f", did you mean {near[0]}?" if near else "."
    return f"unknown parameter {shown}{guess} Known here: {', '.join(sorted(known))}"


def unknown_field(names: Iterable[str], known: Sequence[str]) -> str | None:
    """Return a sentence on the first field that answers do not have; None without one."""
    unknown = next((name for name in names if name not in known), None)
    return None if unknown is None else f"parameter fields: no field {unknown!r:.80}; known here: {', '.join(known)}"


def unknown_name(asked: Question) -> str | None:
    """Return a sentence on a dimension, budget or model to compare with that nothing is known by; None without one."""
    named = asked.ids.get("name", (asked.values.get("dimension") or (None,))[0])
    if named is not None and not asked.has_dimension(named):
        return f"no dimension {named!r:.200}; there are {', '.join(sorted(asked.dimension_names))}"
    budget = asked.values.get("name")
    if budget is not None and not _has_budget(asked, budget):
        names = ", ".join(sorted(rule.name for rule in asked.budgets)) or "none: processor.budgets is empty"
        return f"no budget {budget!r:.200}; there are {names}"
    unlisted = next((name for name in asked.values.get("models") or () if not _is_listed(asked, name)), None)
    if unlisted is not None:
        meant = _meant(unlisted, listed_models())
        return f"parameter models: the price list has no model {unlisted!r:.200}{meant}"
    return None


def unknown_model(asked: Question) -> str | None:
    """Return a sentence on the model that a list is filtered by, if neither the ledger nor the price list has it."""
    name = asked.values.get("model")
    if not name or name.startswith(tool_label("")) or _is_listed(asked, name):
        return None
    latest = models(asked.reader, asked.tenant, asked.now_ns // NS_PER_DAY - _DAYS)
    labels = [f"{row['provider']}/{row['model']}" if row["provider"] else row["model"] for row in latest]
    known = {one for label in labels for one in dimensions.names_in(label, dimensions.MODEL)} - {""}
    if dimensions.listed(dimensions.MODEL, name) in known:
        return None
    meant = _meant(name, known) or _meant(name, listed_models())
    return f"parameter model: neither the ledger nor the price list has a model {name!r:.200}{meant}"


def _has_budget(asked: Question, name: str) -> bool:
    """Return whether there is a budget of this name, or was one of which thresholds were passed."""
    return any(rule.name == name for rule in asked.budgets) or any(thresholds_passed(asked, name))


def _is_listed(asked: Question, name: str) -> bool:
    provider, _, model = name.rpartition("/")
    today = asked.now_ns // NS_PER_DAY
    both = ((provider, model), ("", name))
    return any(asked.pricer.resolve(seller, of_it, today).unpriced is None for seller, of_it in both)


def _meant(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence: the known names that are like it, by the whole of them or without the provider."""
    slashes = name.count("/")
    by_text = {
        one.lower() if slashes else one.rpartition("/")[2].lower(): one
        for one in sorted(known, reverse=True)
        if one.count("/") <= max(1, slashes)
    }
    near = difflib.get_close_matches(name.lower(), by_text, n=3)
    return f"; did you mean {' or '.join(by_text[one] for one in near)}?" if near else ""
