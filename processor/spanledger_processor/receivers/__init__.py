"""The doors: OTLP comes in by gRPC and HTTP, and every request gets an answer that its sender understands."""

from spanledger_processor.receivers.otlp import Otlp

__all__ = ["Otlp"]
