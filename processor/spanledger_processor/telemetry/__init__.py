"""What the process says about itself: metrics from one table, and its own log."""
