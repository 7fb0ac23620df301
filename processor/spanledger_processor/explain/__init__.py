"""Why each span of a file became what it became: the answer of `spanledger explain`."""
