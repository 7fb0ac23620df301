"""`python -m spanledger_processor.cli`."""

from spanledger_processor.cli import main

main()
