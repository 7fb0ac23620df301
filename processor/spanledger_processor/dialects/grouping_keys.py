"""The keys that name sessions, runs, agents and tasks by default, most trusted first: those of all dialects, in order.

The processor's own come first (made spans carry them), then what the convention says, then each library's.
"""

from __future__ import annotations

from spanledger_processor.dialects.order import DIALECTS

_FIRST = ("gen_ai.conversation.id", "session.id")


def _keys(what: str, first: tuple[str, ...]) -> tuple[str, ...]:
    keys = [*first]
    for dialect in reversed(DIALECTS):
        keys += [key for key in getattr(dialect.groups, what) if key not in keys]
    return tuple(keys)


SESSION_KEYS = _keys("session", ("spanledger.session.id", *_FIRST))
SESSION_PARENT_KEYS = _keys("session_parent", ("spanledger.session.parent_id",))
RUN_KEYS = _keys("run", ("spanledger.run.id", "tokenjam.run_id", "run_id"))
AGENT_KEYS = _keys("agent", ("spanledger.agent.id",))
AGENT_PARENT_KEYS = _keys("agent_parent", ("spanledger.agent.parent_id",))
TASK_ID_KEYS = _keys("task_id", ("spanledger.task.id",))
TASK_KIND_KEYS = _keys("task_kind", ("spanledger.task.kind",))
