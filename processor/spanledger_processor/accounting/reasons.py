"""The reasons for which two spans are one call or two, by code, as `explain` and the API show them.

`count_once` gives the codes; a decision stores them, so they stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Reason(NamedTuple):
    """Why a span counts beside another one or not: a key of `ONE_CALL` or `TWO_CALLS`, and the other's id in hex."""

    code: str
    other: str


ONE_CALL: Mapping[str, str] = {
    "same id": "they share a response or call id",
    "equal usage": "two libraries of one process tell equal usage of one model at the same time",
    "less": "two libraries of one process tell of one stream at the same time, and one of them no usage or no input",
    "tells more": "the span above holds this one call and knows more of it",
}
"""Why two spans are one call."""

TWO_CALLS: Mapping[str, str] = {
    "other id": "their response ids differ",
    "reused id": "they share an id, but not the usage",
    "usage": "their usage differs",
    "model": "they name two models",
    "kind": "they are of two kinds",
    "session": "they name two sessions",
    "user": "they name two users",
    "service": "they name two services",
    "host": "they name two hosts",
    "process": "they come from two processes",
    "language": "they come from processes of two languages",
    "library": "one library reports a call once",
    "few": "counts as small as these are often equal by chance, and the spans are in two traces",
    "loose": "their times hold each other, but not closely, and the spans are in two traces",
    "many": "too many calls of equal counts at the same time",
    "time": "their times do not hold each other",
    "rounds": "its library called the model again after each tool that stands below, and tells the last answer's usage",
    "cut": "of the calls that it may hold, some are no longer known: the trace is too long",
}
"""Why a span counts although another one is close to being a report of the same call."""

DOUBTS: Mapping[str, str] = {
    "reused id": "span {} has the same id and other usage: counted as another call",
    "few": "span {} may report the same call: its counts are equal, and too small to tell",
    "loose": "span {} may report the same call: its counts are equal, its times are not close",
    "many": "span {} may report the same call, as many with equal counts may",
    "rounds": "its library called the model again after each tool: usage may be of the last answer only",
    "cut": "may repeat calls of this trace that are no longer known, for it is very long",
}
"""Reasons that leave a doubt, with the note on the later of the two spans: both count, and that one is an estimate."""
NEAR_ONE_CALL = TWO_CALLS.keys() - {"usage", "kind", "library", "time"}
"""Reasons that are kept: a reader who sees equal counts would ask for them."""
