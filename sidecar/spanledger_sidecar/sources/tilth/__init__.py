"""tilth: `sessions/<id>/events.jsonl`, one model or tool call a line (facts 7)."""
