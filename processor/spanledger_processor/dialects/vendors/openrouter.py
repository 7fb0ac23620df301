"""OpenRouter's broadcast: the gateway that charges says what it charged."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import CostKey, Detection, Place, Source
from spanledger_processor.dialects.vendors.otel import OTEL

OPENROUTER = replace(
    OTEL,
    name="openrouter",
    place=Place.CONVENTION_KEYS,
    rank=13,
    about="OpenRouter broadcast",
    detection=Detection(keys=("gen_ai.usage.total_cost", "gen_ai.usage.input_cost")),
    sources=(Source(Input.INCLUSIVE, why="OpenAI's shape"),),
    costs=(CostKey("gen_ai.usage.total_cost", "billed"), CostKey("gen_ai.usage.cost", "billed")),
)
