"""Pipecat: the convention's keys, counts as each of its services copies them."""

from __future__ import annotations

from dataclasses import replace

from spanledger_processor.dialects.normalize import Input, Output
from spanledger_processor.dialects.schema import (
    ANSWER,
    ANY_INPUT,
    ContentKeys,
    Detection,
    GroupingKeys,
    Precedence,
    ScopedSpan,
    Source,
)
from spanledger_processor.dialects.vendors.otel import OTEL
from spanledger_processor.model import Call

_PACKAGE, _READ = "pypi:pipecat-ai", ("0.0.80", "1.14.0")
_GOOGLE = ("gcp", "google")


def _doubts(view: ScopedSpan, call: Call) -> None:
    """Doubt counts that releases before 1.13 make in another way: nothing on a span tells the release."""
    del view
    if call.usage is None:
        return
    provider = call.provider.lower()
    if provider == "anthropic":
        call.estimate = True
        call.note = call.note or "before Pipecat 1.13 input and output hold those of a stream's first event twice"
    elif provider.startswith(_GOOGLE) and call.usage.reasoning != 0:
        call.estimate = True
        call.note = call.note or "before Pipecat 1.13 the output of Gemini's models lacks reasoning"


PIPECAT = replace(
    OTEL,
    name="pipecat",
    precedence=Precedence.CONVENTION_KEYS,
    rank=18,
    about="Pipecat",
    detection=Detection(scopes=("pipecat",), requires=("gen_ai.operation.name",)),
    content=ContentKeys(
        keys={
            "input": ("prompts",),
            "output": ANSWER,
            "text": ANY_INPUT,
            "transcript": ANY_INPUT,
            "tools": ("system_instructions",),
            "tools.definitions": ("system_instructions",),
        },
    ),
    sources=(
        Source(
            Input.EXCLUSIVE,
            providers=("anthropic", "aws"),
            why="copies Anthropic's and Bedrock's own counts; caches in later releases",
            package=_PACKAGE,
            read=_READ,
        ),
        Source(
            Input.INCLUSIVE,
            providers=_GOOGLE,
            has=("gen_ai.usage.reasoning_tokens",),
            output=Output.EXCLUSIVE,
            why="up to 1.6 candidates only",
            package=_PACKAGE,
            read=("0.0.102", "1.5.0"),
        ),
        Source(
            Input.INCLUSIVE,
            why="OpenAI's counts and, from 1.13 on, Gemini's with tokens of tools and thoughts",
            package=_PACKAGE,
            read=_READ,
        ),
    ),
    groups=GroupingKeys(session=("conversation.id",)),
    rules=(*OTEL.rules, _doubts),
    notes=(
        "Spans `stt` and `tts` tell seconds and characters, of which no price is known: what speech costs is missing"
        " from every sum, without a mark.",
        "Of an answer of Anthropic's that was interrupted Pipecat estimates the output by its text.",
        "A response id is in no span: another library's span of the call is found by its counts and times.",
    ),
)
