"""`--config` several times: later files over earlier ones, as the Collector merges them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commands import run
from configurations import HOME
from spanledger_exporters.settings import OtlpGrpcSettings
from spanledger_processor.config import Config, ConfigError, load


def loaded(folder: Path, *texts: str, sets: tuple[str, ...] = ()) -> Config:
    files = []
    for number, text in enumerate(texts):
        files.append(folder / f"{number}.yaml")
        files[-1].write_text(text)
    return load(files, sets, HOME)


BASE = """
exporters:
  otlp_grpc/a: {endpoint: "a:1", headers: {x: "1", y: "2"}, signals: [traces, logs]}
processor: {sessions: {keys: [a, b]}}
"""


def test_sections_merge_and_lists_are_replaced(tmp_path: Path) -> None:
    later = """
exporters:
  otlp_grpc/a: {headers: {y: "3"}, signals: [metrics]}
  otlp_grpc/b: {endpoint: "b:1"}
processor: {sessions: {keys: [c]}, runs: {keys: [r]}}
"""
    config = loaded(tmp_path, BASE, later)
    assert set(config.exporters) == {"otlp_grpc/a", "otlp_grpc/b"}
    a = config.exporters["otlp_grpc/a"]
    assert isinstance(a, OtlpGrpcSettings)
    assert a.endpoint == "a:1"
    assert {key: value.get_secret_value() for key, value in a.headers.items()} == {"x": "1", "y": "3"}
    assert a.signals == {"metrics"}
    assert (config.processor.sessions.keys, config.processor.runs.keys) == (("c",), ("r",))


@pytest.mark.parametrize(
    ("later", "keys"),
    [
        pytest.param("", ("a", "b"), id="an empty file changes nothing"),
        pytest.param("processor:", None, id="a section that is named and left empty has its defaults"),
        pytest.param("processor: {sessions: {keys: []}}", (), id="an empty list is a list"),
    ],
)
def test_what_is_left_empty(tmp_path: Path, later: str, keys: Any) -> None:
    expected = Config.model_validate({}).processor.sessions.keys if keys is None else keys
    assert loaded(tmp_path, BASE, later).processor.sessions.keys == expected


def test_set_comes_last_and_mistakes_of_any_file_are_told(tmp_path: Path) -> None:
    config = loaded(tmp_path, BASE, "processor: {sessions: {keys: [c]}}", sets=("processor.sessions.keys=[d]",))
    assert config.processor.sessions.keys == ("d",)
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "exporters: {otlp_grpc: {endpoint: 'a:1', oops: 1}}", "api: {oops: 2}")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["exporters.otlp_grpc.oops", "api.oops"]


def test_a_listener_named_in_a_later_file_only(tmp_path: Path) -> None:
    """As everywhere, naming one protocol leaves the other out."""
    config = loaded(tmp_path, "receivers: {otlp: {max_in_flight_mib: 64}}", "receivers: {otlp: {protocols: {grpc: }}}")
    assert config.receivers.otlp is not None
    assert config.receivers.otlp.max_in_flight_mib == 64
    assert config.receivers.otlp.protocols.http is None


def test_every_command_takes_several(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("api: {endpoint: '127.0.0.1:1'}")
    (tmp_path / "b.yaml").write_text(json.dumps({"state": {"path": str(tmp_path / "state")}}))
    files = ("--config", str(tmp_path / "a.yaml"), "--config", str(tmp_path / "b.yaml"))
    answer = json.loads(run("check", *files, "--json").stdout)
    assert answer["listeners"]["API"] == "127.0.0.1:1"
    assert answer["state"] == str(tmp_path / "state")
