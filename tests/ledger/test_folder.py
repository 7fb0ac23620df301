"""The state folder: who may write, who may read, and what is said when that does not go."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest

from spanledger_processor.ledger.keys import SCHEMA_KEY
from spanledger_processor.ledger.lmdb_store import SCHEMA_VERSION, LmdbStore
from spanledger_processor.ledger.packing import pack
from spanledger_processor.ledger.store import StateBrokenError, StateError, StateLockedError, Table
from stores import TENANT, cost_of, enter, open_store, session, spend

_SUPPORT = Path(__file__).parents[1] / "support"


@contextmanager
def _elsewhere(code: str, *arguments: str, **how: object) -> Iterator[subprocess.Popen[str]]:
    """Run Python in a process of its own; it says one line when it is ready, and ends with its standard input."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_SUPPORT), *sys.path])}
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **how,  # type: ignore[call-overload]
    )
    try:
        yield process
    finally:
        process.communicate()


_HOLD = """
import sys
from pathlib import Path
from stores import enter, open_store, spend
store = open_store(Path(sys.argv[1]))
with store.unit() as unit:
    enter(unit, spend("s", 7))
print("ready", flush=True)
sys.stdin.read()
"""


def _ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def test_only_the_user_may_look(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        open_store(tmp_path / "state").close()
    finally:
        os.umask(before)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").rglob("*")}
    assert found == {"lock": 0o600, "ledger": 0o700, "data.mdb": 0o600, "lock.mdb": 0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_a_second_writer_is_kept_out_and_told_by_whom(tmp_path: Path) -> None:
    with _elsewhere(_HOLD, str(tmp_path)) as process:
        _ready(process)
        with pytest.raises(StateLockedError, match=rf"{tmp_path}: in use by process {process.pid};"):
            open_store(tmp_path)


def test_a_second_writer_in_the_same_process_is_kept_out(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(StateLockedError, match=str(os.getpid())):
        open_store(tmp_path)
    store.close()
    open_store(tmp_path).close()


def test_a_killed_writer_leaves_no_lock_and_no_reader_behind(tmp_path: Path) -> None:
    with _elsewhere(_HOLD, str(tmp_path)) as process:
        _ready(process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    store = open_store(tmp_path)
    with store.snapshot() as reader:
        assert cost_of(reader, "s") == 7
    store.close()


def test_others_read_while_one_writes(tmp_path: Path) -> None:
    with _elsewhere(_HOLD, str(tmp_path)) as process:
        _ready(process)
        store = open_store(tmp_path, read_only=True)
        with store.snapshot() as reader:
            assert cost_of(reader, "s") == 7
            assert [where for where, _ in reader.scan(Table.SESSION, TENANT)] == [session("s")]
        store.close()
    assert process.returncode == 0


_LOOK = """
import sys
from pathlib import Path
from stores import open_store
store = open_store(Path(sys.argv[1]), read_only=True)
with store.snapshot() as reader:
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_killed_reader_is_forgotten(tmp_path: Path) -> None:
    """What it was reading could never be written over."""
    store = open_store(tmp_path)
    with _elsewhere(_LOOK, str(tmp_path)) as process:
        _ready(process)
        assert f" {process.pid} " in store._env.readers()
        process.kill()
        process.wait()
        store.maintain()
        assert f" {process.pid} " not in store._env.readers()
    store.close()


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_every_commit_is_synced_and_the_map_is_never_written(tmp_path: Path, durability: str) -> None:
    """What LMDB promises to survive a power cut; `async` makes fewer commits, not weaker ones."""
    store = open_store(tmp_path, durability=durability)
    flags = store._env.flags()
    store.close()
    assert (flags["sync"], flags["metasync"], flags["writemap"], flags["map_async"]) == (True, True, False, False)


def test_a_ledger_is_read_where_its_size_is_set_otherwise(tmp_path: Path) -> None:
    """A reading command may be given another max_size_mib than `serve`."""
    store = open_store(tmp_path, size_mib=64)
    with store.unit() as unit:
        for number in range(20_000):
            enter(unit, spend(f"session {number}"))
    store.close()
    for read_only in (True, False):
        store = open_store(tmp_path, size_mib=1, read_only=read_only)
        with store.snapshot() as reader:
            assert cost_of(reader, "session 19999") == 1
        store.close()


@pytest.mark.parametrize("there", [True, False], ids=["empty folder", "no folder"])
def test_no_ledger_yet(tmp_path: Path, *, there: bool) -> None:
    folder = tmp_path / "state"
    if there:
        folder.mkdir()
    with pytest.raises(StateError, match="no ledger here yet"):
        open_store(folder, read_only=True)
    assert not list(tmp_path.rglob("*.mdb"))


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with lmdb.open(str(tmp_path / "ledger")) as env, env.begin(write=True) as txn:
        txn.put(SCHEMA_KEY, pack([SCHEMA_VERSION + 1]))
    for read_only in (False, True):
        with pytest.raises(
            StateError,
            match=rf"schema {SCHEMA_VERSION + 1}, and this version of Spanledger knows schema {SCHEMA_VERSION}",
        ):
            open_store(tmp_path, read_only=read_only)
    with lmdb.open(str(tmp_path / "ledger"), readonly=True) as env, env.begin() as txn:
        assert txn.get(SCHEMA_KEY) == pack([SCHEMA_VERSION + 1])


def test_an_older_schema_is_left_alone_with_the_way_to_export_it(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with lmdb.open(str(tmp_path / "ledger")) as env, env.begin(write=True) as txn:
        txn.put(SCHEMA_KEY, pack([1]))
    for read_only in (False, True):
        with pytest.raises(StateError, match=r"schema 1, .* export it with .*spanledger sessions --json"):
            open_store(tmp_path, read_only=read_only)


def test_what_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "ledger")) as env, env.begin(write=True) as txn:
        txn.put(b"mine", b"dear")
    with pytest.raises(StateError, match="no ledger of Spanledger"):
        open_store(tmp_path)


def _filled(folder: Path) -> Path:
    store = open_store(folder)
    for number in range(20):
        with store.unit() as unit:
            for inner in range(100):
                enter(unit, spend(f"session {number} {inner}"))
    store.close()
    return folder / "ledger" / "data.mdb"


@pytest.mark.parametrize("read_only", [False, True], ids=["to write", "to read"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.1, 0.003])
def test_a_ledger_that_was_cut_off(tmp_path: Path, kept: float, *, read_only: bool) -> None:
    """LMDB would map the file and end the process at the first missing page."""
    data = _filled(tmp_path)
    os.truncate(data, int(data.stat().st_size * kept))
    with pytest.raises(StateBrokenError, match=rf"{data}: damaged .*; move {data.parent} away"):
        open_store(tmp_path, read_only=read_only)


def test_a_ledger_that_is_no_such_file(tmp_path: Path) -> None:
    data = _filled(tmp_path)
    data.write_bytes(b"not a ledger " * 4096)
    with pytest.raises(StateBrokenError, match=rf"{data}: damaged"):
        open_store(tmp_path)


def test_damaged_pages_are_told_when_they_are_met(tmp_path: Path) -> None:
    data = _filled(tmp_path)
    with data.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xa5" * (data.stat().st_size - 2 * 4096))
    with pytest.raises(StateBrokenError, match="damaged"):  # noqa: PT012 - either may meet them first
        store = open_store(tmp_path)
        with store.snapshot() as reader:
            cost_of(reader, "session 7 7")


def test_a_damaged_ledger_lets_go_of_the_folder(tmp_path: Path) -> None:
    """After the file has been moved away, opening succeeds without a restart."""
    data = _filled(tmp_path)
    data.write_bytes(b"not a ledger " * 4096)
    with pytest.raises(StateBrokenError):
        open_store(tmp_path)
    data.parent.rename(tmp_path / "damaged")
    store = open_store(tmp_path)
    with store.snapshot() as reader:
        assert cost_of(reader, "session 7 7") == 0
    store.close()


def _left_short(data: Path) -> int:
    """Let LMDB write until the file is shorter than its pages, as it happens; how many pages there are then."""
    chance = random.Random(1)
    keys: list[bytes] = []
    with lmdb.open(str(data.parent), map_size=1 << 28, sync=False) as env:
        for number in range(2000):
            with env.begin(write=True) as txn:
                for inner in range(chance.randrange(100)):
                    keys.append(b"%d %d" % (number, inner))
                    txn.put(keys[-1], b"x" * chance.choice([50, 5000, 20000]))
                for _ in range(len(keys) // 2):
                    txn.delete(keys.pop(chance.randrange(len(keys))))
            pages = env.info()["last_pgno"] + 1
            if data.stat().st_size < pages * 4096:
                return pages
    raise AssertionError("LMDB did not leave the file short")


def test_a_whole_ledger_that_lmdb_left_short_opens(tmp_path: Path) -> None:
    """LMDB does not write pages at the end that are free again: such a file is shorter than its pages are many."""
    data = _filled(tmp_path)
    pages = _left_short(data)
    for read_only in (True, False):
        store = open_store(tmp_path, read_only=read_only)
        with store.snapshot() as reader:
            assert cost_of(reader, "session 7 7") == 1
        store.close()
    assert data.stat().st_size >= pages * 4096


_OPEN = """
import os, sys
from pathlib import Path
from stores import open_store
from spanledger_processor.ledger.store import StateError
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    open_store(Path(sys.argv[1]), read_only=sys.argv[2] == "True")
except StateError as error:
    print(error)
"""


@pytest.mark.parametrize("read_only", [False, True], ids=["to write", "to read"])
def test_a_folder_that_one_may_not_use(*, read_only: bool) -> None:
    """As a user without any rights, also where the tests run as root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _filled(folder)
        for path in (folder, folder / "ledger"):
            path.chmod(0o500)
        with _elsewhere(_OPEN, name, str(read_only)) as process:
            said, _ = process.communicate()
        for path in (folder, folder / "ledger"):
            path.chmod(0o700)
    assert "ermission denied" in said
    assert str(folder) in said


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateError, match=r"give state\.path a folder that can be written"):
        open_store(tmp_path / "state")


@pytest.mark.parametrize("use", ["unit", "snapshot", "maintain"])
def test_a_folder_that_is_removed_while_in_use_is_noticed(tmp_path: Path, use: str) -> None:
    """LMDB would go on in a file that nobody finds again."""
    store = open_store(tmp_path / "state")
    with store.unit() as unit:
        enter(unit, spend("s", 7))
    shutil.rmtree(tmp_path / "state")
    with pytest.raises(StateBrokenError, match="removed or replaced while in use"):
        _use(store, use)
    store.close()
    store = open_store(tmp_path / "state")
    with store.snapshot() as reader:
        assert cost_of(reader, "s") == 0
    store.close()


def _use(store: LmdbStore, how: str) -> None:
    if how == "maintain":
        store.maintain()
        return
    with store.unit() if how == "unit" else store.snapshot() as reader:
        cost_of(reader, "s")


_CUT_OFF = """
import os, sys
from pathlib import Path
from spanledger_processor.ledger.store import StateBrokenError
from stores import enter, open_store, spend
from test_folder import _use
store = open_store(Path(sys.argv[1]))
for number in range(20):
    with store.unit() as unit:
        for inner in range(100):
            enter(unit, spend(f"{number} {inner}"))
os.truncate(Path(sys.argv[1]) / "ledger" / "data.mdb", int(sys.argv[3]))
try:
    _use(store, sys.argv[2])
except StateBrokenError as error:
    print(error)
store.close()
print("alive")
"""


@pytest.mark.parametrize("use", ["unit", "snapshot", "maintain"])
@pytest.mark.parametrize("length", [0, 12288])
def test_a_file_that_is_cut_off_while_in_use_does_not_end_the_process(tmp_path: Path, use: str, length: int) -> None:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + _CUT_OFF
    with _elsewhere(code, str(tmp_path), use, str(length)) as process:
        said, _ = process.communicate()
    assert "damaged (cut off while in use)" in said
    assert said.endswith("alive\n")


def test_a_file_that_grows_while_a_snapshot_is_begun_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread writes between the look at the file and the one at how long it has to be."""
    store, look = open_store(tmp_path), Path.stat
    written: list[str] = []

    def meanwhile(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        seen = look(path, follow_symlinks=follow_symlinks)
        if path.name == "data.mdb" and not written:
            written.extend(str(number) for number in range(2000))
            with store.unit() as unit:
                for name in written:
                    enter(unit, spend(name))
            assert look(path).st_size > seen.st_size
        return seen

    monkeypatch.setattr(Path, "stat", meanwhile)
    with store.snapshot() as reader:
        assert cost_of(reader, "7") == 1
    store.close()
