"""Langtrace's SDK for Python: a few of the convention's keys around OpenAI, Anthropic, Cohere, Google and others."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input, Output
from spanledger_processor.dialects.schema import ANY_INPUT, ContentKeys, Detection, Kinds, Precedence, Source
from spanledger_processor.dialects.vendors.otel import OTEL

_PACKAGE, _READ = "pypi:langtrace-python-sdk", ("3.8.21", "3.8.21")

LANGTRACE = replace(
    OTEL,
    name="langtrace",
    precedence=Precedence.OWN_KEYS,
    rank=16,
    about="Langtrace SDK for Python",
    detection=Detection(keys=("langtrace.service.type",)),
    kinds=(
        *OTEL.kinds,
        Kinds("langtrace.service.type", {"llm": "llm", "framework": "workflow", "vectordb": "retrieval"}),
    ),
    kind_else=None,
    otherwise="other",
    tokens=replace(OTEL.tokens, cache_read=(*OTEL.tokens.cache_read, "gen_ai.usage.cached_tokens")),
    response_id=("gen_ai.response.id", "gen_ai.response_id"),
    sources=(
        Source(
            Input.EXCLUSIVE,
            providers=("anthropic",),
            why="copies Anthropic's own counts, without caches",
            package=_PACKAGE,
            read=_READ,
        ),
        Source(
            Input.INCLUSIVE,
            providers=("google", "gemini", "vertex"),
            output=Output.EXCLUSIVE,
            why="candidates only; its total is their sum with the prompt",
            package=_PACKAGE,
            read=_READ,
        ),
        Source(Input.INCLUSIVE, why="OpenAI's counts, and what Cohere bills", package=_PACKAGE, read=_READ),
    ),
    content=ContentKeys(
        keys={"llm.prompts": ANY_INPUT, "llm.responses": ANY_INPUT},
        prefixes=("langtrace.",),
        plain=("langtrace.service.*", "langtrace.sdk.*", "langtrace.version"),
    ),
    notes=(
        "Of caches it tells only what OpenAI's whole answers read from them: other calls are estimates. Its spans stand"
        " in traces of their own, and those of Anthropic have no id, and an input without the caches: they are known as"
        " reports of what the Anthropic SDK's own span tells by their times and counts (counting.md).",
    ),
)
