"""What we call ourselves to destinations."""

from __future__ import annotations

from importlib.metadata import version

USER_AGENT = f"Spanledger/{version('spanledger')}"
