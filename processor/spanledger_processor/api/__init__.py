"""The HTTP API: health, metrics and the ledger's answers as JSON."""

from spanledger_processor.api.app import Api, Reports
from spanledger_processor.api.health import Health

__all__ = ["Api", "Health", "Reports"]
