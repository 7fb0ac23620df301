"""The ledger's answers, for whoever reads JSON: Grafana, scripts, people."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from spanledger_processor.api.answering import error, to_json
from spanledger_processor.ledger.rows import Row
from spanledger_processor.ledger.store import StateError

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class Reports(Protocol):
    """The questions. Called on a thread of their own, each over a short snapshot.

    Raises:
        StateError: the ledger cannot be read now.
    """

    def sessions(self) -> Sequence[Row]: ...

    def session(self, session_id: str) -> Row | None: ...

    def runs(self) -> Sequence[Row]: ...

    def run(self, run_id: str) -> Row | None: ...

    def summary(self) -> Row: ...


def routes(reports: Reports) -> list[Route]:
    """A path for each question. Ids are percent-encoded; the empty one stands for what belongs to none."""
    paths: dict[str, Callable[[str], Any]] = {
        "/api/v1/summary": lambda _: reports.summary(),
        "/api/v1/sessions": lambda _: {"sessions": reports.sessions()},
        "/api/v1/sessions/{id:path}": reports.session,
        "/api/v1/runs": lambda _: {"runs": reports.runs()},
        "/api/v1/runs/{id:path}": reports.run,
    }
    return [Route(path, _answering(ask), methods=["GET"]) for path, ask in paths.items()]


def _answering(ask: Callable[[str], Any]) -> Endpoint:
    async def answer(request: Request) -> Response:
        try:
            found = await asyncio.to_thread(ask, request.path_params.get("id", ""))
        except StateError as problem:
            return error(503, f"the ledger cannot be read now: {problem}")
        return error(404, "not in the ledger") if found is None else to_json(found)

    return answer
