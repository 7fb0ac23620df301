"""Agents of a session that may have had more model, or more context, than what came of it: candidates to look at.

A candidate is no saving: whether a smaller model would have done as well, nobody here knows. What is compared is what
the very same tokens cost at list price on other models, at the average size of the agent's calls.
"""

from __future__ import annotations

from collections.abc import Sequence

from spanledger_processor.ledger.parts import agents_of
from spanledger_processor.ledger.rows import Row, money
from spanledger_processor.ledger.store import Reader
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.model import CLASS_NAMES, Call, Usage
from spanledger_processor.pricing import Pricer
from spanledger_processor.units import USD, Pico

LEAST_COST: Pico = USD // 20
"""What an agent spends at least to be looked at: 0.05 USD."""
PREMIUM_OUTPUT: Pico = 20 * USD
"""List price of a million output tokens from which on a model is a premium one."""
LITTLE_OUTPUT, FEW_TOOLS = 2_000, 5
"""Output tokens and tool calls of an agent below and up to which a premium model did little."""
LARGE_CONTEXT, LITTLE_SHARE = 50_000, 0.01
"""Input tokens a call from which on a context is large, and output tokens for each of them up to which little came."""
CHEAPER: Sequence[tuple[str, str]] = (
    ("anthropic", "claude-haiku-4-5"),
    ("anthropic", "claude-sonnet-4-5"),
    ("openai", "gpt-5-mini"),
    ("google", "gemini-2.5-flash"),
)
"""Provider and model of what is compared where nothing else is asked for."""


def candidates(
    reader: Reader,
    tenant: bytes,
    session_id: str,
    pricer: Pricer,
    now_ns: int,
    models: Sequence[tuple[str, str]] = CHEAPER,
) -> list[Row]:
    """Return the agents of a session that are worth a look, the dearest first, with the evidence.

    `over_powered`: a premium model, little output and few tool calls. `over_provisioned`: large contexts for little
    output. An agent with calls without a price, or on several models, is compared like any other; what has no list
    price is left out of the comparison.
    """
    found: list[Row] = []
    for agent in agents_of(reader, tenant, session_id):
        if agent.cost < LEAST_COST or not agent.calls:
            continue
        spent = agent.spent
        inputs, outputs = spent["input"], spent["output"]
        premium = any(_is_premium(label, pricer, now_ns) for label in agent.models)
        over_powered = premium and outputs < LITTLE_OUTPUT and agent.tool_calls <= FEW_TOOLS
        over_provisioned = inputs >= LARGE_CONTEXT * agent.calls and outputs <= LITTLE_SHARE * inputs
        kinds = [
            name for name, holds in (("over_powered", over_powered), ("over_provisioned", over_provisioned)) if holds
        ]
        if kinds:
            found.append(
                {
                    "agent": agent.labels.get("id", ""),
                    "kinds": kinds,
                    **money(agent.cost),
                    "calls": agent.calls,
                    "models": sorted(agent.models),
                    "input_tokens_a_call": inputs // agent.calls,
                    "output_tokens": outputs,
                    "tool_calls": agent.tool_calls,
                    "same_tokens_on": _compared(agent, models, pricer, now_ns),
                }
            )
    return found


def _compared(agent: Sums, models: Sequence[tuple[str, str]], pricer: Pricer, now_ns: int) -> list[Row]:
    """Return what the agent's tokens cost on other models: only on those where it is less, the cheapest first."""
    average = Usage(
        **{name: count // agent.calls for name, count in zip(CLASS_NAMES, agent.usage, strict=True) if count}
    )
    amounts = [
        (amount * agent.calls, provider, model)
        for provider, model in models
        if (amount := _list_price(provider, model, average, pricer, now_ns)) is not None
    ]
    return [
        {"provider": provider, "model": model, **money(amount), "share": amount / agent.cost}
        for amount, provider, model in sorted(amounts)
        if amount < agent.cost
    ]


def _is_premium(label: str, pricer: Pricer, now_ns: int) -> bool:
    provider, _, model = label.rpartition("/")
    amount = _list_price(provider, model, Usage(input=0, output=1_000_000), pricer, now_ns)
    return amount is not None and amount >= PREMIUM_OUTPUT


def _list_price(provider: str, model: str, usage: Usage, pricer: Pricer, now_ns: int) -> Pico | None:
    call = Call("", "llm", provider=provider, request_model=model, usage=usage)
    return pricer.cost(call, now_ns).computed
