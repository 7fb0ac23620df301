"""Homes as Mux and Xum find their own (docs/formats/mux.md#11-roots)."""

from __future__ import annotations

from pathlib import Path

import pytest

from mux_homes import bucket, last, put, usage
from sidecars import NOW_MS, Endpoint, by_model, scan, sidecar
from spanledger_sidecar.files import real_folders
from spanledger_sidecar.sources.mux.files import MARKER, mux_root

MODEL = "anthropic:claude-x"


def _used(folder: Path) -> Path:
    (folder / "sessions").mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("environ", "there", "chosen"),
    [
        ({"XUM_ROOT": "/x", "MUX_ROOT": "/m"}, [".xum"], "/x"),
        ({"MUX_ROOT": "/m"}, [".xum"], "/m"),
        ({}, [".xum", ".mux"], ".xum"),
        ({}, [".mux", ".cmux"], ".mux"),
        ({}, [".cmux"], ".cmux"),
        ({}, [], ".xum"),
        ({"NODE_ENV": "development"}, [".xum", ".mux", ".mux-dev"], ".mux-dev"),
        ({"NODE_ENV": "development"}, [".cmux"], ".xum-dev"),
    ],
)
def test_which_home(environ: dict[str, str], there: list[str], chosen: str, tmp_path: Path) -> None:
    for name in there:
        _used(tmp_path / name)
    assert mux_root(environ, tmp_path) == tmp_path / chosen


def test_an_empty_home_gives_way_to_the_one_that_the_marker_names(tmp_path: Path) -> None:
    (tmp_path / ".xum").mkdir()
    _used(tmp_path / ".mux")
    assert mux_root({}, tmp_path) == tmp_path / ".xum"
    (tmp_path / MARKER).write_text(".mux\n", "utf-8")
    assert mux_root({}, tmp_path) == tmp_path / ".mux"


@pytest.mark.parametrize("content", ["/etc", "../elsewhere", ".mux" + " " * 100])
def test_a_marker_that_names_anything_else_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / ".xum").mkdir()
    _used(tmp_path / ".mux")
    (tmp_path / MARKER).write_text(content, "utf-8")
    assert mux_root({}, tmp_path) == tmp_path / ".xum"


def test_the_old_homes_link_and_the_new_home_are_one(tmp_path: Path) -> None:
    new = _used(tmp_path / ".xum")
    (tmp_path / ".mux").symlink_to(new)
    (tmp_path / ".cmux").symlink_to(new)
    assert real_folders([tmp_path / ".mux", tmp_path / ".cmux", new, tmp_path / "none"]) == [new]


def test_the_move_of_the_home_while_it_is_watched(tmp_path: Path) -> None:
    """Nothing is counted again, no workspace seems deleted, and what comes after the move counts."""
    endpoint, old = Endpoint(), tmp_path / ".mux"
    put(old, usage({MODEL: bucket(5, 5)}))
    with sidecar(tmp_path / "state", endpoint, environ={"HOME": str(tmp_path)}) as made:
        made.once()
        old.rename(tmp_path / "in between")
        made.once()
        (tmp_path / "in between").rename(tmp_path / ".xum")
        made.once()
        old.symlink_to(tmp_path / ".xum")
        put(tmp_path / ".xum", usage({MODEL: bucket(7, 7)}))
        made.once()
    assert sum(map(sum, by_model(endpoint.usage()).values())) == 14
    assert not endpoint.named("session")


def test_a_home_that_comes_later_counts_from_its_beginning(tmp_path: Path) -> None:
    """It was made after the first run, though nothing in it says when."""
    endpoint = Endpoint()
    with sidecar(tmp_path / "state", endpoint, since_ms=None, environ={"HOME": str(tmp_path)}) as made:
        made.once()
        put(tmp_path / ".xum", usage({MODEL: bucket(5, 5)}))
        made.once()
    assert sum(map(sum, by_model(endpoint.usage()).values())) == 10


def test_a_home_that_cannot_be_listed_closes_nothing(tmp_path: Path) -> None:
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, usage({MODEL: bucket(5, 5)}))
    scan(tmp_path / "state", endpoint, root)
    (root / "sessions").rename(tmp_path / "away")
    scan(tmp_path / "state", endpoint, root)
    (tmp_path / "away").rename(root / "sessions")
    scan(tmp_path / "state", endpoint, root)
    assert len(endpoint.spans) == 1


def test_a_since_that_is_still_to_come_is_now(tmp_path: Path) -> None:
    """What is used after the first run counts, also in workspaces that are made later."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, usage({MODEL: bucket(5, 5)}, lastRequest=last(MODEL, bucket(5, 5), NOW_MS - 1)), workspace="old")
    with sidecar(tmp_path / "state", endpoint, root, since_ms=NOW_MS + 10**9) as made:
        made.once()
        put(root, usage({MODEL: bucket(7, 7)}, lastRequest=last(MODEL, bucket(7, 7), NOW_MS + 1)), workspace="new")
        made.once()
    assert set(by_model(endpoint.usage())) == {("new", MODEL)}


def test_another_home_closes_nothing_of_the_first(tmp_path: Path) -> None:
    endpoint = Endpoint()
    put(tmp_path / "a", usage({MODEL: bucket(5, 5)}), workspace="one")
    put(tmp_path / "b", usage({MODEL: bucket(5, 5)}), workspace="two")
    scan(tmp_path / "state", endpoint, tmp_path / "a")
    scan(tmp_path / "state", endpoint, tmp_path / "b")
    assert not endpoint.named("session")
