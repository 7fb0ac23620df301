"""The running stage: the doors, the rooms and the store put together from a configuration."""
