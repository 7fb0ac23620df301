"""Random histories of Mux, with a sidecar that looks now and then, is killed, and starts again: every token once."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from scripted_mux import ScriptedMux, minus
from sidecars import Endpoint, KilledError, Tokens, by_model, sidecar
from spanledger_sidecar.cursor import CursorError
from spanledger_sidecar.loop import Sidecar

COUNTS = st.integers(1, 50)
TOKENS = st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
PICK = st.integers(0, 5)
NONE: Tokens = (0, 0, 0, 0, 0)
SEEDS = (1, 2)
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Thousands of states: nothing here depends on what a disk does at a power failure."""
Step = tuple[str, dict[str, Any]]
MODELS = st.sampled_from(["anthropic:claude-x", "openai:gpt-x"])


@dataclass
class Second:
    """A second sidecar, with a state and an endpoint of its own, that takes what is there at its start as known."""

    state: Path
    known: dict[tuple[str, str], Tokens]
    endpoint: Endpoint = field(default_factory=Endpoint)


class Histories(RuleBasedStateMachine):
    """What Mux does and what happens to the sidecar, in any order."""

    chat = True
    only = ""
    """The one model that is used, if it is one."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=IN_MEMORY))
        self.home = self.folder / "mux"
        self.mux = ScriptedMux(self.home, chat=self.chat)
        self.endpoint = Endpoint()
        self.state = self.folder / "state"
        self.since_ms: int | None = 0
        self.second: Second | None = None
        self.lost_once_deleted = self.compacted = False
        self.mux.create()

    def teardown(self) -> None:
        self.endpoint.down = self.endpoint.dies_after = False
        self.mux.now_ms += 60_000
        self.scan()
        self.agree()
        spans = len(self.endpoint.spans)
        self.scan()
        assert len(self.endpoint.spans) == spans
        shutil.rmtree(self.folder)

    def agree(self) -> None:
        """What was counted is what the files prove; classes of one group may have changed places (a chat has fewer).

        What is more says of itself that it is a guess: what is in doubt is counted, and nothing is lost.
        """
        agree(self.endpoint, self.mux.truth)
        if self.second is not None:
            known = self.second.known
            agree(
                self.second.endpoint, {key: minus(used, known.get(key, NONE)) for key, used in self.mux.truth.items()}
            )

    def now_ms(self) -> int:
        return self.mux.now_ms

    def sidecar(self) -> Sidecar:
        return sidecar(self.state, self.endpoint, self.home, since_ms=self.since_ms, now_ms=self.now_ms)

    def scan(self, *, hold_back: float = 0, drain: bool = True) -> None:
        """A sidecar starts, looks, sends, and ends; or is killed in between."""
        with (
            contextlib.suppress(KilledError),
            self.sidecar() as made,
        ):
            made.scan(lambda: True, hold_back=hold_back)
            if drain:
                made.outbox.drain()
        if self.second is not None:
            with sidecar(self.second.state, self.second.endpoint, self.home, since_ms=None, now_ms=self.now_ms) as made:
                made.scan(lambda: True, hold_back=hold_back)
                made.outbox.drain()
        self.lost_once_deleted &= hold_back > 0  # what is waited with is not counted yet

    def pick(self, number: int) -> str:
        names = list(self.mux.workspaces)
        return names[number % len(names)]

    def child(self) -> str | None:
        """A sub-agent without one of its own, whose parent is there."""
        parents = {workspace.parent for workspace in self.mux.workspaces.values()}
        for name, workspace in self.mux.workspaces.items():
            if workspace.parent in self.mux.workspaces and name not in parents:
                return name
        return None

    @precondition(lambda self: len(self.mux.workspaces) < 6)
    @rule(parent=st.none() | PICK)
    def create(self, parent: int | None) -> None:
        self.mux.create("" if parent is None else self.pick(parent))

    @rule(lag_ms=st.sampled_from([0, 2_500, 60_000, 86_400_000, -5_000]))
    def file_times_lag(self, lag_ms: int) -> None:
        self.mux.lag_ms = lag_ms

    @rule(number=PICK, model=MODELS, tokens=TOKENS, aborted=st.booleans(), compaction=st.booleans())
    def turn(self, number: int, model: str, tokens: Tokens, *, aborted: bool, compaction: bool) -> None:
        self.mux.turn(self.pick(number), self.only or model, tokens, aborted=aborted, compaction=compaction)
        self.compacted |= compaction

    @precondition(lambda self: self.chat)
    @rule(number=PICK, model=MODELS, tokens=TOKENS)
    def turn_that_the_usage_file_never_gets(self, number: int, model: str, tokens: Tokens) -> None:
        """Looked at before: what only the file has could else be this turn."""
        self.scan()
        self.mux.turn(self.pick(number), model, tokens, crash=True)
        self.lost_once_deleted = True

    @precondition(lambda self: self.chat)
    @rule(number=PICK, model=MODELS, tokens=TOKENS)
    def turn_rebuild_and_its_row_deleted(self, number: int, model: str, tokens: Tokens) -> None:
        """Between two looks: the file made anew from the chat is all that still has it.

        Were it to grow past its old sums before the next look, nothing would show that it was made anew.
        """
        self.scan()
        name = self.pick(number)
        self.mux.turn(name, model, tokens)
        self.mux.rebuild(name)
        self.mux.delete_last(name)
        self.scan()

    @precondition(lambda self: not self.lost_once_deleted)
    @rule(number=PICK)
    def truncate_unseen(self, number: int) -> None:
        """Rows that nobody looked at: their usage is in the sums."""
        self.mux.truncate(self.pick(number))

    @rule(number=PICK, model=MODELS, tokens=TOKENS, advisor=TOKENS, seen=st.booleans())
    def turn_with_advisor(self, number: int, model: str, tokens: Tokens, advisor: Tokens, *, seen: bool) -> None:
        """`seen`: somebody looks while only the usage file has what the advisor used."""
        asked = None if self.only else advisor
        between = self.scan if seen else lambda: None
        self.mux.turn(self.pick(number), self.only or model, tokens, asked, between=between)

    @rule(number=PICK, model=MODELS, tokens=TOKENS, source=st.sampled_from(["workspace_status", "errored_stream"]))
    def call(self, number: int, model: str, tokens: Tokens, source: str) -> None:
        if self.only:
            self.mux.unseen(self.pick(number), self.only, tokens)
        else:
            self.mux.call(self.pick(number), model, tokens, source)

    @rule(number=PICK)
    def refresh_cache(self, number: int) -> None:
        self.mux.refresh_cache(self.pick(number))

    @rule(number=PICK, crash=st.booleans())
    def rotate(self, number: int, *, crash: bool) -> None:
        self.mux.rotate(self.pick(number), crash=crash)

    @rule(number=PICK)
    def truncate(self, number: int) -> None:
        """Rows that were never looked at would be gone."""
        self.scan()
        self.mux.truncate(self.pick(number))

    @precondition(lambda self: len(self.mux.workspaces) < 6)
    @rule(number=PICK)
    def fork(self, number: int) -> None:
        self.mux.fork(self.pick(number))

    @precondition(lambda self: self.chat and len(self.mux.workspaces) < 6)
    @rule(number=PICK, model=MODELS, turns=st.lists(TOKENS, max_size=2), deleted=st.integers(0, 3))
    def fork_rebuild_and_rows_deleted_unseen(self, number: int, model: str, turns: list[Tokens], deleted: int) -> None:
        """Before anybody looked at the fork: its file has what was copied, and its own turns.

        Where all of its rows are gone, nothing tells what of the file was copied, unless the last of it was.
        """
        name = self.mux.fork(self.pick(number))
        for tokens in turns:
            self.mux.turn(name, model, tokens)
        self.mux.rebuild(name)
        rows = len(self.mux.workspaces[name].chat)
        for _ in range(min(deleted, rows - 1) if turns else deleted):
            self.mux.delete_last(name)

    @precondition(lambda self: self.child() is not None)
    @rule(window=st.booleans(), seen=st.booleans())
    def remove_child(self, *, window: bool, seen: bool) -> None:
        """Seen or not; `window`: somebody looks while parent and child both have the usage.

        The parent's file does not tell of which of several models a compaction wrote to the cache.
        """
        name = self.child()
        assert name is not None
        if seen or len(self.mux.compacted(name)) > 1:
            self.scan()
        self.mux.roll_up(name)
        if window:
            self.scan()
        self.mux.remove(name)

    @precondition(lambda self: len(self.mux.workspaces) > 1)
    @rule(number=PICK)
    def remove(self, number: int) -> None:
        name = self.pick(number)
        if not any(workspace.parent == name for workspace in self.mux.workspaces.values()):
            self.scan()
            self.mux.workspaces[name].parent = ""
            self.mux.remove(name)

    @rule(number=PICK)
    def rebuild(self, number: int) -> None:
        """What the chat does not have is gone from the file; it had been seen.

        So is what compactions wrote to the cache: seen before the file grows again, which would hide it.
        """
        self.scan()
        self.mux.rebuild(self.pick(number))
        if self.compacted:
            self.scan()

    @precondition(lambda self: not self.home.is_symlink())
    @rule()
    def move_home(self) -> None:
        self.mux.move_home(self.folder / "xum")

    @rule()
    def look_once(self) -> None:
        self.scan()

    @rule()
    def look_and_wait_for_finer_rows(self) -> None:
        self.scan(hold_back=2)

    @rule()
    def killed_before_sending(self) -> None:
        self.scan(drain=False)

    @rule()
    def killed_before_the_answer(self) -> None:
        self.endpoint.dies_after = True
        self.scan()
        self.endpoint.dies_after = False

    @rule()
    def the_cursor_is_lost(self) -> None:
        """After everything was sent; the next run is a first one, which takes what is there as known."""
        self.endpoint.down = False
        self.scan()
        shutil.rmtree(self.state)
        self.since_ms = None
        self.mux.now_ms += 1000
        self.scan()

    @precondition(lambda self: self.second is None)
    @rule()
    def a_second_sidecar(self) -> None:
        """On the same state it is refused; with one of its own it sees what is used from now on."""
        with self.sidecar(), pytest.raises(CursorError):
            self.sidecar()
        self.mux.now_ms += 1000
        self.second = Second(self.folder / "second", dict(self.mux.truth))
        self.scan()

    @rule(down=st.booleans())
    def endpoint_goes_down_or_up(self, *, down: bool) -> None:
        self.endpoint.down = down

    @invariant()
    def never_more_than_was_used(self) -> None:
        agree(self.endpoint, self.mux.truth, complete=False)


class UsageFileOnly(Histories):
    """The same where there is nothing but the usage file, and one model: which child used which cannot be seen."""

    chat = False
    only = "anthropic:claude-x"

    def __init__(self) -> None:
        super().__init__()
        self.forks: set[str] = set()

    @rule(number=PICK)
    def rebuild(self, number: int) -> None:
        """Looked at before and after: a file that grew past its old totals again does not show that it was lost; nor
        does a fork's, which gets the copied rows by it. Where no request was ever the last one, and the cursor is lost,
        nothing tells a sum that is reached again from the one before."""
        name = self.pick(number)
        if name not in self.forks and self.mux.workspaces[name].last is not None:
            super().rebuild(number)
            self.scan()

    @precondition(lambda self: len(self.mux.workspaces) < 6)
    @rule(number=PICK)
    def fork(self, number: int) -> None:
        self.forks.add(self.mux.fork(self.pick(number)))


def agree(endpoint: Endpoint, truth: dict[tuple[str, str], Tokens], *, complete: bool = True) -> None:
    """Check each class of what was counted: all of what was used, and what is more says that it is a guess."""
    counted = by_model(endpoint.usage())
    marked = [span for span in endpoint.usage() if span.attributes.get("spanledger.cost.estimate") is True]
    guessed = by_model(marked)
    for key in {*counted, *truth}:
        found, used, guess = counted.get(key, NONE), truth.get(key, NONE), guessed.get(key, NONE)
        assert all(a <= b + c for a, b, c in zip(found, used, guess, strict=True)), (key, found, used, guess)
        assert not complete or all(a >= b for a, b in zip(found, used, strict=True)), (key, found, used, guess)


pytestmark = pytest.mark.timeout(600)

MODEL = "anthropic:claude-x"
CALL: Step = ("call", {"model": MODEL, "number": 0, "source": "workspace_status", "tokens": (1, 1, 1, 1, 1)})


FORK: Step = ("fork", {"number": 0})
LOOK: Step = ("look_once", {})


def _turn(number: int, tokens: Tokens, *, compaction: bool = False) -> Step:
    more = {"aborted": False, "compaction": compaction}
    return "turn", {"model": MODEL, "number": number, "tokens": tokens, **more}


def _advised(tokens: Tokens) -> Step:
    arguments = {"model": MODEL, "number": 0, "tokens": (26, 46, 50, 11, 14)}
    return "turn_with_advisor", {**arguments, "advisor": tokens, "seen": True}


def _lost(*tokens: int) -> Step:
    return "turn_that_the_usage_file_never_gets", {"model": MODEL, "number": 0, "tokens": tokens}


def _deleted(*tokens: int) -> Step:
    return "turn_rebuild_and_its_row_deleted", {"model": MODEL, "number": 0, "tokens": tokens}


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            [CALL, _lost(1, 1, 1, 1, 2), _lost(1, 1, 1, 1, 2), ("rebuild", {"number": 0})],
            id="made anew from lost turns alone, and larger than before",
        ),
        pytest.param([CALL, _lost(1, 1, 2, 1, 1), _deleted(1, 1, 1, 1, 1)], id="grew by just what a lost turn has"),
        pytest.param([CALL, _lost(1, 1, 1, 1, 2), _deleted(1, 1, 1, 1, 1)], id="the same in the output"),
        pytest.param(
            [
                _deleted(1, 1, 1, 1, 1),
                _lost(1, 1, 1, 1, 1),
                ("fork", {"number": 0}),
                ("look_and_wait_for_finer_rows", {}),
            ],
            id="a fork has the row that its source waits with",
        ),
        pytest.param(
            [
                ("turn_with_advisor", {**_lost(1, 1, 1, 1, 1)[1], "advisor": (1, 1, 1, 1, 1), "seen": False}),
                ("fork", {"number": 0}),
                ("truncate_unseen", {"number": 0}),
                ("look_once", {}),
            ],
            id="a row that only a fork still has, whose usage is in the sums it was copied from",
        ),
        pytest.param(
            [
                ("turn_with_advisor", {**_lost(18, 16, 40, 48, 25)[1], "advisor": (10, 44, 39, 18, 4), "seen": True}),
                ("rebuild", {"number": 0}),
                ("truncate_unseen", {"number": 0}),
                ("look_and_wait_for_finer_rows", {}),
                ("look_once", {}),
            ],
            id="a file made anew whose rows are gone, looked at while rows are waited for",
        ),
        pytest.param(
            [_turn(0, (10, 1, 2, 5, 1)), FORK, ("rebuild", {"number": 1}), ("truncate_unseen", {"number": 1})],
            id="a fork's file made anew, and the rows that it copied deleted",
        ),
        pytest.param(
            [_turn(0, (10, 1, 2, 5, 1)), FORK, _turn(1, (13, 2, 2, 7, 3)), ("truncate_unseen", {"number": 1})],
            id="a fork's own row deleted before it was ever seen",
        ),
        pytest.param(
            [_turn(0, (10, 1, 2, 5, 1)), FORK, _turn(1, (10, 1, 2, 5, 1)), ("truncate_unseen", {"number": 1})],
            id="the same, with just as much as was copied",
        ),
        pytest.param(
            [_turn(0, (9, 1, 2, 5, 1)), FORK, LOOK, _turn(1, (9, 1, 2, 5, 1)), ("truncate_unseen", {"number": 1})],
            id="the same, of a fork that was seen",
        ),
        pytest.param(
            [_turn(0, (7, 0, 0, 7, 0)), _lost(10, 0, 0, 5, 0), _deleted(10, 0, 0, 5, 0)],
            id="a turn that only a file made anew has, with the usage of one that was lost",
        ),
        pytest.param(
            [_lost(1, 1, 1, 1, 1), LOOK, _turn(0, (1, 1, 1, 1, 1), compaction=True)],
            id="the first file has a compaction, and not the lost turn of as many tokens",
        ),
        pytest.param(
            [
                _turn(0, (26, 33, 45, 42, 36), compaction=True),
                _turn(0, (23, 40, 39, 5, 35)),
                ("truncate_unseen", {"number": 0}),
            ],
            id="the classes of a compaction, beside a turn whose row is gone",
        ),
        pytest.param(
            [_turn(0, (1, 34, 19, 32, 27), compaction=True), _deleted(32, 9, 47, 11, 44)],
            id="the classes of a turn without a row, after a compaction lost its own",
        ),
        pytest.param(
            [_lost(1, 1, 1, 1, 1), LOOK, _turn(0, (1, 1, 1, 1, 1)), ("truncate_unseen", {"number": 0})],
            id="a turn without a row that used as much as a lost one",
        ),
        pytest.param(
            [_advised((43, 24, 26, 44, 24)), _advised((9, 10, 10, 16, 49)), _advised((43, 24, 26, 44, 24))],
            id="the row of a tool's call that was counted before it was in the chat",
        ),
    ],
)
def test_histories_that_were_once_counted_wrongly(steps: list[Step]) -> None:
    history = Histories()
    for name, arguments in steps:
        getattr(history, name)(**arguments)
        history.never_more_than_was_used()
    history.teardown()


def test_a_call_outside_any_turn_is_not_the_last_request_of_as_many_tokens() -> None:
    """A file made anew names its last row, with what a compaction wrote to the cache among the uncached input."""
    history, tokens = Histories(), (12, 1, 31, 13, 8)
    (name,) = history.mux.workspaces
    history.turn(0, MODEL, tokens, aborted=False, compaction=True)
    history.scan()
    history.mux.rebuild(name)
    history.mux.call(name, MODEL, tokens)
    history.teardown()


@pytest.mark.parametrize("number", SEEDS)
def test_histories(number: int) -> None:
    _run(Histories, number, examples=70, steps=25)


@pytest.mark.parametrize("number", SEEDS)
def test_histories_of_usage_files_only(number: int) -> None:
    _run(UsageFileOnly, number, examples=35, steps=30)


def _run(machine: type[Histories], number: int, *, examples: int, steps: int) -> None:
    """The same histories on every version of Python, whatever else runs.

    `derandomize` draws by the source as that version compiles it, and Hypothesis draws constants of the modules that
    happen to be loaded.
    """
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None, report_multiple_bugs=False
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(providers, "_get_local_constants", Constants)
        run_state_machine_as_test(seed(number)(machine), settings=chosen)
