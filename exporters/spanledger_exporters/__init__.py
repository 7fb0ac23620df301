"""Where enriched telemetry goes: one module per kind of destination behind one small interface."""
