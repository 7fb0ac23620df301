"""The OTLP receiver: the doors that are configured, one budget and one desk behind them."""

from __future__ import annotations

from collections.abc import Mapping

from spanledger_processor.config.receivers import MIB, OtlpReceiver
from spanledger_processor.pipeline import Pipeline
from spanledger_processor.receivers.budget import Budget
from spanledger_processor.receivers.desk import Desk
from spanledger_processor.receivers.grpc_door import GrpcDoor
from spanledger_processor.receivers.http_door import HttpDoor
from spanledger_processor.receivers.observer import Observer


class Otlp:
    """Make it, `start` and `stop` it inside one event loop.

    Raises:
        OSError: a certificate cannot be used.
    """

    def __init__(self, settings: OtlpReceiver, pipeline: Pipeline, observer: Observer) -> None:
        self._desk = Desk(pipeline, Budget(settings.max_in_flight_mib * MIB, observer.in_flight), observer)
        grpc, http = settings.protocols.grpc, settings.protocols.http
        self._http = None if http is None else HttpDoor(http, self._desk)
        self._grpc = None if grpc is None else GrpcDoor(grpc, self._desk)

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

    @property
    def listening(self) -> Mapping[str, bool]:
        """By protocol that is configured: whether it takes requests."""
        doors = {"grpc": self._grpc, "http": self._http}
        return {name: door.listening for name, door in doors.items() if door}

    @property
    def ports(self) -> Mapping[str, int]:
        """By protocol that is configured: the port it listens on, once started."""
        doors = {"grpc": self._grpc, "http": self._http}
        return {name: door.port for name, door in doors.items() if door}

    async def stop(self, grace: float) -> None:
        """Turn requests away (they are told to come back), give those under way `grace` seconds to end, and close."""
        if self._grpc:
            await self._grpc.turn_away()
        await self._desk.drain(grace)
        if self._grpc:
            await self._grpc.stop()
        if self._http:
            await self._http.stop()
