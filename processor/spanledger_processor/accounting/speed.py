"""How fast the calls of a request were, by UTC day and model.

Each call is in it once, with the times of the report that was counted when it came. That another report of it proves
better later moves money, and not this: percentiles say how fast calls were, and nothing is paid by them.
"""

from __future__ import annotations

from spanledger_processor.accounting.facts import Batch, Fact, Ruling
from spanledger_processor.accounting.usual import UsualDecision, UsualFact
from spanledger_processor.ledger.keys import bounded_id, day_key
from spanledger_processor.ledger.speeds import speeds_of
from spanledger_processor.ledger.store import Key
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.model import Decision
from spanledger_processor.pricing import canonical_model


def speeds_in(batch: Batch, ruling: Ruling) -> dict[Key, Sums]:
    """Return what the model calls of a batch that were counted now add to their days."""
    found: dict[Key, Sums] = {}
    keys: dict[tuple[int, str, str], Key] = {}
    for index in ruling.fresh:
        fact = batch.facts[index]
        output = _output(fact, ruling.decisions.get(index))
        if output is None:
            continue
        call = fact.like.fact.call if type(fact) is UsualFact else fact.call
        assert call is not None
        where = fact.day, call.provider, call.model
        key = keys.get(where)
        if key is None:
            provider, model = bounded_id(call.provider), canonical_model(bounded_id(call.model))
            key = keys[where] = day_key(batch.tenant, fact.day, provider, model)
            labels = {"day": str(fact.day), "provider": provider, "model": bounded_id(model)}
            found.setdefault(key, Sums(labels=labels))
        speeds = found[key].speeds
        for bucket in speeds_of(fact.end_ns - fact.start_ns, fact.first_token_ns, output):
            speeds[bucket] = speeds.get(bucket, 0) + 1
    return {key: sums for key, sums in found.items() if sums.speeds}


def _output(fact: Fact, decision: Decision | None) -> int | None:
    """Return the output tokens of a model call that counts and came to its end; None for all else."""
    if type(decision) is UsualDecision:
        like = decision.fact.like.fact
        is_call = like.call is not None and like.call.kind == "llm" and not like.failed
        return (decision.fact.counts[1] or 0) if is_call else None
    call = fact.call
    if call is None or decision is None or decision.usage is None or fact.failed or call.response_cache:
        return None
    return (decision.usage.output or 0) if call.kind == "llm" and call.granularity == "per-message" else None
