"""The HTTP API: health, metrics and the ledger's answers as JSON."""

from spanledger_processor.api.app import Api, Closing, Reports
from spanledger_processor.api.health import Health

__all__ = ["Api", "Closing", "Health", "Reports"]
