"""The command line: thin shells around the rooms."""

from spanledger_processor.cli.main import main

__all__ = ["main"]
