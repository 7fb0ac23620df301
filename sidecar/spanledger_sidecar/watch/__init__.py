"""What changed on disk: events where the system tells of them, and a scan now and then for what it does not."""
