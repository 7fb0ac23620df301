"""The state is taken, cannot be written, has no room, or is cut off: data goes on, and money is never told wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from backend import Backend
from chats import COST, chat, request, set_attributes
from served import Served, refused
from tools.programs import eventually


def test_a_second_writer_is_kept_out(served: Served, backend: Backend, tmp_path: Path) -> None:
    """Exit 2, with the folder and the reason; the first goes on. After a kill -9 the folder is free again."""
    more = {"state": {"path": str(served.state)}}
    second = Served(tmp_path, backend.port, more)
    end = refused(second.command)
    assert end.returncode == 2
    assert str(served.state) in end.stderr
    assert "Traceback" not in end.stderr
    served.export(request(chat()))
    served.program.kill()
    with second:
        second.export(request(chat()))
        assert second.total_usd() == pytest.approx(2 * COST, rel=1e-12)
    served.program.start()


def _passes_unaccounted(served: Served, backend: Backend, place: Path) -> None:
    """Spans are delivered, with why they are not counted; the log says once what is wrong, and where."""
    for _ in range(3):
        served.export(request(chat()))
        assert _unaccounted(backend)
    assert served.metric("spanledger_state_available") == 0
    errors = [line for line in served.program.log().splitlines() if " ERROR " in line]
    assert len(errors) == 1
    assert str(place) in errors[0]


def test_a_folder_that_cannot_be_made(own_backend: Backend, tmp_path: Path) -> None:
    """A file stands where the folder should; once it is away, spans are counted, without a restart."""
    taken = tmp_path / "taken"
    taken.write_text("")
    with Served(tmp_path, own_backend.port, {"state": {"path": str(taken / "state")}}) as served:
        _passes_unaccounted(served, own_backend, taken)
        taken.unlink()
        _tries(lambda: _counted(served, own_backend))


def test_a_folder_on_a_read_only_disk(own_backend: Backend, tmp_path: Path) -> None:
    """Not even root can write there."""
    disk = tmp_path / "disk"
    disk.mkdir()
    within = _with_tmpfs(disk, "ro,size=1m")
    with Served(tmp_path, own_backend.port, {"state": {"path": str(disk / "state")}}, within) as served:
        _passes_unaccounted(served, own_backend, disk)


def _with_tmpfs(folder: Path, options: str) -> tuple[str, ...]:
    """A command prefix: a small disk of its own at `folder`, seen by that process only. Works without being root."""
    mount = f'mount -t tmpfs -o {options} tmpfs "{folder}" && exec "$@"'
    return ("unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh")


def test_no_space_left(own_backend: Backend, tmp_path: Path) -> None:
    """On a full disk spans go on as not_accounted, with usage and computed cost; with room again they count again.

    What was not accounted stays out of the ledger, and what was accounted before stays in it.
    """
    disk = tmp_path / "disk"
    disk.mkdir()
    within = _with_tmpfs(disk, "size=8m")
    with Served(tmp_path, own_backend.port, {"state": {"path": str(disk / "state")}}, within) as served:
        seen = Path(f"/proc/{served.program.pid}/root{disk}")
        served.export(request(chat()))
        filler = seen / "filler"
        with pytest.raises(OSError, match="No space left"):
            _fill(filler)
        counted = 1 + _tries(lambda: _not_counted(served, own_backend))
        last = list(own_backend.spans())[-1]
        assert last["spanledger.usage.input_tokens"] == 1000
        assert last["spanledger.cost.computed_usd"] == pytest.approx(COST, rel=1e-12)
        assert "spanledger.cost.usd" not in last
        assert "gen_ai.usage.cost" not in last
        assert served.metric("spanledger_unaccounted_spans_total") == 1
        assert served.metric("spanledger_state_available") == 0
        filler.unlink()
        lost = _tries(lambda: _counted(served, own_backend))
        total = served.answer("/api/v1/summary")["total"]
        assert total["cost_usd"] == pytest.approx((counted + 1) * COST, rel=1e-12)
        assert total["calls"] == counted + 1
        assert served.metric("spanledger_unaccounted_spans_total") == 1 + lost
        assert served.metric("spanledger_state_available") == 1


def _fill(file: Path) -> None:
    """Take up what room there is."""
    with file.open("wb", buffering=0) as filling:
        while True:
            filling.write(bytes(4096))


def _tries(condition: Callable[[], None]) -> int:
    """How often `condition` failed before it held."""
    failed = 0

    def once() -> None:
        nonlocal failed
        try:
            condition()
        except AssertionError:
            failed += 1
            raise

    eventually(once)
    return failed


def _counted(served: Served, backend: Backend) -> None:
    served.export(request(chat()))
    assert not _unaccounted(backend)


def _not_counted(served: Served, backend: Backend) -> None:
    served.export(request(chat()))
    assert _unaccounted(backend)


def _unaccounted(backend: Backend) -> dict[str, object]:
    """The attributes of the last span, if it was not accounted."""
    last = list(backend.spans())[-1]
    return last if last.get("spanledger.cost.unpriced") == "not_accounted" else {}


def test_a_state_grown_to_its_limit(own_backend: Backend, tmp_path: Path) -> None:
    """`state.max_size_mib` reached: the oldest sessions give way and their sums stay; the sender notices nothing.

    A request that comes before room is made passes as `not_accounted`: each span is in the ledger or counted as not.
    """
    with Served(tmp_path, own_backend.port, {"state": {"max_size_mib": 16}}) as served:
        sent = 0
        while served.metric("spanledger_state_evicted_records") == 0 and sent < 100_000:
            spans = [chat() for _ in range(500)]
            for span in spans:
                set_attributes(span, {"gen_ai.conversation.id": span.span_id.hex() * 20})
            served.export(request(*spans))
            sent += 500
        assert served.metric("spanledger_state_evicted_records") > 0
        assert served.metric("spanledger_accepted_items_total", signal="traces") == sent
        assert len(list(own_backend.spans())) == sent
        unaccounted = served.metric("spanledger_unaccounted_spans_total")
        total = served.answer("/api/v1/summary")["total"]
        assert total["calls"] == sent - unaccounted
        assert total["cost_usd"] == pytest.approx((sent - unaccounted) * COST, rel=1e-12)
        _tries(lambda: _counted(served, own_backend))


def test_a_ledger_that_is_no_ledger(own_backend: Backend, tmp_path: Path) -> None:
    """Somebody's bytes where the ledger stood: they are left alone, and spans go on without being counted."""
    served = Served(tmp_path, own_backend.port)
    with served:
        served.export(request(chat()))
    (data,) = served.state.glob("ledger/data.mdb")
    data.write_bytes(b"not a ledger " * 1000)
    with served:
        _passes_unaccounted(served, own_backend, served.state)
    assert data.read_bytes().startswith(b"not a ledger")


def test_a_state_from_a_copy(own_backend: Backend, tmp_path: Path) -> None:
    """A folder copied while the server was stopped is the same ledger, and knows what was counted."""
    body = request(chat())
    with Served(tmp_path / "one", own_backend.port) as first:
        first.export(body)
    shutil.copytree(first.state, tmp_path / "two" / "state")
    with Served(tmp_path / "two", own_backend.port) as second:
        second.export(body)
        assert second.total_usd() == pytest.approx(COST, rel=1e-12)


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"exporters": {"otlp_grpc": {"tls": {"ca_fle": "x"}}}}, "exporters.otlp_grpc.tls.ca_fle"),
        ({"recievers": {}}, "recievers"),
        ({"state": {"durability": "maybe"}}, "state.durability"),
        ({"api": {"endpoint": "nowhere"}}, "api.endpoint"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_configuration_typos(more: dict[str, object], path: str, own_backend: Backend, tmp_path: Path) -> None:
    """Exit 2, with the path of the key; nothing is started and no state is made."""
    served = Served(tmp_path, own_backend.port, more)
    end = refused(served.command)
    assert end.returncode == 2
    assert path in end.stderr
    assert "Traceback" not in end.stderr
    assert not served.state.exists()
