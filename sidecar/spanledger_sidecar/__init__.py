"""Read agents' usage files as OTLP spans: watch them, count each request once, and send to any OTLP endpoint."""
