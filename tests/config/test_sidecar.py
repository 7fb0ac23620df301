"""`sidecar`: what is named is read, with its defaults where it is left empty."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from configurations import loaded, problems


def test_nothing_is_read_by_default() -> None:
    sources = loaded("{}").sidecar.sources
    assert (sources.mux, sources.tilth) == (None, None)


def test_a_source_that_is_named_and_left_empty_has_its_defaults() -> None:
    sources = loaded("sidecar: {sources: {mux: }}").sidecar.sources
    assert sources.mux is not None
    assert (sources.mux.roots, sources.mux.grain) == ((), "auto")
    assert sources.tilth is None


def test_roots_may_begin_with_the_users_folder() -> None:
    sources = loaded("sidecar: {sources: {tilth: {roots: [~/tilth]}}}").sidecar.sources
    assert sources.tilth is not None
    assert sources.tilth.roots == (Path("~/tilth").expanduser(),)


def test_where_to_begin() -> None:
    assert loaded("sidecar: {since: 2026-01-31}").sidecar.since == date(2026, 1, 31)
    assert loaded("sidecar: {backfill: true}").sidecar.backfill is True


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sidecar: {sources: {mx: }}", "sidecar.sources.mx: unknown key, did you mean mux?"),
        ("sidecar: {sources: {mux: {grian: usage}}}", "sidecar.sources.mux.grian: unknown key, did you mean grain?"),
        ("sidecar: {backfill: true, since: 2026-01-31}", "sidecar: backfill and since: use one of them"),
        ("sidecar: {source: [mux]}", "sidecar.source: unknown key, did you mean sources?"),
    ],
)
def test_mistakes(text: str, problem: str) -> None:
    assert problems(text) == (problem,)
