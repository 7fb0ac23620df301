"""The summary of a configuration that `check` and the start of `serve` print. It holds nothing secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spanledger_exporters.interface import Signal
from spanledger_exporters.settings import ALL_SIGNALS, ExporterSettings, NetworkSettings
from spanledger_processor.config.model import Config

_ORDER: tuple[Signal, ...] = ("traces", "logs", "metrics")

LISTENERS: Mapping[str, str] = {
    "receivers.otlp.protocols.grpc": "OTLP/gRPC",
    "receivers.otlp.protocols.http": "OTLP/HTTP",
    "receivers.enricher": "enricher",
    "api": "API",
    "api.health_check": "health",
}
"""What a listener speaks, by its configuration path."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One exporter: where it sends what, and whether senders wait for it."""

    name: str
    target: str
    signals: tuple[Signal, ...]
    required: bool
    queued: bool
    match: str
    """The resources it gets, as text; nothing: all."""

    def __str__(self) -> str:
        signals = "" if set(self.signals) == ALL_SIGNALS else f" ({', '.join(self.signals)} only)"
        signals += f" where {self.match}" if self.match else ""
        mode = ", out of a queue on disk" if self.queued else "" if self.required else ", not waited for"
        return f"{self.name} -> {self.target}{signals}{mode}"


@dataclass(frozen=True, slots=True)
class Summary:
    """The effect of a configuration. `listeners` maps protocols to host:port.

    `files_of` names the agents whose usage files are read. `delivers` is false where it only enriches.
    """

    listeners: dict[str, str]
    destinations: tuple[Destination, ...]
    state: Path
    files_of: tuple[str, ...]
    delivers: bool

    @property
    def unwaited(self) -> str:
        """Return what to say where no exporter is required, else nothing."""
        if not self.delivers or any(to.required for to in self.destinations):
            return ""
        return "no exporter is required: senders get success before anything has their data"

    @property
    def warnings(self) -> list[str]:
        """Return what its author may not have meant."""
        if not self.delivers:
            return []
        taken = {signal for to in self.destinations for signal in to.signals}
        lost = [signal for signal in _ORDER if signal not in taken]
        reported = [f"no exporter takes {signal}: they are accepted, used, counted, and go nowhere" for signal in lost]
        matched = {signal for to in self.destinations if not to.match for signal in to.signals}
        reported += [
            f"every exporter that takes {signal} has a match: what none of them matches is accepted and goes nowhere"
            for signal in _ORDER
            if signal in taken - matched
        ]
        return [*reported, self.unwaited] if self.unwaited else reported

    def lines(self) -> Iterator[str]:
        """Yield the summary as lines for people, without its warnings."""
        for name, endpoint in self.listeners.items():
            yield f"{name} on {endpoint}"
        for destination in self.destinations:
            yield f"exports to {destination}"
        if self.files_of:
            yield f"reads usage files of {', '.join(self.files_of)}"
        yield f"state in {self.state}"

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values for programs, without its warnings."""
        return {
            "listeners": self.listeners,
            "exporters": [
                {
                    "name": to.name,
                    "target": to.target,
                    "signals": list(to.signals),
                    "required": to.required,
                    "queued": to.queued,
                    "match": to.match or None,
                }
                for to in self.destinations
            ],
            "sidecar": list(self.files_of),
            "state": str(self.state),
        }


def summary(config: Config) -> Summary:
    """Return the summary of a configuration."""
    destinations = tuple(_destination(name, settings) for name, settings in config.exporters.items())
    return Summary(
        {LISTENERS[path]: listener.endpoint for path, listener in config.listeners.items()},
        destinations,
        config.state.path,
        tuple(name for name, source in config.sidecar.sources if source is not None),
        delivers=config.receivers.otlp is not None or bool(config.exporters),
    )


def _destination(name: str, settings: ExporterSettings) -> Destination:
    taken = settings.takes
    queued = isinstance(settings, NetworkSettings) and settings.sending_queue.enabled
    signals: tuple[Signal, ...] = tuple(signal for signal in _ORDER if signal in taken)
    return Destination(name, settings.address, signals, settings.required, queued, _conditions(settings))


def _conditions(settings: ExporterSettings) -> str:
    conditions = [
        f"{key} is {' or '.join('not there' if value is None else str(value) for value in values)}"
        for key, values in (settings.match or {}).items()
    ]
    return " and ".join(conditions)
