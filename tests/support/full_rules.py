"""A stage without its fast path, to compare with one that has it."""

from __future__ import annotations

from collections.abc import Mapping

from spanledger_processor.accounting.facts import Fact
from spanledger_processor.accounting.usual import UsualFact
from spanledger_processor.enrichment.stage import Stage
from spanledger_processor.enrichment.usual import UsualSpans
from spanledger_processor.otlp.envelope import Items, ScopeGroup
from spanledger_processor.otlp.views import SpanView


class _InFull(UsualSpans):
    """Reads every span by the full rules."""

    def side_by_side(
        self, items: Items, first: int, end: int, group: ScopeGroup, now_ns: int, headers: Mapping[str, str]
    ) -> list[UsualFact]:
        return []

    def _read(self, span: bytes, view: SpanView, group: ScopeGroup, now_ns: int) -> tuple[Fact | None, bool]:
        return None, False


def read_in_full(stage: Stage) -> None:
    """Have a stage read every span by the full rules."""
    stage._usual = _InFull(stage._builder)
