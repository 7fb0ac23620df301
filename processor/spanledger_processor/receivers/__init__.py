"""OTLP receivers: gRPC and HTTP, and for every request an answer that its sender understands."""

from spanledger_processor.receivers.enricher import EnricherReceiver
from spanledger_processor.receivers.otlp import Otlp

__all__ = ["EnricherReceiver", "Otlp"]
