"""The process's own telemetry: metrics from one table, and the log."""
