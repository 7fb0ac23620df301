"""One module a vocabulary: everything about it, and its own place in the order."""
