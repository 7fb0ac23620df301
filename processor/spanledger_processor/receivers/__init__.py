"""OTLP receivers: gRPC and HTTP, and for every request an answer that its sender understands."""

from __future__ import annotations

from collections.abc import Mapping

from spanledger_processor.config.receivers import MIB, OtlpReceiver
from spanledger_processor.receivers.driver import Pipeline, RequestDriver, RequestObserver
from spanledger_processor.receivers.enricher import EnricherReceiver
from spanledger_processor.receivers.grpc import grpc_receiver
from spanledger_processor.receivers.http import HttpReceiver
from spanledger_processor.receivers.memory_limiter import MemoryLimiter

__all__ = ["EnricherReceiver", "Otlp"]


class Otlp:
    """The OTLP receiver: the protocols that are configured, one memory limiter and one request driver behind them.

    Make it, `start` and `stop` it inside one event loop. With `share_ports` other processes may listen beside it.

    Raises:
        OSError: a certificate cannot be used.
    """

    def __init__(
        self, settings: OtlpReceiver, pipeline: Pipeline, observer: RequestObserver, *, share_ports: bool = False
    ) -> None:
        limiter = MemoryLimiter(settings.max_in_flight_mib * MIB, observer.in_flight)
        self._driver = RequestDriver(pipeline, limiter, observer)
        grpc, http = settings.protocols.grpc, settings.protocols.http
        self._http = None if http is None else HttpReceiver(http, self._driver, share_port=share_ports)
        self._grpc = None if grpc is None else grpc_receiver(grpc, self._driver, share_port=share_ports)

    async def start(self) -> None:
        """Listen on all protocols.

        Raises:
            OSError: an address is taken or not ours; nothing listens then.
        """
        try:
            if self._grpc:
                await self._grpc.start()
            if self._http:
                await self._http.start()
        except OSError:
            await self.stop(0)
            raise

    def reload(self, settings: OtlpReceiver) -> None:
        """Use the tokens and the certificates of other settings from now on; raises OSError."""
        if self._grpc and settings.protocols.grpc:
            self._grpc.reload(settings.protocols.grpc)
        if self._http and settings.protocols.http:
            self._http.reload(settings.protocols.http)

    @property
    def listening(self) -> Mapping[str, bool]:
        """Return by protocol that is configured whether it takes requests."""
        receivers = {"grpc": self._grpc, "http": self._http}
        return {name: receiver.listening for name, receiver in receivers.items() if receiver}

    @property
    def ports(self) -> Mapping[str, int]:
        """Return by protocol that is configured the port it listens on, once started."""
        receivers = {"grpc": self._grpc, "http": self._http}
        return {name: receiver.port for name, receiver in receivers.items() if receiver}

    async def stop(self, grace: float) -> None:
        """Refuse requests (senders are asked to come back), give those under way `grace` seconds to end, and close."""
        if self._grpc:
            await self._grpc.begin_drain()
        await self._driver.drain(grace)
        if self._grpc:
            await self._grpc.stop()
        if self._http:
            await self._http.stop()
