"""Mux, named Xum since 2026-08: workspaces in `sessions/`, read by `source`; `reconcile` decides what counts."""
