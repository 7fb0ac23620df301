"""Which session and which run a span belongs to, from links alone: what is named, by whom, and who called whom."""
