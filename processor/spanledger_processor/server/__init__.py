"""The running process: receivers, stage, ledger and exporters, built from a configuration."""
