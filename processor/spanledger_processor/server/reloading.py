"""Apply a changed configuration on SIGHUP, all of it or none: prices, keys, tokens, headers, certificates, budgets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pydantic import BaseModel

from spanledger_exporters import Delivery, DestinationError
from spanledger_processor.config import Config
from spanledger_processor.config.reading import Location, dotted
from spanledger_processor.pricing import Pricer
from spanledger_processor.receivers import EnricherReceiver, Otlp
from spanledger_processor.receivers.auth import ServerCertificates
from spanledger_processor.server.http_api import Api
from spanledger_processor.server.wiring import make_exporter_settings, make_pricer, read_signing_key
from spanledger_processor.signing.key import SigningKeyError
from spanledger_processor.signing.signer import Signer

log = logging.getLogger(__name__)

_RELOADED = (
    "processor.pricing.overrides",
    "processor.tools.prices",
    "processor.tools.signing_key",
    "processor.budgets",
    "processor.warnings.*",
    "processor.sessions.summary.*",
    "*.auth.bearer_token",
    "exporters.*.headers",
    "exporters.*.headers.*",
    "exporters.*.tls.*",
    "*.tls.cert_file",
    "*.tls.key_file",
    "*.tls.client_ca_file",
)
"""Paths of the configuration that a reload applies; everything else needs a restart."""


class ReloadError(Exception):
    """The new configuration cannot be used; the message has the reason."""


@dataclass(slots=True)
class Reloadable:
    """The parts of one process that a reload changes; `config` is their current configuration."""

    config: Config
    pricer: Pricer
    signer: Signer | None = None
    receivers: Sequence[Otlp | EnricherReceiver] = ()
    api: Api | None = None
    delivery: Delivery | None = None
    adopt: Sequence[Callable[[Config], None]] = ()
    """Functions by which further parts apply a configuration; they cannot fail."""

    async def reload(self, new: Config) -> None:
        """Apply a configuration, and warn of settings that need a restart.

        Raises:
            ReloadError: a part of it cannot be used; nothing has changed then.
        """
        try:
            pricer = make_pricer(new)
            key = read_signing_key(new) if self.signer is not None else None
            _try_certificates(new)
            commits = [] if self.delivery is None else await self.delivery.prepare(make_exporter_settings(new))
        except (SigningKeyError, DestinationError, OSError, ValueError) as error:
            raise ReloadError(str(error)) from error
        self.pricer.adopt(pricer)
        if self.signer is not None and key is not None:
            self.signer.rekey(key)
        self._reload_listeners(new)
        for apply in self.adopt:
            apply(new)
        for commit in commits:
            await commit()
        if paths := needing_restart(self.config, new):
            log.warning("not taken over until the next start: %s", ", ".join(paths))
        self.config = new
        log.info("reloaded: prices, keys, tokens, headers, certificates, budgets and warnings are as configured now")

    def _reload_listeners(self, new: Config) -> None:
        for receiver in self.receivers:
            if isinstance(receiver, Otlp) and new.receivers.otlp is not None:
                receiver.reload(new.receivers.otlp)
            elif isinstance(receiver, EnricherReceiver) and new.receivers.enricher is not None:
                receiver.reload(new.receivers.enricher)
        if self.api is not None:
            self.api.reload(new.api)


def _try_certificates(config: Config) -> None:
    for path, listener in config.listeners.items():
        if (tls := getattr(listener, "tls", None)) is not None:
            ServerCertificates(tls, f"{path}.tls")


def needing_restart(old: Config, new: Config) -> list[str]:
    """Return the paths of settings that differ and that a reload does not apply."""
    return [
        dotted(location) for location, appears in _differences(old, new, ()) if appears or not _is_reloaded(location)
    ]


def _is_reloaded(location: Location) -> bool:
    path = ".".join(str(step) for step in location)
    return any(fnmatchcase(path, pattern) for pattern in _RELOADED)


def _differences(old: object, new: object, location: Location) -> Iterator[tuple[Location, bool]]:
    """Yield the location of each value that differs, and whether TLS is added or removed: no listener can do that."""
    if old == new:
        return
    if isinstance(old, BaseModel) and isinstance(new, BaseModel) and type(old) is type(new):
        for name in type(old).model_fields:
            yield from _differences(getattr(old, name), getattr(new, name), (*location, name))
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), (*location, key))
    else:
        yield location, location[-1:] in (("tls",), ("client_ca_file",)) and None in (old, new)
