"""`python -m spanledger_processor.cli`."""

from spanledger_processor.cli.main import main

main()
