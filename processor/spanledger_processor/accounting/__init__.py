"""What a call changes in the ledger, and which span is counted for it: facts and known state in, changes out."""
