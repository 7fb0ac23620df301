"""The ledger: records, the store that keeps them, its one writer, and the queries over them."""
