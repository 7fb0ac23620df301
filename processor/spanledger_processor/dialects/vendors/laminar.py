"""Laminar (lmnr)."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import (
    ANY_INPUT,
    ContentKeys,
    Detection,
    GroupingKeys,
    Kinds,
    Mark,
    Precedence,
    Source,
    ToolKeys,
    UsageText,
)
from spanledger_processor.dialects.vendors.otel import OTEL

LAMINAR = replace(
    OTEL,
    name="laminar",
    precedence=Precedence.OWN_KEYS,
    rank=10,
    about="Laminar SDKs",
    detection=Detection(keys=("lmnr.span.type",)),
    kinds=(
        Kinds(
            "lmnr.span.type",
            {
                "llm": "llm",
                "tool": "tool",
                "default": "workflow",
                "executor": "workflow",
                "cached": "other",
                "evaluator": "other",
                "evaluation": "other",
                "human_evaluator": "other",
                "event": "other",
            },
        ),
    ),
    content=ContentKeys(
        keys={
            "lmnr.span.input": ANY_INPUT,
            "lmnr.span.output": ANY_INPUT,
            "lmnr.association.properties.user_id": ("user_ids",),
            "lmnr.association.properties.user*": ("user_ids",),
        },
        prefixes=("lmnr.",),
        plain=(
            "lmnr.span.type",
            "lmnr.span.path",
            "lmnr.span.ids_path",
            "lmnr.span.instrumentation_source",
            "lmnr.span.sdk_version",
            "lmnr.span.language_version",
            "lmnr.internal.*",
            "lmnr.span.instrumentation_scope.*",
        ),
    ),
    own_cache=(Mark("lmnr.span.type", ("cached",)),),
    usage_texts=(UsageText("lmnr.sdk.raw.response"),),
    fallback_texts=(UsageText("lmnr.sdk.raw.response"),),
    sources=(
        Source(
            Input.INCLUSIVE,
            why="adds the classes up",
            package="pypi:lmnr",
            read=("0.7.0", "0.8.2"),
        ),
    ),
    tool=ToolKeys(
        name=("gen_ai.tool.name",),
        arguments=("gen_ai.tool.call.arguments", "lmnr.span.input"),
        result=("gen_ai.tool.call.result", "lmnr.span.output"),
        call_id=("gen_ai.tool.call.id",),
        name_from_span=True,
    ),
    groups=GroupingKeys(session=("lmnr.association.properties.session_id",)),
    notes=("A span of type CACHED was answered from Laminar's own cache: nothing was charged.",),
)
