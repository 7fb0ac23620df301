"""Money as integers of 1e-12 USD."""

from __future__ import annotations

from typing import TypeAlias

Pico: TypeAlias = int
"""Money: an integer count of 1e-12 USD."""

USD: Pico = 10**12
