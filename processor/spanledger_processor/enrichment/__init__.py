"""The stage: puts the rooms in order. Bytes of a trace request in, what to account for; decisions in, bytes out."""

from spanledger_processor.enrichment.stage import Reading, Stage, additions, releasing, write, writing

__all__ = ["Reading", "Stage", "additions", "releasing", "write", "writing"]
