"""What the ledger knows from one request to the next: records, the store that keeps them, and its one writer."""
