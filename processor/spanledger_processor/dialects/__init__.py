"""Vocabularies: what a span of any GenAI library says, in one shape (`calls.Call`)."""

from spanledger_processor.dialects.recognise import MARKERS, recognise

__all__ = ["MARKERS", "recognise"]
