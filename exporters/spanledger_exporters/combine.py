"""One outcome for the sender out of the outcomes of all destinations that count."""

from __future__ import annotations

from collections.abc import Mapping

from spanledger_exporters.interface import ACCEPTED, Outcome, Verdict


def combined(outcomes: Mapping[str, Outcome]) -> Outcome:
    """What the sender is told, by exporter's name: retryable if any is, else permanent if any is, else accepted.

    The reason names each exporter it stands for; the longest wait asked for is passed on.
    """
    for verdict in (Verdict.RETRYABLE, Verdict.PERMANENT):
        decisive = {name: outcome for name, outcome in outcomes.items() if outcome.verdict is verdict}
        if decisive:
            reason = "; ".join(f"{name}: {outcome.reason}" for name, outcome in decisive.items())
            asked = [outcome.retry_after for outcome in decisive.values() if outcome.retry_after is not None]
            return Outcome(verdict, reason, max(asked, default=None))
    return ACCEPTED
