"""Prices of calls: rate cards from genai-prices or the user's overrides, exact arithmetic, reasons for no price."""

from spanledger_processor.pricing.explain import ChargeLine, Explanation, Quotation, describe, explain
from spanledger_processor.pricing.model_names import canonical_model, one_model
from spanledger_processor.pricing.price_list import Override, sold_by
from spanledger_processor.pricing.pricer import Pricer, priced_name
from spanledger_processor.pricing.providers import provider_name

__all__ = [
    "ChargeLine",
    "Explanation",
    "Override",
    "Pricer",
    "Quotation",
    "canonical_model",
    "describe",
    "explain",
    "one_model",
    "priced_name",
    "provider_name",
    "sold_by",
]
