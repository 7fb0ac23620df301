"""Whether the process lives, and whether it is ready for data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Phase: TypeAlias = Literal["starting", "serving", "stopping"]


@dataclass(slots=True)
class Health:
    """What probes are told. `serve` sets `phase`; the rest is asked at every probe.

    The state does not decide: while it is not available data still flows, as `not_accounted`.
    """

    listeners: Callable[[], Mapping[str, bool]]
    state_available: Callable[[], bool]
    phase: Phase = "starting"

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether data may be sent here, and what that comes from."""
        listeners = dict(self.listeners())
        up = self.phase == "serving" and all(listeners.values())
        body = {
            "ready": up,
            "phase": self.phase,
            "listeners": {name: "up" if listening else "down" for name, listening in listeners.items()},
            "state": "available" if self.state_available() else "unavailable",
        }
        return up, body
