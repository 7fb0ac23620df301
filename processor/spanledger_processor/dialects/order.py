"""The dialects in the order in which they are asked.

A span may carry the words of two vocabularies. The library's own come first, because a translator has only them to go
by; of two libraries the one whose words are rarer; the general conventions (OpenInference, then OpenTelemetry, whose
keys nearly all others use too) come last.
"""

from __future__ import annotations

from spanledger_processor.dialects.dialect import Dialect
from spanledger_processor.dialects.openinference import OPENINFERENCE
from spanledger_processor.dialects.otel import OTEL

DIALECTS: tuple[Dialect, ...] = (
    OPENINFERENCE,
    OTEL,
)
