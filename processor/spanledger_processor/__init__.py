"""Spanledger's processor: OTLP in, the same OTLP out, every GenAI span priced, signed and grouped."""
