"""The running stage: receivers, stage, ledger and exporters put together from a configuration."""
