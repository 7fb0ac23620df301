"""Answers from the ledger: rows of plain values, for tables on a terminal, for --json and for the API alike."""
