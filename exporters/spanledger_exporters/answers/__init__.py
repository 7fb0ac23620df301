"""What a destination's answer means: the OTLP specification's tables of statuses, and the messages in answers.

Source: opentelemetry-proto docs/specification.md, "Failures" of OTLP/gRPC and OTLP/HTTP. One rule is ours: trouble
inside a destination (UNKNOWN, INTERNAL, any 5xx) is retryable, where the specification lets the data be dropped.
"""
