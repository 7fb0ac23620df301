"""Default key lists of grouping, until `spanledger_processor.dialects.grouping_keys` is there to own them."""

from __future__ import annotations

SESSION_KEYS: tuple[str, ...] = (
    "gen_ai.conversation.id",
    "session.id",
    "langfuse.session.id",
    "traceloop.association.properties.session_id",
)
SESSION_PARENT_KEYS: tuple[str, ...] = ("spanledger.session.parent_id",)
RUN_KEYS: tuple[str, ...] = ("spanledger.run.id",)
AGENT_KEYS: tuple[str, ...] = ("gen_ai.agent.id",)
AGENT_PARENT_KEYS: tuple[str, ...] = ()
TASK_ID_KEYS: tuple[str, ...] = ("spanledger.task.id",)
TASK_KIND_KEYS: tuple[str, ...] = ("spanledger.task.kind",)
