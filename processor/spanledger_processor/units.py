"""Units: money as integers of 1e-12 USD, and times as integers of nanoseconds or milliseconds."""

from __future__ import annotations

from typing import Final, TypeAlias

Pico: TypeAlias = int
"""Money: an integer count of 1e-12 USD."""

USD: Pico = 10**12

NS_PER_MS: Final = 10**6
NS_PER_S: Final = 10**9
NS_PER_DAY: Final = 86_400 * NS_PER_S
MS_PER_DAY: Final = 86_400_000
