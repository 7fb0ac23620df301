"""What a sender is told, before it is put into the words of a protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from spanledger_processor.pipeline import Answer, Status

OtlpProtocol: TypeAlias = Literal["grpc", "http"]

Outcome: TypeAlias = Literal["ok", "retry", "rejected", "unauthenticated", "gone"]
"""retry: the sender keeps the data; rejected: it drops it; gone: the sender left before the answer."""

Cause: TypeAlias = Literal[
    "",
    "budget",
    "unauthenticated",
    "media_type",
    "encoding",
    "too_large",
    "malformed",
    "slow_body",
    "aborted",
    "unreadable",
    "pipeline",
    "deadline",
    "stopping",
    "internal",
]
"""Why it was not ok; a label of `spanledger_refused_requests_total`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """`message` is for people and holds nothing of what came in; `retry_after` (seconds) goes with "retry" only."""

    outcome: Outcome
    cause: Cause = ""
    message: str = ""
    retry_after: float = 1.0


OK = Reply("ok")
GONE = Reply("gone", "aborted")
UNAUTHENTICATED = Reply(
    "unauthenticated", "unauthenticated", "a valid bearer token is needed: authorization: Bearer <token>"
)
STOPPING = Reply("retry", "stopping", "shutting down")
NO_ROOM = Reply("retry", "budget", "too much is in flight (receivers.otlp.max_in_flight_mib); try again")


def retry(cause: Cause, message: str, retry_after: float = 1.0) -> Reply:
    """Not now: the sender keeps the data."""
    return Reply("retry", cause, message, retry_after)


def rejected(cause: Cause, message: str) -> Reply:
    """Never: the sender drops the data."""
    return Reply("rejected", cause, message)


def of_answer(answer: Answer) -> Reply:
    """The pipeline's answer as a reply."""
    if answer.status is Status.OK:
        return OK
    if answer.status is Status.RETRY:
        return retry("pipeline", answer.reason, answer.retry_after)
    return rejected("pipeline", answer.reason)


class RefusedError(Exception):
    """A door turns a request away before the pipeline sees it."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.message)
        self.reply = reply
