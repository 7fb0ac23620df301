"""Rooms made from a configuration: the tenant, the signing key, and when a call is a loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from spanledger_processor.config import Config, load
from spanledger_processor.model import ToolCall
from spanledger_processor.server.wiring import make_loop_rule, make_signer, make_tenant_of
from spanledger_processor.signing.key import SigningKeyError

CALL = ToolCall("search", '{"q": 1, "at": "now"}')


@dataclass
class Group:
    """Spans or records of a resource with these attributes."""

    resource_attributes: Any = field(default_factory=dict)


def _config(*sets: str) -> Config:
    return load(None, sets, {"HOME": "/nowhere"})


@pytest.mark.parametrize(
    ("resource", "headers", "tenant"),
    [
        ({}, {}, ""),
        ({"team": "red"}, {}, "red"),
        ({"team": "red"}, {"x-scope-orgid": "blue"}, "red"),
        ({"team": ""}, {"x-scope-orgid": "blue"}, "blue"),
        ({"team": 7}, {}, "7"),
        ({}, {"team": "red"}, ""),
        ({"x-scope-orgid": "blue"}, {}, ""),
    ],
)
def test_the_first_key_that_is_there_names_the_tenant(
    resource: Mapping[str, object], headers: Mapping[str, str], tenant: str
) -> None:
    config = _config("processor.tenant.keys=[team, 'header:X-Scope-OrgID']")
    assert make_tenant_of(config.processor)(Group(resource), headers) == tenant


def test_where_a_header_has_to_name_the_tenant_no_attribute_of_the_senders_does() -> None:
    """Also one that is configured first: the header is the authenticating proxy's, the resource is the sender's."""
    config = _config("processor.tenant.keys=[team, 'header:x-scope-orgid']", "processor.tenant.required=true")
    assert make_tenant_of(config.processor)(Group({"team": "victim"}), {"x-scope-orgid": "mine"}) == "mine"


def test_by_default_there_is_one_tenant() -> None:
    assert make_tenant_of(_config().processor)(Group({"tenant": "red"}), {"x-scope-orgid": "blue"}) == ""


def test_the_key_is_made_once_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = _config(f"state.path={tmp_path}")
    first, second = make_signer(config), make_signer(config)
    assert first.sign(CALL) == second.sign(CALL)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "SPANLEDGER_SIGNING_KEY" in caplog.text
    assert (tmp_path / "signing.key").read_text().strip() not in caplog.text


def test_a_configured_key_is_the_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = "processor.tools.signing_key=0123456789abcdef"
    signers = [make_signer(_config(key, f"state.path={tmp_path / name}")) for name in ("one", "two")]
    assert signers[0].sign(CALL) == signers[1].sign(CALL)
    assert not caplog.records
    assert not list(tmp_path.iterdir())


def test_where_no_key_can_be_kept_calls_are_signed_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Until the process ends, under a key that nobody else has."""
    (tmp_path / "taken").write_text("")
    config = _config(f"state.path={tmp_path / 'taken' / 'state'}")
    one, other = make_signer(config), make_signer(config)
    assert one.sign(CALL) != other.sign(CALL)
    assert one.sign(CALL) == one.sign(CALL)
    assert "no key can be kept" in caplog.text


def test_a_key_that_must_not_be_used(tmp_path: Path) -> None:
    (tmp_path / "signing.key").write_text("short")
    (tmp_path / "signing.key").chmod(0o600)
    with pytest.raises(SigningKeyError, match="too short"):
        make_signer(_config(f"state.path={tmp_path}"))


def test_arguments_that_are_ignored(tmp_path: Path) -> None:
    signer = make_signer(_config(f"state.path={tmp_path}", "processor.tools.ignore=[{tool: sea*, fields: [at]}]"))
    assert signer.sign(CALL) == signer.sign(ToolCall("search", '{"at": "later", "q": 1}'))
    assert signer.sign(CALL) != signer.sign(ToolCall("search", '{"at": "now", "q": 2}'))


def test_when_a_call_is_a_loop() -> None:
    loop = "{consecutive: 4, repeats: 6, tools: [{tool: 'poll*', consecutive: 9, cycles: 0}]}"
    rule = make_loop_rule(_config(f"processor.tools.loop={loop}").processor)
    assert (rule.consecutive, rule.repeats, rule.cycles) == (4, 6, 3)
    assert rule.tools == (("poll*", 9, 6, 0),)
