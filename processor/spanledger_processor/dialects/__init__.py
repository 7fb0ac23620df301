"""Read the spans of any GenAI library into one form, `model.Call`, by tables of its vocabulary."""

from spanledger_processor.dialects.registry import MARKERS, detect

__all__ = ["MARKERS", "detect"]
