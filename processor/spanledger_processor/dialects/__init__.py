"""Vocabularies: what a span of any GenAI library says, in one shape (`model.Call`)."""

from spanledger_processor.dialects.registry import MARKERS, detect

__all__ = ["MARKERS", "detect"]
