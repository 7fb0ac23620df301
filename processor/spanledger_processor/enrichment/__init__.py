"""The stage: from the bytes of a trace request to what is to be accounted for, and from decisions back to bytes."""

from spanledger_processor.enrichment.claims import EarlierClaim
from spanledger_processor.enrichment.reading import Reading
from spanledger_processor.enrichment.stage import Stage
from spanledger_processor.enrichment.writer import (
    additions,
    appending,
    applying,
    releasing,
    releasing_request,
    write,
    writing,
)

__all__ = [
    "EarlierClaim",
    "Reading",
    "Stage",
    "additions",
    "appending",
    "applying",
    "releasing",
    "releasing_request",
    "write",
    "writing",
]
