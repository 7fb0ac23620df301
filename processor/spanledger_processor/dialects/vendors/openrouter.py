"""OpenRouter's broadcast: the gateway that charges says what it charged."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import CostKey, Detection, Precedence, Source
from spanledger_processor.dialects.vendors.otel import OTEL

OPENROUTER = replace(
    OTEL,
    name="openrouter",
    precedence=Precedence.CONVENTION_KEYS,
    rank=13,
    about="OpenRouter broadcast",
    detection=Detection(keys=("gen_ai.usage.total_cost", "gen_ai.usage.input_cost")),
    sources=(Source(Input.INCLUSIVE, why="OpenAI's shape"),),
    costs=tuple(
        CostKey(
            key,
            "billed",
            upstream=("gen_ai.usage.cost_details.upstream_inference_cost", "gen_ai.usage.upstream_inference_cost"),
            own_key=("gen_ai.usage.is_byok", "openrouter.is_byok"),
        )
        for key in ("gen_ai.usage.total_cost", "gen_ai.usage.cost")
    ),
)
