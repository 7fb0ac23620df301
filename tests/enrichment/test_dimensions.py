"""Where the value of a dimension is looked for, and what is no value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from spanledger_processor.enrichment.names import Dimensions, IdResolver, KeyLists
from spanledger_processor.ledger.keys import bounded_id


class Given(dict[str, Any]):
    def among(self, keys: frozenset[str]) -> frozenset[str]:
        return keys & self.keys()


def found(
    keys: Sequence[str], span: Mapping[str, Any], resource: Mapping[str, Any], headers: Mapping[str, str]
) -> tuple[str, ...]:
    resolver = IdResolver(KeyLists(), Dimensions({"team": keys}))
    return resolver.dimensions(resolver.names(Given(span)), resolver.names(Given(resource)), headers)


KEYS = ("app.team", "team", "header:x-team", "baggage:team")


@pytest.mark.parametrize(
    ("span", "resource", "headers", "team"),
    [
        ({"team": "b", "app.team": "a"}, {"app.team": "r"}, {"x-team": "h"}, "a"),
        ({"team": "b"}, {"app.team": "r"}, {"x-team": "h"}, "b"),
        ({}, {"app.team": "r"}, {"x-team": "h"}, "r"),
        ({}, {}, {"x-team": "h", "baggage": "team=g"}, "h"),
        ({}, {}, {"baggage": "user=u, team = red%20one;prop=1"}, "red one"),
        ({"team": " "}, {}, {}, ""),
        ({"team": 7}, {}, {}, "7"),
        ({"team": True}, {}, {}, ""),
        ({}, {}, {}, ""),
    ],
)
def test_span_then_resource_then_request(
    span: Mapping[str, Any], resource: Mapping[str, Any], headers: Mapping[str, str], team: str
) -> None:
    assert found(KEYS, span, resource, headers) == (("team", team) if team else ())


def test_a_long_value_is_kept_as_the_ledger_keeps_ids() -> None:
    _, value = found(("team",), {"team": "x" * 1000}, {}, {})
    assert len(value.encode()) <= 512


@pytest.mark.parametrize("length", [512, 1024, 1025, 5000, 1_000_000])
def test_long_ids_that_begin_alike_stay_apart_and_are_found_by_the_whole_of_them(length: int) -> None:
    resolver, nothing = IdResolver(KeyLists(session=("s",)), Dimensions({"user": ("u",)})), Given()
    for own in ("a", "b"):
        given = "x" * (length - 1) + own
        names = resolver.names(Given(s=given, u=given))
        session, (_, user) = names.ranked["session"][1], resolver.dimensions(names, resolver.names(nothing), {})
        assert bounded_id(session) == bounded_id(user) == bounded_id(given)
        assert len(session) <= 1024


def test_several_come_by_name() -> None:
    resolver = IdResolver(KeyLists(), Dimensions({"user": ("u",), "feature": ("f",)}))
    nothing = resolver.names(Given())
    assert resolver.dimensions(resolver.names(Given(u="1", f="2")), nothing, {}) == ("feature", "2", "user", "1")
