"""Usage objects of every seller and API in genai-prices, built by its own extractors: ours come to the same classes."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from genai_prices.types import ArrayMatch, UsageExtractor, UsageExtractorMapping

from spanledger_processor.dialects.usage_objects import read_usage
from spanledger_processor.pricing.providers import PROVIDERS

NAMES = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_tokens": "cache_read",
    "cache_write_tokens": "cache_write",
    "cache_write_1h_tokens": "cache_write_1h",
    "output_reasoning_tokens": "reasoning",
    "input_audio_tokens": "input_audio",
    "input_image_tokens": "input_image",
    "output_audio_tokens": "output_audio",
    "output_image_tokens": "output_image",
    "cache_audio_read_tokens": "cache_read_audio",
    "cache_image_read_tokens": "cache_read_image",
    "web_searches": "web_searches",
}
"""Usage classes by the list's names of them."""
COUNTS = {
    "input_tokens": 10_000,
    "output_tokens": 5_000,
    "cache_read_tokens": 600,
    "cache_write_tokens": 110,
    "cache_write_5m_tokens": 40,
    "cache_write_1h_tokens": 70,
    "output_reasoning_tokens": 300,
    "input_audio_tokens": 90,
    "input_image_tokens": 80,
    "output_audio_tokens": 60,
    "output_image_tokens": 50,
    "cache_audio_read_tokens": 30,
    "cache_image_read_tokens": 20,
    "web_searches": 3,
}
NOT_READ = {
    ("cohere", "tokens"): "counts beside those that are billed",
    ("cursor", "usage-event"): "a row of its administration, which no span holds",
    ("mistral", "ocr"): "sold by the page",
    ("mistral", "ocr_annotated"): "likewise",
    ("openai", "live"): "sold by the second",
    ("perplexity", "default"): "citations, which have no class, are beside the output",
}
"""Objects that are no usage of a call in tokens, and what they are."""
OTHERWISE = ("DOCUMENT", "VIDEO")
"""Modalities without a class: documents cost what text costs (`usage_shapes.TEXT_PATHS`), video is priced unsurely."""


def is_told(mapping: UsageExtractorMapping) -> bool:
    """Return whether an object is to have what a mapping reads: Google's details of tools' tokens change no price."""
    path = [mapping.path] if isinstance(mapping.path, str) else mapping.path
    modalities = [step.match.equals for step in path if isinstance(step, ArrayMatch)]  # type: ignore[union-attr]
    named = path[0] != "toolUsePromptTokensDetails" and not set(modalities) & set(OTHERWISE)
    return named and mapping.dest in COUNTS


def usage_object(extractor: UsageExtractor) -> tuple[dict[str, Any], dict[str, int]]:
    """Return an object that tells every class which an extractor reads, and what it makes of that."""
    usage: dict[str, Any] = {}
    mappings = [mapping for mapping in extractor.mappings if is_told(mapping)]
    numbers = {str(mapping.path): COUNTS[mapping.dest] for mapping in mappings}  # the last is the class of its own
    for mapping in {str(mapping.path): mapping for mapping in mappings}.values():
        node: Any = usage
        path = [mapping.path] if isinstance(mapping.path, str) else mapping.path
        for step, below in itertools.pairwise(path):
            if isinstance(step, str):
                node = node.setdefault(step, [] if isinstance(below, ArrayMatch) else {})
            else:
                node.append({step.field: step.match.equals})  # type: ignore[union-attr]
                node = node[-1]
        node[path[-1]] = numbers[str(mapping.path)]
    read: Counter[str] = Counter()
    for mapping in mappings:
        read[mapping.dest] += numbers[str(mapping.path)]
    return usage, {NAMES[name]: number for name, number in read.items() if name in NAMES}


EXTRACTORS = [
    pytest.param(extractor, id=f"{seller.id} {extractor.api_flavor}")
    for seller in PROVIDERS
    for extractor in seller.extractors or ()
    if (seller.id, extractor.api_flavor) not in NOT_READ
]


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_usage_is_read_as_the_price_list_reads_it(extractor: UsageExtractor) -> None:
    usage, expected = usage_object(extractor)
    if "prompt_tokens" in usage:
        usage["total_tokens"] = expected["input"] + expected.get("output", 0)
    parsed = read_usage(usage)
    assert parsed is not None
    assert not parsed.normalized.problem
    assert {name: getattr(parsed.normalized.usage, name) for name in expected} == expected
