"""tilth: an event log a session."""
