"""SECURITY.md says of everything that is stored where it is and how it goes; secrets are found by the audit."""

from __future__ import annotations

import re

import pytest

from spanledger_processor.ledger.store import Table
from tools.parts import ROOT
from tools.secret_scan import found_in

NO_LONGER_WRITTEN = {Table.SPAN, Table.RESPONSE, Table.FLOATING, Table.MATCH}


def test_every_table_of_the_ledger_is_in_the_table_of_what_is_stored() -> None:
    stored = (ROOT / "SECURITY.md").read_text().partition("## What is stored")[2].partition("\n## ")[0]
    assert {table.name for table in Table if table not in NO_LONGER_WRITTEN} <= set(re.findall(r"[A-Z_]{3,}", stored))


@pytest.mark.parametrize(
    "secret",
    [
        b"-----BEGIN RSA " + b"PRIVATE KEY-----\n" + b"A" * 64,
        b"AKIA" + b"A" * 16,
        b"ghp_" + b"a" * 36,
        b"sk-ant-" + b"a" * 40,
        b"AIza" + b"a" * 35,
    ],
)
def test_a_secret_is_found(secret: bytes) -> None:
    assert [at for _, at in found_in(b"key = " + secret)] == [6]


def test_a_key_of_the_tests_is_none() -> None:
    assert not [*found_in(b"a key for tests, long enough; sk-test; -----BEGIN PRIVATE KEY-----")]
