"""An exporter that is made anew when its certificates or headers change, while requests under way end with the old."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from spanledger_exporters.interface import DestinationError, Exporter, Result, Signal, logger_of
from spanledger_exporters.settings import NetworkSettings

Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""Time of change, size and inode of files; None for one that is not there."""


def stamp(files: Sequence[str | None]) -> Stamp:
    """Return what changes with the content of files. A link that points elsewhere has changed, too."""
    return tuple(_stamp(file) for file in files if file is not None)


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        result = os.stat(file)  # noqa: PTH116 - a path object would cost more than the call
    except OSError:
        return None
    return result.st_mtime_ns, result.st_size, result.st_ino


@dataclass(slots=True, eq=False)
class _Use:
    """An exporter, and the requests that are under way on it."""

    exporter: Exporter
    under_way: int = 0
    retired: bool = False

    async def retire(self) -> None:
        """Close it once nothing is under way on it."""
        self.retired = True
        if not self.under_way:
            await self.exporter.close()


class Renewed:
    """Sends through the exporter that `make` returns for the settings, made again when the certificates change."""

    def __init__(self, settings: NetworkSettings, make: Callable[[NetworkSettings], Exporter]) -> None:
        self._settings = settings
        self._make = make
        self._use = _Use(make(settings))
        self._stamp = self._look()
        self.name = self._use.exporter.name
        self.required = self._use.exporter.required
        self.signals = self._use.exporter.signals
        self._log = logger_of(self.name)

    def address(self, signal: Signal) -> str:
        """Return where requests of this signal go."""
        return self._use.exporter.address(signal)

    async def start(self) -> None:
        """Make ready to send.

        Raises:
            DestinationError: it cannot be used as configured.
        """
        await self._use.exporter.start()

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        """Send by what is current when it begins."""
        if (now := self._look()) != self._stamp:
            self._stamp = now
            await self._follow_files()
        use = self._use
        use.under_way += 1
        try:
            return await use.exporter.send(signal, body, deadline)
        finally:
            use.under_way -= 1
            if use.retired and not use.under_way:
                await use.exporter.close()

    async def prepare(self, settings: NetworkSettings) -> Callable[[], Awaitable[None]]:
        """Return what puts the headers and the certificates of other settings into use.

        Raises:
            DestinationError: they cannot be used.
        """
        tried = self._make(settings)  # as the next start will find them
        try:
            await tried.start()
        finally:
            await tried.close()
        wanted = self._settings.model_copy(update={"headers": settings.headers, "tls": settings.tls})
        built = self._make(wanted)
        await built.start()

        async def commit() -> None:
            self._settings = wanted
            self._stamp = self._look()
            await self._put_into_use(built)

        return commit

    async def close(self) -> None:
        """Close what is current."""
        await self._use.exporter.close()

    def _look(self) -> Stamp:
        tls = self._settings.tls
        return stamp((tls.ca_file, tls.cert_file, tls.key_file)) if tls.needs_tls() else ()

    async def _follow_files(self) -> None:
        built = self._make(self._settings)
        try:
            await built.start()
        except DestinationError as error:
            self._log.error("changed certificates cannot be used, and the old ones stay in use: %s", error)
            return
        await self._put_into_use(built)
        self._log.info("certificates have changed and are in use")

    async def _put_into_use(self, exporter: Exporter) -> None:
        old, self._use = self._use, _Use(exporter)
        await old.retire()
