"""The HTTP API: health, metrics and the ledger's answers as JSON."""

from spanledger_processor.api.app import Api
from spanledger_processor.api.closing import Closing
from spanledger_processor.api.health import Health
from spanledger_processor.api.reports import Reports

__all__ = ["Api", "Closing", "Health", "Reports"]
