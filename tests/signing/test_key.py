"""Where the key comes from, and that a file which holds one is nobody else's."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from spanledger_processor.signing import SHORTEST_KEY, Signer, SigningKeyError, load_key
from spanledger_processor.signing.key import FILE, VARIABLE

CONFIGURED = "configured key, long enough"
IN_ENVIRONMENT = "key of the environment, long enough"


def test_the_configuration_comes_first_then_the_environment(tmp_path: Path) -> None:
    environ = {VARIABLE: IN_ENVIRONMENT}
    assert load_key(CONFIGURED, environ, tmp_path) == (CONFIGURED.encode(), False)
    assert load_key(None, environ, tmp_path) == (IN_ENVIRONMENT.encode(), False)
    assert list(tmp_path.iterdir()) == [], "a key that is given is not written anywhere"


def test_else_one_is_made_once_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"
    key, made = load_key(None, {}, folder)
    assert made
    assert len(key) >= 32
    assert load_key(None, {}, folder) == (key, False)
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_two_folders_have_two_keys(tmp_path: Path) -> None:
    assert load_key(None, {}, tmp_path / "a")[0] != load_key(None, {}, tmp_path / "b")[0]


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_the_file_and_its_folder_are_the_users_alone(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        load_key(None, {}, tmp_path / "state")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state" / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o660])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    load_key(None, {}, tmp_path)
    (tmp_path / FILE).chmod(mode)
    with pytest.raises(SigningKeyError, match="chmod 600"):
        load_key(None, {}, tmp_path)


def test_what_the_file_holds_works_in_the_variable_elsewhere(tmp_path: Path) -> None:
    key, _ = load_key(None, {}, tmp_path)
    copied = (tmp_path / FILE).read_text()
    assert load_key(None, {VARIABLE: copied}, tmp_path / "elsewhere") == (key, False)


SECRET = "s3cr3t"


@pytest.mark.parametrize("text", [SECRET, f"  {SECRET}\n", SECRET + " " * 40])
def test_a_key_that_is_too_short_is_refused_and_never_shown(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).touch(0o600)
    (tmp_path / FILE).write_text(text)
    for configured, environ, where in [
        (text, {}, "processor.tools.signing_key"),
        (None, {VARIABLE: text}, VARIABLE),
        (None, {}, str(tmp_path / FILE)),
    ]:
        with pytest.raises(SigningKeyError, match="too short") as caught:
            load_key(configured, environ, tmp_path)
        assert str(caught.value).startswith(where)
        assert SECRET not in str(caught.value)


def test_the_shortest_key_will_do(tmp_path: Path) -> None:
    assert load_key("k" * SHORTEST_KEY, {}, tmp_path)[0] == b"k" * SHORTEST_KEY


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_blank_is_as_if_it_were_not_set(tmp_path: Path, blank: str) -> None:
    key, made = load_key(blank, {VARIABLE: blank}, tmp_path)
    assert made
    assert load_key(None, {}, tmp_path) == (key, False)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(SigningKeyError, match=rf"state.*; or set {VARIABLE} instead"):
        load_key(None, {}, tmp_path / "state")


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE).touch(0o600)
    with pytest.raises(SigningKeyError, match="too short"):
        load_key(None, {}, tmp_path)


def _load(folder: str) -> bytes:
    return load_key(None, {}, Path(folder))[0]


def test_processes_that_start_together_share_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        keys = pool.map(_load, [str(tmp_path / "state")] * 16, chunksize=1)
    assert len(set(keys)) == 1
    assert [path.name for path in (tmp_path / "state").iterdir()] == [FILE]


def test_a_key_that_is_no_text_signs(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 in the variable, as Python hands them on."""
    key, _ = load_key(None, {VARIABLE: "\udcff" * 20}, tmp_path)
    assert key == b"\xff" * 20
    assert Signer(key)
