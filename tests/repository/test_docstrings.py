"""A function's docstring begins with what the function does; ruff's D401 holds the rest of this rule."""

from __future__ import annotations

import ast
import re

import pytest

from tools.parts import ROOT

PACKAGES = ("processor/spanledger_processor", "exporters/spanledger_exporters", "sidecar/spanledger_sidecar")
FRAGMENT = re.compile(r"(What|How|Whether|Where|When|Which|Who|Why)\b")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_docstring_of_a_function_is_a_subordinate_clause(package: str) -> None:
    """ "Whether it is due." leaves its reader to guess the rest; "Return whether it is due." does not."""
    fragments = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and FRAGMENT.match(ast.get_docstring(node) or "")
    ]
    assert not fragments
