"""Records of decisions and totals come back as they were written, by this version and by others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger_processor.ledger import records
from spanledger_processor.ledger.facts import Facts
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.records import pack_decision, unpack_decision
from spanledger_processor.ledger.store import StateError
from spanledger_processor.ledger.sums import Merging, Sums
from spanledger_processor.model import USAGE_CLASSES, Cost, Decision, Signature, Usage

_amounts = st.none() | st.integers() | st.integers(-(2**70), 2**70)
_texts = st.text() | st.text(st.characters(categories=["Cs"]), max_size=3)
_costs = st.builds(
    Cost, amount=_amounts, source=_texts, computed=_amounts, input=st.integers(), price=_texts, estimate=st.booleans()
)
_decisions = st.builds(
    Decision,
    kind=st.sampled_from(["llm", "tool"]),
    dialect=_texts,
    session_id=_texts,
    session_closed=st.booleans(),
    usage=st.none() | st.builds(Usage, *[_amounts] * 6),
    cost=st.none() | _costs,
    subtree=_amounts,
    signature=st.none() | st.builds(Signature, _texts, _texts),
    tool_repeats=st.integers(0),
    session_cost=_amounts,
    note=_texts,
    aliases=st.lists(_texts).map(tuple),
)


@given(_decisions, st.binary())
def test_a_decision_comes_back(decision: Decision, digest: bytes) -> None:
    assert unpack_decision(pack_decision(decision, digest)) == (decision, digest)


def test_zero_and_unknown_stay_apart() -> None:
    decision = Decision("llm", "otel", usage=Usage(input=0), cost=Cost(amount=0, unpriced=None))
    read, _ = unpack_decision(pack_decision(decision, b""))
    assert read.usage == Usage(0, None, None, None, None, None)
    assert read.cost is not None
    assert (read.cost.amount, read.cost.computed) == (0, None)


def test_an_older_record_has_fewer_values() -> None:
    version, digest, row = unpack(pack_decision(Decision("llm", "otel", session_id="s", note="n"), b"d"))
    older = pack([version, digest, row[:4]])
    assert unpack_decision(older) == (Decision("llm", "otel", session_id="s"), b"d")


def test_what_a_newer_record_has_more_is_left_aside() -> None:
    decision = Decision("llm", "otel", usage=Usage(1, 2), cost=Cost(amount=3), signature=Signature("h1:a:b", "full"))
    version, digest, row = unpack(pack_decision(decision, b"d"))
    for nested in (value for value in row if isinstance(value, list) and value):
        nested.append("new")
    newer = pack([version, digest, [*row, "new", {"more": 1}], "more"])
    assert unpack_decision(newer) == (decision, b"d")


def test_another_layout_is_refused() -> None:
    with pytest.raises(StateError, match="record version 2"):
        unpack_decision(pack([2, b"", []]))


@pytest.mark.parametrize("cls", [Decision, Usage, Cost, Signature])
def test_every_field_has_its_place_for_ever(cls: type) -> None:
    """A new field goes to the end of its row in `records._ORDER`: old records stay readable in no other way."""
    assert set(records._ORDER[cls]) == {*records.field_names(cls)}


_counts = st.integers(-(2**80), 2**80)
_sums = st.builds(
    Sums,
    cost=_counts,
    calls=_counts,
    usage=st.tuples(*[_counts] * len(USAGE_CLASSES)),
    first_ns=st.integers(0, 2**64 - 1),
    last_ns=st.integers(0, 2**64 - 1),
    closed_ns=st.integers(0, 2**64 - 1),
    arrival_ms=st.integers(0, 2**40),
    labels=st.dictionaries(_texts, _texts, max_size=3),
    reasons=st.dictionaries(_texts, st.integers(1), max_size=3),
    models=st.dictionaries(_texts, _counts, max_size=3),
    named=st.dictionaries(_texts, st.integers(1, 2**40), max_size=3),
    parents=st.dictionaries(_texts, st.integers(1, 2**40), max_size=3),
    granularities=st.dictionaries(_texts, st.integers(1), max_size=3),
    elsewhere=st.none() | st.builds(Sums, cost=_counts, calls=_counts),
    speeds=st.dictionaries(st.integers(0, 383), st.integers(1, 2**40), max_size=3),
    facts=st.none()
    | st.builds(
        Facts,
        turns=_counts,
        values=st.dictionaries(_texts, st.lists(_texts, max_size=3), max_size=3),
        stretches=st.lists(st.tuples(st.integers(0, 2**45), st.integers(0, 2**45)), max_size=3),
        sizes=st.dictionaries(st.integers(0, 2**35), st.integers(0, 2**63 - 1), max_size=3),
    ).filter(lambda facts: facts.says_something),  # the others are not stored
)


def _read(record: bytes) -> Sums:
    """Return stored totals, less their stored form."""
    sums = Sums.unpack(record)
    for one in filter(None, (sums, sums.elsewhere)):
        one.record = b""
    return sums


@given(_sums)
def test_totals_come_back(sums: Sums) -> None:
    assert _read(sums.pack()) == sums


@given(_sums)
def test_totals_of_a_newer_version_are_read_as_far_as_they_are_known(sums: Sums) -> None:
    row = unpack(sums.pack())
    row[2].append(7)
    newer = pack([*row, "new"])
    assert _read(newer) == sums


def test_a_session_that_was_ended_by_an_earlier_version_still_is() -> None:
    """Its record says that it was, and not when."""
    row = unpack(Sums(spans=1, first_ns=3, last_ns=5).pack())
    row[3] = [3, 5, True]
    assert Sums.unpack(pack(row)).closed
    row[3] = [3, 5, False]
    assert not Sums.unpack(pack(row)).closed


def test_runs_and_the_parent_of_an_earlier_session_have_all_spans_that_may_be_theirs() -> None:
    """Of schema 2 to 6, which kept them as a set and a label; they stay as long as one of these spans does."""
    row = unpack(Sums(spans=5, elsewhere=Sums(spans=3)).pack())
    row[4], row[7] = {"id": "s", "parent": "p"}, ["r"]
    sums = Sums.unpack(pack(row))
    assert (sums.labels, sums.named, sums.parents) == ({"id": "s"}, {"r": 3}, {"p": 5})
    sums.add(Sums(spans=3, named={"r": 3}, parents={"p": 5}, elsewhere=Sums(spans=3)), -1)
    assert (sums.runs, sums.parent) == ((), "")


def test_totals_of_the_first_version_have_six_classes() -> None:
    """A record as version 0.1 wrote it: the classes declared since are 0, tool calls and spans keep their places."""
    row = unpack(Sums(cost=9, calls=4, priced=3, unpriced=1).pack())
    row[2] = [9, 4, 3, 1, 100, 20, 30, 40, 5, 6, 7, 8]
    sums = Sums.unpack(pack(row))
    assert (sums.cost, sums.calls, sums.priced, sums.unpriced, sums.tool_calls, sums.spans) == (9, 4, 3, 1, 7, 8)
    assert sums.usage[:6] == (100, 20, 30, 40, 5, 6)
    assert not any(sums.usage[6:])


@given(st.lists(_sums, max_size=4))
def test_records_that_are_merged_are_their_sums(parts: list[Sums]) -> None:
    """Without making sums of each."""
    merging, whole = Merging(), Sums()
    for part in parts:
        assert merging.add(unpack(part.pack())) == (part.cost, part.calls)
        whole.add(part)
    merged = merging.sums()
    for name in ("cost", "calls", "priced", "unpriced", "usage", "tool_calls", "spans"):
        assert getattr(merged, name) == getattr(whole, name)
    for name in ("reasons", "models", "granularities"):
        assert {key: count for key, count in getattr(merged, name).items() if count} == getattr(whole, name)
