"""Signatures of tool calls: a keyed hash of name and arguments, the same however the arguments were written."""

from spanledger_processor.signing.key import SHORTEST_KEY, SigningKeyError, SigningKeyUnavailableError, load_key
from spanledger_processor.signing.signer import Signer

__all__ = ["SHORTEST_KEY", "Signer", "SigningKeyError", "SigningKeyUnavailableError", "load_key"]
