"""Mux, since August 2026 Xum: `sessions/<workspace>/` under its home (`facts/mux.md` is the reference)."""
