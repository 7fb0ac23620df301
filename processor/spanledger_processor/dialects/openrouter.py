"""OpenRouter's broadcast: the gateway that charges says what it charged."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.counts import Input
from spanledger_processor.dialects.dialect import CostKey, Signs, Source
from spanledger_processor.dialects.otel import OTEL

OPENROUTER = replace(
    OTEL,
    name="openrouter",
    about="OpenRouter broadcast",
    signs=Signs(keys=("gen_ai.usage.total_cost", "gen_ai.usage.input_cost")),
    sources=(Source(Input.INCLUSIVE, why="OpenAI's shape"),),
    costs=(CostKey("gen_ai.usage.total_cost", "billed"), CostKey("gen_ai.usage.cost", "billed")),
)
