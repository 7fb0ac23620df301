"""Find the session, run and agent of each span of a trace, as a function of the set of its spans.

A span belongs to the session that it names, else the one that its resource names, else its nearest ancestor, else the
only one that the trace names; where the trace names several, and no ancestor one, it is unattributed
(docs/contract.md#state-and-money). Runs are found likewise; where a trace names none, the run follows from the session
(`ledger.runs`). The agent is the one that the span names, else the one that its nearest ancestor names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

MAX_DEPTH = 256
"""The most ancestors that are visited one by one: links come from the network and may form a cycle."""


class Named(NamedTuple):
    """An id that a span names, or its resource for it, and the source of that ("attribute", "resource", "file")."""

    id: str = ""
    source: str = ""


NOTHING = Named()
_AGENT, _TOOL = "agent", "tool"


class NamedAgents(Protocol):
    """The agent that a span itself names, and the one above it."""

    @property
    def agent(self) -> str: ...

    @property
    def agent_parent(self) -> str: ...


class NamedLink(Protocol):
    """The part of a span that grouping needs."""

    @property
    def span_id(self) -> bytes: ...

    @property
    def parent_id(self) -> bytes: ...

    @property
    def session(self) -> Named: ...

    @property
    def run(self) -> Named: ...

    @property
    def detail(self) -> NamedAgents: ...

    @property
    def kind(self) -> str: ...


class Groups:
    """The sessions, runs and agents of the spans of one trace. Build it again after a span was added.

    `sessions` and `runs` are the ids that the trace names; None: they are collected from `links`. `names_agents` is
    false where no span names an agent.
    """

    def __init__(
        self,
        links: Mapping[bytes, NamedLink],
        sessions: set[str] | None = None,
        runs: set[str] | None = None,
        *,
        names_agents: bool = True,
    ) -> None:
        self._links = links
        sessions = {link.session.id for link in links.values()} if sessions is None else sessions
        runs = {link.run.id for link in links.values()} if runs is None else runs
        self._names_sessions, self._names_runs = any(sessions), any(runs)
        """False for most traces and runs: then no ancestors are visited."""
        self._only_session, self._only_run = _only(sessions), _only(runs)
        self._names_agents = names_agents
        # By parent id: the value of the nearest ancestor that has one.
        self._sessions: dict[bytes, str] = {}
        self._runs: dict[bytes, str] = {}
        self._agents: dict[bytes, str] = {}
        self._turns: dict[bytes, str] = {}
        self._tools: dict[bytes, str] = {}

    def session(self, link: NamedLink) -> Named:
        """Return the session of a span of this trace; empty where it is unattributed."""
        if link.session.id:
            return link.session
        if not self._names_sessions:
            return NOTHING
        above = self._above(link, self._sessions, _session_of)
        if above:
            return Named(above, "parent")
        return Named(self._only_session, "trace") if self._only_session else NOTHING

    def run(self, link: NamedLink) -> Named:
        """Return the run that the trace names for a span; empty where the session decides."""
        if link.run.id:
            return link.run
        if not self._names_runs:
            return NOTHING
        above = self._above(link, self._runs, _run_of)
        if above:
            return Named(above, "parent")
        return Named(self._only_run, "trace") if self._only_run else NOTHING

    def agent(self, link: NamedLink) -> str:
        """Return the agent of a span; empty where neither it nor an ancestor names one."""
        agent = link.detail.agent
        return agent if agent or not self._names_agents else self._above(link, self._agents, _agent_of)

    def agent_parent(self, link: NamedLink) -> str:
        """Return the agent above the one that an agent's span names; empty for other spans, and where none is known."""
        agent, parent = link.detail.agent, link.detail.agent_parent
        if link.kind != _AGENT or not agent or parent:
            return parent
        above = self._links.get(link.parent_id)
        for _ in range(MAX_DEPTH):
            if above is None or above.detail.agent not in ("", agent):
                break
            above = self._links.get(above.parent_id)
        return above.detail.agent if above is not None and above.detail.agent != agent else ""

    def tool_above(self, link: NamedLink) -> str:
        """Return the id in hex of the nearest tool above a span; empty where there is none."""
        return self._above(link, self._tools, _id_of_tool)

    def is_turn(self, link: NamedLink) -> bool:
        """Return whether a span begins a turn: that of an agent below no other agent's."""
        return link.kind == _AGENT and not self._above(link, self._turns, _kind_of_agent)

    def _above(self, link: NamedLink, known: dict[bytes, str], value_of: Callable[[NamedLink], str]) -> str:
        """Return the value of the nearest ancestor that has one; `known` keeps it by parent, each read once."""
        parent_id = link.parent_id
        if parent_id in known:
            return known[parent_id]
        visited: list[bytes] = []
        above = ""
        while parent_id not in known:
            known[parent_id] = ""  # where links form a ring
            visited.append(parent_id)
            parent = self._links.get(parent_id)
            if parent is None:
                break
            above = value_of(parent)
            if above:
                break
            parent_id = parent.parent_id
        else:
            above = known[parent_id]
        known.update(dict.fromkeys(visited, above))
        return above


def _session_of(link: NamedLink) -> str:
    return link.session.id


def _run_of(link: NamedLink) -> str:
    return link.run.id


def _agent_of(link: NamedLink) -> str:
    return link.detail.agent


def _kind_of_agent(link: NamedLink) -> str:
    return link.kind if link.kind == _AGENT else ""


def _id_of_tool(link: NamedLink) -> str:
    return link.span_id.hex() if link.kind == _TOOL else ""


def _only(ids: set[str]) -> str:
    ids.discard("")
    return next(iter(ids)) if len(ids) == 1 else ""
