"""OTLP as bytes: what is read of it, what is appended to it, its JSON form. Knows nothing of GenAI, money or state."""
